"""Makes sure that SQLite's write-ahead log and its index belong to the database that they are beside.

SQLite knows both by their names only. It would take a log that another file left behind for this file's own, and mix
the pages of two databases. So every database that policyd makes has a random number in its header (the schema cookie),
and every change writes the first page, so that the log holds that number too, and shows to which file it belongs.
Source: sqlite.org/fileformat2.html §1.3 and §4.1, sqlite.org/walformat.html §2.
"""

import fcntl
import os
import struct
import sys
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple, assert_never

from policyd.errors import StoreError, StoreSpoiledError, reason_of

_PAGE_HEADER_SIZE = 100  # bytes at the start of a database's first page
_COOKIE_AT = 40  # in these
_LOG_HEADER_SIZE = 32
_FRAME_HEADER_SIZE = 24
_LOG_MAGIC = (0x377F0682, 0x377F0683)
_INDEX_HEADER_SIZE = 96  # bytes of both copies; what follows says how much of the log is in the file already
_WRITE_LOCK, _IN_USE_LOCK = 120, 128  # bytes of the index that a writer, and everybody who has it open, locks
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux
_COMMAND_CHARACTERS = 80  # of another process
_COOKIES = 1000  # by so many a change, as an upgrade of the tables, may move the number in the header
_LOOKS = 5  # before what looks wrong is believed: somebody may be writing right now
_LOOK_SECONDS = 0.02


class _Trouble(Enum):
    """What can be wrong with the files beside a database."""

    FOREIGN = "the log was written for another file"
    GONE = "the log was removed, with changes that the file has not got"
    MOVED = "the log was emptied, and the index does not say so"
    REMOVED = "the log was removed, after all of it had been moved into the file"
    STALE = "the index describes another file"


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
    return int.from_bytes(os.urandom(4)) % (2**31 - 2 * _COOKIES) + _COOKIES


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


def are_open(path: Path) -> bool:
    """Whether the database, its log and its index, as they are by these names now, are open in this process.

    What is committed to files that lost their names is lost.
    """
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return True  # nobody can tell
    opened = set()
    for number in numbers:
        with suppress(OSError):  # what listed them is closed by now
            opened.add(_named(os.fstat(int(number))))
    return opened.issuperset(identity(path))


def need_own_log(path: Path) -> None:
    """Make sure, before the database at *path* is opened, that the log and the index beside it are its own.

    An index that describes what is not there is made again, if nothing is lost by that. Raises StoreSpoiledError where
    the log is of another database, or was taken away with changes in it.
    This process must have no connection to the file: to close it, or the index, would let go of SQLite's locks.
    """
    # Somebody may be writing: only what looks wrong several times is wrong.
    trouble = None
    for look in range(_LOOKS):
        if look:
            time.sleep(_LOOK_SECONDS)
        try:
            trouble = _find_trouble(path)
        except OSError:
            return  # there is nothing there, or it is not ours to read: whoever opens it reports that
        if trouble is None:
            return

    # An index that SQLite would believe is repaired; what can't be repaired is refused.
    if trouble is not None:
        _repair_index(path, trouble)


def _find_trouble(path: Path) -> _Trouble | None:
    """What is wrong with the files beside *path* at this moment; None for nothing."""
    log, _ = beside(path)
    if has_log(path):
        return None if _is_own_log(path, log) else _Trouble.FOREIGN
    index = _read_index(path)
    if index is None:
        return None
    if index.moved < index.frames:
        return _Trouble.GONE
    if index.frames:
        return _Trouble.MOVED if log.exists() else _Trouble.REMOVED
    return _Trouble.STALE if index.pages and index.database_size != path.stat().st_size else None


def _repair_index(path: Path, trouble: _Trouble) -> None:
    """Have SQLite see the files as they are; raises StoreSpoiledError where changes would be lost by that."""
    log, index = beside(path)
    match trouble:
        case _Trouble.FOREIGN:
            raise StoreSpoiledError(
                f"{path}: the log beside it, {log.name}, is another database's, from before the file was replaced; "
                f"restore a backup with: policyd database restore FILE (or stop the daemon and move {log.name} "
                f"and {index.name} away)"
            )
        case _Trouble.STALE:
            _clear(index)
        case _Trouble.GONE | _Trouble.MOVED | _Trouble.REMOVED if not _is_locked(index, _IN_USE_LOCK):
            pass  # nobody has it open, so that SQLite makes it again
        case _Trouble.GONE:
            raise StoreSpoiledError(
                f"{path}: its log, {log.name}, was removed while it held changes that are not in the file yet; "
                "restore a backup with: policyd database restore FILE"
            )
        case _Trouble.MOVED:
            _clear(index)
        case _Trouble.REMOVED:
            _remove_index(path, log, index)
        case _:
            assert_never(trouble)


def _remove_index(path: Path, log: Path, index: Path) -> None:
    """Remove the index of a log that was removed: whoever has that open notices by it that the log is gone."""
    if _is_locked(index, _WRITE_LOCK):
        raise StoreError(f"{path}: its log, {log.name}, was removed while a command writes; try again after that")
    try:
        index.unlink()
    except OSError as error:
        raise StoreError(
            f"{path}: its log, {log.name}, was removed under the running daemon: {reason_of(error)}; "
            f"stop the daemon, and remove {index.name} too"
        ) from error


def _is_own_log(path: Path, log: Path) -> bool:
    """Whether what is in *log* was written for the file at *path*.

    It was, if the log holds the file's first page as it is, or as it became by the next change. A log that does not
    hold that page at all was not written by policyd, and is taken as it is.
    """
    opened = _open(log)
    try:
        # The header has the salts that every valid frame repeats.
        header = os.pread(opened, _LOG_HEADER_SIZE, 0)
        if len(header) < _LOG_HEADER_SIZE or int.from_bytes(header[:4]) not in _LOG_MAGIC:
            return True  # SQLite finds nothing in it
        page_size, salts = int.from_bytes(header[8:12]), header[16:24]

        # Each frame that holds the first page says which file it was written for.
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
        raw = os.pread(opened, _INDEX_HEADER_SIZE + 4, 0)
    finally:
        os.close(opened)
    if len(raw) < _INDEX_HEADER_SIZE + 4:
        return None
    page_size = int.from_bytes(raw[14:16], sys.byteorder)
    frames, pages, moved = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in (16, 20, _INDEX_HEADER_SIZE))
    return _Index(pages, 65536 if page_size == 1 else page_size, frames, moved)


def _clear(index: Path) -> None:
    """Have SQLite make the index again, under its own locks, which it does where the index begins with zeros.

    Best effort: a user who may not write the index leaves that to one who may.
    """
    with suppress(OSError):
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
        return _named(os.lstat(path))
    except OSError:
        return 0, 0


def _named(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def writer_of(path: Path) -> str:
    """Which process is changing the database at *path*, and by what command, as far as the system tells; else "".

    Source: proc_locks(5). To open the index for this would let go of SQLite's own locks on it.
    """
    try:
        index = os.lstat(f"{path}-shm").st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    for line in lines:
        # As `2: POSIX  ADVISORY  WRITE 10428 fe:00:2211914 120 120`.
        fields = line.split()
        if len(fields) != 8:  # one that waits has an arrow more
            continue
        _, kind, _, mode, number, place, first, last = fields
        is_writers = (kind, mode, first, last) == ("POSIX", "WRITE", *[str(_WRITE_LOCK)] * 2)
        if is_writers and place.endswith(f":{index}") and int(number) > 0:
            return f"pid {number}{_command_of(int(number))}"
    return ""


def _command_of(pid: int) -> str:
    """What the process was called with, from `policyd` on; "" where that can't be read."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "backslashreplace").rstrip("\0").split("\0")
    except OSError:
        return ""
    names = [word.rpartition("/")[2] for word in words]
    start = names.index("policyd") if "policyd" in names else 0
    return f", {' '.join([names[start], *words[start + 1 :]])[:_COMMAND_CHARACTERS]}" if names[start] else ""
