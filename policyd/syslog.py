"""Where lines go: a syslog datagram socket or stderr, never blocking; what can't go at once is refused."""

import errno
import os
import select
import socket
import sys
import time
from typing import Any, Protocol

from policyd.errors import reason_of
from policyd.settings import FACILITIES, AuditSettings

WARNING, NOTICE, INFO = 4, 5, 6  # RFC 5424 §6.2.1

LINE_LIMIT = 3900  # octets; with syslog's head less than any sink on this machine takes at once
_UDP_LIMIT = 1024  # octets of a datagram that each receiver must take, head included: RFC 3164 §4.1
_RECORD_LIMIT = 8000  # octets; rsyslog and journald cut at 8 KiB and 48 KiB
_PIPE_LIMIT = 4096  # octets that a writable pipe takes without blocking: POSIX's PIPE_BUF on Linux


class Sink(Protocol):
    """Takes lines without line breaks."""

    def send(self, severity: int, line: str, said_at: float = 0.0) -> bool:
        """Whether *line*, said now or at that time, was taken; it never blocks, and never raises."""

    def fileno(self) -> int:
        """What is writable when a line may be taken; -1 where there is nothing to wait for."""

    def close(self) -> None:
        """Let go of what is open."""


def line_limit(settings: AuditSettings) -> int:
    """How many octets of a line the sink that *settings* name is sure to take."""
    if not settings.syslog.startswith("udp:"):
        return LINE_LIMIT
    return _UDP_LIMIT - len(f"<191>Nov 23 00:00:00 {socket.gethostname()} policyd[4194304]: ".encode())


def open_sink(settings: AuditSettings) -> Sink:
    """The sink that the setting `syslog` names; a socket that isn't there yet is tried again at each line."""
    if settings.syslog == "none":
        return NoSink()
    if settings.syslog == "stderr":
        return StderrSink()
    facility = FACILITIES[settings.facility]
    if settings.syslog.startswith("unix:"):
        return SyslogSink(socket.AF_UNIX, settings.syslog.removeprefix("unix:"), facility)
    host, _, port = settings.syslog.removeprefix("udp:").rpartition(":")
    try:  # now, since to ask for a name may take long
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError):
        return LostSink()
    return SyslogSink(family, address, facility)


class SyslogSink:
    """A socket to a syslog daemon, in the form that syslog(3) writes: of datagrams, or a stream where that is there.

    Connects again, once a line, where the daemon went away. In a stream a record ends with NUL; where it took a part
    of one, the same line must be sent again until all of it went, or the sink is closed.
    """

    problem = ""  # why the last line was not taken

    def __init__(self, family: socket.AddressFamily, address: str | tuple[Any, ...], facility: int) -> None:
        self._family = family
        self._address = address
        self._facility = facility
        self._host = "" if family == socket.AF_UNIX else f"{socket.gethostname()} "
        self._socket: socket.socket | None = None
        self._is_stream = False
        self._rest = b""  # of a record that a stream took a part of
        self._second = 0
        self._stamp = ""

    def send(self, severity: int, line: str, said_at: float = 0.0) -> bool:
        """Whether the socket took *line*; a full queue or a missing daemon takes nothing."""
        second = int(said_at or time.time())
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%b %e %H:%M:%S", time.localtime(second))
        head = f"<{self._facility * 8 + severity}>{self._stamp} {self._host}policyd[{os.getpid()}]: "
        record = (head + line).encode("utf-8", "backslashreplace")[:_RECORD_LIMIT]
        return self._try(record) or (self._socket is None and self._try(record))

    def fileno(self) -> int:
        """The socket, where there is one."""
        return -1 if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._rest = b""

    def _try(self, record: bytes) -> bool:
        """Whether *record* went; afterwards there is no socket if the one there was is of no use."""
        try:
            connected = self._socket or self._connect()
            if self._is_stream:
                self._rest = self._rest or record.replace(b"\0", b" ") + b"\0"
                self._rest = self._rest[connected.send(self._rest) :]
                return not self._rest
            connected.send(record)
        except OSError as error:
            self.problem = reason_of(error)
            if error.errno == errno.EMSGSIZE and len(record) > _UDP_LIMIT // 2:  # a shorter one is better than none
                return self._try(record[: len(record) // 2])
            if not isinstance(error, BlockingIOError):
                self.close()
            return False
        return True

    def _connect(self) -> socket.socket:
        """A socket that is connected, kept for the next record. Raises OSError.

        Source: syslog(3) of glibc, which tries a stream where the kernel says that there are no datagrams.
        """
        try:
            self._socket, self._is_stream = self._connected(socket.SOCK_DGRAM), False
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
            self._socket, self._is_stream = self._connected(socket.SOCK_STREAM), True
        return self._socket

    def _connected(self, kind: socket.SocketKind) -> socket.socket:
        connecting = socket.socket(self._family, kind | socket.SOCK_NONBLOCK)
        try:
            connecting.connect(self._address)
        except OSError:
            connecting.close()
            raise
        return connecting


class StderrSink:
    """Standard error, for the foreground and for containers."""

    def send(self, _severity: int, line: str, _said_at: float = 0.0) -> bool:
        """Whether stderr took *line*; a pipe that nobody empties takes nothing."""
        octets = line.encode("utf-8", "backslashreplace")[: _PIPE_LIMIT - 1] + b"\n"
        try:
            _, writable, _ = select.select([], [self.fileno()], [], 0)
            return bool(writable) and os.write(self.fileno(), octets) > 0
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Stderr, where there is one."""
        try:
            return sys.stderr.fileno()
        except (OSError, ValueError, AttributeError):  # closed, perhaps before Python started
            return -1

    def close(self) -> None:
        """Stderr stays open."""


class LostSink:
    """Takes nothing: the syslog's host has no address, until the settings are read again."""

    def send(self, _severity: int, _line: str, _said_at: float = 0.0) -> bool:
        """Always false."""
        return False

    def fileno(self) -> int:
        """Nothing is open."""
        return -1

    def close(self) -> None:
        """Nothing is open."""


class NoSink:
    """Takes every line, and keeps none."""

    def send(self, _severity: int, _line: str, _said_at: float = 0.0) -> bool:
        """Always true: there is nobody to miss the line."""
        return True

    def fileno(self) -> int:
        """Nothing is open."""
        return -1

    def close(self) -> None:
        """Nothing is open."""
