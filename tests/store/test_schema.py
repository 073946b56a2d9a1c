"""The tables: constraints that hold against anybody who writes to them, and a word about every column."""

import sqlite3

import pytest

from policyd.store.database import Database, create_database
from policyd.store.schema import APPLICATION_ID, VERSION, metadata

COLUMNS = [column for table in metadata.sorted_tables for column in table.columns]


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """A database as it was made."""
    path = tmp_path_factory.mktemp("new") / "policyd.db"
    create_database(Database.at(path))
    return path


@pytest.fixture
def database(new, tmp_path):
    """A connection past everything of ours, to tables that hold one of each kind."""
    (tmp_path / "policyd.db").write_bytes(new.read_bytes())
    connection = sqlite3.connect(tmp_path / "policyd.db", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(
        """
        INSERT INTO domain VALUES ('example.com', 'reject');
        INSERT INTO mailbox VALUES (1, 'Alice', 'alice', 'insiders', '', NULL, '');
        INSERT INTO mailbox VALUES (2, 'Bob', 'bob', 'anyone', '', NULL, '');
        INSERT INTO address VALUES ('alice@example.com', 1, 1);
        INSERT INTO accepted_sender VALUES (1, '@partner.example');
        INSERT INTO blocked_sender VALUES (1, 1, NULL, 'outside', NULL, '', NULL, '', 0, 'root');
        INSERT INTO blocked_sender VALUES (2, NULL, '@spam.example', NULL, 1, '', NULL, '', 0, 'root');
        INSERT INTO allowed_recipient VALUES (1, '@partner.example');
        INSERT INTO change VALUES (1, 0, 'root', 1, 'domain.add', 'example.com', NULL, '{}', 'x');
        """
    )
    yield connection
    connection.close()


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_every_column_has_a_comment(column):
    """Whoever opens the database in another tool reads there what it means."""
    assert column.comment


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_every_table_has_a_comment(table):
    """The same for tables."""
    assert table.comment


def test_tables_are_the_seven_of_the_contract(database):
    """All strict: SQLite keeps no text where a number belongs."""
    tables = database.execute(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite%' ORDER BY name"
    )
    names = ("accepted_sender", "address", "allowed_recipient", "blocked_sender", "change", "domain", "mailbox")
    assert tables.fetchall() == [(name, 1) for name in names]


def test_file_names_its_maker_and_version(database):
    """So that `file`(1) and a later policyd know it; the log is kept beside it from the start."""
    pragmas = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    assert pragmas == [APPLICATION_ID, VERSION]
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


BLOCK = "INSERT INTO blocked_sender VALUES (9, {}, '', NULL, '', 0, 'root')"


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("INSERT INTO domain VALUES ('example.com', 'reject')", id="a domain twice"),
        pytest.param("INSERT INTO domain VALUES ('a.example', 'bounce')", id="another word for unlisted"),
        pytest.param("INSERT INTO domain VALUES ('a.example', NULL)", id="no word for unlisted"),
        pytest.param("INSERT INTO domain VALUES (NULL, 'reject')", id="a domain without a name"),
        pytest.param(
            "INSERT INTO mailbox VALUES (9, 'ALICE', 'alice', 'anyone', '', NULL, '')", id="a name in two cases"
        ),
        pytest.param("UPDATE mailbox SET receive = 'outsiders'", id="another word for receive"),
        pytest.param("UPDATE mailbox SET until = 'tomorrow'", id="a time that is no number"),
        pytest.param("UPDATE mailbox SET until = 1.5", id="a time with a fraction"),
        pytest.param("UPDATE mailbox SET reason = NULL", id="no reason, rather than an empty one"),
        pytest.param("INSERT INTO address VALUES ('alice@example.com', 2, 0)", id="an address of two mailboxes"),
        pytest.param("INSERT INTO address VALUES ('x@example.com', 3, 0)", id="an address of no mailbox"),
        pytest.param("INSERT INTO address VALUES ('x@example.com', NULL, 0)", id="an address without a mailbox"),
        pytest.param("UPDATE address SET is_primary = 2", id="neither primary nor not"),
        pytest.param("INSERT INTO accepted_sender VALUES (1, '@partner.example')", id="an accepted sender twice"),
        pytest.param("INSERT INTO accepted_sender VALUES (3, '@a.example')", id="accepted by no mailbox"),
        pytest.param(BLOCK.format("NULL, NULL, 'anyone', NULL"), id="a block of nobody"),
        pytest.param(BLOCK.format("2, '@a.example', 'anyone', NULL"), id="a block of a mailbox and a pattern"),
        pytest.param(BLOCK.format("2, NULL, NULL, NULL"), id="a block to nobody"),
        pytest.param(BLOCK.format("2, NULL, 'anyone', 1"), id="a block to two kinds of recipients"),
        pytest.param(BLOCK.format("2, NULL, 'mailbox', NULL"), id="a block to another word"),
        pytest.param(BLOCK.format("3, NULL, 'anyone', NULL"), id="a block of an unknown mailbox"),
        pytest.param(BLOCK.format("2, NULL, NULL, 3"), id="a block to an unknown mailbox"),
        pytest.param(BLOCK.format("1, NULL, 'outside', NULL"), id="a mailbox blocked to the same twice"),
        pytest.param(BLOCK.format("NULL, '@spam.example', NULL, 1"), id="a pattern blocked to the same twice"),
        pytest.param("INSERT INTO allowed_recipient VALUES (9, '@a.example')", id="an exception to nothing"),
        pytest.param("INSERT INTO allowed_recipient VALUES (1, '@partner.example')", id="an exception twice"),
        pytest.param("INSERT INTO change VALUES (1, 0, 'x', 1, 'x', 'x', NULL, NULL, 'x')", id="a change's id twice"),
        pytest.param("UPDATE change SET digest = NULL", id="a change without a digest"),
        pytest.param("UPDATE change SET actor = NULL", id="a change by nobody"),
    ],
)
def test_database_itself_refuses_what_cannot_be(database, statement):
    """Against a script with SQL of its own, and against our own mistakes."""
    with pytest.raises(sqlite3.IntegrityError):
        database.execute(statement)


def test_what_hangs_on_a_mailbox_goes_with_it(database):
    """No row is left that names nothing."""
    database.execute("DELETE FROM mailbox WHERE id = 1")
    for table in ("address", "accepted_sender", "blocked_sender", "allowed_recipient"):
        assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM address WHERE address = 'a@example.com'",
        "SELECT * FROM address WHERE mailbox_id = 1",
        "SELECT * FROM mailbox WHERE folded_name = 'alice'",
        "SELECT * FROM blocked_sender WHERE mailbox_id = 1",
        "SELECT * FROM blocked_sender WHERE pattern = '@spam.example'",
        "SELECT * FROM blocked_sender WHERE recipient_mailbox_id = 1",
        "SELECT * FROM accepted_sender WHERE mailbox_id = 1",
        "SELECT * FROM allowed_recipient WHERE blocked_sender_id = 1",
        "SELECT * FROM change WHERE id = 1",
    ],
)
def test_daemon_scans_no_table(database, statement):
    """What is asked for each mail, or for each deletion, has an index."""
    plan = " ".join(row[-1] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}"))
    assert plan.startswith("SEARCH ")
