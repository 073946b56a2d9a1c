"""Names for completion: their SQL is that of the schema, and whatever file there is, it is left as it was."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from policyd.store.connection import Database
from policyd.store.database import changing, create_database
from policyd.store.names import COLUMNS, MOST, statement, stored_names
from policyd.store.schema import metadata
from tests.support.writing import editor_on


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with some mailboxes, of which more than can be offered begin with the same letter."""
    database = Database.at(tmp_path / "policyd.db")
    create_database(database)
    with changing(database) as connection:
        edit = editor_on(connection)
        for name in ["Anna Böhm", "bob", *(f"user{number:04}" for number in range(MOST + 50)), "usurer"]:
            edit.add_mailbox(name, [], "")
    return database.path


@pytest.mark.parametrize("table", COLUMNS)
def test_columns_are_those_of_the_schema_and_are_looked_up_by_an_index(file: Path, table: str) -> None:
    """The text is written by hand, and two hundred thousand names are not looked through for a TAB."""
    assert {*COLUMNS[table]} <= {*metadata.tables[table].columns.keys()}
    with closing(sqlite3.connect(file)) as connection:
        ((*_, plan),) = connection.execute(f"EXPLAIN QUERY PLAN {statement(table)}", ("a", "b"))
    assert plan.startswith(f"SEARCH {table} USING ")


@pytest.mark.parametrize(
    ("beginning", "names"),
    [("anna b", ["Anna Böhm"]), ("b", ["bob"]), ("bobby", []), ("user0007", ["user0007"]), ("%", []), ("'", [])],
)
def test_names_are_those_that_begin_so(file: Path, beginning: str, names: list[str]) -> None:
    """They are found folded, and shown as they were typed once."""
    assert stored_names(file, "mailbox", beginning) == names


def test_of_many_names_the_last_is_among_those_offered(file: Path) -> None:
    """A shell types what all offered names begin with: that must be true of those left out, too."""
    names = stored_names(file, "mailbox", "us")
    assert len(names) == MOST + 1
    assert (names[0], names[-1]) == ("user0000", "usurer")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda _: None, id="missing"),
        pytest.param(lambda file: file.mkdir(), id="a folder"),
        pytest.param(os.mkfifo, id="a pipe"),
        pytest.param(lambda file: file.symlink_to(file), id="a link to itself"),
        pytest.param(lambda file: file.write_bytes(b""), id="empty"),
        pytest.param(lambda file: file.write_bytes(b"no database" * 1000), id="something else"),
        pytest.param(lambda file: sqlite3.connect(file).close(), id="without tables"),
    ],
)
def test_what_is_no_database_has_no_names(tmp_path: Path, make) -> None:
    """Nobody waits, and nobody reads about it in the middle of a command line."""
    file = tmp_path / "policyd.db"
    make(file)
    assert stored_names(file, "mailbox", "a") == []


def test_nothing_is_made_beside_the_file_and_no_writer_is_waited_for(file: Path) -> None:
    """A -wal or -shm of root's would keep the daemon out; an import takes minutes."""
    beside = {*file.parent.iterdir()}
    assert stored_names(file, "mailbox", "b") == ["bob"]
    assert {*file.parent.iterdir()} == beside
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert stored_names(file, "mailbox", "b") == ["bob"]
