"""The daemon stops, is upgraded, starts, or is killed, while a hundred processes of Postfix ask it."""

import collections
import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.activated import activated, held
from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd, OutOfStepError, request
from tests.support.randomised import a_seed
from tests.support.running_daemon import Daemon
from tests.support.waiting import until

UNLISTED = "REJECT 5.1.1 This address does not receive mail"
RETRY_SECONDS = 1.0  # smtpd_policy_service_retry_delay
TRIES = 2  # smtpd_policy_service_try_limit
THINK_SECONDS = 0.2


class Asker(threading.Thread):
    """A process of Postfix with a kept connection: question after question, each tried twice before it gives up."""

    def __init__(self, address: str, number: int, stop: threading.Event) -> None:
        super().__init__()
        self.answered = 0  # questions that got the answer they must get
        self.given_up: list[str] = []  # what a client of SMTP would see as a 451
        self.wrong: list[str] = []
        self._address = address
        self._number = number
        self._stop_asking = stop
        self._connection: FakeSmtpd | None = None

    def run(self) -> None:
        """Ask until told to stop."""
        asked = 0
        while not self._stop_asking.is_set():
            asked += 1
            self._ask(f"{self._number}.{asked}", is_listed=asked % 2 == 0)
            self._stop_asking.wait(THINK_SECONDS)
        self._hang_up()

    def _ask(self, instance: str, *, is_listed: bool) -> None:
        question = request(recipient="alice@example.com" if is_listed else "joe@example.com", instance=instance)
        for attempt in range(TRIES):
            if attempt:
                time.sleep(RETRY_SECONDS)
            try:
                self._connection = self._connection or FakeSmtpd(self._address)
                self._connection.send(question)
                answer = self._connection.read_reply()
            except (OutOfStepError, OSError) as error:
                if isinstance(error, OutOfStepError) and not str(error).endswith(" b''"):
                    self.wrong.append(f"{instance}: {error}")  # else it is an end of the connection, and no more
                self._hang_up()
                continue
            if answer == ("DUNNO" if is_listed else UNLISTED):
                self.answered += 1
            else:
                self.wrong.append(f"{instance}: {answer}")
            return
        self.given_up.append(instance)

    def _hang_up(self) -> None:
        if self._connection:
            self._connection.__exit__(None, None, None)
        self._connection = None


@contextlib.contextmanager
def asking(address: Path, count: int) -> Iterator[list[Asker]]:
    """That many, at work while the block runs."""
    end = threading.Event()
    askers = [Asker(str(address), number, end) for number in range(count)]
    for each in askers:
        each.start()
    try:
        yield askers
    finally:
        end.set()
        for each in askers:
            each.join()


def all_get_answers(askers: list[Asker]) -> None:
    """Return when each of them has had two answers more."""
    before = [each.answered for each in askers]
    until(
        lambda: all(each.answered >= old + 2 for each, old in zip(askers, before, strict=True)),
        "an answer to everybody",
    )


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that is not started yet, and knows alice@example.com."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        yield daemon


def start(daemon: Daemon, listening: socket.socket, workers: int) -> None:
    """Start it as systemd does."""
    daemon.start(daemon.arguments("serve", "--workers", str(workers)), [listening.fileno()], activated(listening))


def stop(daemon: Daemon) -> int:
    """Stop it; how many lines it could not log at the end, since this process read them too slowly."""
    status, told = daemon.stop()
    assert status == 0
    return sum(map(int, re.findall(r"dropped=(\d+)", told)))


def check_answered_once(daemon: Daemon, askers: list[Asker], missing: int) -> None:
    """Nobody gave up, and each question was decided exactly once, by the log, in which *missing* lines are missing."""
    assert [each.given_up for each in askers if each.given_up] == []
    assert [each.wrong for each in askers if each.wrong] == []
    lines = daemon.syslog.matching("action=")
    decided = collections.Counter(re.search(r"instance=([\d.]+)", line)[1] for line in lines)  # type: ignore[index]
    assert [instance for instance, times in decided.items() if times > 1] == []
    missing += sum(int(line.rpartition("dropped=")[2]) for line in daemon.syslog.matching("dropped="))
    assert len(decided) + missing == sum(each.answered for each in askers)
    assert [line for line in daemon.syslog.matching("warning=") if "dropped=" not in line] == []


@drill(
    "the daemon is stopped, upgraded and started, five times, under 100 kept connections",
    made=(
        "SIGTERM and a new process on a listening socket that the test holds, as systemd does; 1 process and 3 workers"
    ),
    client="the answer, at most a second late",
    log="``event=stopped``, ``event=started``; each question exactly once",
)
@pytest.mark.full
@pytest.mark.parametrize("workers", [1, 3])
def test_restart_under_load_loses_no_question_and_answers_none_twice(daemon, workers):
    """The socket is systemd's. A question that the old daemon did not read is read by the new one."""
    given, missing = daemon.folder / "given.sock", 0
    with held(given) as listening:
        start(daemon, listening, workers)
        with asking(given, 100) as askers:
            for _ in range(5):
                all_get_answers(askers)
                missing += stop(daemon)
                start(daemon, listening, workers)
            all_get_answers(askers)
        missing += stop(daemon)
    check_answered_once(daemon, askers, missing)


@drill(
    "``kill -9`` of the daemon at random moments under load",
    made=(
        "SIGKILL five times, moments by a printed seed (POLICYD_SEED); socket held by the test; 1 process and 3 workers"
    ),
    client="the answer, late by a second and the start",
    log="``event=started`` of the successor",
    lost="nothing (lines of answers that were on their way may be there twice)",
    case="systemd's socket",
)
@drill(
    "``kill -9`` of a daemon without systemd: a stale socket file is in the way",
    made="SIGKILL five times, the socket file stays",
    client="``default_action`` until the successor runs, which is served by at once",
    log="``event=started`` of the successor",
    case="a socket of its own",
)
@pytest.mark.full
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("is_held", [True, False], ids=["systemd's socket", "a socket of its own"])
def test_killed_daemon_has_a_successor_that_serves_at_once(daemon, is_held, workers):
    """At any moment, under load. With systemd's socket nobody who asks Postfix notices; else the stale file goes."""
    chance = random.Random(a_seed())
    given = daemon.folder / "given.sock"
    daemon.write_settings(listen=[f"unix:{given}"])
    with ExitStack() as stack:
        listening = stack.enter_context(held(given)) if is_held else None

        def launch() -> None:
            if listening:
                start(daemon, listening, workers)
            else:
                daemon.start(daemon.arguments("serve", "--workers", str(workers)))

        launch()
        with asking(given, 100) as askers:
            for _ in range(5):
                all_get_answers(askers)
                time.sleep(chance.uniform(0, 0.3))  # the random moment
                daemon.tell(9)
                assert daemon.ended()[0] == -9
                assert given.is_socket()
                launch()
                with FakeSmtpd(str(given)) as smtpd:
                    assert smtpd.ask(request(recipient="joe@example.com")) == UNLISTED
            all_get_answers(askers)
        stop(daemon)
    assert [each.wrong for each in askers if each.wrong] == []
    if is_held:
        assert [each.given_up for each in askers if each.given_up] == []
