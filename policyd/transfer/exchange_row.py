"""One row of an Exchange directory file: cells -> what they say of their object, and what is wrong with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from policyd.address import fold, normal_name
from policyd.errors import AddressError
from policyd.model import Receive
from policyd.records import KEEP, Keep, ListEdit, MailboxRow, Mode, Problem
from policyd.transfer.exchange_cells import Cell, Part, common_name, is_delete, read_cell, read_proxies, unescape
from policyd.transfer.exchange_header import NAMING, Column, Header
from policyd.transfer.formats import ReadOptions
from policyd.transfer.values import CellError

T = TypeVar("T")

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
_MODES = ", ".join(mode.value.capitalize() for mode in Mode)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rows of a file have in common: `groups` has the members of each dl; `notices` are about the file."""

    header: Header
    options: ReadOptions
    groups: Mapping[str, tuple[str, ...]]
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
        name, mode = self.name(), self.mode()
        if mode is Mode.DELETE:
            return MailboxRow(name, mode)
        addresses, _ = self._list(Column.PROXIES, Column.SECONDARY_PROXIES, self._proxies)
        accepted, is_restricted = self._list(Column.ACCEPT, Column.ACCEPT_DL, self.senders)
        rejected, _ = self._list(Column.REJECT, Column.REJECT_DL, self.senders)
        receive: Receive | Keep = KEEP
        if is_restricted:
            receive = Receive.NOBODY
        elif isinstance(accepted, ListEdit) and accepted.clear:
            receive = Receive.ANYONE
        return MailboxRow(name, mode, addresses=addresses, receive=receive, accepted=accepted, rejected=rejected)

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

    def mode(self) -> Mode:
        """What the row wants of its object."""
        text = self._text(Column.MODE)
        try:
            return Mode(text.lower()) if text else Mode.UPDATE
        except ValueError:
            self.complain(Column.MODE, f"is {text[:100]!a}, none of {_MODES}")
            return Mode.UPDATE

    def senders(self, column: Column) -> Part:
        """What a list of senders says: names of mailboxes, those of a dl in place of its own."""

        def read() -> Part:
            cell = self._cell(column)
            add, remove = self._expand(cell.plain, column), self._expand(cell.removed, column)
            return Part(add, remove, cell.is_cleared, is_given=bool(cell.plain))

        return self._try(column, read, _NOTHING) if column in self.said else _NOTHING

    def group(self) -> dict[str, tuple[str, ...]]:
        """The members of a dl by its folded name; nothing where the row does not say them."""
        text = self._text(Column.MEMBERS)
        if not text or self.mode() is Mode.DELETE:
            return {}
        cell = self._try(Column.MEMBERS, lambda: self._cell(Column.MEMBERS), Cell())
        if cell.removed or cell.is_cleared:
            self.complain(Column.MEMBERS, "can't take members away; policyd keeps none, list all there shall be")
            return {}
        name = fold(self.name())
        return {name: tuple(common_name(value) for value in cell.plain)} if name else {}

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

    def _list(self, first: Column, second: Column, read: Callable[[Column], Part]) -> tuple[ListEdit | Keep, bool]:
        """What two columns say of the one list that they are here, and whether they give values for it."""
        if first not in self.said and second not in self.said:
            return KEEP, False
        main, other = read(first), read(second)
        if main == _NOTHING and other == _NOTHING:
            return KEEP, False
        if first not in self.reading.header.places:
            main, other = other, _NOTHING
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
        """The mailboxes that *values* stand for. Raises CellError for a dl that isn't there, and AddressError."""
        groups = self.reading.groups
        names: dict[str, str] = {}
        seen: set[str] = set()
        waiting = [common_name(value) for value in reversed(values)]
        if column in (Column.ACCEPT_DL, Column.REJECT_DL):
            for name in waiting:
                if fold(name) not in groups:
                    raise CellError(f"has {name[:100]!a}, but no dl of that name has its Members in this file")
        while waiting:
            name = waiting.pop()
            key = fold(name)
            if key in groups and key not in seen:
                seen.add(key)
                waiting.extend(reversed(groups[key]))
            elif key not in groups:
                names.setdefault(key, normal_name(name))
        return tuple(names.values())

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
