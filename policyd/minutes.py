"""How many decisions there were of each kind, minute by minute, for a day: samples of counters that only grow.

They are in memory that outlives the process that takes them, as the counters are: nothing is locked.
"""

import mmap
from collections.abc import Iterator, Mapping
from itertools import pairwise

from policyd.counters import OUTCOMES, Outcome

MINUTE = 60
Counts = Mapping[tuple[Outcome, str], int]  # of decisions, by how they ended and in which context
_KEPT = 24 * 60 + 1  # samples: one a minute for a day, and the one before

# How many were ever taken, and then rows, each of a time and a count for each outcome; one more row than are shown, so
# that nobody reads the one that is being written.
_ROW = 1 + len(OUTCOMES)
_ROWS = _KEPT + 1
_CELL_BYTES = 8


class Minutes:
    """The counters as they were each minute of the last day, in memory that those forked from now on share.

    One process at a time may `sample`. Nothing is before the first sample.
    """

    def __init__(self) -> None:
        self._cells = memoryview(mmap.mmap(-1, (1 + _ROWS * _ROW) * _CELL_BYTES)).cast("Q")

    @property
    def since(self) -> int | None:
        """When the first sample that is kept was taken, in Unix seconds."""
        at, _ = next(self._samples(), (None, {}))
        return at

    def sample(self, now: int, counts: Counts) -> None:
        """The counters are so at *now*, in Unix seconds; to be called once a minute, and by a new process at its start.

        A sample soon after the last one is left out. A clock that was set back begins anew.
        """
        taken = self._cells[0]
        last = self._cells[_row_at(taken)] if taken else 0
        if taken and 0 <= now - last < MINUTE // 2:
            return
        if taken and now < last:
            taken = self._cells[0] = 0

        # It is counted when it is there.
        sums = by_outcome(counts)
        begin = _row_at(taken + 1)
        self._cells[begin] = now
        for index, outcome in enumerate(OUTCOMES, 1):
            self._cells[begin + index] = sums.get(outcome, 0)
        self._cells[0] = taken + 1

    def per_span(self, now: int, counts: Counts, span: int, spans: int) -> dict[Outcome, list[int]]:
        """The decisions of each outcome in the last *spans* spans of so many seconds, the oldest first.

        The counters are as *counts* say at *now*, in Unix seconds. What happened between two samples counts where the
        later one was taken.
        """
        begin = now - span * spans
        series: dict[Outcome, list[int]] = {}
        for (_, before), (at, after) in pairwise([*self._samples(), (now, by_outcome(counts))]):
            index = (at - begin - 1) // span
            if not 0 <= index < spans:
                continue
            for outcome, count in after.items():
                bars = series.setdefault(outcome, [0] * spans)
                bars[index] += max(0, count - before.get(outcome, 0))
        return series

    def _samples(self) -> Iterator[tuple[int, dict[Outcome, int]]]:
        """Those that are kept, the oldest first."""
        taken = self._cells[0]
        for number in range(max(0, taken - _KEPT) + 1, taken + 1):
            at, *sums = self._cells[_row_at(number) : _row_at(number) + _ROW]
            yield at, dict(zip(OUTCOMES, sums, strict=True))


def by_outcome(counts: Counts) -> dict[Outcome, int]:
    """The same, whatever the context was."""
    sums: dict[Outcome, int] = {}
    for (outcome, _), count in counts.items():
        sums[outcome] = sums.get(outcome, 0) + count
    return sums


def _row_at(number: int) -> int:
    """Where the row of the sample of that *number*, from 1, begins."""
    return 1 + (number - 1) % _ROWS * _ROW
