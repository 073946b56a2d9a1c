"""What a change was, in words: as the command that made it, the history and the audit tell it."""

import json

import pytest

from policyd.changes import as_object, describe, difference, sides, value_text
from policyd.errors import StoreError
from policyd.model import Change
from policyd.timestamps import show_local

FRIDAY = 1_700_000_000
MAILBOX = {"id": 7, "name": "bob", "receive": "inherit", "reason": "", "until": None, "accepted": []}
BOB, FIELD = {"mailbox": 7, "name": "bob"}, {"group": 4, "name": "field"}
OPEN, CLOSED = {"unlisted": "reject", "receive": "anyone"}, {"unlisted": "accept", "receive": "nobody"}
FURTHER, PRIMARY = {"is_primary": False}, {"is_primary": True}
ENTRY = {"id": 1, "sender": BOB, "to": "outside", "reason": "", "until": None, "allowed": []}
GONE = ENTRY | {"reason": "gone"}


def change(operation: str, object_: str, before: object, after: object) -> Change:
    """A change of one object from *before* to *after*, None for nothing."""
    old, new = (None if each is None else json.dumps(each) for each in (before, after))
    return Change(42, 1_700_000_000, "root", 41, operation, object_, old, new, "ab")


@pytest.mark.parametrize(
    ("operation", "object_", "before", "after", "words"),
    [
        ("mailbox.add", "mailbox:bob", None, MAILBOX, "mailbox bob: added: receive inherit"),
        ("mailbox.remove", "mailbox:bob", MAILBOX, None, "mailbox bob: removed"),
        (
            "mailbox.restrict",
            "mailbox:bob",
            MAILBOX,
            MAILBOX | {"receive": "nobody", "reason": "on leave", "until": FRIDAY},
            f'mailbox bob: receive inherit -> nobody, reason "" -> "on leave", until never -> {show_local(FRIDAY)}',
        ),
        (
            "mailbox.accept",
            "mailbox:bob",
            MAILBOX,
            MAILBOX | {"accepted": ["@b.example", {"group": 3, "name": "staff"}]},
            'mailbox bob: accepted "" -> "@b.example group:staff"',
        ),
        ("sender.block", "sender:bob", None, ENTRY, "blocked sender bob to outside: added"),
        ("sender.block", "sender:bob", None, GONE, "blocked sender bob to outside: added: reason gone"),
        ("domain.add", "domain:a.b", None, OPEN, "domain a.b: added: unlisted reject"),
        ("domain.add", "domain:a.b", None, CLOSED, "domain a.b: added: unlisted accept, receive nobody"),
        ("group.join", "group:staff", None, {"group": 3, "member": BOB}, "group staff: bob joined"),
        ("group.leave", "group:staff", {"group": 3, "member": FIELD}, None, "group staff: group:field left"),
        ("database.import", "x.csv", None, {"changes": 8}, "database x.csv: 8 changes"),
        ("address.promote", "address:b@a.b", FURTHER, PRIMARY, "address b@a.b: is_primary no -> yes"),
    ],
)
def test_change_is_told_in_words(operation, object_, before, after, words):
    """Whoever reads the history wants to know what is different, not how it is stored."""
    made = change(operation, object_, before, after)
    assert describe(made) == words
    assert words.endswith(difference(made))


def test_change_is_an_object_for_scripts():
    """`before` and `after` are objects, not texts of JSON in JSON."""
    assert as_object(change("mailbox.add", "mailbox:bob", None, MAILBOX)) == {
        "id": 42,
        "at": 1_700_000_000,
        "actor": "root",
        "changeset": 41,
        "operation": "mailbox.add",
        "object": "mailbox:bob",
        "before": None,
        "after": MAILBOX,
        "digest": "ab",
    }


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("reason", None, ""),
        ("reason", "", ""),
        ("is_primary", True, "yes"),
        ("is_primary", False, "no"),
        ("created_at", 1_700_000_000, show_local(1_700_000_000)),
        ("to", {"mailbox": 7, "name": "bob"}, "bob"),
        ("to", {"group": 3, "name": "staff"}, "group:staff"),
        ("allowed", ("a@b", {"group": 3, "name": "staff"}), "a@b group:staff"),
        ("id", 7, "7"),
    ],
)
def test_value_is_shown_as_a_person_reads_it(name, value, text):
    """In lists and tables, too."""
    assert value_text(name, value) == text


@pytest.mark.parametrize("text", ["{", "7", "[" * 9999])
def test_what_policyd_did_not_write_into_the_journal_is_told(text):
    """Somebody has changed the row past policyd; there is a command that tells more."""
    written = Change(42, FRIDAY, "root", 41, "mailbox.set", "mailbox:bob", "{}", text, "ab")
    with pytest.raises(StoreError, match=r"did not write: change 42; see: policyd database check$"):
        sides(written)
