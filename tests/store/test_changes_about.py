"""What the journal says of one object: found by indexes, and the same as a look at every row finds."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from policyd.model import Change, Party, PartyKind
from policyd.store.connection import Connection, Database
from policyd.store.database import changing, create_database, reading
from policyd.store.queries import Queries
from policyd.store.undo import undo_changeset
from tests.support.command_line import CommandLine, command_line
from tests.support.writing import editor_on

COMMANDS = (
    "domain add example.com",
    "mailbox add Robert bob@example.com",
    "mailbox add Anna anna@example.com",
    "mailbox add 'Zoë Moſer' zoe@example.com",
    "mailbox restrict robert",
    "group add Sales Robert Anna",
    "mailbox rename Robert Bob",
    "group rename Sales Staff",
    "group add Everybody group:Staff",
    "group leave Staff Bob",
    "mailbox rename 'Zoë Moſer' 'ZOË MOSER'",
    "mailbox add moser moser@example.com",
    'sender block Bob --reason \'"id": 1, "member": {"mailbox": 1,\'',
    "domain set example.com --unlisted accept",
)
BOB, STAFF = Party(PartyKind.MAILBOX, "Bob", 1), Party(PartyKind.GROUP, "Staff", 1)
BY: dict[str, tuple[dict[str, Any], Callable[[Change, dict[str, Any]], bool]]] = {
    "name": ({"names": ["roBert"]}, lambda change, _: change.object == "Robert"),
    "names": ({"names": ["BOB", "x"]}, lambda change, _: change.object == "Bob"),
    "name of other letters": ({"names": ["zoë Moſer"]}, lambda change, _: change.object == "Zoë Moſer"),
    "number": ({"names": [], "numbers": [1]}, lambda _, stored: stored.get("id") == 1),
    "numbers": ({"names": [], "numbers": [2, 3]}, lambda _, stored: stored.get("id") in (2, 3)),
    "mailbox in a group": (
        {"names": [], "members": [BOB]},
        lambda _, stored: stored.get("member", {}).get("mailbox") == 1,
    ),
    "group in a group": (
        {"names": [], "members": [STAFF]},
        lambda _, stored: stored.get("member", {}).get("group") == 1,
    ),
    "who is in a group": (
        {"names": [], "groups": [1]},
        lambda _, stored: "member" in stored and stored["group"]["group"] == 1,
    ),
    "all of these": (
        {"names": ["anna"], "numbers": [3], "members": [BOB], "groups": [2]},
        lambda change, stored: (
            change.object == "Anna"
            or stored.get("id") == 3
            or stored.get("member", {}).get("mailbox") == 1
            or ("member" in stored and stored["group"]["group"] == 2)
        ),
    ),
}


@pytest.fixture(scope="module")
def policyd() -> Iterator[CommandLine]:
    """Objects that were renamed, joined and left; no test changes them."""
    with command_line(*COMMANDS) as policyd:
        yield policyd


@pytest.mark.parametrize(("asked", "is_about"), BY.values(), ids=BY)
def test_each_key_finds_what_a_look_at_every_row_finds(policyd, asked, is_about):
    """The last first: whatever an object was called since, and whatever somebody writes in a comment."""
    with reading(policyd.store) as connection:
        queries = Queries(connection)
        every = [*queries.changes_since(0)]
        wanted = [each for each in every if is_about(each, json.loads(each.after or each.before or "{}"))]
        assert [*queries.changes_about(**asked)] == wanted
        assert 0 < len(wanted) < len(every)


def test_nothing_is_found_by_nothing(policyd):
    """Not all of the journal."""
    with reading(policyd.store) as connection:
        assert [*Queries(connection).changes_about([])] == []


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("ROBERT", ["mailbox.add Robert", "mailbox.restrict Robert", "mailbox.rename Robert"]),
        ("Zoë Moser", ["mailbox.add Zoë Moſer", "mailbox.rename Zoë Moſer"]),
        ("group:staff", ["group.leave group:Staff"]),
        ("EXAMPLE.com", ["domain.add example.com", "domain.set example.com"]),
        ("nobody", []),
    ],
)
def test_object_is_found_however_it_is_written(policyd, asked, found):
    """Names are compared as everywhere: case-folded, and not only those of ASCII."""
    with reading(policyd.store) as connection:
        changes = [*Queries(connection).changes(of_object=asked)]
        assert [f"{each.operation} {each.object}" for each in changes] == found
        last = [*Queries(connection).changes(of_object=asked, limit=1)]
        assert last == changes[-1:]
        assert [*Queries(connection).changes(of_object=asked, since=2**40)] == []


# --- By which indexes ---


@pytest.fixture
def file(tmp_path) -> Database:
    """A database in a file, with a mailbox that was restricted."""
    database = Database.at(Path(tmp_path, "policyd.db"))
    create_database(database)
    return database


@contextmanager
def planned(connection: Connection) -> Iterator[list[str]]:
    """How SQLite looks for what the statements of the block ask of the journal; known after it."""
    asked: list[str] = []
    plans: list[str] = []
    connection.driver.set_trace_callback(asked.append)
    yield plans
    connection.driver.set_trace_callback(None)
    for statement in asked:
        if statement.lstrip().startswith("SELECT"):
            plans += [row[-1] for row in connection.driver.execute(f"EXPLAIN QUERY PLAN {statement}")]


def test_changes_of_an_object_are_found_by_indexes(file):
    """A journal of a million rows takes no longer than one of ten."""
    with reading(file) as connection, planned(connection) as plans:
        [*Queries(connection).changes_about(["a", "b"], [1, 2], [BOB, STAFF], [1])]
    used = {
        name
        for name in ("object", "number", "member", "group")
        if any(f"INDEX change_{name} " in each for each in plans)
    }
    assert used == {"object", "number", "member", "group"}
    assert [each for each in plans if each.startswith("SCAN")] == []


@pytest.mark.parametrize("limit", [None, 5])
def test_history_of_an_object_looks_at_no_other_row(file, limit):
    """But for the names that no engine can fold: those are read from an index that has nothing else."""
    with reading(file) as connection, planned(connection) as plans:
        [*Queries(connection).changes(of_object="alice", limit=limit)]
    scanned = [each for each in plans if each.startswith("SCAN")]
    assert scanned == ["SCAN change USING COVERING INDEX change_object_other"]


def test_undo_of_an_old_change_looks_at_no_later_row_but_of_its_object(file):
    """A refusal names these."""
    with changing(file) as connection:
        edit = editor_on(connection)
        edit.add_mailbox("alice", [], "")
    with changing(file) as connection:
        editor_on(connection).rename_mailbox("alice", "bob")
    with changing(file) as connection, planned(connection) as plans:
        undo_changeset(editor_on(connection, verb="undo"), 1)
    assert plans
    assert [each for each in plans if "change" in each and each.startswith("SCAN")] == []
