"""All there is, streamed: for exports. Memory does not grow with the tables."""

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import select

from policyd.model import BlockedSender, Domain, Mailbox, Unlisted
from policyd.store import schema
from policyd.store.queries import SELECT_BLOCKED, SELECT_MAILBOX, compiled, to_blocked, to_mailbox

_DOMAINS = compiled(select(schema.domain).order_by(schema.domain.c.name))
_MAILBOXES = compiled(SELECT_MAILBOX.order_by(schema.mailbox.c.id))
_ADDRESSES = compiled(
    select(schema.address.c.mailbox_id, schema.address.c.address).order_by(
        schema.address.c.mailbox_id, schema.address.c.is_primary.desc(), schema.address.c.address
    )
)
_ACCEPTED = compiled(select(schema.accepted_sender).order_by(*schema.accepted_sender.c))
_BLOCKED = compiled(SELECT_BLOCKED.order_by(schema.blocked_sender.c.id))
_ALLOWED = compiled(select(schema.allowed_recipient).order_by(*schema.allowed_recipient.c))


class Dump:
    """The tables over *connection*, in whose transaction they all are of one moment."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def domains(self) -> Iterator[Domain]:
        """Every managed domain."""
        for name, unlisted in self._connection.execute(_DOMAINS):
            yield Domain(name, Unlisted(unlisted))

    def mailboxes(self) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """Every mailbox with its addresses, the primary one first."""
        held, accepted = self._grouped(_ADDRESSES), self._grouped(_ACCEPTED)
        for row in self._connection.execute(_MAILBOXES):
            yield to_mailbox(row, accepted.of(row[-1])), tuple(held.of(row[-1]))

    def blocked_senders(self) -> Iterator[BlockedSender]:
        """Every blocked sender, oldest first."""
        allowed = self._grouped(_ALLOWED)
        for row in self._connection.execute(_BLOCKED):
            yield to_blocked(row, allowed.of(row[-1]))

    def _grouped(self, statement: str) -> "Grouped":
        return Grouped(self._connection.execute(statement))


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
