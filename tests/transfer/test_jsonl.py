"""jsonl: objects as `--json` shows them, one a line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.model import Mailbox, Receive, Unlisted
from policyd.records import AddressRow, BlockRow, DomainRow, ListEdit, MailboxRow, RowMode
from policyd.transfer import jsonl
from policyd.transfer.text import LINE_LIMIT
from tests.support.parties import parties, party, party_set
from tests.support.randomised import examples
from tests.support.tables_strategies import FixedTables, tables
from tests.support.transfer_reading import problem_of, read_all, rows_of, rows_of_tables, written


@examples(few=25, many=100)
@given(tables())
def test_export_reads_as_the_tables_it_was_made_of(held):
    """A backup as jsonl must bring everything back, whatever people have called their mailboxes."""
    text, lost = written(jsonl, held)
    assert rows_of(jsonl, text) == rows_of_tables(held)
    assert not lost


def test_lines_are_what_list_shows():
    """Scripts that read `--json` read an export too."""
    box = Mailbox("alice", Receive.INSIDERS, accepted=party_set("@b.example", "@a.example"))
    text, _ = written(jsonl, FixedTables(held_mailboxes=((box, ("john doe@example.com",)),)))
    assert json.loads(text) == {
        "kind": "mailbox",
        "name": "alice",
        "addresses": ['"john doe"@example.com'],
        "receive": "insiders",
        "accept": ["@a.example", "@b.example"],
        "reason": "",
        "until": None,
        "comment": "",
    }


@pytest.mark.parametrize(
    ("text", "row"),
    [
        pytest.param(
            '{"id": 3, "name": "Alice", "receive": "nobody", "accept": ["@x.example"], "reason": "gone", "until": null,'
            ' "comment": "", "addresses": ["A@Example.com"]}',
            MailboxRow(
                "Alice",
                RowMode.UPDATE,
                ListEdit(True, (), ("a@example.com",)),
                Receive.NOBODY,
                "gone",
                None,
                "",
                ListEdit(True, (), parties("@x.example")),
            ),
            id="policyd mailbox list --json",
        ),
        pytest.param(
            '{"id": 1, "sender": "alice", "to": "outside", "except": [], "reason": "", "until": 1798758000,'
            ' "comment": "", "created_at": 1700000000, "created_by": "root"}',
            BlockRow(
                party("alice"),
                party("outside"),
                RowMode.UPDATE,
                ListEdit(True),
                reason="",
                until=1798758000,
                comment="",
                created_at=1700000000,
                created_by="root",
            ),
            id="policyd sender list --json",
        ),
        pytest.param(
            '{"name": "example.com", "unlisted": "accept"}',
            DomainRow("example.com", unlisted=Unlisted.ACCEPT),
            id="policyd domain list --json",
        ),
        pytest.param(
            '{"address": "a@example.com", "mailbox": "alice", "is_primary": true}',
            AddressRow("a@example.com", "alice"),
            id="policyd address list --json",
        ),
        pytest.param('{"name": "alice"}', MailboxRow("alice"), id="what is missing stays as it is"),
        pytest.param(
            '{"kind": "mailbox", "mode": "delete", "name": "alice"}', MailboxRow("alice", RowMode.DELETE), id="mode"
        ),
        pytest.param(
            '{"name": "alice", "reason": null, "addresses": null, "until": "2026-12-31T23:00:00Z"}',
            MailboxRow("alice", addresses=ListEdit(True), reason="", until=1798758000),
            id="null empties",
        ),
    ],
)
def test_elements_of_json_lists_can_be_imported(text, row):
    """What one host lists, another can read."""
    assert rows_of(jsonl, text) == [row]


def test_mailbox_can_be_named_after_its_address():
    """As in the other formats."""
    assert rows_of(jsonl, '{"kind": "mailbox", "address": "alice"}', domain="example.com") == [
        MailboxRow("alice", addresses=ListEdit(add=("alice@example.com",)), is_named_by_address=True)
    ]


_NESTED = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        pytest.param('{"name": ', "", "not a JSON object", id="cut"),
        pytest.param("[", "", "jq -c", id="an array over several lines"),
        pytest.param('["a"]', "", "jq -c", id="an array"),
        pytest.param("3", "", "not a JSON object", id="a number"),
        pytest.param('{"kind": 3}', "", "kind is none of", id="a kind that is no text"),
        pytest.param('{"kind": "x"}', "", "kind is none of", id="an unknown kind"),
        pytest.param('{"name": "a", "name": "b"}', "", "'name' is there twice", id="a key twice"),
        pytest.param('{"name": "a", "colour": 1}', "colour", "no such field; a mailbox has", id="an unknown key"),
        pytest.param('{"name": "a", "recieve": "nobody"}', "recieve", "did you mean receive?", id="a slip in a key"),
        pytest.param('{"name": 3}', "name", "3 is not a text", id="a number as a name"),
        pytest.param('{"name": null}', "name", "null is not a text", id="no name"),
        pytest.param('{"name": true}', "name", "true is not a text", id="a flag as a name"),
        pytest.param('{"name": 1.5}', "name", "a fraction is not a text", id="a fraction as a name"),
        pytest.param('{"name": {}}', "name", "an object is not a text", id="an object as a name"),
        pytest.param('{"name": "a", "accept": "@b.example"}', "accept", "is not a list", id="a text as a list"),
        pytest.param('{"name": "a", "accept": [["x"]]}', "accept", "a list is not a text", id="a list in a list"),
        pytest.param('{"name": "a", "until": true}', "until", "true is not a time", id="a flag as a time"),
        pytest.param('{"name": "a", "until": 1e9}', "until", "a fraction is not a time", id="a float as a time"),
        pytest.param('{"name": "a", "until": -1}', "until", "-1 is not a time", id="a negative time"),
        pytest.param(f'{{"name": "a", "until": {"9" * 40}}}', "until", "this number", id="a long number"),
        pytest.param(f'{{"name": "a", "until": {"9" * 5000}}}', "", "a number is too long", id="a huge number"),
        pytest.param('{"name": "a", "until": NaN}', "", "NaN is not JSON", id="no number"),
        pytest.param(f'{{"name": {_NESTED}', "", "nested too deeply", id="deep nesting"),
        pytest.param('{"name": "a", "id": "1"}', "id", "not a number", id="an id that is a text"),
        pytest.param('{"name": "a", "id": true}', "id", "not a number", id="an id that is a flag"),
        pytest.param('{"kind": "address", "is_primary": 1}', "is_primary", "neither true", id="a number as a flag"),
        pytest.param('{"kind": "address", "address": "a@b"}', "", "an address needs a mailbox", id="no mailbox"),
        pytest.param('{"name": "a\\u0000"}', "name", "control character", id="a control character"),
        pytest.param('{"name": "\\ud800"}', "name", "control character", id="half a character"),
        pytest.param('{"name": "a", "receive": 1}', "receive", "1 is none of", id="a number as a word"),
        pytest.param('{"name": "a", "\\u001b[1m": 1}', "\\x1b[1m", "no such field", id="a key for the terminal"),
        pytest.param('{"address": "a@b.c", "addresses": [], "kind": "mailbox"}', "addresses", "both", id="both"),
        pytest.param("x" * (LINE_LIMIT + 1), "", "has more than", id="a line that is too long"),
    ],
)
def test_bad_line_says_where_and_what(text, column, message):
    """Row errors are corrected by people who have only the message."""
    found = problem_of(jsonl, text)
    assert found[0] == column
    assert message in found[1]


def test_good_lines_go_on_after_a_bad_one():
    """One broken line among 100 000 must cost one object; its text is kept to be corrected."""
    bad, good = read_all(jsonl, '{"name": }\n\n  \n{"name": "alice"}\n')
    assert (bad.line, bad.source, bad.rows) == (1, '{"name": }', ())
    assert (good.line, good.source, good.rows) == (4, '{"name": "alice"}', (MailboxRow("alice"),))


_KEYS = ["kind", "name", "addresses", "address", "accept", "until", "sender", "to", "except", "created_at", "mode", "x"]
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0.5, float("nan"), float("inf")])
    | st.sampled_from(["mailbox", "blocked", "domain", "address", "a@b.c", "<>", "@", '"@', "9999-12-31T23:59-23:00"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES))
def test_any_object_gives_a_row_or_problems(said):
    """A traceback in the middle of an import tells an administrator nothing."""
    (record,) = read_all(jsonl, json.dumps(said))
    assert bool(record.rows) is not bool(record.problems)


@given(st.binary())
def test_any_bytes_give_problems(raw):
    """Somebody will import something else."""
    read_all(jsonl, raw)


def test_export_of_the_first_edition_says_what_it_said_then():
    """It is known by its domains, which had nothing but `unlisted`; a line that somebody types is none of it."""
    domain = '{"kind": "domain", "name": "example.com", "unlisted": "reject"}\n'
    whole = (
        '{"kind": "mailbox", "name": "a", "addresses": [], "receive": "anyone", "accept": [], "reason": "",'
        ' "until": null, "comment": ""}\n'
    )
    typed = '{"kind": "mailbox", "name": "a", "receive": "anyone"}\n'
    assert [row.receive for row in rows_of(jsonl, domain + whole + typed)[1:]] == [Receive.INHERIT, Receive.ANYONE]
    assert [row.receive for row in rows_of(jsonl, whole)] == [Receive.ANYONE]
    closed = whole.replace('"anyone"', '"nobody"')
    assert [row.receive for row in rows_of(jsonl, domain + closed)[1:]] == [Receive.NOBODY]


def test_pattern_is_no_member_of_a_group():
    """A group holds mailboxes and groups; `@example.com` in it would be nobody."""
    line = '{"kind": "group", "name": "staff", "members": ["bob", "group:field", "bob@a.example", "@example.com"]}'
    assert problem_of(jsonl, line) == (
        "members",
        "@example.com is a pattern; the members of a group are mailboxes and groups",
    )


def test_keys_of_other_programs_are_left_out_and_counted():
    """A script that passes on all that a directory has; a # in front leaves any other key out."""
    (record,) = read_all(jsonl, '{"name": "a", "displayName": "A", "objectGUID": "x", "#colour": 1}')
    assert record.rows == (MailboxRow("a"),)
    assert record.skipped == ("displayName", "objectGUID", "#colour")
