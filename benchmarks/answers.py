"""How much policyd costs, beside a program that only says DUNNO, and beside an edition before.

Run it as `benchmarks/run [PART...] [--quick] [--large] [--runs N] [--before REVISION]`; README.rst says how to read
what it prints.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import bulk
import commands
import others
import through_postfix
from editions import TODAY, Edition, build
from report import Figure, in_turn, print_figures, print_machine
from servers import LARGE, MILLION, SMALL, Bench, Effort, Load, Server, ask, free_port

from policyd.counters import NO_COUNTERS, CounterPage, Counters
from policyd.model import Action, Decision, Request, Rule

NAMES = {SMALL: "1 k", MILLION: "1 M", LARGE: "10 M"}
COUNTED = 200_000
CHANGES = 5  # to each run of the others: a wait is short, and seldom the same


@dataclass(frozen=True, slots=True)
class Case:
    """A load on tables of a size, with an audit."""

    what: str
    rows: int
    audit: str
    load: Load
    figures: tuple[tuple[str, str], ...] = (("requests/s", "rps"), ("CPU µs", "cpu"))  # what it is called, policyload's


def cases(effort: Effort) -> Iterator[Case]:
    """Every load, those on the same server one after the other."""
    hot = Load(seconds=effort.seconds)
    for connections in (1, 10, 100, 500):
        yield Case(f"connections {connections}", SMALL, "rejects", replace(hot, connections=connections))
    yield Case("90 % rejected", SMALL, "rejects", replace(hot, rejected_percent=90))
    latencies = tuple((f"{each} µs", each) for each in ("p50", "p99", "p99.9"))
    yield Case("at 2 000/s", SMALL, "rejects", replace(hot, rate=2000), latencies)
    yield Case("audit all", SMALL, "all", hot)
    yield Case("audit none", SMALL, "none", hot)
    for rows in effort.sizes[1:]:
        cold = replace(hot, recipients=rows)
        yield Case("cold", rows, "rejects", cold)
        if rows == MILLION:
            yield Case("cold, 90 % rejected", rows, "rejects", replace(cold, rejected_percent=90))
            yield Case("cold, at 2 000/s", rows, "rejects", replace(cold, rate=2000), latencies)
            yield Case("cold, audit all", rows, "all", cold)
            yield Case("cold, audit none", rows, "none", cold)
    yield Case("a site's mixture", effort.sizes[-1], "rejects", mixture(effort), (("CPU µs", "cpu"), *latencies))


def mixture(effort: Effort) -> Load:
    """What a site has: some recipients often and many seldom, mail for nobody, and smtpd(8) that come and go."""
    return Load(
        recipients=effort.sizes[-1],
        rejected_percent=30,
        rate=200,
        seconds=10 * effort.seconds,
        least_connections=1,
        zipf_exponent=1,
        is_poisson=True,
    )


def measure_load(bench: Bench, effort: Effort) -> Iterator[Figure]:
    """Speed: each case on the floor and on each edition in turn."""
    floor = bench.start_floor()
    for (rows, audit), alike in groupby(cases(effort), lambda case: (case.rows, case.audit)):
        start = partial(bench.start_policyd, rows, audit)
        servers = [floor, *bench.of_each_edition(lambda edition, start=start: start(edition=edition))]
        for case in alike:
            found = in_turn(effort.runs, [partial(bench.load, server, case.load) for server in servers])
            for answers in found[1:]:
                check(case, answers)
            for name, field in case.figures:
                measured = [[each[field] for each in answers] for answers in found]
                yield Figure(f"{NAMES[rows]}, {case.what}: {name}", *measured)
        for server in servers[1:]:
            server.stop()
    floor.stop()


def check(case: Case, answers: Sequence[dict[str, float]]) -> None:
    """End where policyd gave other answers than the load is made for: then no figure means anything."""
    for found in answers:
        rejected_percent = 100 * found["reject"] / found["n"]
        if found["other"] or abs(rejected_percent - case.load.rejected_percent) > 5:
            raise SystemExit(f"{NAMES[case.rows]}, {case.what}: unexpected answers, {found}")


def measure_workers(bench: Bench, effort: Effort) -> Iterator[Figure]:
    """Two workers beside one, in the place of the floor: they and the load share the machine's cores."""
    one, two = bench.start_policyd(SMALL), bench.start_policyd(SMALL, workers=2)
    load = Load(seconds=effort.seconds)
    yield beside("two workers, beside one: requests/s", "rps", bench, effort, load, one, two)


def beside(what: str, field: str, bench: Bench, effort: Effort, load: Load, plain: Server, other: Server) -> Figure:
    """A figure of *other* with *plain* in the floor's place, which end then."""
    found = in_turn(effort.runs, [partial(bench.load, server, load) for server in (plain, other)])
    plain.stop()
    other.stop()
    return Figure(what, *([each[field] for each in answers] for answers in found))


def measure_watching(bench: Bench, effort: Effort) -> Iterator[Figure]:
    """What metrics cost a request: the counting alone, beside none; and in a daemon, beside one without them."""
    page = CounterPage(2, ["submission"])
    counts = [[counting_us(counters) for _ in range(effort.runs)] for counters in (NO_COUNTERS, page.at(1))]
    yield Figure("counting a request, beside not: CPU µs", *counts)
    plain, watched = (bench.start_policyd(SMALL, workers=2, http_port=port) for port in (0, free_port()))
    load = Load(seconds=effort.seconds)
    yield beside("with metrics, beside without: CPU µs", "cpu", bench, effort, load, plain, watched)


def counting_us(counters: Counters) -> float:
    """The processor time for one request, in microseconds."""
    request = Request(policy_context="submission", sasl_username="ann@example.com")
    decision = Decision(Action.DUNNO, Rule.DEFAULT, is_insider=True)
    begun = time.process_time()
    for _ in range(COUNTED):
        counters.decided(request, decision, 0.00003)
    return (time.process_time() - begun) / COUNTED * 1e6


def measure_start(bench: Bench, effort: Effort) -> Iterator[Figure]:
    """Start and memory, by the size of the tables; memory after a second of load."""
    for rows in effort.sizes:
        starts = [bench.start_floor, *bench.of_each_edition(partial(ready_to_start, bench, rows))]
        load = Load(recipients=rows, seconds=1)
        found = in_turn(effort.runs, [partial(start_once, bench, start, load) for start in starts])
        for number, what in enumerate(("ms from start to first answer", "MB of anonymous memory")):
            yield Figure(f"{NAMES[rows]}: {what}", *([each[number] for each in one] for one in found))


def ready_to_start(bench: Bench, rows: int, edition: Edition) -> Callable[[], Server]:
    """How to start *edition* on tables that are there."""
    bench.make_tables(rows, edition)
    return partial(bench.start_policyd, rows, edition=edition)


def start_once(bench: Bench, start: Callable[[], Server], load: Load) -> tuple[float, float]:
    """Milliseconds until a server answers, and how much memory it has after *load*, in MB."""
    server = start()
    bench.load(server, load)
    measured = server.start_seconds * 1000, server.anonymous_mb()
    server.stop()
    return measured


def measure_change(bench: Bench, effort: Effort) -> Iterator[Figure]:
    """The time from the end of `policyd sender block` to the end of the first answer that is a REJECT."""
    floor, ours = bench.start_floor(), bench.start_policyd(effort.sizes[-1])
    waits: list[list[float]] = [[], []]
    settings = bench.make_tables(effort.sizes[-1]).with_suffix(".toml")
    for number in range(effort.runs * CHANGES):
        sender = f"u{number}@example.com"
        if ask(ours.address, "joe@example.net", sender) != "DUNNO":
            raise SystemExit(f"{sender} is blocked already")
        TODAY.run("--config", settings, "sender", "block", sender)
        for wait, server, answer in ((waits[0], floor, "DUNNO"), (waits[1], ours, "REJECT")):
            begun = time.perf_counter()
            while not ask(server.address, "joe@example.net", sender).startswith(answer):
                if time.perf_counter() - begun > 10:
                    raise SystemExit("a blocked sender is not rejected")
            wait.append((time.perf_counter() - begun) * 1000)
    floor.stop()
    ours.stop()
    yield Figure(f"{NAMES[effort.sizes[-1]]}: ms from `sender block` to REJECT", *waits)


def measure_postfix(bench: Bench, effort: Effort) -> None:
    """Messages a second through a real Postfix; a table of its own."""
    through_postfix.measure(bench, effort.runs, MILLION if MILLION in effort.sizes else SMALL)


PARTS = {
    "load": measure_load,
    "workers": measure_workers,
    "watching": measure_watching,
    "start": measure_start,
    "change": measure_change,
    "commands": commands.measure,
    "others": others.measure,
    "bulk": bulk.measure,
}
IF_NAMED = {"bulk"}  # takes a quarter of an hour


def parse(words: Sequence[str]) -> argparse.Namespace:
    """What was typed."""
    names = [*PARTS, "postfix"]
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=__doc__)
    told = f"of {', '.join(names)}; if none, all but {', '.join(IF_NAMED)}"
    parser.add_argument("parts", nargs="*", metavar="PART", help=told)
    parser.add_argument("--quick", action="store_true", help="one short run of each, tables of 1 k only: does it work?")
    parser.add_argument("--large", action="store_true", help="10 M addresses too (some minutes, and 2 GB)")
    parser.add_argument("--runs", type=int, default=3, help="runs that a median is of (default: 3)")
    parser.add_argument("--before", metavar="REVISION", help="measure the policyd of this revision beside it")
    parsed = parser.parse_args(words)
    if unknown := {*parsed.parts} - {*names}:
        parser.error(f"no such part: {', '.join(unknown)}")
    parsed.parts = parsed.parts or [name for name in names if name not in IF_NAMED]
    return parsed


def main() -> None:
    """Measure the parts that were asked for."""
    asked = parse(sys.argv[1:])
    sizes = (SMALL,) if asked.quick else (SMALL, MILLION, LARGE) if asked.large else (SMALL, MILLION)
    effort = Effort(1 if asked.quick else asked.runs, 1 if asked.quick else 2, sizes)
    before = build(asked.before) if asked.before else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="policyd-bench-") as name:
        Path(name).chmod(0o755)  # Postfix's processes go through it
        bench = Bench(Path(name), before)
        try:
            print_machine(effort.runs)
            for name in others.missing():
                print(f"{name} is not installed: left out\n")
            wanted = [measure for part, measure in PARTS.items() if part in asked.parts]
            if wanted:
                figures = (figure for measure in wanted for figure in measure(bench, effort))
                print_figures(figures, has_before=before is not None)
            if "postfix" in asked.parts:
                measure_postfix(bench, effort)
        finally:
            bench.close()


main()
