"""The tables are upgraded while things go wrong: all of it is done or nothing, and no answer is invented meanwhile."""

import os
import pwd
import random
import shlex
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from policyd.store.schema import VERSION
from tests.faults.test_database import call, must_not_answer, question
from tests.faults.test_kill import wait_for_a_write, written_at
from tests.support.command_line import MEMORY, CommandLine, command_line
from tests.support.disks import fill_up, small_disk
from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd
from tests.support.few import few
from tests.support.first_edition import content_of, make_first_edition
from tests.support.randomised import a_seed
from tests.support.required import as_root
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until

MAILBOXES = 3000
MANY = (
    "CREATE TABLE n AS WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n LIMIT 3000) SELECT i FROM n",
    "INSERT INTO mailbox SELECT i, 'm' || i, 'm' || i, 'anyone', '', NULL, '' FROM n",
    "INSERT INTO address SELECT 'm' || i || '@example.com', i, 1 FROM n",
    "DROP TABLE n",
)
OUTDATED = f"has tables of version 1, and this policyd needs version {VERSION}; type: policyd database upgrade"


@pytest.fixture
def policyd() -> Iterator[CommandLine]:
    """The command line, on a database of the first edition."""
    with command_line() as policyd:
        make_first_edition(policyd.database)
        yield policyd


def kept_by(policyd: CommandLine) -> Path:
    return Path(f"{policyd.database}.before-1")


def version_of(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


# --- The daemon ---


@drill(
    "the tables are upgraded under a daemon that is not",
    made="one process, and two workers; the tables get another version in one transaction",
    client="hang-up until the daemon is restarted",
    log="``hung up: …: made by a newer policyd …; install that policyd and restart the daemon``, once a process",
)
@pytest.mark.parametrize("workers", [1, 2])
def test_daemon_under_upgraded_tables_hangs_up_until_it_is_restarted(tmp_path, workers):
    """It would take a row for something else. It says so once, not with every question."""
    with Daemon(tmp_path) as daemon, ExitStack() as stack:
        daemon.write_settings(f"workers = {workers}")
        daemon.make_tables("alice")
        daemon.start()
        until(lambda: len(daemon.syslog.matching("event=started")) >= workers, "all workers")
        kept = [stack.enter_context(FakeSmtpd(os.fspath(daemon.socket))) for _ in range(2 * workers)]
        assert [each.ask(question()) for each in kept] == ["DUNNO"] * len(kept)
        with closing(sqlite3.connect(daemon.database, isolation_level=None)) as newer:
            newer.execute("BEGIN IMMEDIATE")
            newer.execute("ALTER TABLE mailbox RENAME COLUMN receive TO receives")
            newer.execute(f"PRAGMA user_version = {VERSION + 1}")
            newer.execute("COMMIT")
        for each in kept:
            each.send(question())
            each.must_hang_up()
        must_not_answer(daemon)
        line = (
            f"made by a newer policyd (tables version {VERSION + 1}\\x2c this one knows {VERSION}); "
            "install that policyd and restart the daemon\\x2c or restore a backup"
        )
        warnings = daemon.syslog.matching("hung up")
        assert len(warnings) == workers
        assert all(line in each for each in warnings)
        daemon.stop()


@drill(
    "policyd is upgraded, its database is not",
    made="``serve`` on a database of the first edition, with and without workers, and on stdin",
    client="no answer: the daemon does not start",
    log="stderr: one line with the command to type, status 69",
)
@pytest.mark.parametrize("words", [(), ("--workers", "2"), ("--stdio",)], ids=["one process", "workers", "stdio"])
def test_daemon_on_older_tables_ends_with_the_command_to_type(tmp_path, words):
    """Rather than listen and never answer."""
    with Daemon(tmp_path) as daemon:
        make_first_edition(daemon.database)
        assert daemon.refuse(*words) == (69, f"policyd: {daemon.database}: {OUTDATED}\n")
        assert not daemon.socket.exists()


@drill(
    "an older backup is moved over the tables, then upgraded",
    made="``mv`` and ``database upgrade`` under the running daemon",
    client="hang-up, and after the command its answers",
    log="``hung up: …; type: policyd database upgrade`` once, then ``event=recovered``",
    lost="nothing",
)
def test_daemon_answers_again_when_its_tables_are_upgraded(tmp_path):
    """A daemon of this version needs no restart: the next question sees what the command did."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        daemon.start()
        assert daemon.ask(question()) == "DUNNO"
        older = daemon.folder / "older.db"
        make_first_edition(older)
        older.rename(daemon.database)
        for _ in range(3):
            must_not_answer(daemon)
        (warning,) = daemon.syslog.matching("hung up")
        assert OUTDATED.replace(",", "\\x2c") in warning
        assert call(daemon, "database", "upgrade").status == 0
        assert [daemon.ask(question(name)) for name in ("alice", "nobody", "boss")] == [
            "DUNNO",
            "REJECT 5.1.1 This address does not receive mail",
            "REJECT 5.7.1 This mailbox does not take mail from this sender: Bitte ans Buero",
        ]
        daemon.syslog.wait_for("event=recovered")
        daemon.syslog.wait_for("operation=database.upgrade")


@drill(
    "SIGHUP while the tables have another version",
    made="older tables moved there, or a newer version written; one process, and two workers; other settings",
    client="hang-up, as before it; answers by the old settings once the tables are right, by the new ones after SIGHUP",
    log="``the settings stay as they were: …`` with what to type, once a SIGHUP, and no second ``hung up``",
)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("version", [1, VERSION + 1], ids=["older", "newer"])
def test_sighup_on_tables_of_another_version_keeps_the_daemon_and_its_settings(tmp_path, workers, version):
    """A package's script may reload before it upgrades, or by mistake after: neither may end what mail waits for."""
    with Daemon(tmp_path) as daemon:
        daemon.write_settings(f"workers = {workers}")
        daemon.make_tables("alice")
        daemon.start()
        until(lambda: len(daemon.syslog.matching("event=started")) >= workers, "all workers")
        right = daemon.folder / "right.db"
        daemon.command("database", "backup", right)
        if version == 1:
            make_first_edition(daemon.folder / "older.db")
            (daemon.folder / "older.db").rename(daemon.database)
        else:
            with closing(sqlite3.connect(daemon.database)) as newer:
                newer.execute(f"PRAGMA user_version = {version}")
        for _ in range(workers):
            must_not_answer(daemon)

        # With what is wrong in the tables, what is right in the settings waits; whoever asks again hears of both.
        problem = OUTDATED if version == 1 else f"made by a newer policyd (tables version {version}, "
        daemon.write_settings(f"workers = {workers}", 'mode = "monitor"')
        for _ in range(2):
            told = daemon.reload("the settings stay as they were")
            assert problem.replace(",", "\\x2c") in told
        for _ in range(workers):
            must_not_answer(daemon)
        assert len(daemon.syslog.matching("the settings stay as they were")) == 2
        assert 1 <= len(daemon.syslog.matching("hung up")) <= workers  # once a process that was asked

        # The tables are right again: the same processes answer, and another SIGHUP takes the settings.
        words = ("upgrade",) if version == 1 else ("restore", "--yes", right)
        ended = call(daemon, "database", *words)
        assert ended.status == 0, ended
        refusal = "REJECT 5.1.1 This address does not receive mail"
        assert [daemon.ask(question("nobody")) for _ in range(2 * workers)] == [refusal] * 2 * workers
        assert not daemon.syslog.matching("event=reloaded")
        daemon.reload()
        until(lambda: len(daemon.syslog.matching("event=reloaded")) >= workers, "all workers to read their settings")
        assert [daemon.ask(question("nobody")) for _ in range(2 * workers)] == ["DUNNO"] * 2 * workers
        assert len(daemon.syslog.matching("event=started")) == workers
        assert daemon.stop() == (0, "")


# --- Killed ---


@drill(
    "``kill -9`` in the middle of an upgrade",
    made="at random moments, most of them while it writes",
    lost="nothing: the tables are the old ones, whole, or the new ones; the next upgrade ends well",
)
@pytest.mark.parametrize("runs", [3, pytest.param(60, marks=pytest.mark.full)])
def test_killed_upgrade_leaves_the_old_tables_or_the_new_ones(runs):
    """A machine that goes off meanwhile does the same."""
    dice = random.Random(seed := a_seed())
    with command_line() as policyd:
        make_first_edition(policyd.database, *MANY)
        template = policyd.database.rename(policyd.folder / "template")
        before = content_of(template)
        for _ in range(runs):
            shutil.copy(template, policyd.database)
            process = policyd.start(["database", "upgrade"])
            wait_for_a_write(policyd.database, process, written_at(policyd.database))
            try:
                process.wait(dice.choice([0, dice.uniform(0, 0.3)]))
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate(timeout=LIMIT_SECONDS)
            must_be_old_or_new(policyd, before, seed)
            for each in policyd.folder.glob("*policyd.db*"):
                each.unlink()


def must_be_old_or_new(policyd: CommandLine, before: list[str], seed: int) -> None:
    """The tables are whole, of one version or the other; and a next upgrade makes them new ones."""
    if version_of(policyd.database) == 1:
        assert content_of(policyd.database) == before, seed
    assert policyd.ends("database upgrade").status in (0, 1), seed  # the check that follows misses MANY in the journal
    assert version_of(policyd.database) == VERSION, seed
    ((mailboxes, addresses, integrity),) = policyd.rows(
        "SELECT (SELECT count(*) FROM mailbox), (SELECT count(*) FROM address), "
        "(SELECT group_concat(integrity_check) FROM pragma_integrity_check)"
    )
    assert (mailboxes, addresses, integrity) == (22 + MAILBOXES, 24 + MAILBOXES, "ok"), seed
    assert content_of(kept_by(policyd)) == before, seed
    assert [each.name for each in policyd.folder.iterdir() if "draft" in each.name] == []


# --- Disks and folders ---


@drill(
    "the disk gets full during an upgrade",
    made="tmpfs, with room for nothing, for a part of the backup, for the backup, and for all of it but a page",
    log="stderr: one line, status 74",
    lost="nothing: the tables are as they were; no half backup is left either",
)
@as_root
@pytest.mark.parametrize("step", few([12_288, 49_152], 49_152))
def test_upgrade_on_a_full_disk_changes_nothing(tmp_path, step):
    """Wherever it gets full, until there is room enough."""
    with small_disk(tmp_path / "disk", 800) as disk, command_line() as policyd:
        database = disk / "policyd.db"
        make_first_edition(database)
        before = content_of(database)
        ballast = fill_up(disk)
        ends: list[int] = []
        while not ends or ends[-1] != 0:
            ended = policyd.ends(f"database upgrade --database {database}")
            ends.append(ended.status)
            if ended.status:
                assert (ended.status, ended.out, ended.err.count("\n")) == (74, "", 1), ended
                assert ended.err.endswith("; make room on the disk\n")
                shutil.copy(database, tmp_path / "copy.db")  # to look at it there, SQLite had no room
                assert content_of(tmp_path / "copy.db") == before
                assert [each.name for each in disk.iterdir() if "before" in each.name or "draft" in each.name] == []
                os.truncate(ballast, ballast.stat().st_size - step)
        assert len(ends) > 5
        ballast.unlink()
        assert content_of(Path(f"{database}.before-1")) == before
        assert policyd.ends(f"database check --database {database}").status == 0


@drill(
    "the disk is read-only when the tables are to be upgraded",
    made="tmpfs remounted read-only",
    log="stderr: one line, status 74",
)
@as_root
def test_upgrade_on_a_read_only_disk_is_refused(tmp_path):
    """The line says what to do."""
    with small_disk(tmp_path / "disk") as disk, command_line() as policyd:
        database = disk / "policyd.db"
        make_first_edition(database)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        told = policyd.refuses(f"database upgrade --database {database}", 74)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert told == f"policyd: {database}: can't be written, nothing was changed: its disk is read-only; remount it"


@drill(
    "the folder is read-only for its owner",
    made="mode 0555, as root, who works as its owner",
    log="stderr: one line, status 74 or 69",
)
@as_root
def test_upgrade_in_a_read_only_folder_is_refused(folder_of_nobody):
    """Root does not write where the owner of the folder could not."""
    folder = folder_of_nobody
    database = folder / "policyd.db"
    before = content_of(database)
    for each in folder.iterdir():
        os.chown(each, pwd.getpwnam("nobody").pw_uid, -1)
    folder.chmod(0o555)
    with command_line() as policyd:
        ended = policyd.ends(f"database upgrade --database {database}")
    assert (ended.out, ended.err.count("\n")) == ("", 1), ended
    assert ended.status in (69, 74)
    folder.chmod(0o755)
    assert content_of(database) == before
    assert version_of(database) == 1


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder of the user nobody's, with a database of the first edition."""
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        folder.chmod(0o755)
        make_first_edition(folder / "policyd.db")
        for each in (folder, *folder.iterdir()):
            os.chown(each, nobody.pw_uid, nobody.pw_gid)
        yield folder


@drill(
    "root upgrades the tables of the daemon's user",
    made="in a folder of nobody's",
    lost="nothing: every file is that user's",
)
@as_root
def test_root_upgrades_as_the_owner_of_the_folder(folder_of_nobody):
    """The daemon could not read a file of root's; and nothing planted there is opened as root."""
    folder = folder_of_nobody
    with command_line() as policyd:
        policyd.run(f"database upgrade --database {folder / 'policyd.db'}")
    nobody = pwd.getpwnam("nobody")
    owners = {each.name: (each.stat().st_uid, each.stat().st_gid) for each in folder.iterdir()}
    assert owners["policyd.db.before-1"] == (nobody.pw_uid, nobody.pw_gid)
    assert {*owners.values()} == {(nobody.pw_uid, nobody.pw_gid)}


# --- Others at work ---


@drill(
    "two upgrades at once",
    made="four processes",
    lost="nothing: one upgrades, the others find it done; one backup",
)
def test_two_upgrades_at_once_are_one(policyd):
    """As the scripts of two packages."""
    before = content_of(policyd.database)
    started = [policyd.start(shlex.split("-v database upgrade")) for _ in range(4)]
    ended = [(*process.communicate(timeout=LIMIT_SECONDS), process.returncode) for process in started]
    assert [status for _, _, status in ended] == [0] * 4, ended
    assert sorted(bool(out) for out, _, _ in ended) == [False, False, False, True]
    assert sum("is up to date already" in err for _, err, _ in ended) == 3
    assert [each.name for each in policyd.folder.glob("*before*")] == [kept_by(policyd).name]
    assert content_of(kept_by(policyd)) == before
    assert policyd.rows("SELECT count(*) FROM change WHERE operation = 'database.upgrade'") == [(1,)]


@drill(
    "a command of the first edition writes while an upgrade begins",
    made="``BEGIN IMMEDIATE``, committed once the upgrade waits",
    lost="nothing: the upgrade waits, and has what was committed",
)
def test_upgrade_waits_for_a_writer_and_has_what_it_wrote(policyd):
    """The backup, too, is of the moment after it."""
    with closing(sqlite3.connect(policyd.database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO domain VALUES ('late.example', 'reject')")
        upgrade = policyd.start(["database", "upgrade"])
        until(lambda: waits_for_lock(upgrade, policyd.database), "the upgrade to wait")
        writer.execute("COMMIT")
    upgrade.communicate(timeout=LIMIT_SECONDS)
    assert upgrade.returncode == 1, "no change in the journal made late.example"
    for database in (policyd.database, kept_by(policyd)):
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT count(*) FROM domain WHERE name = 'late.example'").fetchone() == (1,)


def waits_for_lock(process: "subprocess.Popen[str]", database: Path) -> bool:
    """Whether the process has the database's log open: what it does next is wait for the lock."""
    links = Path(f"/proc/{process.pid}/fd")
    try:
        return any(os.readlink(each) == f"{database}-wal" for each in links.iterdir())
    except FileNotFoundError:
        return False


@drill(
    "readers while the tables are upgraded",
    made="a reader holds the state before over the whole upgrade",
    client="answers of a reader of the first edition go on from the state that it has",
)
def test_reader_of_the_old_tables_holds_up_no_upgrade(policyd):
    """As an export that runs for minutes."""
    with closing(sqlite3.connect(f"file:{policyd.database}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        (before,) = reader.execute("SELECT count(*) FROM mailbox WHERE receive = 'anyone'").fetchone()
        assert policyd.process("database upgrade").status == 0
        assert reader.execute("SELECT count(*) FROM mailbox WHERE receive = 'anyone'").fetchone() == (before,)
    assert policyd.rows("SELECT count(*) FROM mailbox WHERE receive = 'anyone'") == [(0,)]
    assert policyd.run("database check") == ""
