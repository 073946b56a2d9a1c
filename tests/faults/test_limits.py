"""More than there may be of something: connections, descriptors, time, bytes that nobody reads."""

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd, HungUpError, OutOfStepError, request
from tests.support.processes import cpu_seconds, kibibytes
from tests.support.processes import workers as workers_of
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until

ALICE = request(recipient="alice@example.com")
KINDS = pytest.mark.parametrize("workers", [1, 2], ids=["one process", "workers"])


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    """A daemon that is not started yet. It knows alice@example.com."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        yield daemon


def start(daemon: Daemon, workers: int, *lines: str) -> None:
    """Start it with these settings, quiet about decisions; return when all workers are ready."""
    daemon.write_settings(f"workers = {workers}", *lines, decisions="none")
    daemon.start()
    until(lambda: len(daemon.syslog.matching("event=started")) == workers, "all workers")


def connect(stack: ExitStack, daemon: Daemon, count: int) -> list[FakeSmtpd]:
    """That many connections, each of which has had an answer."""
    connections = [stack.enter_context(FakeSmtpd(os.fspath(daemon.socket))) for _ in range(count)]
    assert {each.ask(ALICE) for each in connections} == {"DUNNO"}
    return connections


def answers(daemon: Daemon) -> list[str]:
    """The answers of new connections, one after the other, each of which asks at once."""
    return [daemon.ask(ALICE) for _ in range(20)]


def silent(stack: ExitStack, daemon: Daemon, count: int, begun: bytes = b"") -> list[socket.socket]:
    """Connections that say nothing, or the beginning of a request."""
    peers = []
    for _ in range(count):
        peers.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
        peers[-1].connect(os.fspath(daemon.socket))
        peers[-1].sendall(begun)
    return peers


def is_closed(peer: socket.socket) -> bool:
    """Whether the daemon has hung up on *peer*."""
    try:
        return peer.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def has_closed(peers: list[socket.socket], count: int) -> bool:
    """Whether the daemon has hung up on that many of *peers*, and no more."""
    return sum(map(is_closed, peers)) == count


def has_hung_up(smtpd: FakeSmtpd) -> bool:
    """Whether the daemon has closed the connection, and sent nothing before."""
    try:
        smtpd.must_be_quiet()
    except HungUpError:
        return True
    return False


@drill(
    "more connections than ``max_connections``",
    made="half of them idle for two seconds, as many new ones; one process and workers",
    client="nothing: an idle connection that was closed is made again",
    log="``too many connections; idle ones give way``, at the end ``connections gave way to new ones``, ``count=``",
)
@KINDS
def test_connection_idle_for_longest_gives_way_to_a_new_one(daemon, workers):
    """One local user with a thousand silent connections must not keep Postfix out for ten minutes."""
    start(daemon, workers, f"max_connections = {8 * workers}")
    with ExitStack() as stack:
        idle = silent(stack, daemon, 4 * workers)
        time.sleep(2)  # idleness is counted in seconds
        working = connect(stack, daemon, 4 * workers)
        assert not any(map(is_closed, idle))
        newcomers = []
        for number in range(1, 4 * workers + 1):
            newcomers += connect(stack, daemon, 1)
            until(partial(has_closed, idle, number), "one of them to give way")
        assert {each.ask(ALICE) for each in [*working, *newcomers]} == {"DUNNO"}
        warning = f'warning="too many connections; idle ones give way", limit={8 * workers}'
        assert daemon.syslog.matching("warning=") == [warning]
        assert daemon.stop() == (0, "")
    told = 'warning="connections gave way to new ones", '
    assert daemon.syslog.matching("warning=") == [warning, f"{told}count={4 * workers}"]


@drill(
    "1 000 idle connections of one local user",
    made="with room for 100; one process and workers",
    log="``too many connections; idle ones give way``",
)
@KINDS
def test_thousand_idle_connections_keep_nobody_out(daemon, workers):
    """However many one local user opens, and opens again: whoever asks is answered, and the log has one line."""
    start(daemon, workers, "max_connections = 100")
    with ExitStack() as stack:
        peers = silent(stack, daemon, 1000)
        assert answers(daemon) == ["DUNNO"] * 20
        until(lambda: sum(map(is_closed, peers)) > 900, "those beyond the limit to be closed")
        assert sum(map(is_closed, peers)) <= 900 + 20, "no more are closed than there must be"
        assert len(daemon.syslog.matching("warning=")) == 1
        assert daemon.stop() == (0, "")


@drill(
    "more connections in the middle of a request than ``max_connections``",
    made="30 that send the beginning of one, with room for 20",
    log="``too many connections; idle ones give way``",
)
@KINDS
def test_unfinished_requests_keep_nobody_out(daemon, workers):
    """Where no connection is idle, the request that has been unfinished for longest gives way."""
    start(daemon, workers, "max_connections = 20")
    with ExitStack() as stack:
        peers = silent(stack, daemon, 30, ALICE[:40])
        assert answers(daemon) == ["DUNNO"] * 20
        assert sum(map(is_closed, peers)) >= 10
        assert daemon.stop() == (0, "")


@drill(
    "as many peers that never read as there may be connections",
    made="8 that send until nothing goes",
    log="``too many connections; idle ones give way``",
    lost="the peers' own answers",
)
@KINDS
def test_peers_that_do_not_read_keep_nobody_out(daemon, workers):
    """Answers that nobody fetches are no reason to keep a connection from somebody who does."""
    start(daemon, workers, "max_connections = 8")
    with ExitStack() as stack:
        for peer in silent(stack, daemon, 8):
            peer.setblocking(False)
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                while True:
                    peer.send(ALICE * 100)
        assert answers(daemon) == ["DUNNO"] * 20
        assert daemon.stop() == (0, "")


@drill(
    "a flood of connections",
    made="20 times 100 that say nothing, with room for 50",
    log="``too many connections; idle ones give way``, once",
)
@KINDS
def test_flood_of_connections_takes_no_answer_from_those_who_ask(daemon, workers):
    """Each one that floods in is closed by the next: a question that was sent has its answer."""
    start(daemon, workers, "max_connections = 50")
    with ExitStack() as stack:
        for _ in range(20):
            with ExitStack() as flood:
                silent(flood, daemon, 100)
                with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
                    assert smtpd.ask(ALICE) == "DUNNO"
        connect(stack, daemon, 1)
        assert len(daemon.syslog.matching("warning=")) == 1
        assert daemon.stop() == (0, "")


@drill(
    "all places are taken, and a worker hangs",
    made="SIGSTOP",
    client="the answer, some seconds late once",
    log="``too many connections; idle ones give way``",
)
def test_worker_that_hangs_keeps_nobody_out(daemon):
    """It can't say whom it would close: after some seconds the others are asked alone."""
    start(daemon, 2, "max_connections = 8")
    assert daemon.process is not None
    stuck = workers_of(daemon.pid)[0]
    with ExitStack() as stack:
        silent(stack, daemon, 8)
        os.kill(stuck, signal.SIGSTOP)
        try:
            assert daemon.ask(ALICE) == "DUNNO"
        finally:
            os.kill(stuck, signal.SIGCONT)


@drill(
    "too many connections, for five seconds",
    made="three give way, then all leave",
    log="``connections gave way to new ones``, ``count=3``",
)
@pytest.mark.full
def test_end_of_too_many_connections_is_told_without_a_stop(daemon):
    """Whoever reads the log wants to know how long it went on, and how bad it was."""
    start(daemon, 1, "max_connections = 1")
    with ExitStack() as stack:
        silent(stack, daemon, 1)
        for _ in range(3):  # each has its answer before the next one takes its place
            connect(stack, daemon, 1)
    assert daemon.syslog.wait_for("gave way") == 'warning="connections gave way to new ones", count=3'


@drill(
    "``max_connections`` too low",
    made="settings changed, SIGHUP",
    client="nothing after it",
    log="``event=reloaded``",
)
@KINDS
def test_new_max_connections_is_in_force_after_sighup(daemon, workers):
    """At the hour when it is too low, nobody wants a restart."""
    start(daemon, workers, "max_connections = 2")
    with ExitStack() as stack:
        first, second = connect(stack, daemon, 2)
        third, *_ = connect(stack, daemon, 1)
        until(lambda: has_hung_up(first) or has_hung_up(second), "one to give way")
        daemon.write_settings(f"workers = {workers}", "max_connections = 3")
        daemon.reload()
        (fourth,) = connect(stack, daemon, 1)
        kept = [each for each in (first, second, third, fourth) if not has_hung_up(each)]
        assert len(kept) == 3
        assert {each.ask(ALICE) for each in kept} == {"DUNNO"}


@drill(
    "EMFILE at accept(2)",
    made="prlimit(2) on the running daemon, down to what it has open",
    client="who is connected: nothing; others wait, at most for smtpd's timeout",
    log="``connections wait, they can't be accepted: Too many open files``, once; ``connections are accepted again``",
)
@pytest.mark.full
@KINDS
def test_no_descriptors_left_harms_no_standing_connection_and_does_not_spin(daemon, workers):
    """EMFILE at accept(2): who has a connection keeps it, who has none waits until there is room again."""
    start(daemon, workers)
    assert daemon.process is not None
    pid = daemon.process.pid
    with ExitStack() as stack:
        working = connect(stack, daemon, 4)
        used = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()) + 1
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        started = cpu_seconds(pid)
        waiting = [stack.enter_context(FakeSmtpd(os.fspath(daemon.socket))) for _ in range(10)]
        line = daemon.syslog.wait_for("connections wait")
        assert line == 'warning="connections wait\\x2c they can\'t be accepted: Too many open files"'
        ends = time.monotonic() + 1
        while time.monotonic() < ends:
            assert {each.ask(ALICE) for each in working} == {"DUNNO"}
            time.sleep(0.05)
        assert cpu_seconds(pid) - started < 0.5
        assert len(daemon.syslog.matching("connections wait")) == 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for each in waiting:  # whom a worker or the daemon had no second descriptor for was hung up on
            with contextlib.suppress(OutOfStepError):
                each.send(ALICE)
                assert each.read_reply() == "DUNNO"
        assert daemon.ask(ALICE) == "DUNNO"
    daemon.syslog.wait_for("connections are accepted again")
    assert daemon.stop() == (0, "")


@drill(
    "RLIMIT_NOFILE too low",
    made="ulimit before the start: soft, then hard",
    client="nothing up to what fits",
    log="``too few file descriptors for max_connections``, ``taken=``",
)
def test_limit_of_descriptors_is_raised_and_what_is_missing_is_told(daemon):
    """The usual 1024 are too few for a busy relay, and nobody thinks of them before the busiest hour."""
    daemon.write_settings("max_connections = 100")
    words = [str(word) for word in daemon.arguments("serve")]
    daemon.start(["/bin/sh", "-c", 'ulimit -S -n 40; exec "$@"', "sh", *words])
    assert daemon.process is not None
    assert resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)[0] >= 148
    assert daemon.syslog.matching("warning=") == []
    assert daemon.stop() == (0, "")
    limits = 'ulimit -n 60; exec "$@"'
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:  # who could raise the hard limit, too
            limits = 'ulimit -n 60; exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource "$@"'
        daemon.start(["/bin/sh", "-c", limits, "sh", *words])
        (line,) = daemon.syslog.matching("warning=")
        assert line.endswith(", max_connections=100, descriptors=60, taken=12")
        kept = connect(stack, daemon, 12)
        connect(stack, daemon, 1)
        until(lambda: any(map(has_hung_up, kept)), "one to give way")
    assert daemon.stop()[0] == 0


@drill(
    "slow loris",
    made="20 connections that send a byte each 50 ms",
    log="``hung up: no end of a request in time``",
)
@pytest.mark.full
@KINDS
def test_slow_sender_is_hung_up_on_beside_a_working_one(daemon, workers):
    """A byte every now and then keeps a connection from being idle; it has a time for its whole request."""
    start(daemon, workers, "request_seconds = 1")
    with ExitStack() as stack:
        (working,) = connect(stack, daemon, 1)
        slow = [stack.enter_context(FakeSmtpd(os.fspath(daemon.socket))) for _ in range(20)]
        began = time.monotonic()
        for byte in ALICE:
            if any(each.has_answer() for each in slow):
                break
            for each in slow:
                each.send(bytes([byte]))
            assert working.ask(ALICE) == "DUNNO"
            time.sleep(0.05)
        assert time.monotonic() - began >= 1
        for each in slow:
            each.must_hang_up()
        assert working.ask(ALICE) == "DUNNO"
    assert set(daemon.syslog.matching("warning=")) == {'warning="hung up: no end of a request in time", peer=unix'}


@drill(
    "a peer that sends and never reads",
    made="10 sockets that are only written to; memory watched",
    log="``hung up: answers not read in time``",
    lost="the peer's own answers",
)
@pytest.mark.full
@KINDS
def test_peer_that_never_reads_costs_little_memory_and_is_hung_up_on(daemon, workers):
    """It asks and asks: its answers fill the kernel's buffer and a little of ours, then nobody reads it either."""
    start(daemon, workers, "request_seconds = 2")
    with ExitStack() as stack:
        (working,) = connect(stack, daemon, 1)
        before = kibibytes(daemon.pid)
        deaf = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(10)]
        for each in deaf:
            each.connect(os.fspath(daemon.socket))
            each.setblocking(False)
        most, stream = 0, ALICE * 200
        ends = time.monotonic() + LIMIT_SECONDS
        while deaf and time.monotonic() < ends:
            for each in [*deaf]:
                try:
                    each.send(stream)
                except BlockingIOError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    deaf.remove(each)
            assert working.ask(ALICE) == "DUNNO"
            most = max(most, kibibytes(daemon.pid))
            time.sleep(0.01)
        assert deaf == []
        assert most - before < 10 * 1000
    assert len(daemon.syslog.matching('warning="hung up: answers not read in time", peer=unix')) == 10


@drill(
    "a request without an end",
    made="70 000 bytes of sender",
    log="``hung up: a request of more than 65536 octets``",
)
def test_request_beyond_64_kib_is_hung_up_on(daemon):
    """Memory is bounded also where a request never ends."""
    start(daemon, 1)
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        smtpd.send(b"request=smtpd_access_policy\nsender=" + b"x" * 70_000)
        smtpd.must_hang_up()
    assert daemon.ask(ALICE) == "DUNNO"
    daemon.syslog.wait_for("hung up: a request of more than 65536 octets")


@drill(
    "an idle connection",
    made="nothing sent for ``idle_seconds``",
    client="nothing, smtpd connects again",
)
@pytest.mark.full
def test_idle_connection_is_closed_without_a_word_in_the_log(daemon):
    """It is nobody's fault; the next question opens a new one."""
    start(daemon, 1, "idle_seconds = 1")
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        assert smtpd.ask(ALICE) == "DUNNO"
        smtpd.must_hang_up()
    assert daemon.syslog.matching("warning=") == []
