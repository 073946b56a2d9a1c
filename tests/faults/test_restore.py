"""The database restored from a backup while everything runs: at once, whole, and so that it can be taken back."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from policyd.store.schema import VERSION
from tests.faults.test_database import GOOD, MALLORY, UNLISTED, answers, call, fill, must_not_answer, question
from tests.support import preloaded
from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd
from tests.support.randomised import a_seed
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    """A daemon that runs, with alice and a blocked sender; there is a backup of that, and since then both are gone."""
    with Daemon(tmp_path) as daemon:
        fill(daemon)
        daemon.start()
        assert answers(daemon) == GOOD
        daemon.command("database", "backup", backup_of(daemon))
        daemon.command("mailbox", "remove", "alice")
        daemon.command("sender", "unblock", "@evil.example")
        assert answers(daemon) == GONE
        yield daemon


GONE = [UNLISTED, UNLISTED, UNLISTED]


def backup_of(daemon: Daemon) -> Path:
    return daemon.folder / "monday.db"


def restore(daemon: Daemon) -> dict[str, object]:
    """Restore the backup: what the command says of it as JSON."""
    told: dict[str, object] = json.loads(daemon.command("--json", "database", "restore", backup_of(daemon), "--yes"))
    return told


def names(daemon: Daemon) -> set[str]:
    return {each.name for each in daemon.folder.iterdir()} - {"policyd.toml", "policy.sock", "log"}


@drill(
    "the tables are restored from a backup",
    made="``database restore`` under the running daemon",
    client="the backup's answers at the next question",
    log="``operation=database.restore``",
    lost="nothing: what was replaced is kept beside the database",
)
def test_restored_tables_are_in_force_when_the_command_returns(daemon):
    """Without a restart, and on a connection that stands already; the change is in the journal, with its actor."""
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        assert smtpd.ask(MALLORY) == UNLISTED
        restore(daemon)
        assert [smtpd.ask(each) for each in (question(), question("nobody"), MALLORY)] == GOOD
    assert daemon.syslog.matching("hung up") == []
    assert call(daemon, "database", "check").status == 0
    (*_, last) = json.loads(daemon.command("--json", "history"))
    assert (last["operation"], last["object"]) == ("database.restore", str(backup_of(daemon)))
    assert last["id"] == last["after"]["change"] + 1
    assert last["before"]["change"] > last["after"]["change"]
    daemon.syslog.wait_for("operation=database.restore")


@drill(
    "the wrong backup was restored",
    made="``database restore`` of the file that was kept",
    client="what it was before",
    log="``operation=database.restore``",
)
def test_restore_is_taken_back_with_the_file_that_it_names(daemon):
    """Somebody takes the wrong backup: what was there is not lost."""
    daemon.command("mailbox", "add", "bob", "bob@example.com")
    told = call(daemon, "-v", "database", "restore", backup_of(daemon), "--yes").err
    kept = Path(f"{daemon.database}.before-1")
    assert f"what it replaced is in {kept}" in told
    assert answers(daemon) == GOOD
    daemon.command("database", "restore", kept, "--yes")
    assert [*answers(daemon), daemon.ask(question("bob"))] == [*GONE, "DUNNO"]
    assert Path(f"{daemon.database}.before-2").exists()
    assert call(daemon, "database", "check").status == 0


@drill(
    "somebody undoes a restore",
    made="``undo`` of its changeset",
    lost="nothing; the line names the command that takes it back",
)
def test_undo_of_a_restore_names_the_command_that_takes_it_back(daemon):
    """Object by object it can't be."""
    told = restore(daemon)
    ended = call(daemon, "undo", str(told["changeset"]))
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert f"policyd database restore {daemon.database}.before-1" in ended.err


@drill(
    "a restore nobody was asked about",
    made="without a terminal and ``--yes``",
    lost="nothing; status 2",
)
def test_restore_is_asked_for(daemon):
    """Where nobody can be asked, nothing happens without --yes."""
    ended = call(daemon, "database", "restore", backup_of(daemon))
    assert ended.status == 2
    assert "Add --yes." in ended.err
    assert answers(daemon) == GONE


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE domain (name TEXT)")


def sql(*statements: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            for each in statements:
                connection.execute(each)

    return spoil


def overwrite(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.seek(8192)
        opened.write(b"\xff" * 8192)


def with_a_log(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"x" * 5000)


def another_page_size(path: Path) -> None:
    sql("PRAGMA page_size = 8192", "VACUUM")(path)


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


UNFIT: dict[str, tuple[Callable[[Path], object], int]] = {
    "missing": (Path.unlink, 65),
    "empty": (lambda path: os.truncate(path, 0), 65),
    "garbage": (lambda path: path.write_bytes(os.urandom(50_000)), 65),
    "text": (lambda path: path.write_text("domain,unlisted\n"), 65),
    "cut off": (lambda path: os.truncate(path, 20_000), 65),
    "a page is spoiled": (overwrite, 1),
    "another program's": (foreign, 65),
    "newer": (sql(f"PRAGMA user_version = {VERSION + 1}"), 65),
    "older": (sql(f"PRAGMA user_version = {VERSION - 1}"), 65),
    "tampered with": (sql("DELETE FROM blocked_sender"), 1),
    "journal cut off": (sql("DELETE FROM change WHERE id = 2"), 1),
    "with a log beside it": (with_a_log, 65),
    "other pages": (another_page_size, 65),
    "a pipe": (to_fifo, 65),
    "a folder": (to_folder, 65),
}


@pytest.fixture
def at_rest(tmp_path) -> Iterator[Daemon]:
    """The same tables and the same backup, and no daemon."""
    with Daemon(tmp_path) as daemon:
        fill(daemon)
        daemon.command("database", "backup", backup_of(daemon))
        daemon.command("sender", "unblock", "@evil.example")
        yield daemon


@drill(
    "a file that is no sound backup of this version",
    made=(
        "missing, empty, garbage, text, cut off, spoiled, another program's, newer, older, tampered with, a "
        "``-wal`` beside it, other pages, a pipe, a folder"
    ),
    lost="nothing; status 65, or 1 after what is wrong",
)
@pytest.mark.parametrize(("spoil", "status"), UNFIT.values(), ids=UNFIT)
def test_file_that_is_no_sound_backup_is_refused_and_nothing_changes(at_rest, spoil, status):
    """It would be what mail is decided by a second later."""
    daemon = at_rest
    spoil(backup_of(daemon))
    before = daemon.database.read_bytes()
    left = names(daemon)
    ended = call(daemon, "database", "restore", backup_of(daemon), "--yes")
    assert (ended.status, ended.err.count("\n")) == (status, 1), ended
    assert "nothing was changed" in ended.err
    assert daemon.database.read_bytes() == before
    assert names(daemon) == left


@drill(
    "the database as its own backup",
    made="by its name, and by a link",
    lost="nothing; status 1",
)
def test_database_is_no_backup_of_itself(at_rest):
    """By whatever name."""
    daemon = at_rest
    link = daemon.folder / "link.db"
    link.symlink_to(daemon.database)
    for name in (daemon.database, link):
        assert call(daemon, "database", "restore", name, "--yes").status == 1
    assert not Path(f"{daemon.database}.before-1").exists()


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def set_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")


SPOILED: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: os.truncate(path, 0),
    "cut off": cut_off,
    "garbage": lambda path: path.write_bytes(os.urandom(50_000)),
    "spoiled in the middle": overwrite,
    "of a newer policyd": set_version,
}


@drill(
    "the database can't be opened",
    made="deleted, emptied, cut off, garbage, spoiled, newer; then ``database restore``",
    client="hang-up until the restore, then the backup's answers",
    log="``hung up: …``; ``event=recovered``",
    lost="nothing: what was there is kept",
)
@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_database_that_can_not_be_opened_is_restored_too(daemon, spoil):
    """That is when a backup is needed most; what was there is kept for whoever can make something of it."""
    spoil(daemon.database)
    if spoil not in (overwrite, set_version):  # which says nothing of these three rows, or is read once more
        must_not_answer(daemon)
    content = daemon.database.read_bytes() if daemon.database.exists() else None
    restore(daemon)
    assert answers(daemon) == GOOD
    assert call(daemon, "database", "check").status == 0
    kept = Path(f"{daemon.database}.before-1")
    assert kept.exists() == (content is not None)
    if spoil not in (Path.unlink, overwrite, set_version):
        assert kept.read_bytes() == content
    daemon.command("mailbox", "add", "bob", "bob@example.com")
    assert daemon.ask(question("bob")) == "DUNNO"


@drill(
    "``--database`` names another program's file",
    made="``database restore``",
    lost="nothing; status 69",
)
def test_other_programs_database_is_not_overwritten(at_rest):
    """A mistyped --database."""
    daemon = at_rest
    other = daemon.folder / "other.db"
    sql("CREATE TABLE t (x)")(other)
    before = other.read_bytes()
    ended = call(daemon, "--database", other, "database", "restore", backup_of(daemon), "--yes")
    assert (ended.status, ended.err.count("\n")) == (69, 1)
    assert other.read_bytes() == before


RESTORER = """
import sys
from click.testing import CliRunner
from policyd.cli import main
print("ready", flush=True)
for file in sys.stdin:
    words = ["--config", sys.argv[1], "database", "restore", file.strip(), "--yes"]
    print(CliRunner().invoke(main, words).exit_code, flush=True)
"""


@drill(
    "readers while a large restore is written",
    made="two connections compare tables over six restores",
    client="answers go on",
    lost="nothing: never a mix of both",
)
def test_readers_never_see_a_mix_of_both(daemon):
    """Restored forth and back under readers that compare two tables of different pages at each look."""
    big = daemon.folder / "big.csv"
    count = 500
    rows = [f"m{number},m{number}@example.com" for number in range(count)]
    big.write_text("\n".join(["name,addresses", *rows, ""]))
    daemon.command("import", big)
    daemon.command("database", "backup", daemon.folder / "big.db")
    is_done = threading.Event()
    seen: set[tuple[int, int]] = set()

    def read_on() -> None:
        with closing(sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)) as reader:
            while not is_done.is_set():
                ((mailboxes, addresses),) = reader.execute(
                    "SELECT (SELECT count(*) FROM mailbox), (SELECT count(*) FROM address)"
                ).fetchall()
                seen.add((mailboxes, addresses))

    # One other process restores, as the readers spin all the time that it takes to start.
    with subprocess.Popen(
        [sys.executable, "-c", RESTORER, daemon.config],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as restorer:
        assert restorer.stdin
        assert restorer.stdout
        assert restorer.stdout.readline() == "ready\n"
        readers = [threading.Thread(target=read_on) for _ in range(2)]
        for each in readers:
            each.start()
        try:
            for number in range(6):
                print(daemon.folder / "big.db" if number % 2 else backup_of(daemon), file=restorer.stdin)
                assert restorer.stdout.readline() == "0\n"
                assert daemon.ask(question("m7")) == ("DUNNO" if number % 2 else UNLISTED)
        finally:
            is_done.set()
            for each in readers:
                each.join(LIMIT_SECONDS)
            restorer.stdin.close()
    assert seen == {(1, 1), (count, count)}


@drill(
    "a command writes while a restore begins",
    made="``BEGIN IMMEDIATE``, released after 2 s",
    client="answers go on",
    lost="nothing: its change is in what is kept",
)
def test_restore_waits_for_its_turn_and_overwrites_no_change_unseen(daemon):
    """A command that was there first is done before, and is in what was kept."""
    with closing(sqlite3.connect(daemon.database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO domain VALUES ('late.example', 'reject', NULL, 'anyone', '', NULL, '')")
        words = daemon.arguments("database", "restore", backup_of(daemon), "--yes")
        with preloaded.start(words) as restoring:
            with pytest.raises(subprocess.TimeoutExpired):
                restoring.wait(2)
            assert answers(daemon) == GONE
            writer.execute("COMMIT")
            assert restoring.wait(LIMIT_SECONDS) == 0
    assert answers(daemon) == GOOD
    with closing(sqlite3.connect(f"{daemon.database}.before-1")) as kept:
        assert ("late.example",) in kept.execute("SELECT name FROM domain").fetchall()


@drill(
    "``kill -9`` of a restore",
    made="12 times at random moments (POLICYD_SEED)",
    client="the old answers or the restored ones",
)
def test_killed_restore_is_done_or_was_never_begun(daemon):
    """At whatever moment; the next command finds whole tables, and the next restore is not in its way."""
    dice = random.Random(a_seed())
    backups = [backup_of(daemon), daemon.folder / "gone.db"]
    daemon.command("database", "backup", backups[1])
    began = time.monotonic()
    assert preloaded.run(daemon.arguments("database", "restore", backups[0], "--yes")).returncode == 0
    lasts = time.monotonic() - began
    outcomes = []
    for number in range(12):
        process = preloaded.start(daemon.arguments("database", "restore", backups[1 - number % 2], "--yes"))
        try:
            process.wait(lasts * dice.uniform(0.5, 1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        got = answers(daemon)
        assert got in (GOOD, GONE)
        assert call(daemon, "database", "check").status == 0
        outcomes.append(got)
    restore(daemon)
    assert answers(daemon) == GOOD
    assert not [*daemon.folder.glob(".*draft*")]


@drill(
    "numbers of entries after a restore",
    made="entries, restore, an entry",
    lost="nothing: no number is given again",
)
def test_number_of_an_entry_is_never_given_again(at_rest):
    """An old line of the log names it."""
    daemon = at_rest
    daemon.command("sender", "block", "@a.example", "@b.example")
    restore(daemon)
    daemon.command("sender", "block", "@c.example")
    numbers = {each["sender"]: each["id"] for each in json.loads(daemon.command("--json", "sender", "list"))}
    assert numbers["@c.example"] == 4


@drill(
    "numbers of entries after a restore of a backup without entries",
    made="two entries, restore, an entry",
    lost="nothing: no number is given again",
)
def test_number_of_an_entry_is_never_given_again_where_the_backup_had_none(tmp_path):
    """SQLite keeps no number for a table that never had a row."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        daemon.command("database", "backup", backup_of(daemon))
        daemon.command("sender", "block", "@a.example", "@b.example")
        restore(daemon)
        daemon.command("sender", "block", "@c.example")
        (entry,) = json.loads(daemon.command("--json", "sender", "list"))
        assert (entry["sender"], entry["id"]) == ("@c.example", 3)
        assert call(daemon, "database", "check").status == 0
