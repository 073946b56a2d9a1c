"""One connection: what Postfix sends goes in, answers in their order come out, or a hang-up."""

import socket
import typing
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]  # it has no annotations

from policyd.audit import AuditLog
from policyd.errors import ProtocolError, StoreError
from policyd.model import Request
from policyd.wire import Layouts, RequestReader

_MOMENT_TICKS = 2


class Standing(typing.NamedTuple):
    """What a connection waits for, and since when: the least of all is the first that gives way to a new one.

    Those that are idle give way before those with a request that has begun, or with answers that are not read. But one
    that was made, or answered, a moment ago may be about to ask: before it goes what has been unfinished for seconds.
    """

    place: int  # 0 idle, 1 unfinished, 2 idle for a moment, 3 unfinished for a moment
    since: int  # a tick of the server


class Server(typing.Protocol):
    """What a connection needs of all of them together: `policyd.server.PolicyFactory`."""

    audit: AuditLog
    layouts: Layouts
    tick: int  # counts seconds, about
    is_stopping: bool

    def made(self, connection: "PolicyProtocol") -> None:
        """A connection was made."""

    def lost(self, connection: "PolicyProtocol") -> None:
        """A connection has ended."""

    def wait_for_answers(self, connection: "PolicyProtocol") -> None:
        """Have *connection* make its replies, and then send them, at the end of this turn of the reactor."""

    def answer(self, request: Request) -> bytes:
        """The reply to *request*. Raises StoreError."""

    def could_not_answer(self, error: StoreError, peer: str) -> None:
        """A connection is closed without an answer."""


@implementer(IHalfCloseableProtocol)
class PolicyProtocol(Protocol):
    """One connection from Postfix. Nothing but answers is ever written to it.

    Time is the server's `tick`. Noting it costs next to nothing, where a timer of its own would be a tenth of what
    an answer costs: so each answer notes it, and once a tick the server has every connection look at what it noted.
    """

    transport: Any  # a streaming one: TCP, unix or stdio

    def __init__(self, server: Server, peer: str) -> None:
        self._server = server
        self._peer = peer
        self._moved = server.tick  # when it was last answered, read its answers, or was being closed
        self._begun = server.tick  # when its request was first seen unfinished; of no meaning unless after `_moved`
        self._reader = RequestReader(server.layouts)
        self._replies: list[bytes] = []  # made in this turn of the reactor, and not sent yet
        self._trouble: Exception | None = None  # with what came after the requests that they answer
        self._is_paused = False
        self._has_ended = False  # no more requests will come
        self._is_lost = False

    def connectionMade(self) -> None:
        """Postfix connected."""
        self._server.made(self)
        self.transport.registerProducer(self, True)

    def dataReceived(self, received: bytes) -> None:
        """Something came from Postfix; whole requests are answered at the end of this turn of the reactor."""
        self._reader.feed(received)
        self._server.wait_for_answers(self)

    def look(self, tick: int, idle_ticks: int, request_ticks: int) -> None:
        """End it if nothing was asked for more than *idle_ticks*, or one thing takes more than *request_ticks*.

        However often octets trickle in, a request has begun once; and what nobody reads, nobody need send.
        """
        if self.transport.disconnecting:
            if tick - self._moved > request_ticks:
                self.abort()
        elif self._is_paused:
            if tick - self._moved > request_ticks:
                self.hang_up("answers not read in time")
                self.abort()
        elif self._reader.is_mid_request:
            if self._begun <= self._moved:
                self._begun = tick
            elif tick - self._begun > request_ticks:
                self.hang_up("no end of a request in time")
                self.abort()
        elif tick - self._moved > idle_ticks:
            self.abort()

    def standing(self) -> Standing:
        """What it waits for."""
        since = self._moved
        if self._reader.is_mid_request and not self._is_paused:
            since = self._begun if self._begun > self._moved else self._server.tick
        return Standing((not self.is_idle()) + 2 * (self._server.tick - since < _MOMENT_TICKS), since)

    def is_idle(self) -> bool:
        """Whether neither a request nor an answer is on its way, as far as is known."""
        is_sending = self._is_paused or self.transport.disconnecting or self._has_unsent()
        return not (is_sending or self._reader.is_mid_request)

    def has_unread(self) -> bool:
        """Whether something has come from the peer that was not read yet, or the end of what it sends."""
        connected: socket.socket | None = getattr(self.transport, "socket", None)  # the tests' have none
        try:
            return connected is not None and bool(connected.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) or True)
        except BlockingIOError:
            return False
        except OSError:
            return True  # it has ended, as the reactor will find out

    def _has_unsent(self) -> bool:
        return bool(getattr(self.transport, "dataBuffer", b"") or getattr(self.transport, "_tempDataBuffer", ()))

    def readConnectionLost(self) -> None:
        """The peer sends no more; it may still be waiting for its answers."""
        self._has_ended = True
        self._server.wait_for_answers(self)

    def writeConnectionLost(self) -> None:
        """The peer reads no more."""
        self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whoever closed it."""
        self._is_lost = True
        self._server.lost(self)

    def pauseProducing(self) -> None:
        """The peer does not read its answers: read no more of its requests."""
        self._is_paused = True
        self._moved = self._server.tick
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer reads again."""
        self._is_paused = False
        self._moved = self._server.tick
        self.transport.resumeProducing()
        self._server.wait_for_answers(self)

    def stopProducing(self) -> None:
        """The transport is closing."""

    def finish(self) -> None:
        """Close once the request that is on its way, if any, is answered."""
        if not self._reader.is_mid_request:
            self._close()

    def hang_up(self, problem: str) -> None:
        """Close without an answer, which makes Postfix try again and then take its default_action."""
        self._server.audit.warned(f"hung up: {problem}", peer=self._peer)
        self._close()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        getattr(self.transport, "abortConnection", self.transport.loseConnection)()  # stdio has no abort

    def answer_requests(self) -> None:
        """Make the replies to every request that is whole now."""
        if self._is_paused or self._is_lost or self.transport.disconnecting:
            return
        try:
            while (request := self._reader.next_request()) is not None:
                self._replies.append(self._server.answer(request))
        except (ProtocolError, StoreError) as error:
            self._trouble = error
        except Exception as error:  # noqa: BLE001 - a defect of ours: this connection ends, the others go on
            Logger().failure("no answer")
            self._trouble = error

    def send_replies(self) -> None:
        """Send what `answer_requests` has made, and close where there is nothing to wait for."""
        if self._is_lost:
            return
        if self._replies:
            self._moved = self._server.tick
            self._send(b"".join(self._replies))
            self._replies.clear()
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            self._hang_up_for(trouble)
        elif self._has_ended and not self._is_paused:
            self._close()
        elif self._server.is_stopping:
            self.finish()

    def _hang_up_for(self, trouble: Exception) -> None:
        if isinstance(trouble, StoreError):
            self._server.could_not_answer(trouble, self._peer)
            self._close()
        else:
            is_known = isinstance(trouble, ProtocolError)
            self.hang_up(str(trouble) if is_known else f"internal error: {trouble!r}; please report it")

    def _send(self, replies: bytes) -> None:
        """Write *replies* now, in this turn of the reactor; what the socket doesn't take waits for it as usual.

        Twisted's own write registers with epoll, and again to stop: a tenth of what a request costs.
        """
        send_now = getattr(self.transport, "writeSomeData", None)  # sockets have it, stdio hasn't
        if send_now is not None and not (self.transport.dataBuffer or self.transport._tempDataBuffer):
            sent = send_now(replies)
            if sent == len(replies):
                return
            if isinstance(sent, int):  # else the connection is lost, which a write finds out for itself
                replies = replies[sent:]
        self.transport.write(replies)

    def _close(self) -> None:
        self._moved = self._server.tick
        self.transport.unregisterProducer()
        self.transport.loseConnection()
