"""Opens the database, and begins transactions: one writer at a time, and readers who see one state of the tables.

A new database appears whole or not at all.
"""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Dialect, create_engine, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from policyd.errors import (
    StoreCreateError,
    StoreError,
    StoreMissingError,
    StoreOutdatedError,
    StoreSpoiledError,
    StoreWriteError,
    reason_of,
)
from policyd.files import acting, check_permissions, drafting, entered, owner_of, refuse_planted
from policyd.pipe_watch import watching
from policyd.store.schema import APPLICATION_ID, VERSION, first_head, journal_head, metadata
from policyd.store.wal import has_log, identity, need_own_log, new_cookie, writer_of

_WRITER_WAIT_SECONDS = 600.0  # for an import of a million rows, or for two hundred others on a busy machine
_QUIET_WAIT_SECONDS = 1.0  # until a person is told of the writer that is waited for
_READER_WAIT_SECONDS = 1.0  # WAL makes a reader wait only while the file is recovered or first opened
_MOVED = "the file, or -wal or -shm beside it, was removed or replaced meanwhile"
_NO_FILES = ((0, 0), (0, 0))
_LOG_WAIT_SECONDS = 0.1  # for the daemon, which reads for microseconds


_Begin = Callable[[sqlite3.Connection], None]
SQLITE = sqlite.dialect(paramstyle="qmark")

# What is neither a table nor an index by the words it was made with, which alone tell SQLite what it is.
_FOREIGN_OBJECTS = """
    SELECT CAST(name AS BLOB) FROM sqlite_schema
    WHERE NOT (sql IS NULL OR sql GLOB 'CREATE TABLE*' OR sql GLOB 'CREATE INDEX*' OR sql GLOB 'CREATE UNIQUE INDEX*')
    LIMIT 1
"""  # SQLAlchemy has no words for these


@dataclass(frozen=True, slots=True)
class Database:
    """Which database: a file of SQLite's, by its `sqlite:///` URL.

    *on_wait* is called once where a change waits for another one, with the process that makes it, or "".
    """

    url: str
    on_wait: Callable[[str], None] | None = field(default=None, compare=False)

    @classmethod
    def at(cls, path: Path) -> "Database":
        """The database in the file at *path*."""
        return cls(f"sqlite:///{path}")

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.url.removeprefix("sqlite:///"))

    def exists(self) -> bool:
        """Whether it has been made."""
        return self.path.exists()

    def __str__(self) -> str:
        """What messages call it."""
        return str(self.path)


class Statement:
    """A statement of SQLAlchemy's, compiled at its first use, and once for each engine."""

    __slots__ = ("_construct", "_texts")

    def __init__(self, construct: Any) -> None:
        self._construct = construct
        self._texts: dict[str, str] = {}

    def text(self, dialect: Dialect) -> str:
        """The statement as *dialect* has it, with placeholders for the values in their order."""
        text = self._texts.get(dialect.name)
        if text is None:
            text = self._texts[dialect.name] = str(self._construct.compile(dialect=dialect))
        return text


class Connection:
    """One transaction on the tables. Statements run on the driver: a quarter of the time that SQLAlchemy's own take."""

    __slots__ = ("_at_commit", "_dialect", "_execute", "driver")

    def __init__(self, driver: sqlite3.Connection, dialect: Dialect = SQLITE) -> None:
        self.driver = driver
        self._at_commit: list[Callable[[], None]] = []
        self._execute = driver.execute
        self._dialect = dialect

    def fetch(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]:
        """All rows that *statement* finds."""
        return self._execute(statement.text(self._dialect), values).fetchall()

    def stream(self, statement: Statement, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The rows that *statement* finds, one by one: memory does not grow with their number."""
        return self._execute(statement.text(self._dialect), values)

    def run(self, statement: Statement, *values: Any) -> None:
        """Run *statement*, which finds nothing."""
        self._execute(statement.text(self._dialect), values)

    def before_commit(self, last: Callable[[], None]) -> None:
        """Have *last* called when all else in the transaction is done."""
        self._at_commit.append(last)

    def finish(self) -> None:
        """Call what `before_commit` was given; for whoever commits."""
        while self._at_commit:
            self._at_commit.pop(0)()

    def set_savepoint(self) -> None:
        """Begin a part of the transaction that can be rolled back alone."""
        self._execute("SAVEPOINT part")

    def release_savepoint(self) -> None:
        """Keep what was done since the savepoint."""
        self._execute("RELEASE SAVEPOINT part")

    def roll_back_to_savepoint(self) -> None:
        """Undo what was done since the savepoint, and release it."""
        self._execute("ROLLBACK TO SAVEPOINT part")
        self._execute("RELEASE SAVEPOINT part")


def compiled(construct: Any) -> str:
    """*construct* as SQLite's text, with `?` for its parameters in their order: for what only SQLite is asked."""
    return str(construct.compile(dialect=SQLITE))


def connect_reading(database: Database) -> sqlite3.Connection:
    """A read-only DBAPI connection to the tables. Raises StoreError. Root must act as `owner_of` its path."""
    return _connect(database.path, "ro", _READER_WAIT_SECONDS)


def connect_writing(database: Database) -> sqlite3.Connection:
    """A DBAPI connection that can change the tables, one writer after the other. Raises StoreError."""
    return _connect(database.path, "rw", _WRITER_WAIT_SECONDS)


class UpgradingConnection(sqlite3.Connection):
    """A connection whose transaction only its own COMMIT and ROLLBACK statements end, whatever a library calls."""

    def commit(self) -> None:
        """Leave the transaction to whoever began it."""

    def rollback(self) -> None:
        """Leave the transaction to whoever began it."""


def connect_upgrading(database: Database) -> sqlite3.Connection:
    """A DBAPI connection to the tables of this or an older version, to make them new ones. Raises StoreError.

    No foreign key is followed: a table that is taken away must not take rows of others along.
    """
    return _connect(database.path, "rw", _WRITER_WAIT_SECONDS, UpgradingConnection)


def file_uri(path: Path) -> str:
    """SQLite's name for the file at *path*, for options behind a question mark."""
    return f"file:{quote(os.fsencode(path))}"


@contextmanager
def reading(database: Database, *, is_checked: bool = True) -> Iterator[Connection]:
    """A connection that sees one state of the tables. Raises StoreError.

    What it makes beside the file goes again, and so does what a writer left in the log because of this reader.
    Only who reads no table before having looked at what is one may have it not *is_checked* for `foreign_object`.
    """
    # Where there is no log, opening the tables makes one, which is to go again.
    path = database.path
    is_alone = identity(path)[1:] == _NO_FILES
    try:
        with _transaction(path, "ro", _READER_WAIT_SECONDS, _begin_reading) as connection:
            if is_checked:
                check_objects(path, connection.driver)
            yield connection
    finally:
        if is_alone or has_log(path):
            empty_log(path)


@contextmanager
def changing(database: Database, *, cache_mebibytes: int = 2) -> Iterator[Connection]:
    """The one connection that may change the tables, in one transaction, kept if the block ends well.

    Raises StoreError, with the tables as they were. Of the file, *cache_mebibytes* are kept in memory.
    """
    # Nobody else writes from here on.
    path = database.path
    with _transaction(path, "rw", _WRITER_WAIT_SECONDS, partial(begin_writing, database)) as connection:
        check_objects(path, connection.driver)
        connection.driver.execute(f"PRAGMA cache_size = {-1024 * cache_mebibytes}")
        files = identity(path)
        yield connection
        connection.finish()

        # The first page, which says which file the log belongs to, is written by every change.
        connection.driver.execute(f"PRAGMA user_version = {VERSION}")

        # A commit to a file that is no longer at this path would be lost without a word.
        if identity(path) != files:
            raise StoreWriteError(f"{path}: {_MOVED}, nothing was changed: do it again")

    # The changes are kept; the file alone is to be the whole database.
    empty_log(path)


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
    """Make the database, as the owner of its folder: the whole file appears at once.

    Raises StoreCreateError, also if there is one already, unless *exist_ok*.
    """
    # Refuse a place in which others could put something under the database.
    path = database.path
    check_permissions(path)

    # Make the tables in memory, and write them under a random name; the last step gives the file its own.
    try:
        with closing(_new_tables()) as tables, acting(owner_of(path)), drafting(path) as draft:
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
            yield Connection(driver)
    except FileNotFoundError as error:
        raise missing_error(path, error) from error
    except (DBAPIError, sqlite3.Error) as error:
        raise store_error(path, error) from error


def _connect(
    path: Path, mode: str, wait_seconds: float, kind: type[sqlite3.Connection] = sqlite3.Connection
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
        return _opened(path, uri, mode, wait_seconds, kind)


def _opened(path: Path, uri: str, mode: str, wait_seconds: float, kind: type[sqlite3.Connection]) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=wait_seconds, isolation_level=None, factory=kind)
    except sqlite3.Error as error:
        raise store_error(path, error) from error

    # Only tables of this version are used. A writer's commits survive a power failure (synchronous = FULL).
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        if kind is UpgradingConnection:
            version_of(path, connection)
        else:
            need_version(path, connection)
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


def need_version(path: Path, connection: sqlite3.Connection) -> None:
    """Raises StoreError unless the tables are policyd's, and of its own version."""
    version = version_of(path, connection)
    if version < VERSION:
        raise StoreOutdatedError(
            f"{path}: has tables of version {version}, and this policyd needs version {VERSION}; "
            "type: policyd database upgrade"
        )


def version_of(path: Path, connection: sqlite3.Connection) -> int:
    """The version of the tables, this one or an older one. Raises StoreError unless they are policyd's."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()

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


def _new_tables() -> sqlite3.Connection:
    """Every table, in memory."""
    tables = sqlite3.connect(":memory:")
    engine = create_engine("sqlite://", creator=lambda: tables, poolclass=StaticPool)
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(insert(journal_head).values(first_head()))
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


def empty_log(path: Path) -> None:
    """Move what was committed from the write-ahead log into the file, so that the file alone is the database.

    A file that somebody moves to *path* then finds no old log to take for its own. Best effort: where another
    writer is in the way, its end does the same. Where a reader is, who may stay for minutes, the log stays too:
    to wait for it would keep every other writer from writing.
    """
    try:
        with acting(owner_of(path)), closing(_connect(path, "rw", _LOG_WAIT_SECONDS)) as connection:
            _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if frames == moved:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (StoreError, sqlite3.Error, OSError):
        pass


def _sqlite_error(error: sqlite3.Error | DBAPIError) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
