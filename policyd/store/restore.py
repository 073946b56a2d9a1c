"""Restores a backup while everything goes on; what it replaces is kept beside the database."""

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, case, update

from policyd.errors import (
    PolicydError,
    RefusedError,
    StoreError,
    StoreMissingError,
    StoreOutdatedError,
    StoreSpoiledError,
    StoreUnsoundError,
    StoreWriteError,
    reason_of,
)
from policyd.files import acting, drafting, open_to_read, owner_of, scratch, sync
from policyd.model import Change
from policyd.pipe_watch import watching
from policyd.store.backup import Progress, Verify, copy_database, empty_file, opened_again
from policyd.store.check import Check
from policyd.store.connection import Connection, Database, Statement
from policyd.store.database import (
    SQLITE,
    begin_writing,
    check_objects,
    connect_writing,
    empty_log,
    file_uri,
    give_away,
    is_ours,
    missing_error,
    need_version,
    store_error,
)
from policyd.store.journal import Journal, read_head
from policyd.store.schema import COUNTERS, journal_head
from policyd.store.wal import beside, new_cookie

_COUNT_ON = Statement(
    update(journal_head).values(
        {
            name: case((column < bindparam(f"now_{name}"), bindparam(f"next_{name}")), else_=column)
            for name in COUNTERS
            for column in [journal_head.c[name]]
        }
    )
)
_PAGES = 1024  # copied in one step
_HEADER_SIZE = 100  # bytes of a database file
_CHUNK_SIZE = 1 << 20  # bytes, read at once
_PAGE_SIZE = 4096  # bytes; a database can't take pages of another size


class UnfitError(PolicydError):
    """A file that is no backup, or of another version: name another one."""

    exit_status = 65  # EX_DATAERR


class Restore:
    """Puts the tables that are in the file *source* into *database*, as a change of *actor*'s at *now*.

    *verify* looks at a copy of the file first, and raises what keeps it from being restored. *on_progress* hears of
    pages.
    """

    def __init__(
        self, database: Database, source: Path, actor: str, now: int, *, on_progress: Progress, verify: Verify
    ) -> None:
        self._path = database.path
        self._on_wait = database.on_wait
        self._source = source
        self._actor = actor
        self._now = now
        self._on_progress = on_progress
        self._verify = verify
        self._changes: list[Change] = []
        self.kept: Path | None = None  # the file with what was replaced; None where nothing was

    def run(self) -> Change:
        """Restore, and return the change that the journal has of it.

        Raises UnfitError where *source* can't be one, StoreError where the database can't be written; it is as it was.
        """
        # Refuse what can't be a backup, and open it as whoever calls.
        _must_be_a_backup(self._source, self._path)
        try:
            owner = owner_of(self._path)
            source = open_to_read(self._source)
        except FileNotFoundError as error:
            raise missing_error(self._path, error) from error
        except OSError as error:
            raise UnfitError(f"{self._source}: {reason_of(error)}; nothing was changed") from error

        # The database is worked on as the owner of its folder.
        try:
            with source:
                _must_be_a_file(self._source, os.fstat(source.fileno()))  # whatever has its name by now
                with acting(owner) as aside:
                    self._path = Path(os.path.realpath(self._path))  # SQLite has its files beside that
                    self._on_progress, self._verify = aside(self._on_progress), aside(self._verify)
                    self._on_wait = self._on_wait and aside(self._on_wait)
                    with scratch(self._path) as draft:
                        self._work(aside(source.read), draft)
        except OSError as error:
            raise StoreWriteError(
                f"{self._path}: nothing was changed: its folder can't be written: {reason_of(error)}"
            ) from error
        (change,) = self._changes
        return change

    def _work(self, read: Callable[[int], bytes], draft: Path) -> None:
        # A copy beside the database is checked, so that nobody can change what was checked.
        self._fetch(read, draft)
        with watching(draft):
            tables = sqlite3.connect(draft, isolation_level=None)
            # Nobody else opens the draft: it needs no log, no index, and no sync of its own.
            tables.execute("PRAGMA locking_mode = EXCLUSIVE")
            tables.execute("PRAGMA journal_mode = MEMORY")
            tables.execute("PRAGMA synchronous = OFF")
        with closing(tables):
            # Overwrite the database in place. Where there is none, or none that can be read, the draft takes its name.
            try:
                self._overwrite(tables)
                is_done = True
            except StoreMissingError:
                self._note(tables, None, {})
                is_done = False
            except StoreSpoiledError:
                self._note(tables, _free_name(self._path), {})
                is_done = False

            # A file of its own has a number of its own, and a log for those who will open it.
            if not is_done:
                tables.execute(f"PRAGMA schema_version = {new_cookie()}")
                tables.execute("PRAGMA journal_mode = WAL")
        if not is_done:
            self._replace(draft)

    def _fetch(self, read: Callable[[int], bytes], draft: Path) -> None:
        """Copy the file, which may change while it is *read*, and check the copy."""
        try:
            header = read(_HEADER_SIZE)
            if not is_ours(header):  # the owner of the folder could read what somebody named by mistake
                raise UnfitError(
                    f"{self._source}: not a backup that this policyd can restore, and nothing was changed: "
                    "not a policyd database"
                )
            with draft.open("r+b") as target:  # not a pipe, to which nothing can be written like this
                target.write(header)
                while chunk := read(_CHUNK_SIZE):
                    target.write(chunk)
        except OSError as error:
            raise StoreWriteError(
                f"{self._path}: nothing was changed: {self._source} can't be copied beside it: {reason_of(error)}"
            ) from error

        # It must be of this version and page size, and sound.
        with opened_again(draft) as copy:
            try:
                need_version(self._source, copy)
                ((page_size,),) = copy.execute("PRAGMA page_size").fetchall()
                if page_size != _PAGE_SIZE:
                    raise UnfitError(
                        f"{self._source}: has pages of {page_size} bytes, not {_PAGE_SIZE}; nothing was changed. "
                        "Restore a file that policyd database backup made"
                    )
                self._verify(Check(copy))
            except StoreUnsoundError:
                raise
            except StoreOutdatedError as error:
                reason = str(error).removeprefix(f"{self._source}: ").partition(";")[0]
                raise UnfitError(
                    f"{self._source}: {reason}; nothing was changed. Copy it, upgrade the copy with policyd database "
                    "upgrade --database COPY, and restore that"
                ) from error
            except (StoreError, sqlite3.Error) as error:
                reason = str(error).removeprefix(f"{self._source}: ").partition(";")[0]
                raise UnfitError(
                    f"{self._source}: not a backup that this policyd can restore, and nothing was changed: {reason}"
                ) from error

    def _overwrite(self, tables: sqlite3.Connection) -> None:
        """Copy *tables* over the database in one transaction: a reader sees the old tables or the new ones."""
        ((pages,),) = tables.execute("PRAGMA page_count").fetchall()
        is_locked = False

        def step(status: int, left: int, total: int) -> None:
            nonlocal is_locked
            # Another writer has not ended for as long as we wait for one.
            if status & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreError(f"{self._path}: another command is changing the tables and does not end; try again")

            # The first step has taken the write lock: now nothing can change any more before it is kept.
            if not is_locked:
                is_locked = True
                self._keep_before(tables)
            self._on_progress(total - left, total)

        with closing(connect_writing(Database.at(self._path))) as database:
            try:
                # Wait for another writer, and say so; what is damaged may well refuse that, and is replaced.
                with suppress(sqlite3.DatabaseError):
                    begin_writing(replace(Database.at(self._path), on_wait=self._on_wait), database)
                    database.execute("ROLLBACK")

                # The first step takes the write lock. It must not be the last: under it, the old tables are kept.
                tables.backup(database, pages=max(1, min(_PAGES, pages // 2)), progress=step)
            except sqlite3.Error as error:
                raise store_error(self._path, error) from error
        empty_log(self._path)

    def _keep_before(self, tables: sqlite3.Connection) -> None:
        """Keep what is about to be replaced, and note that in the new tables' journal. The write lock is held."""
        with watching(self._path):
            now = sqlite3.connect(f"{file_uri(self._path)}?mode=ro", uri=True, isolation_level=None)
        with closing(now):
            # Copy it to a file that appears whole.
            kept = _free_name(self._path)
            try:
                with drafting(kept) as draft:
                    with empty_file(draft) as copy:
                        copy_database(now, copy, kept, lambda done, total: None)
                    give_away(draft)
            except OSError as error:
                raise StoreWriteError(
                    f"{kept}: nothing was changed: what is to be replaced can't be kept: "
                    f"{reason_of(error)}; make room on the disk"
                ) from error

            # The new journal says which change that was at, unless it is damaged, or of another version.
            before: dict[str, Any] = {}
            with suppress(sqlite3.Error, StoreError):
                check_objects(self._path, now)
                head = read_head(Connection(now, SQLITE))
                before = {"change": head.id, "digest": head.digest}
                _go_on_counting(now, tables)
        self._note(tables, kept, before)

    def _note(self, tables: sqlite3.Connection, kept: Path | None, before: dict[str, Any]) -> None:
        """Write the restore into the journal of *tables*; *before* says at which change *kept* was."""
        self.kept = kept
        connection = Connection(tables, SQLITE)
        head = read_head(connection)
        journal = Journal(connection, self._actor, self._now, on_change=self._changes.append)
        was = {"file": _text(kept), **before} if kept else None
        name = _text(self._source)
        journal.write(
            "database.restore", name, _json(was), _json({"file": name, "change": head.id, "digest": head.digest})
        )
        connection.finish()

    def _replace(self, draft: Path) -> None:
        """Put *draft* where there is no database, or one that can't be used, which is kept."""
        # The draft is on disk before it has the name.
        give_away(draft)
        sync(draft)
        try:
            # Where there is nothing, a link does not overwrite what appears there just now.
            if self.kept is None:
                os.link(draft, self._path)
            else:
                # The old file and its log get their new names one by one; nobody could read them before either.
                os.link(self._path, self.kept)
                for each in beside(self._path):
                    with suppress(FileNotFoundError):
                        each.rename(f"{self.kept}{each.name.removeprefix(self._path.name)}")
                draft.rename(self._path)

            # The new names are on disk, too.
            sync(self._path.parent)
        except OSError as error:
            raise StoreWriteError(f"{self._path}: can't be replaced: {reason_of(error)}") from error


def _must_be_a_backup(source: Path, path: Path) -> None:
    """Raises UnfitError where *source* is no file, or not all of a database; RefusedError where it is the database."""
    # A restore of the database from itself.
    with suppress(OSError):
        if source.samefile(path):
            raise RefusedError(f"{source}: is the database itself, and no backup of it; nothing was changed")

    # No file, as a folder or a pipe.
    try:
        _must_be_a_file(source, source.stat())
    except OSError as error:
        raise UnfitError(f"{source}: {reason_of(error)}; nothing was changed") from error

    # A copy of a database in use: a part of its changes may be in the log beside it.
    for suffix in ("-wal", "-journal"):
        with suppress(OSError):
            if os.lstat(f"{source}{suffix}").st_size:
                raise UnfitError(
                    f"{source}: has changes in {source.name}{suffix} beside it; nothing was changed. Make one file of "
                    f"both first: policyd database backup --database {source} NEW"
                )


def _must_be_a_file(source: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnfitError(f"{source}: not a file; nothing was changed")


def _free_name(path: Path) -> Path:
    """A name beside *path* for what is replaced, which nothing has yet."""
    number = 1
    while os.path.lexists(f"{path}.before-{number}"):
        number += 1
    return Path(f"{path}.before-{number}")


def _go_on_counting(now: sqlite3.Connection, tables: sqlite3.Connection) -> None:
    """Have new objects in *tables* numbered on from *now*: a number in an old log must not become somebody else's."""
    head = read_head(Connection(now, SQLITE))
    statement = _COUNT_ON.text(SQLITE)
    tables.execute(statement, [getattr(head, name) for name in COUNTERS for _ in range(2)])


def _text(path: Path) -> str:
    """A name for the journal, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
