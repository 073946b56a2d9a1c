"""`policyd export`: all tables as a file, in each format that `import` reads."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
from dataclasses import fields

import pytest
from hypothesis import given

from policyd.address import fold
from policyd.model import Party, PartyKind
from policyd.records import Record
from policyd.store.connection import Database
from policyd.store.database import changing, create_database, reading
from policyd.store.queries import Queries
from tests.support.command_line import command_line
from tests.support.randomised import examples
from tests.support.tables_strategies import tables
from tests.support.transfer_reading import rows_of_tables
from tests.support.waiting import LIMIT_SECONDS
from tests.support.writing import bulk_on, editor_on

FORMATS = ("exchange-csv", "ldif", "csv", "jsonl", "list", "postfix")


@pytest.fixture
def policyd():
    """A company with something of every kind."""
    with command_line(
        "domain add example.com",
        "domain add bücher.example --unlisted accept",
        "mailbox add Jörg jörg@example.com '\"a b\"@bücher.example' --comment 'Grüße, \"x\"'",
        "mailbox add Bob bob@example.com",
        "mailbox add Empty",
        "mailbox restrict Bob --receive nobody --accept jörg@example.com --reason quiet --until 2096-01-01",
        "sender block Bob --to Jörg --reason quarrel --except '\"a b\"@bücher.example'",
        "sender block Bob @spam.example '<>'",
    ) as policyd:
        yield policyd


def contents(database):
    """Everything in a database, by content: numbers are a database's own."""
    with reading(database) as connection:
        dump = Queries(connection)
        members = [(str(each.group), str(each.member)) for each in dump.memberships()]
        return (
            [*map(without_numbers, dump.domains())],
            sorted(((without_numbers(each), held) for each, held in dump.mailboxes()), key=repr),
            sorted(map(without_numbers, dump.blocked_senders()), key=repr),
            sorted(map(without_numbers, dump.groups()), key=repr),
            sorted(members),
        )


def without_numbers(stored):
    """An object as any database would hold it."""
    values = {each.name: getattr(stored, each.name) for each in fields(stored)}
    for name, value in values.items():
        if isinstance(value, Party):
            values[name] = value._replace(number=0)
        elif isinstance(value, frozenset):
            values[name] = sorted(party._replace(number=0) for party in value)
        elif name == "id":
            values[name] = 0
    return type(stored)(**values)


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_own_formats_carry_everything(policyd, format_):
    """An export is a backup that can be read: an empty database becomes an equal one."""
    file, other = policyd.folder / "out", policyd.folder / "other.db"
    assert policyd.ends(f"export --format {format_} -o {file}").err == ""
    policyd.run(f"import --strict {file} --database {other}")
    assert contents(Database.at(other)) == contents(policyd.store)
    ended = policyd.ends(f"-v import --format {format_} --replace {file} --database {other}")
    assert ended.err.splitlines()[-1] == "nothing to change: it stands so already"


@pytest.mark.parametrize("format_", FORMATS)
def test_every_export_is_known_again_and_imported_without_an_error(policyd, format_):
    """What a format can't carry is told at the export, not found missing later."""
    file, other = policyd.folder / "out", policyd.folder / "other.db"
    ended = policyd.ends(f"-v export --format {format_} -o {file}")
    assert (ended.status, ended.out) == (0, "")
    *lost, wrote = ended.err.splitlines()
    assert wrote == f"wrote {file}"
    assert bool(lost) is (format_ not in ("csv", "jsonl"))
    assert all(line.startswith(f"policyd: {format_} can't carry everything; left out: ") for line in lost)
    ended = policyd.ends(f"-v import --add-domains {file} --database {other}")
    assert ended.status == 0, ended
    assert ended.err.splitlines()[0] == f"{file}: read as {format_}; --format would say otherwise"
    held = json.loads(policyd.run(f"--json address list --database {other}"))
    assert [each["address"] for each in held] == ["a b@xn--bcher-kva.example", "bob@example.com", "jörg@example.com"]


def test_jsonl_is_the_default_and_has_the_words_of_json(policyd):
    """A line an object, for jq."""
    kinds = [json.loads(line)["kind"] for line in policyd.run("export").splitlines()]
    assert kinds == ["domain"] * 2 + ["mailbox"] * 3 + ["blocked"] * 4
    jörg = next(line for line in policyd.run("export").splitlines() if "Grüße" in line)
    assert json.loads(jörg) == {
        "kind": "mailbox",
        "name": "Jörg",
        "addresses": ["jörg@example.com", '"a b"@xn--bcher-kva.example'],
        "receive": "inherit",
        "accept": [],
        "reason": "",
        "until": None,
        "comment": 'Grüße, "x"',
    }


def test_csv_opens_in_a_spreadsheet(policyd):
    """One header, every row as long as it."""
    rows = [*csv.reader(io.StringIO(policyd.run("export --format csv")))]
    assert rows[0][:4] == ["kind", "name", "addresses", "receive"]
    assert {len(row) for row in rows} == {len(rows[0])}


def test_empty_database_can_be_exported_in_every_format(policyd):
    """Nothing is an answer too."""
    empty = policyd.folder / "empty.db"
    create_database(Database.at(empty))
    for format_ in FORMATS:
        ended = policyd.ends(f"export --format {format_} --database {empty}")
        assert (ended.status, ended.err) == (0, ""), format_


def test_export_is_readable_by_its_owner_only_and_whole(policyd):
    """It holds everybody's address; and who reads while it is written reads the old one."""
    file = policyd.folder / "out"
    file.write_text("old")
    file.chmod(0o644)
    policyd.run(f"export -o {file}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == policyd.run("export")
    assert [each.name for each in policyd.folder.iterdir() if each.name.endswith(".new")] == []


def test_export_is_utf_8_whatever_the_locale(policyd):
    """Cron's is ASCII: a name must come out as it went in."""
    ended = subprocess.run(
        [sys.executable, "-m", "policyd", "export"],
        env={**os.environ, **policyd.environment, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=LIMIT_SECONDS,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert "Jörg".encode() in ended.stdout


@pytest.mark.parametrize(
    ("place", "message"),
    [
        pytest.param("none/out", "can't be written: No such file or directory", id="a folder that isn't there"),
        pytest.param("policyd.toml/out", "can't be written: Not a directory", id="a file for a folder"),
        pytest.param(".", "can't be written: Is a directory", id="a folder"),
        pytest.param("/", "can't be written: Is a directory", id="the root"),
        pytest.param("/dev/full", "can't be written: No space left on device", id="a full disk"),
    ],
)
def test_place_that_cannot_be_written_ends_with_74(policyd, place, message, monkeypatch):
    """One line, and nothing left behind."""
    monkeypatch.chdir(policyd.folder)
    assert policyd.refuses(f"export -o {place}", 74) == f"policyd: {place}: {message}"
    left = {each.name.partition("-")[0] for each in policyd.folder.iterdir()}
    assert left == ({"policyd.toml"} if policyd.server else {"policyd.db", "policyd.toml"})


def test_device_is_written_to_and_stays_one(policyd):
    """Root's `-o /dev/null` must not put a file in its place."""
    policyd.run("export -o /dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_full_disk_behind_stdout_ends_with_74(policyd):
    """A truncated backup must not look like success."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        ended = policyd.process("export", stdout=full)
    assert (ended.status, ended.err) == (74, "policyd: input or output: No space left on device\n")


def test_reader_that_goes_away_is_no_error_worth_a_word(policyd):
    """As `| head -1`."""
    started = policyd.start(["export"])
    assert started.stdout is not None
    started.stdout.close()
    assert started.stderr is not None
    assert started.stderr.read() == ""
    started.stderr.close()
    assert started.wait() in (0, 141)


def test_missing_database_is_not_exported(policyd):
    """Nor made."""
    missing = policyd.folder / "none.db"
    assert policyd.refuses(f"export --database {missing}", 69).endswith("make it with: policyd database create")
    assert not missing.exists()


def test_export_of_a_format_that_is_none_is_bad_usage(policyd):
    """With the formats there are."""
    assert "'exchange-csv', 'ldif', 'csv', 'jsonl', 'list', 'postfix'" in policyd.refuses("export --format x", 2)


# --- What stands in the tables, though no command would make it so by now ---

BOTH_STAND = ["group add all", "group add sales", "mailbox add anna a@example.com"]


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param(
            ["sender block Bob --to group:sales --except group:all", "group join all group:sales"],
            "Bob to group:sales: the exception group:all leaves nothing of the entry, which is to group:sales",
            id="a group has joined the one that is excepted",
        ),
        pytest.param(
            ["sender block Bob --to anna --except group:all", "group join all anna"],
            "Bob to anna: the exception group:all leaves nothing of the entry, which is to anna",
            id="a mailbox has joined the group that is excepted",
        ),
        pytest.param(
            ["sender block Bob --to outside --except @partner.example", "domain add partner.example"],
            "Bob to outside: the exception @partner.example would do nothing: partner.example is managed, and this "
            "entry leaves recipients in managed domains alone anyway; leave it out",
            id="the domain that is excepted is managed by now",
        ),
        pytest.param(
            ["domain add b.example", "sender block Bob --to anna --except @b.example", "domain remove b.example"],
            "Bob to anna: the exception @b.example would do nothing: b.example is not managed, so anna has no address "
            "there; leave it out",
            id="the domain that is excepted is managed no more",
        ),
        pytest.param(
            [
                "domain add b.example --alias-of example.com",
                "sender block Bob --to @b.example --except x@example.com",
                "domain set b.example --no-alias",
            ],
            "Bob to @b.example: the exception x@example.com would do nothing: no recipient that @b.example matches is "
            "one; leave it out",
            id="the domain of the entry stands for the other one no more",
        ),
        pytest.param(
            [
                "domain add x.example",
                "sender block @x.example --to Bob --except-sender @x.example",
                "domain remove x.example",
            ],
            "@x.example to Bob: the exception @x.example leaves nothing of the entry, which is for @x.example",
            id="the domain of who would have to prove it is managed no more",
        ),
        pytest.param(
            ["mailbox accept anna Bob", "mailbox open anna"],
            "anna is open, and accepts senders for when it is restricted again",
            id="a mailbox that accepted somebody was opened",
        ),
        pytest.param(
            ["mailbox accept anna x@partner.example", "mailbox open anna --until 2096-01-01"],
            "anna is open, and accepts senders for when it is restricted again",
            id="a mailbox that accepted somebody was opened for a while",
        ),
    ],
)
def test_what_no_command_would_make_by_now_comes_back_as_it_stood(policyd, format_, lines, told):
    """An export that is not taken again is no backup; who reads it in is told what does nothing."""
    for line in [*BOTH_STAND, *lines]:
        policyd.run(line)
    file, other = policyd.folder / "out", policyd.folder / "other.db"
    policyd.run(f"export --format {format_} -o {file}")
    ended = policyd.ends(f"import --strict {file} --database {other}")
    assert ended.status == 0, ended
    assert f"taken as it stood, though it does nothing now: {told}\n" in ended.err
    assert contents(Database.at(other)) == contents(policyd.store)
    ended = policyd.ends(f"-v import --replace {file} --database {other}")
    assert ended.err.splitlines()[-1] == "nothing to change: it stands so already"


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_circle_of_a_directory_comes_back(policyd, format_):
    """It is harmless, and all that names its groups would be refused with it."""
    with changing(policyd.store) as connection:
        edit = editor_on(connection)
        edit.join(edit.add_group("a"), [edit.add_group("b").party, Party(PartyKind.MAILBOX, "Bob")])
        edit.join(edit.group("b"), [edit.group("a").party], takes_circles=True)
    policyd.run("group restrict a --receive nobody")
    file, other = policyd.folder / "out", policyd.folder / "other.db"
    policyd.run(f"export --format {format_} -o {file}")
    ended = policyd.ends(f"import --strict {file} --database {other}")
    assert ended.status == 0, ended
    assert "groups that are in one another, which harms nothing: group:a, group:b\n" in ended.err
    assert contents(Database.at(other)) == contents(policyd.store)


def test_of_much_that_does_nothing_a_part_is_told(policyd):
    """A company of a thousand opened mailboxes does not read a line of a thousand names."""
    for number in range(7):
        policyd.run(f"mailbox add m{number}")
        policyd.run(f"mailbox accept m{number} Bob")
        policyd.run(f"mailbox open m{number}")
    file, other = policyd.folder / "out", policyd.folder / "other.db"
    policyd.run(f"export -o {file}")
    told = policyd.ends(f"import {file} --database {other}").err
    assert told.count(" is open, ") == 5
    assert "; and 2 more\n" in told


# --- Random databases ---


def fill(policyd, made):
    """Have the database hold *made*."""
    if not policyd.server:
        create_database(policyd.store)
    with changing(policyd.store) as connection:
        bulk = bulk_on(connection, adds_domains=True)
        for row in rows_of_tables(made):
            assert bulk.apply(Record(1, "", (row,))) == ()
        assert [problems for _, problems in bulk.finish() if problems] == []


def exported_and_imported(policyd, format_, made):
    """A database of *made*, and one into which its export was imported."""
    file, other = policyd.folder / "out", policyd.folder / "other.db"
    fill(policyd, made)
    assert policyd.ends(f"export --format {format_} -o {file}").status == 0
    ended = policyd.ends(f"import --strict --add-domains --format {format_} {file} --database {other}")
    is_of_use = "nothing in it is of use" not in ended.err
    assert ended.status == (0 if is_of_use else 1), (ended, file.read_text())
    assert is_of_use or not made.held_mailboxes, ended
    return contents(policyd.store), contents(Database.at(other))


WHOLE = pytest.mark.parametrize("format_", ["csv", "jsonl"])
PARTIAL = pytest.mark.parametrize("format_", ["exchange-csv", "ldif", "list", "postfix"])


@examples(few=8, many=50)
@given(tables())
@WHOLE
def test_any_database_comes_back_equal(format_, made):
    """Domains, mailboxes with addresses in order and terms, blocked senders with terms and age: to the last second."""
    with command_line() as policyd:
        before, after = exported_and_imported(policyd, format_, made)
        assert after == before


@examples(few=6, many=40)
@given(tables())
@PARTIAL
def test_other_formats_bring_back_what_they_can_say(format_, made):
    """Every address of everybody; nobody who may not send, or may not be sent to, gains by the way."""
    with command_line() as policyd:
        (_, boxes, entries, *_), (_, others, kept, *_) = exported_and_imported(policyd, format_, made)
        addresses = sorted(address for _, held in boxes for address in held)
        back = [address for _, held in others for address in held]
        aliases = {domain.name for domain in made.domains() if domain.alias_of}
        if format_ == "postfix":  # where each address in an alias domain is written out
            back = [each for each in back if each in addresses or each.rpartition("@")[2] not in aliases]
        assert sorted(back) == addresses
        if format_ in ("exchange-csv", "ldif"):
            again = {fold(each.name): (each.name, held) for each, held in others}
            for each, held in boxes:
                assert not held or again[fold(each.name)] == (each.name, held)
            assert {(each.who, each.to) for each in kept} <= {(each.who, each.to) for each in entries}


@pytest.mark.parametrize("format_", ["exchange-csv", "ldif", "list", "postfix"])
def test_what_is_left_out_has_one_word_in_every_format(policyd, format_):
    """Who compares two formats must not take `accept`, `accepted-sender` and `accepted sender` for three things."""
    told = policyd.ends(f"export --format {format_}").err
    counted = {each.partition(" ")[2] for each in told.partition("left out: ")[2].strip().split(", ")}
    others = {"accept", "accepted-sender", "blocked-sender", "except", "created", "created_at", "inherited-restriction"}
    assert counted
    assert counted & others == set()
