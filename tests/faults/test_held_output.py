"""A terminal that is held (Ctrl-S), or a pipe that nobody reads, under root's commands in another user's folder."""

import os
import pty
import re
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from policyd.cli import main
from policyd.files import acting, owner_of
from policyd.store.backup import Progress, Verify, back_up
from policyd.store.connection import Database
from policyd.store.restore import Restore
from tests.support.drills import drill
from tests.support.required import as_root
from tests.support.waiting import LIMIT_SECONDS, until

OWNER = "nobody"
QUICK = "from policyd import pipe_watch; pipe_watch._LOOK_SECONDS = 0.01\n"  # five looks are over in no time
COMMAND = f"{QUICK}from policyd.cli import main; main()"
LOOKS = 30  # in vain, after which the watch would have ended the process long ago
STATUS = re.compile(r"State:\tS.*Uid:\t\d+\t(\d+)\t.*voluntary_ctxt_switches:\t(\d+)\nnonvol", re.DOTALL)

pytestmark = as_root


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of nobody's with a database."""
    top = Path(tempfile.mkdtemp(prefix="policyd-", dir="/tmp"))
    top.chmod(0o755)
    site = top / "site"
    site.mkdir()
    shutil.chown(site, OWNER)
    (top / "policyd.toml").write_text(f'database = "{site}/policyd.db"\n[audit]\nsyslog = "none"\n')
    (top / "wrong.csv").write_text("name,addresses\nbob,bob@elsewhere.example\n")
    for line in ("domain add example.com", "mailbox add alice alice@example.com", f"database backup {site}/good.db"):
        assert CliRunner().invoke(main, ["--config", str(top / "policyd.toml"), *line.split()]).exit_code == 0
    shutil.copy(site / "good.db", top / "unsound.db")
    with closing(sqlite3.connect(top / "unsound.db", isolation_level=None)) as unsound:
        unsound.execute("UPDATE mailbox SET folded_name = 'bob'")
    yield site
    shutil.rmtree(top)


def environment(top: Path) -> dict[str, str]:
    return {**os.environ, "POLICYD_CONFIG": str(top / "policyd.toml")}


class Held:
    """Where a process writes to, and what it wrote there; nothing gets through before `release`."""

    def __init__(self, ours: int, theirs: int, release: Callable[[], None]) -> None:
        self.ours = ours
        self.theirs = theirs
        self.release = release

    def read_until_end_of(self, process: "subprocess.Popen[bytes]") -> bytes:
        text = b""
        while process.poll() is None:
            if select.select([self.ours], [], [], 0.01)[0]:
                text += os.read(self.ours, 65536)
        return text


@contextmanager
def held_terminal() -> Iterator[Held]:
    ours, theirs = pty.openpty()
    termios.tcflow(theirs, termios.TCOOFF)
    try:
        yield Held(ours, theirs, lambda: termios.tcflow(theirs, termios.TCOON))
    finally:
        os.close(ours)
        os.close(theirs)


@contextmanager
def full_pipe() -> Iterator[Held]:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with suppress(BlockingIOError):
        while True:
            os.write(theirs, bytes(4096))
    os.set_blocking(theirs, True)
    try:
        yield Held(ours, theirs, lambda: None)  # who reads, lets it go on
    finally:
        os.close(ours)
        os.close(theirs)


def is_held(process: "subprocess.Popen[bytes]") -> Callable[[], bool]:
    """Whether *process* has slept without waking at the last looks, and was root then."""
    looks, woken = 0, ""

    def look() -> bool:
        nonlocal looks, woken
        assert process.poll() is None, "it ended, though its output can't have been written"
        asleep = STATUS.search(Path(f"/proc/{process.pid}/status").read_text())
        looks = looks + 1 if asleep and asleep[2] == woken else 0
        woken = asleep[2] if asleep else ""
        if looks == LOOKS:
            assert asleep is not None
            assert asleep[1] == "0", "it waits for a person while it acts as another user"
        return looks == LOOKS

    return look


@drill(
    "a terminal that is held (Ctrl-S), or a pipe that nobody reads, under a command of root's in a folder of another "
    "user's",
    made="a pty whose output is stopped, a full pipe; ``backup``, ``restore``, ``export``, ``import``, ``list``",
    log="what the command says, once it is let go",
    lost="nothing: the command waits, and goes on",
)
@pytest.mark.parametrize(
    "hold", [held_terminal, pytest.param(full_pipe, marks=pytest.mark.full)], ids=["terminal", "pipe"]
)
@pytest.mark.parametrize(
    ("line", "status", "part"),
    [
        ("-v database backup {site}/new.db", 0, b"wrote"),
        pytest.param("-v database restore --yes {site}/good.db", 0, b"restored", marks=pytest.mark.full),
        pytest.param("database restore --yes {top}/unsound.db", 1, b"nothing was changed", marks=pytest.mark.full),
        pytest.param("-v database check", 0, b"sound", marks=pytest.mark.full),
        ("export", 0, b"alice"),
        pytest.param("export --format csv -o /dev/stdout", 0, b"alice", marks=pytest.mark.full),
        ("import {top}/wrong.csv", 65, b"elsewhere.example"),
        pytest.param("mailbox list", 0, b"alice", marks=pytest.mark.full),
    ],
    ids=["backup", "restore", "restore of what is unsound", "check", "export", "export to a file", "import", "list"],
)
def test_command_waits_for_the_person_as_root_and_goes_on(folder, hold, line, status, part):
    """Root doesn't wait for what the folder's owner swaps in, but for who typed the command: it is never ended."""
    words = line.format(site=folder, top=folder.parent).split()
    with hold() as held:
        out = {"stdout": held.theirs, "stderr": held.theirs}
        process = subprocess.Popen([sys.executable, "-c", COMMAND, *words], env=environment(folder.parent), **out)
        try:
            until(is_held(process), "the command to wait for its output")
            held.release()
            text = held.read_until_end_of(process)
            os.set_blocking(held.ours, False)
            with suppress(BlockingIOError):
                text += os.read(held.ours, 1 << 20)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == status, text
    assert part in text
    assert b"swapped" not in text


@drill(
    "progress or findings that nobody reads, in the middle of root's work in a folder of another user's",
    made="a pty whose output is stopped, a full pipe; each time that a bar is drawn or a finding told",
    log="what the command says, once it is let go",
    lost="nothing: the command waits, and goes on",
)
@pytest.mark.parametrize(
    ("hold", "what", "stage"),
    [
        pytest.param(
            hold, what, stage, id=f"{what}-{stage}-{hold.__name__}", marks=() if stage == usual else pytest.mark.full
        )
        for hold, what, usual in (
            (held_terminal, "back up", "progress"),
            (held_terminal, "restore", ""),
            (full_pipe, "back up", ""),
            (full_pipe, "restore", "verify"),
        )
        for stage in ("progress", "verify")
    ],
)
def test_progress_and_findings_may_wait_as_long_as_they_like(folder, hold, what, stage):
    """The bar is drawn in the middle of the work, where only a database of many pages would hold a whole command."""
    with hold() as held:
        write = f"os.write({held.theirs}, b'x')"
        progress, verify = (write, "0") if stage == "progress" else ("0", write)
        text = f"""{QUICK}
import os
from pathlib import Path
from tests.faults.test_held_output import work
work({what!r}, Path({str(folder)!r}), lambda *_: {progress}, lambda *_: {verify})
"""
        process = subprocess.Popen([sys.executable, "-c", text], pass_fds=[held.theirs])
        try:
            until(is_held(process), f"{stage} to wait for its output")
            held.release()
            held.read_until_end_of(process)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0


def work(what: str, folder: Path, on_progress: Progress, verify: Verify) -> None:
    """What the test above runs in a process of its own."""
    database = Database.at(folder / "policyd.db")
    if what == "back up":
        back_up(database, folder / "new.db", on_progress, verify)
    else:
        Restore(database, folder / "good.db", "root", 1, on_progress=on_progress, verify=verify).run()


@drill(
    "a pipe that is swapped in under a command of root's whose terminal is held",
    made="a FIFO without another end; stderr is a pty whose output is stopped, or a full pipe",
    log="stderr where it takes a line, exit 69",
)
@pytest.mark.parametrize("hold", [held_terminal, full_pipe], ids=["terminal", "pipe"])
def test_pipe_of_the_folders_owner_is_not_waited_for_under_a_held_terminal(folder, hold):
    """Nor is the line that says so."""
    os.mkfifo(folder / "fifo", 0o444)
    text = f"{QUICK}from tests.faults.test_held_output import open_in; open_in({str(folder)!r})"
    with hold() as held:
        ended = subprocess.run([sys.executable, "-c", text], stderr=held.theirs, timeout=LIMIT_SECONDS)
    assert ended.returncode == 69


def open_in(folder: str) -> None:
    """What the test above runs in a process of its own: as SQLite opens a file by its name."""
    path = Path(folder, "fifo")
    with acting(owner_of(path)):
        os.open(path, os.O_RDONLY)
