"""Undoes a changeset, in a changeset of its own."""

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
    with session.changing(actor, now, verb="undo", summary=summary, spool=spool) as made:
        undo_changeset(made.edit, changeset)
        if is_dry_run:
            made.discard()
    return made
