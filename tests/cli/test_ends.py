"""Ends in files: an import takes none that has passed or that means something else, an export writes none."""

import time

import pytest

from tests.support.command_line import command_line
from tests.support.drills import drill

PAST = "2020-01-01"
TO_COME = 4102444800
ENDED = 1600000000


@pytest.fixture
def policyd():
    """Commands on a database with alice and bob."""
    with command_line(
        "domain add example.com",
        "mailbox add alice alice@example.com",
        "mailbox add bob bob@example.com",
    ) as policyd:
        yield policyd


def write(policyd, name, text):
    """A file to import."""
    (policyd.folder / name).write_text(text)
    return policyd.folder / name


WRONG_IN_CSV = [
    pytest.param("2099", "is not a time", id="a year"),
    pytest.param("-5", "is not a time", id="a negative number"),
    pytest.param("1900000000000", "is not a time", id="milliseconds"),
    pytest.param("209912311800", "is not a time", id="a date and time without marks"),
    pytest.param("4102444800.5", "is not a time", id="a fraction"),
    pytest.param("2099-12-31+01:00", "is not a time", id="a date with a zone and no time"),
    pytest.param("1600000000", "is past", id="seconds that have been"),
    pytest.param(PAST, "is past", id="a day that has been"),
    pytest.param("2020-01-01T00:00Z", "is past", id="a moment that has been"),
]
WRONG_IN_JSON = [
    pytest.param("2099", "is not a time", id="a year"),
    pytest.param("20991231", "is not a time", id="a date as a number"),
    pytest.param("1900000000000", "is not a time", id="milliseconds"),
    pytest.param("-4102444800", "is not a time", id="a negative number"),
    pytest.param("0", "is not a time", id="nothing"),
    pytest.param("4102444800.0", "is not a time", id="a fraction"),
    pytest.param("true", "is not a time", id="a flag"),
    pytest.param('"2099"', "is not a time", id="a year as a text"),
    pytest.param("1600000000", "is past", id="seconds that have been"),
    pytest.param(f'"{PAST}"', "is past", id="a day that has been"),
]
ROWS_OF_CSV = {
    "mailbox": "name,receive,until\nalice,nobody,{}\n",
    "blocked": "sender,to,until\n@spam.example,anyone,{}\n",
}
ROWS_OF_JSON = {
    "mailbox": '{{"name": "alice", "receive": "nobody", "until": {}}}\n',
    "blocked": '{{"sender": "@spam.example", "to": "anyone", "until": {}}}\n',
}


@drill(
    "an end in a ``csv`` file that is a year, milliseconds, or past",
    made="an import with such an ``until``",
    lost="nothing; the row is told, and status 65",
)
@pytest.mark.parametrize("kind", ["mailbox", "blocked"])
@pytest.mark.parametrize(("until", "message"), WRONG_IN_CSV)
def test_end_in_csv_that_would_end_at_once_is_a_wrong_row(policyd, kind, until, message):
    """`2099` was taken for 1970: the restriction arrived expired, and the import said that all was well."""
    check_wrong(policyd, write(policyd, "rows.csv", ROWS_OF_CSV[kind].format(until)), message)


@drill(
    "an end in a ``jsonl`` file that is a year, milliseconds, or past",
    made="an import of numbers, texts and flags",
    lost="nothing; the row is told, and status 65",
)
@pytest.mark.parametrize("kind", ["mailbox", "blocked"])
@pytest.mark.parametrize(("until", "message"), WRONG_IN_JSON)
def test_end_in_jsonl_that_would_end_at_once_is_a_wrong_row(policyd, kind, until, message):
    """A script's mistake must not pass for a restriction either."""
    check_wrong(policyd, write(policyd, "rows.jsonl", ROWS_OF_JSON[kind].format(until)), message)


def check_wrong(policyd, file, message):
    """The one row of *file* is wrong, the import says why, and the tables stay as they are."""
    before = policyd.journal()
    ended = policyd.ends(f"import {file}")
    assert (ended.status, ended.out) == (65, "")
    assert message in ended.err.splitlines()[0]
    assert policyd.journal() == before


@pytest.mark.parametrize("moment", ["2099", "20991231", "-1", "1900000000000"])
def test_beginning_that_is_no_time_is_a_wrong_row(policyd, moment):
    """When an entry was made is a time, too."""
    text = f'{{"sender": "@spam.example", "to": "anyone", "created_at": {moment}}}\n'
    check_wrong(policyd, write(policyd, "rows.jsonl", text), "is not a time")


def test_rest_of_a_file_with_an_end_that_has_passed_is_imported(policyd):
    """The wrong row is told and kept, as any other."""
    file = write(policyd, "rows.csv", f"name,receive,until\nalice,nobody,{PAST}\nbob,nobody,2099-12-31\n")
    assert policyd.ends(f"import {file}").status == 65
    assert [each["receive"] for each in policyd.json("mailbox list")] == ["inherit", "nobody"]
    assert (policyd.folder / "rows.csv.err").read_text().splitlines()[1] == f"alice,nobody,{PAST}"


def test_row_that_takes_away_may_say_that_the_end_has_passed(policyd):
    """Whoever deletes what has ended does nothing that would silently do nothing."""
    policyd.run("sender block @spam.example --until +1d")
    file = write(policyd, "rows.csv", f"sender,to,until,mode\n@spam.example,anyone,{PAST},delete\n")
    policyd.run(f"import {file}")
    assert policyd.json("sender list") == []


def restrict_and_end(policyd):
    """alice's restriction and one entry have ended, bob's and another one have not."""
    policyd.run("mailbox restrict alice --reason gone --accept @partner.example --until +1d")
    policyd.run(f"mailbox restrict bob --reason kept --until {time.strftime('%Y-%m-%d', time.gmtime(TO_COME))}")
    policyd.run("sender block @ended.example --until +1d")
    policyd.run("sender block @kept.example --until +300d")
    past = int(time.time()) - 5
    policyd.rows(f"UPDATE mailbox SET until = {past} WHERE name = 'alice'")
    policyd.rows(f"UPDATE blocked_sender SET until = {past} WHERE pattern = '@ended.example'")


@pytest.mark.parametrize("format_", ["exchange-csv", "ldif", "csv", "jsonl", "list", "postfix"])
def test_export_leaves_out_what_has_ended_and_counts_it(policyd, format_):
    """Maps know no time, and no import would take it: it must not come back into force, nor go unnoticed."""
    restrict_and_end(policyd)
    ended = policyd.ends(f"export --format {format_}")
    assert ended.status == 0
    assert "gone" not in ended.out
    assert "@ended.example" not in ended.out
    told = ended.err.splitlines()[-1]
    if format_ == "exchange-csv":  # has no domains to look at twice, and yet counts once
        assert "1 restriction" in told
    assert told == "policyd: left out, since they have ended: 1 blocked sender, 1 restriction"


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_export_is_taken_back_where_something_has_ended(policyd, format_):
    """A nightly export of the tables is a backup: it must not be refused on the day when an entry ends."""
    restrict_and_end(policyd)
    file = policyd.folder / "out"
    policyd.run(f"export --format {format_} -o {file}")
    other = policyd.folder / "other.db"
    policyd.run(f"import --strict {file} --database {other}")
    assert [
        (each["name"], each["receive"], each["reason"]) for each in policyd.json(f"mailbox list --database {other}")
    ] == [("alice", "inherit", ""), ("bob", "insiders", "kept")]
    assert [each["sender"] for each in policyd.json(f"sender list --database {other}")] == ["@kept.example"]


def test_undo_brings_back_what_has_ended_as_it_was(policyd):
    """An undo restores a state of the tables, and that had an end."""
    restrict_and_end(policyd)
    policyd.rows("UPDATE mailbox SET until = NULL WHERE name = 'alice'")
    until = policyd.json("mailbox show alice")["until"]
    lifted = policyd.json("mailbox lift alice")["changeset"]
    policyd.run(f"undo {lifted}")
    assert policyd.json("mailbox show alice")["until"] == until


@pytest.mark.parametrize("noun", ["mailbox", "group", "domain"])
def test_who_accepts_a_sender_where_the_restriction_has_ended_is_told_what_to_type(policyd, noun):
    """It would silently do nothing: the list of a restriction that is over is nobody's."""
    name = {"mailbox": "alice", "group": "staff", "domain": "example.com"}[noun]
    policyd.run("group add staff alice")
    policyd.run(f"{noun} restrict {name} --accept @a.example --until +1d")
    policyd.rows(f"UPDATE {'mailbox_group' if noun == 'group' else noun} SET until = {ENDED} WHERE until IS NOT NULL")
    message = policyd.refuses(f"{noun} accept {name} @b.example")
    assert message.startswith(f"policyd: {name}: its restriction has ended, 20")
    assert f"to restrict it again: policyd {noun} restrict {name} --accept SENDER" in message
    assert policyd.json(f"{noun} show {name}")["accept"] == ["@a.example"]

    # What helps helps; and what is there can be taken away.
    policyd.run(f"{noun} unaccept {name} @a.example")
    policyd.run(f"{noun} restrict {name} --accept @b.example")
    assert "ended" not in policyd.json(f"{noun} show {name}")
    policyd.run(f"{noun} accept {name} @c.example")


def test_mailbox_that_was_open_for_a_while_accepts_nobody_until_it_says_something_again(policyd):
    """It inherits by now, though `open` is what it says."""
    policyd.run("mailbox open alice --until +1d")
    policyd.rows(f"UPDATE mailbox SET until = {ENDED} WHERE until IS NOT NULL")
    message = policyd.refuses("mailbox accept alice @b.example")
    assert message.startswith("policyd: alice: what opened it has ended, 20")
    assert message.endswith("; to have it inherit: policyd mailbox lift alice")
    policyd.run("mailbox lift alice")
    policyd.run("mailbox accept alice @b.example")


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_row_that_accepts_somebody_where_the_restriction_has_ended_is_wrong(policyd, format_):
    """A file does what a command does; with an end to come, or a restriction, the row sets it again."""
    restrict_and_end(policyd)
    wrong, good = {
        "csv": ("name,accept\nalice,@b.example\n", "name,receive,accept\nalice,nobody,@b.example\n"),
        "jsonl": (
            '{"name": "alice", "accept": ["@b.example"]}\n',
            '{"name": "alice", "receive": "nobody", "accept": ["@b.example"]}\n',
        ),
    }[format_]
    check_wrong(policyd, write(policyd, f"rows.{format_}", wrong), "alice: its restriction has ended, 20")
    policyd.run(f"import {write(policyd, f'good.{format_}', good)}")
    assert policyd.json("mailbox show alice")["accept"] == ["@b.example"]


def test_trace_tells_what_has_ended(policyd):
    """`check` shows why what is in the tables does nothing."""
    restrict_and_end(policyd)
    assert "mailbox alice: receives from anyone: the restriction has expired" in "\n".join(
        policyd.json("check alice@example.com")["trace"]
    )
    trace = policyd.json("check alice@example.com --sender x@ended.example")["trace"]
    assert "entry 1: @ended.example may not send to anyone: expired" in trace
