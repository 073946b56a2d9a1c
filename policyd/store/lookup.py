"""The daemon's reads of the tables: one object at a time, all from one state until `end`.

`Answers` are the questions, on any engine; `Lookup` puts them to a file that may be replaced at any time, and most of
this file is how it makes sure of that: one thing, which is read best from top to bottom.
"""

import os
import sqlite3
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from policyd.errors import StoreError, TablesMovedError
from policyd.files import entered, owner_of
from policyd.model import BlockedSender, Domain, Group, Holder, Party
from policyd.store.connection import Database, Statement
from policyd.store.database import (
    SQLITE,
    check_objects,
    connect_reading,
    empty_log,
    is_unchanging,
    missing_error,
    need_version,
    reading,
    store_error,
)
from policyd.store.queries import Queries
from policyd.store.wal import are_open, beside, has_log

_KNOWN_LIMIT = 1000  # domains, blocked patterns, blocked mailboxes: a millisecond, at each new state of the tables
_NO_VERSION = -1
_NO_INDEX = (0, 0, 0)
_NO_DESCRIPTOR = -1
_FILE_HEADER = 100  # bytes at the beginning of the file
_HEADER = 48  # bytes at the beginning of the log's index, twice: what every commit changes
_INDEX = struct.Struct("=96sI28xI")  # with how much of the log is in the file, and how much soon will be
# Of a file's status: what is another in another file, or after it was written, renamed or removed.
_stamp = attrgetter("st_dev", "st_ino", "st_nlink", "st_size", "st_ctime_ns")
_TICK_NS = 20_000_000  # clocks of file systems tick: what happens to a file just after a change has its time, too
_SECOND_NS = 1_000_000_000  # the tick of those that count seconds


class Answers:
    """What the tables say of one object at a time, as *queries* find it, in one state of them."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self.has_groups = False  # in the state that was last looked at: some mailbox or group is in a group
        self.has_anyone_entries = False  # and some blocked sender is anyone
        self.has_accepted_senders = False  # and somebody accepts anybody

    def begin(self) -> bool:
        """Begin to ask; returns whether the tables may differ from when they were last asked."""
        return False

    def confirm(self) -> None:
        """Raises TablesMovedError where what was found since `begin` may be of two states of the tables."""

    def end(self) -> None:
        """Stop asking."""

    def look_at_flags(self) -> None:
        """See what there is none of in the state there is: nobody asks for that then."""
        self.has_groups, self.has_anyone_entries, self.has_accepted_senders = self._queries.flags()

    def domain(self, name: str) -> Domain | None:
        """The managed domain *name*, in normal form; without its accepted senders, as all that is found here."""
        return self._queries.find_domain(name)

    def holder_of(self, address: str) -> Holder | None:
        """The mailbox that has *address*, in normal form."""
        return self._queries.holder_of(address, has_groups=self.has_groups)

    def mailbox_called(self, folded_name: str) -> Holder | None:
        """The mailbox whose name folds to this."""
        return self._queries.holder_called(folded_name, has_groups=self.has_groups)

    def primary_address(self, mailbox_id: int) -> str:
        """The primary address of a mailbox, "" where it has none."""
        return self._queries.primary_address(mailbox_id)

    def addresses_of(self, mailbox_id: int) -> tuple[str, ...]:
        """The addresses of a mailbox, the primary one first."""
        return tuple(each.address for each in self._queries.addresses_of(mailbox_id))

    def groups_of(self, mailbox_id: int) -> tuple[Group, ...]:
        """The groups that a mailbox is in, directly or not."""
        return self._queries.groups_of(mailbox_id)

    def accepted_by(self, *, mailbox_id: int = 0, group_ids: Sequence[int] = (), domain: str = "") -> frozenset[Party]:
        """Whom a mailbox, groups and a domain accept, all together; of those that are given."""
        if not self.has_accepted_senders:
            return frozenset()
        return self._queries.accepted_by(mailbox_id=mailbox_id, group_ids=group_ids, domain=domain)

    def entries_of(
        self, mailbox_id: int, group_ids: Sequence[int], patterns: Sequence[str]
    ) -> tuple[BlockedSender, ...]:
        """The blocked senders that are this mailbox (0 for none), one of the groups or of *patterns*, in no order."""
        return self._queries.entries_for(mailbox_id, group_ids, patterns)

    def entry(self, number: int) -> BlockedSender | None:
        """The blocked sender with this id."""
        return self._queries.entry(number)

    def entries_of_anyone(
        self, mailbox_id: int, group_ids: Sequence[int], patterns: Sequence[str]
    ) -> tuple[BlockedSender, ...]:
        """The blocked senders that are anyone, to a recipient with this mailbox (0 for none), groups and patterns.

        Those to outside and to anyone are among them.
        """
        if not self.has_anyone_entries:
            return ()
        return self._queries.entries_for_anyone(mailbox_id, group_ids, patterns)


@contextmanager
def looking(database: Database) -> Iterator[Answers]:
    """What the tables of *database* say at one moment, for a command: root opens a file as the owner of its folder.

    Raises StoreError.
    """
    if database.is_on_server:
        with reading(database) as connection:
            answers = Answers(Queries(connection))
            answers.look_at_flags()
            yield answers
        return
    try:
        owner = owner_of(database.path)
    except FileNotFoundError as error:
        raise missing_error(database.path, error) from error
    with entered(_begun(database), owner) as lookup:
        yield lookup


@contextmanager
def _begun(database: Database) -> Iterator["Lookup"]:
    lookup = Lookup(database)
    lookup.begin()
    try:
        yield lookup
    finally:
        lookup.close()


class Lookup(Answers):
    """The tables of *database*, whose file may be replaced at any time.

    Every call may raise StoreError; the next one tries again. TablesMovedError is one of them: a command has committed
    since `begin`, or somebody has written over the file, and what was read is to be read again.
    Statements run on the DBAPI connection: a quarter of the time that SQLAlchemy's own execution takes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._path = database.path
        self._name = str(self._path)  # for stat, at each request
        self._index_name = ""
        self._connection: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None  # one for all: to make one takes as long as to find a row
        self._file: tuple[int, ...] | None = None  # the stamp of the open file
        self._header = b""  # what the open file began with
        self._is_settled = False  # whatever is written to it from now on gives it another stamp
        self._descriptor = _NO_DESCRIPTOR  # to look at the open file by, whatever has its name by now
        self._index = _NO_INDEX  # the log's index that is open: device, inode and size
        self._is_fixed = False  # opened as a file that can't change
        self._index_descriptor = _NO_DESCRIPTOR  # to read the index by
        self._index_stamp: tuple[int, ...] | None = None  # the stamp with which it surely is at its name
        self._seen = b""  # what the index began with at `begin`
        self._known = b""  # the same, at or before the state that was last looked at; b"" where it can't be told
        self._version = _NO_VERSION  # of the state that was last read, as the connection counts
        self._has_begun = False
        self._has_snapshot = False  # SQLite holds the state
        self._has_read = False  # what is not confirmed yet
        self._is_log_left = False  # the log was not empty when `tidy` last looked
        # All that there are in the last state; None where there are too many to know.
        self._domains: frozenset[str] | None = None
        self._blocked_patterns: frozenset[str] | None = None
        self._blocked_mailboxes: frozenset[int] | None = None
        super().__init__(Queries(self))

    def begin(self) -> bool:
        """Read from the newest state of the tables until `end`; returns whether it may differ from the last one.

        False where that has begun already.
        """
        if self._has_begun:
            return False

        # Another file may have this name by now, and the log may have another index.
        try:
            status = os.stat(self._name)
        except OSError as error:
            self.close()
            raise missing_error(self._path, error) from error
        if self._is_another(status) or self._has_lost_index():
            self._open()

        # Nothing was committed since where the log's index stands as it stood: then nothing must be held yet.
        self._has_begun = True
        self._seen = self._read_index()
        if self._seen and self._seen == self._known:
            return False
        before, self._known = self._known, self._seen if _is_whole(self._seen) else b""
        if self._known and self._known[:_HEADER] == before[:_HEADER]:
            return False
        return self._take_snapshot()

    def confirm(self) -> None:
        """Raises TablesMovedError where somebody has written over the file since it was read.

        SQLite then may have found its way to a row in the pages of one file, and the row's page in the other: no row.
        A checkpoint writes to the file, too, and only what readers find in the log meanwhile. A file that lost its name
        to another one stays what it was.
        """
        if not self._has_read:
            return
        self._has_read = False
        if self._is_another(os.fstat(self._descriptor)) and not self._is_checkpoint():
            self.close()
            raise TablesMovedError

    def end(self) -> None:
        """Stop reading from the state that `begin` took, if any. Never raises."""
        self._has_begun = self._has_read = False
        if self._has_snapshot and self._cursor is not None:
            self._has_snapshot = False
            try:
                self._cursor.execute("COMMIT")
            except sqlite3.Error:  # all that was read is read
                self.close()

    def look_at_flags(self) -> None:
        """See what there is none of, or little, in the state there is: nobody asks for that then."""
        super().look_at_flags()
        self._domains = self._queries.domain_names(_KNOWN_LIMIT)
        self._blocked_patterns = self._queries.blocked_patterns(_KNOWN_LIMIT)
        self._blocked_mailboxes = self._queries.blocked_mailboxes(_KNOWN_LIMIT)

    def domain(self, name: str) -> Domain | None:
        """The managed domain *name*, in normal form."""
        if self._domains is not None and name not in self._domains:
            return None
        return self._queries.find_domain(name)

    def entries_of(
        self, mailbox_id: int, group_ids: Sequence[int], patterns: Sequence[str]
    ) -> tuple[BlockedSender, ...]:
        """The blocked senders that are this mailbox (0 for none), one of the groups or of *patterns*, in no order."""
        if self._blocked_mailboxes is not None and mailbox_id not in self._blocked_mailboxes:
            mailbox_id = 0
        if self._blocked_patterns is not None and self._blocked_patterns.isdisjoint(patterns):
            patterns = ()
        if not (mailbox_id or group_ids or patterns):
            return ()
        return self._queries.entries_for(mailbox_id, group_ids, patterns)

    def tidy(self) -> None:
        """Move what a killed command has left in the log into the file, if this user may. Never raises.

        A file that somebody moves to the path then finds no old log. To be called between two turns, now and then.
        """
        is_left, self._is_log_left = self._is_log_left and has_log(self._path), has_log(self._path)
        if is_left and not self._has_begun:
            self.close()  # a process may have only one connection to the file
            empty_log(self._path)

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        connection, self._connection, self._cursor = self._connection, None, None
        descriptors = self._descriptor, self._index_descriptor
        self._descriptor = self._index_descriptor = _NO_DESCRIPTOR
        self._file = None
        self._has_begun = self._has_snapshot = self._has_read = False
        if connection is not None:
            connection.close()
        # In this order: to close any descriptor of a file takes this process's locks on it away.
        for descriptor in descriptors:
            if descriptor != _NO_DESCRIPTOR:
                os.close(descriptor)

    def fetch(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]:
        """All rows that *statement* finds."""
        self._has_read = self._has_begun
        if self._has_snapshot or not self._has_begun:
            return self._run(statement.text(SQLITE), values)

        # The first read since `begin`, from which on SQLite holds the state: it must be the one that was looked at.
        self._run("BEGIN")
        self._has_snapshot = True
        rows = self._run(statement.text(SQLITE), values)
        index = self._read_index()
        if index != self._seen and index[: 2 * _HEADER] != self._seen[: 2 * _HEADER] and self._look_at_state():
            self.end()
            raise TablesMovedError
        return rows

    def stream(self, statement: Statement, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The same, for who asks for rows one by one."""
        return iter(self.fetch(statement, *values))

    def _run(self, statement: str, values: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        if self._cursor is None:
            raise StoreError(f"{self._path}: the database is not open")
        try:
            return self._cursor.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self.close()
            raise store_error(self._path, error) from error

    def _take_snapshot(self) -> bool:
        """Hold the newest state until `end`; returns whether it may differ from the last one."""
        self._run("BEGIN")
        self._has_snapshot = True
        return self._look_at_state()

    def _look_at_state(self) -> bool:
        """Whether the state that SQLite holds may differ from the last one; where it holds none, that it is to hold."""
        ((version,),) = self._run("PRAGMA data_version")
        if version == self._version:
            return False

        # Another state: what was remembered may be wrong.
        self._need_version()
        self.look_at_flags()
        self._version = version
        return True

    def _read_index(self) -> bytes:
        """What the log's index begins with, b"" where there is none.

        Each commit changes it before the command that commits returns, and SQLite's own readers look at it without a
        lock. Source: the page "WAL-mode File Format" of SQLite, §2.1.
        """
        if self._index is _NO_INDEX:
            return b""
        try:
            if self._index_descriptor == _NO_DESCRIPTOR:
                self._index_descriptor = self._open_index()
            return os.pread(self._index_descriptor, _INDEX.size, 0)
        except OSError:
            return b""

    def _is_checkpoint(self) -> bool:
        """Whether some of the log was moved into the file since `begin`, or is being moved."""
        seen, found = self._seen, self._read_index()
        if len(seen) != _INDEX.size or len(found) != _INDEX.size:
            return False
        _, moved, to_move = now = _INDEX.unpack(found)
        return moved != to_move or now != _INDEX.unpack(seen)

    def _is_another(self, status: os.stat_result) -> bool:
        """Whether it isn't the file that was opened, or was written since: by SQLite itself, or by a copy over it.

        To open it again takes as long as ten answers, and is right in each case. After a copy over the file, pages that
        SQLite remembers and pages that it reads could together look like tables without the row that was asked for.
        """
        if _stamp(status) != self._file or (self._is_fixed and not is_unchanging(self._path)):
            return True
        if self._is_settled:
            return False

        # What is written in the tick in which it was opened shows in the header alone, where each change is counted.
        now = time.time_ns()
        try:
            is_same = os.pread(self._descriptor, _FILE_HEADER, 0) == self._header
        except OSError:  # who opens it again reports that
            is_same = False
        self._is_settled = is_same and _is_settled(status, now)
        return not is_same

    def _has_lost_index(self) -> bool:
        """Whether the log's index is another one than this process has open, which then misses what others write.

        Its size counts, too: SQLite maps the index into memory, and reading what was cut off kills the process. It
        grows by itself.
        """
        # Where nothing has happened to it, it is where it was: to look at what is open takes half of the time.
        if self._index_stamp is not None and _stamp(os.fstat(self._index_descriptor)) == self._index_stamp:
            return False

        # Else whether it is there is asked by its name.
        self._index_stamp, now = None, time.time_ns()
        try:
            found = os.stat(self._index_name)
        except OSError:
            return self._index is not _NO_INDEX
        device, inode, size = self._index
        if found.st_ino != inode or found.st_dev != device or found.st_size < size:
            return not self._is_fixed
        self._index = (device, inode, found.st_size)
        if self._index_descriptor != _NO_DESCRIPTOR and _is_settled(found, now):
            self._index_stamp = _stamp(found)
        return False

    def _index_now(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self._index_name)
        except OSError:
            return _NO_INDEX
        return found.st_dev, found.st_ino, found.st_size

    def _open_index(self) -> int:
        """A descriptor of the log's index. It stays open as long as SQLite has the file open; raises OSError."""
        descriptor = os.open(self._index_name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != self._index[:2]:  # another one by now: the next `begin` opens all anew
            self._index = _NO_INDEX
        return descriptor

    def _open(self) -> None:
        """Open the file by that name."""
        self.close()
        self._index_name = str(beside(self._path)[1])
        index, now = self._index_now(), time.time_ns()
        try:
            status = os.stat(self._name)
            self._is_fixed = is_unchanging(self._path)
            self._descriptor = os.open(self._name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._header = os.pread(self._descriptor, _FILE_HEADER, 0)
        except OSError as error:
            self.close()
            raise missing_error(self._path, error) from error
        try:
            self._connection = connect_reading(self._database)
        except StoreError:
            self.close()
            raise
        self._cursor = self._connection.cursor()
        self._file = _stamp(status)
        self._is_settled = _is_settled(status, now)

        # SQLite opens the index by its name, too, and makes it where there is none. Where the name does not stand for
        # what is open, the next turn opens all of it again.
        found = self._index_now()
        is_open = not self._is_fixed and (found[:2] == index[:2] or are_open(self._path))
        self._index = found if is_open else _NO_INDEX
        self._index_stamp = None
        self._known = b""
        self._version = _NO_VERSION

    def _need_version(self) -> None:
        assert self._connection is not None
        try:
            need_version(self._path, self._connection, takes_replica=True)
            check_objects(self._path, self._connection)
        except sqlite3.Error as error:
            self.close()
            raise store_error(self._path, error) from error
        except StoreError:
            self.close()
            raise


def _is_whole(index: bytes) -> bool:
    """Whether the log's index, which begins so, is not being written: its header stands there twice."""
    return bool(index) and index[:_HEADER] == index[_HEADER : 2 * _HEADER]


def _is_settled(status: os.stat_result, now: int) -> bool:
    """Whether what happens to the file from *now* on, in nanoseconds, changes the time of its last change."""
    tick = _TICK_NS if status.st_ctime_ns % _SECOND_NS else 2 * _SECOND_NS
    return abs(now - status.st_ctime_ns) > tick
