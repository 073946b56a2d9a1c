"""Opens the database, and begins transactions: one writer at a time, and readers who see one state of the tables.

A new database appears whole or not at all. This is one file, because whoever opens a database, to read or to write,
must look at the same things first: whose it is, its version, its log.
"""

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from sqlalchemy import insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from policyd.errors import (
    StoreCreateError,
    StoreError,
    StoreMissingError,
    StoreOutdatedError,
    StoreSpoiledError,
    StoreWriteError,
    install_line,
    reason_of,
)
from policyd.files import acting, check_permissions, drafting, entered, owner_of, refuse_planted
from policyd.pipe_watch import watching
from policyd.store.connection import Connection, Database
from policyd.store.schema import APPLICATION_ID, REPLICA_ID, VERSION, first_head, journal_head, metadata
from policyd.store.wal import are_open, has_log, identity, need_own_log, new_cookie, writer_of

_WRITER_WAIT_SECONDS = 600.0  # for an import of a million rows, or for two hundred others on a busy machine
_QUIET_WAIT_SECONDS = 1.0  # until a person is told of the writer that is waited for
_READER_WAIT_SECONDS = 1.0  # WAL makes a reader wait only while the file is recovered or first opened
_STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's machine, for who has only so long: a tenth of a millisecond
_CACHE_MEBIBYTES, _BULK_CACHE_MEBIBYTES = 2, 64  # of the file, for one change
_MOVED = "the file, or -wal or -shm beside it, was removed or replaced meanwhile"
_NO_FILES = ((0, 0), (0, 0))
_LOG_WAIT_SECONDS = 0.1  # for the daemon, which reads for microseconds
_LOG_SECONDS, _LOG_LOOK_SECONDS = 0.5, 0.02  # for a daemon that a busy machine has stopped while it reads

_Begin = Callable[[sqlite3.Connection], None]

SQLITE = sqlite.dialect(paramstyle="qmark")

# What is neither a table nor an index by the words it was made with, which alone tell SQLite what it is.
_FOREIGN_OBJECTS = """
    SELECT CAST(name AS BLOB) FROM sqlite_schema
    WHERE NOT (sql IS NULL OR sql GLOB 'CREATE TABLE*' OR sql GLOB 'CREATE INDEX*' OR sql GLOB 'CREATE UNIQUE INDEX*')
    LIMIT 1
"""  # SQLAlchemy has no words for these


def compiled(construct: Any) -> str:
    """*construct* as SQLite's text, with `?` for its parameters in their order: for what only SQLite is asked."""
    return str(construct.compile(dialect=SQLITE))


def connect_reading(database: Database) -> sqlite3.Connection:
    """A read-only DBAPI connection to the tables, which may be a replica's. Raises StoreError.

    Root must act as `owner_of` its path.
    """
    return _connect(database.path, "ro", _READER_WAIT_SECONDS, takes_replica=True)


def connect_writing(database: Database) -> sqlite3.Connection:
    """A DBAPI connection that can change the tables, one writer after the other. Raises StoreError."""
    return _connect(database.path, "rw", _WRITER_WAIT_SECONDS)


def connect_following(path: Path) -> sqlite3.Connection:
    """A DBAPI connection that can change the replica at *path*. Raises StoreError.

    What is lost by a power failure is followed again; that there is half of a change is not possible.
    """
    connection = _connect(path, "rw", _READER_WAIT_SECONDS, takes_replica=True)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = OFF")  # the database that is followed has looked at them
    return connection


class UpgradingConnection(sqlite3.Connection):
    """A connection whose transaction only its own COMMIT and ROLLBACK statements end, whatever a library calls."""

    def commit(self) -> None:
        """Leave the transaction to whoever began it."""

    def rollback(self) -> None:
        """Leave the transaction to whoever began it."""


def connect_upgrading(database: Database, *, takes_replica: bool = False) -> sqlite3.Connection:
    """A DBAPI connection to the tables of this or an older version, to make them new ones. Raises StoreError.

    No foreign key is followed: a table that is taken away must not take rows of others along.
    """
    return _connect(database.path, "rw", _WRITER_WAIT_SECONDS, UpgradingConnection, takes_replica=takes_replica)


def file_uri(path: Path) -> str:
    """SQLite's name for the file at *path*, for options behind a question mark."""
    return f"file:{quote(os.fsencode(path))}"


@contextmanager
def reading(database: Database, *, is_checked: bool = True, limit_seconds: float | None = None) -> Iterator[Connection]:
    """A connection that sees one state of the tables. Raises StoreError.

    What it makes beside the file goes again, and so does what a writer left in the log because of this reader.
    Only who reads no table before having looked at what is one may have it not *is_checked* for `foreign_object`.
    With *limit_seconds*, a statement that is still at work so long after the beginning ends as a StoreError; on a
    server, one that takes so long itself.
    """
    if database.is_on_server:
        with postgresql().reading(database, limit_seconds=limit_seconds) as connection:
            yield connection
        return

    # Where there is no log, opening the tables makes one, which is to go again.
    path = database.path
    is_alone = identity(path)[1:] == _NO_FILES
    try:
        with _transaction(path, "ro", _READER_WAIT_SECONDS, _begin_reading) as connection:
            if is_checked:
                check_objects(path, connection.driver)
            if limit_seconds is not None:
                deadline = time.monotonic() + limit_seconds
                connection.driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
            yield connection
            connection.driver.set_progress_handler(
                None, 0
            )  # the end of the transaction is no statement of the caller's
    finally:
        if is_alone or has_log(path):
            empty_log(path)


@contextmanager
def changing(database: Database, *, is_bulk: bool = False, journal_from: int | None = None) -> Iterator[Connection]:
    """The one connection that may change the tables, in one transaction, kept if the block ends well.

    Raises StoreError, with the tables as they were. A change that *is_bulk* may have thousands of rows: more of a file
    is kept in memory then, and on a server, it is made in a copy of the tables, and of the journal *journal_from* on.
    """
    if database.is_on_server:
        with postgresql().changing(database, is_bulk=is_bulk) as connection:
            if is_bulk:
                with import_module("policyd.store.working_copy").working_copy(connection, journal_from) as local:
                    yield local
            else:
                yield connection
        return

    # Nobody else writes from here on.
    path = database.path
    with _transaction(path, "rw", _WRITER_WAIT_SECONDS, partial(begin_writing, database)) as connection:
        check_objects(path, connection.driver)
        cache_mebibytes = _BULK_CACHE_MEBIBYTES if is_bulk else _CACHE_MEBIBYTES
        connection.driver.execute(f"PRAGMA cache_size = {-1024 * cache_mebibytes}")
        yield connection
        connection.finish()

        # The first page, which says which file the log belongs to, is written by every change.
        connection.driver.execute(f"PRAGMA user_version = {VERSION}")

        # A commit to a file that is no longer at this path would be lost without a word.
        if not are_open(path):
            raise StoreWriteError(f"{path}: {_MOVED}, nothing was changed: do it again")

    # The changes are kept; the file alone is to be the whole database.
    empty_log(path, _LOG_SECONDS)


def exists(database: Database) -> bool:
    """Whether the database has been made; of one on a server, only using it tells."""
    return database.is_on_server or database.path.exists()


def begin_writing(database: Database, driver: sqlite3.Connection) -> None:
    """Begin a transaction with the write lock; who waits for it longer than a second is told why, once.

    Raises sqlite3.Error, also where the other writer does not end.
    """
    driver.execute(f"PRAGMA busy_timeout = {1000 * _QUIET_WAIT_SECONDS:.0f}")
    is_begun = True
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        is_begun = False
        if database.on_wait is not None:
            database.on_wait(writer_of(database.path))

    # From now on as long as an import may take.
    driver.execute(f"PRAGMA busy_timeout = {1000 * _WRITER_WAIT_SECONDS:.0f}")
    if not is_begun:
        driver.execute("BEGIN IMMEDIATE")


def _begin_reading(driver: sqlite3.Connection) -> None:
    driver.execute("BEGIN")


def create_database(database: Database, *, exist_ok: bool = False) -> None:
    """Make the database, as the owner of its folder: the whole file appears at once. On a server, make the tables.

    Raises StoreCreateError, also if there is one already, unless *exist_ok*.
    """
    if database.is_on_server:
        postgresql().create_tables(database)
        return

    # Refuse a place in which others could put something under the database.
    path = database.path
    check_permissions(path)

    # Make the tables in memory, and write them under a random name; the last step gives the file its own.
    try:
        with closing(new_tables()) as tables, acting(owner_of(path)), drafting(path) as draft:
            _write_tables(tables, draft)
    except FileExistsError as error:
        if not exist_ok:
            raise StoreCreateError(f"{path}: there is a file by that name already; it was left as it is") from error
    except FileNotFoundError as error:
        raise StoreCreateError(
            f"{path}: there is no folder {path.parent}; make it with: install -d {path.parent}"
        ) from error
    except (OSError, sqlite3.Error, DBAPIError) as error:
        reason = error.strerror if isinstance(error, OSError) else _sqlite_error(error)
        raise StoreCreateError(f"{path}: the database can't be made: {reason}") from error


def postgresql() -> ModuleType:
    """What knows PostgreSQL, and takes a tenth of a second to load. Raises StoreError where its driver is missing."""
    try:
        return import_module("policyd.store.postgresql")
    except ModuleNotFoundError as error:
        raise StoreError(
            f"PostgreSQL needs the Python package {error.name}, which is missing; type: {install_line('postgresql')}"
        ) from error


def store_error(path: Path, error: sqlite3.Error | DBAPIError) -> StoreError:
    """What the administrator must know of an error of the database at *path*."""
    cause = _sqlite_error(error)
    extended_code = getattr(cause, "sqlite_errorcode", 0)
    code = extended_code & 0xFF

    # The file is missing, or may not be read.
    if code == sqlite3.SQLITE_CANTOPEN and (why := _why_unreadable(path)):
        return missing_error(path, why)

    # It can't be written: no room, no right.
    is_read = extended_code in (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) and not is_read:
        return StoreWriteError(f"{path}: can't be written, nothing was changed: {cause}; make room on the disk")
    if code == sqlite3.SQLITE_READONLY or "permission" in str(cause):
        return StoreWriteError(f"{path}: can't be written, nothing was changed: {cause}; become its owner, or root")

    # Another writer is at work, or the content is damaged.
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{path}: another command is changing the tables and does not end; try again")
    if code == sqlite3.SQLITE_INTERRUPT:
        return StoreError(f"{path}: the question took longer than it may; ask for less")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreSpoiledError(f"{path}: not a policyd database, or damaged: {cause}; restore it from a backup")
    return StoreError(f"{path}: the database can't be read: {cause}")


def _why_unreadable(path: Path) -> OSError | None:
    """Why the file at *path* can't be read; asked without opening it, which would let go of SQLite's locks on it."""
    try:
        path.stat()
    except OSError as error:
        return error
    is_readable = os.access(path, os.R_OK, effective_ids=True)
    return None if is_readable else PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def missing_error(path: Path, error: OSError) -> StoreError:
    """What the administrator must know where the file at *path* can't be looked at."""
    if isinstance(error, FileNotFoundError):
        return StoreMissingError(f"{path}: there is no database; make it with: policyd database create")
    return StoreError(f"{path}: the database can't be read: {reason_of(error)}")


@contextmanager
def _begun(path: Path, mode: str, wait_seconds: float, begin: _Begin) -> Iterator[sqlite3.Connection]:
    """A DBAPI connection in a transaction, which is committed if the block ends well, else rolled back."""
    with closing(_connect(path, mode, wait_seconds)) as driver:
        begin(driver)
        # From here on the state is held, and SQLite opens nothing more by name.
        driver.execute("PRAGMA schema_version")
        yield driver
        driver.execute("COMMIT")


@contextmanager
def _transaction(path: Path, mode: str, wait_seconds: float, begin: _Begin) -> Iterator[Connection]:
    try:
        with entered(_begun(path, mode, wait_seconds, begin), owner_of(path)) as driver:
            yield Connection(driver, SQLITE)
    except FileNotFoundError as error:
        raise missing_error(path, error) from error
    except (DBAPIError, sqlite3.Error) as error:
        raise store_error(path, error) from error


def _connect(
    path: Path,
    mode: str,
    wait_seconds: float,
    kind: type[sqlite3.Connection] = sqlite3.Connection,
    *,
    takes_replica: bool = False,
) -> sqlite3.Connection:
    """A DBAPI connection in autocommit, to a database of this version. *mode* is SQLite's: ro or rw.

    Of the *kind* `UpgradingConnection`, it is one to a database of this or an older version.
    """
    # Refuse what SQLite would open by name and trust: planted files, another database's log.
    refuse_planted(path)
    need_own_log(path)

    # Open the file in a way that its disk allows.
    uri = f"{file_uri(path)}?mode={mode}"
    if mode == "rw" and _is_read_only(path):
        raise StoreWriteError(f"{path}: can't be written, nothing was changed: its disk is read-only; remount it")
    if mode == "ro" and is_unchanging(path):
        uri += "&immutable=1"  # else SQLite wants to write its index of the log, which is empty
    with watching(path):
        return _opened(path, uri, mode, wait_seconds, kind, takes_replica=takes_replica)


def _opened(
    path: Path, uri: str, mode: str, wait_seconds: float, kind: type[sqlite3.Connection], *, takes_replica: bool
) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=wait_seconds, isolation_level=None, factory=kind)
    except sqlite3.Error as error:
        raise store_error(path, error) from error

    # Only tables of this version are used. A writer's commits survive a power failure (synchronous = FULL).
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        if kind is UpgradingConnection:
            version_of(path, connection, takes_replica=takes_replica)
        else:
            need_version(path, connection, takes_replica=takes_replica)
            connection.execute("PRAGMA foreign_keys = ON")
        if mode == "rw":
            _have_log(path, connection)
            connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        connection.close()
        raise store_error(path, error) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _have_log(path: Path, connection: sqlite3.Connection) -> None:
    """Have changes go to a write-ahead log, which is open from now on: a journal would be opened by name later."""
    ((mode,),) = connection.execute("PRAGMA journal_mode = WAL").fetchall()
    if mode != "wal":
        raise StoreError(f"{path}: can't have a write-ahead log (its journal mode is {mode}); restore it from a backup")


def is_unchanging(path: Path) -> bool:
    """Whether the file at *path* is on a read-only disk, and all that was committed is in it."""
    log = Path(f"{path}-wal")
    try:
        return _is_read_only(path) and not (log.exists() and log.stat().st_size)
    except OSError:
        return False


def _is_read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def need_version(path: Path, connection: sqlite3.Connection, *, takes_replica: bool = False) -> None:
    """Raises StoreError unless the tables are policyd's, and of its own version; a replica's only if it *takes* one."""
    version = version_of(path, connection, takes_replica=takes_replica)
    if version < VERSION:
        raise StoreOutdatedError(
            f"{path}: has tables of version {version}, and this policyd needs version {VERSION}; "
            "type: policyd database upgrade"
        )


def version_of(path: Path, connection: sqlite3.Connection, *, takes_replica: bool = False) -> int:
    """The version of the tables, this one or an older one. Raises StoreError unless they are policyd's."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()

    # A replica is changed by nobody but who follows for it.
    if application_id == REPLICA_ID:
        if not takes_replica:
            raise StoreError(
                f"{path}: a replica, which only follows its database; leave --database out, or name that database"
            )
        application_id = APPLICATION_ID

    # A file that is not ours. An empty one holds nothing of anybody's, so that a restore may take its place.
    if application_id != APPLICATION_ID:
        if not path.stat().st_size:
            raise StoreSpoiledError(f"{path}: not a policyd database; say where yours is with --database")
        raise StoreError(f"{path}: not a policyd database; say where yours is with --database")

    # Tables of another version, which may have come while a daemon runs.
    if version > VERSION:
        raise StoreSpoiledError(
            f"{path}: made by a newer policyd (tables version {version}, this one knows {VERSION}); "
            "install that policyd and restart the daemon, or restore a backup"
        )
    if version < 1:
        raise StoreSpoiledError(f"{path}: has tables of version {version}, which no policyd made; restore a backup")
    return int(version)


def foreign_object(connection: sqlite3.Connection) -> str:
    """The name of a view, trigger or virtual table, of which policyd makes none; "" where there is none.

    To read a table might be to run such a view for ever, and to write one, a trigger.
    """
    names = connection.execute(_FOREIGN_OBJECTS).fetchall()
    return ascii((names[0][0] or b"").decode("utf-8", "backslashreplace")) if names else ""


def check_objects(path: Path, connection: sqlite3.Connection) -> None:
    """Raises StoreError where the database has a `foreign_object`. To be asked in the transaction that reads."""
    if name := foreign_object(connection):
        raise StoreError(
            f"{path}: {name} in it is a view, trigger or virtual table, which policyd never makes; restore a backup "
            "(policyd database check tells more)"
        )


def is_ours(header: bytes) -> bool:
    """Whether a file that begins with *header*, a hundred bytes, is a database of policyd's."""
    return header.startswith(b"SQLite format 3\0") and int.from_bytes(header[68:72]) == APPLICATION_ID


def empty_tables() -> sqlite3.Connection:
    """Every table with nothing in it, in memory; autocommit."""
    tables = sqlite3.connect(":memory:", isolation_level=None)
    for statement in _statements_for_tables():
        tables.execute(statement)
    return tables


@cache
def _statements_for_tables() -> list[str]:
    """What makes each table, and then its indexes, by their names."""
    made: list[CreateTable | CreateIndex] = []
    for table in metadata.sorted_tables:
        made += [CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name)))]
    return [*map(compiled, made)]


def new_tables() -> sqlite3.Connection:
    """The tables of a new database, in memory."""
    tables = empty_tables()
    head = first_head()
    tables.execute(compiled(insert(journal_head)), [head[column.name] for column in journal_head.c])
    tables.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    tables.execute(f"PRAGMA user_version = {VERSION}")
    return tables


def _write_tables(tables: sqlite3.Connection, draft: Path) -> None:
    """Copy the *tables* into the empty file *draft*, and leave nothing beside it."""
    # A random number in the header tells this file's log from another database's: see policyd.store.wal.
    with watching(draft), closing(sqlite3.connect(draft)) as plain:
        tables.backup(plain)
        plain.execute(f"PRAGMA schema_version = {new_cookie()}")
        plain.execute("PRAGMA journal_mode = WAL")

    give_away(draft)


def give_away(draft: Path) -> None:
    """Give *draft* to the folder's group, as every database is; its owner is who makes it."""
    with suppress(PermissionError):  # only a member of the group can do that
        os.chown(draft, -1, draft.parent.stat().st_gid, follow_symlinks=False)


def empty_log(path: Path, seconds: float = 0.0) -> None:
    """Move what was committed from the write-ahead log into the file, so that the file alone is the database.

    A file that somebody moves to *path* then finds no old log to take for its own. Best effort: where another
    writer is in the way, its end does the same. Where a reader is, who may stay for minutes, it is tried again for so
    many *seconds*, and then the log stays: to wait with the lock held would keep every other writer from writing.
    """
    deadline = time.monotonic() + seconds
    try:
        with acting(owner_of(path)), closing(_connect(path, "rw", _LOG_WAIT_SECONDS)) as connection:
            while not _is_log_emptied(connection) and time.monotonic() < deadline:
                time.sleep(_LOG_LOOK_SECONDS)
    except (StoreError, sqlite3.Error, OSError):
        pass


def _is_log_emptied(connection: sqlite3.Connection) -> bool:
    """Whether all of the log could be moved into the file."""
    _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if frames != moved:
        return False
    is_busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


def _sqlite_error(error: sqlite3.Error | DBAPIError) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
