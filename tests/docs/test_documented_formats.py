"""The formats of bulk files in the pages are those of the code."""

from policyd.transfer.csv_table import COLUMNS, KINDS
from policyd.transfer.fields import KEYS
from policyd.transfer.formats import FORMATS
from policyd.transfer.ldif.entries import ACCEPTED, MEMBERS, NAMES, OTHERS, REJECTED
from tests.docs.pages import FIRST, LAST, names, table


def test_formats_are_those_of_the_table() -> None:
    """What can be read can be written, and the other way round."""
    assert [row[FIRST] for row in table("import", "Format")] == [*FORMATS]


def test_columns_of_csv_are_those_of_the_table() -> None:
    """Each column, which is a key of jsonl too, and the kinds of rows that have it."""
    rows = table("import/spreadsheets", "Column or key")
    assert {row[FIRST] for row in rows} == {*COLUMNS, "address"}
    assert [names(row[LAST].partition(";")[0]) for row in rows[:1]] == [[*KINDS]]
    for column, kinds, _ in rows:
        wanted: list[str] = [kind for kind in KINDS if column in KEYS[kind]] or ["all"]
        assert names(kinds.replace("all", ", ".join(KINDS)) if len(wanted) == len(KINDS) else kinds) == wanted


def test_attributes_of_directories_are_those_of_the_table() -> None:
    """An attribute that isn't in the table is not read, and one that isn't read is not in the table."""
    documented = {name.lower() for row in table("import/directories", "Attribute") for name in names(row[FIRST])}
    assert documented == {*ACCEPTED, *REJECTED, *NAMES, *MEMBERS, *OTHERS}
