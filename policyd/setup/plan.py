"""What a setup would do: the lines for Postfix, for the settings, and what goes into the tables. Changes nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from policyd.doctor.agreement import diagnose_agreement
from policyd.doctor.diagnosis import Diagnosis
from policyd.doctor.examination import Examination
from policyd.doctor.mistakes import diagnose_mistakes
from policyd.doctor.placement import diagnose_placement
from policyd.doctor.postconf import Instance, read_instance
from policyd.doctor.sockets import find_dead
from policyd.endpoint import default_listen
from policyd.settings import DEFAULT_FILE, Settings
from policyd.setup import host, systemd
from policyd.setup.obstacles import FOREIGN, why_left_alone
from policyd.setup.record import records
from policyd.setup.tables import Listed, read_listed
from policyd.setup.wanted import Wanted, read_file, settings_for
from policyd.store.connection import Database
from policyd.store.database import exists, reading
from policyd.store.queries import Queries

# What setup puts right: where the check stands, and how Postfix reads an address.
_PLACED = frozenset(
    {
        "check-missing",
        "check-overridden",
        "check-after-permit",
        "check-after-access",
        "check-after-reject",
        "check-wrong-stage",
        "check-before-relay",
        "check-warn-only",
        "check-twice",
        "context-open",
        "reinjection-asks-again",
        "percent-hack",
    }
)


@dataclass(slots=True)
class Plan:
    """What is to be done.

    `commands` are those for Postfix, as a person would type them, `host` those that make the user and folders, and
    `daemon` those that start it; `listed` is what the tables lack. `obstacles` say why Postfix's files are left alone;
    then there is only the plan. `is_interrupted` says that a setup has not ended.
    """

    examined: Examination
    wanted: Wanted
    settings_file: Path
    commands: tuple[str, ...] = ()
    listed: Listed = field(default_factory=Listed)
    obstacles: tuple[str, ...] = ()
    is_interrupted: bool = False
    host: tuple[str, ...] = ()
    daemon: tuple[str, ...] = ()

    @property
    def instance(self) -> Instance:
        """The Postfix."""
        return self.examined.instance

    @property
    def settings(self) -> Settings:
        """The settings as they will be."""
        return self.wanted.settings

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.wanted.added or self.commands or self.is_interrupted) and self.listed.is_empty

    @property
    def reload(self) -> str:
        """The command that has Postfix read its files."""
        return "postfix reload" if self.examined.is_default else f"postfix -c {quote(str(self.instance.folder))} reload"

    def as_object(self) -> dict[str, Any]:
        """It by the names of `policyd setup --json`."""
        return {
            "host": [*self.host],
            "settings": [*self.wanted.added],
            "domains": self.listed.domains,
            "mailboxes": self.listed.mailboxes,
            "further_addresses": self.listed.aliases,
            "daemon": [*self.daemon],
            "commands": [*self.commands],
            "notes": [*self.wanted.notes, *self.listed.notes],
            "obstacles": [*self.obstacles],
        }


def make_plan(settings: Settings, settings_file: Path | None, folder: Path | None, *, database: str = "") -> Plan:
    """What it takes to have policyd watch the Postfix in *folder*, or Postfix's own.

    *database* is one that was named on the command line. Raises PostfixError, SettingsError, StoreError and SetupError.
    """
    file = settings_file or DEFAULT_FILE
    instance = read_instance(folder)
    examined = examine_for(instance, settings, file, is_default=folder is None)
    is_watching = any(examined.asks(service) for service in instance.smtpd)
    wanted = settings_for(
        instance,
        settings,
        read_file(file),
        is_here=folder is None,
        is_watching=is_watching,
        database=database,
    )

    # Postfix is read with the settings as they will be: then what is ours is known as ours.
    examined = examine_for(instance, wanted.settings, file, is_default=folder is None)
    found = [*diagnose_mistakes(examined), *diagnose_placement(examined), *diagnose_agreement(examined)]
    commands = dict.fromkeys(line for each in found if each.code in _PLACED for line in each.commands)
    listed = _missing(read_listed(examined, wanted.settings.origin), wanted.settings)
    obstacles = [*why_left_alone(examined, found)]
    if wanted.conflicts and commands:
        obstacles.append(f"{file} says something else than Postfix; write there: {'; '.join(wanted.conflicts)}")
    interrupted = any(each.is_open_for(instance.folder) for each in records(file)[:1])
    plan = Plan(examined, wanted, file, tuple(commands), listed, tuple(obstacles), interrupted)

    # Only a setup that does something sees to the host and the daemon.
    if not plan.is_empty:
        plan.host = tuple(host.missing(plan.settings, instance))
        if systemd.has_systemd():
            plan.daemon = tuple(systemd.missing(is_changed=bool(wanted.added) or interrupted))
    return plan


def examine_for(instance: Instance, settings: Settings, file: Path, *, is_default: bool) -> Examination:
    """*instance* with *settings*, as doctor's checks take them."""
    listen = settings.listen or default_listen()
    examined = Examination(instance, settings, listen, is_default=is_default, settings_file=file)
    find_dead(examined)
    return examined


def still_wrong(copy: Path, plan: Plan) -> list[Diagnosis]:
    """What is wrong in the configuration in *copy*, of what setup should have put right."""
    examined = examine_for(read_instance(copy), plan.settings, plan.settings_file, is_default=False)
    found = [*diagnose_mistakes(examined), *diagnose_placement(examined), *diagnose_agreement(examined)]
    return [each for each in found if each.code in _PLACED | FOREIGN]


def _missing(listed: Listed, settings: Settings) -> Listed:
    """What of it the tables lack. Raises StoreError."""
    database = Database.of(settings)
    if not exists(database):
        return listed
    with reading(database) as connection:
        return listed.without(Queries(connection, settings.recipient_delimiter))
