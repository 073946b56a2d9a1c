"""Syslog in trouble under load: the answers are not delayed, and each decision is logged or counted."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.syslog import CLOSE_SECONDS, LINES
from tests.support import preloaded
from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd, request
from tests.support.processes import cpu_seconds, workers
from tests.support.running_daemon import Daemon, Syslog
from tests.support.waiting import LIMIT_SECONDS, until


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    """A daemon that runs."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        daemon.start()
        yield daemon


def ask(daemon: Daemon, count: int, first: int = 0) -> None:
    """Have *count* questions answered, numbered from *first* in their instance."""
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        for number in range(first, first + count):
            assert smtpd.ask(request(recipient="alice@example.com", instance=f"n{number}")) == "DUNNO"


def numbers(lines: list[str]) -> list[int]:
    """The questions whose decisions are in *lines*, each of which must be whole."""
    decisions = [line for line in lines if line.startswith("action=")]
    matches = [re.search(r", instance=n(\d+), .*, ms=[\d.]+, mailbox=\w*, by=$", line) for line in decisions]
    assert None not in matches
    return [int(match[1]) for match in matches if match]


def dropped(lines: list[str]) -> int:
    """How many lines are missing, as *lines* tell."""
    return sum(int(count) for line in lines for count in re.findall("dropped=([0-9]+)", line))


def take_away(daemon: Daemon) -> list[str]:
    """Stop syslog and remove its socket; the decisions that it had got."""
    daemon.syslog.close()
    (daemon.folder / "log").unlink()
    return daemon.syslog.matching("action=")


@drill(
    "syslog restarts",
    made="its socket is closed and removed, 1000 decisions, a new socket",
    client="its answers, at once",
    log="every line, in order, with the time when it was said",
)
def test_syslog_socket_gone_and_recreated(daemon):
    """A syslog that restarts gets what was said meanwhile, in order, and without a further line to push it."""
    ask(daemon, 100)
    until(lambda: len(daemon.syslog.matching("action=")) == 100, "what was said before")
    take_away(daemon)
    ask(daemon, 1000, 100)
    daemon.syslog = Syslog(daemon.folder / "log")
    until(lambda: len(daemon.syslog.lines()) == 1000, "what was said meanwhile")
    assert numbers(daemon.syslog.lines()) == list(range(100, 1100))
    assert daemon.stop() == (0, "")


@drill(
    "syslog stops reading for a while",
    made="the reader sleeps over 2000 decisions",
    client="its answers, at once",
    log="every line, in order",
)
def test_syslog_socket_full_for_a_while(daemon):
    """A reader that sleeps over a burst of mail gets each line when it wakes."""
    daemon.syslog.stall()
    ask(daemon, 2000)
    daemon.syslog.resume()
    until(lambda: len(daemon.syslog.matching("action=")) == 2000, "all decisions")
    assert numbers(daemon.syslog.lines()) == list(range(2000))
    assert daemon.stop() == (0, "")


@drill(
    "a syslog that hung is restarted",
    made="the reader sleeps over 2000 decisions, then a new socket",
    client="its answers, at once",
    log="every line that the old socket had not taken",
    lost="what the old syslog had taken and not written",
)
def test_syslog_socket_recreated_while_it_was_full(daemon):
    """What the old socket had taken died with it; everything else reaches the new one."""
    daemon.syslog.stall()
    ask(daemon, 1000)
    took = len(numbers(take_away(daemon)))
    daemon.syslog = Syslog(daemon.folder / "log")
    until(lambda: len(daemon.syslog.lines()) == 1000 - took, "what waited")
    assert numbers(daemon.syslog.lines()) == list(range(took, 1000))
    assert daemon.stop() == (0, "")


@drill(
    "syslog hangs for long",
    made="the reader sleeps over 12 000 decisions",
    client="its answers, at once",
    log="10 000 lines, then ``syslog took no lines for a while``, ``dropped``",
    lost="what is beyond 10 000 lines, counted exactly",
)
@pytest.mark.full
def test_syslog_socket_full_beyond_the_bound(daemon):
    """Only what memory is not spent on is lost, and it is counted where it is missing."""
    daemon.syslog.stall()
    ask(daemon, LINES + 2000)
    daemon.syslog.resume()
    until(lambda: len(daemon.syslog.matching("action=")) >= LINES, "what waited")
    ask(daemon, 1, LINES + 2000)
    until(lambda: daemon.syslog.matching(f"instance=n{LINES + 2000},"), "the line after the gap")
    lines = daemon.syslog.lines()
    got = numbers(lines)
    assert got == [*range(len(got) - 1), LINES + 2000]
    assert dropped(lines) + len(got) == LINES + 2001
    assert "dropped=" in lines[-2]
    assert daemon.stop() == (0, "policyd: warning: syslog takes no lines; they are dropped and counted\n")


@drill(
    "syslog is gone, or hangs, and policyd stops",
    made="SIGTERM with 500 lines that wait",
    log="stderr has the number of missing lines, after a second",
    lost="the lines that wait, counted exactly",
)
@pytest.mark.parametrize("trouble", [take_away, lambda daemon: daemon.syslog.stall()], ids=["gone", "full"])
def test_syslog_in_trouble_when_the_daemon_stops(daemon, trouble):
    """It waits a second, and no longer; then stderr has the number."""
    trouble(daemon)
    before = daemon.syslog.lines()
    ask(daemon, 500)
    started = time.monotonic()
    status, told = daemon.stop()
    assert time.monotonic() - started > CLOSE_SECONDS
    with contextlib.suppress(OSError):  # it is closed already where it is gone
        daemon.syslog.close()
    taken = len(daemon.syslog.lines()) - len(before)
    assert (status, told) == (0, f"policyd: warning: syslog took no lines to the end, dropped={501 - taken}\n")
    (daemon.folder / "log").unlink(missing_ok=True)
    daemon.syslog = Syslog(daemon.folder / "log")


@drill(
    "SIGHUP while syslog hangs",
    made="SIGHUP with 500 lines that wait",
    client="its answers, at once",
    log="every line, once syslog reads again",
)
def test_settings_read_again_while_syslog_is_full(daemon):
    """SIGHUP makes no answer wait for syslog, and what waits goes where the log is now."""
    daemon.syslog.stall()
    ask(daemon, 500)
    daemon.tell(signal.SIGHUP)
    ask(daemon, 100, 500)  # syslog stands still until all of them are answered
    daemon.syslog.resume()
    daemon.syslog.wait_for("instance=n599,")
    daemon.syslog.wait_for("event=reloaded")
    assert numbers(daemon.syslog.lines()) == list(range(600))
    assert daemon.stop() == (0, "")


@drill(
    "syslog is gone, or hangs, over a quiet night",
    made="100 lines wait for a second",
    lost="nothing; less than 0.2 s of CPU time",
)
@pytest.mark.full
@pytest.mark.parametrize("trouble", [take_away, lambda daemon: daemon.syslog.stall()], ids=["gone", "full"])
def test_syslog_in_trouble_costs_no_time_while_nothing_is_asked(daemon, trouble):
    """Lines wait without turning in circles."""
    trouble(daemon)
    ask(daemon, 100)
    before = cpu_seconds(daemon.pid)
    time.sleep(1)  # what is measured, not waited for
    used = cpu_seconds(daemon.pid) - before
    if trouble is take_away:
        daemon.syslog = Syslog(daemon.folder / "log")
    assert used < 0.2


@drill(
    "syslog is gone while a worker dies",
    made="SIGKILL to a worker, then a new socket",
    client="its answers, from the other worker",
    log="``a worker ended`` as soon as syslog is there",
)
@pytest.mark.full
def test_line_of_the_workers_parent_waits_too(tmp_path):
    """That a worker died must be in the log, even if nothing else happens for days."""
    with Daemon(tmp_path) as daemon:
        daemon.write_settings("workers = 2")
        daemon.make_tables("alice")
        daemon.start()
        until(lambda: len(daemon.syslog.matching("event=started")) == 2, "both workers")
        worker = workers(daemon.pid)[0]
        take_away(daemon)
        os.kill(worker, signal.SIGKILL)
        until(lambda: worker not in workers(daemon.pid), "its end")
        daemon.syslog = Syslog(daemon.folder / "log")
        assert f"pid={worker}" in daemon.syslog.wait_for("a worker ended")


@drill(
    "syslog's socket takes streams",
    made="another socket in its place, then datagrams again",
    client="its answers, at once",
    log="every line, as syslog(3) writes it, with NUL at its end",
)
def test_syslog_that_takes_streams_gets_every_line(daemon):
    """/dev/log may be one; syslog(3) finds out, and so does the daemon, also when it comes back as one."""
    take_away(daemon)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as log:
        log.bind(str(daemon.folder / "log"))
        os.chmod(daemon.folder / "log", 0o666)
        log.listen()
        log.settimeout(LIMIT_SECONDS)
        ask(daemon, 500)
        connection, _ = log.accept()
        connection.settimeout(LIMIT_SECONDS)
        received = b""
        while received.count(b"\0") < 500:
            received += connection.recv(65536)
        connection.close()
    lines = [record.decode().partition("]: ")[2] for record in received.split(b"\0")[:-1]]
    assert numbers(lines) == list(range(500))
    (daemon.folder / "log").unlink()
    daemon.syslog = Syslog(daemon.folder / "log")
    assert daemon.stop() == (0, "")


@drill(
    "syslog takes no line from the start",
    made="no socket, a file, a socket of another kind, or one that nobody reads; one process and workers",
    client="its answers, at once",
    log="stderr says after a second that none goes, and why",
    lost="nothing up to 10 000 lines",
)
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.full)], ids=["one process", "workers"])
@pytest.mark.parametrize("trouble", ["nothing there", "a file", "nobody behind it", "another kind of socket"])
def test_syslog_that_takes_no_line_from_the_start_is_told_at_once(tmp_path, trouble, workers):
    """The administrator who sets it up sees why there is no log, not ten thousand refusals later."""
    with Daemon(tmp_path) as daemon, contextlib.ExitStack() as stack:
        daemon.make_tables("alice")
        lost = tmp_path / "lost"
        if trouble == "a file":
            lost.touch()
        elif trouble != "nothing there":
            kind = socket.SOCK_DGRAM if trouble == "nobody behind it" else socket.SOCK_SEQPACKET
            log = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX, kind)))
            log.bind(str(lost))
            if trouble == "nobody behind it":
                log.close()
        daemon.write_settings(f"workers = {workers}")
        daemon.config.write_text(daemon.config.read_text().replace(f"unix:{tmp_path}/log", f"unix:{lost}"))
        command = daemon.arguments("serve")
        with preloaded.start(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
            assert process.stderr
            line = process.stderr.readline()  # pytest's own limit is the only one: it comes without a question
            process.terminate()
            process.stderr.read()
    assert re.fullmatch(
        rf"policyd: warning: syslog unix:{lost} \([A-Z][a-z ]+\) takes no lines; they wait until it does\n", line
    )


READER = """
import select, socket, sys, time
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind(sys.argv[1])
is_slow = False
with open(sys.argv[2], "wb", buffering=0) as file:
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([sys.stdin, log], [], [])
        if sys.stdin in ready:
            command = sys.stdin.readline().strip()
            if not command:
                break
            is_slow = command == "slow"
        elif log in ready:
            file.write(log.recv(65536) + b"\\n")
            if is_slow:
                time.sleep(0.005)
"""


@drill(
    "syslog reads a tenth of what is said",
    made="100 000 decisions with a reader that sleeps 5 ms a line, 100 000 with a quick one, in turns",
    client="its answers, every one",
    log="lines + ``dropped`` = decisions, in order",
    lost="what is beyond 10 000 lines, counted exactly",
)
@pytest.mark.full
def test_hundred_thousand_decisions_with_a_slow_reader(daemon):
    """Every one is answered, though the reader is behind all the time; none is lost uncounted."""
    rounds, each, kept = 8, 12_500, daemon.folder / "kept"
    take_away(daemon)
    command = [sys.executable, "-c", READER, daemon.folder / "log", kept]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as reader:
        assert reader.stdin
        assert reader.stdout
        assert reader.stdout.readline() == "ready\n"
        asked = 0
        for _ in range(rounds):
            for pace in ("quick", "slow"):
                print(pace, file=reader.stdin)
                ask(daemon, each, asked)
                asked += each
            print("quick", file=reader.stdin)
            asked = catch_up(daemon, kept, asked)
        status, told = daemon.stop()
        reader.stdin.close()
    lines = [line.partition("]: ")[2] for line in kept.read_text().splitlines()]
    got = numbers(lines)
    daemon.syslog = Syslog(daemon.folder / "log2")
    assert got == sorted(set(got))
    assert len(got) + dropped(lines) == asked
    assert 0 < dropped(lines) < asked
    assert (status, set(told.splitlines())) == (
        0,
        {"policyd: warning: syslog takes no lines; they are dropped and counted"},
    )


def catch_up(daemon: Daemon, kept: Path, asked: int) -> int:
    """Ask until a decision gets into *kept*, behind all that waited and the count of the rest; how many are asked."""
    first = asked

    def is_there() -> bool:
        nonlocal asked
        ask(daemon, 1, asked)
        asked += 1
        with kept.open("rb") as file:
            file.seek(max(0, kept.stat().st_size - 4096))
            return any(number >= first for number in map(int, re.findall(r", instance=n(\d+),", file.read().decode())))

    until(is_there, "what waited")
    return asked
