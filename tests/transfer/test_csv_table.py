"""csv: our own columns, as an export has them and as people make them in a spreadsheet."""

import csv
import io
from collections import Counter
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.errors import TransferError
from policyd.model import Domain, Group, Mailbox, Receive, Unlisted
from policyd.records import KEEP, BlockRow, DomainRow, ListEdit, MailboxRow, Notice, Record, RowMode
from policyd.transfer import csv_table
from policyd.transfer.formats import ReadOptions
from policyd.transfer.values import CellError, quote_in_file, split_list
from tests.support.drills import drill
from tests.support.parties import parties, party, party_set
from tests.support.randomised import examples
from tests.support.tables_strategies import FixedTables, patterns, tables
from tests.support.transfer_reading import problem_of, read_all, rows_of, rows_of_tables, written


@examples(few=25, many=100)
@given(tables())
def test_export_reads_as_the_tables_it_was_made_of(held):
    """A backup as csv must bring everything back, whatever people have called their mailboxes."""
    text, lost = written(csv_table, held)
    assert rows_of(csv_table, text) == rows_of_tables(held)
    assert not lost


def test_list_of_a_mailbox_whose_name_stands_for_nothing_is_no_empty_one():
    """Somebody has called a mailbox ``-``: the one member of a group, and the one accepted sender."""
    accepted = Mailbox("bob", Receive.NOBODY, accepted=party_set("-"))
    held = FixedTables(held_mailboxes=((accepted, ()),), held_groups=((Group("staff"), parties("-")),))
    text, _ = written(csv_table, held)
    assert rows_of(csv_table, text) == rows_of_tables(held)
    assert text.count('"""-"""') == 2


@given(st.lists(patterns))
def test_list_in_a_cell_holds_any_pattern(some):
    """Local parts may hold blanks, quotes and signs that mean something else in a cell."""
    assert split_list(" ".join(map(quote_in_file, some))) == tuple(map(quote_in_file, some))


def test_long_export_comes_in_pieces():
    """Exporting a million mailboxes must not need memory for all of them."""
    many = FixedTables(held_domains=tuple(Domain(f"d{number}.example") for number in range(5000)))
    pieces = list(csv_table.write(many, lost=Counter()))
    assert len(pieces) > 2
    assert "".join(pieces).count("\n") == 5001


def test_names_and_addresses_make_mailboxes():
    """The plainest file there is: what an administrator exports from another system."""
    assert rows_of(csv_table, "Name, Addresses\nalice,Alice@Example.com a.smith@example.com\n") == [
        MailboxRow("alice", addresses=ListEdit(True, (), ("alice@example.com", "a.smith@example.com")))
    ]


def test_single_addresses_are_added():
    """With an address a row, a mailbox that has several rows must end with all of them."""
    assert rows_of(csv_table, "name,address\nalice,alice@example.com\nalice,a@example.com\n") == [
        MailboxRow("alice", addresses=ListEdit(add=("alice@example.com",))),
        MailboxRow("alice", addresses=ListEdit(add=("a@example.com",))),
    ]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        pytest.param("alice@example.com", "alice", id="local part"),
        pytest.param("outside@example.com", "outside (example.com)", id="a word with a meaning of its own"),
        pytest.param('"john doe"@example.com', "john doe", id="quoted"),
        pytest.param('"a@b"@example.com', "a b (example.com)", id="what no name can hold"),
        pytest.param("a" * 300 + "@example.com", "a" * 200 + " (example.com)", id="longer than a name can be"),
        pytest.param('" "@example.com', "(example.com)", id="nothing but a blank"),
    ],
)
def test_mailbox_without_a_name_is_named_after_its_address(address, name):
    """A column of addresses is enough; nobody should have to invent names."""
    cell = '"' + address.replace('"', '""') + '"'
    (row,) = rows_of(csv_table, f"address\n{cell}\n")
    assert (row.name, row.is_named_by_address) == (name, True)


def test_address_without_a_domain_is_completed():
    """Directories often list bare local parts."""
    assert rows_of(csv_table, "address\nalice\n", domain="example.com") == [
        MailboxRow("alice", addresses=ListEdit(add=("alice@example.com",)), is_named_by_address=True)
    ]


def test_everything_of_a_blocked_sender_can_be_said():
    """What the command line can say, a file must be able to say too."""
    text = (
        "kind,sender,to,except,reason,until,comment,created_at,created_by,mode\n"
        "Blocked,@Spam.example,Anyone,friend@ bob@example.com,left,1798758000,x,2026-01-01T00:00:00Z,root,CREATE\n"
    )
    assert rows_of(csv_table, text) == [
        BlockRow(
            party("@spam.example"),
            party("anyone"),
            RowMode.CREATE,
            ListEdit(True, (), parties("friend@", "bob@example.com")),
            reason="left",
            until=1798758000,
            comment="x",
            created_at=1767225600,
            created_by="root",
        )
    ]


def test_domain_given_makes_no_address_of_a_mailbox_name():
    """A blocked mailbox must not become a pattern because --domain was given for something else."""
    assert rows_of(csv_table, "sender,except\nalice,bob\n", domain="example.com") == [
        BlockRow(party("alice"), allowed=ListEdit(True, (), parties("bob@example.com")))
    ]


def test_senders_alone_are_blocked_senders():
    """A column `sender` says what the file is about."""
    assert rows_of(csv_table, "sender\nalice\n<>\n") == [BlockRow(party("alice")), BlockRow(party("<>"))]


def test_rows_without_a_kind_tell_by_their_sender():
    """In a file of several kinds, a forgotten kind is no reason to refuse what is plain."""
    assert rows_of(csv_table, "kind,name,sender\n,alice,\n,,bob\ndomain,Example.com,\n") == [
        MailboxRow("alice"),
        BlockRow(party("bob")),
        DomainRow("example.com"),
    ]
    assert rows_of(csv_table, "kind,name\n,alice\n") == [MailboxRow("alice")]


def test_domain_says_what_happens_to_unlisted_recipients():
    """Without it, an exported domain that accepts would come back as one that rejects."""
    text = "kind,name,unlisted\ndomain,example.com,accept\n"
    assert rows_of(csv_table, text) == [DomainRow("example.com", unlisted=Unlisted.ACCEPT)]


def test_dash_empties_and_nothing_keeps():
    """A half-filled spreadsheet must not wipe what it does not mention."""
    text = "name,addresses,receive,accept,reason,until,comment\nalice,-,insiders,-,-,-,\\-\nbob,,,,,,\n"
    assert rows_of(csv_table, text) == [
        MailboxRow("alice", RowMode.UPDATE, ListEdit(True), Receive.INSIDERS, "", None, "-", ListEdit(True)),
        MailboxRow("bob"),
    ]
    assert rows_of(csv_table, text)[1].until is KEEP


def test_names_in_a_list_can_hold_blanks():
    """Mailboxes are accepted by name too, and Exchange's names have blanks."""
    (row,) = rows_of(csv_table, 'name,accept\nalice,"""John Doe"" @partner.example ""a b""@example.com"\n')
    assert row.accepted == ListEdit(True, (), parties("John Doe", "@partner.example", "a b@example.com"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("1798758000", 1798758000, id="Unix seconds"),
        pytest.param("2026-12-31T23:00:00+00:00", 1798758000, id="with a zone"),
        pytest.param("20261231", int(datetime(2026, 12, 31, 23, 59, 59).timestamp()), id="no dashes"),  # noqa: DTZ001
        pytest.param("2026-12-31", int(datetime(2026, 12, 31, 23, 59, 59).timestamp()), id="local"),  # noqa: DTZ001
    ],
)
def test_times_are_iso_or_seconds(text, seconds):
    """Spreadsheets have dates, scripts have seconds."""
    assert rows_of(csv_table, f"name,until\nalice,{text}\n")[0].until == seconds


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        pytest.param("name,until\na,31.12.2026", "until", "is not a time", id="a date of another style"),
        pytest.param("name,until\na,0", "until", "is not a time", id="a time before all others"),
        pytest.param("name,until\na,99999999999999999999", "until", "is not a time", id="a time without a date"),
        pytest.param(
            "name,receive\na,some", "receive", "none of inherit, anyone, insiders, domain, nobody", id="an unknown word"
        ),
        pytest.param("name,receive\na,-", "receive", "none of", id="emptying what is never empty"),
        pytest.param("name,addresses\na,b", "addresses", "is not an address", id="an address without a domain"),
        pytest.param('name,accept\na,"""b c"', "accept", "quote that does not end", id="an open quote in a list"),
        pytest.param("name,unlisted\na,accept", "unlisted", "no such field", id="a column of another kind"),
        pytest.param("kind,name\nlist,a", "kind", "none of domain, group, mailbox, blocked", id="an unknown kind"),
        pytest.param("kind,name\ndomain,", "", "a domain needs a name", id="a domain without a name"),
        pytest.param("kind,sender\nblocked,", "", "a blocked sender needs a sender", id="a block without a sender"),
        pytest.param("name,receive\n,anyone", "", "needs a name, or an address", id="a mailbox without a name"),
        pytest.param("name,addresses\n,-", "", "needs a name, or an address", id="a mailbox of no address"),
        pytest.param("name\na,b", "", "has 2 cells, the header 1", id="a cell too many"),
        pytest.param('name\n"a"b', "", "after a closing", id="a broken quote"),
        pytest.param("name\na@b", "name", "not a mailbox name", id="an address as a name"),
        pytest.param("name,mode\na,replace", "mode", "none of create", id="an unknown mode"),
    ],
)
def test_bad_row_says_where_and_what(content, column, message):
    """Row errors are corrected by people who have only the message."""
    found = problem_of(csv_table, content)
    assert found[0] == column
    assert message in found[1]


def test_all_that_is_wrong_with_a_row_is_told_at_once():
    """Mending a file one error a time takes as many imports."""
    (record,) = read_all(csv_table, "name,addresses,receive\na@b,c,d\n")
    assert [problem.column for problem in record.problems] == ["name", "addresses", "receive"]


def test_good_rows_go_on_after_a_bad_one():
    """One typing error among 100 000 rows must cost one row."""
    first, second, third = read_all(csv_table, "name\na@b\n\nbob\n,\n,x\n")
    assert (first.line, first.source, bool(first.problems)) == (2, "a@b", True)
    assert (second.line, second.source, second.rows) == (4, "bob", (MailboxRow("bob"),))
    assert third.line == 6


def test_spreadsheets_may_drop_or_add_empty_cells():
    """Excel leaves trailing empty cells out, or writes more of them than the header has."""
    assert rows_of(csv_table, "name,reason,comment\nalice\nbob,,,,\n,,\n") == [MailboxRow("alice"), MailboxRow("bob")]


@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_header_tells_the_separator(separator):
    """A German Excel writes semicolons and calls it csv."""
    text = f"name{separator}reason\nalice{separator}gone\n"
    assert rows_of(csv_table, text) == [MailboxRow("alice", reason="gone")]


def test_columns_left_out_are_told_once():
    """What a spreadsheet has besides is nobody's business here; but nothing is dropped in silence."""
    found = read_all(csv_table, "name,Phone,name,#cost centre,\nalice,1,bob,7,\n")
    assert found == [
        Notice(1, "the column name is there twice; the first counts"),
        Notice(1, "2 columns are left out, of no use to policyd: Phone, #cost centre"),
        Record(2, "alice,1,bob,7,", (MailboxRow("alice"),)),
    ]


@pytest.mark.parametrize("content", ["", "\n\n", "alice@example.com\n", '"name\nalice\n'])
def test_file_without_our_header_is_refused(content):
    """Reading the first mailbox as a header would lose it."""
    with pytest.raises(TransferError, match="--format"):
        read_all(csv_table, content)


def test_address_beside_addresses_is_a_problem():
    """Both columns at once leave open whether the list is replaced."""
    assert "both" in problem_of(csv_table, "name,address,addresses\na,b@example.com,c@example.com")[1]


_LINES = st.lists(
    st.lists(st.sampled_from(["", "-", "a", '"', '""', '"a b"@c.d', "a@b.c", "domain", "blocked", "1", "\x00", "é"]))
)


@given(_LINES, st.sampled_from(["kind,name,addresses,receive,until", "sender;to;except;created_at", "address"]))
def test_damaged_files_give_problems_only(lines, header):
    """A traceback in the middle of an import tells an administrator nothing."""
    read_all(csv_table, "\n".join([header, *map(",".join, lines)]), domain="example.com")


@given(st.binary())
def test_any_bytes_give_problems_or_one_clear_line(raw):
    """Somebody will import a spreadsheet's own format."""
    read_all(csv_table, b"name,reason\n" + raw)
    with suppress(TransferError):
        read_all(csv_table, raw)


def test_reading_closes_nothing():
    """The stream belongs to the caller, who may read it again."""
    stream = io.BytesIO(b"name\nalice\n")
    assert len(list(csv_table.read(stream, ReadOptions()))) == len(list(csv_table.read(stream, ReadOptions()))) == 1


def test_broken_value_is_an_error_of_its_own():
    """It is told beside address errors, never instead of a bug."""
    with pytest.raises(CellError):
        split_list('"a')


def test_plain_mailbox_reads_back():
    """The example that people look at first."""
    text, _ = written(csv_table, FixedTables(held_mailboxes=((Mailbox("alice"), ("alice@example.com",)),)))
    assert text == (
        "kind,name,addresses,receive,accept,reason,until,comment,unlisted,sender,to,except,created_at,created_by,"
        "members,alias_of,except_sender\n"
        "mailbox,alice,alice@example.com,inherit,-,-,-,-,,,,,,,,,\n"
    )


_SIGNS = ["=", "+", "-", "@", "'", "''", "'=", "'-", "\\-", ""]
_FORMULAS = st.builds("{}{}".format, st.sampled_from(_SIGNS), st.text("=+-@' a1\\"))


@drill(
    "a cell that a spreadsheet runs as a formula",
    made="reasons that begin with each of its signs, exported as ``csv`` and read again",
)
@given(_FORMULAS, _FORMULAS)
def test_no_cell_begins_as_a_formula_and_each_is_read_back(reason, comment):
    """A spreadsheet runs what begins with such a sign; the import gives back what was exported."""
    mailbox = Mailbox("alice", Receive.NOBODY, reason=reason.strip(), comment=comment.strip())
    held = FixedTables(held_mailboxes=((mailbox, ("alice@example.com",)),))
    text, _ = written(csv_table, held)
    for cell in next(csv.reader([text.splitlines()[1]])):
        assert cell == "-" or cell[:1] not in {"=", "+", "-", "@", "\t"}
    assert rows_of(csv_table, text) == rows_of_tables(held)


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        pytest.param("@example.com", "'@example.com", id="a pattern"),
        pytest.param("=1+1", "'=1+1", id="a formula"),
        pytest.param("+49 30 1", "'+49 30 1", id="a telephone number"),
        pytest.param("-5", "'-5", id="a negative number"),
        pytest.param("'tis", "''tis", id="a quote of its own"),
        pytest.param("-", "\\-", id="the lone -"),
        pytest.param("ordinary", "ordinary", id="nothing of the kind"),
    ],
)
def test_cell_that_a_spreadsheet_would_run_is_marked(cell, shown):
    """One mark, and only where it is needed."""
    text, _ = written(csv_table, FixedTables(held_mailboxes=((Mailbox("alice", comment=cell), ()),)))
    assert next(csv.reader([text.splitlines()[1]]))[7] == shown


@pytest.mark.parametrize("text", ["@example.com", "=1+1", "'tis", "it's", "'"])
def test_cell_without_a_mark_is_read_as_it_stands(text):
    """Files that people make, and that older exports made, have none."""
    assert rows_of(csv_table, f"name,comment\nalice,{text}\n") == [MailboxRow("alice", comment=text)]


@pytest.mark.parametrize(
    ("text", "means"),
    [('="007"', "007"), ('"=""007"""', "007"), ('="a ""b"" c"', 'a "b" c'), ('=""', ""), ('=1&"2"', '=1&"2"')],
)
def test_formula_that_is_a_text_is_read_as_that_text(text, means):
    """Programs write a cell so, that Excel may not make a number or a date of it."""
    assert rows_of(csv_table, f'name,addresses,comment\n="alice",="a@example.com",{text}\n') == [
        MailboxRow("alice", addresses=ListEdit(True, (), ("a@example.com",)), comment=means or KEEP)
    ]


def test_patterns_come_back_from_a_file():
    """With a mark and without one."""
    for accept in ("@example.com", "'@example.com"):
        (row,) = rows_of(csv_table, f"name,accept\nalice,{accept} <>\n")
        assert row.accepted.add == parties("@example.com", "<>")


def test_export_of_the_first_edition_says_what_it_said_then():
    """Its `anyone` was no restriction, and must not open a mailbox for good whose domain is restricted one day."""
    header = "kind,name,addresses,receive,accept,reason,until,comment,unlisted,sender,to,except,created_at,created_by"
    line = "mailbox,alice,-,anyone,-,-,-,-,,,,,,"
    assert [row.receive for row in rows_of(csv_table, f"{header}\n{line}\n")] == [Receive.INHERIT]
    assert [row.receive for row in rows_of(csv_table, f"{header},members\n{line},\n")] == [Receive.ANYONE]
    assert [row.receive for row in rows_of(csv_table, "name,receive\nalice,anyone\n")] == [Receive.ANYONE]


@pytest.mark.parametrize("cell", ['"group:All Staff"', 'group:"All Staff"', '"GROUP:All Staff"'])
def test_group_with_a_blank_in_its_name_is_quoted_in_a_list(cell):
    """As people quote it, before `group:` or behind."""
    quoted = cell.replace('"', '""')
    rows = rows_of(csv_table, f'name,accept\nalice,"bob {quoted}"\n')
    assert rows == [MailboxRow("alice", accepted=ListEdit(True, (), parties("bob", "group:All Staff")))]


def test_list_quotes_what_people_take_for_several():
    """A comma or semicolon separates for many who read the file, and for programs."""
    box = Mailbox("alice", accepted=frozenset(parties("group:a,b", "c;d", "group:e f", 'g"h', "j")))
    text, _ = written(csv_table, FixedTables(held_mailboxes=((box, ()),)))
    cell = next(csv.DictReader(io.StringIO(text)))["accept"]
    assert cell == r""""c;d" "g\"h" "group:a,b" "group:e f" j"""
