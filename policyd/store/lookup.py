"""The daemon's reads: one object at a time, from the tables as they are at this moment."""

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Select, bindparam, func, select, union_all
from sqlalchemy.dialects import sqlite

from policyd.errors import StoreError
from policyd.model import BlockedSender, Domain, Mailbox, Receive, Recipients, Unlisted
from policyd.store import schema
from policyd.store.connect import connect_reading, missing_error, store_error

_DOMAINS_KEPT = 1024

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


def to_mailbox(row: Sequence[Any], accepted: Iterable[str]) -> Mailbox:
    """The mailbox in a row of `SELECT_MAILBOX`."""
    name, receive, reason, until, comment, number = row
    return Mailbox(name, Receive(receive), reason, until, comment, frozenset(accepted), number)


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


def _compiled(statement: Any) -> str:
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="qmark")))


def _of_patterns() -> Select[Any]:
    patterns = func.json_each(bindparam("patterns")).table_valued("value")
    return SELECT_BLOCKED.where(schema.blocked_sender.c.pattern.in_(select(patterns.c.value)))


_DOMAIN = _compiled(select(schema.domain.c.unlisted).where(schema.domain.c.name == bindparam("name")))
_BY_ADDRESS = _compiled(
    SELECT_MAILBOX.join(schema.address, schema.address.c.mailbox_id == schema.mailbox.c.id).where(
        schema.address.c.address == bindparam("address")
    )
)
_BY_NAME = _compiled(SELECT_MAILBOX.where(schema.mailbox.c.folded_name == bindparam("name")))
_ACCEPTED = _compiled(
    select(schema.accepted_sender.c.pattern).where(schema.accepted_sender.c.mailbox_id == bindparam("id"))
)
_ENTRIES = _compiled(
    union_all(SELECT_BLOCKED.where(schema.blocked_sender.c.mailbox_id == bindparam("mailbox")), _of_patterns())
)
_ALLOWED = _compiled(
    select(schema.allowed_recipient.c.pattern).where(schema.allowed_recipient.c.blocked_sender_id == bindparam("id"))
)


class Lookup:
    """The tables of the database file at *path*, which may be replaced at any time.

    Every call may raise StoreError; the next one tries anew. Statements run on the DBAPI connection:
    a quarter of the time that SQLAlchemy's own execution takes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, ...] | None = None  # the open file: device, inode, size, time of its last change
        self._version = 0
        self._domain = lru_cache(_DOMAINS_KEPT)(self._read_domain)

    def has_moved(self) -> bool:
        """Whether anything may have changed since this was last asked: a commit, or another file by that name."""
        try:
            status = os.stat(self._path)
        except OSError as error:
            self.close()
            raise missing_error(self._path, error) from error
        file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._connection is None or file != self._file:
            self._open(file)
            return True
        ((version,),) = self._rows("PRAGMA data_version")
        if version == self._version:
            return False
        self._version = version
        self._domain.cache_clear()
        return True

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def domain(self, name: str) -> Domain | None:
        """The managed domain *name*, in normal form."""
        return self._domain(name)

    def mailbox_with(self, address: str) -> Mailbox | None:
        """The mailbox that has *address*, in normal form."""
        return self._mailbox(_BY_ADDRESS, address)

    def mailbox_named(self, folded_name: str) -> Mailbox | None:
        """The mailbox whose name folds to this."""
        return self._mailbox(_BY_NAME, folded_name)

    def entries_for(self, mailbox_id: int, patterns: Iterable[str]) -> tuple[BlockedSender, ...]:
        """The blocked senders that are this mailbox (0 for none) or one of *patterns*."""
        rows = self._rows(_ENTRIES, mailbox_id, json.dumps(list(patterns)))
        return tuple(to_blocked(row, (pattern for (pattern,) in self._rows(_ALLOWED, row[-1]))) for row in rows)

    def _read_domain(self, name: str) -> Domain | None:
        rows = self._rows(_DOMAIN, name)
        return Domain(name, Unlisted(rows[0][0])) if rows else None

    def _mailbox(self, statement: str, key: str) -> Mailbox | None:
        rows = self._rows(statement, key)
        if not rows:
            return None
        return to_mailbox(rows[0], (pattern for (pattern,) in self._rows(_ACCEPTED, rows[0][-1])))

    def _rows(self, statement: str, *values: str | int) -> list[tuple[Any, ...]]:
        if self._connection is None:
            raise StoreError(f"{self._path}: the database is not open")
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self.close()
            raise store_error(self._path, error) from error

    def _open(self, file: tuple[int, ...]) -> None:
        """Open the file by that name, which was *file* a moment ago."""
        self.close()
        self._connection = connect_reading(self._path)
        self._file = file
        ((self._version,),) = self._rows("PRAGMA data_version")
        self._domain.cache_clear()
