"""Every query of the tables, once: single objects by their keys, lists, and whole tables as streams."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from types import UnionType
from typing import Any, Protocol

from sqlalchemy import ColumnElement, bindparam, func, select

from policyd.address import fold, is_pattern, normal_domain
from policyd.errors import AddressError, StoreError
from policyd.model import Address, BlockedSender, Change, Domain, Mailbox, Receive, Recipients, Unlisted
from policyd.store import schema
from policyd.store.database import Statement

_ARITIES = 300  # a domain has 127 labels at most, an address two forms
_RECEIVE = {each.value: each for each in Receive}  # a third of the time that a call of an enum takes
_UNLISTED = {each.value: each for each in Unlisted}
_RECIPIENTS = {None: Recipients.MAILBOX, Recipients.OUTSIDE: Recipients.OUTSIDE, Recipients.ANYONE: Recipients.ANYONE}
_TEXT, _NUMBER, _MAYBE_TEXT, _MAYBE_NUMBER = str, int, str | None, int | None
_MAILBOX_TYPES = (_TEXT, _TEXT, _TEXT, _MAYBE_NUMBER, _TEXT, _NUMBER)
_ENTRY_TYPES = (*[_MAYBE_TEXT] * 4, _TEXT, _MAYBE_NUMBER, _TEXT, _NUMBER, _TEXT, _NUMBER)
_by_id = attrgetter("id")

_holder = schema.mailbox.alias("holder")
_target = schema.mailbox.alias("target")
_select_mailbox = select(
    schema.mailbox.c.name,
    schema.mailbox.c.receive,
    schema.mailbox.c.reason,
    schema.mailbox.c.until,
    schema.mailbox.c.comment,
    schema.mailbox.c.id,
)
_select_entry = (
    select(
        _holder.c.name,
        schema.blocked_sender.c.pattern,
        schema.blocked_sender.c.recipients,
        _target.c.name,
        schema.blocked_sender.c.reason,
        schema.blocked_sender.c.until,
        schema.blocked_sender.c.comment,
        schema.blocked_sender.c.created_at,
        schema.blocked_sender.c.created_by,
        schema.blocked_sender.c.id,
    )
    .outerjoin(_holder, _holder.c.id == schema.blocked_sender.c.mailbox_id)
    .outerjoin(_target, _target.c.id == schema.blocked_sender.c.recipient_mailbox_id)
)
SELECT_ADDRESS = select(schema.address.c.address, schema.mailbox.c.name, schema.address.c.is_primary).join(
    schema.mailbox, schema.mailbox.c.id == schema.address.c.mailbox_id
)


def _mailboxes_where(condition: ColumnElement[bool]) -> Statement:
    return Statement(_select_mailbox.where(condition))


def _entries_where(condition: ColumnElement[bool]) -> Statement:
    return Statement(_select_entry.where(condition))


@lru_cache(_ARITIES)
def _entries_of_patterns(count: int) -> Statement:
    """The statement for the entries of *count* patterns."""
    keys: list[Any] = [bindparam(f"pattern{number}") for number in range(count)]
    return _entries_where(schema.blocked_sender.c.pattern.in_(keys))


_DOMAIN = Statement(select(schema.domain.c.unlisted).where(schema.domain.c.name == bindparam("name")))
_DOMAINS = Statement(select(schema.domain).order_by(schema.domain.c.name))
_MAILBOX_WITH = Statement(
    _select_mailbox.join(schema.address, schema.address.c.mailbox_id == schema.mailbox.c.id).where(
        schema.address.c.address == bindparam("address")
    )
)
_MAILBOX_NAMED = _mailboxes_where(schema.mailbox.c.folded_name == bindparam("name"))
_MAILBOX_NUMBERED = _mailboxes_where(schema.mailbox.c.id == bindparam("id"))
_MAILBOXES = Statement(_select_mailbox.order_by(schema.mailbox.c.id))
_ACCEPTED_BY = Statement(
    select(schema.accepted_sender.c.pattern).where(schema.accepted_sender.c.mailbox_id == bindparam("id"))
)
_ACCEPTED = Statement(select(schema.accepted_sender).order_by(*schema.accepted_sender.c))
_ADDRESS = Statement(SELECT_ADDRESS.where(schema.address.c.address == bindparam("address")))
_ADDRESSES_OF = Statement(SELECT_ADDRESS.where(schema.address.c.mailbox_id == bindparam("id")))
_ADDRESSES = Statement(SELECT_ADDRESS.order_by(schema.address.c.address))
_ADDRESSES_IN = Statement(
    SELECT_ADDRESS.where(
        func.substr(schema.address.c.address, -func.length(bindparam("suffix"))) == bindparam("same_suffix")
    ).order_by(schema.address.c.address)
)
_ADDRESSES_BY_MAILBOX = Statement(
    select(schema.address.c.mailbox_id, schema.address.c.address).order_by(
        schema.address.c.mailbox_id, schema.address.c.is_primary.desc(), schema.address.c.address
    )
)
_ENTRIES_OF = _entries_where(schema.blocked_sender.c.mailbox_id == bindparam("mailbox"))
_ENTRIES_TO = _entries_where(schema.blocked_sender.c.recipient_mailbox_id == bindparam("id"))
_ENTRY = _entries_where(schema.blocked_sender.c.id == bindparam("id"))
_ENTRIES = Statement(_select_entry.order_by(schema.blocked_sender.c.id))
_ALLOWED_BY = Statement(
    select(schema.allowed_recipient.c.pattern).where(schema.allowed_recipient.c.blocked_sender_id == bindparam("id"))
)
_ALLOWED = Statement(select(schema.allowed_recipient).order_by(*schema.allowed_recipient.c))
_CHANGES_OF = Statement(
    select(schema.change)
    .where(schema.change.c.id >= bindparam("first"), schema.change.c.changeset == bindparam("changeset"))
    .order_by(schema.change.c.id.desc())
)
_CHANGESET_OF = Statement(select(schema.change.c.changeset).where(schema.change.c.id == bindparam("id")))
_LATER_CHANGES = Statement(
    select(schema.change)
    .where(schema.change.c.object == bindparam("name"), schema.change.c.id > bindparam("after"))
    .order_by(schema.change.c.id)
)
_CHANGES_SINCE = Statement(
    select(schema.change).where(schema.change.c.at >= bindparam("since")).order_by(schema.change.c.id.desc())
)
_COUNTS = {table.name: Statement(select(func.count()).select_from(table)) for table in schema.metadata.sorted_tables}


class Source(Protocol):
    """What runs a statement: all rows that it finds, or one after another."""

    def fetch(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]: ...

    def stream(self, statement: Statement, *values: Any) -> Iterator[tuple[Any, ...]]: ...


class Queries:
    """The tables as *source* reads them, in whose transaction all there is is of one moment.

    What is asked for must be in normal form. Iterators stream: memory does not grow with the tables.
    """

    def __init__(self, source: Source) -> None:
        self._fetch = source.fetch
        self._stream = source.stream

    # --- Domains ---

    def domain(self, name: str) -> Domain | None:
        """The managed domain *name*."""
        found = self._fetch(_DOMAIN, name)
        return _to_domain(name, found[0][0]) if found else None

    def domains(self) -> Iterator[Domain]:
        """Every managed domain, by name."""
        return (_to_domain(name, unlisted) for name, unlisted in self._stream(_DOMAINS))

    # --- Mailboxes ---

    def mailbox_with(self, address: str) -> Mailbox | None:
        """The mailbox that has *address*."""
        return self._mailbox(self._fetch(_MAILBOX_WITH, address))

    def mailbox_named(self, folded_name: str) -> Mailbox | None:
        """The mailbox whose name folds to this."""
        return self._mailbox(self._fetch(_MAILBOX_NAMED, folded_name))

    def mailbox_numbered(self, number: int) -> Mailbox | None:
        """The mailbox with this id."""
        return self._mailbox(self._fetch(_MAILBOX_NUMBERED, number))

    def mailboxes(self) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """Every mailbox, oldest first, with its addresses, the primary one first."""
        held, accepted = Grouped(self._stream(_ADDRESSES_BY_MAILBOX)), Grouped(self._stream(_ACCEPTED))
        for row in self._stream(_MAILBOXES):
            yield _to_mailbox(row, accepted.of(row[-1])), tuple(held.of(row[-1]))

    # --- Addresses ---

    def address(self, text: str) -> Address | None:
        """The address *text*, and whose it is."""
        found = self._fetch(_ADDRESS, text)
        return to_address(found[0]) if found else None

    def addresses_of(self, mailbox_id: int) -> list[Address]:
        """The addresses of a mailbox, the primary one first."""
        held = map(to_address, self._fetch(_ADDRESSES_OF, mailbox_id))
        return sorted(held, key=lambda each: (not each.is_primary, each.address))

    def addresses(self, domain: str = "") -> Iterator[Address]:
        """The addresses, by address: all, or those in one domain, for which each call goes through the whole table."""
        if not domain:
            return map(to_address, self._stream(_ADDRESSES))
        return map(to_address, self._stream(_ADDRESSES_IN, f"@{domain}", f"@{domain}"))

    # --- Blocked senders ---

    def entry(self, number: int) -> BlockedSender | None:
        """The blocked sender with this id."""
        return next(iter(self._entries(self._fetch(_ENTRY, number))), None)

    def entries_for(self, mailbox_id: int, patterns: Sequence[str]) -> tuple[BlockedSender, ...]:
        """The blocked senders that are this mailbox (0 for none) or one of *patterns*, in no order."""
        found = self._fetch(_ENTRIES_OF, mailbox_id) if mailbox_id else []
        if patterns:
            found += self._fetch(_entries_of_patterns(len(patterns)), *patterns)
        return self._entries(found) if found else ()

    def entries_of(self, sender: str) -> list[BlockedSender]:
        """The entries of one sender, a pattern or a mailbox's name, oldest first."""
        if is_pattern(sender):
            return sorted(self.entries_for(0, (sender,)), key=_by_id)
        mailbox = self.mailbox_named(fold(sender))
        return sorted(self.entries_for(mailbox.id, ()), key=_by_id) if mailbox else []

    def entries_to(self, mailbox_id: int) -> list[BlockedSender]:
        """The blocked senders that may not send to this one mailbox, oldest first."""
        return sorted(self._entries(self._fetch(_ENTRIES_TO, mailbox_id)), key=_by_id)

    def entries_about(self, mailbox_id: int) -> list[BlockedSender]:
        """The entries that are this mailbox, then those that are to it; each once, oldest first."""
        own = sorted(self.entries_for(mailbox_id, ()), key=_by_id)
        return [*{entry.id: entry for entry in (*own, *self.entries_to(mailbox_id))}.values()]

    def blocked_senders(self) -> Iterator[BlockedSender]:
        """Every blocked sender, oldest first."""
        allowed = Grouped(self._stream(_ALLOWED))
        for row in self._stream(_ENTRIES):
            yield _to_entry(row, allowed.of(row[-1]))

    # --- The journal ---

    def changes(self, *, of_object: str = "", since: int = 0, limit: int | None = None) -> list[Change]:
        """The journal, oldest first: the last *limit* rows of those from *since* on, in Unix seconds."""
        found = (Change(*row) for row in self._stream(_CHANGES_SINCE, since))
        if of_object:
            names = _folded_forms(of_object)
            found = (change for change in found if fold(change.object) in names)
        return [*islice(found, limit)][::-1]

    def changes_of(self, changeset: int) -> Iterator[Change]:
        """The journal's rows of one changeset, the last first, one by one."""
        return (Change(*row) for row in self._stream(_CHANGES_OF, changeset, changeset))

    def changeset_of(self, number: int) -> int:
        """The changeset that the journal's row with this id is in; 0 where there is no such row."""
        found = self._fetch(_CHANGESET_OF, number)
        return int(found[0][0]) if found else 0

    def later_changes(self, name: str, after: int) -> list[Change]:
        """The journal's rows about the object called *name* that came after the row with this id."""
        return [Change(*row) for row in self._fetch(_LATER_CHANGES, name, after)]

    # --- All tables ---

    def counts(self) -> dict[str, int]:
        """The number of rows of each table."""
        return {name: int(self._fetch(statement)[0][0]) for name, statement in _COUNTS.items()}

    def _mailbox(self, found: list[tuple[Any, ...]]) -> Mailbox | None:
        if not found:
            return None
        row = found[0]
        if row[1] == Receive.ANYONE:  # who receives from anyone accepts nobody in particular
            return _to_mailbox(row, ())
        return _to_mailbox(row, (pattern for (pattern,) in self._fetch(_ACCEPTED_BY, row[-1])))

    def _entries(self, found: list[tuple[Any, ...]]) -> tuple[BlockedSender, ...]:
        return tuple(_to_entry(row, (pattern for (pattern,) in self._fetch(_ALLOWED_BY, row[-1]))) for row in found)


class Grouped:
    """The second column of *rows*, grouped by the first, an id: asked for in rising order of ids."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._groups = groupby(rows, key=itemgetter(0))
        self._next = next(self._groups, None)

    def of(self, owner_id: int) -> list[str]:
        """The values of one owner."""
        while self._next is not None and self._next[0] < owner_id:
            self._next = next(self._groups, None)
        if self._next is None or self._next[0] != owner_id:
            return []
        values = [value for _, value in self._next[1]]
        self._next = next(self._groups, None)
        return values


def to_address(row: Sequence[Any]) -> Address:
    """The address in a row of `SELECT_ADDRESS`."""
    address, mailbox, is_primary = row
    return Address(address, mailbox, bool(is_primary))


def _to_domain(name: str, unlisted: Any) -> Domain:
    if unlisted not in _UNLISTED:
        raise _odd_row("domain", name)
    return Domain(name, _UNLISTED[unlisted])


def _to_mailbox(row: Sequence[Any], accepted: Iterable[str]) -> Mailbox:
    name, receive, reason, until, comment, number = row
    if receive not in _RECEIVE or not _are(row, _MAILBOX_TYPES):
        raise _odd_row("mailbox", number)
    return Mailbox(name, _RECEIVE[receive], reason, until, comment, frozenset(accepted), number)


def _to_entry(row: Sequence[Any], allowed: Iterable[str]) -> BlockedSender:
    holder, pattern, recipients, target, reason, until, comment, created_at, created_by, number = row
    is_odd = recipients not in _RECIPIENTS or (holder is None) is (pattern is None)
    if is_odd or (recipients is None) is (target is None) or not _are(row, _ENTRY_TYPES):
        raise _odd_row("blocked_sender", number)
    return BlockedSender(
        holder or "",
        pattern or "",
        _RECIPIENTS[recipients],
        target or "",
        reason,
        until,
        comment,
        frozenset(allowed),
        created_at,
        created_by,
        number,
    )


def _are(row: Sequence[Any], types: Sequence[type | UnionType]) -> bool:
    return False not in map(isinstance, row, types)


def _odd_row(table: str, key: object) -> StoreError:
    """What to do about a row that policyd would never write: it says nothing that an answer could come from."""
    return StoreError(
        f"the database has a row that policyd did not write: {table} {key!a}; see: policyd database check"
    )


def _folded_forms(name: str) -> set[str]:
    """What *name*, which may be a domain's in Unicode, folds to in the journal."""
    try:
        return {fold(name), normal_domain(name)}
    except AddressError:
        return {fold(name)}
