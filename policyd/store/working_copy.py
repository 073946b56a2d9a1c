"""A change of many rows on a server: made in a copy of the tables here, of which the server gets what differs.

Each row of an import asks several things before anything is written, and over a network each question takes as long as
a hundred of them on a file. The head of the journal is locked all the while, so that nobody else changes anything.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, select, update

from policyd.errors import StoreWriteError
from policyd.store.connection import Connection, Statement
from policyd.store.database import SQLITE, compiled, new_tables
from policyd.store.rows import pages_of
from policyd.store.schema import change, journal_head, key_of, metadata

if TYPE_CHECKING:
    from policyd.store.postgresql import ServerConnection

_TABLES = tuple(table for table in metadata.sorted_tables if table not in (change, journal_head))
_INSERT = {table.name: compiled(insert(table)) for table in metadata.sorted_tables}
_CHANGES = compiled(select(change).where(change.c.id > bindparam("last")).order_by(change.c.id))
_CHANGES_FROM = Statement(select(change).where(change.c.id >= bindparam("first")).order_by(change.c.id))
_LAST = compiled(select(journal_head.c.id))
_HEAD = compiled(select(journal_head))
_UPDATE_HEAD = Statement(
    update(journal_head).values({each.name: bindparam(f"new_{each.name}") for each in journal_head.c})
)


_DELETE = {table.name: Statement(delete(table).where(key_of(table) == bindparam("key"))) for table in _TABLES}


@contextmanager
def working_copy(server: "ServerConnection", journal_from: int | None = None) -> Iterator[Connection]:
    """A connection to a copy of the tables that *server* sees; what was changed in it is then changed there.

    Of the journal the copy has the rows from *journal_from* on, none without. The transaction is *server*'s. Raises
    StoreError.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as file:
            _fetch(server, file)
            file.execute("BEGIN")
            ((last,),) = file.execute(_LAST)
            if journal_from is not None:
                file.executemany(_INSERT[change.name], server.stream(_CHANGES_FROM, journal_from))
            connection = Connection(file, SQLITE)
            yield connection
            connection.finish()
            _bring(file, server, last)
    except sqlite3.Error as error:
        raise StoreWriteError(f"nothing was changed: a temporary file can't be used: {error}") from error


def _fetch(server: "ServerConnection", file: sqlite3.Connection) -> None:
    """Fill the empty *file* with the tables, and beside each with what it was."""
    with closing(new_tables()) as tables:
        tables.execute("DELETE FROM journal_head")
        tables.commit()
        tables.backup(file)
    file.execute("BEGIN")
    for name, rows in pages_of(server, (*_TABLES, journal_head)):
        file.executemany(_INSERT[name], rows)
    for table in _TABLES:
        file.execute(f'CREATE TABLE "was_{table.name}" AS SELECT * FROM "{table.name}"')
    file.execute("COMMIT")


def _bring(file: sqlite3.Connection, server: "ServerConnection", last: int) -> None:
    """Have *server* change what is not any more as it was: a row that differs goes, and comes back as it is now.

    The journal ended with the change *last*.
    """
    # Of each table, the keys of what differs.
    for table in _TABLES:
        name, key = table.name, key_of(table).name
        file.execute(
            f'CREATE TEMP TABLE "touched_{name}" AS '
            f'SELECT "{key}" AS key FROM (SELECT * FROM "was_{name}" EXCEPT SELECT * FROM "{name}") UNION '
            f'SELECT "{key}" FROM (SELECT * FROM "{name}" EXCEPT SELECT * FROM "was_{name}")'
        )

    # What goes, goes first: it may have the place of what comes. What refers to others goes before them.
    for table in reversed(_TABLES):
        name, key = table.name, key_of(table).name
        server.run_each(
            _DELETE[name],
            file.execute(f'SELECT key FROM "touched_{name}" WHERE key IN (SELECT "{key}" FROM "was_{name}")'),
        )

    # What comes, comes after what it refers to.
    for table in _TABLES:
        name, key = table.name, key_of(table).name
        server.copy_in(
            name, file.execute(f'SELECT * FROM "{name}" WHERE "{key}" IN (SELECT key FROM "touched_{name}")')
        )
    server.copy_in(change.name, file.execute(_CHANGES, (last,)))
    server.run_each(_UPDATE_HEAD, file.execute(_HEAD))
