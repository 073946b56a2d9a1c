"""Splits lines into records of cells, by separators and quotes: what exchange-csv and csv have in common."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from policyd.errors import TransferError
from policyd.transfer.text import LINE_LIMIT, Line, find_encoding, read_lines

QUOTE = '"'
_QUOTED = re.compile(r'"[^"]*"')
_PREFACE = re.compile(r"\"?(?:#TYPE\s.*|sep=(.))\"?", re.IGNORECASE)  # above the header, by PowerShell and by Excel

csv.field_size_limit(LINE_LIMIT)  # the module's own limit is less than the members of a large list take


@dataclass(slots=True)  # not frozen: that costs five times the time, and files have millions
class Fields:
    """One record: the number of its first line, its text without the last line break, its cells.

    With a `problem` there are no cells. `source` is "" where the record is too long to keep.
    """

    line: int
    source: str
    cells: tuple[str, ...]
    problem: str = ""


def read_records(lines: Iterable[Line], separator: str, quote: str) -> Iterator[Fields]:
    """The records of *lines*, in their order; empty lines between records are none.

    A cell that begins with *quote* ends at the next single one: separators and line breaks inside are its own, a
    doubled quote is one. Anywhere else a quote is a character like others. A record of more than `LINE_LIMIT`
    characters is a problem, and reading goes on with the line after.

    A quote that isn't closed ends before the first line that is a whole record by itself, with as many cells as
    the first record has: the record cut short is a problem, the others are read. (So no line inside a quoted cell
    may look like a record of its own. A file of one column, where each line does, is spared.)
    Raises TransferError for separators that can't work.
    Source: RFC 4180 §2; Q146304.
    """
    grammar = _make_grammar(separator, quote)
    width = 0
    rest = iter(lines)
    line = next(rest, None)
    while line is not None:
        if quote in line.text or line.is_too_long:
            fields, line = _read_quoted(line, rest, grammar, width)
        else:
            fields = Fields(line.number, line.text, tuple(line.text.split(separator)))
            line = next(rest, None)
        if fields.source or fields.problem:
            width = width or len(fields.cells)
            yield fields


def read_table(stream: BinaryIO) -> Iterator[Fields]:
    """The records of a table of *stream* from its start; the first is the header, which shows what separates columns.

    What programs write above the header is none.
    """
    lines = read_lines(stream, find_encoding(stream))
    separator = ""
    for line in lines:
        if preface := _PREFACE.fullmatch(line.text):
            separator = preface[1] or separator
        elif line.text:
            yield from read_records(chain((line,), lines), separator or separator_of(line.text), QUOTE)


def is_preface(line: str) -> bool:
    """Whether *line* is none of the table, but what a program writes above its header."""
    return _PREFACE.fullmatch(line) is not None


def separator_of(header: str) -> str:
    """What separates the columns that *header* names."""
    bare = _QUOTED.sub("", header)
    return max(",;\t", key=bare.count)


@dataclass(frozen=True, slots=True)
class _Grammar:
    """`closed` matches cells as far as their quotes are closed, `closing` the same from inside a quoted cell.

    `whole` matches a record that has quotes nowhere but around whole cells.
    """

    separator: str
    quote: str
    closed: re.Pattern[str]
    closing: re.Pattern[str]
    whole: re.Pattern[str]

    def ends_inside(self, text: str, is_inside: bool) -> bool:
        """Whether a quoted cell is still open at the end of *text*, one being open at its start or not."""
        match = (self.closing if is_inside else self.closed).match(text)
        return match is None or match.end() < len(text)

    def split(self, text: str) -> tuple[str, ...]:
        """The cells of a record whose quotes are closed; raises csv.Error."""
        return tuple(next(csv.reader((text,), delimiter=self.separator, quotechar=self.quote, strict=True)))

    def is_record(self, text: str, width: int) -> bool:
        """Whether *text* alone is a record of *width* cells, beyond doubt."""
        if width < 2 or text.count(self.separator) + 1 < width:
            return False
        return self.whole.fullmatch(text) is not None and len(self.split(text)) == width


def _make_grammar(separator: str, quote: str) -> _Grammar:
    if len(separator) != 1 or len(quote) != 1 or separator == quote or not {separator, quote}.isdisjoint("\r\n\0"):
        raise TransferError(
            f"{separator!a} and {quote!a} can't separate and quote columns; give two different characters"
        )
    comma, mark = re.escape(separator), re.escape(quote)
    tail = f"(?:[^{mark}]++|{mark}{mark})*+{mark}"  # possessive throughout: linear
    cell = f"(?:{mark}{tail}[^{comma}]*+|(?!{mark})[^{comma}]*+)"
    more = f"(?:{comma}{cell})*+"
    plain = f"(?:{mark}{tail}|[^{comma}{mark}\r\n]*+)"
    return _Grammar(
        separator,
        quote,
        closed=re.compile(cell + more),
        closing=re.compile(f"{tail}[^{comma}]*+{more}"),
        whole=re.compile(f"{plain}(?:{comma}{plain})*+"),
    )


def _read_quoted(first: Line, rest: Iterator[Line], grammar: _Grammar, width: int) -> tuple[Fields, Line | None]:
    """The record that begins with *first*, and the line after it, None at the end."""
    # Lines are taken until the quote is closed, or one is a record by itself, so that the quote is a mistake.
    taken, size = [first.text], len(first.text)
    is_inside, is_too_long = grammar.ends_inside(first.text, is_inside=False), first.is_too_long
    line = next(rest, None)
    while is_inside and not is_too_long and line is not None and not grammar.is_record(line.text, width):
        taken.append(line.text)
        size += 1 + len(line.text)
        is_inside, is_too_long = grammar.ends_inside(line.text, is_inside=True), line.is_too_long or size > LINE_LIMIT
        line = next(rest, None)

    # What was taken is a record, or something is wrong with it.
    if is_too_long:
        return Fields(first.number, "", (), f"has more than {LINE_LIMIT} characters{_hint(is_inside)}"), line
    source = "\n".join(taken)
    if is_inside:
        return Fields(first.number, source, (), f"has a {grammar.quote} that is not closed"), line
    try:
        return Fields(first.number, source, grammar.split(source)), line
    except csv.Error:
        problem = f"has text after a closing {grammar.quote}; inside a quoted cell a {grammar.quote} is written twice"
        return Fields(first.number, source, (), problem), line


def _hint(is_inside: bool) -> str:
    return "; a quote in it is perhaps not closed" if is_inside else ""
