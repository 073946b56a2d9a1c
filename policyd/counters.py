"""Counts what the daemon does, in memory that its processes share: each place has a row that it alone writes.

A row outlives the process that writes it, so that totals stay right when a worker is replaced. `policyd.web.metrics`
shows them. Nothing here is locked: a cell is 64 bits, which the machine writes at once.
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterable
from enum import IntEnum, auto
from typing import NamedTuple, Protocol

from policyd.model import Action, Decision, Request, Rule
from policyd.reply import DEFAULT_TEXTS

# Upper bounds of the histogram, in seconds: an answer takes some ten microseconds where all is well.
SECONDS = (25e-6, 50e-6, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0)

OTHER, INBOUND = "other", "inbound"  # contexts that there always are
CONTEXTS_LIMIT = 64  # with these two
_NAME_BYTES = 128  # of a context's name, with its length before it
_CELL_BYTES = 8


class Outcome(NamedTuple):
    """How a request can end: `would` is `reject` where a refusal was only logged, else ""."""

    rule: Rule
    action: Action
    would: str


def _outcomes_of(rule: Rule) -> list[Outcome]:
    if rule in DEFAULT_TEXTS:
        return [Outcome(rule, Action.REJECT, ""), Outcome(rule, Action.DUNNO, "reject")]
    return [Outcome(rule, Action.DUNNO, "")]


OUTCOMES = tuple(outcome for rule in Rule for outcome in _outcomes_of(rule))
INSIDER_BY = ("login", "network", "context")  # what makes one


class Cell(IntEnum):
    """A number in a row, beside those of decisions; all but the gauges only grow."""

    HUNG_UP_MALFORMED = 0
    HUNG_UP_DATABASE = auto()
    HUNG_UP_TIMEOUT = auto()
    HUNG_UP_LIMIT = auto()
    HUNG_UP_DEFECT = auto()
    LINES_DROPPED = auto()
    LINES_WAITING = auto()  # a gauge
    # What only the parent counts.
    CONNECTIONS = auto()  # a gauge
    CONNECTIONS_LIMIT = auto()  # a gauge
    CONNECTIONS_ACCEPTED = auto()
    CONNECTIONS_REFUSED = auto()
    WORKERS = auto()  # a gauge
    WORKER_RESTARTS = auto()
    SETTINGS_LOADED = auto()  # when, in Unix seconds
    IS_ENFORCING = auto()  # 0 or 1


# A row: the cells, the histogram and the sum of its seconds, and then for each context a cell for each outcome, of
# outsiders, and of insiders by what makes them one: so a decision is one cell.
_BUCKETS = len(Cell)
_SUM = _BUCKETS + len(SECONDS) + 1
_CONTEXTS = _SUM + 1
_OUTSIDER, _LOGIN, _NETWORK, _CONTEXT = (len(OUTCOMES) * index for index in range(1 + len(INSIDER_BY)))
_OF_A_CONTEXT = len(OUTCOMES) * (1 + len(INSIDER_BY))
_ROW = _CONTEXTS + CONTEXTS_LIMIT * _OF_A_CONTEXT

_PERMITTED = {each.rule: index for index, each in enumerate(OUTCOMES) if each.action is Action.DUNNO}
_REFUSED = {(each.rule, each.action): index for index, each in enumerate(OUTCOMES)}


class Durations(NamedTuple):
    """How long decisions took: how many ended up to each of `SECONDS`, and above the last; and all together."""

    counts: tuple[int, ...]
    sum_seconds: float


class Counters(Protocol):
    """What one process counts."""

    def decided(self, request: Request, decision: Decision, seconds: float) -> None:
        """A request was decided, in that time."""

    def add(self, cell: Cell, count: int = 1) -> None:
        """Something happened once more, or *count* times."""

    def set(self, cell: Cell, value: int) -> None:
        """So it is now."""

    def take_contexts(self, insider_contexts: Iterable[str]) -> None:
        """Count under the names that the page has by now; *insider_contexts* is the setting."""


class NoCounters:
    """Counts nothing: nobody would read it."""

    def decided(self, request: Request, decision: Decision, seconds: float) -> None:
        """A request was decided."""

    def add(self, cell: Cell, count: int = 1) -> None:
        """Something happened."""

    def set(self, cell: Cell, value: int) -> None:
        """So it is."""

    def take_contexts(self, insider_contexts: Iterable[str]) -> None:
        """The settings have changed."""


NO_COUNTERS = NoCounters()


class CounterPage:
    """The rows of *places* processes, in memory that each process forked from now on shares.

    Decisions are counted by context: `other`, `inbound`, and those that `add_contexts` was given, which stay for good.
    """

    def __init__(self, places: int, contexts: Iterable[str] = ()) -> None:
        self._names_at = places * _ROW * _CELL_BYTES
        memory = mmap.mmap(-1, self._names_at + _CELL_BYTES + CONTEXTS_LIMIT * _NAME_BYTES)
        self._memory = memoryview(memory)
        cells = self._memory[: self._names_at + _CELL_BYTES]
        self.cells = cells.cast("Q")
        self.seconds = cells.cast("d")  # the same memory: the sums of seconds are no whole numbers
        self._places = places
        self._count_at = places * _ROW
        self.add_contexts([OTHER, INBOUND, *contexts])

    def at(self, place: int, insider_contexts: Iterable[str] = ()) -> "PlaceCounters":
        """The row of one process, for it alone to write."""
        return PlaceCounters(self, place, insider_contexts)

    def add_contexts(self, names: Iterable[str]) -> None:
        """Count these by their names, too; only one process may call this. Where no room is left, they are `other`."""
        known = self.contexts()
        for name in sorted({*names} - {*known}, key=lambda each: (each not in (OTHER, INBOUND), each != OTHER, each)):
            encoded = name.encode("utf-8", "surrogateescape")
            if len(known) == CONTEXTS_LIMIT or len(encoded) >= _NAME_BYTES:
                continue
            first = self._names_at + _CELL_BYTES + len(known) * _NAME_BYTES
            self._memory[first : first + 1 + len(encoded)] = bytes([len(encoded)]) + encoded
            known.append(name)
            self.cells[self._count_at] = len(known)  # last: whoever reads it finds the name

    def contexts(self) -> list[str]:
        """The names, in the order of their cells."""
        found = []
        for index in range(self.cells[self._count_at]):
            first = self._names_at + _CELL_BYTES + index * _NAME_BYTES
            encoded = bytes(self._memory[first + 1 : first + 1 + self._memory[first]])
            found.append(encoded.decode("utf-8", "surrogateescape"))
        return found

    def total(self, cell: Cell) -> int:
        """The sum over all places."""
        return self._sum(cell)

    def decisions(self) -> dict[tuple[Outcome, str], int]:
        """The decisions by outcome and context, of all places together."""
        return {
            (outcome, context): sum(self._sum(first + by + index) for by in range(0, _OF_A_CONTEXT, len(OUTCOMES)))
            for first, context in self._by_context()
            for index, outcome in enumerate(OUTCOMES)
        }

    def insiders(self) -> dict[tuple[str, str], int]:
        """The requests of insiders by what made them one, of `INSIDER_BY`, and by context."""
        return {
            (by, context): sum(self._sum(first + index) for index in range(begin, begin + len(OUTCOMES)))
            for first, context in self._by_context()
            for by, begin in zip(INSIDER_BY, (_LOGIN, _NETWORK, _CONTEXT), strict=True)
        }

    def durations(self) -> Durations:
        """How long decisions took, of all places together."""
        sums = sum(self.seconds[place * _ROW + _SUM] for place in range(self._places))
        return Durations(tuple(self._sum(_BUCKETS + index) for index in range(len(SECONDS) + 1)), sums)

    def _by_context(self) -> Iterable[tuple[int, str]]:
        return ((_CONTEXTS + index * _OF_A_CONTEXT, name) for index, name in enumerate(self.contexts()))

    def _sum(self, cell: int) -> int:
        return sum(self.cells[place * _ROW + cell] for place in range(self._places))


class PlaceCounters:
    """What the process at one *place* of *page* counts."""

    def __init__(self, page: CounterPage, place: int, insider_contexts: Iterable[str]) -> None:
        self._page = page
        self._cells = page.cells[place * _ROW : (place + 1) * _ROW]
        self._seconds = page.seconds[place * _ROW : (place + 1) * _ROW]
        self.take_contexts(insider_contexts)

    def decided(self, request: Request, decision: Decision, seconds: float) -> None:
        """A request was decided, in that time. Trials are not counted: nobody's mail comes with them."""
        if request.is_trial:
            return

        # Which cell, in three looks: what is counted here costs each request its time.
        context = request.policy_context
        at = self._firsts.get(context, _CONTEXTS)
        at += _REFUSED[decision.rule, decision.action] if decision.is_refused else _PERMITTED[decision.rule]
        if decision.is_insider:
            at += _LOGIN if request.sasl_username else _CONTEXT if context in self._insiders else _NETWORK

        self._cells[at] += 1
        self._cells[_BUCKETS + bisect_left(SECONDS, seconds)] += 1
        self._seconds[_SUM] += seconds

    def add(self, cell: Cell, count: int = 1) -> None:
        """Something happened once more, or *count* times."""
        self._cells[cell] += count

    def set(self, cell: Cell, value: int) -> None:
        """So it is now."""
        self._cells[cell] = value

    def take_contexts(self, insider_contexts: Iterable[str]) -> None:
        """Count under the names that the page has by now; *insider_contexts* is the setting."""
        self._insiders = frozenset(insider_contexts)
        names = enumerate(self._page.contexts())
        self._firsts = {name: _CONTEXTS + index * _OF_A_CONTEXT for index, name in names}
