"""The commands in the pages are those of the program."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from docutils import nodes  # type: ignore[import-untyped]

from policyd.cli import main
from tests.docs.pages import DOCUMENTS, ROOT, blocks, page, parse, section, titles, words


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
NAMES = {*COMMANDS} | {name.split()[0] for name in COMMANDS}  # a sentence may speak of a command or a noun


def test_every_command_is_explained_in_the_order_of_the_help() -> None:
    """No command without words, and no words without a command."""
    assert [title for title in titles(page("commands")) if title in COMMANDS] == [*COMMANDS]


def test_every_command_has_its_synopsis_from_the_program() -> None:
    """An option that is not in the pages does not exist for most people."""
    text = (ROOT / "docs/commands.rst").read_text(encoding="utf-8")
    headed = re.findall(r"^([a-z ]+)\n~+\n\n\.\. from click: (.+)$", text, re.MULTILINE)
    assert headed == [(name, name) for name in COMMANDS]
    assert ".. from click: common options\n" in text


def test_what_the_program_says_of_itself_stands_in_the_page() -> None:
    """It is written by docs/generate.py, and committed for readers without Sphinx."""
    ended = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)


def test_a_page_that_is_behind_the_program_is_told_apart(tmp_path: Path) -> None:
    """Whoever adds an option learns what to type."""
    text = (ROOT / "docs/commands.rst").read_text(encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/commands.rst").write_text(text.replace("[--reason TEXT]", "[--because TEXT]"), encoding="utf-8")
    for name in ("generate.py", "settings.rst", "troubleshooting.rst", "monitoring.rst"):
        (tmp_path / "docs" / name).symlink_to(ROOT / "docs" / name)
    command = [sys.executable, "docs/generate.py"]
    ended = subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert re.search(r"^\+ .*\[--reason TEXT\]", ended.stdout, re.MULTILINE)
    assert "type .venv/bin/python docs/generate.py" in ended.stderr
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "docs/commands.rst").read_text(encoding="utf-8") == text


def test_help_is_among_the_common_options() -> None:
    """It is click's own, and so not among those that every command of ours adds."""
    terms = [words(each) for each in section(page("commands"), "How a command line").findall(nodes.term)]
    assert terms[-1] == "-h, --help"


def command_lines() -> list[str]:
    """Every `policyd …` line that a reader could copy."""
    lines = []
    for document in DOCUMENTS:
        for block in blocks(parse(document)):
            lines += [line.removeprefix("# ") for line in block.splitlines() if re.match(r"(# )?policyd [a-z-]", line)]
        lines += [
            line
            for each in parse(document).findall(nodes.literal)
            if (line := words(each)).startswith("policyd ") and line.removeprefix("policyd ") not in NAMES
        ]
    not_typed = synopses()
    copied = [line.partition(" | ")[0] for line in lines if line not in not_typed]
    return list(dict.fromkeys(copied))


def synopses() -> set[str]:
    """The lines that show how a command is typed: they are in the program's own form, with brackets."""
    sections = [each for each in page("commands").findall(nodes.section) if each[0].astext() in COMMANDS]
    return {line for each in sections if len(blocks(each)) > 1 for line in blocks(each)[0].splitlines()}


def test_command_lines_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pages say to type is understood."""
    monkeypatch.chdir(tmp_path)
    refused = {}
    for line in command_lines():
        try:
            read_command_line(line)
        except click.ClickException as error:
            refused[line] = error.format_message()
    assert refused == {}


def read_command_line(line: str) -> None:
    """Have click read *line*; what it would read is here."""
    _, *arguments = shlex.split(line)
    if arguments[0] in ("import", "batch"):  # its file must be there
        Path(arguments[1]).touch()
    if arguments[0] in ("report", "why"):
        arguments = [each.removeprefix("/var/log/") for each in arguments]
        Path("mail.log").touch()
    context = click.Context(main, **main.context_settings)
    name, command, rest = main.resolve_command(context, arguments)
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
    assert command is not None
    command.make_context(name, rest, parent=context)
