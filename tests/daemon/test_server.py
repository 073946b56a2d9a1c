"""The protocol between bytes and decisions, with a clock that is turned by hand and a connection in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from policyd.audit import AuditLog
from policyd.counters import NoCounters
from policyd.daemon.connection import Timeouts
from policyd.daemon.server import PolicyFactory
from policyd.daemon.service import DRAIN_SECONDS
from policyd.errors import StoreError
from policyd.model import Action, Decision, Request, Rule
from policyd.settings import AuditSettings, Decisions
from tests.support.fake_smtpd import request
from tests.support.kept_lines import KeptLines
from tests.support.strict_transport import Connection

IDLE_SECONDS, REQUEST_SECONDS = Timeouts().idle_seconds, Timeouts().request_seconds
POSTFIX_IDLE_SECONDS = 300  # postconf(5), smtpd_policy_service_max_idle
PEER = IPv4Address("TCP", "192.0.2.1", 4711)


class Server:
    """A factory that refuses each recipient by its own address, and what became of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.log = KeptLines()
        self.decided: list[str] = []
        self.turns = 0
        self.trouble: dict[str, Exception] = {}  # by recipient
        audit = AuditLog(AuditSettings(decisions=Decisions.NONE), self.log)
        self.factory = PolicyFactory(self, audit, self.clock)

    def decide(self, asked: Request, _now: int) -> Decision:
        self.decided.append(asked.recipient)
        if asked.recipient in self.trouble:
            raise self.trouble[asked.recipient]
        return Decision(Action.REJECT, Rule.UNLISTED_RECIPIENT, f"5.1.1 {asked.recipient}", is_refused=True)

    def end(self) -> None:
        self.turns += 1

    def wait(self, seconds: float) -> None:
        """Let that time pass, bit by bit, as it does."""
        self.clock.pump([0.5] * round(seconds * 2))

    def connect(self) -> Connection:
        return Connection(self.factory, self.clock, PEER)


class Permissive:
    """Decides for everybody."""

    def decide(self, _asked: Request, _now: int) -> Decision:
        return Decision(Action.DUNNO, Rule.DEFAULT)

    def end(self) -> None:
        pass


@pytest.fixture
def server():
    """A server; no timer may be left when its connections have ended."""
    server = Server()
    yield server
    for protocol in list(server.factory.connections):
        protocol.connectionLost()
    assert server.clock.getDelayedCalls() == []


def test_requests_of_one_segment_are_answered_in_their_order(server):
    """An answer to the wrong request refuses good mail."""
    asked = b"".join(request(recipient=name) for name in "abc")
    assert server.connect().receive(asked) == ["REJECT 5.1.1 a", "REJECT 5.1.1 b", "REJECT 5.1.1 c"]


def test_what_comes_in_one_turn_of_the_reactor_is_decided_on_one_state_of_the_tables(server):
    """The tables are looked up once for all of it; what comes later must see what a command has done meanwhile."""
    first, second = server.connect(), server.connect()
    first.protocol.dataReceived(request(recipient="a") + request(recipient="b"))
    second.protocol.dataReceived(request(recipient="c"))
    assert (server.decided, server.turns) == ([], 0)
    assert first.replies() + second.replies() == ["REJECT 5.1.1 a", "REJECT 5.1.1 b", "REJECT 5.1.1 c"]
    assert server.turns == 1
    assert first.receive(request(recipient="d")) == ["REJECT 5.1.1 d"]
    assert server.turns == 2


def test_peer_that_goes_before_its_turn_ends_gets_no_answer_and_harms_nobody(server):
    """A connection may be reset while its question waits."""
    gone, other = server.connect(), server.connect()
    gone.protocol.dataReceived(request(recipient="a") + b"junk\n\n")
    other.protocol.dataReceived(request(recipient="b"))
    gone.end()
    assert other.replies() == ["REJECT 5.1.1 b"]
    assert (server.decided, server.log.lines) == (["b"], [])


def test_each_answer_comes_with_the_end_of_its_request_and_not_before(server):
    """An early reply puts Postfix out of step for the rest of the connection."""
    connection, asked = server.connect(), request(recipient="a")
    for byte in asked[:-1]:
        assert connection.receive(bytes([byte])) == []
    assert connection.receive(asked[-1:]) == ["REJECT 5.1.1 a"]


def test_idle_connection_outlives_postfix_and_then_ends_without_a_word(server):
    """Postfix must be the one that closes: a connection found closed costs it a second and a warning."""
    connection = server.connect()
    connection.receive(request(recipient="a"))
    server.wait(POSTFIX_IDLE_SECONDS + 1)
    assert not connection.is_closed
    assert connection.receive(request(recipient="b")) == ["REJECT 5.1.1 b"]
    server.wait(IDLE_SECONDS)
    assert not connection.is_closed
    server.wait(1)
    assert connection.is_closed
    assert connection.replies() == []
    assert server.log.lines == []


def test_request_without_an_end_is_hung_up_on_with_a_warning(server):
    """Connections of peers that went away without a word must not pile up."""
    connection = server.connect()
    connection.receive(b"request=smtpd_access_policy\n")
    server.wait(REQUEST_SECONDS)
    assert not connection.is_closed
    server.wait(2)
    assert connection.transport.aborted
    assert connection.replies() == []
    assert server.log.lines == ['warning="hung up: no end of a request in time", peer=192.0.2.1:4711']


def test_slow_sender_is_hung_up_on_however_often_it_sends(server):
    """A byte now and then keeps a connection from being idle, and a thousand such would be all there may be."""
    connection, asked = server.connect(), request(recipient="a")
    for byte in asked[: REQUEST_SECONDS + 2]:
        assert not connection.is_closed
        connection.receive(bytes([byte]))
        server.wait(1)
    assert connection.transport.aborted
    assert server.log.lines == ['warning="hung up: no end of a request in time", peer=192.0.2.1:4711']


def test_each_request_has_the_whole_time_of_its_own(server):
    """A client far away that sends one slow request after the other is slow, and no attacker."""
    connection, asked = server.connect(), request(recipient="a")
    for _ in range(5):
        connection.receive(asked[:-9])
        server.wait(REQUEST_SECONDS - 1)
        assert connection.receive(asked[-9:] + asked[:9]) == ["REJECT 5.1.1 a"]
        server.wait(REQUEST_SECONDS - 1)
        assert connection.receive(asked[9:]) == ["REJECT 5.1.1 a"]
        server.wait(REQUEST_SECONDS * 2)
    assert not connection.is_closed


def test_request_after_a_long_silence_has_the_whole_time(server):
    """Postfix may ask again a moment before the connection would have been closed as idle."""
    connection, asked = server.connect(), request(recipient="a")
    server.wait(IDLE_SECONDS - 1)
    connection.receive(asked[:9])
    server.wait(REQUEST_SECONDS - 1)
    assert connection.receive(asked[9:]) == ["REJECT 5.1.1 a"]


def test_clock_that_is_set_hangs_up_on_nobody(server):
    """At boot, or in a virtual machine that slept, the time of day may jump by hours."""
    connections = [server.connect() for _ in range(3)]
    connections[0].receive(b"request=")
    server.clock.advance(100 * IDLE_SECONDS)
    assert not any(each.is_closed for each in connections)


def test_new_limits_hold_for_standing_connections(server):
    """SIGHUP must not make Postfix connect again, nor wait until it does."""
    connection = server.connect()
    server.factory.timeouts = Timeouts(5, 2)
    server.wait(5)
    assert not connection.is_closed
    server.wait(1)
    assert connection.transport.aborted


def test_connection_idle_for_longest_gives_way_first(server):
    """Postfix finds its idle connection closed, and makes another; who asks keeps what he has."""
    connections = [server.connect() for _ in range(4)]
    server.wait(2)
    connections[0].receive(request(recipient="a"))
    server.wait(2)
    connections[2].receive(request(recipient="a"))
    gone = []
    for _ in connections:
        assert server.factory.make_room()
        gone += [each for each in connections if each.transport.aborted and each not in gone]
    assert gone == [connections[index] for index in (1, 3, 0, 2)]
    assert not server.factory.make_room()
    for each in gone:
        each.end()
    assert server.log.lines == []


def test_question_on_its_way_is_no_reason_to_be_closed_while_others_are_idle(server):
    """However long it takes: a request that has begun is nearer to its answer than one that has not."""
    asking, idle = server.connect(), server.connect()
    asking.receive(request()[:20])
    assert server.factory.first_to_go() is idle.protocol
    server.wait(5)
    assert server.factory.first_to_go() is idle.protocol
    idle.receive(request(recipient="a"))
    assert server.factory.first_to_go() is asking.protocol, "the other may ask again at once"
    asking.receive(request()[20:] + request()[:20])
    assert server.factory.first_to_go() is idle.protocol


def test_request_unfinished_for_longest_gives_way_where_none_is_idle(server):
    """A thousand peers that each keep a request open for half a minute are no better than a thousand idle ones."""
    deaf, slow, quick = [server.connect() for _ in range(3)]
    slow.receive(request()[:20])
    server.wait(3)
    deaf.transport.producer.pauseProducing()
    server.wait(3)
    for _ in range(10):
        slow.receive(b"x")
    quick.receive(request(recipient="a") + request()[:20])
    for expected in (slow, deaf, quick):
        assert server.factory.make_room()
        assert expected.transport.aborted
        expected.end()


def test_request_that_waits_for_its_answer_never_gives_way(server):
    """It would be a lost answer: rather the new connection waits, as long as that takes."""
    waiting = [server.connect() for _ in range(3)]
    for each in waiting:
        each.protocol.dataReceived(request(recipient="a"))
    assert not server.factory.make_room()
    assert [each.replies() for each in waiting] == [["REJECT 5.1.1 a"]] * 3
    assert server.factory.make_room()


def test_ten_thousand_newcomers_look_at_all_connections_once_a_tick(server, monkeypatch):
    """A flood at a full house must not cost more than the flood: the others are ranked once, not for each."""
    ranked = []
    original = PolicyFactory._rank

    def rank(factory: PolicyFactory) -> None:
        ranked.append(len(factory.connections))
        original(factory)

    monkeypatch.setattr(PolicyFactory, "_rank", rank)
    connections = [server.connect() for _ in range(500)]
    for _ in range(2000):
        assert server.factory.make_room()
        connections.append(server.connect())
    assert len(ranked) <= 2000 // 500 + 1
    for each in connections[:2000]:
        each.end()


def test_one_timer_serves_all_connections(server):
    """A timer each would cost more, at each request, than to decide."""
    connections = [server.connect() for _ in range(100)]
    assert len(server.clock.getDelayedCalls()) == 1
    server.wait(10)
    assert len(server.clock.getDelayedCalls()) == 1
    for each in connections:
        each.end()
    assert server.clock.getDelayedCalls() == []


def test_ended_connection_leaves_no_timer(server):
    """A timer that fires on a connection that is gone is a memory leak at best."""
    connection = server.connect()
    connection.receive(request())
    connection.end()
    assert server.clock.getDelayedCalls() == []
    assert not server.factory.connections


def test_peer_that_does_not_read_is_not_read_from(server):
    """Otherwise a client that only sends fills the daemon's memory with answers."""
    connection = server.connect()
    connection.transport.producer.pauseProducing()
    assert connection.transport.producerState == "paused"
    assert connection.receive(request(recipient="a") + request(recipient="b")) == []
    assert server.decided == []
    connection.transport.producer.resumeProducing()
    assert connection.transport.producerState == "producing"
    assert connection.replies() == ["REJECT 5.1.1 a", "REJECT 5.1.1 b"]


def test_peer_that_never_reads_is_dropped_with_its_answers(server):
    """A close that waits for the last byte to be read would wait for ever."""
    connection = server.connect()
    connection.transport.producer.pauseProducing()
    connection.receive(request())
    server.wait(REQUEST_SECONDS)
    assert not connection.is_closed
    server.wait(1)
    assert connection.transport.aborted
    assert server.log.lines == ['warning="hung up: answers not read in time", peer=192.0.2.1:4711']


def test_peer_that_reads_now_and_then_is_kept(server):
    """It is slow; every time it reads it has the whole time again."""
    connection = server.connect()
    for _ in range(5):
        connection.transport.producer.pauseProducing()
        server.wait(REQUEST_SECONDS - 1)
        connection.transport.producer.resumeProducing()
        server.wait(0.5)
    assert not connection.is_closed


def test_peer_that_stops_sending_still_gets_its_answers(server):
    """`printf … | nc` must show an answer, also where the transport was full when the input ended."""
    connection = server.connect()
    connection.transport.producer.pauseProducing()
    connection.receive(request(recipient="a"))
    connection.end_sending()
    assert not connection.is_closed
    connection.transport.producer.resumeProducing()
    assert connection.replies() == ["REJECT 5.1.1 a"]
    assert connection.is_closed


def test_unreadable_database_hangs_up_on_the_one_who_asks_and_on_nobody_else(server):
    """No answer is made up: Postfix tries again, and takes the default_action that the administrator chose."""
    asking, other = server.connect(), server.connect()
    server.trouble["b"] = StoreError("/var/lib/policyd/policyd.db: damaged")
    asked = b"".join(request(recipient=name) for name in "abc")
    assert asking.receive(asked) == ["REJECT 5.1.1 a"]
    assert asking.is_closed
    assert server.decided == ["a", "b"]
    assert server.log.lines == ['warning="hung up: /var/lib/policyd/policyd.db: damaged", peer=192.0.2.1:4711']
    assert other.receive(request(recipient="c")) == ["REJECT 5.1.1 c"]
    assert not other.is_closed


@contextmanager
def failures() -> Iterator[list[str]]:
    """The types of those that Twisted logs meanwhile, with their tracebacks."""
    told: list[str] = []

    def observe(event: LogEvent) -> None:
        told.append(event["log_failure"].type.__name__)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # any callable is one
    try:
        yield told
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]  # the same


class DefectiveCounters(NoCounters):
    """Counts nothing, and breaks."""

    def decided(self, request: Request, decision: Decision, seconds: float) -> None:
        raise ZeroDivisionError


def test_defect_in_counting_costs_no_answer():
    """Metrics are for the operator; the answer is for a letter."""
    clock, log = Clock(), KeptLines()
    factory = PolicyFactory(Permissive(), AuditLog(AuditSettings(), log), clock, counters=DefectiveCounters())
    with failures() as told:
        asking = Connection(factory, clock, PEER)
        assert asking.receive(request(recipient="a") + request(recipient="b")) == ["DUNNO", "DUNNO"]
        asking.end()
    assert (told, len(log.lines)) == (["ZeroDivisionError"] * 2, 2)


def test_defect_of_ours_ends_one_connection_and_asks_to_be_reported(server):
    """Answering DUNNO after an exception is how other policy servers opened the door."""
    asking, other = server.connect(), server.connect()
    server.trouble["a"] = ZeroDivisionError("oh")
    with failures() as told:
        assert asking.receive(request(recipient="a")) == []
    assert asking.is_closed
    assert told == ["ZeroDivisionError"]  # with its traceback, in Twisted's log
    assert server.log.lines == [
        "warning=\"hung up: internal error: ZeroDivisionError('oh'); please report it\", peer=192.0.2.1:4711"
    ]
    assert other.receive(request(recipient="b")) == ["REJECT 5.1.1 b"]


def test_nothing_is_answered_after_a_malformed_request(server):
    """Once out of step, what looks like a request may be the middle of one."""
    connection = server.connect()
    assert connection.receive(request(recipient="a") + b"junk\n\n" + request(recipient="b")) == ["REJECT 5.1.1 a"]
    assert connection.is_closed
    assert connection.receive(request(recipient="c")) == []
    assert server.decided == ["a"]


def test_decide_may_be_replaced_while_connections_stand(server):
    """SIGHUP must not make Postfix connect again."""
    connection = server.connect()
    connection.receive(request(recipient="a"))
    server.factory.decider = Permissive()
    assert connection.receive(request(recipient="a")) == ["DUNNO"]


def draining(server: Server) -> list[None]:
    """Stop the server; what is returned is empty until it is done."""
    done: list[None] = []
    server.factory.drain(DRAIN_SECONDS).addCallback(done.append)
    return done


def test_stop_with_no_connections_is_immediate(server):
    """A daemon that nobody uses must not make a restart wait."""
    assert draining(server) == [None]


def test_stop_closes_idle_connections_and_answers_requests_on_their_way(server):
    """A restart must not cost a mail that was being asked about."""
    idle, asking = server.connect(), server.connect()
    asked = request(recipient="a")
    asking.receive(asked[:20])
    done = draining(server)
    server.clock.advance(0.1)
    assert idle.is_closed
    assert not asking.is_closed
    idle.end()
    assert done == []
    assert asking.receive(asked[20:]) == ["REJECT 5.1.1 a"]
    assert asking.is_closed
    asking.end()
    assert done == [None]


def test_stop_does_not_wait_for_ever(server):
    """An administrator who stops the daemon wants it to stop."""
    stuck = server.connect()
    stuck.receive(b"request=")
    done = draining(server)
    server.clock.advance(DRAIN_SECONDS - 0.1)
    assert done == []
    assert not stuck.is_closed
    server.clock.advance(0.1)
    assert stuck.transport.aborted
    assert done == [None]
    stuck.end()  # the reactor tells a turn later


@pytest.mark.parametrize(
    ("close", "what"),
    [
        (lambda connection: connection.receive(b"junk\n\n"), "hung up on"),
        (lambda connection: connection.end_sending(), "ended by the peer"),
        (lambda connection: connection.protocol.writeConnectionLost(), "no longer read by the peer"),
    ],
)
def test_closing_connection_that_lingers_is_aborted_in_the_end(server, close: Callable[[Connection], object], what):
    """A close waits until the peer has read everything; that has its limit, too."""
    connection = server.connect()
    close(connection)
    assert connection.is_closed, what
    server.wait(REQUEST_SECONDS + 1)
    assert connection.transport.aborted
