"""The company that the tests of decisions ask about."""

import shutil
from contextlib import closing

import pytest

from policyd.model import Domain
from policyd.store.connection import Database
from policyd.store.database import changing, create_database
from tests.support.tables import WatchedTables
from tests.support.writing import editor_on


@pytest.fixture(scope="session")
def company(tmp_path_factory):
    """The database of a company with three mailboxes in example.com; bücher.example is managed too."""
    path = tmp_path_factory.mktemp("company") / "policyd.db"
    create_database(Database.at(path))
    with changing(Database.at(path)) as connection:
        editor = editor_on(connection)
        editor.add_domain(Domain("example.com"))
        editor.add_domain(Domain("xn--bcher-kva.example"))
        editor.add_mailbox("alice", ["alice@example.com", "alice.old@example.com"], "")
        editor.add_mailbox("bob", ["bob@example.com", "bob+list@example.com", "john doe@example.com"], "")
        editor.add_mailbox("JDoe", ["jdoe@example.com", "jdoe@xn--bcher-kva.example"], "")
    return path


@pytest.fixture
def tables(company, tmp_path):
    """The tables of that company."""
    shutil.copy(company, tmp_path / "policyd.db")
    with closing(WatchedTables(tmp_path / "policyd.db")) as found:
        yield found
