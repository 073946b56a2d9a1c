"""Opening the database file: made whole or not at all, read-only for readers, one writer at a time."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection as Connection  # what `reading` and `changing` give
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from policyd.errors import StoreCreateError, StoreError, StoreMissingError, StoreWriteError, reason_of
from policyd.store.draft import drafting
from policyd.store.schema import APPLICATION_ID, VERSION, metadata

_WRITER_WAIT_SECONDS = 600.0  # for an import of a million rows, or for two hundred others on a busy machine
_READER_WAIT_SECONDS = 1.0  # WAL makes a reader wait only while the file is recovered or first opened
_LOG_WAIT_SECONDS = 0.1  # for the daemon, which reads for microseconds
_INDEX_HEADER_SIZE = 96  # octets of both copies


def database_path(url: str) -> Path:
    """The file of a `sqlite:///` URL."""
    return Path(url.removeprefix("sqlite:///"))


def connect_reading(path: Path) -> sqlite3.Connection:
    """A read-only DBAPI connection to the tables. Raises StoreError."""
    return _connect(path, "ro", _READER_WAIT_SECONDS)


@contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """A connection that sees one state of the tables. Raises StoreError."""
    with _transaction(path, "ro", _READER_WAIT_SECONDS, "BEGIN") as connection:
        yield connection


@contextmanager
def changing(path: Path, *, cache_mebibytes: int = 2) -> Iterator[Connection]:
    """The one connection that may change the tables, in one transaction, kept if the block ends well.

    Raises StoreError, with the tables as they were. Of the file, *cache_mebibytes* are kept in memory.
    """
    with _transaction(path, "rw", _WRITER_WAIT_SECONDS, "BEGIN IMMEDIATE") as connection:
        driver_connection(connection).execute(f"PRAGMA cache_size = {-1024 * cache_mebibytes}")
        yield connection
    _empty_log(path)


def driver_connection(connection: Connection) -> sqlite3.Connection:
    """The DBAPI connection beneath *connection*, in the same transaction."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def create_database(path: Path, *, exist_ok: bool = False) -> None:
    """Make the database: the whole file appears at once, owned as the folder it is in.

    Raises StoreCreateError, also if there is one already, unless *exist_ok*.
    """
    try:
        with drafting(path) as draft:
            _write_tables(draft)
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
    if code == sqlite3.SQLITE_CANTOPEN:
        try:
            path.open("rb").close()
        except OSError as why:
            return missing_error(path, why)
    is_read = extended_code in (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) and not is_read:
        return StoreWriteError(f"{path}: can't be written, nothing was changed: {cause}; make room on the disk")
    if code == sqlite3.SQLITE_READONLY or "permission" in str(cause):
        return StoreWriteError(f"{path}: can't be written, nothing was changed: {cause}; become its owner, or root")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{path}: another command is changing the tables and does not end; try again")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"{path}: not a policyd database, or damaged: {cause}; restore it from a backup")
    return StoreError(f"{path}: the database can't be read: {cause}")


def missing_error(path: Path, error: OSError) -> StoreError:
    """What the administrator must know where the file at *path* can't be looked at."""
    if isinstance(error, FileNotFoundError):
        return StoreMissingError(f"{path}: there is no database; make it with: policyd database create")
    return StoreError(f"{path}: the database can't be read: {reason_of(error)}")


@contextmanager
def _transaction(path: Path, mode: str, wait_seconds: float, begin: str) -> Iterator[Connection]:
    engine = create_engine("sqlite://", creator=lambda: _connect(path, mode, wait_seconds), poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    try:
        with engine.begin() as connection:
            yield connection
    except (DBAPIError, sqlite3.Error) as error:
        raise store_error(path, error) from error


def _connect(path: Path, mode: str, wait_seconds: float) -> sqlite3.Connection:
    """A DBAPI connection in autocommit, to a database of this version. *mode* is SQLite's: ro or rw."""
    _clear_old_index(path)
    uri = f"file:{quote(os.fsencode(path))}?mode={mode}"
    if mode == "rw" and _is_read_only(path):
        raise StoreWriteError(f"{path}: can't be written, nothing was changed: its disk is read-only; remount it")
    if mode == "ro" and is_unchanging(path):
        uri += "&immutable=1"  # else SQLite wants to write its index of the log, which is empty
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=wait_seconds, isolation_level=None)
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    try:
        check_version(path, connection)
        connection.execute("PRAGMA foreign_keys = ON")
        if mode == "rw":
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        connection.close()
        raise store_error(path, error) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _clear_old_index(path: Path) -> None:
    """Have SQLite make the log's index anew if it describes a file that was at *path* before.

    SQLite knows the index by name only. Beside another file it makes a bigger one look damaged, and a smaller
    one grow until no log can be moved into it. While the log is empty, the index must have the file's own size;
    one that begins with zeros is rebuilt, under SQLite's own locks, so that clearing it is never wrong.
    This process must have no connection to the file: to close the index would let go of its locks.
    Source: sqlite.org/walformat.html §2, the WAL-index header.
    """
    log, index = (Path(f"{path}{suffix}") for suffix in ("-wal", "-shm"))
    try:
        with index.open("r+b", buffering=0) as opened:
            header = opened.read(_INDEX_HEADER_SIZE)
            page_size = int.from_bytes(header[14:16], sys.byteorder)
            pages = int.from_bytes(header[20:24], sys.byteorder)
            size = pages * (65536 if page_size == 1 else page_size)
            is_log_empty = not (log.exists() and log.stat().st_size)
            if pages and is_log_empty and size != path.stat().st_size:
                opened.seek(0)
                opened.write(bytes(_INDEX_HEADER_SIZE))
    except OSError:
        pass  # there is none, or it is not ours to write


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


def check_version(path: Path, connection: sqlite3.Connection) -> None:
    """Raises StoreError unless the tables are policyd's, and of its own version."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise StoreError(f"{path}: not a policyd database; say where yours is with --database")
    if version > VERSION:
        raise StoreError(
            f"{path}: made by a newer policyd (tables version {version}, this one knows {VERSION}); "
            "install that policyd, or restore a backup"
        )
    if version < VERSION:
        raise StoreError(
            f"{path}: has tables of version {version}, which this policyd can't upgrade (it needs {VERSION}); "
            "restore a backup"
        )


def _write_tables(draft: Path) -> None:
    """Make every table in the empty file *draft*, and leave nothing beside it."""
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(draft), poolclass=NullPool)
    with engine.begin() as connection:
        metadata.create_all(connection)
    with sqlite3.connect(draft) as plain:
        plain.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        plain.execute(f"PRAGMA user_version = {VERSION}")
        plain.execute("PRAGMA journal_mode = WAL")
    plain.close()
    if os.geteuid() == 0:
        folder = draft.parent.stat()
        os.chown(draft, folder.st_uid, folder.st_gid)


def _empty_log(path: Path) -> None:
    """Move what was committed from the write-ahead log into the file, so that the file alone is the database.

    A file that somebody moves to *path* then finds no old log to take for its own. Best effort: where another
    writer is in the way, its end does the same. Where a reader is, who may stay for minutes, the log stays too:
    to wait for it would keep every other writer from writing.
    """
    try:
        connection = _connect(path, "rw", _LOG_WAIT_SECONDS)
        _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if frames == moved:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    except (StoreError, sqlite3.Error):
        pass


def _sqlite_error(error: sqlite3.Error | DBAPIError) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
