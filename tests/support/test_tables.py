"""The tables in memory answer as the database does: what is shown with the ones holds for the others."""

from dataclasses import replace
from typing import Any

import pytest

from policyd.errors import StoreError
from policyd.model import Domain, Receive, Unlisted
from policyd.store.database import Database, changing, create_database
from policyd.store.edit import EntryTerms, MailboxTerms
from policyd.store.lookup import Lookup
from tests.support.tables import MemoryTables
from tests.support.writing import editor_on

NOW = 1_700_000_000


def in_memory():
    """A small company, in memory."""
    tables = MemoryTables()
    tables.manage("example.com")
    tables.manage("example.org", Unlisted.ACCEPT)
    tables.add_mailbox("Alice", "alice@example.com", "a b@example.org")
    tables.add_mailbox("bob", receive=Receive.NOBODY, reason="weg", until=NOW + 9, accepted=frozenset({"@x.example"}))
    made: dict[str, Any] = {"created_at": NOW, "created_by": "root"}
    tables.block("Alice", allowed=frozenset({"joe@", "@.x.example"}), reason="weg", **made)
    tables.block("Alice", "bob", comment="c", **made)
    tables.block("@.example.net", "anyone", until=NOW + 9, **made)
    tables.block("<>", "bob", **made)
    return tables


def in_a_database(path):
    """The same company, in a database."""
    database = Database.at(path)
    create_database(database)
    with changing(database) as connection:
        editor = editor_on(connection)
        editor.add_domain(Domain("example.com"))
        editor.add_domain(Domain("example.org", Unlisted.ACCEPT))
        editor.add_mailbox("Alice", ["alice@example.com", "a b@example.org"], "")
        editor.add_mailbox("bob", [], "")
        editor.restrict_mailbox("bob", MailboxTerms(Receive.NOBODY, frozenset({"@x.example"}), "weg", NOW + 9))
        editor.block_sender("Alice", "outside", EntryTerms(frozenset({"joe@", "@.x.example"}), "weg"))
        editor.block_sender("Alice", "bob", EntryTerms(comment="c"))
        editor.block_sender("@.example.net", "anyone", EntryTerms(until=NOW + 9))
        editor.block_sender("<>", "bob", EntryTerms())
    return Lookup(database)


@pytest.fixture
def stores(tmp_path):
    """The company twice; both are looked at."""
    found = in_memory(), in_a_database(tmp_path / "policyd.db")
    assert list(map(look, found)) == [True, True]
    yield found
    found[1].close()


def look(tables):
    """Whether *tables* may have changed, and from now on their newest state."""
    tables.end()
    return tables.begin()


def unnumbered(found):
    """What was found, in any order and without the numbers, which each store gives as it likes."""
    if isinstance(found, tuple):
        return sorted((unnumbered(each) for each in found), key=repr)
    return replace(found, id=0) if hasattr(found, "id") else found


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(lambda tables: tables.domain("example.com"), id="a managed domain"),
        pytest.param(lambda tables: tables.domain("example.org"), id="a managed domain that accepts"),
        pytest.param(lambda tables: tables.domain("example.net"), id="another domain"),
        pytest.param(lambda tables: tables.mailbox_with("alice@example.com"), id="an address"),
        pytest.param(lambda tables: tables.mailbox_with("a b@example.org"), id="an address with a blank"),
        pytest.param(lambda tables: tables.mailbox_with("bob@example.com"), id="an address of nobody"),
        pytest.param(lambda tables: tables.mailbox_named("alice"), id="a name in another case"),
        pytest.param(lambda tables: tables.mailbox_named("bob"), id="the name of a restricted mailbox"),
        pytest.param(lambda tables: tables.mailbox_named("eve"), id="a name of nobody"),
        pytest.param(lambda tables: tables.entries_for(0, ()), id="entries for nobody"),
        pytest.param(lambda tables: tables.entries_for(0, ("<>",)), id="entries for the null sender"),
        pytest.param(
            lambda tables: tables.entries_for(0, ("a@b.example.net", "@.example.net", "<>")), id="entries for patterns"
        ),
        pytest.param(
            lambda tables: tables.entries_for(tables.mailbox_named("alice").id, ("@.example.net",)),
            id="entries for a mailbox and a pattern",
        ),
        pytest.param(lambda tables: tables.entries_for(tables.mailbox_named("bob").id, ()), id="no entries"),
    ],
)
def test_both_tables_answer_the_same(stores, question):
    """A test that passes in memory means something for the daemon."""
    memory, database = stores
    assert unnumbered(question(memory)) == unnumbered(question(database))


def test_both_tables_tell_once_that_they_moved(stores, tmp_path):
    """The daemon forgets what it knew when there is reason to, and only then."""
    memory, database = stores
    assert list(map(look, stores)) == [False, False]
    memory.manage("example.net")
    with changing(Database.at(tmp_path / "policyd.db")) as connection:
        editor = editor_on(connection)
        editor.add_domain(Domain("example.net"))
    assert list(map(look, stores)) == [True, True]
    assert memory.domain("example.net") == database.domain("example.net") == Domain("example.net")


def test_both_tables_stand_still_while_they_are_looked_at(stores, tmp_path):
    """Requests that are decided together see one state, though a command ends in the middle of them."""
    memory, _ = stores
    memory.manage("example.net")
    with changing(Database.at(tmp_path / "policyd.db")) as connection:
        editor = editor_on(connection)
        editor.add_domain(Domain("example.net"))
    for tables in stores:
        assert not tables.begin()
        assert tables.domain("example.net") is None
        assert look(tables)
        assert tables.domain("example.net") == Domain("example.net")


def test_both_tables_are_not_read_before_they_are_open(tmp_path):
    """What was not looked at anew could be of any age."""
    for tables in (in_memory(), in_a_database(tmp_path / "policyd.db")):
        with pytest.raises(StoreError):
            tables.mailbox_named("alice")


def test_both_tables_count_as_moved_after_an_error(stores, tmp_path):
    """Whatever happened while they could not be read, happened unseen."""
    memory, _ = stores
    memory.break_with(StoreError("gone"))
    (tmp_path / "policyd.db").rename(tmp_path / "away.db")
    for tables in stores:
        with pytest.raises(StoreError):
            look(tables)
        with pytest.raises(StoreError):
            tables.mailbox_named("alice")
    memory.mend()
    (tmp_path / "away.db").rename(tmp_path / "policyd.db")
    assert list(map(look, stores)) == [True, True]
