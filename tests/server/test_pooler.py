"""Every kind of command through a real pgbouncer that lends its one connection for a transaction at a time."""

from collections.abc import Iterator

import psycopg
import pytest

from policyd.store import postgresql
from tests.support.command_line import CommandLine
from tests.support.next_version import NextVersion
from tests.support.pgbouncer import pooled
from tests.support.postgresql import Cluster

# What a session keeps: nothing of it may be left for the next client, which is somebody else's program.
LEFT = {
    "SHOW lock_timeout": "0",
    "SHOW statement_timeout": "0",
    "SHOW idle_in_transaction_session_timeout": "0",
    "SHOW default_transaction_read_only": "off",
    "SELECT count(*) FROM pg_prepared_statements": 0,
    "SELECT count(*) FROM pg_cursors": 0,
    "SELECT count(*) FROM pg_listening_channels()": 0,
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'": 0,
    "SELECT count(*) FROM pg_class WHERE relpersistence = 't'": 0,
}


@pytest.fixture
def behind(policyd: CommandLine, server: Cluster) -> Iterator[CommandLine]:
    """Commands whose database is behind the pooler."""
    with pooled(server, policyd.name, "transaction", connections=1) as url:
        policyd.behind = url
        yield policyd
        policyd.behind = ""


def test_every_kind_of_command_works_and_leaves_nothing_in_the_connection(
    behind: CommandLine, server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator need not know what is between him and the tables; nor is anybody else's query timed by us."""
    monkeypatch.setattr(postgresql, "_ROWS_AT_ONCE", 3)
    folder = behind.folder
    few = folder / "few.csv"
    few.write_text("name,addresses\ncarol,carol@example.com\n")
    many = "name,addresses\n" + "".join(f"p{each},p{each}@example.com\n" for each in range(10))
    other = behind.url.replace(behind.name, server.make_empty())
    for line in (
        "mailbox add bob bob@example.com",
        "group add staff bob",
        "mailbox restrict bob --accept @a.example",
        f"import {few}",
        "import - --format csv",
        "mailbox list",
        "address list",
        "history",
        "export",
        "check --recipient p1@example.com",
        "database stats",
        "database check",
        f"database backup {folder}/backup.db",
        f"database copy --to {folder}/copy.db",
        f"database copy --to '{other}'",
        f"database check --database '{other}'",
        "database upgrade",
    ):
        ended = behind.ends(line, stdin=many)
        assert (ended.status, ended.err) == (0, ""), (line, ended)
        must_have_left_nothing(behind)
    ((last,),) = behind.rows("SELECT max(changeset) FROM change")
    behind.run(f"undo {last}")
    must_have_left_nothing(behind)
    lines = "domain add example.org\nmailbox add dave dave@example.org\n"
    ended = behind.ends("batch -", stdin=lines)
    assert ended.status == 0, ended
    must_have_left_nothing(behind)
    with NextVersion() as version:
        assert version.ends("database upgrade --yes", behind.environment)[0] == 0
    must_have_left_nothing(behind)


def must_have_left_nothing(behind: CommandLine) -> None:
    """Look as the next client of the same connection."""
    with psycopg.connect(behind.url, autocommit=True, prepare_threshold=None) as client:
        assert {query: client.execute(query.encode()).fetchone() for query in LEFT} == {
            query: (value,) for query, value in LEFT.items()
        }
