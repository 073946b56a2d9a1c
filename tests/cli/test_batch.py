"""`policyd batch`: the commands of a file, all of them or none, as one changeset of one process."""

import json
import shlex
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.cli import main
from policyd.cli.command_lines import split_words
from tests.support.command_line import CommandLine, Ended, command_line


@pytest.fixture
def policyd():
    with command_line() as policyd:
        yield policyd


def batch(policyd: CommandLine, content: str | bytes, options: str = "") -> Ended:
    """How a batch of these lines ends."""
    file = policyd.folder / "lines.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    ended = policyd.ends(f"batch {options} {file}")
    return Ended(ended.status, ended.out.replace(str(file), "F"), ended.err.replace(str(file), "F"))


def refusal(policyd: CommandLine, content: str | bytes, status: int) -> str:
    """The one line that a wrong batch ends with; nothing may have changed."""
    before = policyd.journal() if policyd.server or policyd.database.exists() else None
    ended = batch(policyd, content)
    assert (ended.status, ended.out) == (status, ""), ended
    assert before is None or policyd.journal() == before
    (message,) = ended.err.splitlines()
    return message


STAFF = """\
domain add example.com
mailbox add alice alice@example.com
mailbox restrict alice --reason 'internal mailbox'
"""


# --- What it does ---


def test_all_lines_are_one_changeset_that_one_undo_takes_back(policyd):
    """A script that provisions a department is one thing that was done."""
    assert batch(policyd, STAFF) == Ended(0, "", "")
    assert [operation for operation, _ in policyd.journal()] == [
        *("domain.add", "mailbox.add", "address.add", "mailbox.restrict")
    ]
    assert policyd.rows("SELECT DISTINCT changeset FROM change") == [(1,)]
    policyd.run("undo 1")
    assert (policyd.run("domain list"), policyd.run("mailbox list")) == ("", "")


def test_a_line_sees_what_the_lines_before_have_done(policyd):
    """A domain, then the mailbox in it, then its removal: as if each had been typed."""
    batch(policyd, STAFF + "mailbox rename alice alicia\nmailbox remove alicia --yes\n")
    assert policyd.run("mailbox list") == ""


def test_each_change_is_a_line_of_the_log(policyd):
    """The trail names every change, whichever way it came, and the changeset to undo."""
    policyd.settings.write_text('[audit]\nsyslog = "stderr"\n')
    (policyd.folder / "lines.txt").write_text(STAFF)
    told = policyd.process(f"batch {policyd.folder / 'lines.txt'}").err
    assert [line.partition(",")[0] for line in told.splitlines()] == ["change=1", "change=2", "change=3", "change=4"]
    assert told.count("changeset=1") == 4


@pytest.mark.file_only("a file that is missing")
def test_it_makes_the_database_where_its_first_line_would(policyd):
    """As `domain add` does; and as `mailbox remove` does not."""
    assert "there is no database" in refusal(policyd, "mailbox remove alice\n", 69)
    assert not policyd.database.exists()
    assert batch(policyd, STAFF).status == 0


@pytest.mark.parametrize("content", ["", "\n \n\t\n", "# nothing\n  # at all", "\ufeff# a comment\r\n"])
def test_an_empty_batch_is_done_and_asks_for_no_database(policyd, content):
    """A night on which nobody joined is no error."""
    ended = batch(policyd, content, "-v")
    assert ended == Ended(0, "", "F: 0 lines, nothing to change: it stands so already\n")
    assert not policyd.database.exists()


def test_what_stands_so_already_makes_no_changeset(policyd):
    """The same file every night leaves no trail of nothing."""
    batch(policyd, "domain add example.com\nmailbox add alice\n")
    lines = "mailbox restrict alice --reason r\nsender block alice\n"
    batch(policyd, lines)
    before = policyd.journal()
    assert batch(policyd, lines, "-v").err.splitlines()[-1] == "F: 2 lines, nothing to change: it stands so already"
    assert policyd.journal() == before


REFUSED_FROM_NOW_ON = (
    "F:1: mail from outside to unlisted addresses in example.com is refused from now on; "
    "to let it in: policyd domain set example.com --unlisted accept"
)


def test_verbose_tells_each_line_and_then_how_much_it_was(policyd):
    """By the number of the line that did it, with the hints that the command alone would give."""
    ended = batch(policyd, "domain add example.com\n\nsender block @spam.example --reason spam\n", "-v")
    assert ended.err.splitlines() == [
        "F:1: domain example.com: added: unlisted reject",
        REFUSED_FROM_NOW_ON,
        "F:3: blocked sender @spam.example to anyone: added: reason spam",
        "F:3: @spam.example is blocked to anyone, since --to was not given",
        "F: 2 lines, 2 changes; changeset 1; to take it back: policyd undo 1",
    ]


def test_a_warning_is_told_to_scripts_too(policyd):
    """What Postfix takes for another domain must be looked at, however many lines there are."""
    ended = batch(policyd, "domain add a.example\ndomain add straße.example\n")
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.startswith("policyd: F:2: Postfix takes straße.example for strasse.example")


def test_json_is_an_array_with_an_object_for_each_line(policyd):
    """As each command prints it, and which line it was."""
    told = json.loads(batch(policyd, STAFF, "--json").out)
    assert [(each["line"], each["command"], each["changeset"]) for each in told] == [
        (number, line, 1) for number, line in enumerate(STAFF.splitlines(), 1)
    ]
    assert [[change["operation"] for change in each["changes"]] for each in told] == [
        ["domain.add"],
        ["mailbox.add", "address.add"],
        ["mailbox.restrict"],
    ]
    assert json.loads(batch(policyd, "", "--json").out) == []


def test_a_dry_run_shows_the_changes_and_keeps_none(policyd):
    """The first thirty; -v shows the rest."""
    lines = "domain add example.com\n" + "".join(f"mailbox add m{number:02}\n" for number in range(35))
    ended = batch(policyd, lines, "--dry-run")
    shown = ended.out.splitlines()
    assert shown[0] == "domain example.com: added: unlisted reject"
    assert shown[29:] == [
        "mailbox m28: added: receive inherit",
        "36 changes; nothing was changed (--dry-run)",
    ]
    assert ended.err == "and 6 more; -v shows all of them\n"
    assert len(batch(policyd, lines, "--dry-run -v").out.splitlines()) == 37
    assert (policyd.journal(), policyd.run("domain list")) == ([], "")
    assert [each["changeset"] for each in json.loads(batch(policyd, lines, "--dry-run --json").out)] == [None] * 36


def test_the_standard_input_is_read_to_its_end_before_anybody_has_to_wait(policyd):
    """A slow producer in front of the pipe must not hold up other administrators."""
    policyd.run("domain add example.com")
    with policyd.start(["batch", "-"], stdin=-1) as started:
        assert started.stdin is not None
        started.stdin.write("mailbox add alice\n")
        started.stdin.flush()
        policyd.run("mailbox add bob")
        started.stdin.close()
    assert started.returncode == 0
    assert policyd.run("mailbox list").split()[::2] == ["alice", "bob"]


# --- What is wrong ---


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        pytest.param(
            "mailbox restrict bob",
            1,
            "mailbox restrict bob: there is no mailbox bob; see: policyd mailbox list, or: policyd mailbox add",
            id="refused",
        ),
        pytest.param("bogus", 2, "bogus: No such command 'bogus'. See: policyd --help", id="no command"),
        pytest.param("domain", 2, "domain: Missing command. See: policyd domain --help", id="a noun alone"),
        pytest.param(
            "domain add", 2, "domain add: Missing argument 'NAME'. See: policyd domain add --help", id="usage"
        ),
        pytest.param(
            "policyd domain add x.example",
            2,
            "policyd domain add x.example: A line begins behind `policyd`: leave that word out. See: policyd --help",
            id="the program's name",
        ),
        pytest.param(
            "domain add x.example --until 2020-01-01",
            2,
            "domain add x.example --until 2020-01-01: No such option '--until'. See: policyd domain add --help",
            id="an option",
        ),
    ],
)
def test_the_first_wrong_line_is_named_and_nothing_is_changed(policyd, line, status, message):
    """With its number and text, and the status that the line alone would have ended with."""
    batch(policyd, STAFF)
    told = refusal(policyd, f"mailbox add carol\n\n{line}\nmailbox add carol\n", status)
    assert told == f"policyd: F:3: {message} (nothing was changed)"


@pytest.mark.parametrize("option", ["--json", "--database x.db", "--config x.toml", "-v", "--version"])
@pytest.mark.parametrize("line", ["{} domain add x.example", "domain {} add x.example", "domain add x.example {}"])
def test_common_options_go_behind_the_command_and_not_into_a_line(policyd, option, line):
    """There is one database, and one output, for all lines."""
    told = refusal(policyd, line.format(option), 2)
    assert "can't stand in a line; it goes behind `policyd batch`, for all lines." in told
    assert not (policyd.folder / "x.db").exists()


def test_help_in_a_line_prints_nothing(policyd):
    """A page of help is no part of a batch."""
    assert "No such option '--help'" in refusal(policyd, "domain add --help", 2)
    assert batch(policyd, "domain add example.com --comment --help").status == 0  # a value may look like it


def leaves() -> list[str]:
    """Every command there is, as it is typed."""
    context = click.Context(main)
    found = []
    for noun in main.list_commands(context):
        command = main.get_command(context, noun)
        verbs = [*command.commands] if isinstance(command, click.Group) else []
        found += [f"{noun} {verb}" for verb in verbs] or [noun]
    return found


TAKEN = {
    *("domain add", "domain set", "domain restrict", "domain lift", "domain accept", "domain unaccept"),
    *("domain remove", "group add", "group set", "group remove", "group rename", "group join", "group leave"),
    *("group restrict", "group lift", "group accept", "group unaccept", "mailbox add", "mailbox set"),
    *("mailbox remove", "mailbox rename", "mailbox restrict", "mailbox lift", "mailbox open", "mailbox accept"),
    *("mailbox unaccept", "address add", "address remove", "sender block", "sender unblock", "sender except"),
    "sender unexcept",
}


@pytest.mark.parametrize("words", leaves())
def test_what_changes_the_tables_can_stand_in_a_batch_and_nothing_else(policyd, words):
    """A restore in the middle, or a daemon that never ends, is no line; what asks or lists has nobody to tell."""
    told = batch(policyd, f"{words} --bogus")
    assert told.status == 2
    is_taken = "Only what changes the tables can stand in a batch" not in told.err
    assert is_taken is (words in TAKEN), told


@pytest.mark.parametrize(
    ("line", "question"),
    [
        ("mailbox remove alice", "2 addresses would be removed with alice. Add --yes."),
        ("domain remove example.com", "example.com has 2 addresses, which would be removed with it. Add --yes."),
    ],
)
def test_what_would_ask_needs_the_yes_in_its_line(policyd, line, question):
    """Nobody can be asked while others wait, not even at a terminal."""
    batch(policyd, "domain add example.com\nmailbox add alice a@example.com b@example.com\n")
    assert question in refusal(policyd, line, 2)
    assert batch(policyd, f"{line} --yes").status == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"domain add a.example\nmailbox add J\xf6rg\n", "F:2: is not UTF-8", id="Latin-1"),
        pytest.param("domain add a.example".encode("utf-16"), "F:1: is UTF-16, and must be UTF-8", id="UTF-16"),
        pytest.param(b"mailbox add 'a\nb'\n", "F:1: the quote ' is not closed", id="an open quote"),
        pytest.param(b'mailbox add "a', 'F:1: the quote " is not closed', id="the other quote"),
        pytest.param(b"mailbox add a \\\nb\n", "F:1: a backslash at the end of the line", id="a line that goes on"),
    ],
)
def test_a_line_that_cannot_be_read_ends_it_before_it_begins(policyd, content, message):
    """Nothing is taken for something else; and nobody waits for a file that is wrong at its end."""
    told = refusal(policyd, content, 65)
    assert told.startswith(f"policyd: {message}")
    assert told.endswith("; nothing was changed")
    assert not policyd.database.exists()


def test_a_wrong_line_after_a_hundred_good_ones_leaves_nothing(policyd):
    """All or none, in the tables as in the journal, and the next change has the next number."""
    batch(policyd, STAFF)
    before = policyd.rows("SELECT * FROM change"), policyd.rows("SELECT * FROM journal_head")
    good = "".join(f"mailbox add m{number} m{number}@example.com\n" for number in range(100))
    assert "F:101: mailbox add alice: there is a mailbox alice already" in refusal(
        policyd, f"{good}mailbox add alice", 1
    )
    assert (policyd.rows("SELECT * FROM change"), policyd.rows("SELECT * FROM journal_head")) == before
    assert policyd.run("database check") == ""


# --- How a line is read ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  \t ", []),
        ("# a 'comment", []),
        ("a # b", ["a"]),
        ("a#b #c", ["a#b"]),
        ("a '#' b", ["a", "#", "b"]),
        ("a \\# b", ["a", "#", "b"]),
        ("''", [""]),
        ("a ''", ["a", ""]),
        ("'a b'\"c d\"e\\ f", ["a bc de f"]),
        (r"'\"' ", [r"\""]),
        (r'"\"\\\$\`\n"', [r'"\$`\n']),
        ("$HOME * ~ `x` a|b;c&d <>", ["$HOME", "*", "~", "`x`", "a|b;c&d", "<>"]),
        ("\ta\t\tb\t", ["a", "b"]),
        ("a\u00a0b", ["a\u00a0b"]),
        ("'\"john doe\"@example.com'", ['"john doe"@example.com']),
    ],
)
def test_words_are_split_as_a_shell_does_that_expands_nothing(text, words):
    """What an administrator copies out of a script means the same here; a # in a word is a character."""
    assert split_words(text) == words


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=8)))
def test_what_a_shell_would_quote_is_read_as_it_was(words):
    """So a script can write lines with shlex.join."""
    assert split_words(shlex.join(words)) == words


@given(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=40))
def test_no_line_makes_it_fail_otherwise_than_told(text):
    """It is words, or a ValueError with what is wrong."""
    problem = ""
    try:
        split_words(text)
    except ValueError as error:
        problem = str(error)
    assert not problem or problem.endswith("a command stands on one line")


def test_windows_writes_lines_too(policyd):
    """CR LF and a BOM, as editors there leave them."""
    assert batch(policyd, "\ufeff" + STAFF.replace("\n", "\r\n")).status == 0
    assert policyd.json("mailbox show alice")["reason"] == "internal mailbox"


def test_a_file_that_is_not_there_is_said(policyd, tmp_path: Path):
    """As of every command that reads one."""
    assert f"'{tmp_path / 'none'}' does not exist" in policyd.refuses(f"batch {tmp_path / 'none'}", 2)
