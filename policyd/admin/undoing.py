"""Undoes a changeset, in a changeset of its own."""

from itertools import islice

from policyd.admin.session import Changing, Session, Summary
from policyd.model import Change
from policyd.store.spool import Spool
from policyd.store.undo import undo_changeset

LOGGED_SINGLY = 1000  # changes; of a larger changeset only the number is kept and logged


def undo(
    session: Session,
    changeset: int,
    actor: str,
    now: int,
    *,
    is_dry_run: bool = False,
    spool: Spool[Change] | None = None,
) -> Changing:
    """Undo *changeset*, by *actor* at *now* (Unix seconds), and return what came of it; a dry run keeps nothing.

    A *spool* gets every change.

    Raises RefusedError where later changes touched the same objects, and StoreError; then nothing was changed.
    """
    summary = Summary("database.undo", f"changeset {changeset}", above=LOGGED_SINGLY)
    is_bulk = session.database.is_on_server and _is_large(session, changeset)
    journal_from = changeset if is_bulk else None
    with session.changing(
        actor, now, verb="undo", summary=summary, is_bulk=is_bulk, journal_from=journal_from, spool=spool
    ) as made:
        undo_changeset(made.edit, changeset)
        if is_dry_run:
            made.discard()
    return made


def _is_large(session: Session, changeset: int) -> bool:
    """Whether *changeset* has so many changes that it is faster to undo it in a copy of the tables."""
    with session.reading() as queries:
        changes = queries.changes_of(changeset)
        return sum(1 for _ in islice(changes, LOGGED_SINGLY + 1)) > LOGGED_SINGLY
