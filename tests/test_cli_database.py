"""`policyd database`: the database file."""

import os
import stat

import pytest

from tests.command_line import command_line


@pytest.fixture
def policyd():
    with command_line() as policyd:
        yield policyd


def test_create_makes_an_empty_database(policyd):
    """Readable to its owner and group: a company's addresses are nobody else's business."""
    before = os.umask(0)
    try:
        assert policyd.says("database create") == [f"made {policyd.database}"]
    finally:
        os.umask(before)
    assert stat.S_IMODE(policyd.database.stat().st_mode) == 0o640
    assert {path.name for path in policyd.folder.iterdir()} == {"policyd.toml", "policyd.db"}
    assert policyd.run("domain list") == ""


def test_create_never_touches_what_is_there(policyd):
    """Whatever file has that name."""
    policyd.database.write_text("precious")
    assert policyd.refuses("database create", 73) == (
        f"policyd: {policyd.database}: there is a file by that name already; it was left as it is"
    )
    assert policyd.database.read_text() == "precious"
    assert {path.name for path in policyd.folder.iterdir()} == {"policyd.toml", "policyd.db"}


@pytest.mark.parametrize("line", ["database create", "domain add example.com"])
def test_missing_folder_is_named_with_the_command_that_makes_it(policyd, line):
    """It is not made: its owner and mode matter."""
    folder = policyd.folder / "no" / "such"
    assert policyd.refuses(f"{line} --database {folder}/policyd.db", 73) == (
        f"policyd: {folder}/policyd.db: there is no folder {folder}; make it with: install -d {folder}"
    )


def test_folder_that_is_a_file_can_hold_no_database(policyd):
    """The operating system's own words."""
    path = policyd.settings / "policyd.db"
    assert policyd.refuses(f"database create --database {path}", 73) == (
        f"policyd: {path}: the database can't be made: Not a directory"
    )


def test_first_change_makes_the_database(policyd):
    """A new administrator's first command works."""
    policyd.run("domain add example.com")
    assert policyd.run("domain list") == "example.com\treject\n"


def test_stats_count_the_rows_of_each_table(policyd):
    """And tell which file they are in, and how big it is."""
    policyd.run("domain add example.com")
    policyd.run("mailbox add alice a@example.com b@example.com")
    policyd.run("mailbox restrict alice --accept @a.example")
    policyd.run("sender block alice --except @a.example --except @b.example")
    assert policyd.json("database stats") == {
        "database": str(policyd.database),
        "octets": policyd.database.stat().st_size,
        "change": 6,
        "domain": 1,
        "mailbox": 1,
        "accepted_sender": 1,
        "address": 2,
        "blocked_sender": 1,
        "allowed_recipient": 2,
    }
    assert "address: 2\n" in policyd.run("database stats")
