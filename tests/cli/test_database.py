"""`policyd database`: the database file."""

import json
import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from tests.support.command_line import command_line


@pytest.fixture
def policyd():
    with command_line() as policyd:
        yield policyd


@pytest.mark.file_only("the mode of a file")
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


@pytest.mark.file_only("a file of that name")
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
        "database": str(policyd.store),
        **({} if policyd.server else {"octets": policyd.database.stat().st_size}),
        "change": 6,
        "domain": 1,
        "mailbox": 1,
        "mailbox_group": 0,
        "accepted_sender": 1,
        "address": 2,
        "blocked_sender": 1,
        "group_member": 0,
        "allowed_recipient": 2,
        "allowed_sender": 0,
    }
    assert "address: 2\n" in policyd.run("database stats")


# --- Looking at it, and copying it ---


def change(policyd, statement):
    """Change the tables past everything of ours, in a file also what is about the file."""
    if policyd.server:
        policyd.rows(statement)
        return
    connection = sqlite3.connect(policyd.database, isolation_level=None)
    connection.execute(statement)
    connection.close()


@pytest.fixture
def company():
    """A bit of everything, with what a rename, quotes and other scripts make of it."""
    with command_line(
        "domain add example.com",
        "mailbox add Jörg jörg@example.com '\"j b\"@example.com'",
        "mailbox add bob bob@example.com",
        "mailbox restrict Jörg --accept '\"x y\"@b.example' --accept '<>' --until +3d --reason 'ab — cd'",
        "sender block Jörg @spam.example user@ @.a.example --to anyone --except @b.example --reason ☠",
        "sender block bob --to Jörg",
        "mailbox rename Jörg George",
        "mailbox remove bob --yes",
        "undo 14",
    ) as policyd:
        yield policyd


def test_sound_database_is_silence_for_scripts_and_a_line_for_people(company):
    """Monitoring wants a status, a person a word; both get the end of the journal to keep elsewhere."""
    assert company.run("database check") == ""
    found = company.json("database check")
    last = company.rows("SELECT id, digest FROM change ORDER BY id DESC LIMIT 1")
    assert [(found["change"], found["digest"])] == last
    assert (found["is_sound"], found["count"], found["findings"]) == (True, 0, [])
    (line,) = company.says("database check")
    assert line == (
        f"{company.store} is sound: {found['rows']} rows; "
        f"its last change is {found['change']}, digest {found['digest']}"
    )


ODD_ROWS = {
    "UPDATE domain SET name = 'EXAMPLE.com'": "domain EXAMPLE.com: it is not in normal form",
    "INSERT INTO address VALUES ('x@other.example', 1, 0)": "address x@other.example: other.example is not managed",
    "INSERT INTO address VALUES ('X@example.com', 1, 0)": "address X@example.com: it is not in normal form",
    "UPDATE mailbox SET folded_name = 'x' WHERE id = 1": "mailbox George: it is found as 'x', not by its name",
    "UPDATE mailbox SET receive = 'nobody', reason = 'a\x1b\nb'": (
        "mailbox George: the text 'a\\x1b\\nb' is not one line"
    ),
    "UPDATE mailbox SET name = 'a\x1b', folded_name = 'a\x1b' WHERE id = 1": "mailbox a\\x1b: its name",
    "UPDATE mailbox SET receive = 'nobody', until = -1": "mailbox George: until is -1, which is no time",
    "UPDATE accepted_sender SET pattern = 'x' WHERE pattern = '<>'": "accepted_sender George: the pattern 'x' is not",
    "UPDATE blocked_sender SET pattern = '@A.example' WHERE pattern = '@spam.example'": "blocked_sender 2: the pattern",
    "UPDATE address SET is_primary = 0": "mailbox George: it has 0 primary addresses, not one",
    "UPDATE change SET after = 'rubbish' WHERE id = 2": "change 2: it doesn't say what was changed",
}
ODD_FILES = {
    "UPDATE mailbox SET name = CAST(x'ff' AS TEXT) WHERE id = 1": "mailbox \\xff: its name is not in normal form",
    "PRAGMA foreign_keys = 0; DELETE FROM mailbox WHERE id = 1": "address in a row: it names a mailbox",
    "DROP INDEX address_mailbox": "index address_mailbox is missing; restore a backup",
    "ALTER TABLE domain ADD COLUMN x TEXT": "table domain is altered",
    "DROP TABLE allowed_recipient": "table allowed_recipient is missing",
    "CREATE TRIGGER t AFTER INSERT ON domain BEGIN DELETE FROM blocked_sender; END": "trigger t is not policyd's",
}
ODD = [
    *ODD_ROWS.items(),
    *(pytest.param(*each, marks=pytest.mark.file_only("SQLite's own SQL")) for each in ODD_FILES.items()),
]


@pytest.mark.parametrize(("statements", "finding"), ODD)
def test_what_policyd_would_never_write_is_found(company, statements, finding):
    """Each is a promise that silently isn't kept; the line says what to do, and can't steer a terminal."""
    for statement in statements.split("; ") if "TRIGGER" not in statements else [statements]:
        change(company, statement)
    ended = company.ends("database check")
    assert ended.status == 1
    assert any(line.startswith(finding) for line in ended.out.splitlines()), ended.out
    assert ended.out.replace("\n", "").isprintable()
    assert ended.err.count("\n") == 1
    found = json.loads(company.ends("database check --json").out)
    assert found["count"] == len(found["findings"]) >= 1


def test_many_findings_are_counted(company):
    """Twenty lines tell what kind of thing happened."""
    domains = ", ".join(f"('d{number}.example', 'reject', 'anyone', '', '')" for number in range(50))
    company.rows(f"INSERT INTO domain (name, unlisted, receive, reason, comment) VALUES {domains}")
    ended = company.ends("database check")
    assert (ended.status, ended.out.count("\n")) == (1, 20)
    assert ended.err == (
        f"policyd: {company.store}: 50 things are wrong, the first 20 of which were told; "
        "do for each what its line says\n"
    )


def test_counter_that_somebody_has_set_back_lets_nothing_in(policyd):
    """A number that is taken is not given again; the line names what tells more."""
    policyd.run("domain add example.com")
    policyd.run("mailbox add alice alice@example.com")
    policyd.rows("UPDATE journal_head SET next_mailbox = 1")
    message = policyd.refuses("mailbox add bob bob@example.com", 69)
    assert "nothing was changed: " in message
    assert message.endswith("; see what is wrong with: policyd database check")
    assert "next_mailbox" in policyd.ends("database check").out


@pytest.mark.file_only("SQLite's journal")
def test_change_that_another_program_left_half_done_is_told_and_taken_back(policyd):
    """Who only reads, as the daemon does, can't do that, and says which command does."""
    policyd.run("domain add example.com")
    half = (
        "import os, sqlite3; tables = sqlite3.connect(os.environ['TABLES'], isolation_level=None)",
        "tables.execute('PRAGMA journal_mode = DELETE')",
        "tables.execute('PRAGMA cache_spill = 1'); tables.execute('PRAGMA cache_size = 1'); tables.execute('BEGIN')",
        "tables.execute('UPDATE domain SET comment = hex(zeroblob(20000))')",
        "tables.execute('UPDATE domain SET unlisted = ' + repr('accept')); os._exit(0)",
    )
    environment = {**os.environ, "TABLES": str(policyd.database)}
    subprocess.run([sys.executable, "-c", "\n".join(half)], env=environment, check=True)
    assert policyd.refuses("check alice@example.com", 69) == (
        f"policyd: {policyd.database}: another program was interrupted while it changed the file; to take that back, "
        "type: policyd database check"
    )
    assert policyd.run("database check") == ""
    assert policyd.run("domain list") == "example.com\treject\n"
    assert policyd.ends("check alice@example.com").status == 1


def test_backup_is_the_database_in_one_file(company):
    """Nothing beside it, and nothing lost."""
    copy = company.folder / "copy.db"
    assert company.says(f"database backup {copy}")[0].startswith(f"wrote {copy}: ")
    assert {path.name for path in company.folder.glob("*copy*")} == {"copy.db"}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    assert company.run(f"export --database {copy}") == company.run("export")


def test_backup_overwrites_nothing(company):
    """Yesterday's may be the last good one."""
    copy = company.folder / "copy.db"
    copy.write_text("precious")
    assert company.refuses(f"database backup {copy}", 73) == (
        f"policyd: {copy}: there is a file by that name already; it was left as it is"
    )
    assert copy.read_text() == "precious"
    assert company.refuses("database backup /none/such.db", 73) == (
        "policyd: /none/such.db: there is no folder /none; make it with: install -d /none"
    )
    assert "not a stream" in company.refuses("database backup -", 2)


def test_backup_of_an_unsound_database_is_kept_and_told(company):
    """It may be all there is; but who watches must hear of it."""
    company.rows("DELETE FROM allowed_recipient")
    copy = company.folder / "copy.db"
    ended = company.ends(f"database backup {copy}")
    assert ended.status == 1
    assert ended.err.startswith(f"policyd: {copy} is written, but the database is not sound: ")
    assert company.run(f"domain list --database {copy}") == company.run("domain list")


@pytest.mark.file_only("a file that is missing")
def test_backup_of_nothing_makes_nothing(policyd):
    """Neither the database nor the copy."""
    assert policyd.refuses(f"database backup {policyd.folder}/copy.db", 69) == (
        f"policyd: {policyd.database}: there is no database; make it with: policyd database create"
    )
    assert {path.name for path in policyd.folder.iterdir()} == {"policyd.toml"}
