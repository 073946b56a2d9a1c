"""What is shown: no name, value or file makes a terminal do anything, and JSON loses none of it."""

import json
import os
import pty
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.printable import printable, to_json
from tests.support.command_line import command_line
from tests.support.drills import drill

ESCAPE = "\x1b]0;owned\x07"
CSI = "\x9b31m"  # a C1 control: an escape of one character
TURNED = "\u202egpj.exe"
BROKEN = "a\nb\u2028c\x85d\re"
HOSTILE = [
    pytest.param(ESCAPE, id="an escape"),
    pytest.param(CSI, id="a C1 control"),
    pytest.param(TURNED, id="a bidirectional control"),
    pytest.param(BROKEN, id="line breaks"),
    pytest.param("a\x7fb\x08c", id="deletions"),
    pytest.param("a\u2066b\U000e0041c\u200bd", id="what has no shape"),
]


@pytest.fixture
def policyd():
    """Commands on a database of their own."""
    with command_line(
        "domain add example.com",
        "mailbox add alice alice@example.com",
    ) as policyd:
        yield policyd


def is_harmless(text):
    """Whether a terminal would show *text* and do nothing else; lines may end."""
    return text.replace("\n", "").replace("\t", "").isprintable()


def check(ended, *, lines=1):
    """A command that failed said so in *lines* lines that a terminal only shows."""
    assert ended.status not in (0, 70), ended
    assert is_harmless(ended.out + ended.err), ended.err
    assert len(ended.err.splitlines()) == lines, ended.err


@drill(
    "an error that quotes escapes, C1, bidirectional controls or line breaks",
    made="each command with such a word",
    lost="nothing; one line, in which they stand as codes",
)
@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    "words",
    [
        ["import", "{}"],
        ["--config", "{}", "domain", "list"],
        ["--config", "/nowhere/{}", "domain", "list"],
        ["--database", "{}", "domain", "list"],
        ["--database", "sqlite:////nowhere/{}", "domain", "list"],
        ["--database", "{}://user@host/name", "domain", "list"],
        ["database", "backup", "/nowhere/{}/x"],
        ["export", "-o", "/nowhere/{}/x"],
        ["{}"],
        ["mailbox", "{}"],
        ["mailbox", "list", "x", "{}"],
        ["mailbox", "list", "--{}"],
        ["mailbox", "show", "{}"],
        ["mailbox", "restrict", "alice", "--receive", "{}"],
        ["mailbox", "restrict", "alice", "--until", "{}"],
        ["sender", "block", "{}"],
        ["sender", "block", "@{}"],
        ["address", "find", "{}@example.com"],
        ["domain", "add", "{}"],
        ["check", "--recipient", '"{}'],
        ["check", "--recipient", "a", "--client-address", "{}"],
        ["undo", "{}"],
        ["history", "--since", "{}"],
        ["serve", "--listen", "{}"],
        ["serve", "--listen", "unix:/nowhere/{}/sock"],
        ["serve", "--workers", "{}"],
    ],
    ids=" ".join,
)
def test_error_about_what_was_typed_is_one_harmless_line(policyd, words, hostile):
    """What is typed comes from scripts and from other people's mail: the error quotes it, no terminal obeys."""
    typed = [word.replace("{}", hostile) for word in words]
    check(policyd.ends(shlex.join(typed)))


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    "setting", ["database", "listen", "origin", "mode", "insider_networks", "audit.syslog", "reply.x", "{}"]
)
def test_error_about_a_setting_is_one_harmless_line(policyd, setting, hostile):
    """A settings file is copied from somewhere, too."""
    value = json.dumps(hostile)
    value = f"[{value}]" if setting in ("listen", "insider_networks") else value
    policyd.settings.write_text(f"{setting.replace('{}', json.dumps(hostile))} = {value}\n".replace("\x7f", "\\u007f"))
    ended = policyd.ends("serve", POLICYD_DATABASE=None if setting == "database" else str(policyd.database))
    check(ended)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_wrong_rows_are_told_in_harmless_lines(policyd, hostile):
    """The file's name, a column's and a value: each of them somebody else's."""
    file = policyd.folder / f"{hostile}.csv"
    file.write_text(f"name,receive,#x\nbob,{hostile!a}x,1\n")
    ended = policyd.ends(f"import '{file}'")
    assert ended.status == 65
    check(ended, lines=len(ended.err.split("\n")) - 1)
    dry = policyd.ends(f"import --dry-run '{file}'")
    assert is_harmless(dry.out + dry.err)
    assert json.loads(policyd.ends(f"--json import '{file}'").out)["errors"]


def poison(policyd, text):
    """Put *text* into the tables and the journal, past everything of ours."""
    quoted = text.replace("'", "''")
    policyd.run("mailbox restrict alice --reason x")
    policyd.run("sender block @spam.example --to alice --reason x")
    policyd.rows(f"UPDATE mailbox SET receive = 'nobody', reason = '{quoted}', comment = '{quoted}', name = '{quoted}'")
    policyd.rows(f"UPDATE blocked_sender SET reason = '{quoted}', comment = '{quoted}', created_by = '{quoted}'")
    policyd.rows(f"UPDATE change SET actor = '{quoted}', object = '{quoted}'")


READING = [
    *("mailbox list", "sender list", "history", "address list", "address find alice@example.com", "database check"),
    *("sender show @spam.example", "check --recipient alice@example.com --sender x@example.net", "undo 3 --dry-run"),
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("line", READING)
def test_list_of_a_poisoned_database_is_harmless(policyd, line, hostile):
    """The daemon's user can write the file; root looks at it. Each row stays a row of so many cells."""
    policyd.run("domain add example.org")
    before = policyd.ends(line)
    poison(policyd, hostile)
    clean, ended = before.out, policyd.ends(line)
    assert is_harmless(ended.out + ended.err), ended
    if line == "address list":
        assert [each.count("\t") for each in ended.out.splitlines()] == [
            each.count("\t") for each in clean.splitlines()
        ]


@drill(
    "escapes, C1, bidirectional controls or line breaks in a database that was changed past policyd",
    made="``UPDATE`` of names, reasons and the journal, then each list",
    client="as the tables say",
    lost="nothing; ``--json`` gives all of it back",
)
@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("line", [each for each in READING if "undo" not in each])
def test_json_of_a_poisoned_database_is_harmless_and_whole(policyd, line, hostile):
    """A script gets every character back, and a person who looks at it on a terminal gets none of them."""
    poison(policyd, hostile)
    ended = policyd.ends(f"--json {line}")
    assert is_harmless(ended.out + ended.err), ended
    found = json.loads(ended.out)
    if line == "sender list":
        assert (found[0]["reason"], found[0]["created_by"], found[0]["to"]) == (hostile, hostile, hostile)


@pytest.mark.parametrize("format_", ["csv", "jsonl", "list", "ldif", "postfix", "exchange-csv"])
def test_export_to_a_terminal_is_harmless(policyd, format_):
    """Without -o it goes there first."""
    poison(policyd, f"{ESCAPE}{CSI}{TURNED}")
    ours, theirs = pty.openpty()
    with policyd.start(["export", "--format", format_], stdout=theirs, stderr=theirs) as started:
        os.close(theirs)
        seen = b""
        while chunk := read_from(ours):
            seen += chunk
        started.wait(60)
    os.close(ours)
    assert is_harmless(seen.decode().replace("\r", ""))


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    "line",
    [
        "mailbox list",
        *(pytest.param(line, marks=pytest.mark.full) for line in ("sender list", "address list", "history")),
    ],
)
def test_table_on_a_terminal_is_harmless(policyd, line, hostile):
    """There a table is drawn, with columns as wide as their cells, and not lines with tabs."""
    poison(policyd, hostile)
    ours, theirs = pty.openpty()
    with policyd.start(
        line.split(), stdout=theirs, stderr=theirs, environment={"NO_COLOR": "1", "TERM": "dumb"}
    ) as shown:
        os.close(theirs)
        seen = b""
        while chunk := read_from(ours):
            seen += chunk
        shown.wait(60)
    os.close(ours)
    assert is_harmless(seen.decode().replace("\r\n", "\n")), seen


def read_from(descriptor):
    """What comes; nothing at the end, which a terminal tells as an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_question_is_harmless(policyd):
    """It names the mailbox that would go."""
    policyd.run("address add alice a2@example.com")
    policyd.rows(f"UPDATE mailbox SET name = '{ESCAPE}'")
    check(policyd.ends("mailbox remove alice"))


@given(st.text(st.characters(), max_size=30))
def test_json_is_harmless_and_whole_whatever_is_in_it(text):
    """`--json` is for scripts: valid, and without a loss."""
    told = to_json({text: [text]})
    assert told.isprintable()
    assert json.loads(told) == {text: [text]}


@given(st.text(st.characters(), max_size=30))
def test_printable_text_is_printable(text):
    """And text that is already stays as it is."""
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


def test_letters_of_every_script_stay():
    """A name is shown as its owner writes it."""
    for text in ("Jörg Müller", "Ελένη", "山田太郎", "עברית", "العربية", "naïve – “quoted”"):
        assert printable(text) == text
        assert to_json(text) == f'"{text}"'
