"""A process that the daemon's parent forks, keeps alive, and hears from through a channel."""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress

HANDLED = frozenset({signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})  # by the parent

_FOLLOWER_HUNG_SECONDS = 120  # its calls to several servers are given up before that
_DOUBT = b"?"  # what the one that follows is sent
_STEADY_SECONDS = 5  # one that lived that long is replaced at once
_LONGEST_WAIT_SECONDS = 5.0  # until one that ends again and again is replaced


class Child:
    """A place for a process: the one that is in it, or when the next one is due. `channel` leads to it."""

    def __init__(self) -> None:
        self.pid = 0  # 0 while there is none
        self.channel: socket.socket | None = None
        self.due = 0.0  # as time.monotonic() counts
        self.wait = 0.0  # seconds between the last end and `due`
        self.has_reported = False  # anything: it is at work
        self.missed_beats = 0  # of the parent's, since its last report
        self._started_at = 0.0

    def start(self, live: Callable[[socket.socket], None]) -> None:
        """Fork a process that runs *live* with its end of the channel, and never returns from it.

        It stops with its channel only, for SIGTERM may hit the parent's whole group. SIGHUP is blocked in it until
        it has a handler.
        """
        # Everything that was known of the former process is forgotten.
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.has_reported, self.missed_beats = False, 0
        self._started_at = time.monotonic()

        # No signal may reach the new process before it has its own handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        self.pid = os.fork()
        if self.pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            theirs.close()
            return

        # The new process.
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED - {signal.SIGHUP})
            live(theirs)
        finally:
            os._exit(70)  # EX_SOFTWARE: it should have ended by itself

    def reap(self, options: int = os.WNOHANG) -> str:
        """How the process has ended, "" if it has not; *options* are waitpid's. Sets when the next one is due.

        Its last reports must have been read before.
        """
        # Whether it has ended.
        pid, status = os.waitpid(self.pid, options) if self.pid else (0, 0)
        if not pid:
            return ""

        # One that ends again and again is replaced later each time.
        self.pid = 0
        now = time.monotonic()
        is_steady = now - self._started_at > _STEADY_SECONDS
        self.wait = 0.0 if is_steady else min(_LONGEST_WAIT_SECONDS, 2 * self.wait or 0.1)
        self.due = now + self.wait

        # By itself, or killed by a signal.
        code = os.waitstatus_to_exitcode(status)
        return f"exit status {code}" if code >= 0 else signal.Signals(-code).name

    def kill(self) -> None:
        """End the process at once, if there is one."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)


class HelperChild(Child):
    """The place for a process beside the workers, *name* in the log; `told` is what it said last.

    One that says nothing for *hung_seconds* is killed.
    """

    def __init__(self, name: str, hung_seconds: float) -> None:
        super().__init__()
        self.name = name
        self.hung_seconds = hung_seconds
        self.told = ""
        self._is_restarting = False

    def restart(self) -> None:
        """Have another one take its place."""
        self._is_restarting = bool(self.pid)
        self.due = self.wait = 0.0
        self.end()

    def end(self) -> None:
        """End it, now or once it has done what it is at."""
        self.kill()

    def reap(self, options: int = os.WNOHANG) -> str:
        """How the process has ended, "" if it has not, or was to."""
        how = super().reap(options)
        if how and self._is_restarting:
            self._is_restarting = False
            self.due = self.wait = 0.0
            return ""
        return how

    def read_channel(self) -> None:
        """Read what it says: each time a sign of life, too."""
        while self.channel is not None:
            try:
                told = self.channel.recv(4096)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue
            if not told:
                self.channel.close()
                self.channel = None
                return
            self.has_reported, self.missed_beats = True, 0
            self.told = told.decode("utf-8", "replace")


class FollowerChild(HelperChild):
    """The place for the process that follows the database for this host's replica, and tells how that is.

    It may be killed at any time: what is whole in the replica stays whole.
    """

    def __init__(self) -> None:
        super().__init__("follower", _FOLLOWER_HUNG_SECONDS)

    def doubt(self) -> None:
        """Have it look whether the replica is damaged: somebody could not read it."""
        if self.channel is not None:
            with suppress(OSError):  # it has been told often enough, or has ended: the next one looks at its start
                self.channel.send(_DOUBT)


class WebChild(HelperChild):
    """The place for the process that serves metrics and the pages; the end of its channel ends it."""

    def __init__(self, hung_seconds: float) -> None:
        super().__init__("web process", hung_seconds)

    def end(self) -> None:
        """Have it answer what is on its way, and end."""
        if self.channel is not None:
            with suppress(OSError):  # it has ended
                self.channel.shutdown(socket.SHUT_WR)
