"""Copies the whole database to one file, while everything goes on."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from policyd.errors import StoreCreateError, StoreError, StoreWriteError
from policyd.files import acting, drafting, entered, owner_for_new
from policyd.pipe_watch import watching
from policyd.store.check import Check
from policyd.store.connection import Database
from policyd.store.copying import fill
from policyd.store.database import file_uri, reading, store_error
from policyd.store.wal import renew_cookie

_PAGES = 1024  # copied in one step

Progress = Callable[[int, int], None]  # pages done, pages in all
Verify = Callable[[Check], None]


def back_up(database: Database, target: Path, on_progress: Progress, verify: Verify) -> None:
    """Copy one state of *database* to *target*, which appears whole, after *verify* has read it.

    Raises StoreError where it can't be read, StoreCreateError where *target* can't be made or is there already,
    StoreWriteError where it can't be written.
    """
    # Refuse early what would fail after a long copy.
    if os.path.lexists(target):
        raise _exists(target)

    # Root makes the file as the owner of its folder, since SQLite opens it by its name.
    try:
        maker = owner_for_new(target)
        with entered(drafting(target), maker) as draft:
            # Copy one state of the tables, while others go on writing.
            with (
                reading(database, is_checked=False) as connection,
                entered(empty_file(draft), maker) as copy,
                acting(maker) as aside,  # SQLite looks for a journal beside the copy, by name
            ):
                if database.is_on_server:
                    fill(copy, connection, lambda count: None)
                else:
                    copy_database(connection.driver, copy, target, aside(on_progress))

            # Check the copy as the disk has it, before it gets its name.
            with entered(opened_again(draft), maker) as copy:
                try:
                    verify(Check(copy))
                except sqlite3.Error as error:
                    raise store_error(target, error) from error
    except FileExistsError as error:
        raise _exists(target) from error
    except FileNotFoundError as error:
        folder = target.parent
        raise StoreCreateError(f"{target}: there is no folder {folder}; make it with: install -d {folder}") from error
    except OSError as error:
        raise StoreCreateError(f"{target}: the backup can't be made: {error.strerror}") from error
    except sqlite3.Error as error:  # it was taken away or swapped while it was opened again
        raise StoreCreateError(f"{target}: the backup can't be made: {error}") from error


def _exists(target: Path) -> StoreError:
    return StoreCreateError(f"{target}: there is a file by that name already; it was left as it is")


@contextmanager
def empty_file(draft: Path) -> Iterator[sqlite3.Connection]:
    """The file to copy to, opened so that nothing is made beside it, nor taken for a part of it."""
    with watching(draft):
        copy = sqlite3.connect(draft, isolation_level=None)
    with closing(copy):
        # SQLite looks for a journal whenever it locks the file, and plays it back: while the file is empty, it doesn't.
        with watching(draft):
            copy.execute("PRAGMA locking_mode = EXCLUSIVE")
            copy.execute("PRAGMA journal_mode = OFF")  # a copy that isn't whole is thrown away
            copy.execute("BEGIN EXCLUSIVE")
            copy.execute("COMMIT")
        copy.execute("PRAGMA synchronous = OFF")  # it is synced as a whole
        yield copy
    renew_cookie(draft)  # it is another database from now on


def copy_database(source: sqlite3.Connection, copy: sqlite3.Connection, target: Path, on_progress: Progress) -> None:
    """Copy the state that *source*'s transaction sees, however often others write meanwhile, to be called *target*."""
    try:
        source.backup(copy, pages=_PAGES, progress=lambda _status, left, total: on_progress(total - left, total))
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise StoreWriteError(f"{target}: can't be written: {error}; make room on the disk") from error
        raise


@contextmanager
def opened_again(draft: Path) -> Iterator[sqlite3.Connection]:
    """The copy as the disk has it, opened so that nothing is made beside it."""
    descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    uri = f"{file_uri(draft)}?mode=ro&immutable=1"
    with watching(draft):
        copy = sqlite3.connect(uri, uri=True, isolation_level=None)
    with closing(copy):
        copy.execute("BEGIN")  # else each row that the check keeps in a temporary table is a transaction of its own
        yield copy
