"""Counts in messages, singular and plural."""

import pytest

from policyd.printable import count_of


@pytest.mark.parametrize(
    ("number", "nouns", "text"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (2, ("row",), "2 rows"),
        (1, ("address",), "1 address"),
        (3, ("address",), "3 addresses"),
        (3, ("mailbox",), "3 mailboxes"),
        (3, ("entry",), "3 entries"),
        (3, ("key",), "3 keys"),
        (1, ("exception of others", "exceptions of others"), "1 exception of others"),
        (2, ("exception of others", "exceptions of others"), "2 exceptions of others"),
    ],
)
def test_count_has_the_right_noun(number, nouns, text):
    """`1 memberships` makes a reader look twice at what is to go."""
    assert count_of(number, *nouns) == text
