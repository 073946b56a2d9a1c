"""The private names of Twisted's that answers take: a Twisted that has renamed them must stop no mail."""

import gc
import re
import shutil
import socket
import weakref
from pathlib import Path

import pytest
import twisted
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from policyd.daemon import fast_twisted
from tests.support.fake_smtpd import FakeSmtpd, request
from tests.support.few import few
from tests.support.running_daemon import Daemon

REACTOR_NAMES = ("_poller", "_selectables", "_doReadOrWrite", "_newTimedCalls", "_pendingTimedCalls")
RENAMED = {
    "the reactor's": REACTOR_NAMES,
    "the transport's": ("_tempDataBuffer",),
    "all": (*REACTOR_NAMES, "_disconnectSelectable", "_justStopped", "_tempDataBuffer"),
}


def rename(folder: Path, names: tuple[str, ...]) -> None:
    """A copy of the installed Twisted in *folder*, in which the private *names* are called otherwise."""
    source = Path(twisted.__file__).parent
    shutil.copytree(source, folder / "twisted", ignore=shutil.ignore_patterns("test", "*.pyc", "newsfragments"))
    word = re.compile(rf"\b({'|'.join(names)})\b")
    for file in (folder / "twisted" / "internet").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        file.write_text(word.sub(lambda found: f"{found[1]}_of_tomorrow", text), encoding="utf-8")


@pytest.mark.parametrize("which", few(RENAMED, "all"))
def test_twisted_that_has_renamed_its_private_names_stops_no_mail(tmp_path, which):
    """It costs some speed, and the log says so; a release of Twisted must not stop a company's mail."""
    names = RENAMED[which]
    rename(tmp_path / "lib", names)
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        daemon.start(variables={"PYTHONPATH": str(tmp_path / "lib")})
        line = daemon.syslog.wait_for("this Twisted is not as policyd knows it")
        told = re.search(r'missing="?([^"]*)"?$', line)
        assert told is not None
        assert told[1].split() == sorted(names)
        with FakeSmtpd(str(daemon.socket)) as smtpd:
            for recipient, action in (("alice@example.com", "DUNNO"), ("nobody@example.com", "REJECT")):
                assert smtpd.ask(request(recipient=recipient)).startswith(action)
            many = [request(recipient="nobody@example.com")] * 500
            smtpd.send(b"".join(many))
            assert [smtpd.read_reply().startswith("REJECT") for _ in many] == [True] * 500
        assert daemon.stop()[0] == 0


def test_installed_twisted_has_the_fast_way(tmp_path):
    """Else each answer would take longer, and nobody would notice but by the log."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        daemon.start()
        assert daemon.ask(request(recipient="alice@example.com")) == "DUNNO"
        assert daemon.syslog.matching("this Twisted") == []


@pytest.fixture
def reactor():
    """A reactor of its own, of which nobody else knows."""
    reactor = fast_twisted._FastReactor()
    yield reactor
    for each in reactor.removeAll():
        each.connectionLost(Failure(ConnectionDone()))
    if reactor.threadpool is not None:
        reactor.threadpool.stop()
    reactor.waker.connectionLost(None)
    reactor._poller.close()


def test_what_is_to_be_called_at_the_end_of_a_turn_waits_for_no_event(reactor):
    """An answer that becomes due outside of a turn, as by a timer, is sent though nothing comes from anybody."""
    called: list[str] = []
    fast_twisted.call_at_end(reactor, lambda: called.append("first"))
    reactor.doPoll(None)
    assert called == ["first"]


def test_call_that_comes_during_another_waits_for_the_next_turn(reactor):
    """Whoever has answers without end keeps nobody else from being read."""
    called: list[int] = []

    def again():
        called.append(len(called))
        fast_twisted.call_at_end(reactor, again)

    fast_twisted.call_at_end(reactor, again)
    reactor.doPoll(None)
    assert called == [0]
    reactor.doPoll(None)
    assert called == [0, 1]


def test_defect_in_one_call_at_the_end_costs_no_other_one(reactor):
    """The reactor logs it, and goes on with its next turn."""
    called: list[str] = []

    def fail():
        raise ZeroDivisionError

    fast_twisted.call_at_end(reactor, fail)
    fast_twisted.call_at_end(reactor, lambda: called.append("other"))
    with pytest.raises(ZeroDivisionError):
        reactor.doPoll(None)
    reactor.doPoll(None)
    assert called == ["other"]


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """Notes what happens to it, and reads as connections from Postfix do."""

    def __init__(self):
        self.happened: list[object] = []

    def connectionMade(self):
        self.write = fast_twisted.shorten(self.transport, self.received)

    def received(self, raw):
        if raw == b"defect":
            raise ZeroDivisionError
        self.happened.append(raw)

    def readConnectionLost(self):
        self.happened.append("it sends no more")

    def writeConnectionLost(self):
        self.happened.append("it reads no more")

    def connectionLost(self, reason=connectionDone):
        fast_twisted.forget(self.transport)
        self.happened.append(reason.type.__name__)


@pytest.fixture
def connected(reactor):
    """Whoever is at one end, and the socket at the other."""
    peers: list[Peer] = []

    class Peers(Factory):
        noisy = False

        def buildProtocol(self, addr):
            peers.append(Peer())
            return peers[-1]

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Peers())
        yield peers.pop(), theirs


def take_turns(reactor):
    """As many as it takes until nothing more happens."""
    for _ in range(5):
        reactor.doPoll(0)


def test_peer_that_sends_no_more_is_told_from_one_that_is_gone(reactor, connected):
    """Who has asked and shut its side down still gets its answer."""
    peer, theirs = connected
    theirs.send(b"a question")
    theirs.shutdown(socket.SHUT_WR)
    take_turns(reactor)
    assert peer.happened == [b"a question", "it sends no more"]
    peer.write(b"an answer")
    assert theirs.recv(100) == b"an answer"
    peer.transport.loseConnection()
    take_turns(reactor)
    assert peer.happened[2:] == ["ConnectionDone"]


def test_defect_in_what_is_read_ends_that_connection_alone(reactor, connected, caplog):
    """The others go on."""
    peer, theirs = connected
    theirs.send(b"defect")
    reactor.doPoll(0)
    assert peer.happened == ["ZeroDivisionError"]
    assert theirs.recv(1) == b""


def test_what_the_socket_does_not_take_waits_for_it(reactor, connected):
    """Nothing is lost, and nothing overtakes."""
    peer, theirs = connected
    written = [bytes([65 + number]) * 100_000 for number in range(8)]
    for piece in written:
        peer.write(piece)
    read = b""
    while len(read) < 800_000:
        reactor.doPoll(0)
        read += theirs.recv(1_000_000)
    assert read == b"".join(written)


def test_connection_that_is_gone_is_forgotten(reactor, connected):
    """A daemon runs for months, without a collection of what hangs together in circles."""
    peer, _ = connected
    gone = weakref.ref(peer.transport)
    gc.disable()
    try:
        peer.transport.loseConnection()
        take_turns(reactor)
        assert peer.happened == ["ConnectionDone"]
        del peer.transport, peer.write
        assert gone() is None
    finally:
        gc.enable()


def test_timer_is_called_in_time_though_there_is_always_something_to_read(reactor, connected):
    """Timeouts, reloads and signals come first; a peer that never stops sending puts nothing off."""
    peer, theirs = connected
    called: list[str] = []

    def go_on(raw):
        theirs.send(b"more")

    fast_twisted.shorten(peer.transport, go_on)
    reactor.callLater(0.01, called.append, "timer")
    reactor.callLater(0.02, reactor.stop)
    reactor.callWhenRunning(theirs.send, b"more")
    reactor.run(installSignalHandlers=False)
    assert called == ["timer"]


def test_call_from_a_thread_is_made_though_there_is_always_something_to_read(reactor, connected):
    """So signals come in."""
    peer, theirs = connected

    def go_on(raw):
        theirs.send(b"more")
        if raw == b"first":
            reactor.callInThread(lambda: reactor.callFromThread(reactor.stop))

    fast_twisted.shorten(peer.transport, go_on)
    reactor.callWhenRunning(theirs.send, b"first")
    reactor.run(installSignalHandlers=False)
    assert not reactor.running
