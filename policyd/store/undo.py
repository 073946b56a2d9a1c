"""Undoing a changeset: what each of its journal rows changed is changed back, as a new changeset."""

import json
import sqlite3
from dataclasses import replace

from policyd.address import fold
from policyd.errors import RefusedError
from policyd.model import Address, BlockedSender, Change, Domain, Mailbox
from policyd.store import queries
from policyd.store.journal import Kept, from_snapshot, object_name
from policyd.store.writer import Writer

_SHOWN = 10


def undo_changeset(connection: sqlite3.Connection, writer: Writer, changeset: int) -> None:
    """Make every object that *changeset* changed what it was before; the transaction is the caller's.

    Raises RefusedError where there is no such changeset, and where a later change touched one of its objects: it
    lists those.
    """
    rows = queries.rows_of(connection)
    conflicts: list[str] = []
    mailboxes: dict[str, None] = {}  # whose addresses are changed, in order
    count = conflicting = 0
    for change in queries.changes_of(connection, changeset):
        count += 1
        noun = change.operation.partition(".")[0]
        before = _object(noun, change.before)
        after = _object(noun, change.after)
        if after is None:
            before = _numbered_anew(rows, before)
        if _current(rows, after or before) == after and not _is_in_the_way(connection, before, after):
            writer.put(f"{noun}.undo", after, before)
            mailboxes |= {each.mailbox: None for each in (before, after) if isinstance(each, Address)}
        else:
            conflicting += 1
            if conflicting <= _SHOWN:
                conflicts.append(_conflict(rows, change, writer.journal.changeset))
    if not count:
        raise _no_changeset(rows, changeset)
    if not conflicts:
        conflicts = [problem for each in mailboxes if (problem := _without_one_primary(rows, each))]
        conflicting = len(conflicts)
    if conflicts:
        more = f"; and {conflicting - _SHOWN} more" if conflicting > _SHOWN else ""
        listed = "; ".join(conflicts[:_SHOWN])
        raise RefusedError(f"changeset {changeset} can't be undone, later changes build on it: {listed}{more}")


def _no_changeset(rows: queries.Rows, number: int) -> RefusedError:
    whole = queries.changeset_of(rows, number)
    if whole:
        return RefusedError(f"change {number} is a part of changeset {whole}; type: policyd undo {whole}")
    return RefusedError(f"there is no changeset {number}; see: policyd history")


def _object(noun: str, taken: str | None) -> Kept | None:
    return None if taken is None else from_snapshot(noun, json.loads(taken))


def _numbered_anew(rows: queries.Rows, kept: Kept | None) -> Kept | None:
    """*kept*, which is to be made again; without its number where another object has been given that since."""
    if isinstance(kept, Mailbox | BlockedSender) and _current(rows, kept) is not None:
        return replace(kept, id=0)
    return kept


def _current(rows: queries.Rows, like: Kept | None) -> Kept | None:
    """The object that *like* is a state of, as it stands now; by its number, where it has one."""
    if isinstance(like, Mailbox):
        return queries.mailbox_numbered(rows, like.id)
    if isinstance(like, BlockedSender):
        return queries.entry(rows, like.id)
    if isinstance(like, Address):
        return queries.address(rows, like.address)
    return queries.domain(rows, like.name) if like else None


def _is_in_the_way(connection: sqlite3.Connection, before: Kept | None, after: Kept | None) -> bool:
    """Whether something that other changesets made keeps *after* from becoming *before* again."""
    rows = queries.rows_of(connection)
    if before is None:
        return _has_dependants(connection, after)
    if isinstance(before, Mailbox):
        other = queries.mailbox_named(rows, fold(before.name))
        return other is not None and other.id != before.id
    if isinstance(before, Address):
        return queries.mailbox_named(rows, fold(before.mailbox)) is None
    return isinstance(before, BlockedSender) and after is None and not _is_free(rows, before)


def _without_one_primary(rows: queries.Rows, mailbox: str) -> str:
    """What would be wrong with the primary address of *mailbox*, "" where it has one, or no addresses at all."""
    found = queries.mailbox_named(rows, fold(mailbox))
    addresses = queries.addresses_of(rows, found.id) if found else []
    count = sum(each.is_primary for each in addresses)
    return f"mailbox {mailbox} would have {count or 'no'} primary addresses" if addresses and count != 1 else ""


def _has_dependants(connection: sqlite3.Connection, kept: Kept | None) -> bool:
    """Whether addresses or entries hang on *kept*, which is to go."""
    rows = queries.rows_of(connection)
    if isinstance(kept, Mailbox):
        return bool(
            queries.addresses_of(rows, kept.id)
            or queries.entries_for(rows, kept.id, ())
            or queries.entries_to(rows, kept.id)
        )
    return isinstance(kept, Domain) and next(queries.addresses_in(connection, kept.name), None) is not None


def _is_free(rows: queries.Rows, entry: BlockedSender) -> bool:
    """Whether the mailboxes that *entry* names are there, and no other entry stands in its place."""
    named = [queries.mailbox_named(rows, fold(name)) for name in (entry.mailbox, entry.to_mailbox) if name]
    holder = named[0].id if entry.mailbox and named[0] else 0
    others = queries.entries_for(rows, holder, () if entry.mailbox else (entry.pattern,))
    return None not in named and entry.to not in [other.to for other in others]


def _conflict(rows: queries.Rows, change: Change, own: int) -> str:
    """The later changes to what *change* changed, in words; but those of the changeset *own*."""
    names = {change.object}
    for taken in (change.before, change.after):
        kept = _object(change.operation.partition(".")[0], taken)
        names |= {object_name(kept)} if kept else set()
    later = {row.id: row for name in names for row in queries.later_changes(rows, name, change.id)}
    others = [row for _, row in sorted(later.items()) if row.changeset not in (change.changeset, own)]
    done = [f"change {row.id} ({row.operation})" for row in others]
    return f"{change.object}: {', '.join(done) or 'what hangs on it'}"
