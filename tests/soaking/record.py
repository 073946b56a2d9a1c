"""What was asked and answered beside what the audit says of it: a line for each answer, or it is counted as dropped."""

import re
import threading
from collections import Counter

_LINE = re.compile(r"action=(\w+), (?:would=REJECT, )?rule=.*?, instance=n(\d+), ")
_DROPPED = re.compile(r"dropped=(\d+)")


class Record:
    """Counts, differences, and the answers whose lines have not come yet. Any thread may call it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.differences: list[str] = []
        self._lock = threading.Lock()
        self._last = 0
        self._unlogged: dict[int, str] = {}  # answered; the line is missing so far
        self._unanswered: dict[int, str] = {}  # the line is there; the answer is missing so far
        self._hung_up: set[int] = set()
        self._dropped = 0  # lines, as the audit says, since the last `settle`

    def number(self) -> int:
        """The number of the next question."""
        with self._lock:
            self._last += 1
            self.counts["questions"] += 1
            return self._last

    def answered(self, number: int, action: str) -> None:
        """A question got its answer."""
        word = action.partition(" ")[0]
        with self._lock:
            self.counts["answers"] += 1
            line = self._unanswered.pop(number, None)
            if line is None:
                self._unlogged[number] = word
        if line not in (None, word):
            self.differ(f"question n{number} was answered {word}, and its line says {line}")

    def hung_up(self, number: int = 0) -> None:
        """A connection was closed, before an answer to that question if it isn't 0."""
        with self._lock:
            self.counts["hang-ups"] += 1
            if number and self._unanswered.pop(number, None) is None:
                self._hung_up.add(number)

    def count(self, what: str) -> None:
        """One more of *what*."""
        with self._lock:
            self.counts[what] += 1

    def differ(self, what: str) -> None:
        """Something is not as it must be."""
        with self._lock:
            self.differences.append(what)

    def read(self, lines: list[str]) -> None:
        """Lines of the audit."""
        for line in lines:
            if found := _LINE.match(line):
                self._read_decision(int(found[2]), found[1])
            elif found := _DROPPED.search(line):
                self._dropped += int(found[1])
            elif "internal error" in line or "Traceback" in line:
                self.differ(f"the log says: {line}")

    def _read_decision(self, number: int, word: str) -> None:
        with self._lock:
            self.counts["lines"] += 1
            answered = self._unlogged.pop(number, None)
            if answered is None and number in self._hung_up:
                self._hung_up.discard(number)
            elif answered is None and number in self._unanswered:
                self.differences.append(f"question n{number} has two lines")
            elif answered is None:
                self._unanswered[number] = word
        if answered not in (None, word):
            self.differ(f"question n{number} was answered {answered}, and its line says {word}")

    @property
    def last(self) -> int:
        """The number of the last question."""
        return self._last

    def lacks(self, last: int) -> int:
        """How many lines of questions up to *last* have neither come nor been counted as dropped, so far."""
        with self._lock:
            return sum(number <= last for number in self._unlogged) - self._dropped

    def settle(self, last: int, *, was_killed: bool) -> None:
        """Who was asked up to *last* has ended, and all lines are read: they are there, dropped, or died with it."""
        lacking = self.lacks(last)
        with self._lock:
            missing = [number for number in self._unlogged if number <= last]
            if was_killed:
                self.counts["lines that died"] += max(lacking, 0)
            elif lacking > 0:
                self.differences.append(f"{lacking} answers are not on record, as {missing[:5]}")
            for number in missing:
                del self._unlogged[number]
            self.counts["lines dropped"] += self._dropped
            self._dropped = 0
