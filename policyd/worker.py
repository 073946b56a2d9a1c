"""One worker, as its parent sees it: forked, handed connections, heard of, and replaced when it has ended."""

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable

from policyd.service import ADOPT, MAKE_ROOM, TELL

_ASKED_SECONDS = 1.0  # for so long it is believed which connection a worker would close
_STEADY_SECONDS = 5  # a worker that lived that long is replaced at once
_LONGEST_WAIT_SECONDS = 5.0  # until one that ends again and again is replaced
HANDLED = frozenset({signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})


class Worker:
    """A place for a worker: the process that is in it, or when the next one is due.

    `channel` leads to the process. To it go descriptors, from it comes how many it has taken, and how many of those
    connections have ended. One that it has not taken is still open here, for another worker if this one dies.

    `first_to_go` is what it told, when it was asked, of the connection that it would close for a new one: a Standing,
    but since when in seconds as time.monotonic() counts. The least of all workers goes first.
    """

    def __init__(self) -> None:
        self.pid = 0  # 0 while there is none
        self.channel: socket.socket | None = None
        self.due = 0.0  # as time.monotonic() counts
        self.wait = 0.0  # seconds between the last end and `due`
        self.has_told = False  # anything: it serves
        self.beats_unheard = 0  # of the parent's, since it told something
        self.first_to_go: tuple[int, int] | None = None  # None until it has told
        self._asked_at = 0.0  # 0 where it has not been asked, as time.monotonic() counts
        self._taken = self._ended = 0
        self._handed: deque[socket.socket] = deque()  # not taken yet
        self._started_at = 0.0

    @property
    def connections(self) -> int:
        """How many it has."""
        return len(self._handed) + self._taken - self._ended

    def start(self, live: Callable[[socket.socket], None]) -> None:
        """Fork a process that does *live* with its end of the channel, and never returns from it.

        It stops with its channel only, for SIGTERM may hit the parent's whole group. SIGHUP is blocked in it until
        it has a handler.
        """
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self._taken = self._ended = 0
        self.first_to_go, self._asked_at = None, 0.0
        self.has_told, self.beats_unheard = False, 0
        self._started_at = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        self.pid = os.fork()
        if self.pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            theirs.close()
            return
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED - {signal.SIGHUP})
            live(theirs)
        finally:
            os._exit(70)  # EX_SOFTWARE: it should have ended by itself

    def hand(self, connection: socket.socket, *, makes_room: bool = False) -> bool:
        """Whether it was given *connection*, which then is its own; one that is ending takes nothing.

        To make room for it, the worker closes another one first, and tells which would be next.
        """
        try:
            if self.channel is None:
                return False
            socket.send_fds(self.channel, [MAKE_ROOM if makes_room else ADOPT], [connection.fileno()])
        except OSError:
            return False
        self._handed.append(connection)
        if makes_room:
            self.first_to_go, self._asked_at = None, time.monotonic()
        return True

    def ask(self) -> None:
        """Have it tell which connection it would close, where what it told is old."""
        now = time.monotonic()
        if self.channel is None or now - self._asked_at < _ASKED_SECONDS:
            return
        self.first_to_go = None
        try:
            self.channel.send(TELL)
            self._asked_at = now
        except OSError:
            pass  # it is busy, or ending: it is asked again

    def listen(self) -> list[socket.socket]:
        """Hear what it tells. If it tells no more, the connections that it has not taken."""
        while self.channel is not None:
            try:
                told = self.channel.recv(64)
            except BlockingIOError:
                break
            except ConnectionResetError:  # it has died; what it told before comes next
                continue
            if not told:
                return self.close()
            self.has_told, self.beats_unheard = True, 0
            taken, self._ended, *first_to_go = map(int, told.split())
            if first_to_go:
                self.first_to_go = (first_to_go[0], first_to_go[1])
            for _ in range(taken - self._taken):
                self._handed.popleft().close()
            self._taken = taken
        return []

    def close(self) -> list[socket.socket]:
        """Hand it nothing more; the connections that it has not taken."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
            self._taken = self._ended = 0  # whatever it had ends with it
        left = [*self._handed]
        self._handed.clear()
        return left

    def bury(self, options: int = os.WNOHANG) -> str:
        """How the process has ended, if it has, or ""; *options* are waitpid's. Then the next one is due some time.

        What it has told must have been heard before.
        """
        pid, status = os.waitpid(self.pid, options) if self.pid else (0, 0)
        if not pid:
            return ""
        self.pid = 0
        now = time.monotonic()
        is_steady = now - self._started_at > _STEADY_SECONDS
        self.wait = 0.0 if is_steady else min(_LONGEST_WAIT_SECONDS, 2 * self.wait or 0.1)
        self.due = now + self.wait
        code = os.waitstatus_to_exitcode(status)
        return f"exit status {code}" if code >= 0 else signal.Signals(-code).name
