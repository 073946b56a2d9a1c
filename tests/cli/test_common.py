"""What all commands share: options, help, times, errors, exit statuses, terminals, and many commands at once."""

import json
import multiprocessing
import os
import pty
import re
import select
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator

import click
import pytest

from policyd import __version__
from policyd.cli import main
from policyd.cli.command import failure_of
from policyd.model import Request
from tests.core.test_audit import PERMITTED, line_of
from tests.support.command_line import CommandLine, command_line
from tests.support.engine import IS_SERVER
from tests.support.waiting import LIMIT_SECONDS


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        pytest.param("rich.live", "policyd", id="what it always needs"),
        pytest.param("psycopg", "'policyd[postgresql]'", id="the driver"),
        pytest.param("jinja2.sandbox", "'policyd[web]'", id="the pages"),
    ],
)
def test_package_that_is_missing_is_no_defect_to_report(module, wanted):
    """Whichever command comes to it: what to type is one line."""
    told = f"the Python package {module.partition('.')[0]} is missing; type: {sys.prefix}/bin/pip install {wanted}"
    assert failure_of(ModuleNotFoundError(f"No module named {module!r}", name=module)) == (told, 69)


def test_module_of_ours_that_is_missing_is_a_defect():
    """No package brings it."""
    message, status = failure_of(ModuleNotFoundError("No module named 'policyd.x'", name="policyd.x"))
    assert (message.startswith("internal error"), status) == (True, 70)


@pytest.fixture
def policyd():
    with command_line() as policyd:
        yield policyd


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command there is, and the words that call it."""
    context = click.Context(main)
    for noun in main.list_commands(context):
        command = main.get_command(context, noun)
        assert command is not None
        yield noun, command
        if isinstance(command, click.Group):
            yield from ((f"{noun} {verb}", each) for verb, each in command.commands.items())


COMMANDS = dict(commands())
VERBS = [words for words, command in COMMANDS.items() if not isinstance(command, click.Group)]


# --- Help ---


@pytest.mark.parametrize("words", ["", *COMMANDS])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help(policyd, words, option):
    """Even where settings and database are broken: that is when help is needed."""
    policyd.settings.write_text("not TOML")
    text = policyd.run(f"{words} {option}")
    assert text.startswith(f"Usage: policyd{' ' if words else ''}{words} [OPTIONS]")
    assert "--config FILE" in text


@pytest.mark.parametrize("words", ["", *COMMANDS])
def test_every_command_tells_the_version(policyd, words):
    """Wherever the option stands, whatever else is missing."""
    assert policyd.run(f"{words} --version") == f"policyd {__version__}\n"


@pytest.mark.parametrize("words", ["", "domain", "group", "mailbox", "address", "sender", "database"])
def test_noun_without_a_verb_shows_help_and_fails(policyd, words):
    """Nothing was done, so it isn't success."""
    ended = policyd.ends(words)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"Usage: policyd{' ' if words else ''}{words} [OPTIONS] COMMAND [ARGS]...\n")


PREPARED = {  # what an example finds, by a pattern of the command
    "domain add": ["domain add example.net"],
    "(?!database create|domain add).+": ["domain add example.com"],
    "(?!mailbox add|database create|domain add).+": ["mailbox add alice alice@example.com"],
    "domain (lift|(un)?accept)": ["domain restrict example.com --accept @partner.example"],
    "domain remove": ["address remove alice@example.com"],
    "group (?!add).+": [
        "group add board",
        "group add staff",
        "group restrict staff --accept group:board",
        "mailbox add carol",
    ],
    "group leave": ["group join staff carol"],
    "mailbox (lift|(un)?accept)": ["mailbox restrict alice --accept @partner.example"],
    "mailbox accept": ["mailbox unaccept alice @partner.example"],
    "sender (?!block).+": ["sender block alice --except @partner.example"],
    "sender except": ["sender unexcept alice @partner.example"],
}


@pytest.mark.parametrize("words", VERBS)
def test_help_has_an_example_that_works(policyd, words, monkeypatch):
    """Examples are what people type first."""
    (example,) = re.findall(r"^ *Example: policyd (.+)$", policyd.run(f"{words} --help"), re.MULTILINE)
    assert example.startswith(words)
    if words in ("serve", "top", "replica status", "database copy", "doctor", "setup"):
        return  # they need a daemon, a host with a replica, a server, or Postfix; the tests of these have them
    if words == "database restore" and policyd.server:
        return  # which is for files
    if words == "database create":
        policyd.have_no_tables()
    for pattern, lines in PREPARED.items():
        for line in lines if re.fullmatch(pattern, words) else ():
            policyd.run(line)
    if words == "import":
        (policyd.folder / "people.csv").write_text("name,addresses\nbob,bob@example.com\n")
    if words == "batch":
        (policyd.folder / "new-staff.txt").write_text("mailbox add carol carol@example.com\n")
    if words in ("report", "why"):
        line = line_of(Request(queue_id="4XyZ0B1cJ2z9"), PERMITTED)
        (policyd.folder / "mail.log").write_text(f"2026-11-25T12:00:00Z mx policyd[1]: {line}\n")
        example = example.replace("/var/log/", "")
    if words == "database restore":
        policyd.run(f"database backup {policyd.folder / 'monday.db'}")
        example += " --yes"  # nobody is there to be asked
    example = example.replace("undo 42", "undo 2")  # there are no 42 changes
    monkeypatch.chdir(policyd.folder)
    assert policyd.ends(example.partition(" | ")[0]).status == 0


# --- Options and where they stand ---


def test_option_beats_environment_beats_file(policyd):
    """Each of the three, by the database it leads to."""
    for name in ("option", "environment", "file"):
        policyd.run(f"domain add {name}.example --database {policyd.folder / name}")
    policyd.settings.write_text(f'database = "sqlite:///{policyd.folder / "file"}"\n[audit]\nsyslog = "none"\n')
    environment = {"POLICYD_DATABASE": str(policyd.folder / "environment")}
    option = f"--database {policyd.folder / 'option'}"
    assert policyd.ends(f"domain list {option}", **environment).out == "option.example\treject\n"
    assert policyd.ends("domain list", **environment).out == "environment.example\treject\n"
    assert policyd.ends("domain list", POLICYD_DATABASE=None).out == "file.example\treject\n"
    assert policyd.ends("domain list", POLICYD_DATABASE="").out == "file.example\treject\n"


def test_config_option_beats_the_environment(policyd):
    """Also when the environment names a broken file."""
    line = f"domain add example.com --config {policyd.settings}"
    assert policyd.ends(line, POLICYD_CONFIG="/nonexistent").status == 0


@pytest.mark.parametrize(
    "line",
    [
        "{} domain list",
        "domain {} list",
        "domain list {}",
        "--database /nonexistent/x.db domain list {}",
        "domain --database /nonexistent/x.db list {}",
    ],
)
@pytest.mark.parametrize("url", ["sqlite:///{}", "{}"])
def test_option_counts_wherever_it_stands(policyd, line, url):
    """Nobody has to know which command it belongs to; of two, the last one counts."""
    other = policyd.folder / "other.db"
    policyd.run(f"domain add other.example --database {other}")
    option = f"--json --database {url.format(other)}"
    ended = policyd.ends(line.format(option))
    assert (ended.status, [each["name"] for each in json.loads(ended.out)]) == (0, ["other.example"])


def test_options_may_follow_the_arguments_or_come_before(policyd):
    """As with every other command of a system."""
    policyd.run("domain add example.com")
    policyd.run("mailbox add --comment x alice alice@example.com")
    policyd.run("sender block --to anyone alice --reason x")
    assert policyd.json("sender list")[0]["to"] == "anyone"


@pytest.mark.parametrize("option", ["--database ''", "--database=", "--database 'sqlite:///'"])
def test_empty_database_option_never_means_another_database(policyd, option):
    """A script with an empty variable must not change the mail of the company instead."""
    assert policyd.refuses(f"domain add example.com {option}", 78).endswith(
        "must be sqlite:////absolute/path.db, a path, or postgresql://HOST/NAME"
    )


@pytest.mark.parametrize("url", ["mysql://x", "sqlite:////:memory:x://", ":memory:"])
def test_unknown_database_is_refused_with_what_is_allowed(policyd, url):
    """Exit 78: a setting, wherever it was made."""
    assert policyd.refuses(f"domain list --database {url}", 78) == (
        f"policyd: database: {url!r}: must be sqlite:////absolute/path.db, a path, or postgresql://HOST/NAME"
    )


def test_relative_database_on_the_command_line_is_in_this_folder(policyd, monkeypatch):
    """As a file name in a shell."""
    monkeypatch.chdir(policyd.folder)
    policyd.run("domain add example.com --database here.db")
    assert (policyd.folder / "here.db").exists()


@pytest.mark.parametrize("name", ["with blank", "100%", "a?b=c", "a#b", "%41", "ü", "a'b\"c", "a\\b"])
def test_any_folder_name_is_a_folder_name(policyd, name):
    """Characters that mean something in a URL mean nothing in a path."""
    folder = policyd.folder / name
    folder.mkdir()
    database = shlex.quote(str(folder / f"{name}.db"))
    policyd.run(f"domain add example.com --database {database}")
    assert policyd.run(f"domain list --database {database}") == "example.com\treject\n"
    assert policyd.ends(f"check --recipient x@example.com --database {database}").status == 1


# --- Times ---


@pytest.fixture
def local_zone(monkeypatch):
    """A zone with summer time."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("local_zone")
@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        pytest.param("2096-07-01", 3992018399, id="a date ends with its day, local summer time"),
        pytest.param("2096-12-31", 4007833199, id="a date in winter"),
        pytest.param("2096-12-31T18:00", 4007811600, id="a date and a time"),
        pytest.param("2096-12-31 18:00:30", 4007811630, id="with a blank between, and seconds"),
        pytest.param("2096-12-31T18:00Z", 4007815200, id="UTC"),
        pytest.param("2096-12-31T18:00+05:30", 4007795400, id="another zone"),
        pytest.param("2096-12-31T18:00-0800", 4007844000, id="a zone without a colon"),
    ],
)
def test_until_is_local_unless_it_says(policyd, typed, stored):
    """As the administrator's clock shows it, whatever the season."""
    policyd.run(f"sender block @spam.example --until '{typed}'")
    assert policyd.json("sender list")[0]["until"] == stored


@pytest.mark.usefixtures("local_zone")
def test_times_are_shown_in_local_time(policyd):
    """With the offset, so that they can be typed again."""
    policyd.run("sender block @spam.example --until 2096-07-01T10:00Z")
    shown = policyd.run("sender list").split("\t")[3]
    assert shown == "2096-07-01 12:00:00+02:00"
    assert policyd.json(f"sender block @spam.example --until '{shown}'")["changes"] == []


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("+90m", 5400), ("+12h", 43200), ("+30d", 30 * 86400), ("+2w", 14 * 86400), ("+1d", 86400)],
)
def test_until_may_be_a_span(policyd, typed, seconds):
    """From now on."""
    began = int(time.time())
    policyd.run(f"sender block @spam.example --until {typed}")
    assert began + seconds <= policyd.json("sender list")[0]["until"] <= time.time() + seconds


@pytest.mark.parametrize("typed", ["2020-01-01", "-1d", "+0d", "1970-01-01T00:00Z", "2020-06-01 12:00+02:00"])
def test_until_in_the_past_is_refused(policyd, typed):
    """It would silently do nothing."""
    for line in (f"sender block alice --until '{typed}'", f"mailbox restrict alice --until '{typed}'"):
        assert f"Invalid value for '--until': '{typed}' is past. See: " in policyd.refuses(line, 2)
    assert not policyd.database.exists()


@pytest.mark.parametrize(
    "typed",
    [
        *("tomorrow", "", "30d", "+30", "+30y", "+d", "+1d12h", "+-1d", "+ 1d", "+1000000d", "31.12.2096", "12:00"),
        *("2096-02-30", "2096-13-01", "2096-12-31T25:00", "+999999w", "9999-12-31", "99999-01-01", "NEVER"),
        *("2099", "4102444800", "20991231118", "2096-12-31+01:00", "2096-12-31x18:00", "4102444800000", "-5", "1e10"),
        *("２０９６-12-31", "+３d"),
    ],
)
def test_what_is_no_time_is_refused_with_examples(policyd, typed):
    """Before anything is done."""
    assert policyd.refuses(f"sender block @x.example --until '{typed}'", 2) == (
        f"policyd: Invalid value for '--until': '{typed}' is not a time; "
        "type 2026-12-31, '2026-12-31 18:00', +30d, +12h or never. See: policyd sender block --help"
    )


# --- Errors ---


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("bogus", "No such command 'bogus'. See: policyd --help", id="a noun that isn't"),
        pytest.param("domain bogus", "No such command 'bogus'. See: policyd domain --help", id="a verb that isn't"),
        pytest.param("domain add", "Missing argument 'NAME'. See: policyd domain add --help", id="a name missing"),
        pytest.param(
            "domain list --jsn",
            "No such option '--jsn'; type: --json. See: policyd domain list --help",
            id="an unknown option",
        ),
        pytest.param(
            "mailbox set alice",
            "Missing option '--comment'. See: policyd mailbox set --help",
            id="an option missing",
        ),
        pytest.param(
            "domain list --database",
            "Option '--database' requires an argument. See: policyd domain list --help",
            id="an option's value missing",
        ),
        pytest.param(
            "domain list example.com example.net",
            "Got unexpected extra argument (example.net); a list is narrowed by one text, in which * stands for any "
            "characters. See: policyd domain list --help",
            id="a word too many",
        ),
    ],
)
def test_bad_usage_is_one_line_that_points_to_help(policyd, line, message):
    """Exit 2, and nothing on stdout."""
    assert policyd.refuses(line, 2) == f"policyd: {message}"


@pytest.mark.parametrize(
    ("line", "place"),
    [("mailbox add alice foo", "ADDRESS"), ("mailbox restrict", "NAME"), ("group add g 'a b@c'", "MEMBER")],
)
def test_an_argument_is_called_by_its_name_alone(policyd, line, place):
    """Brackets and dots are of the synopsis, and nobody typed them."""
    told = policyd.refuses(line, 2)
    assert f" '{place}'" in told
    assert "..." not in told


NASTY = [
    *("", " ", "\n", "\x1b[31m", "\udcff", "\u202e", "x" * 5000, "ﷺ" * 400, "１"),
    *("%s", "{0}", "{reason}", "'", "--", "-", "@" * 300, "a@b@c", "[::1]"),
]


TYPED = [words for words in VERBS if words != "serve"]


@pytest.mark.parametrize("words", TYPED)
def test_nothing_that_is_typed_makes_a_traceback(policyd, words, monkeypatch):
    """Whatever stands in an argument or option ends in a status that means something, and one clean line."""
    monkeypatch.chdir(policyd.folder)  # some of it is a good name for a backup
    type_nasty_things(policyd, words, NASTY[TYPED.index(words) % 4 :: 4])


@pytest.mark.full
@pytest.mark.parametrize("words", TYPED)
def test_none_of_all_this_makes_a_traceback(policyd, words, monkeypatch):
    """Each with each."""
    monkeypatch.chdir(policyd.folder)
    type_nasty_things(policyd, words, NASTY)


def type_nasty_things(policyd: CommandLine, words: str, things: list[str]) -> None:
    """Type *things* for each argument of a command, and for an option."""
    arguments = [each for each in COMMANDS[words].params if isinstance(each, click.Argument)]
    options = [
        f"--{str(each.name).replace('_', '-')}"
        for each in COMMANDS[words].params
        if each.opts[0]
        in ("--to", "--except", "--reason", "--until", "--accept", "--object", "--recipient", "--sender", "--domain")
    ]
    policyd.begin_with("domain add example.com", "mailbox add alice alice@example.com")
    for nasty in things if arguments or options else things[:1]:
        typed = [words, *(f"{option}={shlex.quote(nasty)}" for option in options[:1]), "--"]
        ended = policyd.ends(" ".join([*typed, *([shlex.quote(nasty)] * len(arguments))]))
        assert ended.status in (0, 1, 2, 65, 73, 78, *([69] if words == "doctor" else ())), ended  # 69: no Postfix
        assert len(ended.err.splitlines()) <= 1, ended
        assert ended.err.rstrip("\n").isprintable() or "\\" in ended.err or nasty in ended.err, ended


# --- Processes ---


SLOW = {
    *("twisted", "sqlalchemy", "rich", "alembic", "idna", "anyascii", "tomllib", "sqlite3", "pickle", "asyncio"),
    *("psycopg", "jinja2", "subprocess", "difflib", "sqlalchemy.dialects.postgresql"),
}
# SQLAlchemy itself brings the last four.
TABLES = {"sqlalchemy", "idna", "tomllib", "sqlite3", "pickle", "asyncio", "subprocess"}
SERVER = {"psycopg", "sqlalchemy.dialects.postgresql"}  # a command on a file needs nothing of it

# Has each argument, a line or several, done by a process of its own, forked off one that has loaded what they may
# load anyway.
LOADING = """
import os, shlex, sys
from policyd.cli import main
for name in sys.argv[1].split():
    __import__(name)
for lines in sys.argv[2:]:
    if (child := os.fork()) == 0:
        for line in lines.splitlines():
            try: main(shlex.split(line))
            except SystemExit: pass
            print("loaded", *sys.modules, file=sys.stderr, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def loaded(policyd: CommandLine, *lines: str, anyway: str = "") -> list[set[str]]:
    """What is loaded when each command has ended: libraries that take long, and our own files by their dotted names.

    Each may load the modules *anyway*; of lines in one argument, a later one has what the earlier ones loaded.
    """
    command = [sys.executable, "-c", LOADING, anyway, *lines]
    environment = {**os.environ, **policyd.environment}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = [{*line.split()[1:]} for line in ended.stderr.splitlines() if line.startswith("loaded ")]
    return [
        (names & SLOW) | {name.removeprefix("policyd.") for name in names if name.startswith("policyd.")}
        for names in told
    ]


def test_help_loads_neither_tables_nor_daemon(policyd):
    """Help, completion and manuals are felt as immediate; they are asked for a hundred times as often as done."""
    lines = [f"{words} --help" for words in ("", *COMMANDS)]
    allowed = {"cli", "errors", "printable", "address", "model", "changes", "timestamps", "transfer", "records"}
    for line, names in zip(lines, loaded(policyd, "\n".join(lines)), strict=True):
        assert names & SLOW <= ({"idna"} if line != lines[0] else set()), line
        assert {name.partition(".")[0] for name in names} <= allowed | SLOW, line
        assert {name for name in names if name.startswith("transfer.")} <= {"transfer.formats"}, line


# Each command, and what of ours it has no use for.
UNUSED = {
    "mailbox list": "audit syslog transfer daemon decide",
    "history": "store.edit audit syslog transfer daemon decide",
    "domain add example.com": "transfer daemon decide store.bulk store.undo",
    "batch lines.txt": "transfer daemon decide store.bulk store.undo",
    "undo 1 --dry-run": "transfer daemon decide store.bulk audit",
    "export": "transfer.ldif transfer.csv_table store.bulk daemon audit",
    "import people.csv --format csv": "transfer.ldif transfer.exchange transfer.jsonl daemon decide",
    "check --recipient x@example.com": "transfer daemon audit syslog",
    "database stats": "transfer daemon store.check audit decide",
}
if IS_SERVER:
    del UNUSED["database stats"]  # what knows the server knows copies, too


def is_of(name: str, places: str) -> bool:
    """Whether a file of ours is one of these *places*, or in one."""
    return any(name == each or name.startswith(f"{each}.") for each in places.split())


def test_a_command_loads_only_what_it_uses(policyd, monkeypatch):
    """A script that calls a hundred commands waits for each of them."""
    policyd.run("domain add example.net")
    monkeypatch.chdir(policyd.folder)
    (policyd.folder / "lines.txt").write_text("domain add example.org\n")
    (policyd.folder / "people.csv").write_text("name\nalice\n")
    of_each = loaded(policyd, *UNUSED, anyway="sqlalchemy.dialects.sqlite")
    for (line, unused), names in zip(UNUSED.items(), of_each, strict=True):
        assert names & SLOW <= (TABLES | SERVER if IS_SERVER else TABLES), line
        assert {name for name in names if is_of(name, unused)} == set(), line


def test_completion_loads_neither_tables_nor_settings(policyd):
    """Nobody waits for a TAB: of commands it loads the one that is typed, and of the tables nothing but names."""
    of_noun, of_name = loaded(policyd, "completion zsh -- mail", "completion zsh -- mailbox show a")
    assert of_noun & SLOW <= {"idna"}
    assert of_name & SLOW <= {"idna", "tomllib", "sqlite3"}
    assert {name for name in of_noun if is_of(name, "settings admin store cli.mailbox")} == set()
    assert {name for name in of_name if is_of(name, "settings files store.schema store.connection")} == set()


def test_the_version_is_said_without_any_of_it(policyd):
    """It is asked for where something is wrong."""
    (names,) = loaded(policyd, "--version")
    assert names & SLOW == set()
    assert {name for name in names if is_of(name, "address model settings admin store")} == set()


@pytest.mark.parametrize("line", ["mailbox restrict alice", "sender unblock alice", "address remove a@example.com"])
def test_a_mistyped_path_makes_no_database(policyd, tmp_path, line):
    """An empty database where none was meant to be would let `serve` say DUNNO to everything."""
    elsewhere = tmp_path / "typo.db"
    ended = policyd.ends(f"{line} --database {elsewhere}")
    assert (ended.status, ended.err) == (
        69,
        f"policyd: {elsewhere}: there is no database; make it with: policyd database create\n",
    )
    assert list(tmp_path.glob("*typo*")) == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        pytest.param("domain add example.com", 0, id="done"),
        pytest.param("mailbox add carol carol@example.net", 1, id="refused"),
        pytest.param("domain add", 2, id="bad usage"),
        pytest.param("domain list --database /nonexistent/x.db", 69, id="no database"),
        pytest.param("domain add a.example --database /nonexistent/x.db", 73, id="can't be made"),
        pytest.param("domain list --config /nonexistent", 78, id="no settings"),
    ],
)
def test_exit_status_reaches_the_shell(policyd, line, status):
    """From the process as from the tests' shortcut, and with at most one line."""
    ended = policyd.process(line)
    assert (ended.status, ended.out) == (status, "")
    assert len(ended.err.splitlines()) == (1 if status else 0)


def test_closed_pipe_is_no_error_worth_a_word(policyd):
    """`policyd history | head -1` is everyday use."""
    policyd.run("domain add example.com")
    addresses = " ".join(f"{number:0200}@example.com" for number in range(400))  # more than a pipe holds
    policyd.run(f"mailbox add alice {addresses}")
    with policyd.start(["address", "list"]) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        assert started.stdout.readline()
        started.stdout.close()
        assert started.stderr.read() == ""
    assert started.returncode == 141, "as a shell says of SIGPIPE"


def test_full_disk_behind_stdout_is_said(policyd):
    """A list that was cut short must not pass for the whole."""
    policyd.run("domain add example.com")
    with open("/dev/full", "w") as full:
        ended = policyd.process("domain list", stdout=full)
    assert (ended.status, ended.err) == (74, "policyd: input or output: No space left on device\n")


def test_old_locale_shows_what_it_can(policyd):
    """What its character set lacks is no reason to fail, and isn't shown as something else."""
    policyd.run("mailbox add Łukasz")
    ended = policyd.process("mailbox list", environment={"PYTHONIOENCODING": "latin-1:strict"})
    assert (ended.status, ended.out) == (0, "\\u0141ukasz\tinherit\t\t\t\t\n")


def test_thirty_commands_at_once_all_count(policyd, monkeypatch):
    """On a file that isn't there yet, too: none is lost, none fails, the trail stays gapless."""
    monkeypatch.setenv("POLICYD_CONFIG", str(policyd.settings))
    CommandLine(policyd.folder).run("database stats --help")  # what they need is loaded before they part
    fork = multiprocessing.get_context("fork")
    lines = [f"domain add d{number:02}.example --database '{policyd.url}'" for number in range(30)]
    started = [fork.Process(target=main, args=(shlex.split(line),)) for line in lines]
    for process in started:
        process.start()
    for process in started:
        process.join(LIMIT_SECONDS)
    assert [process.exitcode for process in started] == [0] * 30
    assert [each["name"] for each in policyd.json("domain list")] == [f"d{number:02}.example" for number in range(30)]
    assert policyd.rows("SELECT id, changeset FROM change ORDER BY id") == [(each, each) for each in range(1, 31)]
    assert {path.name for path in policyd.folder.iterdir()} <= {
        *("policyd.toml", "policyd.db", "policyd.db-wal", "policyd.db-shm")
    }


# --- A terminal ---


def on_terminal(policyd: CommandLine, line: str, answer: str = "", **environment: str) -> tuple[int, str]:
    """How the command ends for a person at a terminal 80 columns wide who types *answer*, and what is seen."""
    ours, theirs = pty.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "80", **environment}
    with policyd.start(
        shlex.split(line), stdin=theirs, stdout=theirs, stderr=theirs, environment=environment
    ) as command:
        os.close(theirs)
        if answer:
            os.write(ours, answer.encode())
        seen = b""
        while select.select([ours], [], [], LIMIT_SECONDS)[0]:
            try:
                seen += os.read(ours, 4096)
            except OSError:  # its end is closed
                break
    os.close(ours)
    return command.returncode, seen.decode().replace("\r\n", "\n").replace(answer or "\0", "", 1)


def test_person_at_a_terminal_is_told_what_was_done(policyd):
    """A script hears nothing, unless it asks with -v."""
    status, seen = on_terminal(policyd, "sender block @spam.example --reason spam")
    assert (status, seen) == (
        0,
        (
            "blocked sender @spam.example to anyone: added: reason spam\n"
            "@spam.example is blocked to anyone, since --to was not given\n"
        ),
    )
    assert policyd.process("sender unblock @spam.example").err == ""


def test_who_has_the_log_on_the_terminal_reads_what_was_done_once(policyd):
    """As with `./run`: the words of the command, and not the line for a log before them."""
    policyd.settings.write_text('[audit]\nsyslog = "stderr"\n')
    line = "domain add example.com --unlisted accept"
    assert on_terminal(policyd, line) == (0, "domain example.com: added: unlisted accept\n")
    assert policyd.process("domain add example.net").err.startswith("change=2, ")


@pytest.mark.file_only("on a server, a daemon has a replica")
@pytest.mark.parametrize("syslog", ["stderr", "none"])
def test_daemon_on_a_terminal_says_in_words_that_it_is_started(policyd, syslog):
    """Somebody who tries it out has to find the next thing to type, not a page of settings."""
    policyd.run("domain add example.com")
    listen = f"unix:{policyd.folder}/s"
    policyd.settings.write_text(f'user = "root"\nlisten = ["{listen}"]\n[audit]\nsyslog = "{syslog}"\n')
    ours, theirs = pty.openpty()
    seen = b""
    with policyd.start(["serve"], stdin=theirs, stdout=theirs, stderr=theirs) as daemon:
        os.close(theirs)
        while b"started" not in seen and select.select([ours], [], [], LIMIT_SECONDS)[0]:
            seen += os.read(ours, 4096)
        daemon.terminate()
        daemon.wait(LIMIT_SECONDS)
    seen += os.read(ours, 4096)
    os.close(ours)
    lines = seen.decode().replace("\r\n", "\n").splitlines()
    assert lines[0] == f"policyd: listening: on {listen}"
    assert lines[1].startswith("policyd: warning: no origin is set: mail to <bob> is let through; set origin to what ")
    assert lines[2:] == [
        f"policyd: started: version {__version__}, pid {daemon.pid}",
        f"policyd: stopped: pid {daemon.pid}",
    ]


def test_list_on_a_terminal_is_an_aligned_table(policyd):
    """With headings, in bold unless NO_COLOR forbids even that."""
    policyd.run("domain add example.com")
    policyd.run("mailbox add Jörg")
    policyd.run("mailbox add al")
    status, seen = on_terminal(policyd, "mailbox list", NO_COLOR="1")
    assert status == 0
    assert [line.rstrip() for line in re.sub(r"\x1b\[\d*m", "", seen).splitlines()] == [
        "name  receive  until  addresses  accept  reason",
        "al    inherit",
        "Jörg  inherit",
    ]


@pytest.mark.parametrize(
    ("line", "question"),
    [
        ("domain remove example.com", "example.com has 2 addresses, which would be removed with it. Go on? [y/N]: "),
        (
            "mailbox remove alice",
            "2 addresses and 1 blocked sender would be removed with alice. Go on? [y/N]: ",
        ),
    ],
)
def test_destructive_command_asks_a_person(policyd, line, question):
    """No is the default, and changes nothing; yes does it."""
    policyd.run("domain add example.com")
    policyd.run("mailbox add alice a@example.com b@example.com")
    policyd.run("sender block alice")
    before = policyd.journal()
    status, seen = on_terminal(policyd, line, "\n")
    assert (status, question in seen, "policyd: stopped; nothing was changed" in seen) == (130, True, True)
    assert policyd.journal() == before
    status, seen = on_terminal(policyd, line, "y\n")
    assert (status, question in seen) == (0, True)
    assert len(policyd.journal()) > len(before)


def test_question_to_a_person_keeps_nobody_waiting(policyd):
    """Someone else's change goes through while the question stands unanswered over lunch."""
    policyd.run("domain add example.com")
    policyd.run("mailbox add alice a@example.com b@example.com")
    ours, theirs = pty.openpty()
    with policyd.start(["mailbox", "remove", "alice"], stdin=theirs, stdout=theirs, stderr=theirs) as asking:
        os.close(theirs)
        assert select.select([ours], [], [], LIMIT_SECONDS)[0]
        policyd.run("mailbox add bob")
        assert asking.poll() is None
        os.write(ours, b"n\n")
        asking.wait(LIMIT_SECONDS)
    os.close(ours)


def test_changes_as_json_are_what_the_journal_says(policyd):
    """A script can note the changeset it may want to undo."""
    policyd.run("domain add example.com")
    told = policyd.json("mailbox add alice alice@example.com")
    assert told["changeset"] == 2
    assert told["changes"] == policyd.json("history --limit 2")
    assert abs(told["changes"][0]["at"] - time.time()) < 60


# --- Another command in the way ---


@pytest.mark.file_only("SQLite's lock; tests/server has the server's")
@pytest.mark.parametrize("line", ["domain add example.net", "undo 1", "database restore {backup} --yes", "batch -"])
def test_who_waits_for_another_writer_is_told_for_which(policyd, line):
    """A command that seems to hang is killed; one that says why is waited for."""
    policyd.run("domain add example.com")
    backup = policyd.folder / "backup.db"
    policyd.run(f"database backup {backup}")
    holder = sqlite3.connect(policyd.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    words = shlex.split(line.format(backup=backup))
    with policyd.start(words, stdin=subprocess.PIPE) as waiting:
        assert waiting.stdin is not None
        assert waiting.stderr is not None
        waiting.stdin.write("domain add example.org\n")
        waiting.stdin.close()
        told = waiting.stderr.readline()
        holder.execute("ROLLBACK")
        holder.close()
        rest = waiting.stderr.read()
    assert told.startswith(f"policyd: waiting for another command that is changing the tables (pid {os.getpid()}, "), (
        told
    )
    assert (waiting.returncode, rest) == (0, ""), "it is told once, and then done"


@pytest.mark.file_only("the process is on this machine")
def test_who_waits_is_told_the_command_of_the_other(policyd):
    """So that it is known whether it is the nightly import, and how long that takes."""
    policyd.run("domain add example.com")
    held, wrote = os.pipe()
    code = (
        "import os, sqlite3, sys; held = sqlite3.connect(sys.argv[4], isolation_level=None);"
        "held.execute('BEGIN IMMEDIATE'); os.write(int(sys.argv[5]), b'x'); sys.stdin.read()"
    )
    other = [sys.executable, "-c", code, "policyd", "import", "people.csv", str(policyd.database), str(wrote)]
    with subprocess.Popen(other, stdin=subprocess.PIPE, pass_fds=[wrote]) as holder:
        assert os.read(held, 1) == b"x"
        with policyd.start(["domain", "add", "example.net"]) as waiting:
            assert waiting.stderr is not None
            told = waiting.stderr.readline()
            holder.communicate(timeout=LIMIT_SECONDS)
    os.close(held)
    os.close(wrote)
    assert f"(pid {holder.pid}, policyd import people.csv " in told
    assert waiting.returncode == 0
