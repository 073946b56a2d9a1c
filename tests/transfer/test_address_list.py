"""list: an address or a pattern a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.address import normal_name
from policyd.errors import TransferError
from policyd.model import OUTSIDE, BlockedSender, Domain, Mailbox, Receive
from policyd.records import BlockRow, ListEdit, MailboxRow
from policyd.transfer import address_list
from policyd.transfer.formats import Into
from policyd.transfer.text import LINE_LIMIT
from tests.support.parties import party, party_set
from tests.support.randomised import examples
from tests.support.tables_strategies import FixedTables, patterns, tables
from tests.support.transfer_reading import problem_of, read_all, rows_of, written


def made_of(address: str, name: str) -> MailboxRow:
    """The row of a mailbox that a line with its address makes."""
    return MailboxRow(name, addresses=ListEdit(add=(address,)), is_named_by_address=True)


def test_addresses_become_mailboxes():
    """The fastest way to restrict what exists: the addresses, as the other system lists them."""
    text = '# ours\nAlice@Example.com   # the boss\n\n"john doe"@example.com\n"a #b"@example.com#c\n  bob@example.com'
    assert rows_of(address_list, text.replace("#c", ""), into=Into.MAILBOXES) == [
        made_of("alice@example.com", "alice"),
        made_of("john doe@example.com", "john doe"),
        made_of("a #b@example.com", "a #b"),
        made_of("bob@example.com", "bob"),
    ]


def test_patterns_become_blocked_senders():
    """Block lists go around as plain text."""
    assert rows_of(address_list, "@Spam.example\n<>\nnews@ # all of them\nJohn Doe\n", into=Into.BLOCKED) == [
        BlockRow(party("@spam.example")),
        BlockRow(party("<>")),
        BlockRow(party("news@")),
        BlockRow(party("John Doe")),
    ]


def test_hash_inside_a_word_is_its_own():
    """A `#` is a character of local parts; only behind a blank it begins a comment."""
    assert rows_of(address_list, "a#b@example.com", into=Into.BLOCKED) == [BlockRow(party("a#b@example.com"))]


def test_only_the_marks_of_an_export_are_marks():
    """A comment that begins like one is still a comment."""
    text = "# into: the wild\n@spam.example\n"
    assert rows_of(address_list, text, into=Into.BLOCKED) == [BlockRow(party("@spam.example"))]


def test_domain_completes_local_parts():
    """Lists of users have no domain."""
    assert rows_of(address_list, "alice\n", into=Into.MAILBOXES, domain="example.com") == [
        made_of("alice@example.com", "alice")
    ]
    assert rows_of(address_list, "alice\n<>\n", into=Into.BLOCKED, domain="example.com") == [
        BlockRow(party("alice@example.com")),
        BlockRow(party("<>")),
    ]


@pytest.mark.parametrize("content", ["", "# nothing\n", "alice@example.com\n"])
def test_list_must_be_said_what_it_is(content):
    """Blocking the mailboxes that were to be made is the worst mistake there is."""
    with pytest.raises(TransferError, match="--into mailboxes, or --into blocked"):
        read_all(address_list, content)


def test_comment_of_an_export_says_what_follows():
    """An export holds mailboxes and blocked senders, whatever --into is given with it."""
    text = "# into: mailboxes\nalice@example.com\n# into: blocked\n@spam.example\n"
    expected = [made_of("alice@example.com", "alice"), BlockRow(party("@spam.example"))]
    assert rows_of(address_list, text) == rows_of(address_list, text, into=Into.BLOCKED) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("alice", "is not an address", id="no domain"),
        pytest.param("@example.com", "is not an address", id="a pattern as an address"),
        pytest.param('"a b"@example.com c', "'c' is not an address", id="two words"),
        pytest.param("a@b.c" * LINE_LIMIT, "has more than", id="a line that is too long"),
    ],
)
def test_bad_line_says_what_is_wrong(text, message):
    """Row errors are corrected by people who have only the message."""
    assert message in problem_of(address_list, text, into=Into.MAILBOXES)[1]


@examples(few=25, many=100)
@given(tables())
def test_export_keeps_who_is_blocked_and_every_address(held):
    """What a list can say, it must say exactly; the rest is counted."""
    text, lost = written(address_list, held)
    mailboxes, blocked = text.removeprefix("# into: mailboxes\n").split("# into: blocked\n", 1)
    found = [row for each in read_all(address_list, mailboxes, into=Into.MAILBOXES) for row in each.rows]
    addresses = [address for _, own in held.mailboxes() for address in own]
    assert [row.addresses.add[0] for row in found] == addresses
    assert all(normal_name(row.name) == row.name for row in found)
    senders = [row.sender for row in rows_of(address_list, blocked, into=Into.BLOCKED)] if blocked else []
    assert len(senders) == len(held.held_entries) - lost["blocked sender"]
    assert set(senders) <= {entry.who for entry in held.held_entries}


def test_what_a_list_cannot_say_is_counted():
    """Nobody should think of a list as a backup."""
    held = FixedTables(
        (Domain("example.com"),),
        (
            (Mailbox("Alice", Receive.NOBODY, "r", 1, "c", party_set("<>")), ("alice@example.com", "a@example.com")),
            (Mailbox("empty"), ()),
        ),
        (
            BlockedSender(party("Alice"), reason="r", until=1, comment="c", allowed=party_set("a@")),
            BlockedSender(party("bob@example.com"), to=OUTSIDE),
            BlockedSender(party("@spam.example"), to=OUTSIDE),
            BlockedSender(party("#1")),
        ),
    )
    text, lost = written(address_list, held)
    assert text == (
        "# into: mailboxes\nalice@example.com\na@example.com\n# into: blocked\nAlice\nbob@example.com\n@spam.example\n"
    )
    assert lost == {
        "domain": 1,
        "mailbox": 1,
        "mailbox name": 1,
        "several addresses": 1,
        "receive": 1,
        "accept": 1,
        "reason": 2,
        "until": 2,
        "comment": 2,
        "except": 1,
        "to": 1,
        "created_at": 3,
        "blocked sender": 1,
    }


@given(st.lists(patterns))
def test_any_pattern_stands_on_a_line(some):
    """Local parts may hold blanks, quotes and `#`."""
    held = FixedTables(held_entries=tuple(BlockedSender(party(pattern)) for pattern in some))
    assert [row.sender for row in rows_of(address_list, written(address_list, held)[0])] == [*map(party, some)]


_WORDS = ['"', "#", " ", "a", "@", "\\", "\t", "b.c", "<>", "\u00a0", "\x00", "# into: blocked", "\n"]


@given(st.lists(st.sampled_from(_WORDS)).map("".join), st.sampled_from(Into))
def test_damaged_lists_give_problems_only(text, into):
    """A traceback in the middle of an import tells an administrator nothing."""
    read_all(address_list, text, into=into)


@given(st.binary(), st.sampled_from(Into))
def test_any_bytes_give_problems(raw, into):
    """Somebody will import something else."""
    read_all(address_list, raw, into=into)
