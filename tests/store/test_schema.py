"""The tables: constraints that hold against anybody who writes to them, and a word about every column."""

import sqlite3

import pytest

from policyd.store.connection import Database
from policyd.store.database import create_database
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
        INSERT INTO domain VALUES ('example.com', 'reject', NULL, 'insiders', '', NULL, '');
        INSERT INTO domain VALUES ('alias.example', 'reject', 'example.com', 'anyone', '', NULL, '');
        INSERT INTO mailbox VALUES (1, 'Alice', 'alice', 'insiders', '', NULL, '');
        INSERT INTO mailbox VALUES (2, 'Bob', 'bob', 'inherit', '', NULL, '');
        INSERT INTO mailbox_group VALUES (1, 'Staff', 'staff', 'nobody', '', NULL, '');
        INSERT INTO mailbox_group VALUES (2, 'All', 'all', 'anyone', '', NULL, '');
        INSERT INTO group_member VALUES (1, 1, 1, NULL);
        INSERT INTO group_member VALUES (2, 2, NULL, 1);
        INSERT INTO address VALUES ('alice@example.com', 1, 1);
        INSERT INTO accepted_sender VALUES (1, 1, NULL, NULL, '@partner.example', NULL, NULL);
        INSERT INTO accepted_sender VALUES (2, NULL, 1, NULL, NULL, 2, NULL);
        INSERT INTO accepted_sender VALUES (3, NULL, NULL, 'example.com', NULL, NULL, 1);
        INSERT INTO blocked_sender
            VALUES (1, 1, NULL, NULL, NULL, 'outside', NULL, NULL, NULL, '', NULL, '', 0, 'root');
        INSERT INTO blocked_sender
            VALUES (2, NULL, NULL, '@spam.example', NULL, NULL, 1, NULL, NULL, '', NULL, '', 0, 'root');
        INSERT INTO blocked_sender
            VALUES (3, NULL, NULL, NULL, 'anyone', NULL, NULL, NULL, '@x.example', '', NULL, '', 0, 'root');
        INSERT INTO blocked_sender VALUES (4, NULL, 1, NULL, NULL, NULL, NULL, 2, NULL, '', NULL, '', 0, 'root');
        INSERT INTO allowed_recipient VALUES (1, '@partner.example', NULL, NULL);
        INSERT INTO allowed_sender VALUES (1, NULL, 2, NULL);
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


def test_tables_are_those_of_the_contract(database):
    """All strict: SQLite keeps no text where a number belongs."""
    tables = database.execute(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite%' ORDER BY name"
    )
    assert tables.fetchall() == [
        *(("accepted_sender", 1), ("address", 1), ("allowed_recipient", 1), ("allowed_sender", 1)),
        *(("blocked_sender", 1), ("change", 1), ("domain", 1), ("group_member", 1), ("journal_head", 1)),
        *(("mailbox", 1), ("mailbox_group", 1)),
    ]


def test_file_names_its_maker_and_version(database):
    """So that `file`(1) and a later policyd know it; the log is kept beside it from the start."""
    pragmas = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    assert pragmas == [APPLICATION_ID, VERSION]
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


DOMAIN = "INSERT INTO domain VALUES ('a.example', {}, '')"
BLOCK = "INSERT INTO blocked_sender VALUES (9, {}, '', NULL, '', 0, 'root')"


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(
            "INSERT INTO domain VALUES ('example.com', 'reject', NULL, 'anyone', '', NULL, '')", id="a domain twice"
        ),
        pytest.param(DOMAIN.format("'bounce', NULL, 'anyone', '', NULL"), id="another word for unlisted"),
        pytest.param(DOMAIN.format("NULL, NULL, 'anyone', '', NULL"), id="no word for unlisted"),
        pytest.param(DOMAIN.format("'reject', 'a.example', 'anyone', '', NULL"), id="an alias of itself"),
        pytest.param(DOMAIN.format("'reject', 'example.com', 'insiders', '', NULL"), id="an alias that restricts"),
        pytest.param(DOMAIN.format("'reject', NULL, 'anyone', 'why', NULL"), id="a reason without a restriction"),
        pytest.param(DOMAIN.format("'reject', NULL, 'anyone', '', 9"), id="an end without a restriction"),
        pytest.param(DOMAIN.format("'reject', NULL, 'inherit', '', NULL"), id="a domain that inherits"),
        pytest.param("UPDATE domain SET name = NULL", id="a domain without a name"),
        pytest.param(
            "INSERT INTO mailbox VALUES (9, 'ALICE', 'alice', 'anyone', '', NULL, '')", id="a name in two cases"
        ),
        pytest.param("UPDATE mailbox SET receive = 'outsiders'", id="another word for receive"),
        pytest.param("UPDATE mailbox SET until = 'tomorrow'", id="a time that is no number"),
        pytest.param("UPDATE mailbox SET until = 1.5", id="a time with a fraction"),
        pytest.param("UPDATE mailbox SET reason = NULL", id="no reason, rather than an empty one"),
        pytest.param("UPDATE mailbox SET reason = 'why' WHERE id = 2", id="a reason of a mailbox that inherits"),
        pytest.param("UPDATE mailbox SET until = 9 WHERE id = 2", id="an end of a mailbox that inherits"),
        pytest.param("UPDATE mailbox_group SET receive = 'inherit'", id="a group that inherits"),
        pytest.param("UPDATE mailbox_group SET until = 9 WHERE id = 2", id="an end of a group that restricts nobody"),
        pytest.param("INSERT INTO group_member VALUES (9, 1, NULL, NULL)", id="nobody in a group"),
        pytest.param("INSERT INTO group_member VALUES (9, 1, 2, 2)", id="a member of two kinds"),
        pytest.param("INSERT INTO group_member VALUES (9, 1, NULL, 1)", id="a group in itself"),
        pytest.param("INSERT INTO group_member VALUES (9, 1, 1, NULL)", id="a mailbox in a group twice"),
        pytest.param("INSERT INTO group_member VALUES (9, 2, NULL, 1)", id="a group in a group twice"),
        pytest.param("INSERT INTO group_member VALUES (9, 1, 9, NULL)", id="an unknown mailbox in a group"),
        pytest.param("INSERT INTO group_member VALUES (9, 9, 1, NULL)", id="a mailbox in an unknown group"),
        pytest.param("INSERT INTO address VALUES ('alice@example.com', 2, 0)", id="an address of two mailboxes"),
        pytest.param("INSERT INTO address VALUES ('x@example.com', 3, 0)", id="an address of no mailbox"),
        pytest.param("INSERT INTO address VALUES ('x@example.com', NULL, 0)", id="an address without a mailbox"),
        pytest.param("INSERT INTO address VALUES ('x@example.com', 1, 1)", id="two primary addresses"),
        pytest.param("UPDATE address SET is_primary = 2", id="neither primary nor not"),
        pytest.param(
            "INSERT INTO accepted_sender VALUES (9, 1, NULL, NULL, '@partner.example', NULL, NULL)",
            id="an accepted sender twice",
        ),
        pytest.param(
            "INSERT INTO accepted_sender VALUES (9, 3, NULL, NULL, '@a.example', NULL, NULL)", id="by no mailbox"
        ),
        pytest.param("INSERT INTO accepted_sender VALUES (9, 1, NULL, NULL, NULL, NULL, NULL)", id="accepts nobody"),
        pytest.param("INSERT INTO accepted_sender VALUES (9, 1, 1, NULL, 'a@', NULL, NULL)", id="accepted by two"),
        pytest.param("INSERT INTO accepted_sender VALUES (9, 1, NULL, NULL, 'a@', 1, NULL)", id="accepts two"),
        pytest.param(BLOCK.format("NULL, NULL, NULL, NULL, 'anyone', NULL, NULL, NULL"), id="a block of nobody"),
        pytest.param(BLOCK.format("2, NULL, '@a.example', NULL, 'anyone', NULL, NULL, NULL"), id="of two kinds"),
        pytest.param(BLOCK.format("2, NULL, NULL, NULL, NULL, NULL, NULL, NULL"), id="a block to nobody"),
        pytest.param(BLOCK.format("2, NULL, NULL, NULL, 'anyone', 1, NULL, NULL"), id="a block to two kinds"),
        pytest.param(BLOCK.format("2, NULL, NULL, NULL, 'mailbox', NULL, NULL, NULL"), id="a block to another word"),
        pytest.param(BLOCK.format("NULL, NULL, NULL, 'outside', 'anyone', NULL, NULL, NULL"), id="of another word"),
        pytest.param(
            BLOCK.format("3, NULL, NULL, NULL, 'anyone', NULL, NULL, NULL"), id="a block of an unknown mailbox"
        ),
        pytest.param(BLOCK.format("2, NULL, NULL, NULL, NULL, 3, NULL, NULL"), id="a block to an unknown mailbox"),
        pytest.param(BLOCK.format("2, NULL, NULL, NULL, NULL, NULL, 3, NULL"), id="a block to an unknown group"),
        pytest.param(BLOCK.format("1, NULL, NULL, NULL, 'outside', NULL, NULL, NULL"), id="a mailbox blocked twice"),
        pytest.param(
            BLOCK.format("NULL, NULL, '@spam.example', NULL, NULL, 1, NULL, NULL"), id="a pattern blocked twice"
        ),
        pytest.param(BLOCK.format("NULL, 1, NULL, NULL, NULL, NULL, 2, NULL"), id="a group blocked twice"),
        pytest.param(
            BLOCK.format("NULL, NULL, NULL, 'anyone', NULL, NULL, NULL, '@x.example'"), id="anyone blocked twice"
        ),
        pytest.param(
            "INSERT INTO allowed_recipient VALUES (9, '@a.example', NULL, NULL)", id="an exception to nothing"
        ),
        pytest.param(
            "INSERT INTO allowed_recipient VALUES (1, '@partner.example', NULL, NULL)", id="a recipient twice"
        ),
        pytest.param("INSERT INTO allowed_sender VALUES (1, NULL, 2, NULL)", id="an excepted sender twice"),
        pytest.param("INSERT INTO allowed_sender VALUES (1, NULL, NULL, NULL)", id="an exception for nobody"),
        pytest.param("INSERT INTO journal_head SELECT 2, 'x', 0, '', 2, 1, 1, 1, 1, 1", id="two heads"),
        pytest.param("INSERT INTO change VALUES (1, 0, 'x', 1, 'x', 'x', NULL, NULL, 'x')", id="a change's id twice"),
        pytest.param("UPDATE change SET digest = NULL", id="a change without a digest"),
        pytest.param("UPDATE change SET actor = NULL", id="a change by nobody"),
    ],
)
def test_database_itself_refuses_what_cannot_be(database, statement):
    """Against a script with SQL of its own, and against our own mistakes."""
    with pytest.raises(sqlite3.IntegrityError):
        database.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM mailbox WHERE id = 1",
        "DELETE FROM mailbox WHERE id = 2",
        "DELETE FROM mailbox_group WHERE id = 1",
        "DELETE FROM mailbox_group WHERE id = 2",
        "DELETE FROM domain WHERE name = 'example.com'",
        "DELETE FROM blocked_sender WHERE id = 1",
    ],
)
def test_nothing_goes_because_another_went(database, statement):
    """What was forgotten fails, rather than vanish without a row in the journal."""
    database.execute("BEGIN")
    database.execute(statement)
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        database.execute("COMMIT")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM address WHERE address = 'a@example.com'",
        "SELECT * FROM address WHERE mailbox_id = 1",
        "SELECT * FROM mailbox WHERE folded_name = 'alice'",
        "SELECT * FROM blocked_sender WHERE mailbox_id = 1",
        "SELECT * FROM blocked_sender WHERE pattern = '@spam.example'",
        "SELECT * FROM blocked_sender WHERE group_id IN (1, 2)",
        "SELECT * FROM blocked_sender WHERE senders = 'anyone' AND recipients IS NOT NULL",
        "SELECT * FROM blocked_sender WHERE senders = 'anyone' AND recipient_pattern IN ('a@', '@b.example')",
        "SELECT * FROM blocked_sender WHERE recipient_mailbox_id = 1",
        "SELECT * FROM blocked_sender WHERE recipient_group_id IN (1, 2)",
        "SELECT * FROM accepted_sender WHERE mailbox_id = 1",
        "SELECT * FROM accepted_sender WHERE group_id IN (1, 2)",
        "SELECT * FROM accepted_sender WHERE domain = 'example.com'",
        "SELECT * FROM accepted_sender WHERE sender_mailbox_id = 1",
        "SELECT * FROM accepted_sender WHERE sender_group_id = 1",
        "SELECT * FROM allowed_recipient WHERE blocked_sender_id IN (1, 2)",
        "SELECT * FROM allowed_recipient WHERE mailbox_id = 1",
        "SELECT * FROM allowed_recipient WHERE group_id = 1",
        "SELECT * FROM allowed_sender WHERE blocked_sender_id IN (1, 2)",
        "SELECT * FROM allowed_sender WHERE mailbox_id = 1",
        "SELECT * FROM allowed_sender WHERE group_id = 1",
        "SELECT group_id FROM group_member WHERE mailbox_id = 1",
        "SELECT group_id FROM group_member WHERE member_group_id = 1",
        "SELECT * FROM group_member WHERE group_id = 1",
        "SELECT * FROM domain WHERE alias_of = 'example.com'",
        "SELECT address FROM address WHERE mailbox_id = 1 AND is_primary = 1",
        "SELECT * FROM change WHERE id = 1",
    ],
)
def test_daemon_scans_no_table(database, statement):
    """What is asked for each mail, or for each deletion, has an index."""
    plan = " ".join(row[-1] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}"))
    assert plan.startswith("SEARCH ")
