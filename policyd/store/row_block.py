"""One row about a blocked sender -> the tables."""

from dataclasses import replace

from policyd.address import fold, is_pattern, pattern_domain
from policyd.model import BlockedSender, Mailbox, Recipients
from policyd.records import BlockRow, Keep, ListEdit, Mode
from policyd.store import queries
from policyd.store.counted import CountedTables, check_mode, given


class BlockRowEditor:
    """Applies rows about blocked senders to *tables*."""

    def __init__(self, tables: CountedTables) -> None:
        self._tables = tables

    def apply(self, row: BlockRow) -> None:
        """Apply *row*. Raises RefusedError, and WaitsError if a mailbox has to be there first."""
        holder = None if is_pattern(row.sender) else self._tables.need_mailbox(row.sender)
        wanted = self._wanted_entry(row, holder)
        found = queries.entries_for(self._tables.rows, holder.id if holder else 0, () if holder else (row.sender,))
        before = next((each for each in found if each.to == wanted.to), None)
        check_mode(row.mode, f"the blocked sender {row.sender} to {wanted.to}", before is not None)
        if row.mode is Mode.DELETE:
            self.put(before, None)
            return
        current = before or wanted
        allowed = current.allowed
        if not isinstance(row.allowed, Keep):
            kept = frozenset() if row.allowed.clear else allowed
            allowed = kept - set(row.allowed.remove) | set(row.allowed.add)
        after = replace(
            current,
            allowed=allowed,
            reason=given(row.reason, current.reason),
            until=given(row.until, current.until),
            comment=given(row.comment, current.comment),
            created_at=given(row.created_at, current.created_at),
            created_by=given(row.created_by, current.created_by),
        )
        self.put(before, after)

    def _wanted_entry(self, row: BlockRow, holder: Mailbox | None) -> BlockedSender:
        """The entry that *row* is about, as it is where nothing more is said of it."""
        is_inside = holder is not None or self._tables.is_managed(pattern_domain(row.sender))
        to = row.to or (Recipients.OUTSIDE if is_inside else Recipients.ANYONE)
        is_fixed = to in (Recipients.OUTSIDE, Recipients.ANYONE)
        return BlockedSender(
            mailbox=holder.name if holder else "",
            pattern="" if holder else row.sender,
            recipients=Recipients(to) if is_fixed else Recipients.MAILBOX,
            to_mailbox="" if is_fixed else self._tables.need_mailbox(to).name,
            created_at=self._tables.options.now,
            created_by=self._tables.options.actor,
        )

    def put(self, before: BlockedSender | None, after: BlockedSender | None) -> None:
        """Make the entry that was *before* be *after*."""
        self._tables.writer.put_blocked("sender.import", before, after)
        self._tables.count("blocked sender", before, after)

    def put_rejected(self, mailbox: Mailbox, edit: ListEdit) -> None:
        """Make the senders that may not send to *mailbox* what the row says."""
        entries = {fold(each.sender): each for each in queries.entries_to(self._tables.rows, mailbox.id)}
        added = {fold(sender) for sender in edit.add}
        gone = entries if edit.clear else [fold(sender) for sender in edit.remove]
        for key in gone:
            if key in entries and key not in added:
                self.put(entries[key], None)
        for sender in edit.add:
            self.apply(BlockRow(sender, mailbox.name))

    def remove_all(self, mailbox: Mailbox) -> None:
        """Take away every entry that is *mailbox* or that is to it."""
        rows = self._tables.rows
        own, other = queries.entries_for(rows, mailbox.id, ()), queries.entries_to(rows, mailbox.id)
        for entry in {entry.id: entry for entry in (*own, *other)}.values():
            self.put(entry, None)
