"""The things policyd speaks of, as people see them."""

import pytest

from policyd.model import GROUP_PREFIX, RESERVED_WORDS, Finding, Party, PartyKind, party_text


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("@example.net", "@example.net"),
        ({"mailbox": 7, "name": "bob"}, "bob"),
        ({"group": 3, "name": "staff"}, "group:staff"),
    ],
)
def test_party_of_the_journal_is_written_as_people_write_it(stored, text):
    """A group and a mailbox may have one name."""
    assert party_text(stored) == text


@pytest.mark.parametrize("kind", PartyKind)
def test_party_is_written_as_it_is_typed(kind):
    """What is shown can be typed again."""
    text = kind.value if kind.is_word else "staff"
    assert str(Party(kind, text, 3)) == (f"{GROUP_PREFIX}staff" if kind is PartyKind.GROUP else text)
    assert (kind.value in RESERVED_WORDS) == kind.is_word


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding("address", "a@b", "it has no mailbox", "remove it"), "address a@b: it has no mailbox; remove it"),
        (Finding("", "", "it is damaged", "restore a backup"), "it is damaged; restore a backup"),
        (Finding("change", "", "a row is gone", "restore"), "change: a row is gone; restore"),
        (Finding("mailbox", "x" * 500, "long", "y" * 500), f"mailbox {'x' * 400}...: long; {'y' * 400}..."),
    ],
)
def test_finding_is_one_line_of_bounded_length(finding, line):
    """Somebody may have put a megabyte where a name belongs."""
    assert str(finding) == line
