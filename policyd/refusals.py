"""The last refusals, in memory that the daemon's processes share: each place has a ring that it alone writes.

Each is kept as the line that the audit has of it, and read back by `policyd.audit_lines`. Nothing is locked: a slot
has a number, by which whoever reads finds out that it was written over meanwhile.
"""

import mmap
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from typing import NamedTuple

from policyd.address import fold
from policyd.audit_lines import LoggedDecision, read_decision
from policyd.errors import AuditLineError

_SLOT_BYTES = 2048
_HEAD = struct.Struct("=QdQ")  # the number, when in Unix seconds, and how many bytes the line has
_NUMBER = struct.Struct("=Q")
_COUNT_BYTES = _NUMBER.size
_LINE_BYTES = _SLOT_BYTES - _HEAD.size
_PLAIN = re.compile(r"[a-z0-9@._-]+")  # stands in a line as it is, whatever is beside it


class Refused(NamedTuple):
    """A request that was refused, or would have been, and when, in Unix seconds."""

    at: float
    decision: LoggedDecision


class Reach(NamedTuple):
    """How far back the refusals reach: `since` in Unix seconds, None where there is none.

    `kept` are there, of `limit` that may be; `overwritten` were there before.
    """

    since: float | None
    kept: int
    limit: int
    overwritten: int


class RefusalRing:
    """The last *limit* refusals of *places* processes together, in memory that those forked from now on share."""

    def __init__(self, places: int, limit: int) -> None:
        self.slots = max(1, limit // places)  # of each place
        self._places = places
        self._row_bytes = _COUNT_BYTES + self.slots * _SLOT_BYTES
        self._memory = memoryview(mmap.mmap(-1, places * self._row_bytes))

    def at(self, place: int) -> "PlaceRefusals":
        """The ring of one process, for it alone to write."""
        return PlaceRefusals(self._row(place), self.slots)

    def newest(self, texts: Iterable[str] = ()) -> Iterator[Refused]:
        """The refusals, the newest first. One that is written over meanwhile is left out.

        With *texts*, folded, those that may have each of them in a value, and surely all that have: to find a text in
        a line takes a tenth of the time that it takes to read the line.
        """
        pieces = [piece.encode() for text in texts for piece in _PLAIN.findall(text)]
        rows = [self._newest_of(self._row(place), pieces) for place in range(self._places)]
        for at, line in merge(*rows, reverse=True):
            try:
                yield Refused(at, read_decision(line.decode("utf-8", "replace")))
            except AuditLineError:  # a worker was killed while it wrote
                continue

    def reach(self) -> Reach:
        """How far back they reach, whichever place they are in."""
        counts = [_count(self._row(place)) for place in range(self._places)]
        kept = sum(min(count, self.slots) for count in counts)
        full = [place for place, count in enumerate(counts) if count > self.slots]

        # Where a place has lost some, all is there only since its oldest one.
        oldest = [at for place in range(self._places) if (at := self._oldest_of(self._row(place))) is not None]
        whole = [at for place in full if (at := self._oldest_of(self._row(place))) is not None]
        since = max(whole) if whole else min(oldest, default=None)
        return Reach(since, kept, self.slots * self._places, sum(counts) - kept)

    def _row(self, place: int) -> memoryview:
        return self._memory[place * self._row_bytes : (place + 1) * self._row_bytes]

    def _newest_of(self, row: memoryview, pieces: Sequence[bytes]) -> Iterator[tuple[float, bytes]]:
        last = _count(row)
        for number in range(last, max(0, last - self.slots), -1):
            if (found := self._read(row, number, pieces)) is not None:
                yield found

    def _oldest_of(self, row: memoryview) -> float | None:
        last = _count(row)
        for number in range(max(0, last - self.slots) + 1, last + 1):
            if (found := self._read(row, number)) is not None:
                return found[0]
        return None

    def _read(self, row: memoryview, number: int, pieces: Sequence[bytes] = ()) -> tuple[float, bytes] | None:
        """When the one of that *number* was, and its line.

        None where the line can't have all *pieces*, and where another one is in its slot by now.
        """
        first = _slot_at(number, self.slots)
        found, at, length = _HEAD.unpack_from(row, first)
        begin = first + _HEAD.size
        line = bytes(row[begin : begin + min(length, _LINE_BYTES)])
        if pieces and not _may_have(line, pieces):
            return None
        still = _NUMBER.unpack_from(row, first)[0]
        return (at, line) if found == number == still else None


class PlaceRefusals:
    """The refusals of one process, in its *row* of that many *slots*."""

    line_bytes = _LINE_BYTES  # of a line, at most; the audit cuts values of a longer one

    def __init__(self, row: memoryview, slots: int) -> None:
        self._row = row
        self._slots = slots

    def add(self, at: float, line: bytes) -> None:
        """Keep *line*, of `line_bytes` at most, in the place of the oldest one; *at* is in Unix seconds."""
        # While it is written, the slot has no number.
        number = _count(self._row) + 1
        first = _slot_at(number, self._slots)
        _HEAD.pack_into(self._row, first, 0, at, len(line))
        self._row[first + _HEAD.size : first + _HEAD.size + len(line)] = line

        # Now it can be read.
        _NUMBER.pack_into(self._row, first, number)
        _NUMBER.pack_into(self._row, 0, number)


def _count(row: memoryview) -> int:
    """How many were ever written to *row*."""
    return int(_NUMBER.unpack_from(row, 0)[0])


def _slot_at(number: int, slots: int) -> int:
    """Where the slot of the refusal of that *number* begins in a row."""
    return _COUNT_BYTES + (number - 1) % slots * _SLOT_BYTES


def _may_have(line: bytes, pieces: Sequence[bytes]) -> bool:
    """Whether a value in *line* may have each of *pieces*, of plain characters."""
    folded = line.lower() if line.isascii() else fold(line.decode("utf-8", "replace")).encode()
    for piece in pieces:  # all() would take twice the time
        if piece not in folded:
            # In JSON, a code may stand for a character that folds to a plain one.
            return line.startswith(b"{") and b"\\" in line
    return True
