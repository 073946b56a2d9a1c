"""The Twisted side of the protocol: bytes <-> decide(request), in order, one answer each, or a hang-up."""

import time
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]  # it has no annotations

from policyd.audit import AuditLog
from policyd.decide import UNJUDGED
from policyd.errors import ProtocolError, StoreError
from policyd.model import Decision, Request
from policyd.settings import Settings
from policyd.wire import Layouts, RequestReader, render_action

DRAIN_SECONDS = 5  # for requests that are on their way when the daemon stops
SWEEP_SECONDS = 1  # how often all connections are looked at: by so much a limit may be late

_DEFAULTS = Settings()


class Decides(typing.Protocol):
    """What the answers come from: `policyd.decide.Decider`."""

    def decide(self, request: Request, now: int) -> Decision:
        """The answer to *request* at *now*, in Unix seconds. May raise StoreError."""

    def end(self) -> None:
        """Look at the tables anew for the next decision."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a peer may ask nothing; and how long take over one request, or over reading what was answered."""

    idle_seconds: int = _DEFAULTS.idle_seconds
    request_seconds: int = _DEFAULTS.request_seconds


@implementer(IHalfCloseableProtocol)
class PolicyProtocol(Protocol):
    """One connection from Postfix. Nothing but answers is ever written to it.

    Time is the factory's `tick`. Noting it costs next to nothing, where a timer of its own would be a tenth of what
    an answer costs: so each answer notes it, and once a tick the factory has every connection look at what it noted.
    """

    factory: "PolicyFactory"
    transport: Any  # a streaming one: TCP, unix or stdio

    def __init__(self, peer: str, layouts: Layouts, tick: int) -> None:
        self._peer = peer
        self._moved = tick  # when it was last answered, read its answers, or was being closed
        self._begun = tick  # when its request was first seen unfinished; of no meaning unless after `_moved`
        self._reader = RequestReader(layouts)
        self._replies: list[bytes] = []  # made in this turn of the reactor, and not sent yet
        self._trouble: Exception | None = None  # with what came after the requests that they answer
        self._is_paused = False
        self._has_ended = False  # no more requests will come
        self._is_lost = False

    def connectionMade(self) -> None:
        """Postfix connected."""
        self.factory.made(self)
        self.transport.registerProducer(self, True)

    def dataReceived(self, received: bytes) -> None:
        """Something came from Postfix; whole requests are answered at the end of this turn of the reactor."""
        self._reader.feed(received)
        self.factory.wait_for_answers(self)

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

    def readConnectionLost(self) -> None:
        """The peer sends no more; it may still be waiting for its answers."""
        self._has_ended = True
        self.factory.wait_for_answers(self)

    def writeConnectionLost(self) -> None:
        """The peer reads no more."""
        self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whoever closed it."""
        self._is_lost = True
        self.factory.lost(self)

    def pauseProducing(self) -> None:
        """The peer does not read its answers: read no more of its requests."""
        self._is_paused = True
        self._moved = self.factory.tick
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The peer reads again."""
        self._is_paused = False
        self._moved = self.factory.tick
        self.transport.resumeProducing()
        self.factory.wait_for_answers(self)

    def stopProducing(self) -> None:
        """The transport is closing."""

    def finish(self) -> None:
        """Close once the request that is on its way, if any, is answered."""
        if not self._reader.is_mid_request:
            self._close()

    def hang_up(self, problem: str) -> None:
        """Close without an answer, which makes Postfix try again and then take its default_action."""
        self.factory.audit.warned(f"hung up: {problem}", peer=self._peer)
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
                self._replies.append(self.factory.answer(request))
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
            self._moved = self.factory.tick
            self._send(b"".join(self._replies))
            self._replies.clear()
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            self._hang_up_for(trouble)
        elif self._has_ended and not self._is_paused:
            self._close()
        elif self.factory.is_stopping:
            self.finish()

    def _hang_up_for(self, trouble: Exception) -> None:
        if isinstance(trouble, StoreError):
            self.factory.could_not_answer(trouble, self._peer)
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
        self._moved = self.factory.tick
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class PolicyFactory(Factory):
    """The connections, and the one way to an answer; *decider*, *audit* and *patience* may be replaced.

    What has come in one turn of the reactor is answered at its end, on one state of the tables: that is as new as
    any of the requests, and looked up once.
    """

    noisy = False

    def __init__(self, decider: Decides, audit: AuditLog, clock: Any, patience: Patience = Patience()) -> None:
        self.decider = decider
        self.audit = audit
        self.patience = patience
        self.tick = 0  # counts sweeps, so that a clock which is set hangs up on nobody
        self.connections: set[PolicyProtocol] = set()
        self.is_stopping = False
        self.when_empty: Callable[[], None] = lambda: None  # called when the last connection has ended
        self.when_lost: Callable[[], None] = lambda: None  # called when any connection has ended
        self._clock = clock
        self._layouts = Layouts()
        self._next_sweep: Any = None  # there is one while there are connections
        self._waiting: list[PolicyProtocol] = []  # those to which something came in this turn of the reactor
        self._troubles: set[str] = set()  # what kept us from answering, since that began
        self._unanswered = 0

    def buildProtocol(self, addr: IAddress | None) -> PolicyProtocol:  # type: ignore[override]  # Twisted names a type variable
        """A protocol for the connection from *addr*."""
        host, port = getattr(addr, "host", None), getattr(addr, "port", None)
        protocol = PolicyProtocol(f"{host}:{port}" if host else "unix", self._layouts, self.tick)
        protocol.factory = self
        return protocol

    def wait_for_answers(self, connection: PolicyProtocol) -> None:
        """Answer *connection* at the end of this turn of the reactor."""
        if not self._waiting:
            self._clock.callLater(0, self._answer_waiting)
        self._waiting.append(connection)

    def answer(self, request: Request) -> bytes:
        """The reply to *request*, which is on record, or waits for syslog, when this returns. Raises StoreError."""
        started = time.perf_counter()
        decision = self.decider.decide(request, int(time.time()))
        if self._unanswered and request.protocol_state not in UNJUDGED:
            self.audit.noticed("recovered", unanswered=self._unanswered)
            self._troubles, self._unanswered = set(), 0
        spoken = decision.text if decision.action == "REJECT" else ""
        self.audit.decided(request, decision, (time.perf_counter() - started) * 1000)
        return render_action(decision.action, spoken)

    def could_not_answer(self, error: StoreError, peer: str) -> None:
        """A connection is closed without an answer. Of many in a row the first tells why: Postfix asks and asks."""
        self._unanswered += 1
        if str(error) not in self._troubles:
            self._troubles.add(str(error))
            self.audit.warned(f"hung up: {error}", peer=peer)

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.answer_requests()
        self.decider.end()
        for connection in waiting:
            connection.send_replies()

    def made(self, connection: PolicyProtocol) -> None:
        """A connection was made."""
        self.connections.add(connection)
        if self._next_sweep is None:
            self._next_sweep = self._clock.callLater(SWEEP_SECONDS, self._sweep)

    def lost(self, connection: PolicyProtocol) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self.when_lost()
        if not self.connections:
            if self._next_sweep is not None:
                self._next_sweep.cancel()
                self._next_sweep = None
            self.when_empty()

    def drain(self) -> Deferred[None]:
        """Answer what is on its way, close every connection; fires when that is done, after `DRAIN_SECONDS` at most."""
        self.is_stopping = True
        if not self.connections:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self.when_empty = lambda: None if drained.called else drained.callback(None)
        # what was sent before the stop is in our sockets' buffers: one turn to read it, then close
        first = self._clock.callLater(0.05, self._finish_all)
        last = self._clock.callLater(DRAIN_SECONDS, self._abort_all)

        def settle(result: None) -> None:
            for call in (first, last):
                if call.active():
                    call.cancel()

        return drained.addCallback(settle)

    def _sweep(self) -> None:
        """Have each connection see whether its time is over; so a whole tick more is waited for than is allowed."""
        self.tick += 1
        self._next_sweep = None  # the last connection may end in what follows
        idle_ticks = self.patience.idle_seconds // SWEEP_SECONDS
        request_ticks = self.patience.request_seconds // SWEEP_SECONDS
        for connection in [*self.connections]:
            connection.look(self.tick, idle_ticks, request_ticks)
        if self.connections:
            self._next_sweep = self._clock.callLater(SWEEP_SECONDS, self._sweep)

    def _finish_all(self) -> None:
        for connection in list(self.connections):
            connection.finish()

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort()
        self.when_empty()
