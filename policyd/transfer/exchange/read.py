"""Reads Exchange 5.x directory import and export files: bytes -> records.

A line is an object: a mailbox, a `dl` (distribution list), a `remote` (a recipient elsewhere), anything else a
connector. Source: Q155414, Q146304, Q152472, Q184536, Q188649, Q244008.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, TypeVar

from policyd.address import fold, is_group, normal_group, normal_name
from policyd.errors import AddressError, TransferError
from policyd.model import GROUP_PREFIX, OUTSIDE, Party, PartyKind, Receive
from policyd.records import KEEP, BlockRow, GroupRow, Keep, ListEdit, MailboxRow, Notice, Problem, Record, Row, RowMode
from policyd.transfer.delimited import Fields, read_records
from policyd.transfer.exchange.cells import Cell, Part, common_name, is_delete, read_cell, read_proxies, unescape
from policyd.transfer.exchange.header import NAMING, Column, Header, read_header
from policyd.transfer.formats import Evidence, ReadOptions, Sample
from policyd.transfer.text import find_encoding, read_lines
from policyd.transfer.values import CellError

T = TypeVar("T")

_EVENT_FIELDS = 291  # a row with more or fewer fields than the header
_CLASS = re.compile(r"[a-z0-9 _-]{1,40}")
_HEADER = re.compile(r"\s*\"?\s*obj-class\s*(?:\W|$)", re.IGNORECASE)
_NOTHING = Part()
_NO_PROXIES: tuple[Part, tuple[str, ...]] = (_NOTHING, ())
_LISTS = frozenset(
    {
        Column.PROXIES,
        Column.SECONDARY_PROXIES,
        Column.ACCEPT,
        Column.ACCEPT_DL,
        Column.REJECT,
        Column.REJECT_DL,
    }
)
_SENDERS = (Column.ACCEPT, Column.ACCEPT_DL, Column.REJECT, Column.REJECT_DL)
_MODES = ", ".join(mode.value.capitalize() for mode in RowMode)


def read(stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
    """The records of a directory file in *stream*, which must be seekable.

    What rows mean, where policyd's tables differ from Exchange's directory:

    - The two proxy columns are one list of addresses, so are each list of senders and its `… DL` column. Plain
      values in the first of two columns replace the list (with `is_append`: add to it); in the second alone they
      only add, and clearing the second alone is a problem, because nobody knows which of the values stand in the first.
    - Plain values in a mailbox's Accept list restrict it to them (`receive = nobody`), `~DEL` lifts that.
    - A connector's Reject list adds its names to the senders blocked to the outside; `~DEL<name>` removes one. Its
      Accept list would block everybody else: a problem, for leaving it out would open what was closed.
    - A `dl` that is named by one of these lists, or is in such a one, is a group of its name, with the Members that the
      file must have. It is a mailbox where it has addresses or lists of its own; what is neither is skipped, as are
      `remote` objects, whose addresses are elsewhere.

    A row like the header (of files put together) and a row without any text are none.

    Raises TransferError where there is no header, or none of such a file.
    """
    if len(options.multi_separator) != 1 or options.multi_separator in "\\~<>:\r\n":
        raise TransferError(f"{options.multi_separator!a} can't separate values; give one character, not \\ ~ < > or :")

    # The header says what the columns are.
    encoding = find_encoding(stream)
    first = next(_read_fields(stream, encoding, options), None)
    if first is None:
        raise TransferError("the file is empty; an Exchange directory file begins with a header, Obj-Class first")
    if first.problem:
        raise TransferError(f"line {first.line}: the header {first.problem}")
    header, notices = read_header(first.cells, options.multi_separator)
    yield from (Notice(first.line, notice) for notice in notices)

    # Each dl that is named is found first: a row above it may name it.
    reading = Reading(header, options, _find_lists(stream, encoding, options, header))

    # Then each row is read, but for those that repeat the header and those without text.
    reported: set[str] = set()
    for fields in _read_fields(stream, encoding, options):
        if fields.problem or (fields.cells != first.cells and any(map(str.strip, fields.cells))):
            yield _read_record(fields, reading)
            yield from (Notice(fields.line, notice) for notice in sorted(reading.notices - reported))
            reported |= reading.notices


def recognize(sample: Sample) -> Evidence:
    """By the first column of its header."""
    return Evidence.HEADER if _HEADER.match(sample.lines[0]) else Evidence.NONE


def _read_fields(stream: BinaryIO, encoding: str, options: ReadOptions) -> Iterator[Fields]:
    """The records of the file. What did not decode stands as a lone surrogate, which is part of no name or address."""
    for fields in read_records(read_lines(stream, encoding), options.column_separator, options.quote):
        if "\ufffd" in fields.source and not encoding.startswith("utf-8"):
            cells = tuple(cell.replace("\ufffd", "\udcff") for cell in fields.cells)
            yield Fields(fields.line, fields.source, cells, fields.problem)
        else:
            yield fields


def _find_lists(
    stream: BinaryIO, encoding: str, options: ReadOptions, header: Header
) -> Mapping[str, "DistributionList"]:
    """Each `dl` in the file with its members, by its folded name, and whether it is named by somebody's list."""
    lists: dict[str, DistributionList] = {}
    if Column.MEMBERS not in header.places or not any(column in header.places for column in _SENDERS):
        return lists

    # First the lists, then those of them that are named, and then the lists in those.
    reading = Reading(header, options, lists)
    for fields in _read_fields(stream, encoding, options):
        if len(fields.cells) == len(header.names) and _object_class(fields) == "dl":
            lists.update(ObjectRow(reading, header.read(fields.cells)).members())
    waiting: list[str] = []
    for fields in _read_fields(stream, encoding, options) if lists else ():
        if len(fields.cells) == len(header.names):
            row = ObjectRow(reading, header.read(fields.cells))
            waiting += [name for column in _SENDERS if column in row.said for name in row.named(column)]
    while waiting:
        found = lists.get(fold(waiting.pop()))
        if found is not None and not found.is_named:
            found.is_named = True
            waiting += found.members
    return lists


def _object_class(fields: Fields) -> str:
    return fields.cells[0].strip().lower()


@dataclass(slots=True)
class DistributionList:
    """A dl with its members, by their names; one that is named by somebody's list becomes a group."""

    name: str
    members: tuple[str, ...]
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rows of a file have in common.

    `lists` has each dl with members, by its folded name; `notices` are about the file.
    """

    header: Header
    options: ReadOptions
    lists: Mapping[str, DistributionList]
    notices: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """A row, by what its columns say. Reading it collects its problems, and the values that were skipped."""

    reading: Reading
    said: Mapping[Column, str]
    problems: list[Problem] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def complain(self, column: Column, message: str) -> None:
        """Note that *column* is wrong."""
        self.problems.append(Problem(message, self.reading.header.name(column)))

    def mailbox(self) -> MailboxRow:
        """What the row says of a mailbox; of no use where there are problems."""
        # A row that deletes says nothing else.
        name, mode = self.name(), self.mode()
        if mode is RowMode.DELETE:
            return MailboxRow(name, mode)

        # Each list is in two columns. A list of accepted senders is a restriction, and clearing it lifts that.
        addresses, _ = self._list(Column.PROXIES, Column.SECONDARY_PROXIES, self._proxies)
        accepted, is_restricted = self._list(Column.ACCEPT, Column.ACCEPT_DL, self.senders)
        rejected, _ = self._list(Column.REJECT, Column.REJECT_DL, self.senders)
        receive: Receive | Keep = KEEP
        if is_restricted:
            receive = Receive.NOBODY
        elif isinstance(accepted, ListEdit) and accepted.clear:
            receive = Receive.INHERIT
        return MailboxRow(
            name, mode, addresses=addresses, receive=receive, accepted=_parties(accepted), rejected=_parties(rejected)
        )

    def group(self) -> GroupRow | None:
        """The group that the dl is; None where nothing names it, or it is deleted."""
        found = self.reading.lists.get(fold(self.name()))
        if found is None or not found.is_named or self.mode() is RowMode.DELETE:
            return None
        none: tuple[str, ...] = ()
        names = self._try(Column.MEMBERS, lambda: self._known(found.members), none)
        return GroupRow(found.name, members=ListEdit(not self.reading.options.is_append, add=tuple(map(_party, names))))

    def named(self, column: Column) -> tuple[str, ...]:
        """Who stands in a list of senders, be it right or not."""
        try:
            cell = self._cell(column)
        except CellError:
            return ()
        return tuple(common_name(value) for value in cell.plain + cell.removed)

    def name(self) -> str:
        """The Directory Name, from the first column that has one."""
        self.check_name()
        column = self._named_by()
        if column is None:
            header = self.reading.header
            missing = next(column for column in NAMING if column in header.places)
            self.complain(missing, "is empty, so the row says nothing about anybody")
            return ""
        name = unescape(self.said[column], self.reading.options.multi_separator)
        if column is Column.OBJ_DIST_NAME:
            name = common_name(name)
        return self._try(column, partial(normal_name, name), "")

    def check_name(self) -> None:
        """Complain of `~DEL` as a name. Source: Q176741: Exchange made junk users of such rows."""
        column = self._named_by()
        if column is not None and is_delete(self.said[column]):
            self.complain(column, "is ~DEL; a name can't be removed. To delete the object, use the Mode Delete")

    def mode(self) -> RowMode:
        """What the row wants of its object."""
        text = self._text(Column.MODE)
        try:
            return RowMode(text.lower()) if text else RowMode.UPDATE
        except ValueError:
            self.complain(Column.MODE, f"is {text[:100]!a}, none of {_MODES}")
            return RowMode.UPDATE

    def senders(self, column: Column) -> Part:
        """What a list of senders says: names of mailboxes, and of groups with `group:` in front."""

        def read() -> Part:
            cell = self._cell(column)
            add, remove = self._expand(cell.plain, column), self._expand(cell.removed, column)
            return Part(add, remove, cell.is_cleared, is_given=bool(cell.plain))

        return self._try(column, read, _NOTHING) if column in self.said else _NOTHING

    def members(self) -> dict[str, DistributionList]:
        """The dl with its members, by its folded name; nothing where the row does not say them."""
        text = self._text(Column.MEMBERS)
        if not text or self.mode() is RowMode.DELETE:
            return {}
        cell = self._try(Column.MEMBERS, lambda: self._cell(Column.MEMBERS), Cell())
        if cell.removed or cell.is_cleared:
            self.complain(Column.MEMBERS, "can't take members away; list all there shall be")
            return {}
        name = self.name()
        return {fold(name): DistributionList(name, tuple(map(common_name, cell.plain)))} if name else {}

    def says_only_members(self) -> bool:
        """Whether there is nothing in the row that a mailbox could have."""
        return _LISTS.isdisjoint(self.said)

    def _proxies(self, column: Column) -> Part:
        if column not in self.said:
            return _NOTHING
        domain = self.reading.options.domain
        part, skipped = self._try(column, lambda: read_proxies(self._cell(column), domain), _NO_PROXIES)
        self.skipped.extend(skipped)
        return part

    def _list(self, first: Column, second: Column, read: Callable[[Column], Part]) -> tuple[ListEdit[str] | Keep, bool]:
        """What two columns say of the one list that they are here, and whether they give values for it."""
        # A row without both columns, or with nothing in them, leaves the list as it is.
        if first not in self.said and second not in self.said:
            return KEEP, False
        main, other = read(first), read(second)
        if main == _NOTHING and other == _NOTHING:
            return KEEP, False

        # In a file that has only the second column, that stands for the list.
        if first not in self.reading.header.places:
            main, other = other, _NOTHING

        # Plain values in the first column replace the list; the second only adds to it and takes away.
        is_append = self.reading.options.is_append
        clear = main.is_cleared or (main.is_given and not is_append)
        if not clear and other.is_cleared:
            self.complain(second, "can't be cleared alone; name the values as ~DEL<value>, or give both columns")
        elif not clear and other.is_given and not is_append:
            self._note_addition(first, second)
        remove = () if clear else main.remove + other.remove
        return ListEdit(clear, remove, tuple(dict.fromkeys(main.add + other.add))), main.is_given or other.is_given

    def _note_addition(self, first: Column, second: Column) -> None:
        header = self.reading.header
        self.reading.notices.add(
            f"{header.name(second)} only adds where {header.name(first)} has no plain values; to replace, give both"
        )

    def _expand(self, values: Sequence[str], column: Column) -> tuple[str, ...]:
        """Whom *values* name. Raises CellError for a dl that isn't there, and AddressError."""
        # In a column for lists, every name must be one.
        names = tuple(map(common_name, values))
        if column in (Column.ACCEPT_DL, Column.REJECT_DL):
            for name in names:
                if fold(name) not in self.reading.lists:
                    raise CellError(f"has {name[:100]!a}, but no dl of that name has its Members in this file")
        return self._known(names)

    def _known(self, names: Sequence[str]) -> tuple[str, ...]:
        """*names* in normal form, those of lists with `group:` in front, each once. Raises AddressError."""
        known: dict[str, str] = {}
        for name in names:
            found = self.reading.lists.get(fold(name))
            text = normal_name(name) if found is None else f"{GROUP_PREFIX}{normal_group(found.name)}"
            known.setdefault(fold(text), text)
        return tuple(known.values())

    def _named_by(self) -> Column | None:
        for column in NAMING:
            if column in self.said:
                return column
        return None

    def _text(self, column: Column) -> str:
        return self.said.get(column, "")

    def _cell(self, column: Column) -> Cell:
        return read_cell(self._text(column), self.reading.options.multi_separator)

    def _try(self, column: Column, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except (AddressError, CellError) as error:
            self.complain(column, str(error))
            return otherwise


def _party(name: str) -> Party:
    """The mailbox, or the group with `group:` in front."""
    if is_group(name):
        return Party(PartyKind.GROUP, name[len(GROUP_PREFIX) :])
    return Party(PartyKind.MAILBOX, name)


def _parties(edit: ListEdit[str] | Keep) -> ListEdit[Party] | Keep:
    """What is said of a list of names, of parties."""
    if isinstance(edit, Keep):
        return KEEP
    return ListEdit(edit.clear, tuple(map(_party, edit.remove)), tuple(map(_party, edit.add)))


def _read_record(fields: Fields, reading: Reading) -> Record:
    # A line that can't be split into the header's columns.
    if fields.problem:
        return Record(fields.line, fields.source, problems=(Problem(fields.problem),))
    width = len(reading.header.names)
    if len(fields.cells) != width:
        problem = Problem(f"has {len(fields.cells)} fields, the header has {width}", event=_EVENT_FIELDS)
        return Record(fields.line, fields.source, problems=(problem,))

    # All that is wrong with it is collected while it is read; then nothing of it is imported.
    row = ObjectRow(reading, reading.header.read(fields.cells))
    rows = _read_object(row, _object_class(fields))
    if row.problems:
        groups = (row.name(),) if _object_class(fields) == "dl" else ()
        return Record(fields.line, fields.source, problems=tuple(dict.fromkeys(row.problems)), wrong_groups=groups)
    return Record(fields.line, fields.source, rows, skipped=tuple(row.skipped))


def _read_object(row: ObjectRow, object_class: str) -> tuple[Row, ...]:
    match object_class:
        case "mailbox":
            return (row.mailbox(),)
        case "dl":
            row.members()
            group = row.group()
            rows: tuple[Row, ...] = (group,) if group else ()
            if row.says_only_members() and row.mode() is not RowMode.DELETE:
                row.skipped.extend([] if group else ["dl"])
                return rows
            return (*rows, row.mailbox())
        case "remote":
            row.skipped.append("remote")
            return ()
        case "":
            row.complain(Column.OBJ_CLASS, "is empty; it says what kind of object a row is about, such as Mailbox")
            return ()
        case _:
            return _read_connector(row, object_class)


def _read_connector(row: ObjectRow, object_class: str) -> tuple[Row, ...]:
    # policyd keeps no connectors; of one it takes only the senders that may not send outside.
    row.check_name()
    if row.mode() is RowMode.DELETE:
        row.complain(Column.MODE, "can't delete a connector here; take names off its Reject list with ~DEL<name>")
    for column in (Column.ACCEPT, Column.ACCEPT_DL):
        part = row.senders(column)
        if part.is_given or part.remove:
            row.complain(
                column, "is a connector's, and would block everybody else; block those with: policyd sender block"
            )

    # Each sender on its Reject lists is blocked to recipients outside, or no longer is.
    rows: list[Row] = []
    for column in (Column.REJECT, Column.REJECT_DL):
        part = row.senders(column)
        if part.is_cleared:
            row.complain(column, "is a connector's, and can't be cleared as a whole; name each with ~DEL<name>")
        rows += [BlockRow(_party(sender), OUTSIDE, RowMode.DELETE) for sender in part.remove]
        rows += [BlockRow(_party(sender), OUTSIDE) for sender in part.add]
    if not rows:
        row.skipped.append(object_class if _CLASS.fullmatch(object_class) else "other objects")
    return tuple(dict.fromkeys(rows))
