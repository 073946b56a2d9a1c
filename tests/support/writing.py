"""Ways to change the tables past the command line, for tests."""

from collections.abc import Callable

from policyd.model import Change
from policyd.store.bulk import BulkEditor
from policyd.store.connection import Connection
from policyd.store.edit import Editor
from policyd.store.journal import Journal

NOW = 1_700_000_000
ACTOR = "root"


def editor_on(
    connection: Connection, *, verb: str = "", on_change: Callable[[Change], None] | None = None, now: int = NOW
) -> Editor:
    """What commands, imports and undos change the tables with; all it does is one changeset."""
    return Editor(connection, Journal(connection, ACTOR, now, verb=verb, on_change=on_change))


def bulk_on(
    connection: Connection, *, adds_domains: bool = False, takes_circles: bool = False, now: int = NOW
) -> BulkEditor:
    """What an import changes the tables with."""
    editor = editor_on(connection, verb="import", now=now)
    return BulkEditor(connection, editor, adds_domains=adds_domains, takes_circles=takes_circles)
