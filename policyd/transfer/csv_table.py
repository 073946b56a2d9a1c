"""csv: our own columns, with a header, as `policyd export` writes them and people make them in a spreadsheet.

The columns, in any order and case, each optional: `kind` (domain, group, mailbox, blocked), `mode` (create, modify,
update, delete), and the others of `COLUMNS`. Without a `kind`, a row that has a `sender` (in a file without the column
`kind`: each row, if there is the column `sender`) is about a blocked sender, any other about a mailbox. `address` is
one address, added to those there are, where `addresses` are all of them. A file with the very columns that the first
edition wrote is its export: mailboxes in it that receive from `anyone` are those that are not restricted.

- An empty cell leaves its field as it is, `-` empties it. (A text that is a `-` is written `\\-`.)
- Lists have blanks between; what has a blank itself is quoted: `"john doe"@example.com`, `"group:All Staff"`.
- Times are ISO 8601, local unless they say, or Unix seconds.
- A cell that a spreadsheet would take for a formula is written with a `'` in front, which is not read: before
  `=`, `+`, `-`, `@`, a tab, and a `'` of its own, but not before the lone `-`.
- Columns are separated by comma, semicolon or tab, whichever the header has.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from policyd.errors import AddressError, TransferError
from policyd.model import Party
from policyd.records import Notice, Problem, Record
from policyd.timestamps import show_utc
from policyd.transfer.cells import EMPTIED, TEXTS, Split, guarded, list_cell, read_cell, text_cell, unguarded
from policyd.transfer.columns import is_left_out, key_of, leave_out
from policyd.transfer.delimited import Fields, is_preface, read_table, separator_of
from policyd.transfer.directory_columns import is_header
from policyd.transfer.fields import (
    BOTH,
    KEYS,
    LISTS,
    Kind,
    Parse,
    as_in_first_edition,
    make_record,
    objects,
    refuse,
)
from policyd.transfer.formats import Evidence, ExportedTables, Format, ReadOptions, Sample
from policyd.transfer.values import CellError, list_word, quote_in_file, split_list, split_words, written

KINDS = (Kind.DOMAIN, Kind.GROUP, Kind.MAILBOX, Kind.BLOCKED)
COLUMNS = (
    "kind",
    "name",
    "mode",
    "addresses",
    "receive",
    "accept",
    "reason",
    "until",
    "comment",
    "unlisted",
    "sender",
    "to",
    "except",
    "created_at",
    "created_by",
    "members",  # the first edition had none of these
    "alias_of",
    "except_sender",
)
NAMING = frozenset({"name", "address", "addresses", "sender"})  # one of these a file must have

_KNOWN = frozenset({*COLUMNS, "address"})
_SPELLED = {key_of(name): name for name in _KNOWN}
_WRITTEN = tuple(each for each in COLUMNS if each != "mode")
_FIRST_EDITION = _WRITTEN[: _WRITTEN.index("members")]
_CHUNK = 64 * 1024  # characters


def read(stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
    """The records of *stream*, after notices about its header. Raises TransferError where that isn't ours.

    A directory's table is one by its header: `policyd.transfer.directory_csv`.
    """
    # The header says what the columns are, and whose file it is.
    records = read_table(stream)
    fields = next(records, Fields(1, "", ()))
    if is_header(fields.cells):
        from policyd.transfer import directory_csv  # which loads much, and few files need it

        yield from directory_csv.read(stream, options)
        return
    header = _read_header(fields)
    yield from header.notices

    # Each other row is a record; rows of nothing but separators are none.
    for fields in records:
        if fields.problem:
            yield Record(fields.line, fields.source, problems=(Problem(f"this row {fields.problem}"),))
        elif any(fields.cells):
            yield _read_row(fields, header, options.domain)


def write(tables: ExportedTables, lost: Counter[str]) -> Iterator[str]:
    """The file, in pieces; nothing is lost."""
    del lost
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_WRITTEN)
    for said in objects(tables):
        writer.writerow([guarded(_cell(column, said[column])) if column in said else "" for column in _WRITTEN])
        if text.tell() > _CHUNK:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def recognize(sample: Sample) -> Evidence:
    """By its header: one column that a file must have, and most of the others known, or nobody's business."""
    header = next((line for line in sample.lines if not is_preface(line)), "")
    cells = [cell.strip().strip('"') for cell in header.split(separator_of(header))]
    names = read_columns(cells)
    if any("@" in name for name in names):
        return Evidence.NONE
    # A list of mailboxes' names could begin with the name `name`; nothing can tell the two apart.
    known = sum(name in _KNOWN or is_left_out(name) for name in names)
    is_ours = not NAMING.isdisjoint(names) and known * 2 >= len(names)
    return Evidence.HEADER if is_ours or is_header(cells) else Evidence.NONE


FORMAT = Format(read, write, recognize, has_header=True, has_all=True)


def read_columns(cells: Sequence[str]) -> tuple[str, ...]:
    """The names of columns in a header's cells: ours as we write them, others as they are compared."""
    return tuple(_SPELLED.get(key_of(cell), cell.strip().lower()) for cell in cells)


_Column = tuple[int, str, str, Parse]  # its index, its name, the attribute of the row, what reads its cells


@dataclass(frozen=True, slots=True)
class _Header:
    """What the header says: the columns for each kind of row, and notices about those left out.

    `kind_at` is the index of the column `kind`, or -1; `sender_at` likewise. `width` is the number of all columns.
    `is_first_edition`: it is the header of an export of the first edition.
    """

    columns: Mapping[Kind, tuple[_Column, ...]]
    kind_at: int
    sender_at: int
    width: int
    notices: tuple[Notice, ...]
    is_first_edition: bool

    def kind_of(self, cells: Sequence[str]) -> Kind:
        """The kind of the row with *cells*. Raises CellError where it isn't one."""
        if self.kind_at < 0:
            return Kind.MAILBOX if self.sender_at < 0 else Kind.BLOCKED
        kind = cells[self.kind_at].strip().lower()
        if not kind:
            return Kind.BLOCKED if self.sender_at >= 0 and cells[self.sender_at].strip() else Kind.MAILBOX
        if kind not in KINDS:
            raise CellError(f"{kind[:100]!a} is none of {', '.join(KINDS)}")
        return Kind(kind)


def _read_header(fields: Fields) -> _Header:
    # The first line must name columns of ours.
    names = read_columns(fields.cells)
    if fields.problem or NAMING.isdisjoint(names):
        raise TransferError(
            "the first line does not name the columns of policyd's own csv, of which name, addresses, address or sender"
            " must be there; if the file is another format, say which with --format"
        )

    # What is there twice, and what is nobody's business here, is left out, and that is said.
    used, notices, others = [], [], []
    for index, name in enumerate(names):
        if name in _KNOWN and name in names[:index]:
            notices.append(Notice(fields.line, f"the column {name} is there twice; the first counts"))
        elif name in _KNOWN:
            used.append(index)
        else:
            others.append(fields.cells[index].strip())
    notices += leave_out(fields.line, others, COLUMNS)

    # What a column means depends on the kind of the row. The first edition did not quote commas in a list.
    split = split_words if names == _FIRST_EDITION else split_list
    return _Header(
        {
            kind: tuple(_column(kind, index, names[index], split) for index in used if names[index] != "kind")
            for kind in KINDS
        },
        names.index("kind") if "kind" in names else -1,
        names.index("sender") if "sender" in names else -1,
        len(names),
        tuple(notices),
        names == _FIRST_EDITION,
    )


def _column(kind: Kind, index: int, name: str, split: Split) -> _Column:
    attribute, parse = KEYS[kind].get(name, ("", refuse))
    if parse is not refuse:
        parse = read_cell(name, parse, split)
    return index, name, attribute, parse


def _read_row(fields: Fields, header: _Header, domain: str) -> Record:
    # A row may be shorter than the header, as some programs leave empty cells at the end out.
    cells = fields.cells
    if len(cells) != header.width:
        if any(cells[header.width :]):
            problem = f"this row has {len(cells)} cells, the header {header.width}"
            return Record(fields.line, fields.source, (), (Problem(problem),))
        cells += ("",) * (header.width - len(cells))

    # The kind of the row says what its cells mean.
    try:
        kind = header.kind_of(cells)
    except CellError as error:
        return Record(fields.line, fields.source, (), (Problem(str(error), "kind"),))

    # Each cell that isn't empty is read; all that is wrong with the row is reported.
    found: dict[str, Any] = {}
    problems = []
    for index, name, attribute, parse in header.columns[kind]:
        cell = unguarded(cells[index].strip())
        if cell:
            try:
                if attribute in found:
                    raise CellError(BOTH)
                found[attribute] = parse(cell, domain)
            except (AddressError, CellError) as error:
                problems.append(Problem(str(error), name))
    record = make_record(fields.line, fields.source, kind, found, problems)
    return as_in_first_edition(record) if header.is_first_edition else record


def _cell(column: str, value: Any) -> str:
    """The cell of *column* with a *value* of an object."""
    if column in LISTS:
        return list_cell([list_word(each) if isinstance(each, Party) else quote_in_file(each) for each in value])
    if column in TEXTS:
        return text_cell(value)
    if column in ("until", "created_at"):
        return EMPTIED if value is None else show_utc(value)
    return written(value) if isinstance(value, Party) else str(value)
