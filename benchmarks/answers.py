"""How much policyd costs, beside a program that only says DUNNO: speed, memory, start, and the command line.

Run it as `benchmarks/run [PART...] [--quick] [--large] [--runs N]`; README.rst says how to read what it prints.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import others
import through_postfix
from report import Pair, print_machine, print_pairs
from servers import Bench, Effort, Load, Server, ask, free_port

from policyd.counters import NO_COUNTERS, CounterPage, Counters
from policyd.model import Action, Decision, Request, Rule

SMALL, MILLION, LARGE = 1_000, 1_000_000, 10_000_000
NAMES = {SMALL: "1 k", MILLION: "1 M", LARGE: "10 M"}
COUNTED = 200_000
CLI_RUNS = 5  # to each run of the others: a start is short, and seldom the same


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


def measure_load(bench: Bench, effort: Effort) -> Iterator[Pair]:
    """Speed: each case on the floor and on policyd in turn."""
    floor = bench.start_floor()
    for (rows, audit), alike in groupby(cases(effort), lambda case: (case.rows, case.audit)):
        server = bench.start_policyd(rows, audit)
        for case in alike:
            both = [(bench.load(floor, case.load), bench.load(server, case.load)) for _ in range(effort.runs)]
            check(case, [ours for _, ours in both])
            for name, field in case.figures:
                what = f"{NAMES[rows]}, {case.what}: {name}"
                yield Pair(what, [least[field] for least, _ in both], [ours[field] for _, ours in both])
        server.stop()
    floor.stop()


def check(case: Case, answers: Sequence[dict[str, float]]) -> None:
    """End where policyd gave other answers than the load is made for: then no figure means anything."""
    for found in answers:
        rejected_percent = 100 * found["reject"] / found["n"]
        if found["other"] or abs(rejected_percent - case.load.rejected_percent) > 5:
            raise SystemExit(f"{NAMES[case.rows]}, {case.what}: unexpected answers, {found}")


def measure_workers(bench: Bench, effort: Effort) -> Iterator[Pair]:
    """Two workers beside one, in the place of the floor: they and the load share the machine's cores."""
    one, two = bench.start_policyd(SMALL), bench.start_policyd(SMALL, workers=2)
    load = Load(seconds=effort.seconds)
    both = [(bench.load(one, load), bench.load(two, load)) for _ in range(effort.runs)]
    one.stop()
    two.stop()
    yield Pair(
        "two workers, beside one: requests/s", [each["rps"] for each, _ in both], [each["rps"] for _, each in both]
    )


def measure_watching(bench: Bench, effort: Effort) -> Iterator[Pair]:
    """What metrics cost a request: the counting alone, beside none; and in a daemon, beside one without them."""
    page = CounterPage(2, ["submission"])
    counts = [[counting_us(counters) for _ in range(effort.runs)] for counters in (NO_COUNTERS, page.at(1))]
    yield Pair("counting a request, beside not: CPU µs", *counts)
    plain, watched = (bench.start_policyd(SMALL, workers=2, http_port=port) for port in (0, free_port()))
    load = Load(seconds=effort.seconds)
    both = [(bench.load(plain, load), bench.load(watched, load)) for _ in range(effort.runs)]
    plain.stop()
    watched.stop()
    yield Pair(
        "with metrics, beside without: CPU µs", [each["cpu"] for each, _ in both], [each["cpu"] for _, each in both]
    )


def counting_us(counters: Counters) -> float:
    """The processor time for one request, in microseconds."""
    request = Request(policy_context="submission", sasl_username="ann@example.com")
    decision = Decision(Action.DUNNO, Rule.DEFAULT, is_insider=True)
    begun = time.process_time()
    for _ in range(COUNTED):
        counters.decided(request, decision, 0.00003)
    return (time.process_time() - begun) / COUNTED * 1e6


def measure_start(bench: Bench, effort: Effort) -> Iterator[Pair]:
    """Start and memory, by the size of the tables; memory after a second of load."""
    for rows in effort.sizes:
        bench.make_tables(rows)
        starts: list[list[float]] = [[], []]
        memory: list[list[float]] = [[], []]
        load = Load(recipients=rows, seconds=1)
        for _ in range(effort.runs):
            for index, server in enumerate(started(bench.start_floor, partial(bench.start_policyd, rows))):
                starts[index].append(server.start_seconds * 1000)
                bench.load(server, load)
                memory[index].append(server.anonymous_mb())
        yield Pair(f"{NAMES[rows]}: ms from start to first answer", *starts)
        yield Pair(f"{NAMES[rows]}: MB of anonymous memory", *memory)


def started(*starts: Callable[[], Server]) -> Iterator[Server]:
    """Each server in turn, stopped when the next one is wanted."""
    for start in starts:
        server = start()
        yield server
        server.stop()


def measure_change(bench: Bench, effort: Effort) -> Iterator[Pair]:
    """The time from the end of `policyd sender block` to the end of the first answer that is a REJECT."""
    floor, ours = bench.start_floor(), bench.start_policyd(effort.sizes[-1])
    waits: list[list[float]] = [[], []]
    for number in range(effort.runs * CLI_RUNS):
        sender = f"u{number}@example.com"
        if ask(ours.address, "joe@example.net", sender) != "DUNNO":
            raise SystemExit(f"{sender} is blocked already")
        subprocess.run(policyd(bench, "sender", "block", sender), check=True, capture_output=True)
        for wait, server, answer in ((waits[0], floor, "DUNNO"), (waits[1], ours, "REJECT")):
            begun = time.perf_counter()
            while not ask(server.address, "joe@example.net", sender).startswith(answer):
                if time.perf_counter() - begun > 10:
                    raise SystemExit("a blocked sender is not rejected")
            wait.append((time.perf_counter() - begun) * 1000)
    floor.stop()
    ours.stop()
    yield Pair(f"{NAMES[effort.sizes[-1]]}: ms from `sender block` to REJECT", *waits)


def measure_cli(bench: Bench, effort: Effort) -> Iterator[Pair]:
    """The command line, beside a Python that does nothing."""
    bench.write_settings(SMALL, "rejects", free_port())
    commands = {
        "--help": ["--help"],
        "check": ["check", "--sender", "joe@example.net", "--recipient", "u1@example.com"],
        "sender block": ["sender", "block", "joe@example.net"],
    }
    for name, words in commands.items():
        times: list[list[float]] = [[], []]
        for number in range(effort.runs * CLI_RUNS):
            fresh = [*words[:-1], f"joe{number}@example.net"] if name == "sender block" else words
            times[0].append(run_ms([sys.executable, "-c", "pass"]))
            times[1].append(run_ms(policyd(bench, *fresh)))
        yield Pair(f"ms of `policyd {name}`, beside `python -c pass`", *times)


def policyd(bench: Bench, *words: str) -> list[str]:
    """The command line of a policyd command on the tables that the settings of the bench name."""
    return [sys.executable, "-m", "policyd", "--config", str(bench.folder / "policyd.toml"), *words]


def run_ms(command: Sequence[str]) -> float:
    """How long *command* takes, in milliseconds; it must succeed."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return (time.perf_counter() - begun) * 1000


def measure_postfix(bench: Bench, effort: Effort) -> None:
    """Messages a second through a real Postfix; a table of its own."""
    through_postfix.measure(bench, effort.runs, MILLION if MILLION in effort.sizes else SMALL)


PARTS = {
    "load": measure_load,
    "workers": measure_workers,
    "watching": measure_watching,
    "start": measure_start,
    "change": measure_change,
    "cli": measure_cli,
    "others": others.measure,
}


def parse(words: Sequence[str]) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join([*PARTS, 'postfix'])}; all if none")
    parser.add_argument("--quick", action="store_true", help="one short run of each, tables of 1 k only: does it work?")
    parser.add_argument("--large", action="store_true", help="10 M addresses too (some minutes, and 2 GB)")
    parser.add_argument("--runs", type=int, default=3, help="runs that a median is of (default: 3)")
    parsed = parser.parse_args(words)
    if unknown := {*parsed.parts} - {*PARTS, "postfix"}:
        parser.error(f"no such part: {', '.join(unknown)}")
    return parsed


def main() -> None:
    """Measure the parts that were asked for."""
    asked = parse(sys.argv[1:])
    sizes = (SMALL,) if asked.quick else (SMALL, MILLION, LARGE) if asked.large else (SMALL, MILLION)
    effort = Effort(1 if asked.quick else asked.runs, 1 if asked.quick else 2, sizes)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="policyd-bench-") as name:
        Path(name).chmod(0o755)  # Postfix's processes go through it
        bench = Bench(Path(name))
        try:
            print_machine(effort.runs)
            for name in others.missing():
                print(f"{name} is not installed: left out\n")
            wanted = [measure for part, measure in PARTS.items() if part in (asked.parts or PARTS)]
            if wanted:
                print_pairs(pair for measure in wanted for pair in measure(bench, effort))
            if not asked.parts or "postfix" in asked.parts:
                measure_postfix(bench, effort)
        finally:
            bench.close()


main()
