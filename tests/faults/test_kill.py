"""Commands killed at any moment, and two hundred at once: each change is whole with its journal row, or absent."""

import multiprocessing
import os
import random
import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policyd.store.database import reading
from policyd.store.queries import Queries
from tests.support.command_line import CommandLine, command_line
from tests.support.drills import drill
from tests.support.randomised import a_seed

RUNS = 200
AT_ONCE = 2
LIMIT_SECONDS = 240
ADDRESSES = 3
KINDS = {  # command, rows that it writes into the journal
    "block": ("sender block {name} --to anyone --reason gone --except @a.example --except @b.example", 1),
    "restrict": ("mailbox restrict {name} --reason internal --accept @a.example --accept '<>'", 1),
    "rename": ("mailbox rename {name} was-{name}", 1),
    "remove": ("mailbox remove {name}", ADDRESSES + 2),  # its addresses, its block, itself
}


@pytest.fixture
def policyd():
    with command_line() as policyd:
        policyd.run("domain add example.com")
        yield policyd


def kind_of(number: int) -> str:
    return [*KINDS][number % len(KINDS)]


def make_company(policyd: CommandLine) -> int:
    """A mailbox for each run, with what its command takes away; the last change of all that."""
    people = policyd.folder / "people.csv"
    rows = [f"m{n},{' '.join(f'm{n}.{part}@example.com' for part in range(ADDRESSES))}" for n in range(RUNS)]
    people.write_text("\n".join(["name,addresses", *rows, ""]))
    policyd.run(f"import {people}")
    policyd.run("sender block " + " ".join(f"m{n}" for n in range(RUNS) if kind_of(n) == "remove"))
    return len(policyd.journal())


def written_at(database: Path) -> int:
    """When the log was written to, in nanoseconds; 0 where there is none."""
    try:
        return Path(f"{database}-wal").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def wait_for_a_write(database: Path, process: "subprocess.Popen[str]", before: int) -> None:
    """Return when the log is written to, or the process has ended: where a kill can do most harm."""
    while process.poll() is None and written_at(database) in (0, before):
        time.sleep(0.0005)


def kill_sometime(policyd: CommandLine, number: int, dice: random.Random, lasts: float) -> None:
    """Start a command and kill it: anywhere in its life, or within the milliseconds in which it writes."""
    line = KINDS[kind_of(number)][0].format(name=f"m{number}")
    process = policyd.start(shlex.split(line))
    before = written_at(policyd.database)
    delay = dice.uniform(0, lasts)
    if dice.random() < 0.6:
        wait_for_a_write(policyd.database, process, before)
        delay = dice.choice([0, dice.uniform(0, 0.02)])
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate(timeout=LIMIT_SECONDS)


def written_by(policyd: CommandLine, last: int) -> dict[str, int]:
    """What the commands that were not killed too early wrote: how many journal rows, by the mailbox's first name."""
    rows = policyd.rows(
        "SELECT count(*), replace(max(CASE WHEN operation LIKE 'address%' THEN '' ELSE object END), 'was-', '') "
        f"FROM change WHERE id > {last} GROUP BY changeset"
    )
    return {name: count for count, name in rows}


def is_done(policyd: CommandLine, number: int) -> bool:
    """Whether the tables have what the command was to make of its mailbox, whole; if not, they must have nothing."""
    name, kind = f"m{number}", kind_of(number)
    ((mailbox, renamed, addresses, entries, allowed, accepted),) = policyd.rows(
        f"""
        SELECT (SELECT receive FROM mailbox WHERE name = '{name}'), (SELECT 1 FROM mailbox WHERE name = 'was-{name}'),
            (SELECT count(*) FROM address WHERE address LIKE '{name}.%'),
            (SELECT count(*) FROM blocked_sender JOIN mailbox m ON m.id = mailbox_id WHERE m.name = '{name}'),
            (SELECT count(*) FROM allowed_recipient JOIN blocked_sender b ON b.id = blocked_sender_id
                JOIN mailbox m ON m.id = b.mailbox_id WHERE m.name = '{name}'),
            (SELECT count(*) FROM accepted_sender JOIN mailbox m ON m.id = mailbox_id WHERE m.name = '{name}')
        """
    )
    state = (mailbox, renamed, addresses, entries, allowed, accepted)
    before = ("inherit", None, ADDRESSES, int(kind == "remove"), 0, 0)
    after = {
        "block": ("inherit", None, ADDRESSES, 1, 2, 0),
        "restrict": ("insiders", None, ADDRESSES, 0, 0, 2),
        "rename": (None, 1, ADDRESSES, 0, 0, 0),
        "remove": (None, None, 0, 0, 0, 0),
    }[kind]
    assert state in (before, after), (name, kind, state)
    return state == after


@drill(
    "``kill -9`` of commands, 200 times at random moments",
    made="block, restrict, rename, remove as processes, two at a time",
    client="the state before or after, never between",
    lost="nothing that was told to be done",
)
@pytest.mark.full
def test_killed_commands_leave_a_whole_change_or_none(policyd):
    """Two hundred times `kill -9`, two commands at a time: what the tables say, the journal says, and nothing else."""
    seed = a_seed()
    last = make_company(policyd)
    began = time.monotonic()
    assert policyd.process("domain add measured.example").status == 0
    lasts, last = time.monotonic() - began, last + 1
    with ThreadPoolExecutor(AT_ONCE) as lanes:
        for first in range(0, RUNS, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            list(lanes.map(lambda n: kill_sometime(policyd, n, random.Random(seed + n), lasts), numbers))
            ended = policyd.ends("database check")
            assert (ended.status, ended.out) == (0, ""), (seed, ended)
    done = {f"m{n}": KINDS[kind_of(n)][1] for n in range(RUNS) if is_done(policyd, n)}
    assert written_by(policyd, last) == done, seed
    assert 0 < len(done) < RUNS, seed
    assert policyd.run("domain add after.example") == ""


@drill(
    "``database create`` or ``backup`` is killed",
    made="a draft that nobody holds",
    client="no database by that name: hang-up",
)
def test_killed_create_leaves_a_draft_that_the_next_one_takes_away(policyd):
    """Nobody else ever would; and one that a living command still writes stays."""
    dead = policyd.folder / ".policyd.db.abc.policyd-draft"
    dead.write_bytes(b"half")
    other = policyd.folder / "other.db"
    policyd.run(f"database create --database {other}")
    assert [path.name for path in policyd.folder.iterdir() if "draft" in path.name] == []


def add_when_told(policyd: CommandLine, number: int, start: "multiprocessing.synchronize.Barrier") -> None:
    start.wait(LIMIT_SECONDS)
    ended = policyd.ends(f"mailbox add m{number} m{number}@example.com")
    os._exit(ended.status)


@drill(
    "200 writers in one moment while an export reads",
    made="200 processes at one gate",
    client="answers go on",
    lost="nothing: each succeeds, ids gapless",
)
@pytest.mark.parametrize("count", [20, pytest.param(RUNS, marks=pytest.mark.full)])
def test_writers_in_the_same_moment_each_get_their_turn(policyd, count):
    """Each has its work ready and waits at one gate, while an export reads: none is turned away, none is lost."""
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(count)
    with reading(policyd.store) as connection:
        assert [*Queries(connection).mailboxes()] == []
        writers = [fork.Process(target=add_when_told, args=(policyd, n, start)) for n in range(count)]
        for process in writers:
            process.start()
        for process in writers:
            process.join(LIMIT_SECONDS)
    assert [process.exitcode for process in writers] == [0] * count
    must_have_all(policyd, count)


@drill(
    "200 commands started at once",
    made="200 processes of ``policyd mailbox add``",
    client="answers go on",
    lost="nothing: each succeeds, ids gapless",
)
@pytest.mark.full
def test_two_hundred_commands_at_once_all_succeed(policyd):
    """As a script with `&` at the end of its line starts them."""
    started = [policyd.start(["mailbox", "add", f"m{n}", f"m{n}@example.com"]) for n in range(RUNS)]
    ended = [(*process.communicate(timeout=LIMIT_SECONDS), process.returncode) for process in started]
    assert [(out, status) for out, _, status in ended] == [("", 0)] * RUNS
    told = {line.partition(" (")[0] for _, errors, _ in ended for line in errors.splitlines()}
    assert told <= {"policyd: waiting for another command that is changing the tables"}
    must_have_all(policyd, RUNS)


def must_have_all(policyd: CommandLine, count: int) -> None:
    """A mailbox from each of *count* commands, and a journal without a gap."""
    assert {name for (name,) in policyd.rows("SELECT name FROM mailbox")} == {f"m{n}" for n in range(count)}
    ids = [number for (number,) in policyd.rows("SELECT id FROM change ORDER BY id")]
    assert ids == [*range(1, 2 * count + 2)]
    assert policyd.run("database check") == ""
