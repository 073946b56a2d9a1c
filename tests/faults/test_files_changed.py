"""Files beside the database removed, cut off or left behind, under the running daemon: never a stale answer."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from policyd.errors import StoreWriteError
from policyd.model import Domain
from policyd.store import database
from policyd.store.connection import Database
from policyd.store.database import changing
from policyd.store.wal import has_log
from tests.faults.test_database import GOOD, MALLORY, answers, call, fill, question
from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd, OutOfStepError
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until
from tests.support.writing import editor_on


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    """A daemon that runs, with alice and a blocked sender, and has read the tables."""
    with Daemon(tmp_path) as daemon:
        fill(daemon)
        daemon.start()
        assert answers(daemon) == GOOD
        yield daemon


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Daemon]:
    """A daemon that goes through one harm after the other, and ends without a word on stderr."""
    with Daemon(tmp_path_factory.mktemp("shared")) as daemon:
        fill(daemon)
        daemon.command("database", "backup", daemon.folder / "good.db")
        daemon.start()
        yield daemon
        assert daemon.stop() == (0, "")


@pytest.fixture
def lasting(shared: Daemon) -> Daemon:
    """That daemon, with alice and the blocked sender again, that has read the tables; its log is the test's."""
    shared.command("database", "restore", shared.folder / "good.db", "--yes")
    shared.syslog.take()
    assert answers(shared) == GOOD
    until(lambda: len(shared.syslog.matching("action=")) == len(GOOD), "what is said of these")
    shared.syslog.take()
    return shared


def beside(daemon: Daemon) -> tuple[Path, Path]:
    return Path(f"{daemon.database}-wal"), Path(f"{daemon.database}-shm")


def remove(*suffixes: str) -> Callable[[Daemon], None]:
    def change(daemon: Daemon) -> None:
        for suffix in suffixes:
            Path(f"{daemon.database}{suffix}").unlink()

    return change


def move_away(daemon: Daemon) -> None:
    for each in beside(daemon):
        each.rename(f"{each}.old")


def cut_off(suffix: str, size: int) -> Callable[[Daemon], None]:
    return lambda daemon: os.truncate(f"{daemon.database}{suffix}", size)


def copy_over(daemon: Daemon) -> None:
    """What `cp -a` of a folder that was kept does, in the order of the names."""
    kept = daemon.folder / "kept"
    kept.mkdir(exist_ok=True)
    names = [daemon.database, *beside(daemon)]
    for each in names:
        shutil.copy2(each, kept)
    for each in sorted(names):
        shutil.copy2(kept / each.name, each)


CHANGES = {
    "log and index removed": remove("-wal", "-shm"),
    "log removed": remove("-wal"),
    "index removed": remove("-shm"),
    "both moved away": move_away,
    "index emptied": cut_off("-shm", 0),
    "index cut off": cut_off("-shm", 100),
    "log emptied": cut_off("-wal", 0),
    "all three copied over": copy_over,
}


@drill(
    "``-wal``, ``-shm`` or both removed, moved, cut off; all three files copied over",
    made="under the running daemon, with every answer cached",
    client="the right answers; after the next command, its effect",
)
@pytest.mark.parametrize("is_asked_between", [False, True], ids=["then a command", "asked, then a command"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_next_command_is_in_force_whatever_was_done_to_the_files(lasting, change, is_asked_between):
    """An administrator's `fix` must not leave a daemon that answers from files which are gone."""
    daemon = lasting
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        assert smtpd.ask(MALLORY) == GOOD[2]
        change(daemon)
        if is_asked_between:
            assert [smtpd.ask(each) for each in (question(), question("nobody"), MALLORY)] == GOOD
        ended = call(daemon, "sender", "unblock", "@evil.example")
        assert (ended.status, ended.err) == (0, "")
        assert smtpd.ask(MALLORY) == "DUNNO"
    assert call(daemon, "mailbox", "remove", "alice", "--yes").status == 0
    assert daemon.ask(question()).startswith("REJECT 5.1.1")
    assert call(daemon, "database", "check").status == 0


@drill(
    "``-wal`` or ``-shm`` removed while a command writes",
    made="``unlink`` in its transaction",
    client="answers go on",
    lost="nothing; the command changes nothing, status 74",
)
@pytest.mark.parametrize("suffixes", [("-wal", "-shm"), ("-wal",), ("-shm",), ("",)], ids=" ".join)
def test_command_whose_files_are_removed_while_it_writes_changes_nothing(lasting, suffixes):
    """What it wrote is in a file without a name: it must not say that it is done."""
    daemon = lasting
    kept = daemon.folder / "kept.db"

    def write() -> None:
        with changing(Database.at(daemon.database)) as connection:
            editor = editor_on(connection)
            editor.add_domain(Domain("example.net"))
            shutil.copy(daemon.database, kept)
            remove(*suffixes)(daemon)

    with pytest.raises(StoreWriteError) as caught:
        write()
    assert "nothing was changed: do it again" in str(caught.value)
    if suffixes == ("",):
        kept.rename(daemon.database)
    assert answers(daemon) == GOOD
    assert call(daemon, "domain", "list").out.count("\n") == 1
    assert call(daemon, "domain", "add", "example.net").status == 0


CUT = """
import os, sys
while True:
    try:
        os.truncate(sys.argv[1], 0)
    except FileNotFoundError:
        pass
"""


@contextmanager
def cutting_off_the_index(daemon: Daemon) -> Iterator[None]:
    """Somebody cuts it off again and again, so that it happens while it is read, too."""
    with subprocess.Popen([sys.executable, "-c", CUT, beside(daemon)[1]]) as cutting:
        try:
            yield
        finally:
            cutting.kill()


def ask_whatever_comes(daemon: Daemon) -> None:
    with suppress(OSError, OutOfStepError):  # no answer, or no daemon
        assert daemon.ask(MALLORY) == GOOD[2]


@drill(
    "``-shm`` cut off while a worker reads it",
    made="``truncate`` again and again, until the kernel ends a worker with SIGBUS",
    client="hang-ups, and the right answers of the others",
    log="``a worker ended: SIGBUS``",
    lost="nothing: it is replaced",
)
def test_worker_that_reads_an_index_cut_off_meanwhile_is_replaced(tmp_path):
    """The kernel ends it with SIGBUS: Postfix asks again, and is answered; never wrongly."""
    with Daemon(tmp_path) as daemon:
        daemon.write_settings("workers = 2")
        fill(daemon)
        daemon.start()
        with cutting_off_the_index(daemon):
            deadline = time.monotonic() + LIMIT_SECONDS
            while not daemon.syslog.matching("a worker ended: SIGBUS"):
                assert time.monotonic() < deadline
                ask_whatever_comes(daemon)
        until(lambda: len(daemon.syslog.matching("event=started")) > 2, "another worker")
        assert answers(daemon) == GOOD
        assert call(daemon, "sender", "unblock", "@evil.example").status == 0
        assert daemon.ask(MALLORY) == "DUNNO"
        assert call(daemon, "database", "check").status == 0
        assert daemon.stop()[0] == 0


@drill(
    "``-shm`` cut off while the only process reads it",
    made="``truncate`` again and again, with ``workers = 1``, until the kernel ends it with SIGBUS",
    client="connections wait for systemd to start it again",
    log="nothing of its own; systemd tells of the signal",
)
def test_daemon_without_workers_ends_for_systemd_to_start_it_again(daemon):
    """It must not hang there, neither alive nor dead; and the next one finds everything as it was."""
    with cutting_off_the_index(daemon):
        assert daemon.process is not None
        deadline = time.monotonic() + LIMIT_SECONDS
        while daemon.process.poll() is None:
            assert time.monotonic() < deadline
            ask_whatever_comes(daemon)
    status, told = daemon.ended()
    assert (status, "Traceback" in told) == (-signal.SIGBUS, False)
    unit = Path(__file__).parents[2] / "contrib" / "systemd" / "policyd.service"
    assert {"Restart=always", "StartLimitIntervalSec=0"} < {*unit.read_text().splitlines()}
    daemon.start()
    assert answers(daemon) == GOOD


# --- A log that another file left behind ---


def kill_after_the_commit(daemon: Daemon, *words: str) -> None:
    """A command that is killed when its change is committed, and still in the log."""

    def type_and_be_killed() -> None:
        database.empty_log = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        keeps_open = sqlite3.connect(daemon.database)
        keeps_open.execute("SELECT count(*) FROM domain").fetchall()
        daemon.command(*words)

    killed = multiprocessing.get_context("fork").Process(target=type_and_be_killed)
    killed.start()
    killed.join(LIMIT_SECONDS)
    assert killed.exitcode == -9
    assert beside(daemon)[0].stat().st_size > 0


def at_rest(tmp_path: Path) -> Daemon:
    daemon = Daemon(tmp_path)
    fill(daemon)
    daemon.command("database", "backup", daemon.folder / "monday.db")
    return daemon


@drill(
    "a log that another file left behind",
    made="SIGKILL between commit and checkpoint, then ``mv`` or ``cp`` of a backup, or of another database",
    client="hang-up",
    log="``… is another database's …``",
    lost="nothing; status 69 of all commands, ``database restore`` repairs it",
)
@pytest.mark.parametrize("way", ["mv", "cp", "mv of another database", "mv of a later backup"])
def test_log_of_another_file_is_refused(tmp_path, way):
    """Its pages among this file's are a database that never was: the restriction gone, and `check` says sound."""
    with at_rest(tmp_path) as daemon:
        daemon.command("mailbox", "restrict", "alice")
        backup = daemon.folder / "monday.db"
        if way == "mv of another database":
            backup = daemon.folder / "other.db"
            daemon.command("domain", "add", "example.org", database=backup)
        if way == "mv of a later backup":
            backup = daemon.folder / "later.db"
            daemon.command("database", "backup", backup)
        kill_after_the_commit(daemon, "mailbox", "lift", "alice")
        if way == "cp":
            shutil.copy(backup, daemon.database)
        else:
            backup.rename(daemon.database)
        before = daemon.database.read_bytes()
        for words in (["mailbox", "list"], ["database", "check"], ["domain", "add", "example.net"]):
            ended = call(daemon, *words)
            assert (ended.status, ended.out, ended.err.count("\n")) == (69, "", 1), ended
            assert "policyd.db-wal, is another database's" in ended.err
            assert "policyd database restore FILE" in ended.err
        assert daemon.database.read_bytes() == before
        status, told = daemon.refuse()
        assert (status, told.count("\n")) == (69, 1)
        good = daemon.folder / "good.db"
        shutil.copy(daemon.database, good)
        assert call(daemon, "database", "restore", good, "--yes").status == 0
        assert call(daemon, "database", "check").status == 0
        kept = Path(f"{daemon.database}.before-1")
        assert kept.read_bytes() == before
        assert Path(f"{kept}-wal").exists()


@drill(
    "a log that a killed command left",
    made="SIGKILL between commit and checkpoint, three times",
    client="the committed state",
)
def test_own_log_of_a_killed_command_is_taken(tmp_path):
    """What was committed is in force, though it is only in the log: after one kill, and after some in a row."""
    with at_rest(tmp_path) as daemon:
        for number in range(3):
            kill_after_the_commit(daemon, "domain", "add", f"d{number}.example")
        assert call(daemon, "domain", "list").out.count("\n") == 4
        assert call(daemon, "database", "check").status == 0
        assert call(daemon, "domain", "add", "example.net").status == 0


@drill(
    "a log that a killed command left, and nothing is asked",
    made="SIGKILL between commit and checkpoint; then nobody asks, then a reader",
    lost="nothing: the log is emptied",
)
def test_log_of_a_killed_command_is_emptied_by_the_idle_daemon_and_by_readers(daemon):
    """Else it waits for a file to be moved beside it; for a night in which nothing is asked."""
    kill_after_the_commit(daemon, "domain", "add", "example.net")
    until(lambda: not has_log(daemon.database), "the daemon to empty the log")
    assert daemon.stop() == (0, "")
    kill_after_the_commit(daemon, "domain", "add", "example.org")
    assert call(daemon, "domain", "list").out.count("\n") == 3
    assert not has_log(daemon.database)


@drill(
    "a backup is looked at",
    made="``database check`` and three readers",
    lost="nothing: no file is left beside it",
)
def test_check_of_a_backup_leaves_nothing_beside_it(tmp_path):
    """A `-wal` there would be taken along, or left behind, by whoever moves the backup."""
    with at_rest(tmp_path) as daemon:
        folder = daemon.folder / "backups"
        folder.mkdir()
        copy = folder / "monday.db"
        (daemon.folder / "monday.db").rename(copy)
        before = copy.stat().st_mtime_ns, copy.read_bytes()
        for words in (["database", "check"], ["mailbox", "list"], ["export"], ["database", "stats"]):
            assert call(daemon, "--database", copy, *words).status == 0
            assert [each.name for each in folder.iterdir()] == ["monday.db"]
        assert (copy.stat().st_mtime_ns, copy.read_bytes()) == before


# --- Rows that policyd would never write ---

ODD = {
    "a domain's unlisted": "UPDATE domain SET unlisted = 'maybe'",
    "a mailbox's receive": "UPDATE mailbox SET receive = 'friends'",
    "a blocked sender's recipients": "UPDATE blocked_sender SET recipients = 'some'",
    "recipients beside nobody": "UPDATE blocked_sender SET recipients = NULL",
}


@drill(
    "a row that policyd would never write",
    made="``PRAGMA ignore_check_constraints``",
    client="hang-up",
    log="``hung up: the database has a row that policyd did not write``",
)
@pytest.mark.parametrize("statement", ODD.values(), ids=ODD)
def test_row_that_policyd_did_not_write_gives_no_answer_and_no_traceback(lasting, statement):
    """No answer can come from it; and the line says where to look."""
    daemon = lasting
    with closing(sqlite3.connect(daemon.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(statement)
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        smtpd.send(MALLORY)
        smtpd.must_hang_up()
    assert "see: policyd database check" in daemon.syslog.wait_for("hung up")
    assert not daemon.syslog.matching("Traceback")
    assert not daemon.syslog.matching("internal error")
    for words in (["domain", "list"], ["mailbox", "list"], ["sender", "list"], ["export"]):
        assert call(daemon, *words).status in (0, 69)
