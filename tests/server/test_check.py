"""`policyd database check` on a server: whatever somebody did to the tables there, it is a line with what to do."""

import psycopg
import pytest

from tests.support.drills import drill

# What somebody does in psql, and how the line begins that tells; the rest of it puts it right.
REPAIRABLE = {
    "DROP INDEX address_mailbox": "address: index address_mailbox is missing",
    "DROP INDEX address_one_primary; CREATE INDEX address_one_primary ON address (mailbox_id) WHERE is_primary = 1": (
        "address: index address_one_primary is altered"
    ),
    'CREATE INDEX "Of somebody" ON address (is_primary)': "address: index Of somebody is not policyd's",
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'domain_alias_of'::regclass": (
        "domain: index domain_alias_of is not whole"
    ),
    "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
    "CREATE TRIGGER swallow BEFORE INSERT ON mailbox FOR EACH ROW EXECUTE FUNCTION nothing()": (
        "mailbox: trigger swallow is not policyd's"
    ),
    "CREATE RULE deaf AS ON UPDATE TO domain DO INSTEAD NOTHING": "domain: rule deaf is not policyd's",
    "ALTER TABLE group_member DISABLE TRIGGER ALL": "group_member: its foreign keys are switched off, or those to it",
    "ALTER TABLE address DROP CONSTRAINT address_mailbox_id_fkey": (
        "address: constraint address_mailbox_id_fkey is missing"
    ),
    "ALTER TABLE address DROP CONSTRAINT address_is_primary; "
    "ALTER TABLE address ADD CONSTRAINT address_is_primary CHECK (is_primary IN (0, 1)) NOT VALID": (
        "address: constraint address_is_primary was not asked of the rows that were there"
    ),
    "ALTER TABLE domain DROP CONSTRAINT domain_unlisted; "
    "ALTER TABLE domain ADD CONSTRAINT domain_unlisted CHECK (unlisted IN ('reject', 'accept', 'perhaps'))": (
        "domain: constraint domain_unlisted is altered"
    ),
    "ALTER TABLE mailbox ADD CONSTRAINT few CHECK (id < 1000)": "mailbox: constraint few is not policyd's",
    "ALTER TABLE mailbox ALTER COLUMN until TYPE integer": ("mailbox: column until is of the type integer, not bigint"),
    'ALTER TABLE domain ALTER COLUMN name TYPE text COLLATE "POSIX"': (
        "domain: column name is of the type text collate POSIX, not text collate C"
    ),
    "ALTER TABLE mailbox ALTER COLUMN comment DROP NOT NULL": "mailbox: column comment may be without a value",
    "ALTER TABLE mailbox ALTER COLUMN until SET DEFAULT 0": "mailbox: column until gets a value by itself",
    "ALTER TABLE mailbox ADD COLUMN note text": "mailbox: column note is not policyd's",
    "ALTER TABLE allowed_sender SET UNLOGGED": "allowed_sender: it is unlogged: a crash of the server empties it",
    "ALTER TABLE blocked_sender ENABLE ROW LEVEL SECURITY": (
        "blocked_sender: it has row-level security, which hides rows from some"
    ),
    "CREATE SCHEMA other; CREATE TABLE other.more () INHERITS (mailbox)": (
        "mailbox: table other.more inherits from it, so that its rows are read, too"
    ),
}
# What no statement puts right, one after the other, and the whole line.
BEYOND_REPAIR = {
    "CREATE TABLE orders (id integer)": (
        "table orders is not policyd's; move it to another schema or database, or drop it"
    ),
    "ALTER TABLE allowed_sender DROP COLUMN pattern CASCADE": (
        "allowed_sender: column pattern is missing; restore a backup"
    ),
    "ALTER TABLE allowed_sender RENAME TO aside; CREATE VIEW allowed_sender AS SELECT * FROM aside": (
        "table allowed_sender is a view; restore a backup"
    ),
    "DROP VIEW allowed_sender": "table allowed_sender is missing; restore a backup",
    "CREATE SCHEMA owner; CREATE TABLE owner.domain (LIKE domain)": (
        "table domain is hidden by another of that name; drop that one"
    ),
}


@pytest.fixture
def company(policyd, server):
    """A bit of everything, which is sound, in a database that nobody uses after it."""
    for line in (
        "mailbox add jörg jörg@example.com",
        "group add staff jörg",
        "group restrict staff --accept @a.example --reason 'ab — cd'",
        "sender block jörg --to anyone --except @b.example --until +3d",
    ):
        policyd.run(line)
    assert policyd.run("database check") == ""
    yield policyd
    server.execute(f"DROP DATABASE {policyd.name} WITH (FORCE)")


def alter(policyd, statements):
    """Do what somebody did in psql; the catalogue itself can be altered by who owns everything."""
    with psycopg.connect(policyd.url, autocommit=True) as connection:
        connection.execute("SET allow_system_table_mods = on")
        connection.execute(statements.encode())


@drill(
    "somebody alters the tables on a PostgreSQL server",
    made="`psql`: indexes, constraints, triggers, rules, types, foreign keys that are switched off",
    client="nothing: hosts answer from their replicas",
    log="nothing; `database check`: a line for each, with the statement that puts it right",
)
def test_whatever_was_done_to_the_tables_is_a_line_and_what_the_line_says_puts_it_right(company):
    """Nobody else notices: commands go on, and what a table kept from being written is not kept any more."""
    for statements in REPAIRABLE:
        alter(company, statements)
    lines = [line.split("; type in psql: ") for line in company.ends("database check").out.splitlines()]
    assert sorted(problem for problem, _ in lines) == sorted(REPAIRABLE.values())
    for _, statements in lines:
        alter(company, statements)
    assert company.run("database check") == ""


def test_what_no_statement_puts_right_is_a_line_too(company):
    """Where rows are gone, only a backup helps; what is somebody else's, he must move."""
    for statements, line in BEYOND_REPAIR.items():
        alter(company, statements)
        ended = company.ends("database check")
        assert (ended.status, line in ended.out.splitlines()) == (1, True), ended


def test_rows_that_got_in_meanwhile_are_told_too(company):
    """A constraint that was off for an hour has left what it would have refused."""
    for statements, finding in {
        "ALTER TABLE mailbox DROP CONSTRAINT mailbox_receive; UPDATE mailbox SET receive = 'perhaps'": (
            "mailbox 1: it breaks the rule mailbox_receive, which every row keeps"
        ),
        "ALTER TABLE address DISABLE TRIGGER ALL; UPDATE address SET mailbox_id = 99": (
            "address in a row: it names a mailbox that isn't there"
        ),
        "DROP INDEX allowed_recipient_once; INSERT INTO allowed_recipient SELECT * FROM allowed_recipient": (
            "a row is there that can't be: UNIQUE constraint failed: index 'allowed_recipient_once'"
        ),
        "TRUNCATE allowed_recipient; ALTER TABLE domain ALTER reason DROP NOT NULL; UPDATE domain SET reason = NULL": (
            "a row is there that can't be: NOT NULL constraint failed: domain.reason"
        ),
    }.items():
        alter(company, statements)
        ended = company.ends("database check")
        assert ended.status == 1
        assert any(line.startswith(finding) for line in ended.out.splitlines()), ended


def test_database_that_was_restored_into_another_locale_is_told(company, server):
    """pg_restore takes any database; texts there are in another order than on the hosts."""
    name = "in_another_locale"
    server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'")
    try:
        dump = server.program("pg_dump", "--inserts", company.url)
        with psycopg.connect(server.url(name)) as connection:
            connection.execute(dump.replace("\\restrict", "--").replace("\\unrestrict", "--").encode())
        ended = company.ends("database check", POLICYD_DATABASE=server.url(name))
        assert ended.status == 1
        assert ended.out.strip() == (
            "its encoding is UTF8 and its locale C.UTF-8, so that texts are in another order; copy it, with policyd "
            "database copy, to one with UTF8 and C"
        )
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
