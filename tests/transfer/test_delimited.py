"""Records out of lines: what is in quotes stays together, and a quote that is cut swallows nothing in silence."""

import csv
import io
import time
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.errors import TransferError
from policyd.transfer.delimited import Fields, read_records
from policyd.transfer.text import LINE_LIMIT, Line, find_encoding, read_lines

CELLS = st.text(st.sampled_from("ab,;\"'\n\\ %\0é\x85\u2028"), max_size=8)


def lines_of(text: str) -> list[Line]:
    return [Line(number, line) for number, line in enumerate(text.split("\n"), 1)]


def read(text: str, separator: str = ",", quote: str = '"') -> list[Fields]:
    return list(read_records(lines_of(text), separator, quote))


def cells(text: str, separator: str = ",", quote: str = '"') -> list[tuple[str, ...]]:
    found = read(text, separator, quote)
    assert [fields.problem for fields in found if fields.problem] == []
    return [fields.cells for fields in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a,b\nc,d", [("a", "b"), ("c", "d")], id="plain lines"),
        pytest.param('a,"b,c"', [("a", "b,c")], id="a separator in quotes"),
        pytest.param('a,"say ""no"""', [("a", 'say "no"')], id="a doubled quote"),
        pytest.param('a,5" disk\nb,c', [("a", '5" disk'), ("b", "c")], id="a quote inside a plain cell is a character"),
        pytest.param('a,""\nb,', [("a", ""), ("b", "")], id="empty cells"),
        pytest.param('"a\n\nb",c\nd,e', [("a\n\nb", "c"), ("d", "e")], id="line breaks in quotes"),
        pytest.param('h,i\n"a\nb",c', [("h", "i"), ("a\nb", "c")], id="the end of a quoted cell is no record"),
        pytest.param("a,b\n\n\nc,d\n", [("a", "b"), ("c", "d")], id="empty lines"),
    ],
)
def test_records_are_split_as_spreadsheets_write_them(text, expected):
    """Files come from Exchange, from spreadsheets and from scripts, and all mean the same by quotes."""
    assert cells(text) == expected


def test_a_record_keeps_its_text_and_the_number_of_its_first_line():
    """The rejected row goes to FILE.err as it was written, and the message leads to its line."""
    assert read('h,i\n\n"a\nb",c') == [
        Fields(1, "h,i", ("h", "i")),
        Fields(3, '"a\nb",c', ("a\nb", "c")),
    ]


@pytest.mark.parametrize(("separator", "quote"), [("\t", '"'), (";", "'"), ("|", "^"), ("]", "-"), ("^", "\\")])
def test_separator_and_quote_can_be_any_two_characters(separator, quote):
    """Q152472: the administrator chose them on the Exchange side."""
    text = separator.join(["a", f"{quote}b{separator}c{quote}"])
    assert cells(text, separator, quote) == [("a", f"b{separator}c")]


@pytest.mark.parametrize(("separator", "quote"), [("", '"'), (",", ""), (",,", '"'), (",", ","), ("\n", '"')])
def test_impossible_separators_are_one_clear_error(separator, quote):
    """They come from the command line, so they can be anything."""
    with pytest.raises(TransferError, match="can't separate and quote columns; give two different characters"):
        read("a,b", separator, quote)


def test_a_cut_quote_costs_one_record():
    """A quote that lost its partner must not take the next thousand mailboxes into one cell."""
    found = read('name,mail\n"alice,a@example.com\nbob,b@example.com\n"carol, c",c@example.com')
    assert found == [
        Fields(1, "name,mail", ("name", "mail")),
        Fields(2, '"alice,a@example.com', (), 'has a " that is not closed'),
        Fields(3, "bob,b@example.com", ("bob", "b@example.com")),
        Fields(4, '"carol, c",c@example.com', ("carol, c", "c@example.com")),
    ]


def test_a_quote_open_at_the_end_of_the_file_is_a_problem():
    """A file cut off in transfer ends so."""
    assert read('a,b\nc,"d\ne')[1:] == [Fields(2, 'c,"d\ne', (), 'has a " that is not closed')]


def test_lines_of_a_quoted_cell_in_a_file_of_one_column_are_no_records():
    """Where each line could be a record of its own, only the quotes can tell."""
    assert cells('note\n"a\nb"') == [("note",), ("a\nb",)]


def test_text_after_a_closing_quote_is_a_problem():
    """Two readings are possible, and to guess wrong would file an address under the wrong name."""
    problem = 'has text after a closing "; inside a quoted cell a " is written twice'
    assert read('a,"b"c\nd,e') == [Fields(1, 'a,"b"c', (), problem), Fields(2, "d,e", ("d", "e"))]


def test_a_line_that_is_too_long_is_a_problem_and_the_next_is_read():
    """A 50 MB line is no reason to lose the file, or the memory."""
    stream = io.BytesIO(b"a,b\n" + b"x" * (50 * LINE_LIMIT) + b"\nc,d\n")
    found = list(read_records(read_lines(stream, find_encoding(stream)), ",", '"'))
    assert found == [
        Fields(1, "a,b", ("a", "b")),
        Fields(2, "", (), f"has more than {LINE_LIMIT} characters"),
        Fields(3, "c,d", ("c", "d")),
    ]


def test_a_record_that_is_too_long_ends_at_the_limit():
    """Where no line looks like a record, the bound on memory still holds, and the cause is named."""
    found = read('a,b\nc,"' + "\n".join(["x" * 1023] * 1025) + "\nd,e")
    assert found[1] == Fields(2, "", (), f"has more than {LINE_LIMIT} characters; a quote in it is perhaps not closed")
    assert found[-1].cells == ("d", "e")


def test_a_cell_may_be_as_long_as_a_record():
    """The members of a large distribution list are one cell."""
    assert cells('a,"' + "x" * 500_000 + '"') == [("a", "x" * 500_000)]


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_what_the_csv_module_writes_is_read_back(table):
    """Its dialect is what every spreadsheet reads and writes."""
    # Twelve columns, because a line inside a cell must not have as many.
    expected = [("name",) * 12, *((*row, *("" for _ in range(9))) for row in table)]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(expected)
    assert cells(buffer.getvalue()) == expected


@given(st.text(st.sampled_from('ab,"\n'), max_size=200))
def test_no_text_is_lost_whatever_the_quotes(text):
    """Damage is reported where it is; every line is in exactly one record."""
    found = read(text)
    assert [line for fields in found for line in fields.source.split("\n") if line] == [
        line for line in text.split("\n") if line
    ]
    assert all(bool(fields.cells) != bool(fields.problem) for fields in found)


@pytest.mark.parametrize("line", ['5","x', '""', '"', 'x,"', '"",""a'])
def test_time_grows_with_the_text_only(line):
    """A hostile file can't keep an import, and its transaction, busy for hours."""
    lines = [Line(1, "a,b"), *(Line(number, line) for number in range(2, 40_000))]
    start = time.process_time()
    for _ in read_records(lines, ",", '"'):
        pass
    assert time.process_time() - start < 5


def test_lines_may_be_left_half_read_after_the_file_is_closed():
    """As where a format can't be told: closing twice must say nothing on its own."""
    stream = io.BytesIO(b"one\ntwo\n")
    lines = read_lines(stream, "utf-8")
    assert next(lines).text == "one"
    stream.close()
    assert isinstance(lines, Generator)
    lines.close()
