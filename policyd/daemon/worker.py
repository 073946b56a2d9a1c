"""A worker's end of the channel to its parent: it takes connections from it, and reports how many have ended."""

import socket
import time
from contextlib import suppress

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.daemon.server import TICK_SECONDS, PolicyFactory

# What the parent sends with a connection: take it; or take it, and close another one for it. And without one: report
# which connection would be closed.
ADOPT, MAKE_ROOM, REPORT = b"+", b"!", b"?"
UNANSWERED = b"!"  # what a worker reports beside its numbers: the tables could not answer
_NOBODY = (4, 0)  # what is reported where none would be closed

HEARTBEAT_SECONDS = 5.0  # between two signs of life of a worker, at most


@implementer(IReadDescriptor)
class DispatchedConnections:
    """Takes the connections that the parent of several workers sends through *channel*, and gives them to *factory*.

    It reports to the parent how many were taken and how many of them have ended: after each, and every *beat_seconds*,
    `HEARTBEAT_SECONDS` at most (and where that is 0), as a sign of life; and when the tables could not answer. When the
    parent asks, it reports which one would be closed for a new one. When the parent closes the channel, the reactor
    stops.
    Source: unix(7), SCM_RIGHTS; `policyd.daemon.prefork`.
    """

    def __init__(
        self, channel: socket.socket, factory: PolicyFactory, reactor: PosixReactorBase, beat_seconds: float
    ) -> None:
        channel.setblocking(False)
        self.fileno = channel.fileno
        self._channel = channel
        self._factory = factory
        self._reactor = reactor
        self._beat_seconds = min(beat_seconds or HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)
        self._taken = self._ended = 0
        self._is_asked = False  # which connection would be closed for a new one
        factory.when_lost = self._end
        factory.when_unanswered = self._report_unanswered
        reactor.callWhenRunning(reactor.callLater, 0, self._beat)  # once the service has logged that it started

    def doRead(self) -> None:
        """Take one connection, or report which one would be closed for it."""
        # Read one message; the end of the channel ends this process.
        try:
            kind, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
        except BlockingIOError:
            return
        except ConnectionResetError:
            kind, descriptors = b"", []
        if not kind:
            self._reactor.removeReader(self)
            self._reactor.stop()
            return

        # Report what was asked for, and take the connection that came with it.
        self._is_asked = self._is_asked or kind != ADOPT
        if kind == REPORT:
            self._report()
            return
        self._taken += 1
        if descriptors:
            self._take(descriptors[0], makes_room=kind == MAKE_ROOM)
        else:  # this process has as many as it may
            self._end()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has ended."""

    def logPrefix(self) -> str:
        """What Twisted calls this."""
        return "channel"

    def _take(self, descriptor: int, *, makes_room: bool) -> None:
        if makes_room and self._factory.connections and not self._factory.make_room():
            self._reactor.callLater(0, self._take, descriptor, makes_room=True)  # all have asked something just now
            return
        self._adopt(descriptor)
        self._report()

    def _adopt(self, descriptor: int) -> None:
        with socket.socket(fileno=descriptor) as connection:
            try:
                self._reactor.adoptStreamConnection(descriptor, connection.family, self._factory)
            except OSError:  # it has gone away meanwhile
                self._end()

    def _beat(self) -> None:
        self._report()
        self._reactor.callLater(self._beat_seconds, self._beat)

    def _end(self) -> None:
        self._ended += 1
        self._report()

    def _report_unanswered(self) -> None:
        with suppress(OSError):  # the parent is busy, or gone: the next one reports it
            self._channel.send(UNANSWERED)

    def _report(self) -> None:
        report = [self._taken, self._ended, *(self._first_to_go() if self._is_asked else ())]
        try:
            self._channel.send(b" ".join(b"%d" % number for number in report))
            self._is_asked = False
        except BlockingIOError:  # the parent is busy
            self._reactor.callLater(0.1, self._report)
        except OSError:
            pass  # the parent is gone; the end of the channel stops this process

    def _first_to_go(self) -> tuple[int, int]:
        """The standing of the connection that would be closed for a new one, with a time that all processes share."""
        connection = self._factory.first_to_go()
        if connection is None:
            return _NOBODY
        place, since = connection.standing()
        return place, int(time.monotonic()) - (self._factory.tick - since) * TICK_SECONDS
