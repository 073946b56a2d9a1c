"""More than there may be of something: connections, descriptors, time, octets that nobody reads."""

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fake_smtpd import FakeSmtpd, OutOfStepError, request
from tests.running_daemon import LIMIT_SECONDS, Daemon, until

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


def is_admitted(daemon: Daemon) -> bool:
    """Whether one more connection gets an answer, and is not closed."""
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        try:
            smtpd.send(ALICE)
            return smtpd.read_reply() == "DUNNO"
        except OutOfStepError:
            return False


def processor_seconds(pid: int) -> float:
    """What the process has used so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@KINDS
def test_connections_beyond_the_limit_are_closed_and_the_others_served(daemon, workers):
    """A client that opens thousands must not take Postfix's own connections away, nor fill the mail log."""
    start(daemon, workers, "max_connections = 8")
    with ExitStack() as stack:
        working = connect(stack, daemon, 8)
        assert [is_admitted(daemon) for _ in range(50)] == [False] * 50
        assert {each.ask(ALICE) for each in working} == {"DUNNO"}
        warning = 'warning="too many connections; others are turned away", limit=8'
        assert daemon.syslog.matching("warning=") == [warning]
    until(lambda: is_admitted(daemon), "room for one")
    assert daemon.stop() == (0, "")
    told = daemon.syslog.matching('warning="connections were turned away"')
    assert len(told) == 1
    assert int(told[0].rpartition("=")[2]) >= 50
    assert len(daemon.syslog.matching("warning=")) == 2


@pytest.mark.full
def test_end_of_too_many_connections_is_told_without_a_stop(daemon):
    """Whoever reads the log wants to know how long it went on, and how bad it was."""
    start(daemon, 1, "max_connections = 1")
    with ExitStack() as stack:
        connect(stack, daemon, 1)
        assert [is_admitted(daemon) for _ in range(3)] == [False] * 3
    assert daemon.syslog.wait_for("were turned away") == 'warning="connections were turned away", count=3'


@KINDS
def test_new_max_connections_is_in_force_after_sighup(daemon, workers):
    """At the hour when it is too low, nobody wants a restart."""
    start(daemon, workers, "max_connections = 2")
    with ExitStack() as stack:
        connect(stack, daemon, 2)
        assert not is_admitted(daemon)
        daemon.write_settings(f"workers = {workers}", "max_connections = 3")
        daemon.reload()
        until(lambda: is_admitted(daemon), "room for one more")


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
        started = processor_seconds(pid)
        waiting = [stack.enter_context(FakeSmtpd(os.fspath(daemon.socket))) for _ in range(10)]
        line = daemon.syslog.wait_for("connections wait")
        assert line == 'warning="connections wait\\x2c they can\'t be accepted: Too many open files"'
        ends = time.monotonic() + 1
        while time.monotonic() < ends:
            assert {each.ask(ALICE) for each in working} == {"DUNNO"}
            time.sleep(0.05)
        assert processor_seconds(pid) - started < 0.5
        assert len(daemon.syslog.matching("connections wait")) == 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for each in waiting:  # whom a worker or the daemon had no second descriptor for was hung up on
            with contextlib.suppress(OutOfStepError):
                each.send(ALICE)
                assert each.read_reply() == "DUNNO"
        assert is_admitted(daemon)
    daemon.syslog.wait_for("connections are accepted again")
    assert daemon.stop() == (0, "")


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
        connect(stack, daemon, 12)
        assert not is_admitted(daemon)
    assert daemon.stop()[0] == 0


@pytest.mark.full
@KINDS
def test_slow_sender_is_hung_up_on_beside_a_working_one(daemon, workers):
    """An octet every now and then keeps a connection from being idle; it has a time for its whole request."""
    start(daemon, workers, "request_seconds = 1")
    with ExitStack() as stack:
        (working,) = connect(stack, daemon, 1)
        slow = [stack.enter_context(FakeSmtpd(os.fspath(daemon.socket))) for _ in range(20)]
        began = time.monotonic()
        for octet in ALICE:
            if any(each.has_answer() for each in slow):
                break
            for each in slow:
                each.send(bytes([octet]))
            assert working.ask(ALICE) == "DUNNO"
            time.sleep(0.05)
        assert time.monotonic() - began >= 1
        for each in slow:
            each.must_hang_up()
        assert working.ask(ALICE) == "DUNNO"
    assert set(daemon.syslog.matching("warning=")) == {'warning="hung up: no end of a request in time", peer=unix'}


@pytest.mark.full
@KINDS
def test_peer_that_never_reads_costs_little_memory_and_is_hung_up_on(daemon, workers):
    """It asks and asks: its answers fill the kernel's buffer and a little of ours, then nobody reads it either."""
    start(daemon, workers, "request_seconds = 2")
    assert daemon.process is not None
    pids = [daemon.process.pid, *children_of(daemon.process.pid)]
    with ExitStack() as stack:
        (working,) = connect(stack, daemon, 1)
        before = sum(map(resident_octets, pids))
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
            most = max(most, sum(map(resident_octets, pids)))
            time.sleep(0.01)
        assert deaf == []
        assert most - before < 10 * 1_000_000
    assert len(daemon.syslog.matching('warning="hung up: answers not read in time", peer=unix')) == 10


def test_request_beyond_64_kib_is_hung_up_on(daemon):
    """Memory is bounded also where a request never ends."""
    start(daemon, 1)
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        smtpd.send(b"request=smtpd_access_policy\nsender=" + b"x" * 70_000)
        smtpd.must_hang_up()
    assert daemon.ask(ALICE) == "DUNNO"
    daemon.syslog.wait_for("hung up: a request of more than 65536 octets")


@pytest.mark.full
def test_idle_connection_is_closed_without_a_word_in_the_log(daemon):
    """It is nobody's fault; the next question opens a new one."""
    start(daemon, 1, "idle_seconds = 1")
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        assert smtpd.ask(ALICE) == "DUNNO"
        smtpd.must_hang_up()
    assert daemon.syslog.matching("warning=") == []


def children_of(pid: int) -> list[int]:
    """The processes that *pid* has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_octets(pid: int) -> int:
    """How much memory the process has, but for what it shares with files."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
