"""A table on a terminal: whole, aligned, and without a word that is broken."""

import re

from hypothesis import given
from hypothesis import strategies as st

from policyd.cli.table import table

WORDS = st.text("abü山@.x", min_size=1, max_size=12)
CELLS = st.lists(WORDS, max_size=6).map(" ".join)
HEADINGS = ("name", "addresses", "until", "reason")


def cells(text: str) -> int:
    """How many cells the letters of these tests take."""
    return len(text) + text.count("山")


@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=8), st.integers(1, 120))
def test_no_word_is_broken_or_lost_and_each_line_fits(rows: list[tuple[str, ...]], width: int) -> None:
    """An address in two parts can be neither read nor copied; one that is left out was never there."""
    lines = [*table(rows, HEADINGS, width, wrapped=frozenset({"addresses", "reason"}))]
    words = [word for row in rows for cell in row for word in cell.split()]
    assert sorted([*" ".join(lines).split()]) == sorted([*words, *lines_of_headings(lines)])
    for line in lines:
        assert cells(line) <= width or len(line.split()) == 1


def lines_of_headings(lines: list[str]) -> list[str]:
    """The headings that are shown: a column in which nothing stands may be left out."""
    return [each for each in HEADINGS if re.search(rf"(^|\s){each}(\s|$)", " ".join(lines))]


def test_what_fits_is_one_line_a_row() -> None:
    """As any table."""
    rows = [("alice", "alice@example.com", "", "x"), ("山田", "b@example.com", "never", "")]
    assert [*table(rows, HEADINGS, 80)] == [
        "name   addresses          until  reason",
        "alice  alice@example.com         x",
        "山田   b@example.com      never",
    ]


def test_text_is_wrapped_before_a_column_goes_into_a_further_line() -> None:
    """The reason gives way first, then whole columns do."""
    rows = [("alice", "alice@example.com a.smith@example.com", "", "away until the end of the year at least")]
    assert [*table(rows, HEADINGS, 65, wrapped=frozenset({"addresses", "reason"}))] == [
        "name   addresses                     reason",
        "alice  alice@example.com             away until the end of the",
        "       a.smith@example.com           year at least",
    ]
    assert [*table(rows, HEADINGS, 40, wrapped=frozenset({"addresses", "reason"}))] == [
        "name   addresses",
        "    reason",
        "alice  alice@example.com",
        "       a.smith@example.com",
        "    away until the end of the year at",
        "    least",
    ]


def test_a_quoted_address_is_one_word() -> None:
    """It has a blank."""
    (_, *lines) = table([('"john doe"@example.com "x y"@z.example',)], ["accept"], 24, wrapped=frozenset({"accept"}))
    assert lines == ['"john doe"@example.com', '"x y"@z.example']


def test_a_table_without_rows_has_its_headings() -> None:
    """Nothing found is said by nothing under them."""
    assert [*table([], HEADINGS, 80)] == ["name  addresses  until  reason"]


def test_many_rows_are_not_all_looked_at_before_the_first_is_shown() -> None:
    """A million rows begin at once; those of one stretch are aligned with one another."""
    asked = []

    def rows():
        for number in range(25_000):
            asked.append(number)
            yield (str(number),)

    lines = table(rows(), ["name"], 80)
    assert [next(lines), next(lines)] == ["name", "0"]
    assert len(asked) == 10_000
    assert len([*lines]) == 24_999
