"""One connection from Postfix: it turns bytes into requests, and sends the answers in their order, or hangs up."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.daemon import fast_twisted
from policyd.settings import Settings
from policyd.wire import RequestReader

_DEFAULTS = Settings()
_MOMENT_TICKS = 2


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a peer may ask nothing; and how long it may take over one request, or over reading its answers."""

    idle_seconds: int = _DEFAULTS.idle_seconds
    request_seconds: int = _DEFAULTS.request_seconds


class Standing(NamedTuple):
    """What a connection waits for, and since when: the one with the least of all gives way first to a new one.

    Idle connections give way before those with a request that has begun, or with answers that are not read. But a
    connection that was made or answered a moment ago may be about to ask: those unfinished for seconds go before it.
    """

    place: int  # 0 idle, 1 unfinished, 2 idle for a moment, 3 unfinished for a moment
    since: int  # in ticks


class Events(NamedTuple):
    """What is called when something happens to a connection; each with the connection."""

    made: Callable[["PolicyConnection"], None]
    received: Callable[["PolicyConnection"], None]  # requests, or the end of them
    lost: Callable[["PolicyConnection"], None]


@implementer(IHalfCloseableProtocol)
class PolicyConnection(Protocol):
    """One connection from *peer*, whose requests are in *reader*. Nothing but answers is ever written to it.

    Time is counted in ticks of a second, *tick* when it is made, and then as `check_time` says. To note the tick costs
    next to nothing, where a timer of its own would be a tenth of what an answer costs.
    """

    transport: Any  # a streaming one: TCP, unix or stdio

    def __init__(self, peer: str, reader: RequestReader, events: Events, tick: int) -> None:
        self.peer = peer
        self.reader = reader
        self.is_lost = False
        self._events = events
        self._tick = tick
        self._moved = tick  # the tick when it was last answered, last read its answers, or began to close
        self._begun = tick  # the tick when its request was first seen unfinished, if after `_moved`
        self._is_paused = False
        self._has_ended = False  # no more requests will come

    @property
    def can_be_answered(self) -> bool:
        """Whether the peer can take an answer now."""
        return not (self._is_paused or self.is_lost or self.transport.disconnecting)

    def connectionMade(self) -> None:
        """Postfix connected."""
        self._write = fast_twisted.shorten(self.transport, self.dataReceived)
        self._events.made(self)
        self.transport.registerProducer(self, True)

    def dataReceived(self, received: bytes) -> None:
        """Something came from Postfix; whole requests are answered at the end of this turn of the reactor."""
        self.reader.feed(received)
        self._events.received(self)

    def check_time(self, tick: int, timeouts: Timeouts) -> str | None:
        """Why its time is over at *tick*; "" where the peer just asks nothing any more, None where it is not over.

        However often bytes trickle in, a request begins only once.
        """
        self._tick = tick
        if self.transport.disconnecting:
            return "" if tick - self._moved > timeouts.request_seconds else None
        if self._is_paused:
            return "answers not read in time" if tick - self._moved > timeouts.request_seconds else None
        if not self.reader.is_mid_request:
            return "" if tick - self._moved > timeouts.idle_seconds else None
        if self._begun <= self._moved:
            self._begun = tick
        return "no end of a request in time" if tick - self._begun > timeouts.request_seconds else None

    def standing(self) -> Standing:
        """What it waits for."""
        since = self._moved
        if self.reader.is_mid_request and not self._is_paused:
            since = self._begun if self._begun > self._moved else self._tick
        return Standing((not self.is_idle) + 2 * (self._tick - since < _MOMENT_TICKS), since)

    @property
    def is_idle(self) -> bool:
        """Whether no request and no answer is on its way, as far as this process knows."""
        is_sending = self._is_paused or self.transport.disconnecting or fast_twisted.has_unsent(self.transport)
        return not (is_sending or self.reader.is_mid_request)

    def has_unread(self) -> bool:
        """Whether the socket holds something from the peer that was not read yet, or the end of it."""
        connected: socket.socket | None = getattr(self.transport, "socket", None)  # stdio has none
        try:
            return connected is not None and bool(connected.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) or True)
        except BlockingIOError:
            return False
        except OSError:
            return True  # it has ended, as the reactor will find out

    def readConnectionLost(self) -> None:
        """The peer sends no more; it may still be waiting for its answers."""
        self._has_ended = True
        self._events.received(self)

    def writeConnectionLost(self) -> None:
        """The peer reads no more."""
        self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whoever closed it."""
        self.is_lost = True
        fast_twisted.forget(self.transport)
        self._events.lost(self)

    def pauseProducing(self) -> None:
        """The peer does not read its answers: read no more of its requests."""
        self._is_paused = True
        self._moved = self._tick
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer reads again."""
        self._is_paused = False
        self._moved = self._tick
        self.transport.resumeProducing()
        self._events.received(self)

    def stopProducing(self) -> None:
        """The transport is closing."""

    def send(self, replies: bytes) -> None:
        """Send *replies*, and close where no further request will come."""
        if replies:
            self._moved = self._tick
            self._write(replies)
        if self._has_ended and not self._is_paused:
            self.close()

    def finish(self) -> None:
        """Close once the request that is on its way, if any, is answered."""
        if not self.reader.is_mid_request:
            self.close()

    def close(self) -> None:
        """Close once what was sent has left."""
        self._moved = self._tick
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        getattr(self.transport, "abortConnection", self.transport.loseConnection)()  # stdio has no abort
