"""The settings that go with a Postfix, and the lines that a settings file needs for them."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policyd.address import normal_domain
from policyd.doctor.examination import SUBMISSION_CONTEXT
from policyd.doctor.hosts import gateways_among
from policyd.doctor.networks import networks_in
from policyd.doctor.postconf import Instance, read_origin
from policyd.endpoint import parse_endpoint
from policyd.errors import AddressError, SettingsError, SetupError
from policyd.files import read_settings
from policyd.model import Mode
from policyd.printable import to_json
from policyd.settings import Settings

USER = "policyd"
_HEADING = "# From Postfix's configuration, by policyd setup."
_MODE = re.compile(r'^mode[ \t]*=[ \t]*(["\'])monitor\1', re.MULTILINE)
_UNTIL_ENFORCED = "# Refusals are only logged; to have them spoken: policyd setup --enforce"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings to have, the lines that the file lacks, and those that stand there otherwise."""

    settings: Settings
    added: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_file(file: Path) -> str:
    """The text of the settings file, "" where there is none. Raises SettingsError."""
    try:
        return read_settings(file)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error


def settings_for(
    instance: Instance, settings: Settings, text: str, *, is_here: bool, is_watching: bool, database: str = ""
) -> Wanted:
    """What the settings file, which has *text* and is read as *settings*, should say for *instance*.

    `is_here` is as in `gateways_among`. Where policyd is asked already, `is_watching`, the mode stays as it is.
    *database* is one that was named on the command line. Raises SetupError.
    """
    values = instance.values
    networks, others = networks_in(values.get("mynetworks", ""))
    gateways = dict(gateways_among(tuple(networks), is_here=is_here))
    origin = _origin(instance)
    wanted: dict[str, Any] = {
        "listen": [f"unix:{instance.queue}/policyd/policyd.sock:mode=660"],
        "user": USER,
        "origin": origin,
        "recipient_delimiter": values.get("recipient_delimiter", ""),
        "insider_networks": [*dict.fromkeys(str(each) for each in networks if str(each) not in gateways)],
        "insider_contexts": [SUBMISSION_CONTEXT],
    }
    wanted |= {"database": database} if database else {}
    wanted |= {} if is_watching else {"mode": Mode.MONITOR.value}
    said = tomllib.loads(text)
    differing = _differing(settings, wanted) & said.keys()
    missing = {key: value for key, value in wanted.items() if key not in said}
    notes = [
        f"mynetworks has {each}, which can't be read here: put its networks into insider_networks" for each in others
    ]
    notes += [
        f"{network} is left out: {gateway} looks like the gateway of containers"
        for network, gateway in gateways.items()
    ]
    return Wanted(
        _with(settings, missing),
        tuple(_line(key, value) for key, value in missing.items()),
        tuple(_line(key, wanted[key]) for key in wanted if key in differing),
        tuple(notes),
    )


def with_lines(text: str, added: tuple[str, ...]) -> str:
    """*text* with the lines *added* in front, where no table has begun."""
    block: list[str] = [_HEADING]
    for line in added:
        block += [_UNTIL_ENFORCED, line] if line.startswith("mode =") else [line]
    return "\n".join(block) + "\n" + (f"\n{text}" if text else "")


def enforcing(text: str, file: Path) -> str:
    """The text of a settings file with the mode `enforce` instead of `monitor`. Raises SetupError."""
    changed = _MODE.sub('mode = "enforce"', text, count=1).replace(f"{_UNTIL_ENFORCED}\n", "", 1)
    before = tomllib.loads(text)
    if tomllib.loads(changed) != {**before, "mode": Mode.ENFORCE.value}:
        raise SetupError(f'{file}: there is no line that says mode = "monitor"; write mode = "enforce" there by hand')
    return changed


def _origin(instance: Instance) -> str:
    """What the setting of that name should be. Raises SetupError."""
    try:
        return normal_domain(read_origin(instance))
    except OSError as error:
        raise SetupError(f"myorigin: {instance.values['myorigin']}: {error.strerror}") from error
    except AddressError as error:
        raise SetupError(f"myorigin: {error}") from error


def _differing(settings: Settings, wanted: Mapping[str, Any]) -> set[str]:
    """The keys of which *settings* say something else than is *wanted*; where it listens and as whom is free."""
    found = set()
    if settings.origin != wanted["origin"]:
        found.add("origin")
    if set(settings.recipient_delimiter) != set(wanted["recipient_delimiter"]):
        found.add("recipient_delimiter")
    if {str(each) for each in settings.insider_networks} != set(wanted["insider_networks"]):
        found.add("insider_networks")
    if SUBMISSION_CONTEXT not in settings.insider_contexts:
        found.add("insider_contexts")
    if "mode" in wanted and settings.mode is not Mode.MONITOR:
        found.add("mode")
    return found


def _with(settings: Settings, added: Mapping[str, Any]) -> Settings:
    """*settings* as they will be read with what is *added*."""
    changes: dict[str, Any] = {key: added[key] for key in ("user", "origin", "recipient_delimiter") if key in added}
    if "listen" in added:
        try:
            changes["listen"] = tuple(map(parse_endpoint, added["listen"]))
        except ValueError as error:
            raise SetupError(f"queue_directory: policyd can't listen there: {error}") from error
    if "insider_networks" in added:
        changes["insider_networks"] = tuple(networks_in(" ".join(added["insider_networks"]))[0])
    if "insider_contexts" in added:
        changes["insider_contexts"] = frozenset(added["insider_contexts"])
    if "mode" in added:
        changes["mode"] = Mode(added["mode"])
    return replace(settings, **changes)


def _line(key: str, value: Any) -> str:
    return f"{key} = {to_json(value)}"  # of texts and lists of texts, JSON's spelling is TOML's
