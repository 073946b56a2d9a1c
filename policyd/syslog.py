"""Where lines go: a syslog datagram socket or stderr, never blocking; what can't go at once is refused."""

import os
import select
import socket
import sys
import time
from typing import Any, Protocol

from policyd.settings import FACILITIES, AuditSettings

WARNING, NOTICE, INFO = 4, 5, 6  # RFC 5424 §6.2.1

_LINE_LIMIT = 8000  # octets; rsyslog and journald cut at 8 KiB and 48 KiB
_PIPE_LIMIT = 4096  # octets that a writable pipe takes without blocking: POSIX's PIPE_BUF on Linux


class Sink(Protocol):
    """Takes lines without line breaks."""

    def send(self, severity: int, line: str, said_at: float = 0.0) -> bool:
        """Whether *line*, said now or at that time, was taken; it never blocks, and never raises."""

    def fileno(self) -> int:
        """What is writable when a line may be taken; -1 where there is nothing to wait for."""

    def close(self) -> None:
        """Let go of what is open."""


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
    """A datagram socket to a syslog daemon, in the form that syslog(3) writes.

    Connects again, once a line, where the daemon went away.
    """

    def __init__(self, family: socket.AddressFamily, address: str | tuple[Any, ...], facility: int) -> None:
        self._family = family
        self._address = address
        self._facility = facility
        self._host = "" if family == socket.AF_UNIX else f"{socket.gethostname()} "
        self._socket: socket.socket | None = None
        self._second = 0
        self._stamp = ""

    def send(self, severity: int, line: str, said_at: float = 0.0) -> bool:
        """Whether the socket took *line*; a full queue or a missing daemon takes nothing."""
        second = int(said_at or time.time())
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%b %e %H:%M:%S", time.localtime(second))
        head = f"<{self._facility * 8 + severity}>{self._stamp} {self._host}policyd[{os.getpid()}]: "
        datagram = (head + line).encode("utf-8", "backslashreplace")[:_LINE_LIMIT]
        return self._try(datagram) or (self._socket is None and self._try(datagram))

    def fileno(self) -> int:
        """The socket, where there is one."""
        return -1 if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _try(self, datagram: bytes) -> bool:
        """Whether *datagram* went; afterwards there is no socket if the one there was is of no use."""
        try:
            if self._socket is None:
                self._socket = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                self._socket.connect(self._address)
            self._socket.send(datagram)
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True


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
