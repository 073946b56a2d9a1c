"""Runs every check over the Postfix instances, the settings and the tables, and puts what is found in order."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policyd.decide import Decider
from policyd.doctor.agreement import diagnose_agreement, diagnose_domains
from policyd.doctor.daemon import diagnose_daemon, diagnose_log
from policyd.doctor.diagnosis import Diagnosis, Severity
from policyd.doctor.examination import Examination
from policyd.doctor.hosts import gateways_among
from policyd.doctor.mistakes import diagnose_mistakes
from policyd.doctor.placement import diagnose_placement
from policyd.doctor.postconf import read_instances
from policyd.doctor.proof import prove
from policyd.doctor.running import diagnose_running
from policyd.doctor.sockets import diagnose_sockets, find_dead
from policyd.doctor.tables import MapCheck, address_tables, compare_addresses, diagnose_tables
from policyd.endpoint import default_listen
from policyd.errors import StoreError
from policyd.settings import DEFAULT_FILE, Settings
from policyd.store.connection import Database
from policyd.store.database import reading
from policyd.store.lookup import looking
from policyd.store.queries import Queries

_ORDER = [*Severity]


@dataclass
class Report:
    """What was found *at* a time in Unix seconds, worst first, and what could not be looked at."""

    at: int
    found: list[Diagnosis] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    proof: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to be put right."""
        return all(each.weight is Severity.INFO for each in self.found)

    def as_object(self) -> dict[str, Any]:
        """It by the names of `policyd doctor --json`."""
        return {
            "at": self.at,
            "findings": [each.as_object() for each in self.found],
            "not_looked_at": self.unseen,
            "proof": self.proof,
        }


def examine(
    settings: Settings,
    folder: Path | None,
    now: int,
    *,
    settings_file: Path | None = None,
    log_file: Path | None = None,
    is_proven: bool = True,
) -> Report:
    """Everything that is wrong with the Postfix configured in *folder*, or in its own, and with the way to policyd.

    Root has it proven with mail that is not sent, whose trace is looked for in *log_file*, or where mail logs are.
    *now* is in Unix seconds. Raises PostfixError where the configuration can't be read.
    """
    listen = settings.listen or default_listen()
    report = Report(now)
    instances = [
        Examination(
            instance,
            settings,
            listen,
            is_default=folder is None and number == 0,
            is_further=number > 0,
            settings_file=settings_file or DEFAULT_FILE,
            gateways=tuple(gateways_among(settings.insider_networks, is_here=folder is None)),
        )
        for number, instance in enumerate(read_instances(folder, report.unseen))
    ]
    found: list[Diagnosis] = []
    with ExitStack() as listings:
        for examined in instances:
            listings.enter_context(examined.listings.beside(address_tables(examined.instance)))
        for examined in instances:
            find_dead(examined)
            found += [
                *diagnose_mistakes(examined),
                *diagnose_placement(examined),
                *diagnose_sockets(examined),
                *diagnose_agreement(examined),
            ]
            found += diagnose_running(examined)
        found += _by_tables(settings, instances, now, report)
    found += diagnose_log(settings, report.unseen)
    if is_proven:
        found += _proof(settings, instances, now, log_file, report)
    found.append(Diagnosis("pickup-unchecked", "pickup, local", "policyd sees only what comes by SMTP."))
    for examined in instances:
        report.unseen += [each for each in examined.unseen if each not in report.unseen]
    report.found = sorted(dict.fromkeys(found), key=lambda each: _ORDER.index(each.weight))
    return report


def _by_tables(settings: Settings, instances: list[Examination], now: int, report: Report) -> Iterator[Diagnosis]:
    """What the tables tell; where they can't be read, that is said."""
    database = _database(settings)
    try:
        with reading(database) as connection:
            queries = Queries(connection, settings.recipient_delimiter)
            restricted = dict(queries.perhaps_restricted())
            for examined in instances:
                yield from diagnose_domains(examined, queries)
            with looking(database) as lookup:
                decider = Decider(settings, lookup)
                checks = [MapCheck(examined, queries, decider, restricted, now) for examined in instances]
                unused = compare_addresses(queries, checks)
                for check in checks:
                    yield from check.run()
            yield from diagnose_tables(queries, instances, unused, restricted, now)
        yield from diagnose_daemon(settings, database, now, report.unseen)
    except StoreError as error:
        report.unseen.append(f"the tables: {error}")


def _proof(
    settings: Settings, instances: list[Examination], now: int, log_file: Path | None, report: Report
) -> Iterator[Diagnosis]:
    if os.geteuid() != 0:
        report.proof.append("not proven: only root can")
        return
    try:
        for told in prove(instances, _database(settings), now, log_file):
            if isinstance(told, Diagnosis):
                yield told
            else:
                report.proof.append(told)
    except StoreError as error:
        report.proof.append(f"not proven: {error}")


def _database(settings: Settings) -> Database:
    """Where the daemon answers from."""
    return Database.to_answer_from(settings) if settings.replica is not None else Database.of(settings)
