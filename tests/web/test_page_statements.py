"""What a page asks the tables: a few rows by their keys, however many there are."""

import re
import sqlite3
from contextlib import closing

import pytest

from tests.support.help_desk import make_place

# What may be read from its beginning on: of the members of groups and of the accepted senders the first one, to see
# whether there is any; of SQLite's own list of tables all, which are a dozen; and what a statement has made itself.
READ_ON = re.compile(
    r"SCAN ((group_member|accepted_sender) USING COVERING INDEX \w+|sqlite_(schema|master)"
    r"|up|down|looked_at|\(?subquery-?.*|(\d+ )?CONSTANT ROWS?)"
)
READ_AT_MOST = re.compile(r"SCAN domain")  # as far as a limit says, to know of which domains nobody needs to ask


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small site, which no test changes."""
    return make_place(tmp_path_factory.mktemp("statements"))


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/", {"about": "bob@example.com", "other": "eve1@a.example"}),
        ("/", {"about": "4XyZ0B1cJ2z9"}),
        ("/", {"about": "carol", "other": "x@y.example"}),
        ("/", {"about": "alice", "direction": "from", "other": "x@y.example"}),
        ("/", {"about": "nobody@example.com"}),
        ("/mailbox", {"name": "bob"}),
        ("/mailbox", {"name": "alice@example.com"}),
        ("/mailbox", {"name": "nobody@example.com"}),
        ("/domain", {"name": "example.com"}),
        ("/domain", {"name": "a.bulk.example"}),
        ("/group", {"name": "crew"}),
        ("/journal", {}),
        ("/journal", {"object": "bob"}),
        ("/health", {}),
    ],
)
def test_page_reads_no_table_but_by_its_keys(place, monkeypatch, path, form):
    """So that it takes no longer with a million mailboxes than with ten."""
    run: list[str] = []
    connect = sqlite3.connect

    def connect_and_listen(*args, **options):
        connection = connect(*args, **options)
        connection.set_trace_callback(run.append)
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", connect_and_listen)
        place.post(path, **form)
    selects = [each for each in run if re.match(r"\s*(SELECT|WITH)\b", each)]
    assert 2 <= len(selects) <= 40
    with closing(connect(place.settings.database.removeprefix("sqlite:///"))) as connection:
        plans = [(row[3], each) for each in selects for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
    assert [(plan, each) for plan, each in plans if plan.startswith("SCAN") and not may_read_on(plan, each)] == []


def may_read_on(plan: str, statement: str) -> bool:
    """Whether what *plan* says of a *statement* takes no longer with larger tables."""
    return bool(READ_ON.fullmatch(plan) or (READ_AT_MOST.fullmatch(plan) and re.search(r"LIMIT \d+", statement)))
