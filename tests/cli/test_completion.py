"""`policyd completion`: what a TAB offers, and that whatever is in the tables stays a name in every shell."""

import os
import shlex
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from policyd.store.names import MOST
from tests.support.command_line import CommandLine, command_line
from tests.support.shells import SHELLS, typed_in

pytestmark = pytest.mark.file_only("completion reads a file")

# Behind two letters of its own, so that each is the only one that begins so.
ENEMY = [
    f"y{chr(ord('a') + number)}{name}"
    for number, name in enumerate(
        [
            *(" b", "$(touch taken)", "`touch taken`", "; touch taken", "'s", '"no"', "\\ack", "*", "~root", "{1,2}"),
            *("!!", " #c", "<f", "äö", "%s", ":b=c", "$HOME", "\\'", "&& touch taken", "]["),
        ]
    )
]
HIDDEN = ["zline\nbreak", "ztab\there", "z\u202eright", "z\x1b[31mred", "z\u200bnothing", "-z"]


def store(policyd: CommandLine, names: list[str]) -> None:
    """Have mailboxes of these names in the tables, whatever the commands say of them."""
    columns = "name, folded_name, receive, reason, comment"
    with closing(sqlite3.connect(policyd.database)) as connection, connection:
        connection.executemany(
            f"INSERT INTO mailbox ({columns}) VALUES (?, ?, 'inherit', '', '')", [(name, name) for name in names]
        )


@pytest.fixture(scope="module")
def policyd() -> Iterator[CommandLine]:
    """Commands on a database that somebody else had a hand in."""
    with command_line(
        "domain add example.com",
        "mailbox add alice alice@example.com",
        "mailbox add Alina alina@example.com",
        "group add staff alice",
    ) as policyd:
        store(policyd, [*ENEMY, *HIDDEN])
        yield policyd


def offered(policyd: CommandLine, line: str, **options: str | None) -> list[str]:
    """What fish is told of the last word of *line*, without the help; what kind of file where it is one."""
    _, *words = line.split(" ")
    ended = policyd.ends(shlex.join(["completion", "fish", "--", *words]), **options)
    assert (ended.status, ended.err) == (0, "")
    kind, *found = ended.out.splitlines()
    return [each.partition("\t")[0] for each in found] if kind == "names" else [kind]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        pytest.param("policyd mail", ["mailbox"], id="a noun"),
        pytest.param("policyd mailbox re", ["remove", "rename", "restrict"], id="verbs"),
        pytest.param("policyd mailbox restrict alice --re", ["--receive", "--reason"], id="options"),
        pytest.param("policyd --json mailbox show ali", ["alice", "Alina"], id="names, in any case"),
        pytest.param("policyd mailbox show ALI", ["alice", "Alina"], id="names, typed in another case"),
        pytest.param("policyd mailbox show alice@", ["alice@example.com"], id="an address for a mailbox"),
        pytest.param("policyd address find ali", ["alice@example.com", "alina@example.com"], id="addresses"),
        pytest.param("policyd check alin", ["alina@example.com"], id="a recipient"),
        pytest.param("policyd check x --login alin", ["alina@example.com"], id="a login"),
        pytest.param("policyd address remove alin", ["alina@example.com"], id="addresses to be removed"),
        pytest.param("policyd sender unblock alic", ["alice"], id="senders to be unblocked"),
        pytest.param("policyd domain show ", ["example.com"], id="domains"),
        pytest.param("policyd group show ", ["staff"], id="groups"),
        pytest.param("policyd group show group:", ["group:staff"], id="groups, with what they begin with elsewhere"),
        pytest.param("policyd mailbox accept alice g", ["group:staff"], id="a group among others"),
        pytest.param("policyd mailbox accept alice @", ["@example.com"], id="a pattern"),
        pytest.param("policyd sender block alice --to o", ["outside"], id="a word"),
        pytest.param("policyd sender block alice --to=alic", ["--to=alice"], id="a value in the same word"),
        pytest.param("policyd mailbox restrict alice --receive ", ["insiders", "domain", "nobody"], id="choices"),
        pytest.param("policyd import ", ["file"], id="files"),
        pytest.param("policyd setup --undo ", ["folder"], id="folders"),
        pytest.param("policyd doctor --postfix-config ", ["folder"], id="a folder for an option"),
        pytest.param("policyd mailbox add ali", [], id="no old name for a new mailbox"),
        pytest.param("policyd mailbox rename alice ali", [], id="no old name for a renamed one"),
        pytest.param("policyd domain add ex", [], id="no old domain for a new one"),
        pytest.param("policyd mailbox shw ali", [], id="a command that there is not"),
        pytest.param("policyd mailbox restrict --receive everybody ali", ["alice", "Alina"], id="behind a mistake"),
        pytest.param("policyd mailbox show x", [], id="nothing"),
        pytest.param("policyd mailbox show --v", ["--verbose", "--version"], id="options of all commands"),
        pytest.param("policyd mailbox show -- -", ["-z"], id="behind -- what would be an option"),
        pytest.param("policyd --version mailbox sho", ["show"], id="behind an option that would end it"),
    ],
)
def test_what_can_be_typed_is_offered(policyd: CommandLine, line: str, found: list[str]) -> None:
    """A TAB in the place of a look into the documents."""
    assert offered(policyd, line) == found


def test_what_does_not_print_is_not_offered(policyd: CommandLine) -> None:
    """It would look like another name, break the shell's list of lines, or do something to the terminal."""
    assert offered(policyd, "policyd mailbox show z") == []
    assert {*offered(policyd, "policyd mailbox show ")} == {"alice", "Alina", *ENEMY}


@pytest.mark.parametrize(
    ("settings", "database"),
    [
        pytest.param("", "{folder}/missing.db", id="no database"),
        pytest.param("", "{folder}", id="a folder"),
        pytest.param("", "postgresql://192.0.2.1/policyd", id="a server that does not answer"),
        pytest.param("no settings", None, id="bad settings"),
        pytest.param('database = "postgresql://192.0.2.1/policyd"', None, id="a server in the settings"),
        pytest.param("database = 7", None, id="a database of another type"),
    ],
)
def test_where_no_names_can_be_read_nothing_is_said(policyd, settings: str, database: str | None) -> None:
    """A line that somebody is typing is no place for messages, nor to wait for a server."""
    policyd.settings.write_text(settings)
    named = database.format(folder=policyd.folder) if database else None
    assert offered(policyd, "policyd mailbox show ali", POLICYD_DATABASE=named) == []


@pytest.mark.parametrize("settings", ['database = "{0}"', 'database = "postgresql://192.0.2.1/x"\nreplica = "{0}"'])
def test_names_come_from_where_the_settings_say(policyd, settings: str) -> None:
    """On a host with a replica they are as near as in a file."""
    policyd.settings.write_text(settings.format(policyd.database))
    assert offered(policyd, "policyd mailbox show alic", POLICYD_DATABASE=None) == ["alice"]


def test_an_option_says_where_the_names_are(policyd, tmp_path: Path) -> None:
    """As for the command that is being typed."""
    assert offered(policyd, f"policyd --database {policyd.database} mailbox show alic", POLICYD_DATABASE=None) == [
        "alice"
    ]
    assert offered(policyd, f"policyd mailbox --database {tmp_path / 'x.db'} show alic") == []


@pytest.mark.parametrize(
    ("line", "replaced", "ends"),
    [
        pytest.param("policyd mailbox show alic", "alic", ["alice"], id="a word"),
        pytest.param("policyd address find alice@ex", "@ex", ["@example.com"], id="what is behind a sign"),
        pytest.param("policyd address find 'alice@ex", "alice@ex", ["alice@example.com"], id="in quotes"),
        pytest.param("policyd mailbox show 'a'lic", "'a'lic", ["alice"], id="behind quotes"),
        pytest.param("policyd mailbox show yaa\\ ", "yaa\\ ", [], id="nothing"),
        pytest.param("policyd mailbox show ya\\ ", "ya\\ ", ["ya\\ b"], id="behind a backslash"),
        pytest.param('policyd mailbox show "yb', "yb", ["yb\\$(touch taken)"], id="what double quotes do not cover"),
        pytest.param('policyd mailbox show "yk', "yk", [], id="what can't be typed in double quotes"),
        pytest.param("policyd mailbox show 'ye", "ye", ["ye'\\''s"], id="a quote in quotes"),
        pytest.param("policyd mailbox show $(echo ali", "ali", ["file"], id="what another command will say"),
        pytest.param("policyd mailbox show `echo ali", "ali", ["file"], id="the same, in the old way"),
        pytest.param('policyd mailbox show "$x', "$x", ["file"], id="a variable"),
        pytest.param("policyd export > ali", "ali", ["file"], id="a file to write to"),
        pytest.param("policyd mailbox show ali", "bob", ["file"], id="bash says something that is not so"),
    ],
)
def test_bash_gets_what_it_puts_in_the_place_of_a_word(policyd, line: str, replaced: str, ends: list[str]) -> None:
    """Its words end where readline's do not, and it puts in what it gets as it is."""
    kind, *found = policyd.run(shlex.join(["completion", "bash", "--", line, replaced])).splitlines()
    assert (found if kind == "names" else [kind]) == ends


def test_without_anything_typed_the_script_is_printed(policyd: CommandLine) -> None:
    """It goes into the file that the shell begins with."""
    for shell in ("bash", "zsh", "fish"):
        assert f"command policyd completion {shell} -- " in policyd.run(f"completion {shell}")


# --- Real shells ---


def typed(shell: str, policyd: CommandLine, folder: Path, *lines: str) -> list[list[str]]:
    """The words of lines typed in a shell that finds this checkout's policyd."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return typed_in(shell, folder, {**policyd.environment, "PATH": path}, *lines)


def test_a_tab_in_bash(policyd: CommandLine, tmp_path: Path) -> None:
    """The shell that everybody has, without the package that most have."""
    (words,) = typed("bash", policyd, tmp_path, "policyd mailb\tsh\tyb\t")
    assert words == ["policyd", "mailbox", "show", "yb$(touch taken)"]
    assert not (tmp_path / "taken").exists()


@pytest.mark.full
@pytest.mark.parametrize("shell", SHELLS)
def test_a_name_stays_a_name_in_every_shell(policyd: CommandLine, tmp_path: Path, shell: str) -> None:
    """Who can name a mailbox, in a file that root imports, must not have root's shell run something."""
    lines = [f"policyd mailbox show {name[:2]}\t" for name in ENEMY]
    assert typed(shell, policyd, tmp_path, *lines) == [["policyd", "mailbox", "show", name] for name in ENEMY]
    assert not (tmp_path / "taken").exists()


@pytest.mark.full
@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_typed_with_quotes_and_signs_is_completed_in_every_shell(policyd, tmp_path: Path, shell: str) -> None:
    """bash cuts words at @, : and =, and a quote is still open when TAB is pressed."""
    (tmp_path / "people.csv").touch()
    lines = {
        "policyd mailbox show ya\\ \t": "ya b",
        "policyd mailbox show 'ye\t": "ye's",
        "policyd mailbox show 'yb\t": "yb$(touch taken)",
        'policyd mailbox show "yc\t': "yc`touch taken`",
        "policyd address find alic\t": "alice@example.com",
        "policyd address find alice@\t": "alice@example.com",
        "policyd address find 'alice@e\t": "alice@example.com",
        "policyd mailbox show ALIC\t": "alice",
        "policyd mailbox accept alice group:s\t": "group:staff",
        "policyd sender block --to=alic\t": "--to=alice",
        "policyd sender block --to=group:s\t": "--to=group:staff",
        "policyd mailbox restrict alice --rec\tno\t": "nobody",
        "policyd import peop\t": "people.csv",
        "sudo policyd mailbox show al": "al",
    }
    assert [words[-1] for words in typed(shell, policyd, tmp_path, *lines)] == [*lines.values()]


@pytest.mark.full
@pytest.mark.parametrize("shell", SHELLS)
def test_what_was_typed_stays_where_nothing_is_offered(policyd, tmp_path: Path, shell: str) -> None:
    """Nor does a database that is none put a message into the line."""
    line = f"policyd --database {tmp_path}/none.db mailbox show al\t"
    assert typed(shell, policyd, tmp_path, line, "policyd mailbox show x\t") == [
        ["policyd", "--database", f"{tmp_path}/none.db", "mailbox", "show", "al"],
        ["policyd", "mailbox", "show", "x"],
    ]


@pytest.mark.full
@pytest.mark.parametrize("shell", SHELLS)
def test_of_too_many_names_only_what_all_begin_with_is_typed(tmp_path: Path, shell: str) -> None:
    """Those that are offered are the first, and all of them may begin in a way in which others don't."""
    with command_line("domain add example.com") as policyd:
        store(policyd, [*(f"user-a{number:04}" for number in range(2 * MOST)), "user-b"])
        (words,) = typed(shell, policyd, tmp_path, "policyd mailbox show us\t")
    assert words[-1] == "user-"
