"""The page Health: whether all is well, in a line; what doctor found, how the daemon and the tables are, and charts."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from policyd import __version__
from policyd.admin.journal_pages import page_of_changes
from policyd.counters import OUTCOMES, Cell, CounterPage, Outcome
from policyd.errors import StoreError
from policyd.minutes import MINUTE, Minutes, by_outcome
from policyd.model import Change, Mode
from policyd.printable import count_of
from policyd.replica.status import read_status, why_outdated
from policyd.web.pages.charts import bars
from policyd.web.pages.findings import Findings, read_findings
from policyd.web.pages.page import Form, Page
from policyd.web.pages.sources import LIMIT_SECONDS, Sources

_HOUR = (MINUTE, 60)  # a chart's spans: how long each is, in seconds, and how many
_DAY = (30 * MINUTE, 48)
_VERSIONS = {"policyd": __version__, "Python": platform.python_version(), "Twisted": version("Twisted")}
_HANGUPS = {
    Cell.HUNG_UP_MALFORMED: "malformed requests",
    Cell.HUNG_UP_DATABASE: "no answer from the tables",
    Cell.HUNG_UP_TIMEOUT: "idle or slow",
    Cell.HUNG_UP_LIMIT: "too many connections",
    Cell.HUNG_UP_DEFECT: "a defect of policyd",
}


class Charted(NamedTuple):
    """How often a rule decided so: in the last hour and day, and since the start."""

    rule: str
    action: str
    in_hour: int
    in_day: int
    in_all: int
    hour: Markup
    day: Markup


def show(sources: Sources, form: Form, now: int) -> Page:
    """The page at *now*, in Unix seconds; *form* says nothing."""
    findings = read_findings(sources.settings.http.doctor_file)
    last, problem = _last_change(sources)
    values: dict[str, Any] = {
        "problems": _problems(sources, findings, problem, now),
        "notes": _notes(sources, findings),
        "findings": findings,
        "last_change": last,
        "replica": _replica(sources.settings.replica, now),
        "charts": _charts(sources.counters, sources.minutes, now),
        "since": sources.minutes.since,
        "daemon": _daemon(sources.counters),
        "hangups": {words: count for cell, words in _HANGUPS.items() if (count := sources.counters.total(cell))},
        "versions": _VERSIONS,
        "settings": sources.settings,
        "reach": sources.refusals.reach(),
        "now": now,
    }
    return Page("health.html", values)


def _last_change(sources: Sources) -> tuple[Change | None, str]:
    """The journal's last change, and why it can't be read, "" where it can."""
    try:
        with sources.reading() as session, session.reading(limit_seconds=LIMIT_SECONDS) as queries:
            page = page_of_changes(queries, 0, lambda _: True, limit=1, rows=1)
    except StoreError as error:
        return None, str(error)
    return page.reached, ""


def _replica(file: Path | None, now: int) -> str:
    """How old the replica is, in words; "" where this host has none."""
    if file is None:
        return ""
    try:
        status = read_status(file)
    except StoreError as error:
        return str(error)
    return f"had all changes {status.age_in_words(now)} ago; it is at change {status.id}"


def _problems(sources: Sources, findings: Findings, database_problem: str, now: int) -> list[str]:
    """What is not well, a sentence each, the worst first."""
    settings, counters = sources.settings, sources.counters
    workers = counters.total(Cell.WORKERS)
    problems = []
    if not workers:
        problems.append("no worker answers Postfix")
    elif workers < settings.workers:
        problems.append(f"only {workers} of {settings.workers} workers answer Postfix")
    if database_problem:
        problems.append(f"the database can't be read: {database_problem}")
    if settings.replica is not None and (told := why_outdated(settings.replica, now)):
        problems.append(told)
    if errors := findings.count("error"):
        problems.append(f"doctor found {count_of(errors, 'error')}")
    if warnings := findings.count("warning"):
        problems.append(f"doctor found {count_of(warnings, 'warning')}")
    if dropped := counters.total(Cell.LINES_DROPPED):
        problems.append(f"{count_of(dropped, 'line')} of the audit were dropped since the start")
    if findings.is_stale(now):
        problems.append("doctor has not run for hours: its timer seems not to run")
    return problems


def _notes(sources: Sources, findings: Findings) -> list[str]:
    """Why it can't be said that all is well, although nothing is wrong."""
    notes = ["the mode is monitor: refusals are logged only"] if sources.settings.mode is Mode.MONITOR else []
    return [*notes, "what doctor found is not known"] if findings.problem else notes


def _daemon(counters: CounterPage) -> dict[str, int]:
    return {
        "Workers": counters.total(Cell.WORKERS),
        "Workers that were restarted": counters.total(Cell.WORKER_RESTARTS),
        "Connections from Postfix": counters.total(Cell.CONNECTIONS),
        "Lines of the audit that wait": counters.total(Cell.LINES_WAITING),
        "Lines of the audit that were dropped": counters.total(Cell.LINES_DROPPED),
    }


def _charts(counters: CounterPage, minutes: Minutes, now: int) -> list[Charted]:
    """A row for each rule and how it ended; for what is only logged, only where there was some."""
    counts = counters.decisions()
    totals = by_outcome(counts)
    hours, days = (minutes.per_span(now, counts, *spans) for spans in (_HOUR, _DAY))
    return [
        _charted(outcome, hours.get(outcome, [0] * _HOUR[1]), days.get(outcome, [0] * _DAY[1]), totals.get(outcome, 0))
        for outcome in OUTCOMES
        if totals.get(outcome) or not outcome.would
    ]


def _charted(outcome: Outcome, hour: list[int], day: list[int], total: int) -> Charted:
    action = "would be REJECT" if outcome.would else str(outcome.action)
    name = f"{outcome.rule}, {action}"
    return Charted(
        outcome.rule,
        action,
        sum(hour),
        sum(day),
        total,
        bars(hour, f"{name}: {sum(hour)} in the last hour, at most {max(hour)} in a minute"),
        bars(day, f"{name}: {sum(day)} in the last day, at most {max(day)} in half an hour"),
    )
