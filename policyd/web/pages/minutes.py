"""How many decisions there were of each kind, minute by minute, for a day: samples of counters that only grow. Pure."""

from collections import deque
from collections.abc import Mapping
from itertools import pairwise

from policyd.counters import Outcome

MINUTE = 60
Counts = Mapping[tuple[Outcome, str], int]  # of decisions, by how they ended and in which context
_KEPT = 24 * 60 + 1  # samples: one a minute for a day, and the one before


class Minutes:
    """The counters as they were each minute of the last day; nothing before the first `sample`."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, dict[Outcome, int]]] = deque(maxlen=_KEPT)

    @property
    def since(self) -> int | None:
        """When the first sample that is kept was taken, in Unix seconds."""
        return self._samples[0][0] if self._samples else None

    def sample(self, now: int, counts: Counts) -> None:
        """The counters are so at *now*, in Unix seconds; to be called once a minute.

        A clock that was set back begins anew.
        """
        if self._samples and now < self._samples[-1][0]:
            self._samples.clear()
        self._samples.append((now, by_outcome(counts)))

    def per_span(self, now: int, counts: Counts, span: int, spans: int) -> dict[Outcome, list[int]]:
        """The decisions of each outcome in the last *spans* spans of so many seconds, the oldest first.

        The counters are as *counts* say at *now*, in Unix seconds. What happened between two samples counts where the
        later one was taken.
        """
        begin = now - span * spans
        series: dict[Outcome, list[int]] = {}
        for (_, before), (at, after) in pairwise([*self._samples, (now, by_outcome(counts))]):
            index = (at - begin - 1) // span
            if not 0 <= index < spans:
                continue
            for outcome, count in after.items():
                bars = series.setdefault(outcome, [0] * spans)
                bars[index] += max(0, count - before.get(outcome, 0))
        return series


def by_outcome(counts: Counts) -> dict[Outcome, int]:
    """The same, whatever the context was."""
    sums: dict[Outcome, int] = {}
    for (outcome, _), count in counts.items():
        sums[outcome] = sums.get(outcome, 0) + count
    return sums
