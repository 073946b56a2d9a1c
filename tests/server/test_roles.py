"""contrib/postgresql: what each role may, and what it can't, on a real server."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from policyd.store.connection import Database
from policyd.store.database import postgresql
from tests.support.command_line import CommandLine
from tests.support.postgresql import Cluster, the_cluster

CONTRIB = Path(__file__).parents[2] / "contrib/postgresql"


def apply(server: Cluster, file: str, name: str) -> None:
    """What the README says to type."""
    ended = subprocess.run(
        ["psql", "-X", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={CONTRIB / file}", server.url(name)],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.fixture(scope="module")
def as_writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Commands as the writer, on a database that was made as the README says; all tests share it."""
    server = the_cluster()
    apply(server, "roles.sql", "postgres")
    apply(server, "roles.sql", "postgres")  # again is no error
    commands = CommandLine(tmp_path_factory.mktemp("writer"))
    commands.be_on(server)
    commands.have_no_tables()
    server.execute(f"ALTER DATABASE {commands.name} OWNER TO policyd_owner")
    url = server.url(commands.name)
    assert commands.ends(f"database create --database '{url.replace('owner@', 'policyd_owner@')}'").status == 0
    apply(server, "grants.sql", commands.name)
    apply(server, "grants.sql", commands.name)
    yield commands
    server.execute(f"DROP DATABASE {commands.name} WITH (FORCE)")


def url_of(commands: CommandLine, role: str) -> str:
    """The URL of the database for *role*."""
    assert commands.server
    return commands.server.url(commands.name).replace("owner@", f"{role}@")


def test_writer_can_type_every_command(as_writer):
    """Also what is made in a copy, replaces everything, and is undone."""
    file = as_writer.folder / "people.csv"
    file.write_text("name,addresses\n" + "".join(f"p{each},p{each}@example.com\n" for each in range(200)))
    lines = f"""
        domain add example.com
        domain set example.com --comment x
        group add staff
        mailbox add alice alice@example.com
        group join staff alice
        mailbox restrict alice --accept @a.example
        sender block alice --except @b.example
        import {file}
        import --replace --max-remove 100 {file}
        mailbox list
        history
        database check
        database stats
        database backup {as_writer.folder}/copy.db
        export
        check --recipient p1@example.com
        mailbox remove p1
        database upgrade
    """
    for line in lines.strip().splitlines():
        assert as_writer.ends(line, POLICYD_DATABASE=url_of(as_writer, "policyd_writer")).status == 0, line
    ((last,),) = as_writer.rows("SELECT max(changeset) FROM change")
    assert as_writer.ends(f"undo {last}", POLICYD_DATABASE=url_of(as_writer, "policyd_writer")).status == 0
    assert len(as_writer.json("mailbox list")) == 200


FORBIDDEN = [
    *("UPDATE change SET actor = 'x'", "DELETE FROM change", "TRUNCATE change", "DROP TABLE change"),
    *("ALTER TABLE change ADD x TEXT", "DELETE FROM journal_head", "INSERT INTO journal_head DEFAULT VALUES"),
    *("TRUNCATE mailbox", "CREATE TABLE x (y TEXT)", "CREATE SCHEMA x"),
]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_writer_can_not_touch_the_journal_nor_the_tables_themselves(as_writer, statement):
    """What administrators did stays on record, whoever of them would like otherwise."""
    with psycopg.connect(url_of(as_writer, "policyd_writer")) as writer, pytest.raises(errors.InsufficientPrivilege):
        writer.execute(statement.encode())


def test_reader_follows_and_can_not_write(as_writer):
    """A mail host that was broken into changes nobody's restrictions, also not if it asks to write."""
    as_writer.run("domain add reader.example")
    url = url_of(as_writer, "policyd_reader")
    with postgresql().following(Database(url)) as truth, truth.all() as (position, rows):
        assert as_writer.rows("SELECT id FROM journal_head") == [(position.id,)]
        assert "domain" in dict(rows)
    with postgresql().listening(Database(url)) as wait:
        wait(0)
    for line in ("domain list", "database check", "history", "export"):
        assert as_writer.ends(line, POLICYD_DATABASE=url).status == 0
    ended = as_writer.ends("domain add other.example", POLICYD_DATABASE=url)
    assert (ended.status, ended.err.count("\n")) == (69, 1)
    more = ["UPDATE mailbox SET receive = 'anyone'", "SELECT * FROM journal_head FOR UPDATE"]
    more.append("CREATE TEMP TABLE x (y TEXT)")
    for statement in (*FORBIDDEN, *more):
        with psycopg.connect(url) as reader:
            reader.execute("SET TRANSACTION READ WRITE")
            with pytest.raises(errors.InsufficientPrivilege):
                reader.execute(statement.encode())


def test_nobody_else_gets_in(as_writer, server):
    """A role that is on the server for something else has no business there."""
    server.execute("DO $$ BEGIN CREATE ROLE looker LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    ended = as_writer.ends("domain list", POLICYD_DATABASE=url_of(as_writer, "looker"))
    assert ended.status == 69
    assert "permission denied for database" in ended.err
