"""Ways to change the tables past the command line, for tests."""

import sqlite3
from collections.abc import Callable

from policyd.model import Change
from policyd.store.block import BlockEditor
from policyd.store.bulk import BulkEditor, BulkOptions
from policyd.store.database import Connection, driver_connection
from policyd.store.edit import Editor
from policyd.store.journal import Journal
from policyd.store.writer import Writer

NOW = 1_700_000_000
ACTOR = "root"


def writer_on(
    driver: sqlite3.Connection, *, verb: str = "", tell: Callable[[Change], None] | None = None, now: int = NOW
) -> Writer:
    """Writes over a DBAPI connection, with a journal of its own."""
    return Writer(driver, Journal(driver, ACTOR, now, verb=verb, tell=tell))


def editors_on(connection: Connection, now: int = NOW) -> tuple[Editor, BlockEditor]:
    """What the commands change the tables with; both in one changeset."""
    writer = writer_on(driver_connection(connection), now=now)
    return Editor(connection, writer, now), BlockEditor(connection, writer, ACTOR, now)


def bulk_on(driver: sqlite3.Connection, *, add_domains: bool = False, now: int = NOW) -> BulkEditor:
    """What an import changes the tables with."""
    return BulkEditor(driver, writer_on(driver, verb="import", now=now), BulkOptions(ACTOR, now, add_domains))
