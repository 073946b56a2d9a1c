"""SQLite's write-ahead log and the log's index beside a database: whether they belong to the file between them.

SQLite knows both by their names only. A log that another file left behind would be taken for this file's own, and
pages of both files would become one database. So every database that policyd makes has a random number in its
header (the schema cookie), every change writes the first page, and the log tells by that page which file it is of.
Source: sqlite.org/fileformat2.html §1.3 and §4.1, sqlite.org/walformat.html §2.
"""

import fcntl
import os
import secrets
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from policyd.errors import StoreError, StoreSpoiledError, reason_of

_PAGE_HEADER_SIZE = 100  # bytes at the start of a database's first page
_COOKIE_AT = 40  # in these
_LOG_HEADER_SIZE = 32
_FRAME_HEADER_SIZE = 24
_LOG_MAGIC = (0x377F0682, 0x377F0683)
_INDEX_HEADER_SIZE = 96  # bytes of both copies; what follows says how much of the log is in the file already
_WRITE_LOCK, _IN_USE_LOCK = 120, 128  # bytes of the index that a writer, and everybody who has it open, locks
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux
_COOKIES = 1000  # by so many a change, as an upgrade of the tables, may move the number in the header
_LOOKS = 5  # before what looks wrong is believed: somebody may be writing right now
_LOOK_SECONDS = 0.02


class Stamp(NamedTuple):
    """What a first page says of its file: a number for each change to the page, and one for each of the tables."""

    change: int
    cookie: int

    def follows(self, before: "Stamp") -> bool:
        """Whether the change after *before* can have left this."""
        is_next = self.change == (before.change + 1) % 2**32
        return is_next and (self.cookie - before.cookie) % 2**32 <= _COOKIES


class _Index(NamedTuple):
    pages: int  # of the database, as of the last frame
    page_size: int
    frames: int  # in the log, valid and committed
    moved: int  # of these, how many are in the database file

    @property
    def database_size(self) -> int:
        return self.pages * self.page_size


def new_cookie() -> int:
    """A number for the header of a new database."""
    return secrets.randbelow(2**31 - 2 * _COOKIES) + _COOKIES


def renew_cookie(path: Path) -> None:
    """Give the database at *path*, which nobody has open, another number, without SQLite, which would open a log."""
    opened = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.pwrite(opened, new_cookie().to_bytes(4), _COOKIE_AT)
    finally:
        os.close(opened)


def beside(path: Path) -> tuple[Path, Path]:
    """The log of the database at *path*, and the log's index: where SQLite has them, beside what a link leads to."""
    file = os.path.realpath(path)
    return Path(f"{file}-wal"), Path(f"{file}-shm")


def has_log(path: Path) -> bool:
    """Whether there is anything in the log of the database at *path*."""
    try:
        return os.stat(beside(path)[0]).st_size > 0
    except OSError:
        return False


def identity(path: Path) -> tuple[tuple[int, int], ...]:
    """Which files the database, its log and its index are: device and inode of each, zeros where there is none."""
    return tuple(_identity(each) for each in (os.path.realpath(path), *beside(path)))


def settle(path: Path) -> None:
    """See to it that log and index beside the database at *path* are its own, before it is opened.

    An index that describes what is not there is made anew, if nothing is lost by that. Raises StoreSpoiledError where
    the log is of another database, or was taken away with changes in it.
    This process must have no connection to the file: to close it, or the index, would let go of SQLite's locks.
    """
    problem = ""
    for look in range(_LOOKS):
        if look:
            time.sleep(_LOOK_SECONDS)
        try:
            problem = _problem_of(path)
        except OSError:
            return  # there is nothing there, or it is not ours to read: whoever opens it will tell
        if not problem:
            return
    _mend_index(path, problem)


def _problem_of(path: Path) -> str:
    """What is wrong with the files beside *path* at this moment, "" for nothing."""
    log, _ = beside(path)
    if has_log(path):
        return "" if _is_own_log(path, log) else "foreign"
    index = _read_index(path)
    if index is None:
        return ""
    if index.frames:
        return "gone" if index.moved < index.frames else "moved" if log.exists() else "removed"
    return "stale" if index.pages and index.database_size != path.stat().st_size else ""


def _mend_index(path: Path, problem: str) -> None:
    log, index = beside(path)
    if problem == "foreign":
        raise StoreSpoiledError(
            f"{path}: the log beside it, {log.name}, is another database's, from before the file was replaced; "
            f"restore a backup with: policyd database restore FILE (or stop the daemon and move {log.name} "
            f"and {index.name} away)"
        )
    if problem != "stale" and not _is_locked(index, _IN_USE_LOCK):
        return  # nobody has it open, so that SQLite makes it anew
    if problem == "gone":
        raise StoreSpoiledError(
            f"{path}: its log, {log.name}, was removed while it held changes that are not in the file yet; "
            "restore a backup with: policyd database restore FILE"
        )
    try:
        if problem != "removed":
            _clear(index)
        elif _is_locked(index, _WRITE_LOCK):
            raise StoreError(f"{path}: its log, {log.name}, was removed while a command writes; try again after that")
        else:
            index.unlink()  # who has the removed log open has this one too, and sees that it is gone
    except OSError as error:
        if problem == "removed":
            raise StoreError(
                f"{path}: its log, {log.name}, was removed under the running daemon: {reason_of(error)}; "
                f"stop the daemon, and remove {index.name} too"
            ) from error


def _is_own_log(path: Path, log: Path) -> bool:
    """Whether what is in *log* was written for the file at *path*.

    It is, where the file's first page is one of those in the log, or the one before the first of them. A log without
    any was not written by policyd, and is taken as it is.
    """
    opened = _open(log)
    try:
        header = os.pread(opened, _LOG_HEADER_SIZE, 0)
        if len(header) < _LOG_HEADER_SIZE or int.from_bytes(header[:4]) not in _LOG_MAGIC:
            return True  # SQLite finds nothing in it
        page_size, salts = int.from_bytes(header[8:12]), header[16:24]
        own = _stamp_of(path)
        first: Stamp | None = None
        position = _LOG_HEADER_SIZE
        while len(frame := os.pread(opened, _FRAME_HEADER_SIZE + _PAGE_HEADER_SIZE, position)) > _FRAME_HEADER_SIZE:
            if frame[8:16] != salts:
                break
            if int.from_bytes(frame[:4]) == 1:
                stamp = _stamp(frame[_FRAME_HEADER_SIZE:])
                if stamp == own or (first is None and stamp.follows(own)):
                    return True
                first = first or stamp
            position += _FRAME_HEADER_SIZE + page_size
        return first is None
    finally:
        os.close(opened)


def _stamp_of(path: Path) -> Stamp:
    opened = _open(Path(os.path.realpath(path)))
    try:
        return _stamp(os.pread(opened, _PAGE_HEADER_SIZE, 0))
    finally:
        os.close(opened)


def _stamp(page: bytes) -> Stamp:
    return Stamp(int.from_bytes(page[24:28]), int.from_bytes(page[_COOKIE_AT : _COOKIE_AT + 4]))


def _read_index(path: Path) -> _Index | None:
    """What the index beside *path* says; None where there is none."""
    try:
        opened = _open(beside(path)[1])
    except OSError:
        return None
    try:
        octets = os.pread(opened, _INDEX_HEADER_SIZE + 4, 0)
    finally:
        os.close(opened)
    if len(octets) < _INDEX_HEADER_SIZE + 4:
        return None
    page_size = int.from_bytes(octets[14:16], sys.byteorder)
    frames, pages, moved = (int.from_bytes(octets[at : at + 4], sys.byteorder) for at in (16, 20, _INDEX_HEADER_SIZE))
    return _Index(pages, 65536 if page_size == 1 else page_size, frames, moved)


def _clear(index: Path) -> None:
    """Have SQLite make the index anew, under its own locks: it does where the index begins with zeros."""
    opened = os.open(index, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.pwrite(opened, bytes(_INDEX_HEADER_SIZE), 0)
    finally:
        os.close(opened)


def _is_locked(index: Path, position: int) -> bool:
    """Whether another process holds SQLite's lock on that byte of *index*."""
    with suppress(OSError):
        opened = _open(index)
        try:
            wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
            found = struct.unpack(_FLOCK, fcntl.fcntl(opened, fcntl.F_GETLK, wanted))
            return bool(found[0] != fcntl.F_UNLCK)
        finally:
            os.close(opened)
    return False


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _identity(path: Path | str) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino
