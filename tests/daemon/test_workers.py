"""Several workers under one parent, as processes: how they share, how they die, and how they stop."""

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.support import preloaded, processes
from tests.support.fake_smtpd import FakeSmtpd, OutOfStepError, request
from tests.support.ports import free_port
from tests.support.running_daemon import Daemon
from tests.support.waiting import until

UNLISTED = "REJECT 5.1.1 This address does not receive mail"
ALICE, JOE = request(recipient="alice@example.com"), request(recipient="joe@example.com")
ALLOWED = 'allowed are 1 to 64, and "auto" for one each processor'


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    """A daemon that is not started yet, and shall have two workers. It knows alice@example.com."""
    with Daemon(tmp_path) as daemon:
        daemon.write_settings("workers = 2", decisions="none")
        daemon.make_tables("alice")
        yield daemon


@pytest.fixture
def serving(daemon: Daemon) -> Daemon:
    """A daemon that runs."""
    start(daemon)
    return daemon


def start(daemon: Daemon, workers: int = 2) -> None:
    """Start it; return when all workers are ready."""
    before = len(daemon.syslog.matching("event=started"))
    daemon.start()
    until(lambda: len(daemon.syslog.matching("event=started")) == before + workers, "all workers")


def workers_of(daemon: Daemon) -> list[int]:
    """The pids of the workers."""
    return processes.workers(daemon.pid)


def connect(stack: ExitStack, daemon: Daemon, count: int) -> list[FakeSmtpd]:
    """That many connections, one after the other, each of which has had an answer."""
    connections = [stack.enter_context(FakeSmtpd(os.fspath(daemon.socket))) for _ in range(count)]
    assert {each.ask(ALICE) for each in connections} == {"DUNNO"}
    return connections


def ask_all(connections: list[FakeSmtpd]) -> list[FakeSmtpd]:
    """Ask on all of them at the same time; those that the daemon has hung up on."""
    lost = []
    for each in connections:
        with contextlib.suppress(OutOfStepError):
            each.send(ALICE)
    for each in connections:
        try:
            assert each.read_reply() == "DUNNO"
        except OutOfStepError:
            lost.append(each)
    return lost


@pytest.mark.parametrize("pause", [0, 0.005], ids=["in a burst", "slowly"])
@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_kept_connections_are_shared_and_a_killed_worker_costs_only_its_own(daemon, kind, pause):
    """Postfix keeps its connections for long: a worker that has them all makes the others useless."""
    port = free_port()
    daemon.write_settings(
        "workers = 2", listen=[f"unix:{daemon.socket}", f"tcp:{port}:interface=127.0.0.1"], decisions="none"
    )
    start(daemon)
    victim, other = workers_of(daemon)
    with ExitStack() as stack:
        connections = []
        for _ in range(100):
            connections.append(
                stack.enter_context(FakeSmtpd(("127.0.0.1", port) if kind == "tcp" else str(daemon.socket)))
            )
            time.sleep(pause)
        for _ in range(3):
            assert ask_all(connections) == []
        os.kill(victim, signal.SIGKILL)
        lost: set[FakeSmtpd] = set()
        for _ in range(10):  # under load, while it dies and is replaced
            lost.update(ask_all([each for each in connections if each not in lost]))
            assert daemon.ask(ALICE) == "DUNNO"
        assert len(lost) == 50
        line = daemon.syslog.wait_for("a worker ended")
        assert line == f'warning="a worker ended: SIGKILL", pid={victim}, ended=1, restart_in=0.1'
        until(lambda: len(daemon.syslog.matching("event=started")) == 3, "the new worker")
        assert other in workers_of(daemon)
        later = connect(stack, daemon, 50)  # all of them for the new worker, which has none
        (new,) = {*workers_of(daemon)} - {other}
        os.kill(new, signal.SIGKILL)
        assert ask_all(later) == later
        assert ask_all([each for each in connections if each not in lost]) == []
    assert daemon.stop() == (0, "")


def test_connections_that_ended_are_not_counted(serving):
    """The worker whose connections Postfix has closed gets the next ones."""
    _, second = workers_of(serving)
    with ExitStack() as stack, ExitStack() as closing_soon:
        kept = []
        for _ in range(5):  # in turn: one for the first worker, one for the second
            kept += connect(stack, serving, 1)
            connect(closing_soon, serving, 1)
        before = processes.descriptors(second)
        closing_soon.close()
        until(lambda: processes.descriptors(second) == before - 5, "the second to notice")
        later = connect(stack, serving, 5)
        os.kill(second, signal.SIGKILL)
        assert ask_all(later) == later
        assert ask_all(kept) == []


def test_stop_answers_what_is_on_its_way_and_leaves_nothing(serving):
    """A restart must not cost a mail, whichever worker has it."""
    workers = workers_of(serving)
    with ExitStack() as stack:
        asking = connect(stack, serving, 4)
        for each in asking:
            each.send(JOE[:-10])
        serving.tell(signal.SIGTERM)
        until(lambda: not serving.socket.exists(), "the socket file to go")
        for each in asking:
            each.send(JOE[-10:])
            assert each.read_reply() == UNLISTED
            each.must_hang_up()
    assert serving.ended() == (0, "")
    assert not any(map(processes.is_alive, workers))
    assert len(serving.syslog.matching("event=stopped")) == 3
    assert serving.syslog.matching("warning=") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_whole_group_is_one_stop(serving, number):
    """systemd and terminals send it to every process of the service."""
    workers = workers_of(serving)
    with FakeSmtpd(str(serving.socket)) as smtpd:
        assert smtpd.ask(ALICE) == "DUNNO"
        for pid in workers:
            os.kill(pid, number)
        assert smtpd.ask(ALICE) == "DUNNO"
        serving.tell(number)
        assert serving.ended() == (0, "")
    assert not any(map(processes.is_alive, workers))
    assert serving.syslog.matching("warning=") == []


def test_each_process_logs_under_its_own_pid(serving):
    """Whoever looks for what one process did finds its lines by that."""
    processes_of_it = {serving.pid, *workers_of(serving)}
    assert serving.stop() == (0, "")
    told = [line for event in ("started", "stopped") for line in serving.syslog.matching(f"event={event}")]
    pids = [int(found[1]) for line in told if (found := re.search(r"\bpid=(\d+)", line))]
    assert {*pids} == processes_of_it
    assert [serving.syslog.headers[line].partition(" policyd")[2] for line in told] == [f"[{pid}]: " for pid in pids]


@pytest.mark.full
def test_worker_that_does_not_stop_is_killed(serving):
    """systemd would kill it later, and call the unit failed."""
    stuck, _ = workers_of(serving)
    os.kill(stuck, signal.SIGSTOP)
    assert serving.stop() == (0, "")
    assert not processes.is_alive(stuck)
    assert serving.syslog.matching("warning=") == [f'warning="a worker did not stop and was killed", pid={stuck}']


def test_killed_parent_takes_its_workers_along_and_can_be_started_again(serving):
    """Workers that nobody knows of would answer from old settings for ever."""
    workers = workers_of(serving)
    with ExitStack() as stack:
        kept = connect(stack, serving, 4)
        serving.tell(signal.SIGKILL)
        for each in kept:
            each.must_hang_up()
    serving.ended()
    until(lambda: not any(map(processes.is_alive, workers)), "the workers to end")
    start(serving)
    assert serving.ask(ALICE) == "DUNNO"


def test_sighup_reaches_every_worker_and_those_to_come(serving):
    """Two answers to one question would be worse than an old one."""
    with ExitStack() as stack:
        kept = connect(stack, serving, 4)
        assert {each.ask(JOE) for each in kept} == {UNLISTED}
        serving.write_settings("workers = 2", 'mode = "monitor"')
        serving.tell(signal.SIGHUP)
        until(lambda: len(serving.syslog.matching("event=reloaded")) == 2, "both workers")
        assert {each.ask(JOE) for each in kept} == {"DUNNO"}
        serving.write_settings("workers = 2", 'mode = "moniter"')
        assert serving.reload("warning=").startswith('warning="the settings stay as they were: ')
        os.kill(workers_of(serving)[0], signal.SIGKILL)
        until(lambda: len(serving.syslog.matching("event=started")) == 3, "the new worker")
        assert {each.ask(JOE) for each in connect(stack, serving, 4)} == {"DUNNO"}
        serving.write_settings("workers = 3")
        assert serving.reload('warning="w') == 'warning="workers is as it was; to change it\\x2c restart"'
        until(lambda: len(serving.syslog.matching("event=reloaded")) == 4, "both workers again")
        assert len(serving.syslog.matching("the settings stay")) == 1
    assert serving.stop() == (0, "")


def test_change_is_in_force_at_the_next_request_in_every_worker(serving):
    """The promise of the whole thing holds for each of them."""
    with ExitStack() as stack:
        kept = connect(stack, serving, 4)
        for number in range(3):
            asked = request(recipient=f"m{number}@example.com")
            assert {each.ask(asked) for each in kept} == {UNLISTED}
            serving.command("mailbox", "add", f"m{number}", f"m{number}@example.com")
            assert {each.ask(asked) for each in kept} == {"DUNNO"}


def test_worker_that_cannot_start_is_tried_less_and_less_often(serving):
    """A spin of forks would take the machine from those that still work."""
    away = serving.folder / "away.db"
    victim, other = workers_of(serving)
    serving.database.rename(away)
    os.kill(victim, signal.SIGKILL)
    serving.syslog.wait_for("restart_in=0.8")
    ends = [re.sub(r"pid=\d+, ", "", line) for line in serving.syslog.matching("a worker ended")]
    assert ends == [
        'warning="a worker ended: SIGKILL", ended=1, restart_in=0.1',
        'warning="a worker ended: exit status 69", ended=2, restart_in=0.2',
        'warning="a worker ended: exit status 69", ended=3, restart_in=0.4',
        'warning="a worker ended: exit status 69", ended=4, restart_in=0.8',
    ]
    assert "there is no database" in serving.syslog.wait_for("a process can't go on: ")
    away.rename(serving.database)
    until(lambda: len(serving.syslog.matching("event=started")) == 3, "the new worker")
    assert other in workers_of(serving)
    assert serving.ask(ALICE) == "DUNNO"


def test_connection_that_a_dying_worker_has_not_taken_goes_to_another(serving):
    """It was handed over, but nobody has read from it: Postfix need not know."""
    stuck, _ = workers_of(serving)
    os.kill(stuck, signal.SIGSTOP)
    with ExitStack() as stack:
        asking = [stack.enter_context(FakeSmtpd(str(serving.socket))) for _ in range(10)]
        for each in asking:
            each.send(JOE)
        until(lambda: sum(each.has_answer() for each in asking) == 5, "those of the other")
        os.kill(stuck, signal.SIGKILL)
        assert {each.read_reply() for each in asking} == {UNLISTED}


def test_connections_wait_while_there_is_no_worker(serving):
    """A moment without workers is a late answer, not a lost one."""
    for pid in workers_of(serving):
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(serving.syslog.matching("a worker ended")) == 2, "both to end")
    assert serving.ask(ALICE) == "DUNNO"


def test_nothing_is_half_started(daemon):
    """One line and an exit status, as with one process, and no worker before that."""
    endpoint = f"unix:{daemon.folder}/none/policy.sock"
    daemon.write_settings("workers = 2", listen=[f"unix:{daemon.socket}", endpoint])
    told = f"policyd: can't listen on {endpoint}: No such file or directory; see the setting listen\n"
    assert daemon.refuse() == (69, told)
    assert not daemon.socket.exists()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        told = f"policyd: can't listen on {endpoint}: Address already in use; see the setting listen\n"
        assert daemon.refuse("--listen", endpoint) == (69, told)
    daemon.database.unlink()
    told = f"policyd: {daemon.database}: there is no database; make it with: policyd database create\n"
    assert daemon.refuse() == (69, told)
    assert daemon.syslog.matching("event=started") == []


def test_second_daemon_leaves_the_first_one_alone(serving):
    """Not even a socket file is touched."""
    told = f"policyd: can't listen on {serving.socket}: a server is listening there already; stop it first\n"
    assert serving.refuse() == (69, told)
    assert serving.refuse("--workers", "1") == (69, told)
    assert serving.ask(ALICE) == "DUNNO"


@pytest.mark.parametrize("typed", ["0", "many"])
def test_number_of_workers_that_cannot_be_is_refused(daemon, typed):
    """With what can."""
    shown = typed if typed.isdecimal() else f"'{typed}'"
    assert daemon.refuse("--workers", typed) == (78, f"policyd: workers: {shown}: {ALLOWED}\n")
    daemon.write_settings("workers = -1")
    assert daemon.refuse() == (78, f"policyd: {daemon.config}: workers: -1: {ALLOWED}\n")


def test_one_worker_is_one_process(daemon):
    """As it is without the setting; the option wins."""
    daemon.start(daemon.arguments("serve", "--workers", "1"))
    assert workers_of(daemon) == []
    assert daemon.ask(ALICE) == "DUNNO"
    assert daemon.stop() == (0, "")
    daemon.start(daemon.arguments("serve", "--workers", "3"))
    until(lambda: len(workers_of(daemon)) == 3, "all workers")
    assert daemon.stop() == (0, "")


def spawned(daemon: Daemon, *options: str) -> tuple[int, bytes, bytes]:
    """The exit status of `serve --stdio`, asked once, and what it writes."""
    words = daemon.arguments("serve", "--stdio", *options)
    done = preloaded.run(words, given=ALICE)
    return done.returncode, done.stdout, done.stderr


def test_spawned_daemon_is_one_process(daemon):
    """It has one connection: the setting is for the other daemon, the option is a mistake."""
    assert spawned(daemon) == (0, b"action=DUNNO\n\n", b"")
    status, answer, told = spawned(daemon, "--workers", "2")
    assert (status, answer) == (2, b"")
    assert told.startswith(b"policyd: --stdio serves one connection, with one process; leave --workers out.")
