"""The settings file: TOML -> Settings, every mistake found at once and named by its key."""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from policyd import setting
from policyd.endpoint import Endpoint
from policyd.errors import SettingsError
from policyd.files import read_settings
from policyd.model import Mode, Rule
from policyd.reply import DEFAULT_TEXTS, check_template

DEFAULT_FILE = Path("/etc/policyd/policyd.toml")
FACILITIES = {
    name: number
    for number, name in enumerate(
        ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
        + [""] * 4
        + [f"local{number}" for number in range(8)]
    )
    if name
}


class Decisions(StrEnum):
    """Which decisions are worth a line."""

    ALL = "all"
    REJECTS = "rejects"
    NONE = "none"


class Format(StrEnum):
    """How a line of the audit looks."""

    TEXT = "text"
    JSON = "json"


@attrs.frozen
class AuditSettings:
    """Table `[audit]`: what is logged, where to, and how."""

    decisions: Decisions = Decisions.ALL
    syslog: str = "unix:/dev/log"
    facility: str = "mail"
    format: Format = Format.TEXT


@attrs.frozen
class Settings:
    """All settings, checked. `listen` is empty where `endpoint.default_listen` shall choose."""

    database: str = "sqlite:////var/lib/policyd/policyd.db"
    listen: tuple[Endpoint, ...] = ()
    workers: int = 1
    allow_remote: bool = False
    user: str = ""  # as whom to run; "" is who starts it
    group: str = ""  # "" is the user's own
    max_connections: int = 1000  # Postfix has 100 processes of a kind by default
    idle_seconds: int = 600  # Postfix keeps an idle connection for 300 s; it must be Postfix that closes it
    request_seconds: int = 30  # Postfix sends a request in one piece, and reads the answer at once
    recipient_delimiter: str = "+"
    origin: str = ""
    insider_networks: tuple[IPv4Network | IPv6Network, ...] = (
        ip_network("127.0.0.0/8"),
        ip_network("::1/128"),
    )
    insider_contexts: frozenset[str] = frozenset()
    always_accept: frozenset[str] = frozenset({"postmaster"})
    mode: Mode = Mode.ENFORCE
    audit: AuditSettings = AuditSettings()
    reply: Mapping[Rule, str] = attrs.field(factory=lambda: dict(DEFAULT_TEXTS))


def load_settings(
    file: Path | None = None,
    *,
    database: str | None = None,
    listen: Iterable[str] = (),
    workers: str | None = None,
    given: tuple[Endpoint, ...] = (),
) -> Settings:
    """The settings from *file*, or from the default one if it is there, or the defaults.

    *database*, *listen* and *workers*, from the command line or the environment, take precedence; and before these,
    the endpoints that systemd has *given*. Raises SettingsError.
    """
    settings = _read(file or DEFAULT_FILE, must_exist=file is not None)
    listen_from = f"{file or DEFAULT_FILE}: listen" if settings.listen and not listen else "listen"
    options: dict[str, Any] = {}
    if database is not None:
        options |= _option("database", setting.database, database)
    if given:
        options["listen"], listen_from = given, "from systemd"
    elif listen:
        options |= _option("listen", setting.listen, [*listen])
    if workers is not None:
        options |= _option("workers", setting.workers, int(workers) if workers.isdecimal() else workers)
    settings = attrs.evolve(settings, **options)
    remote = [endpoint.text for endpoint in settings.listen if not endpoint.is_local]
    if remote and not settings.allow_remote:
        mend = "make it ListenStream=127.0.0.1:PORT" if given else "add interface=127.0.0.1 to it"
        raise SettingsError(
            f"{listen_from}: {remote[0]} can be reached from other machines, and anybody who reaches it can find "
            f"out who has a mailbox; {mend}, or say allow_remote = true in the settings file"
        )
    return settings


def _option(key: str, parse: Callable[[object], object], typed: object) -> dict[str, object]:
    try:
        return {key: parse(typed)}
    except ValueError as error:
        raise SettingsError(f"{key}: {error}") from error


def _read(file: Path, *, must_exist: bool) -> Settings:
    try:
        loaded = tomllib.loads(read_settings(file))
    except FileNotFoundError as error:
        if not must_exist:
            return Settings()
        raise SettingsError(f"{file}: there is no such settings file") from error
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not TOML: {' '.join(str(error).split())}") from error
    try:
        return _CONVERTER.structure(loaded, Settings)
    except cattrs.BaseValidationError as error:
        mistakes = cattrs.transform_error(error, path="", format_exception=_mistake)
        raise SettingsError(f"{file}: {'; '.join(map(_with_key_first, mistakes))}") from error


def _mistake(error: BaseException, _kind: type | None) -> str:
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        known = sorted(field.name for field in attrs.fields(error.cl))
        return f"unknown key {', '.join(sorted(error.extra_fields))}; allowed are {', '.join(known)}"
    return " ".join(str(error).split())


def _with_key_first(mistake: str) -> str:
    """cattrs says `what @ .audit.syslog`; an administrator reads `audit.syslog: what`."""
    what, _, key = mistake.rpartition(" @ ")
    key = key.strip(".")
    return f"{key}: {what}" if key else what


def _facility(value: object) -> str:
    if not isinstance(value, str) or value not in FACILITIES:
        raise ValueError(f"{value!r}: allowed are {', '.join(FACILITIES)}")
    return str(value)


def _audit(value: object) -> AuditSettings:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r}: must be a table, [audit]")
    return _CONVERTER.structure(value, AuditSettings)


def _reply(value: object) -> Mapping[Rule, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r}: must be a table, [reply]")
    mistakes = [mistake for key, template in value.items() if (mistake := _reply_mistake(key, template))]
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return DEFAULT_TEXTS | {Rule(key): template for key, template in value.items()}


def _reply_mistake(key: str, template: object) -> str:
    if key not in DEFAULT_TEXTS:
        return f"unknown key {key}; allowed are {', '.join(DEFAULT_TEXTS)}"
    if not isinstance(template, str):
        return f"{key}: {template!r}: must be a text in quotes"
    problem = check_template(template)
    return f"{key}: {template!r} {problem}" if problem else ""


_AUDIT = {
    "decisions": setting.choice(Decisions),
    "syslog": setting.syslog,
    "facility": _facility,
    "format": setting.choice(Format),
}
_TOP = {
    "database": setting.database_in_file,
    "listen": setting.listen,
    "workers": setting.workers,
    "allow_remote": setting.flag,
    "user": setting.account,
    "group": setting.account,
    "max_connections": setting.number(1, 65536),
    "idle_seconds": setting.number(1, 86400),
    "request_seconds": setting.number(1, 3600),
    "recipient_delimiter": setting.delimiters,
    "origin": setting.origin,
    "insider_networks": setting.networks,
    "insider_contexts": setting.contexts,
    "always_accept": setting.local_parts,
    "mode": setting.choice(Mode),
    "audit": _audit,
    "reply": _reply,
}


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind, parsers in ((AuditSettings, _AUDIT), (Settings, _TOP)):
        hooks: dict[str, Any] = {key: override(struct_hook=_hook(parse)) for key, parse in parsers.items()}
        converter.register_structure_hook(kind, make_dict_structure_fn(kind, converter, **hooks))
    return converter


def _hook(parse: Callable[[object], object]) -> Callable[[object, type], object]:
    return lambda value, _kind: parse(value)


_CONVERTER = _make_converter()
