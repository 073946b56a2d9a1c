"""Lays out a list for people: aligned columns that fit a terminal. Pure.

Text is wrapped at blanks, and a column that doesn't fit stands in a further line. No word is broken: an address in two
parts can be neither read nor copied.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

_GAP = "  "
_INDENT = "    "  # in front of the columns in further lines
_PROSE = 24  # cells that a column of text has at least, rather than a word in each line
_AT_ONCE = 10_000  # rows that are aligned with one another: of more, the rest need not be known to show the first

# A word is an address with its quotes, or what has no blank in it.
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"@\S+|\S+')


@dataclass(slots=True)
class _Column:
    """A column of a table, by its *position* in the rows; sizes are in cells of a terminal."""

    position: int
    natural: int  # the widest of its values
    narrowest: int
    width: int = 0


def table(
    rows: Iterable[Sequence[str]],
    headings: Sequence[str],
    width: int,
    *,
    wrapped: frozenset[str] = frozenset(),
    emphasize: Callable[[str], str] = str,
) -> Iterator[str]:
    """The lines of a table, whose lines have at most *width* cells where its words allow it.

    Values of the columns *wrapped* are wrapped first, others only where they alone are wider than that.
    """
    remaining = iter(rows)
    some = [*islice(remaining, _AT_ONCE)]
    lines = _columns_in_lines(some, headings, width, wrapped)
    yield from map(emphasize, _lines_of(headings, lines))
    while some:
        yield from (line for row in some for line in _lines_of(row, lines))
        if some := [*islice(remaining, _AT_ONCE)]:
            lines = _columns_in_lines(some, headings, width, wrapped)


def _columns_in_lines(
    rows: Sequence[Sequence[str]], headings: Sequence[str], width: int, wrapped: frozenset[str]
) -> list[list[_Column]]:
    """The columns that stand side by side, for each of the lines that a row has at least."""
    columns = [
        _column(position, heading, (row[position] for row in rows), width, heading in wrapped)
        for position, heading in enumerate(headings)
    ]
    if sum(each.natural for each in columns) + len(_GAP) * (len(columns) - 1) <= width:
        for each in columns:
            each.width = each.natural
        return [columns]

    # What says nothing of any row gives way first.
    lines: list[list[_Column]] = [[]]
    for column in columns:
        if column.position and rows and not any(row[column.position] for row in rows):
            continue
        if lines[-1] and _spare([*lines[-1], column], width, len(lines)) < 0:
            lines.append([])
        lines[-1].append(column)

    # What is left of each line goes to those columns that need it, the most modest ones first.
    for number, line in enumerate(lines, start=1):
        spare = max(_spare(line, width, number), 0)
        for position, column in enumerate(sorted(line, key=lambda each: each.natural - each.narrowest)):
            more = min(spare // (len(line) - position), column.natural - column.narrowest)
            column.width = min(column.narrowest + more, max(width - len(_INDENT), 1))
            spare -= more
    return lines


def _column(position: int, heading: str, values: Iterable[str], width: int, is_wrapped: bool) -> _Column:
    values = {heading, *values}
    natural = max(map(_width, values))
    if not is_wrapped and natural <= width:
        return _Column(position, natural, natural)
    longest_word = max((_width(word) for value in values for word in _WORD.findall(value)), default=0)
    return _Column(position, natural, max(longest_word, min(natural, _PROSE, width - len(_INDENT))))


def _spare(line: Sequence[_Column], width: int, number: int) -> int:
    """How many cells are left in the line with this *number* of a row, from 1, if each column is at its narrowest."""
    taken = sum(each.narrowest for each in line) + len(_GAP) * (len(line) - 1)
    return width - taken - (len(_INDENT) if number > 1 else 0)


def _lines_of(row: Sequence[str], lines: Sequence[Sequence[_Column]]) -> Iterator[str]:
    """The lines of one row; a further line in which nothing stands is left out."""
    for number, columns in enumerate(lines):
        indent = _INDENT if number else ""
        for parts in zip_longest(*(_wrapped(row[each.position], each.width) for each in columns), fillvalue=""):
            text = _GAP.join(map(_padded, parts, (each.width for each in columns))).rstrip()
            if text or not indent:
                yield indent + text


def _wrapped(value: str, width: int) -> list[str]:
    """*value* in parts of at most *width* cells, but for longer words."""
    if _width(value) <= width:
        return [value]
    parts = [""]
    for word in _WORD.findall(value):
        if parts[-1] and _width(parts[-1]) + 1 + _width(word) > width:
            parts.append("")
        parts[-1] += f" {word}" if parts[-1] else word
    return parts


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """How many cells *text* takes: two for the letters of East Asia, none for a mark over another letter."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
