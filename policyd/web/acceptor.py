"""Accepts connections on sockets that were opened before this process was forked, as many as the site has room for."""

import socket
from typing import Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.web.http import Site

_AT_ONCE = 16
_PAUSE_SECONDS = 0.1


class Listening(Protocol):
    """A socket that listens, and does not block."""

    def fileno(self) -> int:
        """Its descriptor."""

    def accept(self) -> socket.socket:
        """The next who waits. Raises BlockingIOError if nobody does, and other kinds of OSError."""


@implementer(IReadDescriptor)
class Acceptor:
    """Gives *site* the connections that come to *listening*, which is not closed when this one ends.

    Where there is no room, the others wait in the kernel's queue.

    Twisted's own port is not for sockets that others opened: it changes the mode of the file, removes it, and ends the
    listening for all processes.
    """

    def __init__(self, listening: Listening, site: Site, reactor: PosixReactorBase) -> None:
        self.fileno = listening.fileno
        self._listening = listening
        self._site = site
        self._reactor = reactor
        self._pause: IDelayedCall | None = None
        self._is_closed = False

    def start(self) -> None:
        """Accept from now on."""
        self._pause = None
        if not self._is_closed:
            self._reactor.addReader(self)

    def close(self) -> None:
        """Accept no more."""
        self._is_closed = True
        self._reactor.removeReader(self)
        if self._pause is not None:
            self._pause.cancel()

    def doRead(self) -> None:
        """Accept the connections that wait."""
        for _ in range(_AT_ONCE):
            if not self._site.make_room():
                self._wait()
                return
            try:
                accepted = self._listening.accept()
            except BlockingIOError:
                return
            except OSError:  # it has gone away, or there is no descriptor for it
                self._wait()
                return
            with accepted:
                accepted.setblocking(False)
                self._reactor.adoptStreamConnection(accepted.fileno(), accepted.family, self._site)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, or has dropped this."""
        if not (self._is_closed or reason.check(ConnectionDone)):
            self._wait()

    def logPrefix(self) -> str:
        """What Twisted calls this."""
        return "http"

    def _wait(self) -> None:
        """Accept again in a moment."""
        self._reactor.removeReader(self)
        if self._pause is None:
            self._pause = self._reactor.callLater(_PAUSE_SECONDS, self.start)
