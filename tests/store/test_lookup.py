"""The daemon's reads: what they find, that they stand still, and when they say that they may have moved."""

from contextlib import closing
from dataclasses import replace

import pytest

from policyd.errors import StoreError
from policyd.model import ANYONE, BlockedSender, Domain, Mailbox, Receive, Unlisted
from policyd.store.database import Database, changing, create_database
from policyd.store.edit import EntryTerms, RestrictionTerms
from policyd.store.lookup import Lookup
from tests.support.parties import party, party_set
from tests.support.writing import ACTOR, NOW, editor_on

ALICE = Mailbox("Alice")
BOB = Mailbox("bob", Receive.NOBODY, "weg", NOW + 9, accepted=party_set("@x.example"))
MADE = BlockedSender(party("Alice", 1), created_at=NOW, created_by=ACTOR)
OUTSIDE = replace(MADE, allowed=party_set("joe@", "@.x.example"), reason="weg")
TO_BOB = replace(MADE, to=party("bob", 2), comment="c")
FROM_NET = replace(MADE, who=party("@.example.net"), to=ANYONE, until=NOW + 9)
NULL = replace(MADE, who=party("<>"), to=party("bob", 2))


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
        terms = RestrictionTerms(BOB.receive, BOB.accepted, BOB.reason, BOB.until)
        editor.restrict(editor.mailbox("bob"), terms)
        editor.block_sender(party("Alice"), party("outside"), EntryTerms(OUTSIDE.allowed, reason=OUTSIDE.reason))
        editor.block_sender(party("Alice"), party("bob"), EntryTerms(comment=TO_BOB.comment))
        editor.block_sender(party("@.example.net"), party("anyone"), EntryTerms(until=FROM_NET.until))
        editor.block_sender(party("<>"), party("bob"), EntryTerms())
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


def manage_another(database: Database) -> None:
    """Manage example.net, too, as a command does."""
    with changing(database) as connection:
        editor_on(connection).add_domain(Domain("example.net"))


def unnumbered(found):
    """What was found, in any order and without numbers."""
    if isinstance(found, tuple):
        return {replace(each, id=0) for each in found}
    return replace(found, id=0) if isinstance(found, Mailbox) else found


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
        pytest.param(lambda tables: tables.mailbox_with("alice@example.com"), ALICE, id="an address"),
        pytest.param(lambda tables: tables.mailbox_with("a b@example.org"), ALICE, id="an address with a blank"),
        pytest.param(lambda tables: tables.mailbox_with("bob@example.com"), None, id="an address of nobody"),
        pytest.param(lambda tables: tables.mailbox_named("alice"), ALICE, id="a name in another case"),
        pytest.param(lambda tables: tables.mailbox_named("bob"), BOB, id="the name of a restricted mailbox"),
        pytest.param(lambda tables: tables.mailbox_named("eve"), None, id="a name of nobody"),
        pytest.param(lambda tables: tables.entries_for(0, ()), set(), id="entries for nobody"),
        pytest.param(lambda tables: tables.entries_for(0, ("<>",)), {NULL}, id="entries for the null sender"),
        pytest.param(
            lambda tables: tables.entries_for(0, ("a@b.example.net", "@.example.net", "<>")),
            {FROM_NET, NULL},
            id="entries for patterns",
        ),
        pytest.param(
            lambda tables: tables.entries_for(tables.mailbox_named("alice").id, ("@.example.net",)),
            {OUTSIDE, TO_BOB, FROM_NET},
            id="entries for a mailbox and a pattern",
        ),
        pytest.param(lambda tables: tables.entries_for(tables.mailbox_named("bob").id, ()), set(), id="no entries"),
    ],
)
def test_each_question_finds_what_was_put_there(tables, question, answer):
    """Everything that a decision hangs on comes through these four questions."""
    assert unnumbered(question(tables)) == answer


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


def test_tables_are_not_read_before_they_are_open(database):
    """What was not looked at anew could be of any age."""
    with pytest.raises(StoreError):
        Lookup(database).mailbox_named("alice")


def test_tables_count_as_moved_after_an_error(database, tables, tmp_path):
    """Whatever happened while they could not be read, happened unseen."""
    database.path.rename(tmp_path / "away.db")
    with pytest.raises(StoreError):
        look(tables)
    with pytest.raises(StoreError):
        tables.mailbox_named("alice")
    (tmp_path / "away.db").rename(database.path)
    assert look(tables)
