"""Making the tables equal to a file: what the file's domains hold and the file did not name, goes."""

import sqlite3
from collections.abc import Iterable, Iterator

from sqlalchemy import Column, Integer, MetaData, Table, Text, func, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from policyd.address import fold, pattern_domain
from policyd.errors import RefusedError
from policyd.model import Address, BlockedSender, Mailbox
from policyd.store import queries, schema
from policyd.store.bulk import BulkEditor
from policyd.store.journal import Kept
from policyd.store.queries import SELECT_ADDRESS, compiled, to_address

_seen = MetaData()
_seen_address = Table("seen_address", _seen, Column("address", Text, primary_key=True), prefixes=["TEMPORARY"])
_seen_mailbox = Table("seen_mailbox", _seen, Column("id", Integer, primary_key=True), prefixes=["TEMPORARY"])
_seen_entry = Table("seen_entry", _seen, Column("id", Integer, primary_key=True), prefixes=["TEMPORARY"])

_INSERT = {table.name: compiled(insert(table).prefix_with("OR IGNORE")) for table in _seen.sorted_tables}
_UNSEEN_ADDRESSES = compiled(
    SELECT_ADDRESS.where(schema.address.c.address.not_in(select(_seen_address.c.address))).order_by(
        schema.address.c.address
    )
)
_UNSEEN_MAILBOXES = compiled(select(schema.mailbox.c.id).where(schema.mailbox.c.id.not_in(select(_seen_mailbox.c.id))))
_COUNT_ENTRIES = compiled(select(func.count()).select_from(schema.blocked_sender))
_UNSEEN_ENTRIES = compiled(
    select(schema.blocked_sender.c.id).where(schema.blocked_sender.c.id.not_in(select(_seen_entry.c.id)))
)
_ALL_ADDRESSES = compiled(select(schema.address.c.address))


class Replacement:
    """Remembers what a file names, and takes away what it does not; over *connection*, by *bulk*."""

    def __init__(self, connection: sqlite3.Connection, bulk: BulkEditor, domains: Iterable[str]) -> None:
        self._connection = connection
        self._bulk = bulk
        self._domains = set(domains)
        self._has_entries = False
        for table in _seen.sorted_tables:
            connection.execute(str(CreateTable(table).compile(dialect=sqlite.dialect())))
        bulk.tables.seen = self.see

    def see(self, kept: Kept) -> None:
        """The file names *kept*."""
        if isinstance(kept, Address):
            self._domains.add(kept.address.rpartition("@")[2])
            self._connection.execute(_INSERT["seen_address"], (kept.address,))
        elif isinstance(kept, Mailbox):
            self._connection.execute(_INSERT["seen_mailbox"], (kept.id,))
        elif isinstance(kept, BlockedSender):
            self._has_entries = True
            self._connection.execute(_INSERT["seen_entry"], (kept.id,))
        else:
            self._domains.add(kept.name)

    def remove_unseen(self, max_percent: float) -> None:
        """Take away what is in the file's domains and not in the file.

        Raises RefusedError where that is more than *max_percent* of the addresses that those domains held before, or
        of all blocked senders.
        """
        held = sum(1 for (text,) in self._connection.execute(_ALL_ADDRESSES) if self._is_ours(text))
        self._check("address", "addresses", sum(1 for _ in self._unseen_addresses()), held, max_percent)
        ((entries,),) = self._connection.execute(_COUNT_ENTRIES).fetchall()
        self._check("blocked sender", "blocked senders", sum(1 for _ in self._unseen_entries()), entries, max_percent)
        for entry in list(self._unseen_entries()):
            self._bulk.rows.remove(entry)
        for mailbox in list(self._unseen_mailboxes()):
            self._bulk.rows.remove(mailbox)
        for address in list(self._unseen_addresses()):
            self._bulk.rows.remove(address)

    def _check(self, kind: str, called: str, gone: int, held: int, max_percent: float) -> None:
        """Raises RefusedError if *gone* of the objects of a *kind*, of which *held* are there now, are too many."""
        before = held - self._bulk.tally[kind, "added"] + self._bulk.tally[kind, "removed"]
        if gone * 100 > before * max_percent:
            raise RefusedError(
                f"--replace would remove {gone} of {before} {called}, and may remove {max_percent:g} %; nothing was "
                f"changed; if the file is right, add --max-remove {-(-gone * 100 // before)}"
            )

    def _is_ours(self, address: str) -> bool:
        return address.rpartition("@")[2] in self._domains

    def _unseen_addresses(self) -> Iterator[Address]:
        for row in self._connection.execute(_UNSEEN_ADDRESSES):
            address = to_address(row)
            if self._is_ours(address.address):
                yield address

    def _unseen_mailboxes(self) -> Iterator[Mailbox]:
        """The mailboxes that the file does not name and whose every address is in its domains."""
        rows = queries.rows_of(self._connection)
        for (number,) in self._connection.execute(_UNSEEN_MAILBOXES).fetchall():
            mailbox, held = queries.mailbox_numbered(rows, number), queries.addresses_of(rows, number)
            if mailbox and held and all(self._is_ours(each.address) for each in held):
                yield mailbox

    def _unseen_entries(self) -> Iterator[BlockedSender]:
        """The blocked senders in the file's domains that it does not name; none where it names none at all."""
        rows = queries.rows_of(self._connection)
        for (number,) in self._connection.execute(_UNSEEN_ENTRIES).fetchall() if self._has_entries else ():
            entry = queries.entry(rows, number)
            if entry is not None and self._is_inside(rows, entry):
                yield entry

    def _is_inside(self, rows: queries.Rows, entry: BlockedSender) -> bool:
        if entry.pattern:
            return pattern_domain(entry.pattern) in self._domains
        holder = queries.mailbox_named(rows, fold(entry.mailbox))
        return holder is not None and any(self._is_ours(each.address) for each in queries.addresses_of(rows, holder.id))
