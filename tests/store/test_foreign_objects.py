"""Views, triggers and virtual tables that the folder's owner planted in the database: no command is kept busy.

To read a view may take for ever, and to write a table with a trigger, too. Root's commands read and write both.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from policyd.errors import StoreError
from policyd.store.lookup import Lookup
from tests.support.command_line import CommandLine, command_line

FOR_EVER = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, i AS name FROM n"
PLANTED = {
    "view": [f"CREATE VIEW v AS {FOR_EVER}"],
    "view in the place of domain": ["ALTER TABLE domain RENAME TO x", f"CREATE VIEW domain AS {FOR_EVER}"],
    "view in the place of change": ["ALTER TABLE change RENAME TO x", f"CREATE VIEW change AS {FOR_EVER}"],
    "view by a name of SQLite's": [
        f"CREATE VIEW sqlitf_stat1 AS {FOR_EVER}",
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema SET (name, tbl_name) = ('sqlite_stat1', 'sqlite_stat1') WHERE type = 'view'",
        "UPDATE sqlite_schema SET sql = replace(sql, 'sqlitf', 'sqlite') WHERE type = 'view'",
    ],
    "trigger": [
        f"CREATE TRIGGER t AFTER INSERT ON change BEGIN INSERT INTO domain SELECT id, name FROM ({FOR_EVER}); END"
    ],
    "trigger with a name that steers a terminal": [
        'CREATE TRIGGER "t\x1b[2J\n" AFTER UPDATE ON mailbox BEGIN SELECT 1; END'
    ],
    "virtual table": ["CREATE VIRTUAL TABLE v USING rtree(i, a, b)"],
    "virtual table of no module": [
        "PRAGMA writable_schema = 1",
        "INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING none(x)')",
    ],
}
COMMANDS = [
    "domain list",
    "domain add example.net",
    "history",
    "undo 1",
    "check --recipient bob@example.com",
    "database stats",
]


def plant(path: Path, statements: list[str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for each in statements:
            connection.execute(each)
        ((version,),) = connection.execute("PRAGMA schema_version").fetchall()
        connection.execute(f"PRAGMA schema_version = {version + 1}")


@pytest.fixture(scope="module")
def made() -> Iterator[CommandLine]:
    with command_line(
        "domain add example.com",
        "mailbox add bob bob@example.com",
    ) as policyd:
        policyd.run(f"database backup {policyd.folder}/good.db")
        yield policyd


@pytest.fixture(params=PLANTED)
def policyd(request: pytest.FixtureRequest, made: CommandLine) -> CommandLine:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{made.database}{suffix}").unlink(missing_ok=True)
    shutil.copy(made.folder / "good.db", made.database)
    plant(made.database, PLANTED[request.param])
    return made


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_refuse_it_in_a_line_that_says_what_to_do(policyd, line):
    """Nothing of it is run: not the view that is named like a table, not the trigger behind a change."""
    ended = policyd.ends(line)
    assert (ended.status, ended.out) == (69, "")
    (message,) = ended.err.splitlines()
    assert message.startswith(f"policyd: {policyd.database}: ")
    assert message.endswith("which policyd never makes; restore a backup (policyd database check tells more)")
    assert message.isprintable()


def test_check_tells_of_it_and_ends(policyd):
    """It is a finding like the others."""
    ended = policyd.ends("database check")
    assert ended.status == 1, ended
    assert ended.err.startswith(f"policyd: {policyd.database}: ")


def test_backup_is_put_back_over_it(policyd):
    """As the line says; what was there is kept, and is not run meanwhile either."""
    ended = policyd.ends(f"database restore --yes {policyd.folder}/good.db")
    assert ended.status == 0, ended
    assert policyd.run("mailbox list").startswith("bob\t")
    assert policyd.run("database check") == ""


def test_it_is_no_backup(policyd):
    """A file that somebody hands to root is looked at in the same way."""
    shutil.copy(policyd.database, policyd.folder / "bad.db")
    shutil.copy(policyd.folder / "good.db", policyd.database)
    ended = policyd.ends(f"database restore --yes {policyd.folder}/bad.db")
    assert ended.status == 1
    assert "is not sound, and nothing was changed" in ended.err


def test_daemon_does_not_answer_from_it(policyd):
    """Nor does it stand still: it defers, as for any database that can't be read."""
    lookup = Lookup(policyd.store)
    with pytest.raises(StoreError, match="which policyd never makes"):
        lookup.begin()
    lookup.close()


def test_running_daemon_sees_what_is_planted_later(made):
    """The look at what changed is a look at this, too."""
    shutil.copy(made.folder / "good.db", made.database)
    lookup = Lookup(made.store)
    lookup.begin()
    lookup.end()
    plant(made.database, PLANTED["view"])
    with pytest.raises(StoreError, match="which policyd never makes"):
        lookup.begin()
    lookup.close()
