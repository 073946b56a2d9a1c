"""The daemon's reads: what they find, that they stand still, and when they say that they may have moved."""

import errno
import multiprocessing
import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import pytest

from policyd.decide import Decider
from policyd.errors import StoreError, TablesMovedError
from policyd.model import ANYONE, BlockedSender, Domain, Group, Holder, Receive, Request, Rule, Unlisted
from policyd.settings import Settings
from policyd.store import database as store
from policyd.store import lookup
from policyd.store.connection import Database
from policyd.store.database import changing, connect_reading, create_database
from policyd.store.edit import EntryTerms, RestrictionTerms
from policyd.store.lookup import Lookup
from policyd.store.wal import beside
from tests.support.parties import party, party_set
from tests.support.preloaded import PROGRAM, run
from tests.support.waiting import LIMIT_SECONDS, until
from tests.support.writing import ACTOR, NOW, editor_on

ALICE = Holder("Alice", id=1, primary="alice@example.com", is_in_groups=True)
BOB = Holder("bob", Receive.NOBODY, "weg", NOW + 9, id=2, primary="")
STAFF, ALL = Group("staff"), Group("all")
MADE = BlockedSender(party("Alice", 1), created_at=NOW, created_by=ACTOR)
OUTSIDE = replace(MADE, allowed=party_set("joe@", "@.x.example"), reason="weg")
TO_BOB = replace(MADE, to=party("bob", 2), comment="c")
FROM_NET = replace(MADE, who=party("@.example.net"), to=ANYONE, until=NOW + 9)
NULL = replace(MADE, who=party("<>"), to=party("bob", 2))
ANYBODY = replace(MADE, who=ANYONE, to=party("@x.example"))
OF_STAFF = replace(MADE, who=party("group:staff", 1), allowed_senders=frozenset({party("Alice", 1)}))


@pytest.fixture
def database(tmp_path):
    """The tables of a small company."""
    database = Database.at(tmp_path / "policyd.db")
    create_database(database)
    with changing(database) as connection:
        editor = editor_on(connection)
        editor.add_domain(Domain("example.com"))
        editor.add_domain(Domain("example.org", Unlisted.ACCEPT))
        editor.add_mailbox("Alice", ["alice@example.com", "a b@example.org"], "")
        editor.add_mailbox("bob", [], "")
        terms = RestrictionTerms(BOB.receive, party_set("@x.example"), BOB.reason, BOB.until)
        editor.restrict(editor.mailbox("bob"), terms)
        editor.add_group("staff", [party("Alice")])
        editor.add_group("all", [party("group:staff")])
        editor.accept(editor.mailbox("Alice"), [party("group:staff")])
        editor.block_sender(party("Alice"), party("outside"), EntryTerms(OUTSIDE.allowed, reason=OUTSIDE.reason))
        editor.block_sender(party("Alice"), party("bob"), EntryTerms(comment=TO_BOB.comment))
        editor.block_sender(party("@.example.net"), party("anyone"), EntryTerms(until=FROM_NET.until))
        editor.block_sender(party("<>"), party("bob"), EntryTerms())
        editor.block_sender(party("anyone"), party("@x.example"), EntryTerms())
        editor.block_sender(party("group:staff"), party("outside"), EntryTerms(allowed_senders=party_set("Alice")))
    return database


@pytest.fixture
def tables(database):
    """Them, as the daemon looks at them."""
    with closing(Lookup(database)) as tables:
        assert look(tables)
        yield tables


def look(tables: Lookup) -> bool:
    """Whether *tables* may have changed, and from now on their newest state."""
    tables.end()
    return tables.begin()


def settle(database: Database) -> None:
    """Wait until whatever is done to the files shows in their times."""
    files = [file for file in (database.path, beside(database.path)[1]) if file.exists()]
    until(lambda: all(lookup._is_settled(file.stat(), time.time_ns()) for file in files), "a quiet while")


def look_in_quiet(database: Database, tables: Lookup) -> None:
    """Have *tables* see that nothing has happened to the files for a while."""
    for _ in range(2):  # to open the file makes the index anew
        settle(database)
        look(tables)
    assert not look(tables)


def manage_another(database: Database) -> None:
    """Manage example.net, too, as a command does."""
    with changing(database) as connection:
        editor_on(connection).add_domain(Domain("example.net"))


def unnumbered(found):
    """What was found, of several in any order and without numbers of their own."""
    several = isinstance(found, tuple) and not isinstance(found, Holder)
    return {replace(each, id=0) for each in found} if several else found


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        pytest.param(lambda tables: tables.domain("example.com"), Domain("example.com"), id="a managed domain"),
        pytest.param(
            lambda tables: tables.domain("example.org"),
            Domain("example.org", Unlisted.ACCEPT),
            id="a managed domain that accepts",
        ),
        pytest.param(lambda tables: tables.domain("example.net"), None, id="another domain"),
        pytest.param(
            lambda tables: tables.holder_of("alice@example.com"),
            ALICE,
            id="an address, the primary one",
        ),
        pytest.param(
            lambda tables: tables.holder_of("a b@example.org"), ALICE._replace(primary=None), id="another address"
        ),
        pytest.param(lambda tables: tables.holder_of("bob@example.com"), None, id="an address of nobody"),
        pytest.param(
            lambda tables: tables.mailbox_called("alice"),
            ALICE,
            id="a name in another case",
        ),
        pytest.param(lambda tables: tables.mailbox_called("bob"), BOB, id="the name of a restricted mailbox"),
        pytest.param(lambda tables: tables.mailbox_called("eve"), None, id="a name of nobody"),
        pytest.param(lambda tables: tables.primary_address(1), "alice@example.com", id="a primary address"),
        pytest.param(lambda tables: tables.primary_address(2), "", id="no primary address"),
        pytest.param(lambda tables: tables.groups_of(1), {STAFF, ALL}, id="groups, directly and not"),
        pytest.param(lambda tables: tables.groups_of(2), set(), id="no groups"),
        pytest.param(
            lambda tables: tables.accepted_by(mailbox_id=2), party_set("@x.example"), id="accepted, a pattern"
        ),
        pytest.param(
            lambda tables: tables.accepted_by(mailbox_id=1, group_ids=(1, 2), domain="example.com"),
            frozenset({party("group:staff", 1)}),
            id="accepted, a group",
        ),
        pytest.param(lambda tables: tables.entries_of(0, (), ()), set(), id="entries for nobody"),
        pytest.param(lambda tables: tables.entries_of(0, (), ("<>",)), {NULL}, id="entries for the null sender"),
        pytest.param(
            lambda tables: tables.entries_of(0, (), ("a@b.example.net", "@.example.net", "<>")),
            {FROM_NET, NULL},
            id="entries for patterns",
        ),
        pytest.param(
            lambda tables: tables.entries_of(1, (), ("@.example.net",)),
            {OUTSIDE, TO_BOB, FROM_NET},
            id="entries for a mailbox and a pattern",
        ),
        pytest.param(
            lambda tables: tables.entries_of(1, (1, 2), ()), {OUTSIDE, TO_BOB, OF_STAFF}, id="entries for groups"
        ),
        pytest.param(lambda tables: tables.entries_of(2, (), ()), set(), id="no entries"),
        pytest.param(
            lambda tables: tables.entries_of_anyone(0, (), ("@x.example",)), {ANYBODY}, id="entries of anyone"
        ),
        pytest.param(lambda tables: tables.entries_of_anyone(1, (1,), ("@y.example",)), set(), id="none of anyone"),
    ],
)
def test_each_question_finds_what_was_put_there(tables, question, answer):
    """Everything that a decision hangs on comes through these questions."""
    assert unnumbered(question(tables)) == answer
    assert tables.has_groups
    assert tables.has_anyone_entries


@pytest.mark.parametrize("known", [0, 1, 2])
def test_blocked_senders_are_found_whether_they_are_too_many_to_know_or_not(database, monkeypatch, known):
    """A site may block a hundred thousand senders, or two: the same ones are blocked."""
    monkeypatch.setattr(lookup, "_KNOWN_LIMIT", known)
    with closing(Lookup(database)) as tables:
        tables.begin()
        assert unnumbered(tables.entries_of(0, (), ("a@b.example.net", "@.example.net"))) == {FROM_NET}
        assert unnumbered(tables.entries_of(1, (1,), ("@other.example",))) == {OUTSIDE, TO_BOB, OF_STAFF}
        assert not tables.entries_of(0, (), ("a@b.example", "@b.example"))
        assert not tables.entries_of(2, (), ())
        tables.end()
        with changing(database) as connection:
            editor = editor_on(connection)
            editor.block_sender(party("@b.example"), ANYONE, EntryTerms())
            editor.block_sender(party("bob"), ANYONE, EntryTerms())
        assert tables.begin()
        assert len(tables.entries_of(0, (), ("a@b.example", "@b.example"))) == 1
        assert len(tables.entries_of(2, (), ())) == 1


@pytest.mark.parametrize("known", [1, 2])
def test_domains_are_found_whether_they_are_too_many_to_know_or_not(database, monkeypatch, known):
    """A provider may manage ten thousand, a company two."""
    monkeypatch.setattr(lookup, "_KNOWN_LIMIT", known)
    with closing(Lookup(database)) as tables:
        tables.begin()
        assert tables.domain("example.org") == Domain("example.org", Unlisted.ACCEPT)
        assert tables.domain("example.net") is None
        tables.end()
        manage_another(database)
        assert tables.begin()
        assert tables.domain("example.net") == Domain("example.net")


def test_first_accepted_sender_is_found(tmp_path):
    """Nobody asks for lists as long as there is none at all."""
    database = Database.at(tmp_path / "policyd.db")
    create_database(database)
    with changing(database) as connection:
        editor_on(connection).add_mailbox("bob", [], "")
    with closing(Lookup(database)) as tables:
        tables.begin()
        assert tables.accepted_by(mailbox_id=1) == frozenset()
        tables.end()
        with changing(database) as connection:
            editor = editor_on(connection)
            editor.accept(editor.mailbox("bob"), [party("@x.example")])
        assert tables.begin()
        assert tables.accepted_by(mailbox_id=1) == party_set("@x.example")


def test_tables_tell_once_that_they_moved(database, tables):
    """The daemon forgets what it knew when there is reason to, and only then."""
    assert not look(tables)
    manage_another(database)
    assert look(tables)
    assert not look(tables)
    assert tables.domain("example.net") == Domain("example.net")


def test_tables_stand_still_while_they_are_looked_at(database, tables):
    """Requests that are decided together see one state, though a command ends in the middle of them."""
    manage_another(database)
    assert not tables.begin()
    assert tables.domain("example.net") is None
    assert look(tables)
    assert tables.domain("example.net") == Domain("example.net")


def test_tables_that_move_before_the_first_read_say_so_once(database, tables):
    """Nothing is held while nothing is read: what was remembered may then be older than what is read next."""
    assert not look(tables)
    assert not look(tables)
    manage_another(database)
    with pytest.raises(TablesMovedError):
        tables.mailbox_called("alice")
    tables.begin()
    assert tables.domain("example.net") == Domain("example.net")


def test_decision_is_made_on_one_state_though_the_tables_move_in_the_middle(database, tables):
    """What is remembered of the sender and what is read of the recipient must not be of two states."""
    decider = Decider(Settings(), tables)
    for recipient in ("bob@example.com", "eve@example.com", "adam@example.com"):
        assert decider.decide(Request(protocol_state="RCPT", recipient=recipient), NOW).rule is Rule.UNLISTED_RECIPIENT
        decider.end()
    assert not tables.begin()
    with changing(database) as connection:
        editor = editor_on(connection)
        editor.block_sender(party("eve@example.com"), ANYONE, EntryTerms())
        editor.add_address("bob", "new@example.com")
    request = Request(protocol_state="RCPT", sender="ann@example.net", recipient="new@example.com")
    assert decider.decide(request, NOW).rule is Rule.RESTRICTED_RECIPIENT
    assert decider.decide(request._replace(recipient="bob@example.com"), NOW).rule is Rule.UNLISTED_RECIPIENT
    assert decider.decide(request._replace(sender="eve@example.com"), NOW).rule is Rule.BLOCKED_SENDER


def test_file_that_is_written_over_in_the_middle_of_a_decision_is_read_anew(database, tables, tmp_path):
    """SQLite finds its way in pages of one file and then reads those of another: a blocked sender would get in."""
    other = shutil.copy(database.path, tmp_path / "other.db")
    with changing(Database.at(other)) as connection:
        editor_on(connection).block_sender(party("eve@example.com"), ANYONE, EntryTerms())
    request = Request(protocol_state="RCPT", sender="eve@example.com", recipient="a@example.net")
    decider = Decider(Settings(), tables)
    assert decider.decide(request, NOW).rule is Rule.DEFAULT
    decider.end()
    request = request._replace(recipient="b@example.net")
    copies = iter([other])

    def copy_over(*_: object) -> None:
        for copy in copies:
            database.path.write_bytes(copy.read_bytes())

    assert decider.decide(request, NOW, copy_over).rule is Rule.BLOCKED_SENDER
    assert not list(copies)


def test_file_that_is_written_over_again_and_again_is_not_believed(database, tables):
    """No answer is better than one of half a file."""
    decider = Decider(Settings(), tables)
    request = Request(protocol_state="RCPT", sender="eve@example.com", recipient="a@example.net")
    content = database.path.read_bytes()
    with pytest.raises(TablesMovedError):
        decider.decide(request, NOW, lambda *_: database.path.write_bytes(content) and None)
    assert decider.decide(request, NOW).rule is Rule.DEFAULT


def test_open_file_is_looked_at_again_only_after_a_read(database, tables, monkeypatch):
    """Of the requests of one turn, those that are answered from memory ask nothing of the kernel."""
    asked, fstat = [], os.fstat

    def counted(descriptor: int) -> os.stat_result:
        asked.append(descriptor)
        return fstat(descriptor)

    decider = Decider(Settings(), tables)
    request = Request(protocol_state="RCPT", sender="eve@example.com", recipient="alice@example.com")
    decider.decide(request, NOW)
    monkeypatch.setattr(os, "fstat", counted)
    for _ in range(3):
        decider.decide(request, NOW)
    assert asked == []
    decider.decide(request._replace(recipient="new@example.com"), NOW)
    assert len(asked) == 1


def test_log_may_be_moved_into_the_file_while_it_is_read(database, tables):
    """Every command ends with that, and a large one goes on with it for seconds: no answer waits for it."""
    with closing(sqlite3.connect(database.path)) as holding:
        # A change, as of a command that was killed before it could empty the log.
        holding.execute("PRAGMA wal_autocheckpoint = 0")
        holding.execute("UPDATE mailbox SET receive = 'nobody', reason = 'c' WHERE name = 'Alice'")
        holding.commit()
        assert look(tables)
        assert tables.mailbox_called("alice").reason == "c"

        # It is emptied meanwhile, by another one.
        before = database.path.stat().st_ctime_ns
        holding.execute("PRAGMA wal_checkpoint").fetchall()
        assert database.path.stat().st_ctime_ns != before
        tables.confirm()


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(lambda index: index.rename(f"{index}.old"), id="moved"),
        pytest.param(lambda index: index.unlink(), id="removed"),
        pytest.param(lambda index: Path(shutil.copy(index, f"{index}.new")).replace(index), id="another"),
    ],
)
def test_index_that_loses_its_name_after_a_quiet_while_is_missed(database, tables, lose):
    """What commands then do stands in another one; that the open index is as it was must not hide that."""
    look_in_quiet(database, tables)
    lose(beside(database.path)[1])
    assert run([*PROGRAM, "--database", database.path, "domain", "add", "example.net"]).returncode == 0
    assert look(tables)
    assert tables.domain("example.net") == Domain("example.net")


def test_open_index_is_not_asked_for_by_name_after_a_quiet_while(database, tables, monkeypatch):
    """That is half of what the look for changes costs, in each request."""
    look_in_quiet(database, tables)
    asked, stat = [], os.stat

    def counted(name: str) -> os.stat_result:
        asked.append(name)
        return stat(name)

    monkeypatch.setattr(os, "stat", counted)
    assert not look(tables)
    assert asked == [os.fspath(database.path)]


def test_index_that_is_lost_while_the_file_is_opened_is_missed(database, monkeypatch):
    """SQLite then has the one that was removed, and the daemon would look for changes in the one by that name."""
    fork = multiprocessing.get_context("fork")
    is_open, has_returned = fork.Event(), fork.Event()

    def lose_it_and_change() -> None:
        is_open.wait(LIMIT_SECONDS)
        for file in beside(database.path):
            file.unlink()
        store.empty_log = lambda *_: None  # as if it were killed after the commit, so that nobody writes to the file
        manage_another(database)
        has_returned.set()

    def opened(database: Database) -> sqlite3.Connection:
        connection = connect_reading(database)
        is_open.set()
        assert has_returned.wait(LIMIT_SECONDS)
        return connection

    settle(database)
    command = fork.Process(target=lose_it_and_change)
    command.start()
    monkeypatch.setattr(lookup, "connect_reading", opened)
    with closing(Lookup(database)) as tables:
        assert tables.begin()
        monkeypatch.undo()
        assert look(tables)
        assert tables.domain("example.net") == Domain("example.net")
    command.join(LIMIT_SECONDS)


def test_file_that_is_written_over_as_soon_as_it_was_opened_is_read_anew(database, tables, monkeypatch, tmp_path):
    """A command, an answer and `cp` of a backup can be one tick of the clock by which files get their times."""
    other = Path(shutil.copy(database.path, tmp_path / "other.db"))
    manage_another(Database.at(other))
    monkeypatch.setattr(lookup, "_TICK_NS", LIMIT_SECONDS * 1_000_000_000)
    monkeypatch.setattr(lookup, "_stamp", attrgetter("st_dev", "st_ino", "st_nlink", "st_size"))
    assert look(tables)
    assert other.stat().st_size == database.path.stat().st_size
    shutil.copyfile(other, database.path)
    assert look(tables)
    assert tables.domain("example.net") == Domain("example.net")


def test_disk_that_fails_as_soon_as_the_file_was_opened_is_told_as_such(database, monkeypatch):
    """Whoever asks gets no answer, and Postfix asks again: it is no defect of ours that ends a connection."""

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(lookup, "_TICK_NS", LIMIT_SECONDS * 1_000_000_000)
    with closing(Lookup(database)) as tables:
        assert look(tables)
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(StoreError, match="Input/output error"):
            look(tables)
        monkeypatch.undo()
        assert look(tables)


def test_tables_are_not_read_before_they_are_open(database):
    """What was not looked at anew could be of any age."""
    with pytest.raises(StoreError):
        Lookup(database).mailbox_called("alice")


def test_tables_count_as_moved_after_an_error(database, tables, tmp_path):
    """Whatever happened while they could not be read, happened unseen."""
    database.path.rename(tmp_path / "away.db")
    with pytest.raises(StoreError):
        look(tables)
    with pytest.raises(StoreError):
        tables.mailbox_called("alice")
    (tmp_path / "away.db").rename(database.path)
    assert look(tables)
