"""The database file: made whole or not at all, refused where it is not ours, and unharmed by trouble."""

import multiprocessing
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from policyd.errors import StoreCreateError, StoreError, StoreMissingError, StoreWriteError
from policyd.model import Domain
from policyd.store import database
from policyd.store.connection import Database
from policyd.store.database import changing, create_database, reading
from policyd.store.queries import Queries
from policyd.store.schema import VERSION
from policyd.store.wal import has_log
from tests.support.command_line import MEMORY, CommandLine, Ended
from tests.support.required import as_root
from tests.support.waiting import LIMIT_SECONDS
from tests.support.writing import editor_on

NOBODY = 65534


@pytest.fixture
def folder():
    """A folder that other users can enter."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def policyd(folder):
    """A company with one domain; what its commands need is loaded, so that a part of this process may go on alone."""
    policyd = CommandLine(folder)
    policyd.run("domain add example.com")
    policyd.ends("check --recipient x@example.com")
    return policyd


def apart(policyd: CommandLine, line: str, prepare: Callable[[], None]) -> Ended | None:
    """How the command ends in a process of its own after *prepare*; None where it was killed."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()

    def command() -> None:
        prepare()
        theirs.send(policyd.ends(line))

    process = fork.Process(target=command)
    process.start()
    theirs.close()
    try:
        ended: Ended | None = ours.recv() if ours.poll(LIMIT_SECONDS) else None
    except EOFError:
        ended = None
    process.join(LIMIT_SECONDS)
    ours.close()
    return ended


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def files(folder: Path) -> set[str]:
    """What is in the folder, but for the settings."""
    return {path.name for path in folder.iterdir()} - {"policyd.toml"}


# --- Making it ---


def test_failing_create_leaves_nothing(policyd):
    """A file that can't grow is as a full disk: no half of a database, and no draft of one."""
    policyd.database.unlink()
    left = files(policyd.folder)
    ended = apart(policyd, "database create", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert ended is not None
    assert (ended.status, ended.err) == (
        73,
        f"policyd: {policyd.database}: the database can't be made: disk I/O error\n",
    )
    assert files(policyd.folder) == left


def test_killed_create_leaves_no_database(policyd):
    """What isn't whole has no name that anybody opens; and the next create isn't in its way."""

    def die_at_20_000_bytes() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    policyd.database.unlink()
    assert apart(policyd, "database create", die_at_20_000_bytes) is None
    assert not policyd.database.exists()
    assert policyd.run("database create") == ""
    assert policyd.run("domain list") == ""


def test_two_creating_at_once_both_get_a_whole_database(policyd):
    """Two first commands in the same moment: neither sees half of the tables."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{policyd.database}{suffix}").unlink(missing_ok=True)
    fork = multiprocessing.get_context("fork")
    started = [
        fork.Process(target=lambda name=name: policyd.run(f"domain add {name}.example")) for name in ("a", "b", "c")
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(LIMIT_SECONDS)
    assert [process.exitcode for process in started] == [0, 0, 0]
    assert policyd.run("domain list") == "a.example\treject\nb.example\treject\nc.example\treject\n"


def test_create_is_refused_where_there_is_one(policyd):
    """Unless the caller only needs that there is one."""
    with pytest.raises(StoreCreateError):
        create_database(policyd.store)
    create_database(policyd.store, exist_ok=True)
    assert policyd.run("domain list") == "example.com\treject\n"


def test_file_is_for_its_owner_and_group_whatever_the_umask(folder):
    """Neither world-readable for a careless umask, nor closed to the group for a strict one."""
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            create_database(Database.at(folder / f"{umask}.db"))
        finally:
            os.umask(before)
        assert stat.S_IMODE((folder / f"{umask}.db").stat().st_mode) == 0o640


@as_root
def test_root_makes_the_database_for_the_owner_of_its_folder(policyd):
    """The administrator is root, the daemon is not, and both must get on with one set of files."""
    home = policyd.folder / "home"
    home.mkdir(mode=0o750)
    os.chown(home, NOBODY, NOBODY)
    database = home / "policyd.db"
    for line in ("domain add example.com", "domain list", "mailbox add alice alice@example.com"):
        policyd.run(f"{line} --database {database}")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in home.iterdir()} == {(NOBODY, NOBODY)}
    ended = apart(policyd, f"mailbox add bob --database {database}", become_nobody)
    assert ended == Ended(0, "", "")
    assert policyd.run(f"mailbox list --database {database}").count("\n") == 2


@as_root
@pytest.mark.parametrize("line", ["database create", "domain add example.com"])
def test_folder_of_somebody_else_is_left_alone(policyd, line):
    """With the operating system's own words."""
    policyd.folder.joinpath("there").mkdir()
    ended = apart(policyd, f"{line} --database {policyd.folder}/there/x.db", become_nobody)
    assert ended == Ended(
        73, "", f"policyd: {policyd.folder}/there/x.db: the database can't be made: Permission denied\n"
    )


# --- Opening it ---


READS = ["domain list", "check --recipient x@example.com", "address find x@example.com", "history", "database stats"]


@pytest.mark.parametrize("line", READS)
def test_reading_never_makes_a_file(policyd, line):
    """A mistyped path must not become an empty database that permits everything."""
    left = files(policyd.folder)
    assert policyd.refuses(f"{line} --database {policyd.folder}/typo.db", 69) == (
        f"policyd: {policyd.folder}/typo.db: there is no database; make it with: policyd database create"
    )
    assert files(policyd.folder) == left


@pytest.mark.parametrize("line", [*READS, "domain add example.net"])
def test_newer_database_is_refused(policyd, line):
    """What a later policyd wrote, this one could misread; the line says what to do."""
    policyd.rows(f"PRAGMA user_version = {VERSION + 1}")
    assert policyd.refuses(line, 69) == (
        f"policyd: {policyd.database}: made by a newer policyd "
        f"(tables version {VERSION + 1}, this one knows {VERSION}); "
        "install that policyd and restart the daemon, or restore a backup"
    )


@pytest.mark.parametrize("line", [*READS, "domain add example.net"])
def test_foreign_database_is_refused_and_left_as_it_is(policyd, line):
    """Another program's SQLite file, one wrong letter away, must not get our tables."""
    foreign = policyd.folder / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE domain (name TEXT)")
    connection.close()
    before = foreign.read_bytes()
    assert policyd.refuses(f"{line} --database {foreign}", 69) == (
        f"policyd: {foreign}: not a policyd database; say where yours is with --database"
    )
    assert foreign.read_bytes() == before
    assert not {"foreign.db-wal", "foreign.db-shm"} & files(policyd.folder)


@pytest.mark.parametrize("line", [*READS, "domain add example.net"])
@pytest.mark.parametrize("raw", [b"garbage" * 1000, b"x", b"SQLite format 3\0" + b"\xff" * 5000])
def test_garbage_is_refused_and_left_as_it_is(policyd, line, raw):
    """Whatever it was, it may be somebody's."""
    garbage = policyd.folder / "garbage.db"
    garbage.write_bytes(raw)
    assert policyd.refuses(f"{line} --database {garbage}", 69).startswith(f"policyd: {garbage}: not a policyd database")
    assert garbage.read_bytes() == raw


@pytest.mark.parametrize("line", [*READS, "domain add example.net"])
def test_empty_file_is_no_database(policyd, line):
    """As `touch` makes it, or a disk that was full."""
    (policyd.folder / "empty.db").touch()
    assert policyd.refuses(f"{line} --database {policyd.folder}/empty.db", 69) == (
        f"policyd: {policyd.folder}/empty.db: not a policyd database; say where yours is with --database"
    )
    assert (policyd.folder / "empty.db").stat().st_size == 0


@pytest.mark.parametrize("line", [*READS, "domain add example.net"])
def test_folder_is_no_database(policyd, line):
    """One line, and no word of a full disk."""
    assert policyd.refuses(f"{line} --database {policyd.folder}", 69).startswith(f"policyd: {policyd.folder}: ")


def test_damaged_pages_are_told_as_such(policyd):
    """And answered with nothing: no DUNNO out of a broken disk."""
    policyd.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = policyd.database.read_bytes()
    policyd.database.write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))
    for line in ("domain list", "check --recipient x@example.com", "domain add example.net"):
        message = policyd.refuses(line, 69)
        assert message.startswith(f"policyd: {policyd.database}: not a policyd database, or damaged: ")
        assert message.endswith("; restore it from a backup")


# --- Changing it ---


def test_log_is_empty_after_a_change(policyd):
    """The file alone is the database: who copies or moves it has everything."""
    policyd.run("mailbox add alice alice@example.com")
    log = Path(f"{policyd.database}-wal")
    assert not log.exists() or log.stat().st_size == 0
    copy = policyd.folder / "copy.db"
    copy.write_bytes(policyd.database.read_bytes())
    assert policyd.run(f"mailbox list --database {copy}") == "alice\tinherit\t\talice@example.com\t\t\n"


READER = """
import sqlite3, sys
reader = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)  # empties no log
reader.execute("BEGIN")
print(*reader.execute("SELECT count(*) FROM domain").fetchone(), flush=True)
sys.stdin.read()
"""


def test_log_is_empty_after_a_change_under_somebody_who_reads_for_long(policyd, monkeypatch):
    """A daemon that a busy machine has stopped while it read: a backup moved to the path would find a foreign log."""
    monkeypatch.setattr(database, "_LOG_SECONDS", LIMIT_SECONDS)
    with subprocess.Popen(
        [sys.executable, "-c", READER, policyd.database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"1\n"
        changed = threading.Thread(target=policyd.ends, args=["domain add example.org"])
        changed.start()
        changed.join(0.3)  # until it is over, or tries again
        reader.communicate()
        changed.join()
    assert not has_log(policyd.database)


def test_change_is_seen_by_who_reads_already(policyd):
    """A reader keeps its one state of the tables, and doesn't hold the writer up."""
    with reading(policyd.store) as connection:
        assert [each.name for each in Queries(connection).domains()] == ["example.com"]
        policyd.run("domain add example.net")
        assert [each.name for each in Queries(connection).domains()] == ["example.com"]
    with reading(policyd.store) as connection:
        assert [each.name for each in Queries(connection).domains()] == ["example.com", "example.net"]


def test_failure_in_mid_command_leaves_neither_change_nor_journal(policyd):
    """A changed row and its journal row commit together or not at all."""

    def stop_in_the_middle() -> None:
        with changing(policyd.store) as connection:
            editor = editor_on(connection)
            editor.add_domain(Domain("example.net"))
            editor.remove_domain("example.com")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_in_the_middle()
    assert policyd.run("domain list") == "example.com\treject\n"
    assert policyd.journal() == [("domain.add", "example.com")]


def test_full_database_is_told_and_nothing_half_written(policyd):
    """SQLite's own limit stands for a disk's."""

    def add_more_than_fits() -> None:
        with changing(policyd.store) as connection:
            ((pages,),) = connection.driver.execute("PRAGMA page_count").fetchall()
            connection.driver.execute(f"PRAGMA max_page_count = {pages}").close()
            editor = editor_on(connection)
            for number in range(5000):
                editor.add_domain(Domain(f"d{number}.example"))

    with pytest.raises(StoreWriteError) as caught:
        add_more_than_fits()
    assert caught.value.exit_status == 74
    assert str(caught.value) == (
        f"{policyd.database}: can't be written, nothing was changed: database or disk is full; make room on the disk"
    )
    assert policyd.run("domain list") == "example.com\treject\n"
    assert policyd.journal() == [("domain.add", "example.com")]


def test_full_disk_ends_a_command_with_74(policyd):
    """A file that can't grow, from the command line; the tables go on being read."""
    size = policyd.database.stat().st_size
    names = " ".join(f"{number:0200}@example.com" for number in range(300))
    ended = apart(
        policyd, f"mailbox add alice {names}", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    )
    assert ended is not None
    assert (ended.status, ended.out) == (74, "")
    assert ended.err.startswith(f"policyd: {policyd.database}: can't be written, nothing was changed: ")
    assert ended.err.endswith("; make room on the disk\n")
    assert policyd.run("mailbox list") == ""
    assert policyd.journal() == [("domain.add", "example.com")]


@as_root
def test_who_may_only_read_is_told_whom_to_become(policyd):
    """In one line, with nothing changed."""
    policyd.database.chmod(0o644)
    for suffix in ("-wal", "-shm"):
        Path(f"{policyd.database}{suffix}").touch(mode=0o644)
        Path(f"{policyd.database}{suffix}").chmod(0o644)
    ended = apart(policyd, "domain add example.net", become_nobody)
    assert ended is not None
    assert ended == Ended(
        74,
        "",
        f"policyd: {policyd.database}: can't be written, nothing was changed: "
        "attempt to write a readonly database; become its owner, or root\n",
    )
    assert policyd.journal() == [("domain.add", "example.com")]


@as_root
@pytest.mark.parametrize("line", ["domain list", "check --recipient x@example.com", "domain add example.net"])
def test_who_may_not_read_is_told_so(policyd, line):
    """The file is there: to make another one would be wrong advice."""
    ended = apart(policyd, line, become_nobody)
    assert ended is not None
    assert ended.status in (69, 74)
    assert ended.err.startswith(f"policyd: {policyd.database}: ")
    assert "there is no database" not in ended.err
    assert ended.err.count("\n") == 1


@as_root
@pytest.mark.parametrize("line", ["domain list", "check --recipient x@example.com", "domain add example.net"])
def test_folder_that_may_not_be_entered_is_no_missing_database(policyd, line):
    """Nor is it a reason to make one."""
    home = policyd.folder / "home"
    home.mkdir(mode=0o700)
    policyd.run(f"domain add example.com --database {home}/policyd.db")
    ended = apart(policyd, f"{line} --database {home}/policyd.db", become_nobody)
    assert ended is not None
    assert ended.status in (69, 73, 74)
    assert ended.err.startswith(f"policyd: {home}/policyd.db: ")
    assert "ermission denied" in ended.err
    assert ended.err.count("\n") == 1


def test_second_writer_waits_for_the_first(policyd):
    """One after the other; none is turned away."""
    with changing(policyd.store) as connection:
        waiting = policyd.start(["-v", "domain", "add", "second.example"])
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
        editor = editor_on(connection)
        editor.add_domain(Domain("first.example"))
    out, told = waiting.communicate(timeout=LIMIT_SECONDS)
    waited, refused_from_now_on = "policyd: waiting for another command", "mail from outside to unlisted addresses in"
    assert out == ""
    assert [line for line in told.splitlines() if not line.startswith((waited, refused_from_now_on))] == [
        "domain second.example: added: unlisted reject"
    ]
    assert policyd.journal()[1:] == [("domain.add", "first.example"), ("domain.add", "second.example")]


def test_errors_of_the_store_are_of_one_family(folder):
    """Who serves mail catches one class."""
    for kind in (StoreMissingError, StoreWriteError, StoreCreateError):
        assert issubclass(kind, StoreError)
    with pytest.raises(StoreMissingError), reading(Database.at(folder / "none.db")):
        pass
