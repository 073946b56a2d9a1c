"""The database in trouble, under a running daemon: never an invented answer, and no restart once it is repaired."""

import contextlib
import os
import pwd
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from policyd.cli import main
from policyd.store.schema import VERSION
from tests.support import preloaded
from tests.support.command_line import Ended
from tests.support.disks import fill_up, small_disk
from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd, OutOfStepError, request
from tests.support.required import as_root
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until

UNLISTED = "REJECT 5.1.1 This address does not receive mail"
BLOCKED = "REJECT 5.7.1 This sender may not write to this recipient"


def question(recipient: str = "alice", sender: str = "joe@example.net") -> bytes:
    return request(recipient=f"{recipient}@example.com", sender=sender)


MALLORY = question(sender="mallory@evil.example")  # whom a lost table would let in


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    """A daemon that runs, with alice, and with a blocked sender."""
    with Daemon(tmp_path) as daemon:
        fill(daemon)
        daemon.start()
        yield daemon


def fill(daemon: Daemon) -> None:
    daemon.make_tables("alice")
    daemon.command("sender", "block", "@evil.example")


def call(daemon: Daemon, *words: str | Path) -> Ended:
    """How a command ends, called in this process, which is quicker."""
    done = CliRunner().invoke(main, list(map(str, ["--config", daemon.config, *words])))
    return Ended(done.exit_code, done.stdout, done.stderr)


def answers(daemon: Daemon) -> list[str]:
    return [daemon.ask(each) for each in (question(), question("nobody"), MALLORY)]


GOOD = ["DUNNO", UNLISTED, BLOCKED]


def must_not_answer(daemon: Daemon) -> None:
    for each in (question(), question("nobody"), MALLORY):
        with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
            smtpd.send(each)
            smtpd.must_hang_up()


def back_up(daemon: Daemon) -> Path:
    copy = daemon.folder / "backup.db"
    daemon.command("database", "backup", copy)
    return copy


# --- Files that are spoiled, and repaired ---


def truncate(size: int | None) -> Callable[[Path], None]:
    return lambda database: os.truncate(database, size if size is not None else database.stat().st_size // 2)


def overwrite(first: int) -> Callable[[Path], None]:
    """Garbage in place, from one byte on: past the header, too."""

    def spoil(database: Path) -> None:
        length = database.stat().st_size - first
        with database.open("r+b") as opened:
            opened.seek(first)
            opened.write(os.urandom(length))

    return spoil


def set_version(version: int) -> Callable[[Path], None]:
    def spoil(database: Path) -> None:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")

    return spoil


FAULTS = {
    "deleted": (Path.unlink, "there is no database; make it with: policyd database create"),
    "truncated to nothing": (truncate(0), "not a policyd database"),
    "truncated to a page": (truncate(4096), "damaged"),
    "truncated to half": (truncate(None), "damaged"),
    "overwritten": (overwrite(0), "not a policyd database, or damaged"),
    "overwritten but for its first page": (overwrite(4096), "damaged"),
    "from a newer policyd": (set_version(VERSION + 1), f"made by a newer policyd (tables version {VERSION + 1}"),
    "from an older policyd": (set_version(VERSION - 1), f"has tables of version {VERSION - 1}, and this policyd"),
}


@drill(
    "the database file is deleted",
    made="``unlink`` under the running daemon",
    client="hang-up without an answer (Postfix: default_action), until a backup is moved into place",
    log=(
        "``hung up: …: there is no database; make it with: policyd database create`` once, then ``event=recovered, "
        "unanswered=N``"
    ),
    lost="nothing that is in the backup",
    case="deleted",
)
@drill(
    "the file is truncated in place",
    made="``truncate`` under the running daemon, which has every answer cached",
    client="hang-up at the very next question",
    log=(
        "``hung up: …: not a policyd database`` or ``… damaged: … restore it from a backup``, once; ``event=recovered``"
    ),
    lost="nothing that is in the backup",
    case="truncated to nothing / to a page / to half",
)
@drill(
    "garbage written over the file in place",
    made="random bytes from the start, or from page 2 on",
    client="hang-up at the very next question",
    log="``hung up: …: not a policyd database, or damaged`` once; ``event=recovered``",
    lost="nothing that is in the backup",
    case="overwritten / but for its first page",
)
@drill(
    "tables of another version",
    made="``PRAGMA user_version``",
    client="hang-up",
    log=(
        f"``hung up: …: made by a newer policyd (tables version {VERSION + 1}…)`` / ``has tables of version 1, and "
        f"this policyd needs version {VERSION}; type: policyd database upgrade`` once; ``event=recovered``"
    ),
    case="from a newer / an older policyd",
)
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(*FAULTS[name], id=name, marks=[] if "truncated" in name else pytest.mark.full)  # cf. test_daemon
        for name in FAULTS
    ],
)
def test_spoiled_database_gives_no_answer_until_a_backup_is_moved_over_it(daemon, spoil, reason):
    """Asked before, with every answer kept in memory; at the very next question there is none, until it is repaired."""
    copy = back_up(daemon)
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        assert [smtpd.ask(each) for each in (question(), question("nobody"), MALLORY)] == GOOD
        spoil(daemon.database)
        smtpd.send(MALLORY)
        smtpd.must_hang_up()
    must_not_answer(daemon)
    daemon.syslog.wait_for(reason.replace(", ", "\\x2c "))
    ended = call(daemon, "domain", "add", "example.net")
    assert (ended.status, ended.err.count("\n")) == (0, 0) if spoil is Path.unlink else (69, 1), ended
    copy.rename(daemon.database)
    assert answers(daemon) == GOOD
    assert daemon.syslog.wait_for("event=recovered") == "event=recovered, unanswered=4"
    warnings = daemon.syslog.matching("hung up")
    assert len(warnings) <= 2, "where the first look finds other words than the next, they are told, too"
    assert call(daemon, "database", "check") == Ended(0, "", "")
    assert daemon.stop() == (0, "")


@drill(
    "the database is away for long, under load",
    made="file renamed; 120 connections ask",
    client="hang-up each time",
    log="one warning, at the end ``event=recovered, unanswered=120``",
)
def test_long_trouble_is_told_once_and_its_end_too(daemon):
    """A hundred smtpd processes ask again every second; the log must stay readable on that night."""
    count = 40
    hidden = daemon.database.rename(daemon.folder / "hidden.db")
    for _ in range(count):
        must_not_answer(daemon)
    daemon.ask(request(protocol_state="VRFY"))  # needs no table, and is no sign of anything
    hidden.rename(daemon.database)
    assert answers(daemon) == GOOD
    assert daemon.syslog.wait_for("event=recovered") == f"event=recovered, unanswered={3 * count}"
    assert len(daemon.syslog.matching("hung up")) == 1
    daemon.database.rename(hidden)
    must_not_answer(daemon)
    until(lambda: len(daemon.syslog.matching("hung up")) == 2, "a warning about the next trouble")


@drill(
    "a backup is copied over the open file (``cp``), 30 times under load",
    made="truncate and write in pieces, alternating two files with their rows on different pages",
    client="the right answer, or a hang-up; never DUNNO for a blocked sender",
    log="``hung up: …`` once while it lasts; ``event=recovered``",
)
def test_copy_over_the_open_file_never_lets_the_blocked_in(daemon):
    """`cp` of a backup is wrong, and done: each answer meanwhile is that of a whole file, or there is none.

    The other file has its rows on other pages, so that what SQLite remembers of the first one leads astray.
    """
    copies = [daemon.folder / f"{number}.db" for number in range(2)]
    for copy in copies:
        fill_with_patterns(back_up(daemon), copy, is_reversed=copy == copies[1])
    is_done = threading.Event()
    answered: list[str] = []

    def ask_on() -> None:
        number = 0
        while not is_done.is_set():
            with contextlib.suppress(OutOfStepError), FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
                while not is_done.is_set():
                    number = (number + 7) % PATTERNS
                    answered.append(smtpd.ask(question(sender=f"m{number}@{number:05}.example")))

    shutil.copy(copies[0], daemon.database.with_name("first.db"))
    daemon.database.with_name("first.db").rename(daemon.database)
    asking = threading.Thread(target=ask_on)
    asking.start()
    for number in range(30):
        wanted = len(answered) + 30
        wait_for_length(answered, wanted)
        content = copies[(number + 1) % 2].read_bytes()
        with daemon.database.open("wb") as opened:
            for start in range(0, len(content), 65536):
                opened.write(content[start : start + 65536])
                opened.flush()
    is_done.set()
    asking.join(LIMIT_SECONDS)
    assert set(answered) == {BLOCKED}
    copies[0].rename(daemon.database)
    assert answers(daemon) == GOOD


PATTERNS = 6000


def wait_for_length(grows: list[str], wanted: int) -> None:
    until(lambda: len(grows) >= wanted, f"{wanted} answers")


def fill_with_patterns(source: Path, target: Path, *, is_reversed: bool) -> None:
    """Make *target* of *source*, with many blocked senders, each of which is on another page in the reverse order."""
    source.rename(target)
    numbers = range(PATTERNS)
    entry = "INSERT INTO blocked_sender (id, pattern, recipients, reason, comment, created_at, created_by) "
    entry += "VALUES (?, ?, 'anyone', '', '', 0, 'root')"
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for number in reversed(numbers) if is_reversed else numbers:
            connection.execute(entry, (number + 10, f"@{number:05}.example"))
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")


# --- Locks ---


@drill(
    "a writer holds the lock",
    made="``BEGIN IMMEDIATE`` with uncommitted deletes, over 100 rounds of questions",
    client="answers from the state before, at once",
    lost="nothing; the next command waits and succeeds",
)
@pytest.mark.full
def test_writer_that_holds_its_lock_holds_up_no_answer(daemon):
    """An import may take a minute: answers come from the state before, at once; the next command waits its turn."""
    with closing(sqlite3.connect(daemon.database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM address")
        writer.execute("DELETE FROM blocked_sender")
        waiting = preloaded.start(daemon.arguments("mailbox", "add", "bob", "bob@example.com"))
        for _ in range(100):
            assert answers(daemon) == GOOD
        assert waiting.poll() is None
        writer.execute("ROLLBACK")
    assert waiting.wait(LIMIT_SECONDS) == 0
    assert [*answers(daemon), daemon.ask(question("bob"))] == [*GOOD, "DUNNO"]
    assert daemon.syslog.matching("hung up") == []


KILLED_WRITER = """
import os, signal, sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None)
writer.execute("PRAGMA cache_size = 1")
writer.execute("BEGIN IMMEDIATE")
writer.execute("DELETE FROM address")
many = [("%0200d" % n,) for n in range(2000)]
writer.executemany("INSERT INTO domain VALUES (?, 'reject', NULL, 'anyone', '', NULL, '')", many)
os.kill(os.getpid(), signal.SIGKILL)
"""


@drill(
    "a writer is killed in mid-transaction",
    made="SIGKILL with uncommitted pages in the write-ahead log",
    client="answers from the state before",
)
def test_writer_killed_with_half_of_its_change_in_the_log_leaves_nothing(daemon):
    """What isn't committed is nobody's, though it is on the disk already."""
    assert answers(daemon) == GOOD
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, daemon.database], check=False)
    assert killed.returncode == -9
    assert Path(f"{daemon.database}-wal").stat().st_size > 100_000
    assert answers(daemon) == GOOD
    assert call(daemon, "database", "check") == Ended(0, "", "")
    assert call(daemon, "mailbox", "add", "bob", "bob@example.com").status == 0
    assert daemon.ask(question("bob")) == "DUNNO"


# --- Disks ---


@pytest.fixture
def on_small_disk(tmp_path) -> Iterator[Daemon]:
    """A daemon that runs with its database on a disk of 400 KiB."""
    with small_disk(tmp_path / "disk") as disk, Daemon(tmp_path) as daemon:
        daemon.database = disk / "policyd.db"
        daemon.write_settings()
        fill(daemon)
        daemon.start()
        yield daemon


@drill(
    "the disk is full",
    made="tmpfs of 400 KiB, filled",
    client="answers go on",
    log="nothing from the daemon; the command: one line, status 74",
    lost="nothing; no half backup is left either",
)
@as_root
def test_full_disk_ends_a_command_with_74_and_changes_nothing(on_small_disk):
    """One line; answers go on; and with room again, everything is as it was."""
    daemon = on_small_disk
    assert answers(daemon) == GOOD
    ballast = fill_up(daemon.database.parent)
    names = [f"{number:0200}@example.com" for number in range(100)]
    ended = call(daemon, "mailbox", "add", "bob", *names)
    assert (ended.status, ended.out, ended.err.count("\n")) == (74, "", 1), ended
    assert ended.err.startswith(f"policyd: {daemon.database}: can't be written, nothing was changed: ")
    assert ended.err.endswith("; make room on the disk\n")
    assert answers(daemon) == GOOD
    assert daemon.syslog.matching("hung up") == []
    ended = call(daemon, "database", "backup", daemon.database.parent / "copy.db")
    assert (ended.status, ended.err.count("\n")) == (74, 1), ended
    assert {each.name for each in daemon.database.parent.glob("*copy*")} == set()
    ballast.unlink()
    assert call(daemon, "database", "check") == Ended(0, "", "")
    assert call(daemon, "mailbox", "add", "bob", "bob@example.com").status == 0
    assert daemon.ask(question("bob")) == "DUNNO"


@drill(
    "the disk is read-only",
    made="tmpfs remounted read-only, with and without -wal and -shm",
    client="answers go on",
    log="nothing from the daemon; a change: one line, status 74",
)
@as_root
@pytest.mark.parametrize("is_cold", [False, True], ids=["as the daemon left it", "without SQLite's files beside it"])
def test_read_only_disk_serves_what_is_on_it(on_small_disk, is_cold):
    """A daemon that starts on it answers; a command says what is wrong."""
    daemon = on_small_disk
    assert answers(daemon) == GOOD
    assert daemon.stop() == (0, "")
    if is_cold:
        for suffix in ("-wal", "-shm"):
            Path(f"{daemon.database}{suffix}").unlink()
    subprocess.run(["mount", "-o", "remount,ro", daemon.database.parent], check=True)
    daemon.start()
    assert answers(daemon) == GOOD
    ended = call(daemon, "mailbox", "add", "bob", "bob@example.com")
    assert (ended.status, ended.out, ended.err.count("\n")) == (74, "", 1), ended
    assert call(daemon, "database", "check") == Ended(0, "", "")
    subprocess.run(["mount", "-o", "remount,rw", daemon.database.parent], check=True)
    assert call(daemon, "mailbox", "add", "bob", "bob@example.com").status == 0
    assert daemon.ask(question("bob")) == "DUNNO"
    assert answers(daemon) == GOOD


# --- Permissions ---


@pytest.fixture
def of_another_user() -> Iterator[Daemon]:
    """A daemon that runs as nobody."""
    user = pwd.getpwnam("nobody")
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())  # one that others can reach
    os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        with Daemon(folder, user="nobody") as daemon:
            tables = folder / "tables"
            tables.mkdir()
            os.chown(tables, user.pw_uid, user.pw_gid)
            daemon.database = tables / "policyd.db"
            daemon.write_settings()
            fill(daemon)
            daemon.start()
            yield daemon
    finally:
        shutil.rmtree(folder)


@drill(
    "permissions are taken away",
    made="``chmod 0`` under a daemon that is not root, and a command of root's, which is refused, too",
    client="hang-up",
    log="``hung up: …`` once; ``event=recovered``",
    case="file / folder",
)
@as_root
@pytest.mark.parametrize("what", ["file", "folder"])
def test_permissions_taken_away_and_given_back(of_another_user, what):
    """By a careless `chmod -R`: no answer from a state that nobody can vouch for, and no restart afterwards."""
    daemon = of_another_user
    assert answers(daemon) == GOOD
    spoiled = daemon.database if what == "file" else daemon.database.parent
    mode = stat.S_IMODE(spoiled.stat().st_mode)
    spoiled.chmod(0)
    words = list(map(str, daemon.arguments("domain", "list")))
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    told = "(0000) keeps out nobody, who owns its folder and as whom root works on it; type: chmod u+rw"
    assert (done.returncode, told in done.stderr) == (69, True)  # root works as who is kept out
    must_not_answer(daemon)
    assert str(daemon.database) in daemon.syslog.wait_for("hung up")
    spoiled.chmod(mode)
    daemon.command("mailbox", "add", "bob", "bob@example.com")
    assert [*answers(daemon), daemon.ask(question("bob"))] == [*GOOD, "DUNNO"]


# --- Backup and restore ---


@drill(
    "the tables are wrong, a backup is moved over them",
    made="``database backup``, changes, ``mv``",
    client="the backup's answers at the next question",
    lost="what came after the backup",
)
def test_backup_is_restored_under_the_running_daemon(daemon):
    """Made under load, and moved over a database that has gone on since."""
    copy = back_up(daemon)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    daemon.command("mailbox", "remove", "alice")
    daemon.command("sender", "unblock", "@evil.example")
    assert answers(daemon) == [UNLISTED, UNLISTED, UNLISTED]
    assert {each.name for each in daemon.folder.glob("backup.db*")} == {"backup.db"}
    copy.rename(daemon.database)
    assert answers(daemon) == GOOD
    assert call(daemon, "database", "check") == Ended(0, "", "")


@drill(
    "a writer never rests",
    made="commands in a loop during three backups",
    client="answers go on",
)
@pytest.mark.full
def test_backup_while_others_write_is_of_one_moment(daemon):
    """A writer that never rests keeps no backup from ending."""
    is_done = threading.Event()

    def write_on() -> None:
        number = 0
        while not is_done.is_set():
            daemon.command("mailbox", "add", f"m{number}", f"m{number}@example.com")
            number += 1

    writing = threading.Thread(target=write_on)
    writing.start()
    try:
        for number in range(3):
            copy = daemon.folder / f"copy{number}.db"
            assert preloaded.run(daemon.arguments("database", "backup", copy)).returncode == 0
            with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as connection:
                ((mailboxes, addresses),) = connection.execute(
                    "SELECT (SELECT count(*) FROM mailbox), (SELECT count(*) FROM address)"
                ).fetchall()
            assert mailboxes == addresses
    finally:
        is_done.set()
        writing.join(LIMIT_SECONDS)


# --- Tampering ---

TAMPERED = {
    "a row's text": ("UPDATE change SET actor = 'nobody' WHERE id = 2", "change 2: its digest is not that of"),
    "a row is gone": ("DELETE FROM change WHERE id = 2", "change 3: it comes after change 1: rows are missing"),
    "the first row is gone": ("DELETE FROM change WHERE id = 1", "change 2: it comes after change 0"),
    "the end is cut off": ("DELETE FROM change WHERE id > 3", "blocked_sender @evil.example: no change in the journal"),
    "a mailbox behind its back": (
        "UPDATE mailbox SET receive = 'nobody'",
        "mailbox alice: it is not as change 2 left it; somebody changed the tables past policyd",
    ),
    "an address to another mailbox": (
        "UPDATE address SET mailbox_id = (SELECT id FROM mailbox WHERE name = 'bob')",
        "address alice@example.com: it is not as change 3 left it",
    ),
    "a block taken away": ("DELETE FROM blocked_sender", "blocked_sender @evil.example: it is not there, and change 4"),
    "an exception slipped in": (
        "INSERT INTO allowed_recipient VALUES (1, 'x@example.org', NULL, NULL)",
        "blocked_sender @evil.example: it is not as change 4 left it",
    ),
}


@drill(
    "journal rows altered, removed, cut off; rows changed past policyd",
    made="SQL on the file",
    client="what the tables say",
    log="nothing; ``database check`` names each row, status 1",
)
@pytest.mark.parametrize(("statement", "finding"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_is_found(tmp_path, statement, finding):
    """Whoever can write the file can change it; but not so that nobody notices."""
    with Daemon(tmp_path) as daemon:
        fill(daemon)
        daemon.command("mailbox", "add", "bob")
        must_find(daemon, statement, finding)


def must_find(daemon: Daemon, statement: str, finding: str) -> None:
    assert call(daemon, "database", "check") == Ended(0, "", "")
    with closing(sqlite3.connect(daemon.database, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(statement)
    ended = call(daemon, "database", "check")
    assert ended.status == 1
    assert any(line.startswith(finding) for line in ended.out.splitlines()), ended.out
    assert ended.err.startswith(f"policyd: {daemon.database}: ")
    assert ended.err.count("\n") == 1


@drill(
    "the daemon and ``database check`` at the same time",
    made="both on one file, in either order",
    client="answers go on",
)
def test_check_and_tables_agree_whoever_asks_first(daemon):
    """The daemon goes on answering while a check reads."""
    checking = preloaded.start(daemon.arguments("database", "check"))
    while checking.poll() is None:
        assert answers(daemon) == GOOD
    assert checking.returncode == 0
    until(lambda: daemon.syslog.matching("action=DUNNO"), "the answers' lines")
