"""Point reads: one object by its key, over whatever runs a statement: a quarter of the time that Core takes."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects import sqlite

from policyd.model import Address, BlockedSender, Change, Domain, Mailbox, Receive, Recipients, Unlisted
from policyd.store import schema

_ARITIES = 300  # a domain has 127 labels at most, an address two forms

Rows = Callable[..., list[tuple[Any, ...]]]  # a statement, its parameters -> all rows

_RECEIVE = {each.value: each for each in Receive}  # a third of the time that a call of an enum takes

_holder = schema.mailbox.alias("holder")
_target = schema.mailbox.alias("target")

SELECT_MAILBOX = select(
    schema.mailbox.c.name,
    schema.mailbox.c.receive,
    schema.mailbox.c.reason,
    schema.mailbox.c.until,
    schema.mailbox.c.comment,
    schema.mailbox.c.id,
)
SELECT_BLOCKED = (
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


def to_mailbox(row: Sequence[Any], accepted: Iterable[str]) -> Mailbox:
    """The mailbox in a row of `SELECT_MAILBOX`."""
    name, receive, reason, until, comment, number = row
    return Mailbox(name, _RECEIVE[receive], reason, until, comment, frozenset(accepted), number)


def to_blocked(row: Sequence[Any], allowed: Iterable[str]) -> BlockedSender:
    """The blocked sender in a row of `SELECT_BLOCKED`."""
    holder, pattern, recipients, target, reason, until, comment, created_at, created_by, number = row
    return BlockedSender(
        holder or "",
        pattern or "",
        Recipients(recipients or Recipients.MAILBOX),
        target or "",
        reason,
        until,
        comment,
        frozenset(allowed),
        created_at,
        created_by,
        number,
    )


def to_address(row: Sequence[Any]) -> Address:
    """The address in a row of `SELECT_ADDRESS`."""
    address, mailbox, is_primary = row
    return Address(address, mailbox, bool(is_primary))


def compiled(statement: Any) -> str:
    """*statement* as SQLite's text, with `?` for its parameters in their order."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="qmark")))


@lru_cache(_ARITIES)
def _entries_of_patterns(count: int) -> str:
    """The statement for the entries of *count* patterns."""
    keys: list[Any] = [bindparam(f"pattern{number}") for number in range(count)]
    return compiled(SELECT_BLOCKED.where(schema.blocked_sender.c.pattern.in_(keys)))


_DOMAIN = compiled(select(schema.domain.c.unlisted).where(schema.domain.c.name == bindparam("name")))
_MAILBOX_WITH = compiled(
    SELECT_MAILBOX.join(schema.address, schema.address.c.mailbox_id == schema.mailbox.c.id).where(
        schema.address.c.address == bindparam("address")
    )
)
_MAILBOX_NAMED = compiled(SELECT_MAILBOX.where(schema.mailbox.c.folded_name == bindparam("name")))
_MAILBOX_NUMBERED = compiled(SELECT_MAILBOX.where(schema.mailbox.c.id == bindparam("id")))
_ACCEPTED = compiled(
    select(schema.accepted_sender.c.pattern).where(schema.accepted_sender.c.mailbox_id == bindparam("id"))
)
_ADDRESS = compiled(SELECT_ADDRESS.where(schema.address.c.address == bindparam("address")))
_IN_DOMAIN = compiled(
    SELECT_ADDRESS.where(
        func.substr(schema.address.c.address, -func.length(bindparam("suffix"))) == bindparam("same_suffix")
    )
)
_ADDRESSES = compiled(SELECT_ADDRESS.where(schema.address.c.mailbox_id == bindparam("id")))
_ENTRIES_OF = compiled(SELECT_BLOCKED.where(schema.blocked_sender.c.mailbox_id == bindparam("mailbox")))
_ENTRIES_TO = compiled(SELECT_BLOCKED.where(schema.blocked_sender.c.recipient_mailbox_id == bindparam("id")))
_ENTRY = compiled(SELECT_BLOCKED.where(schema.blocked_sender.c.id == bindparam("id")))
_ALLOWED = compiled(
    select(schema.allowed_recipient.c.pattern).where(schema.allowed_recipient.c.blocked_sender_id == bindparam("id"))
)
_CHANGES_OF = compiled(
    select(schema.change)
    .where(schema.change.c.id >= bindparam("first"), schema.change.c.changeset == bindparam("changeset"))
    .order_by(schema.change.c.id.desc())
)
_CHANGESET_OF = compiled(select(schema.change.c.changeset).where(schema.change.c.id == bindparam("id")))
_LATER = compiled(
    select(schema.change)
    .where(schema.change.c.object == bindparam("name"), schema.change.c.id > bindparam("after"))
    .order_by(schema.change.c.id)
)


def rows_of(connection: sqlite3.Connection) -> Rows:
    """Runs statements on *connection*."""

    def rows(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return connection.execute(statement, values).fetchall()

    return rows


def domain(rows: Rows, name: str) -> Domain | None:
    """The managed domain *name*, in normal form."""
    found = rows(_DOMAIN, name)
    return Domain(name, Unlisted(found[0][0])) if found else None


def mailbox_with(rows: Rows, address: str) -> Mailbox | None:
    """The mailbox that has *address*, in normal form."""
    return _mailbox(rows, rows(_MAILBOX_WITH, address))


def mailbox_named(rows: Rows, folded_name: str) -> Mailbox | None:
    """The mailbox whose name folds to this."""
    return _mailbox(rows, rows(_MAILBOX_NAMED, folded_name))


def mailbox_numbered(rows: Rows, number: int) -> Mailbox | None:
    """The mailbox with this id."""
    return _mailbox(rows, rows(_MAILBOX_NUMBERED, number))


def address(rows: Rows, text: str) -> Address | None:
    """The address *text*, in normal form, and whose it is."""
    found = rows(_ADDRESS, text)
    return to_address(found[0]) if found else None


def addresses_of(rows: Rows, mailbox_id: int) -> list[Address]:
    """The addresses of a mailbox, the primary one first."""
    held = map(to_address, rows(_ADDRESSES, mailbox_id))
    return sorted(held, key=lambda each: (not each.is_primary, each.address))


def addresses_in(connection: sqlite3.Connection, domain_name: str) -> Iterator[Address]:
    """The addresses in a domain, one by one; each call goes through the whole table."""
    suffix = f"@{domain_name}"
    return map(to_address, connection.execute(_IN_DOMAIN, (suffix, suffix)))


def entries_for(rows: Rows, mailbox_id: int, patterns: Sequence[str]) -> tuple[BlockedSender, ...]:
    """The blocked senders that are this mailbox (0 for none) or one of *patterns*."""
    found = rows(_ENTRIES_OF, mailbox_id) if mailbox_id else []
    if patterns:
        found += rows(_entries_of_patterns(len(patterns)), *patterns)
    return _blocked(rows, found) if found else ()


def entries_to(rows: Rows, mailbox_id: int) -> tuple[BlockedSender, ...]:
    """The blocked senders that may not send to this one mailbox."""
    return _blocked(rows, rows(_ENTRIES_TO, mailbox_id))


def entry(rows: Rows, number: int) -> BlockedSender | None:
    """The blocked sender with this id."""
    return next(iter(_blocked(rows, rows(_ENTRY, number))), None)


def changes_of(connection: sqlite3.Connection, changeset: int) -> Iterator[Change]:
    """The journal's rows of one changeset, the last first, one by one."""
    return (Change(*row) for row in connection.execute(_CHANGES_OF, (changeset, changeset)))


def changeset_of(rows: Rows, number: int) -> int:
    """The changeset that the journal's row with this id is in; 0 where there is no such row."""
    found = rows(_CHANGESET_OF, number)
    return int(found[0][0]) if found else 0


def later_changes(rows: Rows, name: str, after: int) -> list[Change]:
    """The journal's rows about the object called *name* that came after the row with this id."""
    return [Change(*row) for row in rows(_LATER, name, after)]


def _mailbox(rows: Rows, found: list[tuple[Any, ...]]) -> Mailbox | None:
    if not found:
        return None
    row = found[0]
    accepted = rows(_ACCEPTED, row[-1]) if row[1] != Receive.ANYONE else ()  # who receives from anyone accepts nobody
    return to_mailbox(row, (pattern for (pattern,) in accepted))


def _blocked(rows: Rows, found: list[tuple[Any, ...]]) -> tuple[BlockedSender, ...]:
    return tuple(to_blocked(row, (pattern for (pattern,) in rows(_ALLOWED, row[-1]))) for row in found)
