"""Tells of the wrong rows of a file in the order of their lines, and of a domain that is not managed only once."""

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from policyd.admin.rejects import Rejects
from policyd.records import Problem, Record
from policyd.store.spool import Spool

OnRejected = Callable[[Record, tuple[Problem, ...]], None]


class _Wrong(NamedTuple):
    """A wrong row, and what is wrong with it."""

    line: int
    record: Record
    problems: tuple[Problem, ...]


class WrongRows:
    """Takes wrong rows as they are found, and gives them to *rejects* and *on_rejected* in the order of the file.

    At once, as long as no row before may still turn out to be wrong, and the number of rows need not be known.
    """

    def __init__(self, rejects: Rejects, on_rejected: OnRejected) -> None:
        self._rejects = rejects
        self._on_rejected = on_rejected
        self._runs: list[Spool[_Wrong]] = []  # each in the order of the file
        self._last = 0  # line of the last run
        self._unmanaged: Counter[str] = Counter()
        self._told: set[str] = set()

    def add(self, record: Record, problems: tuple[Problem, ...], *, is_early: bool) -> None:
        """Take a wrong *record*; *is_early* says that one before may still turn out to be wrong."""
        self._unmanaged.update(problem.unmanaged for problem in problems if problem.unmanaged)
        if not (is_early or self._runs or self._unmanaged):
            self._tell(record, problems)
            return
        if not self._runs or record.line < self._last:
            self._runs.append(Spool())
        self._last = record.line
        self._runs[-1].put(_Wrong(record.line, replace(record, rows=()), problems))

    def finish(self) -> None:
        """Tell of those that had to wait."""
        for wrong in heapq.merge(*self._runs, key=lambda each: each.line):
            self._tell(wrong.record, wrong.problems)
        for run in self._runs:
            run.close()

    def _tell(self, record: Record, problems: tuple[Problem, ...]) -> None:
        self._rejects.keep(record)
        self._on_rejected(record, tuple(map(self._in_full, problems)))

    def _in_full(self, problem: Problem) -> Problem:
        """*problem* with the other way out, and with how many rows have it."""
        if not problem.unmanaged:
            return problem
        is_told = problem.unmanaged in self._told
        self._told.add(problem.unmanaged)
        count = self._unmanaged[problem.unmanaged]
        rows = f" ({count} rows)" if count > 1 else ""
        message = f"{problem.message}, or import the file with --add-domains{rows}"
        return replace(problem, message=message, is_told=is_told)
