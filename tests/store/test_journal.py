"""The journal: a row for each change, in the change's transaction, in a chain that shows whether it was altered."""

import hashlib
import json
import sqlite3

import pytest

from policyd.errors import StoreError
from policyd.model import Address, BlockedSender, Domain, Group, Mailbox, Membership, Receive
from policyd.store.database import changing
from policyd.store.edit import Editor
from policyd.store.journal import Journal, as_json, snapshot
from tests.support.command_line import command_line
from tests.support.parties import party, party_set

LINES = [
    "domain add example.com",
    "mailbox add Jörg jörg@example.com j@example.com --comment 'Grüße, \"x\" \\ y'",
    "mailbox restrict Jörg --accept @b.example --accept '<>' --until +3d --reason 'ab — cd'",
    "sender block Jörg @spam.example --except @a.example --reason ☠",
    "sender except Jörg @c.example",
    "mailbox rename Jörg George",
    "address remove jörg@example.com",
    "sender unblock George @spam.example",
    "mailbox lift George",
    "domain set example.com --unlisted accept",
    "mailbox remove George",
    "domain remove example.com",
]


@pytest.fixture
def policyd():
    with command_line() as policyd:
        yield policyd


@pytest.fixture
def busy(policyd):
    """A database after one command of each kind."""
    for line in LINES:
        policyd.run(line)
    return policyd


def test_ids_have_no_gap_and_changesets_begin_with_their_first_change(busy):
    """A missing number means a missing change; a changeset is the command's."""
    rows = busy.rows("SELECT id, changeset FROM change ORDER BY id")
    assert [number for number, _ in rows] == [*range(1, len(rows) + 1)]
    begins = sorted({changeset for _, changeset in rows})
    assert len(begins) == len(LINES)
    for number, changeset in rows:
        assert changeset == max(begin for begin in begins if begin <= number)


def test_refused_and_idle_commands_leave_no_gap(policyd):
    """Numbers are given in the transaction, so what is rolled back takes none."""
    policyd.run("domain add a.example")
    policyd.refuses("domain add a.example")
    policyd.refuses("mailbox add x x@a.example x@b.example")
    policyd.run("domain set a.example --unlisted reject")
    policyd.run("domain add b.example")
    assert policyd.rows("SELECT id, changeset FROM change") == [(1, 1), (2, 2)]


def test_digests_chain_as_the_documentation_says(busy):
    """Anybody can verify the trail with a few lines of their own, such as these."""
    previous = ""
    rows = busy.rows(
        "SELECT id, at, actor, changeset, operation, object, before, after, digest FROM change ORDER BY id"
    )
    assert len(rows) > len(LINES)
    for *columns, digest in rows:
        text = "\0".join("" if column is None else str(column) for column in (previous, *columns))
        assert digest == hashlib.sha256(text.encode("utf-8")).hexdigest()
        previous = digest


def test_before_is_what_the_change_before_left(busy):
    """Each object's history has no hole: what one row leaves, the next one finds."""
    last: dict[tuple[str, object], object] = {}
    rows = busy.rows("SELECT operation, before, after FROM change ORDER BY id")
    for operation, before, after in ((row[0], *map(json.loads, (each or "null" for each in row[1:]))) for row in rows):
        noun = operation.partition(".")[0]
        found = before or after
        key = (noun, found.get("id") or found.get("address") or found["name"])
        was = last.get(key)
        if noun == "mailbox" or operation == "domain.set":
            assert before == was
        assert (before is None) is (was is None), operation
        last[key] = after
    assert set(map(str, last.values())) == {"None"}


@pytest.mark.parametrize(
    "stored",
    [
        Domain("xn--mnchen-3ya.example", alias_of="example.com"),
        Mailbox('Jörg "x" \\ \u2028\x7f', Receive.NOBODY, "\t", 7, "☠", party_set("Bob", "@b.example"), 3),
        Mailbox("Bob", id=1),
        Group("sales", accepted=party_set("<>"), id=2),
        Membership(party("group:sales"), party("Bob"), 9),
        Address("jörg@example.com", "Jörg", True, 3),
        Address('"a b"@example.com', "Bob", False, 1),
        BlockedSender(party("Bob"), allowed=party_set("@a.example", "Eve"), until=5, created_by="root", id=4),
    ],
    ids=lambda stored: type(stored).__name__,
)
def test_snapshot_is_written_as_json_has_it(stored):
    """Digests are over the very text: another one for the same object would look like an alteration."""
    assert as_json(stored) == json.dumps(snapshot(stored), ensure_ascii=False)


def test_change_and_journal_row_fail_together(policyd):
    """A journal that can't be written stops the change, too."""
    policyd.run("domain add example.com")

    def change_by_nobody() -> None:
        with changing(policyd.store) as connection:
            journal = Journal(connection, None, 1)  # type: ignore[arg-type]
            Editor(connection, journal).add_domain(Domain("example.net"))

    with pytest.raises(StoreError) as caught:
        change_by_nobody()
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert policyd.run("domain list") == "example.com\treject\n"
    assert policyd.journal() == [("domain.add", "example.com")]


def test_journal_names_each_operation(busy):
    """These words are for scripts and for undoing: they stay."""
    assert {operation for operation, _ in busy.journal()} == {
        *("domain.add", "domain.set", "domain.remove"),
        *("mailbox.add", "mailbox.restrict", "mailbox.rename", "mailbox.lift", "mailbox.remove"),
        *("address.add", "address.remove", "address.promote"),
        *("sender.block", "sender.except", "sender.unblock"),
    }
