"""The tables of the first edition become those of this one: nothing is lost, and every answer stays what it was."""

import io
import json
import shlex
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config

from policyd.decide import Decider
from policyd.model import Action, Request
from policyd.settings import load_settings
from policyd.store import migrations
from policyd.store.check import objects_in
from policyd.store.connection import Database
from policyd.store.database import create_database, empty_tables
from policyd.store.lookup import looking
from policyd.store.schema import VERSION
from policyd.store.upgrade import run_revisions
from tests.support.command_line import CommandLine, command_line
from tests.support.first_edition import DATA, SETTINGS, content_of, first_edition_answers, make_first_edition

RENAMED = {
    "group:sales": "group-sales-3",  # group-sales and group-sales-2 are taken
    "Group:All Staff": "Group-All Staff",
    "group:": "group-",
    f"group:{'x' * 250}": f"group-{'x' * 248}-2",
}
LAST = 90  # change in the first edition's journal


@pytest.fixture
def policyd() -> Iterator[CommandLine]:
    """The command line, on a database of the first edition."""
    with command_line() as policyd:
        policyd.settings.write_text(SETTINGS)
        make_first_edition(policyd.database)
        yield policyd


@pytest.fixture
def upgraded(policyd: CommandLine) -> CommandLine:
    """The same after the upgrade, in which the check that follows it finds nothing."""
    policyd.run("database upgrade")
    return policyd


def kept(policyd: CommandLine, suffix: str = "1") -> Path:
    return Path(f"{policyd.database}.before-{suffix}")


# --- The tables ---


def made_by_revisions(version: int) -> sqlite3.Connection:
    """The tables of that version in memory, made by the revisions alone."""
    driver = sqlite3.connect(":memory:", isolation_level=None)
    run_revisions(driver, 0, version, {"actor": "", "now": 0, "changeset": 1, "notice": str})
    return driver


def named(connection: sqlite3.Connection) -> dict[str, str]:
    """The SQL of everything in the database, by its name, as SQLite keeps it."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def test_upgraded_tables_are_those_of_a_new_database(upgraded):
    """Name by name, each table and each index: also those over coalesce(), which Alembic's batch mode drops."""
    new = upgraded.folder / "new.db"
    create_database(Database.at(new))
    with closing(sqlite3.connect(upgraded.database)) as old, closing(sqlite3.connect(new)) as fresh:
        assert named(old) == named(fresh)
        for pragma in ("application_id", "user_version", "page_size"):
            assert old.execute(f"PRAGMA {pragma}").fetchone() == fresh.execute(f"PRAGMA {pragma}").fetchone()
        assert "blocked_sender_once" in named(old)


def test_first_revision_makes_the_tables_that_the_first_edition_made(policyd):
    """So what it takes for sound is what was."""
    with closing(sqlite3.connect(policyd.database)) as old, closing(made_by_revisions(1)) as made:
        assert objects_in(old) == objects_in(made)


def test_all_revisions_make_the_tables_of_the_schema():
    """Whoever changes the schema writes a revision."""
    with closing(made_by_revisions(VERSION)) as made, closing(empty_tables()) as fresh:
        assert named(made) == named(fresh)


def test_revisions_can_be_written_for_postgresql():
    """The same files are for both engines."""
    printed = io.StringIO()
    config = Config(output_buffer=printed, attributes={"dialect": "postgresql"})
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    command.upgrade(config, "head", sql=True)
    assert "id BIGINT NOT NULL" in printed.getvalue()
    assert "STRICT" not in printed.getvalue()
    assert "CREATE UNIQUE INDEX blocked_sender_once ON blocked_sender (coalesce(mailbox_id, 0), " in printed.getvalue()


VERSION_2 = (
    *(f"DROP INDEX change_{name}" for name in ("object", "object_other", "number", "member", "group", "upgrade")),
    "UPDATE journal_head SET schema = 2",
)


def test_journal_of_version_2_gets_its_indexes():
    """On either engine; with whatever somebody wrote into a row, which the check that follows tells."""
    with command_line("domain add example.com", "mailbox add alice alice@example.com") as policyd:
        texts = ("", '"member": {', '"id": ')
        spoiled = [f"UPDATE change SET after = '{text}' WHERE id = {number}" for number, text in enumerate(texts, 1)]
        for statement in (*VERSION_2, *spoiled):
            policyd.rows(statement)
        if not policyd.server:
            policyd.rows("PRAGMA user_version = 2")
        told = policyd.refuses("history --object alice", 69)
        assert f"has tables of version 2, and this policyd needs version {VERSION}" in told

        ended = policyd.ends("database upgrade --yes")
        assert (ended.status, "index" in ended.out) == (1, False), ended
        ((before, after),) = policyd.rows("SELECT before, after FROM change WHERE operation = 'database.upgrade'")
        assert (json.loads(before)["schema"], json.loads(after)) == (2, {"schema": VERSION})
        assert policyd.rows("SELECT schema FROM journal_head") == [(VERSION,)]
        assert policyd.run("mailbox restrict alice") == ""
        assert policyd.json("history --object ALICE --limit 1")[0]["operation"] == "mailbox.restrict"


# --- What is in them ---


def rows_of(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def test_no_row_is_lost_and_every_number_stays(upgraded):
    """A cascade would take every address along, without a word."""
    for statement in (
        "SELECT * FROM address ORDER BY 1",
        "SELECT id, reason, until, comment FROM mailbox ORDER BY 1",
        "SELECT name, unlisted FROM domain ORDER BY 1",
        "SELECT mailbox_id, pattern FROM accepted_sender ORDER BY 1, 2",
        "SELECT id, mailbox_id, pattern, recipients, recipient_mailbox_id FROM blocked_sender ORDER BY 1",
        "SELECT id, reason, until, comment, created_at, created_by FROM blocked_sender ORDER BY 1",
        "SELECT blocked_sender_id, pattern FROM allowed_recipient ORDER BY 1, 2",
        f"SELECT * FROM change WHERE id <= {LAST} ORDER BY 1",
    ):
        before = rows_of(kept(upgraded), statement)
        assert before, statement
        assert upgraded.rows(statement) == before


def test_who_received_from_anyone_inherits_now(upgraded):
    """Where neither group nor domain says anything, that is the same."""
    before = dict(rows_of(kept(upgraded), "SELECT id, receive FROM mailbox"))
    after = dict(upgraded.rows("SELECT id, receive FROM mailbox"))
    assert set(before.values()) == {"anyone", "insiders", "nobody"}
    assert after == {number: "inherit" if receive == "anyone" else receive for number, receive in before.items()}


def test_every_answer_is_the_one_before(upgraded):
    """Nobody's mail takes another way because the program was upgraded; only what a mailbox is called has changed."""
    settings = load_settings(upgraded.settings, database=f"sqlite:///{upgraded.database}")
    answers = first_edition_answers()
    assert {each["action"] for each in answers} == {*Action}
    with looking(upgraded.store) as lookup:
        decider = Decider(settings, lookup)
        for before in answers:
            attributes = {name: value for name, value in before.items() if name in Request._fields}
            decision = decider.decide(Request(protocol_state="RCPT", **attributes), 1_800_000_000)
            name = RENAMED.get(before["mailbox"], before["mailbox"])
            after = {name: getattr(decision, name) for name in ("action", "text", "rule", "entry")}
            assert after == {name: before[name] for name in after}, before
            assert decision.mailbox in (name or "", ""), before


# --- Names and addresses that the new tables don't take ---


def test_mailbox_called_as_a_group_is_renamed_and_that_is_said(policyd):
    """What begins with `group:` would be a group to every command; a name that is taken gets a number."""
    told = policyd.ends("database upgrade").err.splitlines()
    assert told == [
        f"policyd: the mailbox {old} is called {new} now: what begins with group: is a group"
        for old, new in RENAMED.items()
    ]
    names = [name for (name,) in policyd.rows("SELECT name FROM mailbox")]
    assert {*RENAMED.values()} <= {*names}
    assert [name for name in names if name.lower().startswith("group:")] == []
    assert max(map(len, names)) == 256
    assert json.loads(policyd.run("--json mailbox show group-sales-3"))["addresses"] == ["sales@example.com"]


PRIMARIES = {
    "none": (
        "UPDATE address SET is_primary = 0 WHERE address = 'alice@example.com'",
        "al@example.com is the primary address of alice now, which had none",
        "al@example.com",
    ),
    "two": (
        "UPDATE address SET is_primary = 1 WHERE address = 'alice@example.org'",
        "alice@example.com is the primary address of alice now, which had 2",
        "alice@example.com",
    ),
}


@pytest.mark.parametrize(("statement", "notice", "primary"), PRIMARIES.values(), ids=PRIMARIES)
def test_mailbox_without_one_primary_address_gets_one(policyd, statement, notice, primary):
    """Of those that are primary the first, as lists showed it; else the first of all. The journal says so, too."""
    make_again(policyd, statement)
    assert f"policyd: {notice}" in policyd.ends("database upgrade").err.splitlines()
    held = "SELECT address FROM address JOIN mailbox ON mailbox.id = mailbox_id WHERE name = 'alice' AND is_primary = 1"
    assert policyd.rows(held) == [(primary,)]
    promoted = policyd.rows(f"SELECT object FROM change WHERE operation = 'address.promote' AND id > {LAST}")
    assert (primary,) in promoted or ("alice@example.org",) in promoted


def make_again(policyd: CommandLine, *statements: str) -> None:
    policyd.database.unlink()
    make_first_edition(policyd.database, *statements)


# --- The journal ---


def test_journal_goes_on_from_where_it_was(upgraded):
    """One row says that the tables were upgraded; the head row has its digest, and numbers that nobody had."""
    (*_, row) = json.loads(upgraded.run("--json history"))
    assert row["operation"] == "database.upgrade"
    assert (row["before"], row["after"]) == ({"schema": 1, "file": str(kept(upgraded))}, {"schema": VERSION})
    assert row["changeset"] == LAST + 1
    ((digest,),) = upgraded.rows("SELECT digest FROM change ORDER BY id DESC LIMIT 1")
    ((_, history, *head),) = upgraded.rows("SELECT * FROM journal_head")
    assert len(history) == 32
    assert head == [row["id"], digest, VERSION, 24, 1, 1, 7, 12]
    assert upgraded.run("database check") == ""


def test_numbers_of_what_is_gone_do_not_come_back(policyd):
    """A number in an old log, or in an old journal row, must not become somebody else's."""
    make_again(
        policyd,
        "DELETE FROM mailbox WHERE id = (SELECT max(id) FROM mailbox)",
        "UPDATE sqlite_sequence SET seq = 4711",
        "UPDATE change SET after = replace(after, '\"id\": 2,', '\"id\": 815,') WHERE operation = 'mailbox.add'",
    )
    policyd.ends("database upgrade")
    assert policyd.rows("SELECT next_mailbox, next_blocked FROM journal_head") == [(816, 4712)]


def test_history_of_the_first_edition_is_read_as_before(upgraded):
    """Word for word, with what each change was about."""
    before = json.loads((DATA / "history.json").read_text(encoding="utf-8"))
    assert json.loads(upgraded.run("--json history --limit 1000"))[:LAST] == before


def test_what_the_first_edition_could_undo_can_be_undone(upgraded):
    """Each change by itself, as it would have been; but for a mailbox that the upgrade renamed since."""
    touched = {*RENAMED, "sales@example.com", "staff@example.com", "colon@example.com"}
    history = json.loads((DATA / "history.json").read_text(encoding="utf-8"))
    of_renamed = {row["changeset"] for row in history if row["object"] in touched}
    could = {*json.loads((DATA / "undoable.json").read_text(encoding="utf-8"))}
    can = {
        number
        for number in {row["changeset"] for row in history}
        if upgraded.ends(f"undo {number} --dry-run").status == 0
    }
    assert could - of_renamed - can == set()


def test_undone_restriction_of_the_first_edition_inherits(upgraded):
    """What was `anyone` before it is what `anyone` has become."""
    ((changeset,),) = upgraded.rows(
        "SELECT changeset FROM change WHERE operation = 'mailbox.restrict' AND object = 'boss'"
    )
    upgraded.run(f"undo {changeset}")
    assert upgraded.rows("SELECT receive, reason FROM mailbox WHERE name = 'boss'") == [("inherit", "")]
    assert upgraded.run("database check") == ""


def test_everything_of_the_first_edition_is_undone_backwards(upgraded):
    """Change by change, to the empty tables: at each step the journal and the tables say the same."""
    policyd = upgraded
    for new, old in ((new, old) for old, new in RENAMED.items()):
        assert policyd.ends(f"mailbox rename {shlex.quote(new)} {shlex.quote(old)}").status != 0, "no mailbox's name"
    changesets = {number for (number,) in policyd.rows(f"SELECT changeset FROM change WHERE id <= {LAST}")}
    refused = [number for number in sorted(changesets, reverse=True) if policyd.ends(f"undo {number}").status]
    about = {
        name for number in refused for (name,) in policyd.rows(f"SELECT object FROM change WHERE changeset = {number}")
    }
    assert about & {*RENAMED}, "what was renamed is the only thing that later changes built on"
    assert policyd.run("database check") == ""


def test_undo_of_the_upgrade_names_the_file_with_what_was_before(upgraded):
    """It can't be undone row by row."""
    assert upgraded.refuses(f"undo {LAST + 1}") == (
        f"policyd: changeset {LAST + 1} is the upgrade of the database from version 1 to {VERSION}, which can't be "
        f"undone; what it was before, for the policyd before, is in {kept(upgraded)}"
    )


# --- The command ---


def test_upgraded_database_is_up_to_date_already(upgraded):
    """A script may call it at each start."""
    before = upgraded.database.read_bytes()
    assert upgraded.says("database upgrade") == [
        f"{upgraded.database} is up to date already: its tables are of version {VERSION}"
    ]
    assert upgraded.run("database upgrade") == ""
    assert upgraded.database.read_bytes() == before
    assert not kept(upgraded, "2").exists()


def test_backup_is_what_the_database_was(policyd):
    """With it, and the policyd before, everything is as it was."""
    before = content_of(policyd.database)
    assert policyd.run("database upgrade") == (
        f"upgraded {policyd.database} from version 1 to {VERSION}; what it was is in {kept(policyd)}\n"
    )
    assert content_of(kept(policyd)) == before
    assert rows_of(kept(policyd), "PRAGMA user_version") == [(1,)]
    assert kept(policyd).stat().st_mode & 0o777 == 0o640
    assert {each.name for each in policyd.folder.iterdir()} == {"policyd.toml", "policyd.db", "policyd.db.before-1"}


def test_backup_overwrites_nothing(policyd):
    """Not even a link that leads nowhere: the next number is taken."""
    kept(policyd).write_text("mine")
    kept(policyd, "1.2").symlink_to("nowhere")
    told = policyd.json("database upgrade")
    assert told == {
        "database": str(policyd.database),
        "before": 1,
        "after": VERSION,
        "kept": str(kept(policyd, "1.3")),
        "notices": [
            f"the mailbox {old} is called {new} now: what begins with group: is a group" for old, new in RENAMED.items()
        ],
    }
    assert kept(policyd).read_text() == "mine"
    assert kept(policyd, "1.2").is_symlink()
    assert rows_of(kept(policyd, "1.3"), "PRAGMA user_version") == [(1,)]


@pytest.mark.parametrize(
    "line",
    [
        "domain list",
        "mailbox add x",
        "check -",
        "history",
        "undo 3",
        "database check",
        "database backup x.db",
        "export",
    ],
)
def test_every_command_names_the_one_to_type(policyd, line):
    """Whoever forgot it."""
    ended = policyd.ends(line, stdin="request=smtpd_access_policy\n\n")
    assert (ended.status, ended.out) == (69, "")
    assert ended.err == (
        f"policyd: {policyd.database}: has tables of version 1, and this policyd needs version {VERSION}; "
        "type: policyd database upgrade\n"
    )


def test_statements_are_those_that_would_be_run(policyd):
    """Whoever wants to know beforehand: run by hand on a copy, they make the same tables."""
    before = policyd.database.read_bytes()
    statements = policyd.run("database upgrade --sql")
    assert policyd.database.read_bytes() == before
    assert not kept(policyd).exists()
    copy = policyd.folder / "copy.db"
    shutil.copy(policyd.database, copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.executescript(statements)
    policyd.run("database upgrade")
    with closing(sqlite3.connect(copy)) as mine, closing(sqlite3.connect(policyd.database)) as own:
        assert objects_in(mine) == objects_in(own)
        for table in ("domain", "mailbox", "address", "accepted_sender", "blocked_sender", "allowed_recipient"):
            statement = f"SELECT * FROM {table} ORDER BY 1, 2"
            assert mine.execute(statement).fetchall() == own.execute(statement).fetchall()
    assert policyd.run("database upgrade --sql") == ""


# --- What can't be upgraded ---


def altered(*statements: str) -> Callable[[Path], None]:
    return lambda path: make_first_edition(path, *statements)


def of_version(version: int) -> Callable[[Path], None]:
    return altered(f"PRAGMA user_version = {version}")


def other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE domain (name TEXT)")


def spoiled(path: Path) -> None:
    make_first_edition(path)
    with closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'address_mailbox'").fetchall()
    with path.open("r+b") as opened:
        opened.seek((page - 1) * 4096 + 2048)
        opened.write(b"\xff" * 2048)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "there is no database; make it with: policyd database create"),
    "empty": (lambda path: path.write_bytes(b""), "not a policyd database; say where yours is with --database"),
    "text": (lambda path: path.write_text("domain,unlisted\n" * 100), "not a policyd database, or damaged"),
    "another program's": (other_program, "not a policyd database; say where yours is with --database"),
    "newer": (
        of_version(VERSION + 1),
        f"made by a newer policyd (tables version {VERSION + 1}, this one knows {VERSION}); install that policyd",
    ),
    "of no version": (of_version(0), "has tables of version 0, which no policyd made; restore a backup"),
    "with a column more": (
        altered("ALTER TABLE mailbox ADD COLUMN phone TEXT"),
        "not as policyd 1 made it, and nothing was changed: table mailbox; put right what was added",
    ),
    "with an index more": (
        altered("CREATE INDEX my_own ON mailbox (comment)"),
        "not as policyd 1 made it, and nothing was changed: index my_own",
    ),
    "with an index less": (altered("DROP INDEX blocked_sender_once"), "nothing was changed: index blocked_sender_once"),
    "with a trigger": (
        altered("CREATE TRIGGER t AFTER DELETE ON mailbox BEGIN DELETE FROM change; END"),
        "t' in it is a view, trigger or virtual table, which policyd never makes",
    ),
    "with a row that breaks a rule": (
        altered("PRAGMA ignore_check_constraints = ON", "UPDATE mailbox SET receive = 'friends' WHERE id = 1"),
        "a row breaks a rule of the new tables, and nothing was changed: CHECK constraint failed: mailbox_receive; ",
    ),
    "spoiled": (spoiled, "damaged"),
}


@pytest.mark.parametrize(("spoil", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_upgraded_is_refused_in_one_line_and_left_as_it_is(spoil, reason):
    """Whatever it is: it may be all that there is."""
    with command_line() as policyd:
        spoil(policyd.database)
        before = policyd.database.read_bytes() if policyd.database.exists() else None
        told = policyd.refuses("database upgrade", 69)
        assert told.startswith(f"policyd: {policyd.database}: ")
        assert reason in told
        assert (policyd.database.read_bytes() if policyd.database.exists() else None) == before
        assert {each.name for each in policyd.folder.iterdir()} <= {"policyd.toml", "policyd.db"}


def test_what_was_unsound_before_is_told_after_the_upgrade():
    """The upgrade is no moment to be without mail for it; the line says what to do."""
    with command_line() as policyd:
        make_first_edition(policyd.database, "UPDATE change SET actor = 'nobody' WHERE id = 5")
        ended = policyd.ends("database upgrade")
        assert ended.status == 1
        assert ended.out.splitlines()[0].startswith("change 5: its digest is not that of the row and the one before; ")
        assert ended.err.splitlines()[-1] == (
            f"policyd: {policyd.database} was upgraded, and is not sound; what it was is in {kept(policyd)}: 1 thing "
            "is wrong; do for each what its line says"
        )
        assert policyd.rows("PRAGMA user_version") == [(VERSION,)]


def test_backup_of_the_first_edition_is_refused_with_how_to_upgrade_it(upgraded):
    """Whoever wants back what was before the upgrade, in the new tables."""
    told = upgraded.refuses(f"database restore {kept(upgraded)} --yes", 65)
    assert told == (
        f"policyd: {kept(upgraded)}: has tables of version 1, and this policyd needs version {VERSION}; nothing was "
        "changed. Copy it, upgrade the copy with policyd database upgrade --database COPY, and restore that"
    )
    copy = upgraded.folder / "copy.db"
    shutil.copy(kept(upgraded), copy)
    upgraded.run(f"database upgrade --database {copy}")
    upgraded.run(f"database restore {copy} --yes")
    assert upgraded.run("database check") == ""


def test_database_of_the_first_edition_is_replaced_by_a_backup_of_this_one(policyd):
    """A restore puts right what can't be used, whatever version it is of; what it was is kept."""
    copy = policyd.folder / "copy.db"
    make_first_edition(copy)
    policyd.run(f"database upgrade --database {copy}")
    policyd.run(f"database restore {copy} --yes")
    assert policyd.run("database check") == ""
    assert rows_of(kept(policyd), "PRAGMA user_version") == [(1,)]
