"""`policyd database check`: whatever somebody else did to the tables, it is a line and status 1."""

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, Integer, Text

from policyd.store.database import changing
from policyd.store.edit import Editor, EntryTerms, RestrictionTerms
from policyd.store.schema import metadata
from tests.support.command_line import CommandLine, command_line
from tests.support.drills import drill
from tests.support.parties import parties, party, party_set
from tests.support.writing import editor_on

MADE = (
    "domain add example.com",
    "mailbox add Jörg jörg@example.com '\"j b\"@example.com'",
    "mailbox add bob bob@example.com",
    "mailbox restrict Jörg --accept '\"x y\"@b.example' --accept '<>' --until +3d --reason 'ab — cd'",
    "sender block Jörg @spam.example --to anyone --except @b.example",
    "sender block bob --to Jörg",
)
Change = Callable[[Path], None]
MOST, LEAST = 2**63 - 1, -(2**63)


@pytest.fixture(scope="module")
def made() -> Iterator[CommandLine]:
    with command_line() as policyd:
        for line in MADE:
            policyd.run(line) if line.startswith("domain") else policyd.ends(line)
        with changing(policyd.store) as connection:
            add_groups(editor_on(connection))
        assert policyd.run("database check") == ""
        shutil.copy(policyd.database, policyd.folder / "good.db")
        yield policyd


def add_groups(edit: Editor) -> None:
    """A group in a group, and what else knows groups."""
    edit.add_group("Staff", parties("bob", "Jörg"), "all of us")
    edit.add_group("All", parties("group:Staff"))
    edit.restrict(edit.group("Staff"), RestrictionTerms(accepted=party_set("group:All", "bob"), reason="ours"))
    edit.restrict(edit.domain("example.com"), RestrictionTerms(accepted=party_set("@b.example")))
    terms = EntryTerms(allowed=party_set("bob"), allowed_senders=party_set("group:Staff", "@b.example"))
    edit.block_sender(party("anyone"), party("@example.com"), terms)


@pytest.fixture
def policyd(made: CommandLine) -> CommandLine:
    """A bit of everything, as policyd left it."""
    shutil.copy(made.folder / "good.db", made.database)
    return made


def run(path: Path, *statements: str, is_schema: bool = False) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(f"PRAGMA writable_schema = {int(is_schema)}")
        for each in statements:
            connection.execute(each)
        if is_schema:
            ((version,),) = connection.execute("PRAGMA schema_version").fetchall()
            connection.execute(f"PRAGMA schema_version = {version + 1}")


def sql(*statements: str) -> Change:
    return lambda path: run(path, *statements)


def schema(*statements: str) -> Change:
    return lambda path: run(path, *statements, is_schema=True)


def made_anew(table: str, old: str, new: str) -> Change:
    """The table's words altered, behind SQLite's back."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            ((words,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
        assert re.search(old, words), words
        words = re.sub(old, new, words).replace("'", "''")
        run(path, f"UPDATE sqlite_schema SET sql = '{words}' WHERE name = '{table}'", is_schema=True)

    return change


def value(table: str, column: str, text: str) -> Change:
    """A value that the column of a STRICT table can't take, put there while the table was none."""

    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            ((words,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchall()
        key = [*(each.name for each in metadata.tables[table].primary_key), "rowid"][0]
        made_anew(table, r",?\s*STRICT| NOT NULL", "")(path)
        run(path, f'UPDATE OR IGNORE {table} SET "{column}" = {text} WHERE {key} = (SELECT max({key}) FROM {table})')
        words = words.replace("'", "''")
        run(path, f"UPDATE sqlite_schema SET sql = '{words}' WHERE name = '{table}'", is_schema=True)

    return change


def journal(column: str, text: str, where: str = "id = 2") -> Change:
    return sql(f"UPDATE change SET {column} = {text} WHERE {where}")


def numbered(text: str) -> Change:
    """A journal in which the first mailbox has that number."""
    return journal('"after"', f"""replace("after", '"id": 1', '"id": {text}')""")


def wrong_values() -> Iterator[tuple[str, Change, str]]:
    """Every column, with every type that it can't have."""
    for table in metadata.sorted_tables:
        for column in table.c:
            is_number = isinstance(column.type, Integer)
            if column.primary_key and is_number:  # SQLite itself refuses everything else there
                continue
            values = ["x'ff'"]
            values += ["'text'", "1.5"] if is_number else []
            values += [] if column.nullable or column.primary_key else ["NULL"]
            for each in values:
                finding = rf"{table.name} .*: {column.name} is of a wrong type"
                yield f"{table.name}.{column.name} = {each}", value(table.name, column.name, each), finding


def words_altered() -> Iterator[tuple[str, Change, str]]:
    """Every table, with each of its rules left out."""
    for table in metadata.sorted_tables:
        finding = f"table {table.name} is altered"
        yield f"{table.name} not strict", made_anew(table.name, r",?\s*STRICT", ""), finding
        yield f"{table.name} with nulls", made_anew(table.name, r"(TEXT|INTEGER) NOT NULL", r"\1"), finding
        if any(isinstance(column.type, Text) for column in table.c):
            yield f"{table.name} of any case", made_anew(table.name, r"TEXT", "TEXT COLLATE NOCASE"), finding
        for each in sorted(table.constraints, key=lambda constraint: str(constraint.name)):
            if isinstance(each, CheckConstraint):
                change = made_anew(table.name, re.escape(f"CHECK ({each.sqltext})"), "CHECK (1)")
                yield f"{each.name} left out", change, finding
        if table.foreign_keys:
            change = made_anew(table.name, r"DEFERRABLE INITIALLY DEFERRED", "ON DELETE CASCADE")
            yield f"{table.name} with a cascade", change, finding


BROKEN = "it breaks the rule {}, which every row keeps"
JOURNAL = "change 2: it doesn't say what was changed"
DIGEST = "change 2: its digest is not that of the row"
KINDS: list[tuple[str, Change, str]] = [
    # Each rule of the tables, past the rule.
    ("unlisted", sql("UPDATE domain SET unlisted = 'maybe'"), BROKEN.format("domain_unlisted")),
    ("unlisted empty", sql("UPDATE domain SET unlisted = ''"), BROKEN.format("domain_unlisted")),
    ("unlisted in capitals", sql("UPDATE domain SET unlisted = 'REJECT'"), BROKEN.format("domain_unlisted")),
    ("receive", sql("UPDATE mailbox SET receive = 'friends'"), BROKEN.format("mailbox_receive")),
    ("receive, no UTF-8", sql("UPDATE mailbox SET receive = CAST(x'ff' AS TEXT)"), BROKEN.format("mailbox_receive")),
    *[
        (f"primary {number}", sql(f"UPDATE address SET is_primary = {number}"), BROKEN.format("address_is_primary"))
        for number in (2, -1, MOST, LEAST)
    ],
    (
        "recipients",
        sql("UPDATE blocked_sender SET recipients = 'some' WHERE id = 1"),
        BROKEN.format("blocked_sender_recipients"),
    ),
    (
        "recipients beside a mailbox",
        sql("UPDATE blocked_sender SET recipients = 'anyone' WHERE recipient_mailbox_id = 1"),
        BROKEN.format("blocked_sender_to"),
    ),
    (
        "recipients of nobody",
        sql("UPDATE blocked_sender SET recipients = NULL WHERE id = 1"),
        BROKEN.format("blocked_sender_to"),
    ),
    (
        "sender beside a mailbox",
        sql("UPDATE blocked_sender SET pattern = '@x.example' WHERE id = 1"),
        BROKEN.format("blocked_sender_who"),
    ),
    (
        "sender of nobody",
        sql("UPDATE blocked_sender SET mailbox_id = NULL WHERE id = 1"),
        BROKEN.format("blocked_sender_who"),
    ),
    # Numbers that are none of ours.
    *[
        (f"{table}.until {number}", sql(f"UPDATE {table} SET until = {number}"), f"until is {number}, which is no time")
        for table in ("mailbox", "blocked_sender")
        for number in (-1, MOST, LEAST)
    ],
    *[
        (f"made at {number}", sql(f"UPDATE blocked_sender SET created_at = {number}"), "it is not as change")
        for number in (MOST, LEAST)
    ],
    *[
        (
            f"change {number}",
            sql(
                f"INSERT INTO change SELECT {number}, at, actor, changeset, operation, object, NULL, NULL, digest "
                "FROM change WHERE id = 1"
            ),
            f"change {number}: it comes after",
        )
        for number in (0, -5, MOST, LEAST)
    ],
    ("journal's time", journal("at", str(LEAST)), DIGEST),
    (
        "mailbox 0",
        sql("UPDATE mailbox SET id = 0 WHERE id = 2", "UPDATE address SET mailbox_id = 0 WHERE mailbox_id = 2"),
        "mailbox",
    ),
    (
        "mailbox of the last number",
        sql(f"UPDATE mailbox SET id = {MOST} WHERE id = 2"),
        "it names a mailbox that isn't",
    ),
    *[
        (
            f"{column} {number}",
            sql(f"UPDATE journal_head SET {column} = {number}"),
            f"journal_head {column}: the next number is not",
        )
        for column in ("next_mailbox", "next_group", "next_member", "next_blocked")
        for number in (0, -1, 1, MOST)
    ],
    ("no head", sql("DELETE FROM journal_head"), "journal_head: it does not say where the journal ends"),
    ("head behind", sql("UPDATE journal_head SET id = id - 1"), "journal_head: it says that change"),
    ("head of another journal", sql("UPDATE journal_head SET digest = 'x'"), "journal_head: it says that change"),
    ("head of other tables", sql("UPDATE journal_head SET schema = 9"), "journal_head: it says that the tables are"),
    (
        "a chain of aliases",
        sql(
            "INSERT INTO domain VALUES ('b.example', 'reject', 'example.com', 'anyone', '', NULL, '')",
            "INSERT INTO domain VALUES ('c.example', 'reject', 'b.example', 'anyone', '', NULL, '')",
        ),
        "domain c.example: it stands for b.example, which stands for another one itself",
    ),
    ("a member that nobody journalled", sql("DELETE FROM group_member WHERE id = 1"), "it is not there, and change"),
    ("a group's list", sql("DELETE FROM accepted_sender WHERE group_id = 1"), "mailbox_group Staff: it is not as"),
    ("a domain's list", sql("DELETE FROM accepted_sender WHERE domain IS NOT NULL"), "domain example.com: it is not"),
    ("an exception", sql("DELETE FROM allowed_sender WHERE group_id = 1"), "blocked_sender anyone: it is not as"),
    # What is not policyd's.
    ("virtual table", sql("CREATE VIRTUAL TABLE v USING rtree(i, a, b)"), "virtual table v is not policyd's"),
    (
        "virtual table of no module",
        schema("INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING none(x)')"),
        "virtual table v is not policyd's",
    ),
    ("view", sql("CREATE VIEW v AS SELECT * FROM domain"), "view v is not policyd's"),
    ("view of nothing", sql("CREATE VIEW v AS SELECT * FROM gone"), "view v is not policyd's"),
    (
        "view in the place of a table",
        sql("ALTER TABLE allowed_recipient RENAME TO x", "CREATE VIEW allowed_recipient AS SELECT * FROM x"),
        "table allowed_recipient is missing",
    ),
    (
        "trigger",
        sql("CREATE TRIGGER t AFTER INSERT ON domain BEGIN DELETE FROM blocked_sender; END"),
        "trigger t is not policyd's",
    ),
    (
        "trigger by a name of SQLite's",
        schema(
            "INSERT INTO sqlite_schema VALUES ('trigger', 'sqlite_stat2', 'domain', 0, "
            "'CREATE TRIGGER sqlite_stat2 AFTER INSERT ON domain BEGIN DELETE FROM address; END')"
        ),
        "trigger sqlite_stat2 is not policyd's",
    ),
    ("table", sql("CREATE TABLE t (x)"), "table t is not policyd's"),
    ("table by a name as SQLite's", sql("CREATE TABLE sqlitex (x)"), "table sqlitex is not policyd's"),
    (
        "table that steers a terminal",
        sql('CREATE TABLE "t\x1b\n\u202e" (x)'),
        r"table t\\x1b\\x0a\\u202e is not policyd's",
    ),
    ("column", sql("ALTER TABLE domain ADD COLUMN x TEXT"), "table domain is altered"),
    ("generated column", sql("ALTER TABLE domain ADD COLUMN x TEXT AS (name) VIRTUAL"), "table domain is altered"),
    ("column by another name", sql("ALTER TABLE domain RENAME COLUMN unlisted TO x"), "table domain is altered"),
    ("table gone", sql("DROP TABLE change"), "table change is missing"),
    ("index", sql("CREATE INDEX i ON domain (unlisted)"), "index i is not policyd's"),
    ("unique index", sql("CREATE UNIQUE INDEX i ON mailbox (name)"), "index i is not policyd's"),
    ("index of an expression", sql("CREATE INDEX i ON mailbox (lower(name))"), "index i is not policyd's"),
    ("index gone", sql("DROP INDEX address_mailbox"), "index address_mailbox is missing"),
    *[
        (
            f"index {words}",
            sql("DROP INDEX blocked_sender_pattern", f"CREATE INDEX blocked_sender_pattern ON blocked_sender {words}"),
            "index blocked_sender_pattern is altered",
        )
        for words in ("(pattern) WHERE id < 0", "(pattern DESC)", "(pattern COLLATE NOCASE)", "(lower(pattern))")
    ],
    (
        "index that keeps nothing out",
        sql("DROP INDEX blocked_sender_once", "CREATE UNIQUE INDEX blocked_sender_once ON blocked_sender (id)"),
        "index blocked_sender_once is altered",
    ),
    (
        "numbers given again",
        made_anew("blocked_sender", " AUTOINCREMENT", ""),
        "table blocked_sender is altered",
    ),
    # A journal that says nothing that can be followed.
    ("journal cut off in brackets", journal('"after"', f"'{'[' * 200_000}'"), JOURNAL),
    ("journal deep", journal('"after"', f"'{'[' * 100_000}{']' * 100_000}'"), JOURNAL),
    ("journal deep in objects", journal('"after"', "'" + '{"id":' * 50_000 + "1" + "}" * 50_000 + "'"), JOURNAL),
    *[
        (f"mailbox's number {text[:10]}", numbered(text), JOURNAL)
        for text in (
            "9" * 10_000,
            "9" * 4_000,
            str(MOST + 1),
            str(LEAST),
            "0",
            "-1",
            "1.5",
            "1e999",
            "NaN",
            "null",
            "true",
            '"x"',
            "{}",
            "[" * 500 + "]" * 500,
        )
    ],
    *[
        (
            f"sender's number {text[:10]}",
            journal('"after"', f"""replace("after", '"id": 1,', '"id": {text},')""", "operation = 'sender.block'"),
            "it doesn't say what was changed",
        )
        for text in ("9" * 4_000, "null", '"x"', "[]")
    ],
    *[
        (f"journal {text[:20]}", journal('"after"', text), JOURNAL)
        for text in ("''", "'12'", "'[1, 2]'", "'\"id\"'", "'null'", "CAST(x'ff' AS TEXT)", "'\"' || char(0) || '\"'")
    ],
    ("journal of nothing", journal('"before" = NULL, "after"', "NULL"), JOURNAL),
    (
        "journal, half of a character",
        journal('"after"', """replace("after", 'bob', '\\ud800')""", "1"),
        "it doesn't say",
    ),
    (
        "journal, no UTF-8",
        journal('"after"', """replace("after", 'bob', CAST(x'ff' AS TEXT))""", "1"),
        "it doesn't say",
    ),
    *[
        (f"operation {text}", journal("operation", text), JOURNAL)
        for text in ("''", "'cow.moo'", "CAST(x'ff2e' AS TEXT)", "'mailbox'||char(0)||'.add'")
    ],
    *[
        (f"{column} {text}", journal(column, text), DIGEST)
        for column in ("object", "digest", "actor")
        for text in ("CAST(x'ff' AS TEXT)", "''", "'a' || char(0, 27) || 'b'")
    ],
    ("last digest", journal("digest", "CAST(x'ff' AS TEXT)", "id = (SELECT max(id) FROM change)"), "its digest is not"),
    ("journal empty", sql("DELETE FROM change"), "no change in the journal made it"),
    # Text that is none.
    *[
        (f"{table}.{column} {text}", sql(f"UPDATE OR IGNORE {table} SET {column} = {text}"), f"{table} ")
        for table, column in (
            ("domain", "name"),
            ("mailbox", "name"),
            ("mailbox", "folded_name"),
            ("mailbox", "reason"),
            ("mailbox", "comment"),
            ("address", "address"),
            ("accepted_sender", "pattern"),
            ("blocked_sender", "pattern"),
            ("blocked_sender", "created_by"),
            ("allowed_recipient", "pattern"),
        )
        for text in ("CAST(x'ff' AS TEXT)", "'a' || char(0, 27, 10) || 'b'", "printf('%.*c', 100000, 'x') || char(7)")
    ],
]
# One column or rule is as the other to the check: ./test takes some of them.
EVERYWHERE = [
    pytest.param(change, finding, id=name, marks=() if number % 6 == 0 else pytest.mark.full)
    for number, (name, change, finding) in enumerate([*wrong_values(), *words_altered()])
]


@drill(
    "values, rules, tables, indexes and journal rows that policyd would never write",
    made="each column, each rule, with SQLite's own checks turned off",
    lost="nothing: ``database check`` ends with 1, and a line for each",
)
@pytest.mark.parametrize(("change", "finding"), [*(pytest.param(*what, id=name) for name, *what in KINDS), *EVERYWHERE])
def test_whatever_policyd_did_not_write_is_a_line_and_status_1(policyd, change, finding):
    """Each is a promise that silently isn't kept, or a row that the daemon can't answer from."""
    change(policyd.database)
    ended = policyd.ends("database check")
    assert ended.status == 1, ended
    assert any(re.search(finding, line) for line in ended.out.splitlines()), ended
    assert re.fullmatch(r"policyd: \S+: \d+ things? (is|are) wrong.*; do for each what its line says\n", ended.err)
    assert ended.out.replace("\n", "").isprintable()
    assert max(map(len, ended.out.splitlines())) < 1500
    asked = policyd.ends("database check --json")
    assert (asked.status, asked.err.count("\n")) == (1, 1)
    assert '"is_sound": false' in asked.out


def test_what_sqlite_keeps_for_itself_is_no_finding(policyd):
    """An administrator may have it count the rows, or pack the file."""
    run(policyd.database, "ANALYZE", "VACUUM", "REINDEX")
    assert policyd.run("database check") == ""
