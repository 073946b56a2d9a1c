"""A replica: an SQLite file with the tables of a database on a server, brought up to date by the database's journal.

It holds at each moment a state that the database has had, and says which: the history and the last change, in the
same transaction as the tables. Whoever writes here is one process; daemons read meanwhile.
"""

import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.schema import CreateIndex, CreateTable

from policyd.errors import (
    DivergedError,
    NoReplicaError,
    ReplicaSpoiledError,
    StoreCreateError,
    StoreError,
    StoreOutdatedError,
    StoreSpoiledError,
    StoreWriteError,
    reason_of,
)
from policyd.files import drafting, scratch, sync
from policyd.model import Change
from policyd.pipe_watch import watching
from policyd.store.backup import empty_file
from policyd.store.connection import Connection, Statement
from policyd.store.database import SQLITE, compiled, connect_following, give_away, store_error
from policyd.store.journal import Stored, chain_digest, from_snapshot
from policyd.store.rows import Rows
from policyd.store.schema import REPLICA_ID, REPLICATED, VERSION, replica
from policyd.store.wal import are_open, beside
from policyd.store.writer import Writer

_CACHE_MEBIBYTES = 16
_INSERT = {table.name: compiled(insert(table)) for table in REPLICATED}
_READ = Statement(select(replica.c.history, replica.c.id, replica.c.digest, replica.c.next_accepted))
_WRITE = Statement(
    update(replica).values(
        id=bindparam("new_id"), digest=bindparam("new_digest"), next_accepted=bindparam("new_next_accepted")
    )
)
_FIRST = Statement(insert(replica))
_HEADER_BYTES = 100  # of an SQLite file; the application id is in it, at _APPLICATION_ID_AT
_APPLICATION_ID_AT = 68
# What a change can raise that is not what became of these tables, whoever wrote that into the journal.
_CANT_BE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_CANT_BE_STORED = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


class Position(NamedTuple):
    """How far a journal was followed: its history's name, the last change's id and digest, and a counter's state."""

    history: str
    id: int
    digest: str
    next_accepted: int


class Replica:
    """The replica in the file at *path*, which is there.

    Every call may raise StoreError: of these, ReplicaSpoiledError where only another copy helps.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._driver = _connected(path)
        self._numbers = _Numbers()
        self._connection = _FollowingConnection(self._driver, SQLITE)
        self._writer = Writer(self._connection, self._numbers)
        self._is_tidy = False
        try:
            self.position = self._read_position()
        except BaseException as error:
            self._driver.close()
            if isinstance(error, sqlite3.Error):
                raise _error(path, error) from error
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._driver.close()

    def need_sound(self, *, is_thorough: bool = False) -> None:
        """Raises ReplicaSpoiledError where the file is damaged; that reads all of it.

        Whether each index finds what it should is looked at by a *thorough* one only, which takes several times longer.
        """
        try:
            ((report,),) = self._driver.execute(f"PRAGMA {'integrity' if is_thorough else 'quick'}_check(1)").fetchall()
        except sqlite3.Error as error:
            raise _error(self._path, error) from error
        if report != "ok":
            raise ReplicaSpoiledError(f"{self._path}: damaged: {report}")

    def need_place(self) -> None:
        """Raises StoreWriteError where the file, or what is beside it, is not the one that was opened."""
        if not are_open(self._path):
            raise StoreWriteError(f"{self._path}: the file, or -wal or -shm beside it, was removed or replaced")

    def _read_position(self) -> Position:
        found = self._connection.fetch(_READ)
        if len(found) != 1:
            raise ReplicaSpoiledError(f"{self._path}: damaged: it does not say how far the journal was followed")
        return Position(*found[0])

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A transaction, kept with the position that is reached if the block ends well, as if it never was if not."""
        before = self.position
        try:
            self._driver.execute("BEGIN IMMEDIATE")
            try:
                if self._read_position() != before:
                    raise StoreWriteError(f"{self._path}: somebody else changes it, too: one policyd may follow for it")
                yield
                self._connection.run(_WRITE, self.position.id, self.position.digest, self.position.next_accepted)
                self._driver.execute(f"PRAGMA user_version = {VERSION}")  # the first page tells whose the log is
                self.need_place()
                self._driver.execute("COMMIT")
                self._is_tidy = False
            except BaseException:
                self.position = before
                if self._driver.in_transaction:
                    self._driver.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _error(self._path, error) from error

    def apply(self, changes: Iterable[Change]) -> None:
        """Do what *changes* say, which follow what was done last; in the block of `changing`.

        Raises DivergedError where they don't follow, or can't be what became of these tables.
        """
        position = self.position
        last, digest = position.id, position.digest
        self._numbers.next = position.next_accepted
        for change in changes:
            expected = chain_digest(digest, _row(change))
            if change.id != last + 1 or change.digest != expected:
                raise DivergedError(
                    f"the database's journal is not whole: its change {change.id} has the digest {change.digest}, and "
                    f"after change {last} it must be change {last + 1} with {expected}"
                )
            noun = change.operation.partition(".")[0]
            if noun == "database":  # it was upgraded, as the replica has been
                last, digest = change.id, change.digest
                continue
            try:
                before, after = _object(noun, change.before), _object(noun, change.after)
                self._writer.put(change.operation, before, after)
            except (*_CANT_BE, *_CANT_BE_STORED) as error:
                raise DivergedError(f"change {change.id}, {change.operation}, can't be followed: {error!r}") from error
            last, digest = change.id, change.digest
        self.position = Position(position.history, last, digest, self._numbers.next)

    def rebuild(self, position: Position, rows: Iterable[Rows], on_page: Callable[[], None]) -> None:
        """Make it what *rows* are, the whole of all tables at *position*: who reads sees the old tables or the new."""
        try:
            with scratch(self._path) as draft:
                _fill(draft, position, rows, on_page)
                self.need_place()
                with watching(draft):
                    filled = sqlite3.connect(draft)
                with closing(filled):
                    filled.backup(self._driver, pages=-1)
            self.position = position
            self._is_tidy = False
            self.tidy()
        except sqlite3.Error as error:
            raise _error(self._path, error) from error
        except OSError as error:
            raise StoreWriteError(f"{self._path}: can't be written: {reason_of(error)}") from error

    def tidy(self) -> None:
        """Move the log into the file, as far as no reader is in the way: whoever reads for long is not waited for."""
        if self._is_tidy:
            return
        with suppress(sqlite3.Error):  # the next one does it
            _, frames, moved = self._driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if frames == moved:
                self._driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._is_tidy = True


class _FollowingConnection(Connection):
    """A connection for many transactions that adds each row at once: it is known which can't be added."""

    def run_late(self, statement: Statement, row: tuple[Any, ...]) -> None:
        """Run *statement*, which adds *row*."""
        self.run(statement, *row)


class _Numbers:
    """Gives rows that the journal does not number the numbers that the database gave them: in the same order."""

    def __init__(self) -> None:
        self.next = 0

    def next_accepted(self) -> int:
        """The number for a new row of accepted_sender."""
        self.next += 1
        return self.next - 1

    def next_mailbox(self) -> int:
        """What a journal numbers has its number."""
        raise ValueError("it has no number")

    next_group = next_member = next_blocked = next_mailbox

    def record(self, operation: str, before: Stored | None, after: Stored | None) -> None:
        """It is on record where it comes from."""


def create(path: Path, position: Position, rows: Iterable[Rows], on_page: Callable[[], None]) -> None:
    """Make the replica at *path* of *rows*, the whole of all tables at *position*; it appears whole.

    Raises StoreError.
    """
    try:
        with drafting(path) as draft:
            _make(draft, position, rows, on_page)
    except FileExistsError as error:
        if not path.exists():
            raise StoreCreateError(f"{path}: it is a link to nothing; type: rm {path}") from error
        return  # another one was faster
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    except FileNotFoundError as error:
        raise StoreCreateError(
            f"{path}: there is no folder {path.parent}; make it with: install -d {path.parent}"
        ) from error
    except OSError as error:
        raise StoreWriteError(f"{path}: can't be written: {reason_of(error)}") from error


def make_again(path: Path, position: Position, rows: Iterable[Rows], on_page: Callable[[], None]) -> None:
    """Put a new replica in the place of a damaged one at *path*, with the log that is beside that. Raises StoreError.

    There is a file at that path at each moment. Who reads it notices that it is another one.
    """
    try:
        with scratch(path) as draft:
            _make(draft, position, rows, on_page)
            for each in beside(path):
                with suppress(FileNotFoundError):
                    os.unlink(each)
            os.rename(draft, path)
            sync(path.parent)
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    except OSError as error:
        raise StoreWriteError(f"{path}: can't be written: {reason_of(error)}") from error


def _make(draft: Path, position: Position, rows: Iterable[Rows], on_page: Callable[[], None]) -> None:
    """Fill the empty file *draft*, and make it one that can take another's place."""
    _fill(draft, position, rows, on_page)
    with watching(draft), closing(sqlite3.connect(draft)) as plain:
        plain.execute("PRAGMA journal_mode = WAL")
    give_away(draft)
    sync(draft)


def _fill(draft: Path, position: Position, rows: Iterable[Rows], on_page: Callable[[], None]) -> None:
    """Fill the empty file *draft*, and look whether it is sound."""
    with empty_file(draft) as driver:
        driver.execute(f"PRAGMA application_id = {REPLICA_ID}")
        driver.execute(f"PRAGMA user_version = {VERSION}")
        driver.execute(f"PRAGMA cache_size = {-1024 * _CACHE_MEBIBYTES}")

        # The rows first: to bring an index up to date for each takes longer.
        driver.execute("BEGIN")
        for table in (*REPLICATED, replica):
            driver.execute(compiled(CreateTable(table)))
        for name, some in rows:
            driver.executemany(_INSERT[name], some)
            on_page()
        driver.execute(_FIRST.text(SQLITE), (1, *position))
        for table in REPLICATED:
            for index in sorted(table.indexes, key=lambda each: str(each.name)):
                driver.execute(compiled(CreateIndex(index)))
                on_page()
        driver.execute("COMMIT")

        # What came over the network is what was there.
        broken = driver.execute("PRAGMA foreign_key_check").fetchone()
        ((report,),) = driver.execute("PRAGMA quick_check(1)").fetchall()
        if broken or report != "ok":
            raise StoreError(f"the copy is not sound: {report if report != 'ok' else f'a row of {broken[0]}'}")


def _connected(path: Path) -> sqlite3.Connection:
    """A connection to the replica at *path*. Raises StoreError, also where it is some other file."""
    application = _application_of(path)
    if application not in (None, REPLICA_ID):
        raise NoReplicaError(f"{path}: it is no replica; name another file for it, or move this one away")
    try:
        return connect_following(path)
    except StoreOutdatedError:
        raise
    except StoreSpoiledError as error:
        raise ReplicaSpoiledError(str(error).partition("; restore")[0]) from error


def _application_of(path: Path) -> int | None:
    """Whose file it says that it is; None where it can't be read. To be asked while this process has it not open."""
    try:
        opened = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        header = os.pread(opened, _HEADER_BYTES, 0)
    except OSError:
        return None
    finally:
        os.close(opened)
    return int.from_bytes(header[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4]) if header else 0


def _error(path: Path, error: sqlite3.Error) -> StoreError:
    """What is wrong with the replica at *path*."""
    found = store_error(path, error)
    if isinstance(found, StoreSpoiledError) and not isinstance(found, StoreOutdatedError):
        return ReplicaSpoiledError(str(found).partition("; restore")[0])
    return found


def _row(change: Change) -> tuple[int | str | None, ...]:
    """What the digest of *change* is over, beside the digest before it."""
    before_and_after = (change.before, change.after)
    return change.id, change.at, change.actor, change.changeset, change.operation, change.object, *before_and_after


def _object(noun: str, text: str | None) -> Stored | None:
    """The object that the journal's JSON *text* says."""
    return None if text is None else from_snapshot(noun, json.loads(text))
