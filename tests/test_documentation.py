"""The README and the code say the same: what is documented is there, and what is there is documented."""

import ast
import json
import re
import shlex
import socket
import textwrap
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from click.testing import CliRunner, Result
from docutils import nodes  # type: ignore[import-untyped]
from docutils.core import publish_doctree  # type: ignore[import-untyped]

from policyd import errors, reply
from policyd.audit import AuditLog, escape
from policyd.cli import main
from policyd.model import Action, Change, Decision, Request, Rule
from policyd.server import Patience
from policyd.settings import FACILITIES, AuditSettings, Format, Settings, load_settings
from policyd.transfer.guess import FORMATS
from policyd.transfer.ldif_entries import ACCEPTED, MEMBERS, NAMES, OTHERS, REJECTED
from policyd.transfer.objects import KEYS
from policyd.transfer.table import COLUMNS, KINDS
from policyd.wire import ATTRIBUTES_LIMIT, REQUEST_LIMIT

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    "README.rst",
    "CHANGES.rst",
    "CONTRIBUTING.rst",
    *(f"contrib/{each}/README.rst" for each in ("postfix", "systemd", "fail2ban")),
]
USAGE, DEFECT, INTERRUPTED, NO_READER = 2, 70, 130, 141  # the statuses that the group itself gives
FIRST, LAST = 0, -1  # columns of a row
DROPPED = "syslog took no lines for a while"  # the one warning that has no call of its own

Row = list[str]


def parse(document: str) -> nodes.document:
    """The tree of *document*; a warning of docutils is an error."""
    strict = {"report_level": 2, "halt_level": 2, "syntax_highlight": "none"}
    tree: nodes.document = publish_doctree((ROOT / document).read_text(encoding="utf-8"), settings_overrides=strict)
    return tree


README = parse("README.rst")


def section(title: str) -> nodes.section:
    """The section of the README whose title begins so."""
    return next(each for each in README.findall(nodes.section) if each[0].astext().startswith(title))


def table(title: str, *headings: str, position: int = 0) -> list[Row]:
    """The rows of the table of a section whose first headings are these; of several, the one at *position*."""
    found = []
    for each in section(title).findall(nodes.table):
        head, *rows = [[words(cell) for cell in row] for row in each.findall(nodes.row)]
        if head[: len(headings)] == [*headings]:
            found.append(rows)
    return found[position]


def words(cell: nodes.Node) -> str:
    """The text of a cell on one line."""
    return " ".join(cell.astext().split())


def names(cell: str) -> list[str]:
    """The words of a cell that lists names."""
    return [name for each in cell.split(",") if (name := each.strip())]


def blocks(parent: nodes.Element = README) -> list[str]:
    """The literal blocks of the README, or of one of its sections."""
    return [block.astext() for block in parent.findall(nodes.literal_block)]


def leaves(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, under its full name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        else:
            yield " ".join([*path, name]), command


COMMANDS = dict(leaves(main))
COMMON = {"--config", "--database", "--json", "-v", "--verbose", "--version"}


def options(command: click.Command) -> set[str]:
    """The options of a command, but for those that all have."""
    spelled = [
        name for each in command.params if isinstance(each, click.Option) for name in each.opts + each.secondary_opts
    ]
    return {*spelled} - COMMON


def synopses() -> dict[str, str]:
    """The synopsis of each command that the README explains, under the command's name."""
    found = {}
    for term in section("Commands").findall(nodes.term):
        words = term.astext().split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        found[name] = term.astext()
    return found


# Form


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_is_well_formed(document: str) -> None:
    """What docutils only warns of shows as rubbish on a page."""
    parse(document)


# Commands


def test_every_command_is_explained_in_the_order_of_the_help() -> None:
    """No command without words, and no words without a command."""
    assert [*synopses()] == [*COMMANDS]


@pytest.mark.parametrize("name", COMMANDS)
def test_synopsis_has_the_options_and_arguments_of_the_command(name: str) -> None:
    """An option that is not in the README does not exist for most people."""
    synopsis = synopses()[name]
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", synopsis)) == options(COMMANDS[name])
    outside_options = re.sub(r"\[-[a-z-].*?\]|--\S+ \S+", "", synopsis.removeprefix(name))
    arguments = [
        argument.make_metavar(click.Context(COMMANDS[name]))
        for argument in COMMANDS[name].params
        if isinstance(argument, click.Argument)
    ]
    assert outside_options.replace("...", "").split() == " ".join(arguments).replace("...", "").split()


def test_common_options_are_in_their_table() -> None:
    """They are explained once, for all commands."""
    rows = table("Commands", "Option")
    explained = {word for row in rows for word in re.findall(r"(?<!\S)--?[a-z]+", row[FIRST])}
    assert explained == COMMON | {"-h", "--help"}


def test_options_of_import_are_in_their_table() -> None:
    """It has too many for a sentence each."""
    rows = table("Commands", "Option of import")
    explained = {word for row in rows for word in re.findall(r"(?<![\w-])--[a-z-]+", row[FIRST])}
    assert explained == options(COMMANDS["import"])
    defaults = {each.opts[0]: each.default for each in COMMANDS["import"].params if isinstance(each, click.Option)}
    for row in rows:
        told = re.search(r"default (\S+)$", row[LAST])
        assert told is None or told[1] == str(defaults[row[FIRST].split()[0]])


@pytest.mark.parametrize("name", COMMANDS)
def test_choices_of_options_are_in_the_synopsis(name: str) -> None:
    """A choice has to be typed in full: it stands where the option does."""
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option) and isinstance(option.type, click.Choice):
            assert f"{option.opts[0]} {'|'.join(option.type.choices)}" in synopses()[name]


def command_lines() -> list[str]:
    """Every `policyd …` line that a reader could copy."""
    lines = [
        line.removeprefix("# ")
        for block in blocks()
        for line in block.splitlines()
        if re.match(r"(# )?policyd [a-z-]", line)
    ]
    inline = [words(each) for each in README.findall(nodes.literal) if each.astext().startswith("policyd ")]
    return list(dict.fromkeys(lines + inline))


@pytest.mark.parametrize("line", command_lines())
def test_command_line_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README says to type is understood."""
    _, *arguments = shlex.split(line)
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "import":  # its file must be there
        (tmp_path / arguments[1]).touch()
    context = click.Context(main, **main.context_settings)
    name, command, rest = main.resolve_command(context, arguments)
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
    assert command is not None
    command.make_context(name, rest, parent=context)


# The guide


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line on a database of its own, and says on stderr what a terminal would be told."""
    settings = tmp_path / "policyd.toml"
    settings.write_text('[audit]\nsyslog = "none"\n')
    monkeypatch.setenv("POLICYD_CONFIG", str(settings))
    monkeypatch.setenv("POLICYD_DATABASE", str(tmp_path / "policyd.db"))
    return lambda line: CliRunner().invoke(main, shlex.split(line))


def guide_steps() -> list[tuple[str, str]]:
    """The policyd commands of the guide, in order, each with the output shown under it."""
    steps = []
    for block in blocks(section("Ten minutes")):
        for step in re.split(r"^# ", block, flags=re.MULTILINE):
            line, _, output = step.partition("\n")
            if line.startswith("policyd "):
                steps.append((line, output.strip("\n")))
    return steps


def test_guide_does_what_it_shows(run: Any) -> None:
    """Whoever follows the guide sees, line by line, what it says."""
    steps = guide_steps()
    assert len(steps) > 8
    for line, shown in steps:
        result: Result = run(line.removeprefix("policyd ") + " -v")
        assert result.output.strip("\n") == shown, line
        assert result.exit_code == (1 if shown.startswith("REJECT") else 0), line


def test_guide_shows_the_text_that_policyd_sends() -> None:
    """The reply at the end of the guide is the one for the rule and reason before it."""
    text = reply.render_text(
        Rule.RESTRICTED_RECIPIENT, reply.DEFAULT_TEXTS[Rule.RESTRICTED_RECIPIENT], reason="internal mailbox"
    )
    status, _, rest = text.partition(" ")
    guide = "\n".join(blocks(section("Ten minutes")))
    assert f"554 {status} <bob@example.com>: Recipient address rejected: {rest}" in guide
    assert f"text={escape(text)}" in guide


def toml_blocks() -> list[str]:
    """The settings files that the README shows."""
    return [block.astext() for block in README.findall(nodes.literal_block) if "toml" in block["classes"]]


@pytest.mark.parametrize("text", toml_blocks())
def test_settings_shown_are_taken(text: str, tmp_path: Path) -> None:
    """A settings file out of the README starts the daemon."""
    file = tmp_path / "policyd.toml"
    file.write_text(text)
    assert load_settings(file) != Settings()


def test_postfix_lines_are_those_of_contrib() -> None:
    """The lines in contrib/postfix are tested with a real Postfix; those in the README are the same."""
    shown = [each for each in blocks() if "check_policy_service" in each]
    assert len(shown) == 2
    for block, file in zip(shown, ["main.cf", "master.cf"], strict=True):
        kept = [*_without_comments((ROOT / "contrib/postfix" / file).read_text())]
        wanted = [*_without_comments(block)]
        windows = [kept[start : start + len(wanted)] for start in range(len(kept) - len(wanted) + 1)]
        assert wanted in [textwrap.dedent("\n".join(window)).splitlines() for window in windows], file


def _without_comments(text: str) -> Iterator[str]:
    return (line.rstrip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


# Bulk files


def bulk_steps() -> list[tuple[str, str]]:
    """The files and the commands shown for bulk files, in order: a name or a command line, and the text under it."""
    steps = []
    for block in section("Moving in and out").findall(nodes.literal_block):
        if "console" in block["classes"]:
            for step in re.split(r"^# ", block.astext(), flags=re.MULTILINE)[1:]:
                line, _, output = step.partition("\n")
                steps.append((line, output.strip("\n")))
        elif not block.astext().startswith("$ "):
            paragraph = block.parent[block.parent.index(block) - 1]
            steps.append(([*paragraph.findall(nodes.literal)][-1].astext(), block.astext() + "\n"))
    return steps


def test_bulk_files_do_what_is_shown(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A postmaster tries these examples before the real thing."""
    monkeypatch.chdir(tmp_path)
    steps = bulk_steps()
    assert {"exchange.csv", "people.ldif", "virtual", "people.csv"} < {name for name, _ in steps}
    for name, text in steps:
        if not name.startswith("policyd "):
            Path(name).write_text(text)
            continue
        result: Result = run(name.removeprefix("policyd ") + " -v")
        assert result.output.strip("\n") == text, name
        is_refused = re.search(r"can't be undone|would remove", text)
        assert result.exit_code == (65 if "rows are wrong" in text else 1 if is_refused else 0), name


def test_moved_out_is_moved_in_again(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README promises that jsonl and csv carry everything."""
    test_bulk_files_do_what_is_shown(run, tmp_path, monkeypatch)
    exported = run("export --format csv").stdout
    for line in ["export -o all.jsonl", "export --format csv -o tables.csv"]:
        assert run(line).exit_code == 0
    for number, file in enumerate(["all.jsonl", "tables.csv"]):
        monkeypatch.setenv("POLICYD_DATABASE", str(tmp_path / f"other{number}.db"))
        assert run(f"import {file}").exit_code == 0
        assert run("export --format csv").stdout == exported


def test_formats_are_those_of_the_table() -> None:
    """What can be read can be written, and the other way round."""
    assert [row[FIRST] for row in table("Moving in and out", "Format")] == [*FORMATS]


def test_columns_of_csv_are_those_of_the_table() -> None:
    """Each column, which is a key of jsonl too, and the kinds of rows that have it."""
    rows = table("Moving in and out", "Column or key")
    assert {row[FIRST] for row in rows} == {*COLUMNS, "address"}
    assert [names(row[LAST].partition(";")[0]) for row in rows[:1]] == [[*KINDS]]
    for column, kinds, _ in rows:
        wanted = [kind for kind in KINDS if column in KEYS[kind]] or ["all"]
        assert names(kinds.replace("all", ", ".join(KINDS)) if len(wanted) == len(KINDS) else kinds) == wanted


def test_attributes_of_directories_are_those_of_the_table() -> None:
    """An attribute that isn't in the table is not read, and one that isn't read is not in the table."""
    documented = {name.lower() for row in table("Moving in and out", "Attribute") for name in names(row[FIRST])}
    assert documented == {*ACCEPTED, *REJECTED, *NAMES, *MEMBERS, *OTHERS} - {"objectclass"}


# Settings


def in_toml(value: object) -> str:
    """*value* as it would be written in the settings file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | frozenset):
        return f"[{', '.join(in_toml(str(each)) for each in sorted(value, key=str))}]"
    raise AssertionError(value)


def settings_fields() -> "dict[str, attrs.Attribute[Any]]":
    """Every setting as the README names it, but for the texts under `reply`."""
    top = {field.name: field for field in attrs.fields(Settings) if field.name not in ("audit", "reply")}
    return top | {f"audit.{field.name}": field for field in attrs.fields(AuditSettings)}


def settings_rows() -> dict[str, Row]:
    """The table of settings, by key."""
    return {key: rest for key, *rest in table("Settings", "Key")}


def test_every_setting_is_in_the_table() -> None:
    """In the order in which the code has them, the reply texts last."""
    assert [*settings_rows()] == [*settings_fields(), "reply.RULE"]


@pytest.mark.parametrize("key", settings_fields())
def test_default_is_the_one_in_the_table(key: str) -> None:
    """What holds where the file says nothing; where to listen depends on the machine."""
    field, (default, allowed) = settings_fields()[key], settings_rows()[key]
    if key == "listen":
        assert "tcp:10040:interface=127.0.0.1" in default
        return
    assert default == in_toml(field.default)
    kinds = {bool: "true or false", int: "number", str: "text", tuple: "list of texts", frozenset: "list of texts"}
    assert allowed.startswith(next(word for kind, word in kinds.items() if isinstance(field.default, kind)))
    if isinstance(field.default, StrEnum):
        assert names(allowed.partition(":")[2]) == [*type(field.default)]


def test_facilities_are_those_of_the_table() -> None:
    """local1 to local6 hide behind a word."""
    allowed = settings_rows()["audit.facility"][LAST].partition(":")[2]
    assert names(allowed.replace("local0 to local7", ", ".join(f"local{n}" for n in range(8)))) == [*FACILITIES]


def test_reply_fields_are_those_of_the_table() -> None:
    """What a text of one's own may hold."""
    assert re.findall(r"\{(\w+)\}", settings_rows()["reply.RULE"][LAST]) == [*reply.FIELDS]


def test_dotted_keys_are_tables_in_the_file() -> None:
    """`audit.decisions` is the key decisions of the table audit."""
    assert {"audit", "reply"} <= set(tomllib.loads(toml_blocks()[-1]))


# Rules and replies


def test_every_rule_is_in_the_table_in_the_order_of_judging() -> None:
    """The names are stable: logs, counters and scripts use them."""
    assert [row[1] for row in table("The rules", "Order")] == [*Rule]


def test_answers_are_those_of_the_table() -> None:
    """A rule refuses if it has a text."""
    for _, rule, _, answer in table("The rules", "Order"):
        assert answer == (f"REJECT {reply.STATUS[Rule(rule)]}" if rule in reply.DEFAULT_TEXTS else "DUNNO")


def test_reply_texts_are_those_of_the_table() -> None:
    """What senders read, unless the settings say otherwise."""
    assert table("The rules", "Rule") == [
        [rule, f"{reply.STATUS[rule]} {text}"] for rule, text in reply.DEFAULT_TEXTS.items()
    ]


def test_patterns_of_the_table_are_in_normal_form(run: Any) -> None:
    """Each form can be typed as it stands."""
    run("domain add example.com")
    for pattern, _ in table("Patterns", "Pattern"):
        assert run(f"sender block '{pattern}' --to anyone").exit_code == 0, pattern


def test_limits_are_those_of_the_readme() -> None:
    """An administrator compares them with Postfix's own."""
    text = words(section("When something fails"))
    assert f"{REQUEST_LIMIT // 1024} KiB or {ATTRIBUTES_LIMIT} attributes" in text
    assert f"{Patience().idle_seconds} s" in text
    assert f"at most {reply.TEXT_LIMIT} characters" in words(section("The rules"))


# What comes out: lists, exit statuses, the audit


@pytest.fixture
def filled(run: Any) -> Any:
    """`run`, on tables with a row each."""
    for line in [
        "domain add example.com",
        "mailbox add alice alice@example.com",
        "mailbox restrict alice --accept @example.net",
        "sender block alice --except @example.net",
    ]:
        assert run(line).exit_code == 0, line
    return run


@pytest.mark.parametrize(("command", "columns", "keys"), table("Listing formats", "Command", "Columns"))
def test_list_has_the_columns_and_keys_of_the_table(filled: Any, command: str, columns: str, keys: str) -> None:
    """Scripts rely on them, in this order."""
    lines = filled(command).stdout.splitlines()
    assert {line.count("\t") + 1 for line in lines} == {len(names(columns))}
    (first, *_) = json.loads(filled(f"{command} --json").stdout)
    assert [*first] == names(keys)
    assert columns in " ".join((COMMANDS[command].help or "").split())


@pytest.mark.parametrize(("command", "keys"), table("Listing formats", "Command", "JSON keys"))
def test_object_has_the_keys_of_the_table(
    filled: Any, command: str, keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts rely on them, in this order."""
    examples = {
        "mailbox show": "mailbox show alice",
        "address find": "address find alice@example.com",
        "check": "check --recipient alice@example.com",
        "import": "import rows.csv",
        "undo --dry-run": "undo 5 --dry-run",
    }
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("name\nalice\n")
    line = examples.get(command, command)
    assert [*json.loads(filled(f"{line} --json").stdout)] == names(keys)
    if command not in ("check", "import", "undo --dry-run"):
        assert filled(line).stdout.startswith(f"{names(keys)[0]}: ")


def test_a_change_prints_the_object_that_the_readme_describes(run: Any) -> None:
    """A script learns the changeset of what it did."""
    told = json.loads(run("domain add example.com --json").stdout)
    assert [*told] == ["changeset", "changes"]
    listed = json.loads(run("history --json").stdout)
    assert told == {"changeset": 1, "changes": listed}
    assert json.loads(run("domain set example.com --unlisted reject --json").stdout)["changeset"] is None


def test_exit_statuses_are_those_of_the_table() -> None:
    """Every class of error has its status in the table, and no status there is without use."""
    raised = {
        each.exit_status
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.PolicydError)
    }
    documented = {int(status) for status, _ in table("Listing formats", "Status")}
    assert documented == raised | {0, USAGE, DEFECT, INTERRUPTED, NO_READER}


class Lines:
    """A sink that keeps what it gets, read back from JSON."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    def send(self, _severity: int, line: str, _said_at: float = 0.0) -> bool:
        """Keep *line*."""
        self.kept.append(json.loads(line))
        return True

    def fileno(self) -> int:
        """Nothing is open."""
        return -1

    def close(self) -> None:
        """Nothing is open."""


def logged(event: str, *values: Any) -> dict[str, Any]:
    """The fields that the function of `AuditLog` for *event* writes."""
    sink = Lines()
    getattr(AuditLog(AuditSettings(format=Format.JSON), sink), event)(*values)
    return sink.kept[0]


def test_fields_of_a_decision_are_those_of_the_table() -> None:
    """In this order, `would` only in monitor mode."""
    documented = [field for field, _ in table("The audit", "Field", "Value", position=0)]
    monitored = Decision(Action.DUNNO, Rule.BLOCKED_SENDER, "5.7.1 no", is_refused=True)
    assert [*logged("decided", Request(), monitored, 0.1)] == documented
    documented.remove("would")
    assert [*logged("decided", Request(), Decision(Action.DUNNO, Rule.DEFAULT), 0.1)] == documented


def test_fields_of_a_change_are_those_of_the_table() -> None:
    """In this order."""
    documented = [field for field, _ in table("The audit", "Field", "Value", position=1)]
    assert [*logged("changed", Change(1, 0, "root", 1, "domain.add", "example.com", None, "{}"))] == documented


def test_operations_are_those_of_the_table() -> None:
    """Each kind of row that the journal can have."""
    fields = dict(table("The audit", "Field", "Value", position=1))
    documented = {*re.findall(r"[a-z]+\.[a-z]+", fields["operation"])}
    undone = {f"{noun}.undo" for noun in ("domain", "mailbox", "address", "sender")}
    assert said("put", "put_domain", "put_mailbox", "put_address", "put_blocked") - {"….undo"} | undone == documented


def test_a_bulk_change_is_logged_as_it_is_shown(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million lines would drown the mail log: an import is one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policyd.toml").write_text(f'[audit]\nsyslog = "unix:{tmp_path}/log"\n')
    name, text = bulk_steps()[0]
    Path(name).write_text(text)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind("log")
        run(f"import {name} --add-domains")
        syslog.settimeout(0)
        logged = syslog.recv(8192).decode()
        with pytest.raises(BlockingIOError):
            syslog.recv(8192)
    (shown,) = [block for block in blocks(section("The audit")) if "database.import" in block]
    assert re.sub("actor=[^,]+", "actor=root", logged).endswith(f": {shown}")


def test_escapes_are_those_of_the_table() -> None:
    """What stands in the second column is what the code writes."""
    rows = [row[LAST] for row in table("The audit", "Character")]
    assert rows[:2] == [escape("\\")[1:-1], escape('"')[1:-1]]
    assert rows[2].split()[0] == escape(", ")[1:-1].strip()
    written = [escape(each)[1:-1] for each in ("\x1b", "\u202e", "\U000e0001", "\udcff")]
    shapes = [*rows[3].replace(",", " ").split(), rows[4]]
    assert [re.sub(r"(?<=\\[xuU])[0-9a-f]+", lambda match: "H" * len(match[0]), each) for each in written] == shapes


def said(*functions: str) -> set[str]:
    """The texts that calls of these functions in the package begin with; what is filled in stands as …."""
    found = set()
    for file in sorted((ROOT / "policyd").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in functions and node.args:
                found.add(_literal(node.args[0]))
    return found - {""}


def _literal(node: ast.expr) -> str:
    """A string literal, "" for any other expression."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    if not isinstance(parts[0], ast.Constant):
        return ""
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)


def test_events_are_those_of_the_table() -> None:
    """What the daemon says of itself."""
    documented = {event.removeprefix("event=") for event, _ in table("The audit", "Event")}
    assert said("noticed") | said("announce") == documented


def test_warnings_are_those_of_the_table() -> None:
    """What an administrator may set an alarm on."""
    documented = {warning for warning, _ in table("The audit", "Warning")}
    assert said("warned") == documented - {DROPPED}
    assert DROPPED in (ROOT / "policyd/audit.py").read_text(encoding="utf-8")


# Contributors


def contributing_rows(heading: str) -> list[Row]:
    """The rows of a table of CONTRIBUTING.rst, by its first heading."""
    for each in parse("CONTRIBUTING.rst").findall(nodes.table):
        head, *rows = [[words(cell) for cell in row] for row in each.findall(nodes.row)]
        if head[FIRST] == heading:
            return rows
    raise AssertionError(heading)


def test_layout_names_every_file() -> None:
    """Where a change goes can be seen from the layout alone."""
    package = ROOT / "policyd"
    files = {str(file.relative_to(package)) for file in package.rglob("*.py")}
    assert {file for file, _ in contributing_rows("File in policyd/")} == files


def requirements() -> dict[str, list[str]]:
    """What setup.py asks for, under the heading of the table that says why."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    extras = ast.literal_eval(given["extras_require"])
    return {
        "Package": ast.literal_eval(given["install_requires"]),
        "For tests": extras["test"],
        "For fuzzing": extras["fuzz"],
    }


@pytest.mark.parametrize("heading", ["Package", "For tests", "For fuzzing"])
def test_every_dependency_has_its_reason(heading: str) -> None:
    """What is needed is said in setup.py; why, in CONTRIBUTING.rst."""
    needed = sorted(re.split(r"[<>=~]", requirement)[0] for requirement in requirements()[heading])
    assert sorted(name for name, _ in contributing_rows(heading)) == needed
