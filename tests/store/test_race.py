"""Commands and questions at the same time: whoever asks after a command has returned is answered as it says."""

import multiprocessing
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from policyd.admin.session import Session
from policyd.decide import Decider
from policyd.errors import StoreError
from policyd.model import ANYONE, Domain, Receive, Request
from policyd.settings import AuditSettings, Settings
from policyd.store import database as store
from policyd.store.connection import Database
from policyd.store.database import create_database
from policyd.store.edit import EntryTerms, RestrictionTerms
from policyd.store.lookup import Lookup
from policyd.store.wal import beside, has_log
from tests.support.drills import drill
from tests.support.parties import party
from tests.support.randomised import a_seed
from tests.support.waiting import LIMIT_SECONDS, until
from tests.support.writing import ACTOR, NOW

pytestmark = pytest.mark.file_only("on a server, a daemon reads a replica, which is such a file")

EVE = party("eve@example.net")
SETTINGS = Settings(recipient_delimiter="+")
COMMANDS = [40, pytest.param(10_000, marks=pytest.mark.full)]
ALICE = "alice@example.com"
EXTENSIONS = 50  # the recipients that the daemon has not seen in each state; others it remembers
Disturb = Callable[[Path], None]


class Progress(NamedTuple):
    """What both processes see: how many commands have begun and returned, whether all have, and how often was asked."""

    begun: Any
    returned: Any
    are_over: Any
    asked: Any


# --- What the commands do ---


def make_tables(path: Path) -> Session:
    """The tables as command 0 left them: eve may not write to anybody, for the reason `0`."""
    create_database(Database.at(path))
    session = Session(Database.at(path), AuditSettings(syslog="none"))
    with session.changing(ACTOR, NOW) as made:
        made.edit.add_domain(Domain("example.com"))
        made.edit.add_mailbox("alice", [ALICE], "")
        made.edit.block_sender(EVE, ANYONE, EntryTerms(reason="0"))
    return session


def command(session: Session, number: int) -> None:
    """Keep eve from alice in the other one of two ways, in one changeset; the number is the reason."""
    with session.changing(ACTOR, NOW) as made:
        if number % 2:
            made.edit.unblock_sender(EVE, ANYONE)
            terms = RestrictionTerms(Receive.NOBODY, reason=str(number))
            made.edit.restrict(made.edit.mailbox("alice"), terms)
        else:
            made.edit.lift(made.edit.mailbox("alice"))
            made.edit.block_sender(EVE, ANYONE, EntryTerms(reason=str(number)))


# --- What disturbs ---


def checkpoint(mode: str) -> Disturb:
    """What `sqlite3` does on demand, and a program that reads the file by itself at times."""

    def disturb(path: Path) -> None:
        with closing(connect(path)) as connection:
            connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

    return disturb


def move_copy_over(path: Path) -> None:
    """A copy of the file with all that was committed takes its place, as `mv` of a backup does."""
    copy_of(path).replace(path)


def move_copy_without_log_over(path: Path) -> None:
    """The same for a copy that has a rollback journal, as tools that vacuum or repair a file leave it."""
    copy = copy_of(path)
    with closing(connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    copy.replace(path)


def write_copy_over(path: Path) -> None:
    """A copy is written over the open file, as `cp` of a backup does."""
    copy = copy_of(path)
    shutil.copyfile(copy, path)
    copy.unlink()


def copy_of(path: Path) -> Path:
    """A copy beside the file."""
    copy = path.with_name("copy.db")
    with closing(connect(path)) as connection, closing(connect(copy)) as to:
        connection.backup(to)
    return copy


def connect(path: Path) -> sqlite3.Connection:
    """A connection that waits for the others, however slow the machine is."""
    return sqlite3.connect(path, timeout=LIMIT_SECONDS)


def remove(*indexes: int) -> Disturb:
    """Somebody tidies up beside the database."""

    def disturb(path: Path) -> None:
        for index in indexes:
            beside(path)[index].unlink(missing_ok=True)

    return disturb


CHECKPOINTS = [checkpoint(mode) for mode in ("PASSIVE", "FULL", "RESTART", "TRUNCATE")]
# What is right only while nothing is in the log, which a killed command may have left.
FILES = [move_copy_over, move_copy_without_log_over, write_copy_over, remove(1), remove(0, 1)]


# --- What is asked ---


def give_commands(session: Session, count: int, progress: Progress, seed: int, is_disturbed: bool) -> None:
    """Give them one after the other, each once something was asked since the last one; and disturb in between."""
    chance, path = random.Random(seed), session.database.path
    try:
        for number in range(1, count + 1):
            progress.begun.value = number
            with pytest.MonkeyPatch.context() as patched:
                if is_disturbed and not chance.randrange(4):  # as if it were killed after the commit
                    patched.setattr(store, "empty_log", lambda *_: None)
                command(session, number)
            asked = progress.asked.value
            progress.returned.value = number
            while progress.asked.value == asked:
                os.sched_yield()
            if is_disturbed:
                chance.choice(CHECKPOINTS if has_log(path) else [*CHECKPOINTS, *FILES])(path)
    finally:
        progress.are_over.value = 1


@contextmanager
def commands_given(path: Path, count: int, *, is_disturbed: bool = False) -> Iterator[Progress]:
    """*count* commands are given in another process meanwhile."""
    session = make_tables(path)
    fork = multiprocessing.get_context("fork")
    progress = Progress(*[fork.Value("q", 0, lock=False) for _ in Progress._fields])
    giving = fork.Process(target=give_commands, args=(session, count, progress, a_seed(), is_disturbed), daemon=True)
    giving.start()
    try:
        yield progress
        giving.join(LIMIT_SECONDS)
        assert giving.exitcode == 0
    finally:
        giving.kill()


def ask_meanwhile(path: Path, progress: Progress) -> int:
    """Ask until all commands have returned, two questions in a turn; return which command the last answer is of.

    Each answer is of one command, and of none that is older than the last one that had returned when its turn began.
    """
    latest = 0
    with closing(Lookup(Database.at(path))) as tables:
        decider = Decider(SETTINGS, tables)
        while not progress.are_over.value:
            returned = progress.returned.value
            for recipient in (f"alice+{progress.asked.value % EXTENSIONS}@example.com", ALICE):
                answered = ask(decider, recipient)
                if answered is not None:
                    assert max(latest, returned) <= answered <= progress.begun.value
                    latest = answered
            decider.end()
            progress.asked.value += 1
        return until(lambda: ask(decider, ALICE) or 0, "an answer after the last command")


def ask(decider: Decider, recipient: str) -> int | None:
    """Which command the answer to eve is of; None where there is no answer, after which Postfix asks again."""
    try:
        decision = decider.decide(Request("RCPT", sender="eve@example.net", recipient=recipient), NOW)
    except StoreError:
        return None
    assert decision.is_refused, decision
    return int(decision.reason)


@pytest.mark.parametrize("count", COMMANDS)
def test_question_after_a_command_is_answered_as_it_says(tmp_path, count):
    """Who has blocked a sender and was told so has blocked him; and no answer is of half a change."""
    with commands_given(tmp_path / "policyd.db", count) as progress:
        assert ask_meanwhile(tmp_path / "policyd.db", progress) == count


@drill(
    "the log checkpointed, its index removed and made again, the file moved and copied over, with and without a log",
    made="at random between commands, which are sometimes killed after the commit, while questions are asked",
    client="the right answer, of the last command that returned or a later one; or a hang-up",
)
@pytest.mark.parametrize("count", COMMANDS)
def test_question_after_a_command_is_answered_as_it_says_whatever_was_done_to_the_files(tmp_path, count):
    """What the daemon remembers it may only believe where it surely knows that nothing was committed since."""
    with commands_given(tmp_path / "policyd.db", count, is_disturbed=True) as progress:
        assert ask_meanwhile(tmp_path / "policyd.db", progress) == count
