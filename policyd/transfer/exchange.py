"""Exchange 5.x directory import and export files: octets -> records.

A line is an object: a mailbox, a `dl` (distribution list), a `remote` (a recipient elsewhere), anything else a
connector. Source: Q155414, Q146304, Q152472, Q184536, Q188649, Q244008.
"""

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from policyd.errors import TransferError
from policyd.records import BlockRow, Mode, Notice, Problem, Record, Row
from policyd.transfer.delimited import Fields, read_records
from policyd.transfer.exchange_header import Column, Header, read_header
from policyd.transfer.exchange_row import ObjectRow, Reading
from policyd.transfer.exchange_writer import write
from policyd.transfer.formats import ReadOptions
from policyd.transfer.text import find_encoding, read_lines

__all__ = ["read", "write"]

_EVENT_FIELDS = 291  # a row with more or fewer fields than the header
_CLASS = re.compile(r"[a-z0-9 _-]{1,40}")


def read(stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
    """The records of a directory file in *stream*, which must be seekable.

    What rows mean, where policyd's tables differ from Exchange's directory:

    - The two proxy columns are one list of addresses, so are each list of senders and its `… DL` column. Plain
      values in the first of two columns replace the list (with `is_append`: add to it); in the second alone they
      only add, and clearing the second alone is a problem, because what the first one holds isn't told apart.
    - Plain values in a mailbox's Accept list restrict it to them (`receive = nobody`), `~DEL` lifts that.
    - A connector's Reject list adds its names to the senders blocked to the outside; `~DEL<name>` removes one. Its
      Accept list would block everybody else: a problem, for leaving it out would open what was closed.
    - A `dl` stands for its members wherever it is named, if its Members are in the file. It is a mailbox where it
      has addresses or lists of its own; else it is skipped, as are `remote` objects, whose addresses are elsewhere.

    A row like the header (of files put together) and a row without any text are none.

    Raises TransferError where there is no header, or none of such a file.
    """
    if len(options.multi_separator) != 1 or options.multi_separator in "\\~<>:\r\n":
        raise TransferError(f"{options.multi_separator!a} can't separate values; give one character, not \\ ~ < > or :")
    encoding = find_encoding(stream)
    first = next(_read_fields(stream, encoding, options), None)
    if first is None:
        raise TransferError("the file is empty; an Exchange directory file begins with a header, Obj-Class first")
    if first.problem:
        raise TransferError(f"line {first.line}: the header {first.problem}")
    header, notices = read_header(first.cells, options.multi_separator)
    yield from (Notice(first.line, notice) for notice in notices)
    reading = Reading(header, options, _find_groups(stream, encoding, options, header))
    told: set[str] = set()
    for fields in _read_fields(stream, encoding, options):
        if fields.problem or (fields.cells != first.cells and any(map(str.strip, fields.cells))):
            yield _read_record(fields, reading)
            yield from (Notice(fields.line, notice) for notice in sorted(reading.notices - told))
            told |= reading.notices


def _read_fields(stream: BinaryIO, encoding: str, options: ReadOptions) -> Iterator[Fields]:
    """The records of the file. What did not decode stands as a lone surrogate, which is part of no name or address."""
    for fields in read_records(read_lines(stream, encoding), options.column_separator, options.quote):
        if "\ufffd" in fields.source and not encoding.startswith("utf-8"):
            cells = tuple(cell.replace("\ufffd", "\udcff") for cell in fields.cells)
            yield Fields(fields.line, fields.source, cells, fields.problem)
        else:
            yield fields


def _find_groups(
    stream: BinaryIO, encoding: str, options: ReadOptions, header: Header
) -> Mapping[str, tuple[str, ...]]:
    """The members of each `dl` in the file, by its folded name; nothing where nobody can ask for them."""
    groups: dict[str, tuple[str, ...]] = {}
    lists = (Column.ACCEPT, Column.ACCEPT_DL, Column.REJECT, Column.REJECT_DL)
    if Column.MEMBERS not in header.places or not any(column in header.places for column in lists):
        return groups
    reading = Reading(header, options, groups)
    for fields in _read_fields(stream, encoding, options):
        if len(fields.cells) == len(header.names) and _object_class(fields) == "dl":
            groups.update(ObjectRow(reading, reading.header.read(fields.cells)).group())
    return groups


def _object_class(fields: Fields) -> str:
    return fields.cells[0].strip().lower()


def _read_record(fields: Fields, reading: Reading) -> Record:
    if fields.problem:
        return Record(fields.line, fields.source, problems=(Problem(fields.problem),))
    width = len(reading.header.names)
    if len(fields.cells) != width:
        problem = Problem(f"has {len(fields.cells)} fields, the header has {width}", event=_EVENT_FIELDS)
        return Record(fields.line, fields.source, problems=(problem,))
    row = ObjectRow(reading, reading.header.read(fields.cells))
    rows = _read_object(row, _object_class(fields))
    if row.problems:
        return Record(fields.line, fields.source, problems=tuple(dict.fromkeys(row.problems)))
    return Record(fields.line, fields.source, rows, skipped=tuple(row.skipped))


def _read_object(row: ObjectRow, object_class: str) -> tuple[Row, ...]:
    match object_class:
        case "mailbox":
            return (row.mailbox(),)
        case "dl":
            row.name()
            row.group()
            if row.says_only_members() and row.mode() is not Mode.DELETE:
                row.skipped.append("dl")
                return ()
            return (row.mailbox(),)
        case "remote":
            row.skipped.append("remote")
            return ()
        case "":
            row.complain(Column.OBJ_CLASS, "is empty; it says what kind of object a row is about, such as Mailbox")
            return ()
        case _:
            return _read_connector(row, object_class)


def _read_connector(row: ObjectRow, object_class: str) -> tuple[Row, ...]:
    row.check_name()
    if row.mode() is Mode.DELETE:
        row.complain(Column.MODE, "can't delete a connector here; take names off its Reject list with ~DEL<name>")
    for column in (Column.ACCEPT, Column.ACCEPT_DL):
        part = row.senders(column)
        if part.is_given or part.remove:
            row.complain(
                column, "is a connector's, and would block everybody else; block those with: policyd sender block"
            )
    rows: list[Row] = []
    for column in (Column.REJECT, Column.REJECT_DL):
        part = row.senders(column)
        if part.is_cleared:
            row.complain(column, "is a connector's, and can't be cleared as a whole; name each with ~DEL<name>")
        rows += [BlockRow(sender, to="outside", mode=Mode.DELETE) for sender in part.remove]
        rows += [BlockRow(sender, to="outside") for sender in part.add]
    if not rows:
        row.skipped.append(object_class if _CLASS.fullmatch(object_class) else "other objects")
    return tuple(dict.fromkeys(rows))
