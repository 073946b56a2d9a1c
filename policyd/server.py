"""All connections: what comes in one turn of Twisted's reactor is decided together, put on record, and answered."""

import time
import typing
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from policyd.audit import AuditLog
from policyd.decide import UNJUDGED
from policyd.errors import StoreError
from policyd.model import Decision, Request
from policyd.protocol import PolicyProtocol, Standing
from policyd.settings import Settings
from policyd.wire import Layouts, render_action

DRAIN_SECONDS = 5  # for requests that are on their way when the daemon stops
SWEEP_SECONDS = 1  # how often all connections are looked at: by so much a limit may be late

# A log socket that is woken for each line costs as much as the answer; the kernel's queue may hold no more than ten.
_RECORDED_TOGETHER = 8
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
        self.connections: dict[PolicyProtocol, None] = {}  # the oldest first
        self.is_stopping = False
        self.when_empty: Callable[[], None] = lambda: None  # called when the last connection has ended
        self.when_lost: Callable[[], None] = lambda: None  # called when any connection has ended
        self._clock = clock
        self.layouts = Layouts()
        self._next_sweep: Any = None  # there is one while there are connections
        self._waiting: dict[PolicyProtocol, None] = {}  # those to which something came in this turn of the reactor
        self._decided: list[tuple[Request, Decision, float]] = []  # in this turn, and not on record yet
        self._troubles: set[str] = set()  # what kept us from answering, since that began
        self._unanswered = 0
        self._ranked: list[tuple[Standing, PolicyProtocol]] = []  # those that may give way, the first of them last
        self._ranked_at = -1  # the tick of that

    def buildProtocol(self, addr: IAddress | None) -> PolicyProtocol:
        """A protocol for the connection from *addr*."""
        host, port = getattr(addr, "host", None), getattr(addr, "port", None)
        return PolicyProtocol(self, f"{host}:{port}" if host else "unix")

    def wait_for_answers(self, connection: PolicyProtocol) -> None:
        """Answer *connection* at the end of this turn of the reactor."""
        if not self._waiting:
            self._clock.callLater(0, self._answer_waiting)
        self._waiting[connection] = None

    def answer(self, request: Request) -> bytes:
        """The reply to *request*, which is put on record before it goes out. Raises StoreError."""
        started = time.perf_counter()
        decision = self.decider.decide(request, int(time.time()))
        if self._unanswered and request.protocol_state not in UNJUDGED:
            self.audit.noticed("recovered", unanswered=self._unanswered)
            self._troubles, self._unanswered = set(), 0
        self._decided.append((request, decision, (time.perf_counter() - started) * 1000))
        if len(self._decided) >= _RECORDED_TOGETHER:
            self._record_decided()
        return render_action(decision.action, decision.text if decision.action == "REJECT" else "")

    def could_not_answer(self, error: StoreError, peer: str) -> None:
        """A connection is closed without an answer. Of many in a row the first tells why: Postfix asks and asks."""
        self._unanswered += 1
        if str(error) not in self._troubles:
            self._troubles.add(str(error))
            self.audit.warned(f"hung up: {error}", peer=peer)

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for connection in waiting:
            connection.answer_requests()
        self.decider.end()
        self._record_decided()
        for connection in waiting:
            connection.send_replies()

    def _record_decided(self) -> None:
        """Put on record what is about to be answered."""
        decided, self._decided = self._decided, []
        for request, decision, milliseconds in decided:
            try:
                self.audit.decided(request, decision, milliseconds)
            except Exception:  # noqa: BLE001 - a defect of ours costs a line, and no answer
                Logger().failure("no line")

    def made(self, connection: PolicyProtocol) -> None:
        """A connection was made."""
        self.connections[connection] = None
        if self._next_sweep is None:
            self._next_sweep = self._clock.callLater(SWEEP_SECONDS, self._sweep)

    def lost(self, connection: PolicyProtocol) -> None:
        """A connection has ended."""
        self.connections.pop(connection, None)
        self.when_lost()
        if not self.connections:
            if self._next_sweep is not None:
                self._next_sweep.cancel()
                self._next_sweep = None
            self.when_empty()

    def first_to_go(self) -> PolicyProtocol | None:
        """The connection that gives way to a new one, or None where each has asked something, and waits in this turn.

        All are looked at once a tick at most, so that a flood of new ones costs little.
        """
        is_new = self._ranked_at != self.tick
        if is_new:
            self._rank()
        while self._ranked:
            standing, connection = self._ranked[-1]
            if connection in self.connections and connection.standing() == standing and self._may_go(connection):
                return connection
            self._ranked.pop()
        if is_new:
            return None
        self._ranked_at = -1  # there may be some that have come since, or were answered
        return self.first_to_go()

    def make_room(self) -> bool:
        """Close the connection that is the first to go; false where there is none in this turn of the reactor."""
        connection = self.first_to_go()
        if connection is None:
            return False
        del self.connections[connection]  # the reactor tells a turn later that it has ended
        connection.abort()
        return True

    def _rank(self) -> None:
        ranked = [(each.standing(), each) for each in self.connections]
        ranked.sort(key=itemgetter(0))
        ranked.reverse()
        self._ranked, self._ranked_at = ranked, self.tick

    def _may_go(self, connection: PolicyProtocol) -> bool:
        """Whether *connection* has asked nothing that it will be answered in this turn of the reactor, or the next."""
        if connection.is_idle():
            return not connection.has_unread()
        return connection not in self._waiting

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
