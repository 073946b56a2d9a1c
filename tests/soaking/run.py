"""One soak: the first half with restarts, the second in one life of the daemon, whose memory must stay flat."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from tests.oracle.model import Restriction, fold
from tests.soaking.drill import Drill
from tests.soaking.expected import World
from tests.soaking.faults import FAULTS, RESTARTS, end_and_start
from tests.soaking.load import PACES, Load
from tests.soaking.record import Record
from tests.support.processes import descriptors, kibibytes
from tests.support.running_daemon import Daemon
from tests.support.waiting import until

_FAULT_SHARE = 0.15  # of the operations
_TELL_SECONDS = 10.0
_FLAT_KIBIBYTES = 12_000  # a life's caches and what waits for syslog, in each of two workers
_PAUSE_SECONDS = 0.1  # between two operations, at most

Say = Callable[[str], None]


def soak(folder: Path, seconds: float, seed: str, smtpds: int, say: Say) -> Record:
    """Soak a daemon in *folder*; everything that is not as it must be is among the record's differences."""
    with Daemon(folder) as daemon:
        drill = Drill(daemon)
        drill.write_settings()
        drill.start()
        operations = Operations(drill, seed, say)
        try:
            with _load(drill, smtpds, f"{seed} first") as load:
                operations.run(seconds / 2, load, may_restart=True)
            if not drill.record.differences:
                _soak_one_life(operations, seconds / 2, lambda: _load(drill, smtpds, f"{seed} last"))
            if not drill.record.differences:
                _check_tables(drill)
        except AssertionError as error:
            drill.record.differ(f"operation {operations.count}: {error}")
        finally:
            drill.probe.close()
    return drill.record


class Operations:
    """Commands and faults, one after the other, the same for the same *seed*."""

    def __init__(self, drill: Drill, seed: str, say: Say) -> None:
        self.drill = drill
        self.count = 0
        self._seed = seed
        self._say = say
        self._begun = self._told = time.monotonic()

    def run(self, seconds: float, load: Load, *, may_restart: bool) -> list[int]:
        """Do them for so long, or until something differs; what memory the daemon used after each, in KiB."""
        used = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.drill.record.differences:
            self._next(load, may_restart=may_restart)
            used.append(kibibytes(self.drill.pid))
        return used

    def _next(self, load: Load, *, may_restart: bool) -> None:
        """Do the next one; restarts are left out where they may not be."""
        self.count += 1
        random = Random(f"{self._seed} {self.count}")
        if random.random() < 0.1:
            load.pace = random.choice(PACES)
        if random.random() < _FAULT_SHARE:
            fault = random.choice(FAULTS)
            if may_restart or fault not in RESTARTS:
                fault(self.drill, random)
                self.drill.record.count(f"of {fault.__name__}")
                self.drill.record.count("faults")
        else:
            self.drill.command(random)
        self.drill.read_log()
        if time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            self._say(self._summary())
        time.sleep(random.random() * _PAUSE_SECONDS)

    def _summary(self) -> str:
        counts = self.drill.record.counts
        told = [f"{counts[name]} {name}" for name in ("questions", "answers", "hang-ups", "commands", "faults")]
        differences = len(self.drill.record.differences)
        return f"{self._told - self._begun:5.0f} s: {', '.join(told)}, {differences} differences"


@contextmanager
def _load(drill: Drill, smtpds: int, seed: str) -> Iterator[Load]:
    """In the block, that many smtpds ask."""
    load = Load(str(drill.daemon.socket), drill.timeline, drill.record, smtpds, seed)
    try:
        yield load
    finally:
        load.stop()


def _soak_one_life(operations: Operations, seconds: float, load: Callable[[], AbstractContextManager[Load]]) -> None:
    """Operations that leave the daemon alive, from its first connection to its last; then SIGTERM."""
    drill = operations.drill
    drill.probe.close()
    end_and_start(drill, was_killed=False)
    at_rest = descriptors(drill.pid) + drill.workers  # the log's index, which the second turn opens in each
    with load() as asking:
        used = operations.run(seconds, asking, may_restart=False)
    drill.probe.close()
    _must_be_flat(drill, used, at_rest)
    last = drill.record.last
    drill.stop()
    drill.settle(last, was_killed=False)


def _must_be_flat(drill: Drill, used: list[int], at_rest: int) -> None:
    """The least of the last quarter against the least of the second: the first is for warming up."""
    quarter = len(used) // 4 or 1
    early, late = min(used[quarter : 2 * quarter] or used), min(used[-quarter:])
    drill.record.counts["KiB early"], drill.record.counts["KiB late"] = early, late
    if late - early > _FLAT_KIBIBYTES:
        drill.record.differ(f"the daemon's memory grew from {early} to {late} KiB")
    until(lambda: descriptors(drill.pid) <= at_rest, f"no more than {at_rest} descriptors")
    drill.record.counts["descriptors early"], drill.record.counts["descriptors late"] = at_rest, descriptors(drill.pid)


def _check_tables(drill: Drill) -> None:
    """The tables are sound, and hold what the model holds."""
    for words, expected in _listed(drill.timeline.world).items():
        rows = [row for each in words for row in json.loads(drill.daemon.command("--json", *each.split()))]
        held = [{name: row[name] for name in expected[0]} for row in rows] if expected else rows
        if _in_order(held) != _in_order(expected):
            drill.record.differ(f"{' and '.join(words)} at the end: {_in_order(held)}, not {_in_order(expected)}")
    drill.daemon.command("database", "check")


Row = dict[str, Any]


def _listed(world: World) -> dict[tuple[str, ...], list[Row]]:
    """What commands list together, with the columns that the model knows."""

    def restricted(restriction: Restriction) -> Row:
        told = {"receive": restriction.receive, "accept": restriction.accepted}
        return {**told, "reason": restriction.reason, "until": restriction.until}

    domains = [
        {"name": name, "unlisted": each.unlisted, "alias_of": each.alias_of or None, **restricted(each.restriction)}
        for name, each in world.domains.items()
    ]
    groups = [
        {"name": each.name, "members": each.members, **restricted(each.restriction)} for each in world.groups.values()
    ]
    mailboxes = [
        {"name": each.name, "addresses": each.addresses, **restricted(each.restriction)}
        for each in world.mailboxes.values()
    ]
    entries = [
        {"sender": each.who, "to": each.to, "reason": each.reason, "until": each.until}
        | {"except": each.except_recipients, "except_sender": each.except_senders}
        for each in world.entries
    ]
    return {
        ("domain list",): domains,
        ("group list",): groups,
        ("mailbox list",): mailboxes,
        ("sender list", "sender list --expired"): entries,
    }


def _in_order(rows: list[Row]) -> list[str]:
    """The rows as text, in no matter which order they and their lists are; of addresses, the first is the primary."""
    texts = []
    for row in rows:
        lists = {name: sorted(map(fold, each)) for name, each in row.items() if isinstance(each, list)}
        texts.append(fold(json.dumps({**row, **lists, "primary": row.get("addresses", [])[:1]}, sort_keys=True)))
    return sorted(texts)
