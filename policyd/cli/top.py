"""`policyd top`: what the daemon does, live in a terminal."""

import os
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from policyd.cli.command import Command, Invocation, actor, invocation
from policyd.cli.table import table
from policyd.cli.terminal import echo, echo_json
from policyd.cli.types import ENDPOINT
from policyd.errors import DaemonError
from policyd.printable import count_of, printable
from policyd.timestamps import show_local

if TYPE_CHECKING:
    from policyd.endpoint import Endpoint
    from policyd.web.scraped import Scraped

_DECISIONS, _BUCKETS = "policyd_decisions_total", "policyd_decision_duration_seconds_bucket"
_FIGURES = ("total", "a second")
_WIDTH = 100  # where there is no terminal


class Moment(NamedTuple):
    """The metrics, and when they were fetched, as time.monotonic() counts."""

    scraped: "Scraped"
    at: float


@click.command("top", cls=Command)
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 60),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long until it looks again.",
)
@click.option(
    "--at",
    metavar="ENDPOINT",
    type=ENDPOINT,
    help="Where the daemon shows them, if not as the setting http.listen says, as on a socket of systemd's.",
)
@click.option("--once", is_flag=True, help="Show it once and end, as where stdout is no terminal.")
def command(interval: float, at: "Endpoint | None", once: bool) -> None:
    """Show what the daemon does: requests and refusals by rule, who is an insider, connections, and what is wrong.

    It asks the running daemon over the first endpoint of the setting http.listen. Totals are since the daemon was
    started. Ctrl-C ends it.

    \b
    Example: policyd top
    """
    from policyd.web.scraped import fetch_metrics

    call = invocation()
    http, user = call.settings.http, actor(os.environ)
    http = replace(http, listen=(at,)) if at is not None else http

    def fetch() -> Moment:
        return Moment(fetch_metrics(http, user), time.monotonic())

    if call.json:
        echo_json(as_object(fetch(), None), indent=1)
    elif once or not (sys.stdout and sys.stdout.isatty()):
        for line in _lines(as_object(fetch(), None), _WIDTH):
            echo(line)
    else:
        _watch(call, fetch, interval)


def _watch(call: Invocation, fetch: Callable[[], Moment], interval: float) -> None:
    """Show it again and again, until Ctrl-C; a daemon that is away for a while is asked again."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(no_color="NO_COLOR" in os.environ)
    now, former, problem = fetch(), None, ""
    try:
        with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
            while True:
                lines = [*_lines(as_object(now, former), console.width)]
                shown = [problem, *lines] if problem else lines
                live.update(Text("\n".join(map(printable, shown)), no_wrap=True, overflow="ellipsis"), refresh=True)
                time.sleep(interval)
                try:
                    now, former, problem = fetch(), now, ""
                except DaemonError as error:
                    problem = f"as it was {time.monotonic() - now.at:.0f} s ago: {error}"
    except KeyboardInterrupt:
        pass


def as_object(now: Moment, former: Moment | None) -> dict[str, Any]:
    """What is shown, for `--json`; rates are None without a *former* moment."""
    scraped = now.scraped
    ((version,),) = scraped.labels("policyd_build_info", "version")
    return {
        "version": version,
        "mode": "enforce" if scraped.value("policyd_mode_enforcing") else "monitor",
        "workers": _count(scraped, "policyd_workers"),
        "worker_restarts": _count(scraped, "policyd_worker_restarts_total"),
        "settings_loaded": _count(scraped, "policyd_settings_loaded_timestamp_seconds"),
        "requests": _total(now, former),
        "milliseconds": {name: _quantile(now, former, share) for name, share in (("p50", 0.5), ("p99", 0.99))},
        "rules": [
            {"rule": rule, "action": action, "would": would}
            | _total(now, former, rule=rule, action=action, would=would)
            for rule, action, would in scraped.labels(_DECISIONS, "rule", "action", "would")
        ],
        "contexts": [
            {"context": context} | _total(now, former, context=context) | {"insiders": _insiders(scraped, context)}
            for (context,) in scraped.labels(_DECISIONS, "context")
        ],
        "connections": {
            "open": _count(scraped, "policyd_connections"),
            "limit": _count(scraped, "policyd_connections_limit"),
            "total": _count(scraped, "policyd_connections_total"),
            "refused": _count(scraped, "policyd_connections_refused_total"),
        },
        "hangups": {
            reason: _count(scraped, "policyd_hangups_total", reason=reason)
            for (reason,) in scraped.labels("policyd_hangups_total", "reason")
        },
        "audit": {
            "waiting": _count(scraped, "policyd_audit_backlog_lines"),
            "dropped": _count(scraped, "policyd_audit_lines_dropped_total"),
        },
        "database": {
            "is_readable": bool(scraped.value("policyd_database_readable")),
            "change": _count(scraped, "policyd_database_change"),
            "changed": _count(scraped, "policyd_database_changed_timestamp_seconds"),
        },
        "replica": {
            "lag_seconds": _count(scraped, "policyd_replica_lag_seconds"),
            "changes_behind": _count(scraped, "policyd_replica_changes_behind"),
        },
    }


def _count(scraped: "Scraped", name: str, **labels: str) -> int:
    return int(scraped.value(name, **labels))


def _insiders(scraped: "Scraped", context: str) -> dict[str, int]:
    """The requests of insiders in a *context*, by what made them one."""
    name = "policyd_insider_requests_total"
    return {by: _count(scraped, name, by=by, context=context) for (by,) in scraped.labels(name, "by")}


def _total(now: Moment, former: Moment | None, **labels: str) -> dict[str, Any]:
    """How many decisions there were, and how many a second since *former*: none where the daemon began anew."""
    total = now.scraped.value(_DECISIONS, **labels)
    rate = None
    if former is not None and now.at > former.at:
        before = former.scraped.value(_DECISIONS, **labels)
        rate = round((total - before if total >= before else total) / (now.at - former.at), 2)
    return {"total": int(total), "per_second": rate}


def _quantile(now: Moment, former: Moment | None, share: float) -> float | None:
    """In how many milliseconds that *share* of the decisions were made, of those since *former*, if there are any.

    As Prometheus estimates it: evenly within a bucket. None where there are none.
    """
    # The counts up to each bound.
    bounds = [float(bound) for (bound,) in now.scraped.labels(_BUCKETS, "le")]
    counts = [now.scraped.value(_BUCKETS, le=bound) for (bound,) in now.scraped.labels(_BUCKETS, "le")]
    if former is not None:
        before = [former.scraped.value(_BUCKETS, le=bound) for (bound,) in now.scraped.labels(_BUCKETS, "le")]
        if before[-1] < counts[-1]:
            counts = [count - earlier for count, earlier in zip(counts, before, strict=True)]
    if not counts or counts[-1] <= 0:
        return None

    # The bucket in which the share is, and where in it.
    wanted = share * counts[-1]
    place = min(bisect_left(counts, wanted), len(bounds) - 2)  # of what is above the last bound, that is all one knows
    lower, below = (bounds[place - 1], counts[place - 1]) if place else (0.0, 0.0)
    within = (wanted - below) / max(counts[place] - below, 1)
    return round(1000 * (lower + (bounds[place] - lower) * min(within, 1.0)), 3)


def _lines(shown: dict[str, Any], width: int) -> Iterator[str]:
    """What a person reads."""
    # How it is.
    workers = count_of(shown["workers"], "worker") + _if(shown["worker_restarts"], ", {} replaced")
    loaded = show_local(shown["settings_loaded"])
    yield f"policyd {shown['version']}, {workers}, mode {shown['mode']}, settings read {loaded}"
    database, replica = shown["database"], shown["replica"]
    readable = "tables" if database["is_readable"] else "TABLES CAN'T BE READ,"
    lag = _if(replica["lag_seconds"], ", may have missed changes for {} s") + _if(
        replica["changes_behind"], ", {} known"
    )
    yield f"{readable} at change {database['change']} of {show_local(database['changed'])}{lag}"
    connections, audit = shown["connections"], shown["audit"]
    refused = _if(connections["refused"], ", not accepted {} times")
    yield f"connections {connections['open']} of {connections['limit']}, {connections['total']} in all{refused}"
    hangups = ", ".join(f"{reason} {number}" for reason, number in shown["hangups"].items() if number)
    lines = _if(audit["waiting"], "{} wait") + _if(audit["dropped"], " {} dropped")
    yield f"hung up: {hangups or 'never'}; lines of the log: {lines.strip() or 'none wait, none dropped'}"
    times = ", ".join(f"{name} {'-' if took is None else took} ms" for name, took in shown["milliseconds"].items())
    total, rate = _figures(shown["requests"])
    yield f"requests {total}{rate and f', {rate} a second'}, {times}"
    yield ""

    # What it decides, and for whom.
    rules = [(each["rule"], each["action"], each["would"], *_figures(each)) for each in shown["rules"]]
    yield from table(rules, ("rule", "action", "would", *_FIGURES), width)
    yield ""
    insiders = [f"insiders by {by}" for by in shown["contexts"][0]["insiders"]]
    contexts = [(each["context"], *_figures(each), *map(str, each["insiders"].values())) for each in shown["contexts"]]
    yield from table(contexts, ("context", *_FIGURES, *insiders), width)


def _figures(counted: dict[str, Any]) -> tuple[str, str]:
    rate = counted["per_second"]
    return str(counted["total"]), "" if rate is None else f"{rate:g}"


def _if(number: int, told: str) -> str:
    """*told* with the *number*, "" where that is 0."""
    return told.format(number) if number else ""
