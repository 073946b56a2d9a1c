"""Serves all connections: requests that come in one turn of the reactor are decided together, logged, and answered."""

from collections.abc import Callable
from operator import itemgetter
from time import perf_counter, time
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from policyd.audit import AuditLog
from policyd.counters import NO_COUNTERS, Cell, Counters
from policyd.daemon import fast_twisted
from policyd.daemon.connection import Events, PolicyConnection, Standing, Timeouts
from policyd.decide import UNJUDGED
from policyd.errors import ProtocolError, StoreError
from policyd.model import Decision, Request
from policyd.wire import Layouts, RequestReader, render_action

TICK_SECONDS = 1  # between two looks at all connections; a timeout may be late by that

# Waking the log's reader for each line costs as much as the answer; the kernel's queue may hold no more than ten.
_LOGGED_TOGETHER = 8
_TIMEOUTS = Timeouts()


class Decides(Protocol):
    """What the answers come from: `policyd.decide.Decider`."""

    def decide(self, request: Request, now: int) -> Decision:
        """The answer to *request* at *now*, in Unix seconds. May raise StoreError."""

    def end(self) -> None:
        """Have the next decision read the newest state of the tables."""


class PolicyFactory(Factory):
    """The connections, and the one way to an answer; *decider*, *audit* and *timeouts* may be replaced.

    All requests of one turn of the reactor are answered at its end, on one state of the tables, which is as new as any
    of them and is looked up once.
    """

    noisy = False

    def __init__(
        self,
        decider: Decides,
        audit: AuditLog,
        clock: IReactorTime,
        timeouts: Timeouts = _TIMEOUTS,
        counters: Counters = NO_COUNTERS,
    ) -> None:
        self.decider = decider
        self.audit = audit
        self.timeouts = timeouts
        self.tick = 0  # counted, so that a clock which is set hangs up on nobody
        self.connections: dict[PolicyConnection, None] = {}  # the oldest first
        self.when_empty: Callable[[], None] = lambda: None  # called when the last connection has ended
        self.when_lost: Callable[[], None] = lambda: None  # called when any connection has ended
        self.when_unanswered: Callable[[], None] = lambda: None  # called when the tables could not answer
        self._clock = clock
        self._counters = counters
        self._is_counting = counters is not NO_COUNTERS
        self._layouts = Layouts()
        self._events = Events(self._made, self._received, self._lost)
        self._is_stopping = False
        self._next_tick: IDelayedCall | None = None  # there is one while there are connections
        self._waiting: dict[PolicyConnection, None] = {}  # those to which something came in this turn of the reactor
        self._decided: list[tuple[Request, Decision, float]] = []  # in this turn, and not logged yet
        self._troubles: set[str] = set()  # each trouble that was logged since answers failed
        self._unanswered = 0
        self._ranked: list[tuple[Standing, PolicyConnection]] = []  # those that may give way, the first of them last
        self._ranked_at = -1  # the tick of that

    def buildProtocol(self, addr: IAddress | None) -> PolicyConnection:
        """A protocol for the connection from *addr*."""
        host, port = getattr(addr, "host", None), getattr(addr, "port", None)
        peer = f"{host}:{port}" if host else "unix"
        return PolicyConnection(peer, RequestReader(self._layouts), self._events, self.tick)

    def first_to_go(self) -> PolicyConnection | None:
        """The connection that gives way to a new one; None where each waits for an answer in this turn of the reactor.

        All are ranked once a tick at most, so that a flood of new ones costs little.
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
        self._ranked_at = -1  # rank again: some may have come since, or been answered
        return self.first_to_go()

    def make_room(self) -> bool:
        """Close the connection that is the first to go; false where there is none in this turn of the reactor."""
        connection = self.first_to_go()
        if connection is None:
            return False
        self._counters.add(Cell.HUNG_UP_LIMIT)
        del self.connections[connection]  # the reactor calls `connectionLost` a turn later
        connection.abort()
        return True

    def drain(self, seconds: float) -> Deferred[None]:
        """Answer what is on its way, close every connection; fires when that is done, after *seconds* at most."""
        self._is_stopping = True
        if not self.connections:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self.when_empty = lambda: None if drained.called else drained.callback(None)
        # Requests that were sent before the stop may still be in our sockets' buffers: read them first, then close all.
        first = self._clock.callLater(0.05, self._finish_all)
        last = self._clock.callLater(seconds, self._abort_all)

        def cancel_timers(result: None) -> None:
            for call in (first, last):
                if call.active():
                    call.cancel()

        return drained.addCallback(cancel_timers)

    # A turn of the reactor

    def _received(self, connection: PolicyConnection) -> None:
        """Answer *connection* at the end of this turn of the reactor."""
        if not self._waiting:
            fast_twisted.call_at_end(self._clock, self._answer_waiting)
        self._waiting[connection] = None

    def _answer_waiting(self) -> None:
        # Decide all requests on one state of the tables, the newest.
        waiting, self._waiting = self._waiting, {}
        now = int(time())
        answers = [(connection, *self._answers_to(connection, now)) for connection in waiting]
        self.decider.end()
        # Log what was decided before it is sent: whoever has an answer finds it in the log.
        self._log_decided()
        for connection, replies, trouble in answers:
            if connection.is_lost:
                continue
            connection.send(replies)
            if trouble is not None:
                self._hang_up(connection, trouble)
            elif self._is_stopping:
                connection.finish()

    def _answers_to(self, connection: PolicyConnection, now: int) -> tuple[bytes, Exception | None]:
        """The replies to the whole requests of *connection*, and what is wrong with the one after them, or None.

        They are decided at *now*, in Unix seconds.
        """
        if not connection.can_be_answered:
            return b"", None
        replies: list[bytes] = []
        next_request, decide = connection.reader.next_request, self.decider.decide
        try:
            while (request := next_request()) is not None:
                started = perf_counter()
                decision = decide(request, now)
                if self._unanswered and request.protocol_state not in UNJUDGED:
                    self._note_recovery()
                if decision.is_refused or self._is_counting or self.audit.logs_permitted:
                    self._decided.append((request, decision, perf_counter() - started))
                    if len(self._decided) >= _LOGGED_TOGETHER:
                        self._log_decided()
                replies.append(render_action(decision.action, decision.text))
        except (ProtocolError, StoreError) as error:
            return b"".join(replies), error
        except Exception as error:  # noqa: BLE001 - a defect of ours: this connection ends, the others go on
            Logger().failure("no answer")
            return b"".join(replies), error
        return b"".join(replies), None

    def _note_recovery(self) -> None:
        self.audit.noticed("recovered", unanswered=self._unanswered)
        self._troubles, self._unanswered = set(), 0

    def _log_decided(self) -> None:
        """Log and count what is about to be answered."""
        decided, self._decided = self._decided, []
        for request, decision, seconds in decided:
            try:
                self.audit.decided(request, decision, seconds * 1000)
                self._counters.decided(request, decision, seconds)
            except Exception:  # noqa: BLE001 - a defect of ours costs a line, and no answer
                Logger().failure("no line")

    def _hang_up(self, connection: PolicyConnection, trouble: Exception) -> None:
        """Close *connection* without an answer, which makes Postfix try again and then take its default_action.

        Of many requests that the tables could not answer, only the first is logged: Postfix asks again and again.
        """
        self._counters.add(_hung_up_for(trouble))
        if not isinstance(trouble, ProtocolError):
            self.when_unanswered()
        if not isinstance(trouble, StoreError):
            is_known = isinstance(trouble, ProtocolError)
            problem = str(trouble) if is_known else f"internal error: {trouble!r}; please report it"
            self._log_hang_up(connection, problem)
        else:
            self._unanswered += 1
            if str(trouble) not in self._troubles:
                self._troubles.add(str(trouble))
                self._log_hang_up(connection, str(trouble))
        connection.close()

    def _log_hang_up(self, connection: PolicyConnection, problem: str) -> None:
        self.audit.warned(f"hung up: {problem}", peer=connection.peer)

    # Connections come, grow old, and go

    def _made(self, connection: PolicyConnection) -> None:
        self.connections[connection] = None
        if self._next_tick is None:
            self._next_tick = self._clock.callLater(TICK_SECONDS, self._pass_tick)

    def _lost(self, connection: PolicyConnection) -> None:
        self.connections.pop(connection, None)
        self.when_lost()
        if not self.connections:
            if self._next_tick is not None:
                self._next_tick.cancel()
                self._next_tick = None
            self.when_empty()

    def _pass_tick(self) -> None:
        """End the connections whose time is over. Each gets one tick more than allowed, so that none gets less."""
        self.tick += 1
        self._next_tick = None  # the last connection may end in what follows
        for connection in [*self.connections]:
            problem = connection.check_time(self.tick, self.timeouts)
            if problem:
                self._counters.add(Cell.HUNG_UP_TIMEOUT)
                self._log_hang_up(connection, problem)
                connection.close()
            if problem is not None:
                connection.abort()
        if self.connections:
            self._next_tick = self._clock.callLater(TICK_SECONDS, self._pass_tick)

    def _rank(self) -> None:
        ranked = [(each.standing(), each) for each in self.connections]
        ranked.sort(key=itemgetter(0))
        ranked.reverse()
        self._ranked, self._ranked_at = ranked, self.tick

    def _may_go(self, connection: PolicyConnection) -> bool:
        """Whether no answer to *connection* is due in this turn of the reactor, or in the next one."""
        return not connection.has_unread() if connection.is_idle else connection not in self._waiting

    def _finish_all(self) -> None:
        for connection in list(self.connections):
            connection.finish()

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort()
        self.when_empty()


def _hung_up_for(trouble: Exception) -> Cell:
    """Under what a connection that ended for *trouble* is counted."""
    if isinstance(trouble, ProtocolError):
        return Cell.HUNG_UP_MALFORMED
    return Cell.HUNG_UP_DATABASE if isinstance(trouble, StoreError) else Cell.HUNG_UP_DEFECT
