"""Copies a whole database, its journal too, between a file and a server.

Numbers and digests stay, so that followers go on.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager

from sqlalchemy import func, insert, select

from policyd.errors import RefusedError, StoreUnsoundError
from policyd.store.connection import Connection, Database, Statement
from policyd.store.database import compiled, new_tables, postgresql, reading
from policyd.store.journal import chain_digest
from policyd.store.rows import pages_of, rows_of
from policyd.store.schema import change, metadata

Advance = Callable[[int], None]  # hears of so many more rows

_INSERT = {table.name: compiled(insert(table)) for table in metadata.sorted_tables}
_COUNT = {table.name: Statement(select(func.count()).select_from(table)) for table in metadata.sorted_tables}
_CHANGES = Statement(select(change).order_by(change.c.id))


def fill(file: sqlite3.Connection, connection: Connection, advance: Advance) -> None:
    """Put every row that *connection*, to a server, sees into the empty *file*, with its tables."""
    with closing(new_tables()) as tables:
        tables.execute("DELETE FROM journal_head")
        tables.commit()
        tables.backup(file)
    file.execute("BEGIN")
    for name, rows in pages_of(connection, metadata.sorted_tables):
        file.executemany(_INSERT[name], rows)
        advance(len(rows))
    file.execute("COMMIT")


@contextmanager
def as_file(connection: Connection) -> Iterator[sqlite3.Connection]:
    """A temporary file of SQLite's with every row that *connection* sees, for what looks at files.

    Rows that break a rule of their table are in it, too. Raises sqlite3.IntegrityError where a row can't be there at
    all, as where another has the same key.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as file:
        file.execute("PRAGMA ignore_check_constraints = ON")
        fill(file, connection, lambda count: None)
        file.execute("BEGIN")
        yield file


def copy_to_server(source: Database, target: Database, advance: Advance) -> int:
    """Copy *source* to *target*, on a server, where nothing may be; returns how many rows there are now.

    All of it or nothing. Raises StoreError, and RefusedError where *target* has something, or can't hold what there is.
    """
    with reading(source) as connection, postgresql().filling(target) as filling:
        counts: dict[str, int] = {}
        some_of = pages_of if source.is_on_server else rows_of
        for name, rows in some_of(connection, metadata.sorted_tables):
            _need_text(name, rows)
            filling.copy_in(name, rows)
            counts[name] = counts.get(name, 0) + len(rows)
            advance(len(rows))
        _verify(filling, counts)
    return sum(counts.values())


def _need_text(table: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Raises RefusedError where PostgreSQL can't hold a text in *rows*: one with a NUL, or that is no UTF-8."""
    for row in rows:
        for value in row:
            if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
                what = "a NUL character" if "\0" in value else "characters that are no UTF-8"
                raise RefusedError(
                    f"{table} {row[0]!r} has a text with {what}, which PostgreSQL can't hold: {value!a}; "
                    "nothing was copied. Change it first"
                )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _verify(connection: Connection, counts: dict[str, int]) -> None:
    """Raises StoreUnsoundError unless there are so many rows of each table, and the journal is whole."""
    for name, statement in _COUNT.items():
        ((count,),) = connection.fetch(statement)
        if count != counts.get(name, 0):
            raise StoreUnsoundError(f"of {name}, {count} of {counts.get(name, 0)} rows were copied; nothing was kept")
    digest = ""
    for *row, kept in connection.stream(_CHANGES):
        digest = chain_digest(digest, tuple(row))
        if kept != digest:
            raise StoreUnsoundError(f"change {row[0]} was not copied as it is, or has a wrong digest; nothing was kept")
