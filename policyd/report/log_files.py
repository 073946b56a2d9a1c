"""The files of a log: the one that is written, those that it was rotated to, compressed ones, a pipe, the journal."""

import bz2
import glob
import gzip
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from policyd.errors import LogError, reason_of
from policyd.files import open_to_read
from policyd.printable import count_of
from policyd.report.log_lines import Logged, LogReader, years_of

STDIN = Path("-")
# Where mail is logged, on Debian and on Red Hat.
USUAL_LOGS = ("/var/log/mail.log", "/var/log/maillog", "/var/log/syslog", "/var/log/messages")
_ROTATED = r"(?:[.-]\d[\d.-]*)?(?:\.(?:gz|xz|zst|bz2))?"  # as logrotate(8) calls them
_MAGIC = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2"}
_UNPACKED: Mapping[str, Callable[[BinaryIO], object]] = {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}
_NOT_WHOLE = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
_DAMAGED = (*_NOT_WHOLE, OSError)


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of a log: its path, when it was last written, in Unix seconds, and the digest of its first line."""

    path: Path
    ended_at: float
    is_regular: bool
    first_line: bytes = b""
    began_at: float = 0.0


@dataclass(slots=True)
class Reading:
    """A log that is read: the names of its files, and what came of it, which is whole at the end."""

    names: list[str]
    lines: int = 0
    untimed: int = 0
    lost: int = 0
    problems: list[str] = field(default_factory=list)


def usual_log() -> Path | None:
    """The mail log of this host, where it is a file; None where only the journal can have it."""
    return next((path for name in USUAL_LOGS if (path := Path(name)).is_file()), None)


class Log:
    """The log that is *named*: files, each with those that it was rotated to, or `-` for stdin; none for this host's.

    What was last written before *since*, in Unix seconds, is left out. Raises LogError where there is none.
    """

    def __init__(self, named: Sequence[Path], since: int = 0) -> None:
        usual = None if named else usual_log()
        self._is_journal = not named and usual is None
        self._since = since
        self._files: list[LogFile] = []
        if self._is_journal:
            if shutil.which("journalctl") is None:
                raise LogError("this host has neither /var/log/mail.log nor a journal; name the log")
            self.reading = Reading(["the journal"])
            return
        self.reading = Reading([])
        self._files = self._found([*named] or [cast(Path, usual)])
        self.reading.names = [_name(each.path) for each in self._files]

    def __iter__(self) -> Iterator[Logged]:
        """What policyd logged, from the oldest file to the newest."""
        if self._is_journal:
            yield from self._journal()
        for file in self._files:
            yield from self._lines_of(file)

    def _found(self, named: Sequence[Path]) -> list[LogFile]:
        """The files to read, the oldest first; of those with the same first line, which are one, the newest."""
        files: dict[bytes, LogFile] = {}
        for path in named:
            wanted = _looked_at(path)
            others = [] if path == STDIN or not wanted.is_regular else _rotated(path)
            for each in (wanted, *self._readable(others)):
                if each is not wanted and each.ended_at < self._since:
                    continue
                key = each.first_line or str(each.path).encode("utf-8", "surrogateescape")
                if key not in files or files[key].ended_at < each.ended_at:
                    files[key] = each
        return sorted(files.values(), key=lambda each: (each.began_at or each.ended_at, each.ended_at))

    def _readable(self, paths: Sequence[Path]) -> Iterator[LogFile]:
        """Those of *paths* that can be read; which not, is told with the rest."""
        for path in paths:
            try:
                yield _looked_at(path)
            except LogError as error:
                self.reading.problems.append(str(error))

    def _lines_of(self, file: LogFile) -> Iterator[Logged]:
        name = _name(file.path)
        years = None
        if file.is_regular:
            with suppress(*_DAMAGED), _opened(file.path) as stream:
                years = years_of(stream, file.ended_at)
        reader = LogReader(BytesIO(), file.ended_at)
        try:
            with _opened(file.path) as stream:
                reader = LogReader(stream, file.ended_at, years)
                yield from reader
        except _DAMAGED as error:
            told = reason_of(error) if isinstance(error, OSError) and error.errno else "it is damaged"
            self.reading.problems.append(
                f"{name}: {told} after {count_of(reader.lines, 'line')}; what follows is missing"
            )
        self._add(reader)

    def _journal(self) -> Iterator[Logged]:
        """What the journal has of policyd's lines."""
        command = ["journalctl", "--no-pager", "-q", "-o", "json", "--all", "-t", "policyd"]
        if self._since:
            command.append(f"--since=@{self._since}")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            reader = LogReader(cast(BinaryIO, process.stdout), time.time())
            yield from reader
        self._add(reader)
        if process.returncode:
            self.reading.problems.append(f"journalctl ended with {process.returncode}")

    def _add(self, reader: LogReader) -> None:
        self.reading.lines += reader.lines
        self.reading.untimed += reader.untimed
        self.reading.lost += reader.lost


def _name(path: Path) -> str:
    return "stdin" if path == STDIN else str(path)


def _rotated(path: Path) -> list[Path]:
    """What the log at *path* was rotated to; nothing where it is such a file itself."""
    name = re.compile(re.escape(path.name) + _ROTATED)
    found = sorted(path.parent.glob(f"{glob.escape(path.name)}[.-]*"))
    return [each for each in found if name.fullmatch(each.name) and each.is_file() and not each.is_symlink()]


def _looked_at(path: Path) -> LogFile:
    """The file at *path*, when it began and ended; of what can be read but once, only that it is there."""
    if path == STDIN or (path.exists() and not path.is_file() and not path.is_dir()):
        return LogFile(path, time.time(), False)
    line = b""
    try:
        ended_at = path.stat().st_mtime
        with suppress(*_NOT_WHOLE), _opened(path) as stream:  # what is wrong is told when it is read
            line = stream.readline(1 << 16)
    except OSError as error:
        raise LogError(f"{path}: can't be read: {reason_of(error)}") from error
    began = LogReader(BytesIO(), ended_at).time_of(line) or 0.0
    return LogFile(path, ended_at, True, hashlib.sha256(line).digest() if line else b"", began)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The log at *path*, decompressed where that is needed. Raises OSError and LogError."""
    if path == STDIN:
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        stream = stack.enter_context(open_to_read(path))
        start = cast(BufferedReader, stream).peek(6) if path.is_file() else b""
        kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")
        if kind == "zst":
            yield stack.enter_context(_unpacked_by_zstd(path, stream))
        else:
            yield cast(BinaryIO, _UNPACKED[kind](stream)) if kind else stream


@contextmanager
def _unpacked_by_zstd(path: Path, stream: BinaryIO) -> Iterator[BinaryIO]:
    """What zstd(1) makes of *stream*: Python has it only from 3.14 on."""
    program = shutil.which("zstd")
    if program is None:
        raise LogError(f"{path}: is compressed by zstd, which is not installed; install it, or unpack the file")
    os.lseek(stream.fileno(), 0, os.SEEK_SET)  # where its first bytes were looked at
    with subprocess.Popen(
        [program, "-dcq"], stdin=stream, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield cast(BinaryIO, process.stdout)
        finally:
            cast(BinaryIO, process.stdout).close()
    if process.returncode > 0:
        raise EOFError
