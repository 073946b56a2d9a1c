"""Parses LDIF: bytes -> entries and changes, each with what is broken in it. Source: RFC 2849.

The file is cut into records first, so that a broken one spoils no other, problems have line numbers, and photographs
are never held. Only the lines that matter are unfolded and decoded; a URL is never opened.
"""

import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, NamedTuple

from policyd.errors import TransferError
from policyd.records import Notice, Problem
from policyd.transfer.ldif.names import Name, parse_name
from policyd.transfer.text import LINE_LIMIT, Line, find_encoding, read_lines

ACCEPTED = ("authorig", "dlmemsubmitperms")
REJECTED = ("unauthorig", "dlmemrejectperms")
NAMES = ("mailnickname", "uid", "cn")
MEMBERS = ("member", "uniquemember")
OTHERS = ("mail", "proxyaddresses", "othermailbox", "targetaddress", "msexchrequireauthtosendto", "objectclass")


class Operation(StrEnum):
    """What a part of a changetype: modify does with an attribute."""

    ADD = "add"
    DELETE = "delete"
    REPLACE = "replace"


_ATTRIBUTES = frozenset(ACCEPTED + REJECTED + NAMES + MEMBERS + OTHERS)
_TRAILER = frozenset({"search", "result", "ref", "control"})  # what ldapsearch writes beside entries
_KEPT = _ATTRIBUTES | {*Operation} | _TRAILER | {"dn", "version", "changetype", "increment"}

_RECORD_LIMIT = 16 * LINE_LIMIT  # characters of the kept lines of one record; a group of 100 000 members has 10 million
_LINE_COST = 64  # what a kept line takes beside its characters
_PROBLEM_LIMIT = 20  # of one record
_BLANKS = " \t\n\r\v\f"  # around a value; others are its own
_PART = re.compile(r";range=\d+-\d", re.IGNORECASE)  # how Active Directory shortens a list; its last part ends in *
_FIELD = re.compile(r"([a-z0-9][a-z0-9.-]*+)((?:;[^:;]*+)*+):([:<]?)\s*+(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Edit:
    """One part of a changetype: modify. Without values, `delete` and `replace` mean all there are."""

    operation: Operation
    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, or what is wrong with it. Attributes are in lower case, without options, and only those needed.

    `change` is its changetype, "" for a record of content; `values` are an entry's, `edits` a modify's.
    """

    line: int
    source: str
    name: Name = ()
    change: str = ""
    values: dict[str, list[str]] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_entries(stream: BinaryIO, is_wanted: "Callable[[Block], bool] | None" = None) -> Iterator[Entry | Notice]:
    """The records of *stream* from its start, in their order; only those that are wanted.

    Raises TransferError for what isn't LDIF from its first line on.
    """
    encoding = find_encoding(stream)
    for block in _read_blocks(stream, encoding if encoding.startswith("utf") else "utf-8"):
        parsed = _parse_block(block) if is_wanted is None or is_wanted(block) else None
        if parsed is not None:
            yield parsed


@dataclass(slots=True)
class _Line:
    """A line, unfolded, by the number of its beginning."""

    number: int
    pieces: list[str]

    @property
    def text(self) -> str:
        return self.pieces[0] if len(self.pieces) == 1 else "".join(self.pieces)


class _Field(NamedTuple):  # a file has millions: creating one takes a third of a dataclass's time
    """A line taken apart, its value decoded; a `-` stands as a field named so."""

    number: int
    attribute: str
    value: str
    has_options: bool = False


@dataclass(slots=True)
class Block:
    """The lines of a record as they come: all for the file of rejected rows, unfolded those that matter."""

    line: int = 0
    lines: list[_Line] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _source: list[str] = field(default_factory=list)
    _source_size: int = 0
    _size: int = 0
    _kind: str = ""  # of the line that a folded one continues: comment, kept or dropped

    @property
    def source(self) -> str:
        """The record as it stands in the file, "" if that is too long to keep."""
        return "\n".join(self._source) if self._source_size <= LINE_LIMIT else ""

    @property
    def name(self) -> Name:
        """The name of its entry, () where that is broken."""
        try:
            heads = [found for line in self.lines[:2] if (found := _parse_line(line, [])) and found.attribute == "dn"]
            return parse_name(heads[0].value) if heads else ()
        except ValueError:
            return ()

    def mentions(self, attributes: tuple[str, ...]) -> bool:
        """Whether it has one of *attributes*."""
        return any(line.text[:40].lower().startswith(attributes) for line in self.lines)

    def add(self, line: Line) -> None:
        """Take the next line, or note what is wrong with it."""
        is_folded = line.text.startswith(" ")
        if is_folded and not self._kind:
            self._refuse(line.number, "continues no line")
        if not is_folded:
            self._kind = self._kind_of(line.text)
        if self.line or self._kind != "comment":
            self._keep_source(line)
        if self._kind == "kept":
            if is_folded:
                self.lines[-1].pieces.append(line.text[1:])
            else:
                self.lines.append(_Line(line.number, [line.text]))
            self._measure(line)

    def _kind_of(self, text: str) -> str:
        if text.startswith("#"):
            return "comment"
        return "kept" if not self.lines or _matters(text) else "dropped"

    def _keep_source(self, line: Line) -> None:
        self.line = self.line or line.number
        self._source_size += len(line.text) + 1 + LINE_LIMIT * line.is_too_long
        if self._source_size <= LINE_LIMIT:
            self._source.append(line.text)
        else:
            self._source.clear()

    def _measure(self, line: Line) -> None:
        self._size += len(line.text) + _LINE_COST
        if line.is_too_long or self._size > _RECORD_LIMIT:
            self._refuse(line.number, "is too long" if line.is_too_long else "makes the record too long")
            self.lines[-1].pieces.clear()
            del self.lines[1:]
            self._kind, self._size = "dropped", 0

    def _refuse(self, number: int, message: str) -> None:
        if len(self.problems) < _PROBLEM_LIMIT:
            self.problems.append(Problem(f"line {number} {message}"))


def _read_blocks(stream: BinaryIO, encoding: str) -> Iterator[Block]:
    """The records as lines; what stands between them is left out."""
    block, is_first = Block(), True
    for line in read_lines(stream, encoding):
        if line.text:
            block.add(line)
            if is_first and block.line:
                is_first = False
                if not _FIELD.match(line.text):
                    raise TransferError(f"line {line.number} is not LDIF; an LDIF file begins with version: or dn:")
            continue
        if block.line:
            yield block
        block = Block()
    if block.line:
        yield block


def _matters(text: str) -> bool:
    """Whether the line that begins with *text* is needed, or broken, or may be."""
    match = _FIELD.match(text)
    return not match or match[1].lower() in _KEPT or match[3] == "<" or not match[4]


def _parse_block(block: Block) -> Entry | Notice | None:
    """The record of *block*; None where there is none, as in what ldapsearch says at the end."""
    fields = [] if block.problems else [found for line in block.lines if (found := _parse_line(line, block.problems))]
    if fields and fields[0].attribute == "version":
        del fields[0]
    try:
        if block.problems or not fields:
            return Entry(block.line, block.source, problems=tuple(block.problems)) if block.problems else None
        if fields[0].attribute in _TRAILER:
            return _parse_trailer(fields)
        return _parse_record(block, fields)
    except ValueError as error:
        return Entry(block.line, block.source, problems=(Problem(str(error)),))


def _parse_line(line: _Line, problems: list[Problem]) -> _Field | None:
    """The field on *line*; None for one that isn't needed or is broken, which is noted in *problems*."""
    # A line with nothing but a - ends a part of a change.
    text = line.text
    if text.rstrip() == "-":
        return _Field(line.number, "-", "")

    # Any other one is an attribute and its value; only values that are needed are decoded.
    match = _FIELD.fullmatch(text)
    attribute = match[1] if match else ""
    try:
        if not match:
            raise ValueError(f"{text[:60]!a} has no attribute and colon before its value")
        if match[3] == "<":
            raise ValueError(
                f"{attribute} is to be read from a URL, which is never opened; put the value into the file"
            )
        if attribute.lower() not in _KEPT:
            return None
        if _PART.search(match[2]):
            raise ValueError(f"{attribute}{match[2]} is only a part of the values; export all of them")
        value = _decode(attribute, match[4], is_base64=match[3] == ":")
        return _Field(line.number, attribute.lower(), value, bool(match[2]))
    except ValueError as error:
        if len(problems) < _PROBLEM_LIMIT:
            problems.append(Problem(f"line {line.number}: {error}", attribute))
        return None


def _decode(attribute: str, text: str, *, is_base64: bool) -> str:
    """A value, from *text* as it stands on its line. Raises ValueError for what is not base64 or not UTF-8."""
    try:
        content = text.strip(_BLANKS).encode("utf-8", "surrogateescape")
        return (binascii.a2b_base64(content, strict_mode=True) if is_base64 else content).decode("utf-8")
    except UnicodeError as error:
        raise ValueError(f"{attribute} is not UTF-8") from error
    except binascii.Error as error:
        raise ValueError(f"{attribute} is not whole base64") from error


def _parse_trailer(fields: list[_Field]) -> Notice | None:
    results = [found for found in fields if found.attribute == "result"]
    if not results or results[0].value.split(" ")[0] == "0":
        return None
    return Notice(results[0].number, f"the export is not complete: {ascii(results[0].value[:80])[1:-1]}")


def _parse_record(block: Block, fields: list[_Field]) -> Entry:
    """An entry or a change. Raises ValueError, saying what is broken."""
    # A record begins with its one name.
    if fields[0].attribute != "dn":
        raise ValueError(f"line {fields[0].number}: the record does not begin with dn:")
    second = next((found for found in fields[1:] if found.attribute == "dn"), None)
    if second:
        raise ValueError(f"line {second.number}: a second dn: in one record; an empty line is missing before it")

    # Without a changetype, it is an entry.
    fields = [found for found in fields if found.attribute != "control"]
    is_change = len(fields) > 1 and fields[1].attribute == "changetype"
    values = _by_attribute(fields[:2] if is_change else fields)
    name = parse_name(values.pop("dn")[0])
    if not is_change:
        return Entry(block.line, block.source, name, values=values)

    # Else it is a change, whose attributes come after the changetype.
    change = values["changetype"][0].lower()
    if change == "modify":
        return Entry(block.line, block.source, name, change, edits=tuple(_parse_edits(fields[2:])))
    values = _by_attribute(fields[2:]) if change == "add" else {}
    return Entry(block.line, block.source, name, change, values)


def _parse_edits(fields: list[_Field]) -> Iterator[Edit]:
    """The parts of a modify that touch attributes that matter. Raises ValueError for one that is broken."""
    part: list[_Field] = []
    for found in [*fields, _Field(0, "-", "")]:
        if found.attribute != "-":
            part.append(found)
        elif part:
            edit = _parse_edit(*part)
            if edit is not None:
                yield edit
            part = []


def _parse_edit(first: _Field, *others: _Field) -> Edit | None:
    """The part of a modify that *first* begins; None for one that does not matter. Raises ValueError."""
    attribute = first.value.partition(";")[0].lower()
    if first.attribute not in {*Operation, "increment"}:
        raise ValueError(f"line {first.number}: a part of a modify begins with add:, delete: or replace:")
    for other in others:
        if other.attribute != attribute:
            raise ValueError(f"line {other.number}: {other.attribute} in a part of a modify about {attribute}")
    if attribute not in _ATTRIBUTES or first.attribute == "increment":
        return None
    operation = Operation(first.attribute)
    if operation is Operation.ADD and not others:
        raise ValueError(f"line {first.number}: add: {attribute} has no value to add")
    return Edit(operation, attribute, tuple(_by_attribute([*others]).get(attribute, ())))


def _by_attribute(fields: list[_Field]) -> dict[str, list[str]]:
    """The values by attribute, those with a language or other options last. Raises ValueError for a `-` among them."""
    values: dict[str, list[str]] = {}
    for found in sorted(fields, key=lambda found: found.has_options):
        if found.attribute == "-":
            raise ValueError(f"line {found.number}: a - in an entry")
        values.setdefault(found.attribute, []).append(found.value)
    return values
