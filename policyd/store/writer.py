"""Writes an object's rows, and its journal entry in the same transaction: what the object was, and what it is now."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Table, bindparam, delete, insert, select, update

from policyd.address import fold
from policyd.model import Address, BlockedSender, Domain, Mailbox
from policyd.store import schema
from policyd.store.database import Connection, Statement
from policyd.store.journal import Journal, Stored


def _insert(table: Table) -> Statement:
    return Statement(insert(table))  # every column, in the table's order


def _update(table: Table, *columns: str) -> Statement:
    (key,) = table.primary_key
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in columns}
    return Statement(update(table).values(values).where(key == bindparam("key")))


def _delete(table: Table) -> Statement:
    return Statement(delete(table).where(*(column == bindparam(f"old_{column.name}") for column in table.primary_key)))


_INSERT = {table.name: _insert(table) for table in schema.metadata.sorted_tables}
_DELETE = {table.name: _delete(table) for table in schema.metadata.sorted_tables}
_MAILBOX_ID = Statement(select(schema.mailbox.c.id).where(schema.mailbox.c.folded_name == bindparam("name")))
_UPDATE_DOMAIN = _update(schema.domain, "unlisted")
_UPDATE_MAILBOX = _update(schema.mailbox, "name", "folded_name", "receive", "reason", "until", "comment")
_UPDATE_ADDRESS = _update(schema.address, "mailbox_id", "is_primary")
_UPDATE_BLOCKED = _update(schema.blocked_sender, "reason", "until", "comment", "created_at", "created_by")


class Writer:
    """Writes objects over *connection*, in whose transaction *journal* writes too.

    Of each call, None as *before* makes the object, None as *after* takes it away, and where both are the
    same nothing happens. *operation* is what the journal calls it. What is returned is the object as stored.
    """

    def __init__(self, connection: Connection, journal: Journal) -> None:
        self._connection = connection
        self.journal = journal
        self._latest: Mailbox | None = None  # whose addresses come next, as a rule

    def forget(self) -> None:
        """Forget what was remembered of the tables, after a rollback to a savepoint."""
        self._latest = None

    def put(self, operation: str, before: Stored | None, after: Stored | None) -> None:
        """Make any kind of object that was *before* be *after*."""
        kind = type(before or after)
        {
            Domain: self.put_domain,
            Mailbox: self.put_mailbox,
            Address: self.put_address,
            BlockedSender: self.put_blocked,
        }[kind](operation, before, after)  # type: ignore[operator]  # both are of that kind

    def put_domain(self, operation: str, before: Domain | None, after: Domain | None) -> None:
        """Manage a domain, change it, or manage it no more."""
        if before == after:
            return
        if after is None:
            self._connection.run(_DELETE["domain"], before and before.name)
        elif before is None:
            self._connection.run(_INSERT["domain"], after.name, after.unlisted)
        else:
            self._connection.run(_UPDATE_DOMAIN, after.unlisted, before.name)
        self.journal.record(operation, before, after)

    def put_mailbox(self, operation: str, before: Mailbox | None, after: Mailbox | None) -> Mailbox | None:
        """Make a mailbox, change it, or take it away with all that hangs on it (which is to be journaled before)."""
        if before == after:
            return after
        if after is None:
            self._connection.run(_DELETE["mailbox"], before and before.id)
        else:
            columns = (after.name, fold(after.name), after.receive, after.reason, after.until, after.comment)
            if before is None:
                number = self._connection.insert(_INSERT["mailbox"], after.id or None, *columns)
                after = Mailbox(
                    after.name, after.receive, after.reason, after.until, after.comment, after.accepted, number
                )
            else:
                self._connection.run(_UPDATE_MAILBOX, *columns, before.id)
            had = before.accepted if before else frozenset()
            self._put_patterns("accepted_sender", after.id, had, after.accepted)
        self._latest = after
        self.journal.record(operation, before, after)
        return after

    def put_address(self, operation: str, before: Address | None, after: Address | None) -> None:
        """Give an address to a mailbox, make it (not) the primary one, or take it away."""
        if before == after:
            return
        if after is None:
            self._connection.run(_DELETE["address"], before and before.address)
        elif before is None:
            self._connection.run(
                _INSERT["address"], after.address, self._mailbox_id(after.mailbox), int(after.is_primary)
            )
        else:
            self._connection.run(
                _UPDATE_ADDRESS, self._mailbox_id(after.mailbox), int(after.is_primary), before.address
            )
        self.journal.record(operation, before, after)

    def put_blocked(
        self, operation: str, before: BlockedSender | None, after: BlockedSender | None
    ) -> BlockedSender | None:
        """Make an entry of the blocked senders, change its terms, or take it away."""
        if before == after:
            return after
        if after is None:
            self._connection.run(_DELETE["blocked_sender"], before and before.id)
        else:
            terms = (after.reason, after.until, after.comment, after.created_at, after.created_by)
            if before is None:
                number = self._connection.insert(
                    _INSERT["blocked_sender"], after.id or None, *self._parties(after), *terms
                )
                after = replace(after, id=number)
            else:
                self._connection.run(_UPDATE_BLOCKED, *terms, before.id)
            had = before.allowed if before else frozenset()
            self._put_patterns("allowed_recipient", after.id, had, after.allowed)
        self.journal.record(operation, before, after)
        return after

    def _parties(self, entry: BlockedSender) -> tuple[int | None, str | None, str | None, int | None]:
        """Who and to whom, as the columns mailbox_id, pattern, recipients and recipient_mailbox_id."""
        return (
            self._mailbox_id(entry.mailbox) if entry.mailbox else None,
            entry.pattern or None,
            None if entry.to_mailbox else entry.recipients,
            self._mailbox_id(entry.to_mailbox) if entry.to_mailbox else None,
        )

    def _mailbox_id(self, name: str) -> int:
        if self._latest is not None and self._latest.name == name:
            return self._latest.id
        ((number,),) = self._connection.fetch(_MAILBOX_ID, fold(name))
        return int(number)

    def _put_patterns(self, table: str, owner_id: int, had: Iterable[str], has: Iterable[str]) -> None:
        """Make the patterns that *table* holds for its owner *has*."""
        if had == has:
            return
        old, new = set(had), set(has)
        for pattern in sorted(old - new):
            self._connection.run(_DELETE[table], owner_id, pattern)
        for pattern in sorted(new - old):
            self._connection.run(_INSERT[table], owner_id, pattern)
