"""Undoes a changeset: a new changeset changes back what each of its changes did."""

from typing import Any

from policyd.changes import odd_change, sides
from policyd.errors import RefusedError
from policyd.model import Address, Change
from policyd.store.edit import Editor
from policyd.store.journal import UPGRADE, Stored, from_snapshot, object_name
from policyd.store.queries import Queries

_SHOWN = 10


def undo_changeset(editor: Editor, changeset: int) -> None:
    """Make every object that *changeset* changed what it was before; the transaction is the caller's.

    Raises RefusedError where there is no such changeset, and where a later change touched one of its objects: it
    lists those.
    """
    conflicts: list[str] = []
    mailboxes: dict[int, None] = {}  # whose addresses are changed, by number, in order
    count = conflicting = 0

    # Rows of the first edition say less.
    is_first = editor.queries.is_first_edition(changeset)

    # The last change first, so that what refers to an object goes before the object, and comes back after it.
    for change in editor.queries.changes_of(changeset):
        if change.operation == "database.restore":
            raise _restored(change)
        if change.operation == UPGRADE:
            raise _upgraded(change)
        count += 1
        noun = change.operation.partition(".")[0]
        before, after = _objects(change, noun, is_first)
        if editor.restore(noun, after, before):
            mailboxes |= _holders(editor.queries, before, after)
        else:
            conflicting += 1
            if conflicting <= _SHOWN:
                conflicts.append(_conflict(editor.queries, change, editor.journal.changeset, (before, after)))
    if not count:
        raise _no_changeset(editor.queries, changeset)

    # Only now has every mailbox the addresses that it is left with.
    if not conflicts:
        conflicts = [problem for each in mailboxes if (problem := editor.primary_problem(each))]
        conflicting = len(conflicts)
    if conflicts:
        more = f"; and {conflicting - _SHOWN} more" if conflicting > _SHOWN else ""
        listed = "; ".join(conflicts[:_SHOWN])
        raise RefusedError(f"changeset {changeset} can't be undone, later changes build on it: {listed}{more}")


def _restored(change: Change) -> RefusedError:
    """A restore is not undone object by object."""
    file = sides(change)[0].get("file", "")
    advice = f"to take it back, type: policyd database restore {file}" if file else "nothing was there before"
    return RefusedError(f"changeset {change.changeset} restored a whole database; {advice}")


def _upgraded(change: Change) -> RefusedError:
    """Neither is an upgrade of the tables."""
    before, after = sides(change)
    return RefusedError(
        f"changeset {change.changeset} is the upgrade of the database from version {before.get('schema')} to "
        f"{after.get('schema')}, which can't be undone; what it was before, for the policyd before, is in "
        f"{before.get('file') or 'the backup that pg_dump made'}"
    )


def _no_changeset(queries: Queries, number: int) -> RefusedError:
    whole = queries.changeset_of(number)
    if whole:
        return RefusedError(f"change {number} is a part of changeset {whole}; type: policyd undo {whole}")
    return RefusedError(f"there is no changeset {number}; see: policyd history")


def _objects(change: Change, noun: str, is_first_edition: bool) -> tuple[Stored | None, Stored | None]:
    """What *change* found and what it left."""

    def taken(fields: dict[str, Any]) -> Stored | None:
        return from_snapshot(noun, fields, is_first_edition=is_first_edition) if fields else None

    before, after = sides(change)
    try:
        return taken(before), taken(after)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise odd_change(change) from error


def _holders(queries: Queries, *changed: Stored | None) -> dict[int, None]:
    """The numbers of the mailboxes whose addresses were *changed*."""
    texts = [each.address for each in changed if isinstance(each, Address)]
    held = [queries.address(text) for text in texts]
    numbers = [each.mailbox_id for each in (*changed, *held) if isinstance(each, Address)]
    return dict.fromkeys(number for number in numbers if number)


def _conflict(queries: Queries, change: Change, own: int, states: tuple[Stored | None, ...]) -> str:
    """The later changes to what *change* changed, in words; but those of the changeset *own*."""
    names = {change.object, *(object_name(stored) for stored in states if stored)}
    later = {row.id: row for name in names for row in queries.later_changes(name, change.id)}
    others = [row for _, row in sorted(later.items()) if row.changeset not in (change.changeset, own)]
    done = [f"change {row.id} ({row.operation})" for row in others]
    return f"{change.object}: {', '.join(done) or 'what hangs on it'}"
