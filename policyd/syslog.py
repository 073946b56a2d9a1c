"""Sends lines to a syslog socket or stderr without ever blocking; lines that are not taken wait in a bounded queue."""

import errno
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from policyd.errors import reason_of
from policyd.settings import FACILITIES, AuditSettings

WARNING, NOTICE, INFO = 4, 5, 6  # RFC 5424 §6.2.1

LINE_LIMIT = 3900  # bytes; with syslog's head, every sink on this machine takes as much at once
_UDP_LIMIT = 1024  # bytes of a datagram that each receiver must take, head included: RFC 3164 §4.1
_RECORD_LIMIT = 8000  # bytes; rsyslog and journald cut at 8 KiB and 48 KiB
_PIPE_LIMIT = 4096  # bytes that a writable pipe takes without blocking: POSIX's PIPE_BUF on Linux

LINES = 10_000  # some seconds of the busiest mail, minutes of others': longer than a syslog daemon takes to restart
CHARACTERS = 4 << 20  # of all lines that wait, where they are long; 10 000 lines of usual length have 3 MiB
RETRY_SECONDS = 0.1  # between two looks for a sink that isn't there
SILENT_SECONDS = 1.0  # until a sink that has taken no line at all is reported
STUCK_SECONDS = 30.0  # until one that has taken lines before is reported; a restart of syslog takes less
CLOSE_SECONDS = 1.0  # for what waits when the process ends

_WITH_EACH = 4  # lines that wait, sent before each new one: with one alone, the queue would never get shorter
_AT_ONCE = 200  # lines in one turn of the reactor, about a millisecond


class Sink(Protocol):
    """Takes lines without line breaks."""

    def send(self, severity: int, line: str, said_at: float = 0.0) -> bool:
        """Whether *line*, said now or at that time, was taken; it never blocks, and never raises."""

    def fileno(self) -> int:
        """What is writable when a line may be taken; -1 where there is nothing to wait for."""

    def close(self) -> None:
        """Close what is open."""


def line_limit(settings: AuditSettings) -> int:
    """How many bytes of a line the sink that *settings* name is sure to take."""
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

    Each process opens its own, with its pid in each line. Connects again, once a line, where the daemon went away. In
    a stream a record ends with NUL; where it took a part of one, the same line must be sent again until all of it
    went, or the sink is closed.
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
        self._pid = os.getpid()
        self._head_of = (0, 0)  # the second and the severity
        self._head = ""  # of a record

    def send(self, severity: int, line: str, said_at: float = 0.0) -> bool:
        """Whether the socket took *line*; a full queue or a missing daemon takes nothing."""
        head_of = (int(said_at or time.time()), severity)
        if head_of != self._head_of:
            stamp = time.strftime("%b %e %H:%M:%S", time.localtime(head_of[0]))
            self._head = f"<{self._facility * 8 + severity}>{stamp} {self._host}policyd[{self._pid}]: "
            self._head_of = head_of
        record = f"{self._head}{line}".encode("utf-8", "backslashreplace")[:_RECORD_LIMIT]
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
        encoded = line.encode("utf-8", "backslashreplace")[: _PIPE_LIMIT - 1] + b"\n"
        try:
            _, writable, _ = select.select([], [self.fileno()], [], 0)
            return bool(writable) and os.write(self.fileno(), encoded) > 0
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


class Timer(Protocol):
    """A call that is due at some time."""

    def cancel(self) -> None:
        """Don't make it."""


class Reactor(Protocol):
    """What the queue needs of Twisted's reactor, which the files at the top of the package don't import."""

    def callLater(self, delay: float, call: Callable[[], object], /) -> Timer:
        """Make *call* in *delay* seconds."""

    def addWriter(self, writer: Any, /) -> None:
        """Call *writer*'s `doWrite` when its `fileno` can be written."""

    def removeWriter(self, writer: Any, /) -> None:
        """Do so no more."""


class Line(NamedTuple):
    """A line that waits: when it was said, and how many lines are lost if it is never sent."""

    severity: int
    text: str
    said_at: float
    stands_for: int


class SyslogQueue:
    """A queue before *sink*: the lines that the sink doesn't take at once wait here.

    With Twisted's *reactor* the lines are sent as soon as they can be; without one, with the next line, by `flush`, and
    at the end.
    *on_stuck* is called once where lines wait and none has been taken for some time.
    """

    def __init__(self, sink: Sink, reactor: Reactor | None = None, on_stuck: Callable[[], None] = lambda: None) -> None:
        self._sink = sink
        self._reactor = reactor
        self._on_stuck = on_stuck
        self._has_taken = False  # any line
        self._stuck_since = 0.0  # as time.monotonic() counts; 0 while lines go, or none waits
        self._is_reported = False  # that it is stuck
        self._stuck_timer: Timer | None = None
        self._waiting: deque[Line] = deque()
        self._characters = 0
        self._is_full = False  # until it is half empty again: one gap in the log is better than a thousand
        self._next_look = 0.0  # for a sink that isn't there, as time.monotonic() counts
        self._timer: Timer | None = None
        self._watched = -1  # a duplicate: the sink may close its own at any time, and open another under its number

    def __len__(self) -> int:
        """How many lines wait."""
        return len(self._waiting)

    def send(self, severity: int, text: str, stands_for: int = 1) -> bool:
        """Whether the line was sent or waits; false where too many wait. If it is lost, it counts as *stands_for*."""
        if self._waiting:
            self._drain(_WITH_EACH)
        if not self._waiting and self._sink.send(severity, text):
            self._has_taken = True
            return True
        if len(self._waiting) >= LINES or self._characters + len(text) > CHARACTERS:
            self._is_full = True
        if self._is_full:
            return False
        self._waiting.append(Line(severity, text, time.time(), stands_for))
        self._characters += len(text)
        self._check_stuck()
        self._watch()
        return True

    def _check_stuck(self) -> None:
        """Call *on_stuck*, once, where no line has gone for some time."""
        if not self._waiting or self._is_reported:
            return
        now = time.monotonic()
        self._stuck_since = self._stuck_since or now
        left = self._stuck_since + (STUCK_SECONDS if self._has_taken else SILENT_SECONDS) - now
        if left <= 0:
            self._is_reported = True
            self._on_stuck()
        elif self._reactor is not None and self._stuck_timer is None:
            self._stuck_timer = self._reactor.callLater(left, self._recheck_stuck)

    def _recheck_stuck(self) -> None:
        self._stuck_timer = None
        self._check_stuck()

    def flush(self) -> bool:
        """Send what can be sent now; returns whether lines still wait."""
        self._drain(_AT_ONCE)
        self._check_stuck()
        return bool(self._waiting)

    def wait_until_empty(self) -> None:
        """Wait until all lines are gone, a second at most. A command doesn't wait for a syslog that isn't there."""
        deadline = time.monotonic() + CLOSE_SECONDS
        before, self._next_look = -1, 0.0
        while self.flush() and (left := deadline - time.monotonic()) > 0:
            descriptor, is_stuck = self._sink.fileno(), len(self._waiting) == before
            before = len(self._waiting)
            if not is_stuck and descriptor >= 0:
                poll = select.poll()
                poll.register(descriptor, select.POLLOUT)
                poll.poll(left * 1000)
            elif is_stuck and descriptor < 0 and self._reactor is None:
                break
            elif is_stuck:  # it isn't there, or it is writable and takes none
                time.sleep(min(left, RETRY_SECONDS))

    def close(self) -> int:
        """Close the sink; returns how many lines are lost."""
        self._unwatch()
        if self._stuck_timer:
            self._stuck_timer.cancel()
            self._stuck_timer = None
        self._sink.close()
        return sum(line.stands_for for line in self._waiting)

    def take_over(self, former: "SyslogQueue") -> None:
        """Close *former*, and take the lines that wait there, before any of this queue."""
        former.close()
        self._waiting.extend(former._waiting)
        self._characters += former._characters
        self._is_full = former._is_full
        self._check_stuck()
        self._watch()

    def fileno(self) -> int:
        """What the reactor watches."""
        return self._watched

    def logPrefix(self) -> str:
        """What Twisted calls this."""
        return "audit"

    def doWrite(self) -> None:
        """The sink takes lines again. Where it takes none after all, it is tried now and then."""
        self._unwatch()
        before = len(self._waiting)
        self._drain(_AT_ONCE)
        self._watch(is_ready=len(self._waiting) < before)

    def connectionLost(self, _reason: object) -> None:
        """The reactor has dropped the socket, which is broken; the next line finds out why."""
        self._stop_watching()
        self._watch(is_ready=False)

    def _drain(self, most: int) -> None:
        """Send the oldest lines, *most* of them."""
        if not self._waiting or time.monotonic() < self._next_look:
            return
        for _ in range(min(most, len(self._waiting))):
            oldest = self._waiting[0]
            if not self._sink.send(oldest.severity, oldest.text, oldest.said_at):
                self._next_look = time.monotonic() + RETRY_SECONDS if self._sink.fileno() < 0 else 0.0
                break
            self._waiting.popleft()
            self._characters -= len(oldest.text)
            self._has_taken, self._stuck_since, self._is_reported = True, 0.0, False
        if len(self._waiting) <= LINES // 2 and self._characters <= CHARACTERS // 2:
            self._is_full = False

    def _watch(self, *, is_ready: bool = True) -> None:
        """Have the reactor call when a line may go; where there is nothing to wait for, after a while."""
        if self._reactor is None or self._watched >= 0 or self._timer or not self._waiting:
            return
        try:
            if is_ready and self._sink.fileno() >= 0:
                self._watched = os.dup(self._sink.fileno())
                self._reactor.addWriter(self)
                return
        except OSError:  # no descriptors left
            self._stop_watching()
        self._timer = self._reactor.callLater(RETRY_SECONDS, self._look)

    def _unwatch(self) -> None:
        if self._watched >= 0 and self._reactor is not None:
            self._reactor.removeWriter(self)
            self._stop_watching()
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _stop_watching(self) -> None:
        if self._watched >= 0:
            os.close(self._watched)
            self._watched = -1

    def _look(self) -> None:
        self._timer, self._next_look = None, 0.0
        self._drain(_AT_ONCE)
        self._watch()
