"""Prints what a command changed, lists and single objects: for people, and for scripts."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from policyd.changes import as_object, describe, value_text
from policyd.cli.terminal import echo, echo_cells, echo_json
from policyd.model import Change
from policyd.printable import printable
from policyd.settings import Settings

_BELOW = ("in_force", "blocked", "blocked_to_it")


class Call(Protocol):
    """What output has to know of the call that makes it: `policyd.cli.command.Invocation`."""

    json: bool

    @property
    def settings(self) -> Settings:
        """Those of the call."""

    def say(self, line: str) -> None:
        """Print a line for a person."""


def print_list(
    call: Call,
    objects: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    trailing: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Print *columns* of *objects*: a table for people, tab-separated lines for scripts, whole as JSON.

    *trailing* are columns at the end, each with the value that says nothing: they are printed up to the last one that
    says something of some object.
    """
    if call.json:
        echo_json(list(objects), indent=1)
        return
    if trailing:
        objects = [*objects]
        columns = [*columns, *trailing]
        while columns[-1] in trailing and all(each[columns[-1]] == trailing[columns[-1]] for each in objects):
            columns.pop()
    lines = ([_cell(each, name) for name in columns] for each in objects)
    if sys.stdout and sys.stdout.isatty():
        _print_table(lines, columns)
        return
    for cells in lines:
        echo_cells(cells)


def print_object(call: Call, value: Mapping[str, Any]) -> None:
    """Print one object: a line a field, or JSON."""
    if call.json:
        echo_json(value, indent=1)
        return
    for name in value:
        if name != "ended":
            echo(f"{name}: {_cell(value, name)}".rstrip())


def print_shown(call: Call, value: Mapping[str, Any]) -> None:
    """Print what `show` has found: for a person, what is in force and the entries about it are sentences below."""
    if call.json:
        print_object(call, value)
        return
    below = {name: value[name] for name in _BELOW if name in value}
    print_object(call, {name: each for name, each in value.items() if name not in below})
    for each in below.get("in_force", ()):
        echo(_in_force(each))
    for entry in below.get("blocked", ()):
        echo(f"blocked: may not send to {entry['to']}{_because(entry)}")
    for entry in below.get("blocked_to_it", ()):
        echo(f"blocked: {entry['sender']} may not send to it{_because(entry)}")


def print_changes(call: Call, changes: Sequence[Change], *, is_logged: bool) -> None:
    """Show what a command changed: a line a change for people, or JSON."""
    warn_of_silent_syslog(call, is_logged)
    if call.json:
        changeset = changes[0].changeset if changes else None
        echo_json({"changeset": changeset, "changes": [*map(as_object, changes)]})
        return
    for change in changes:
        call.say(describe(change))
    if not changes:
        call.say("nothing to change: it stands so already")


def warn_of_silent_syslog(call: Call, is_logged: bool) -> None:
    """Warn a person that lines of the audit are missing, unless every change *is_logged*."""
    if not is_logged:
        call.say(f"policyd: warning: {call.settings.audit.syslog} took no line; the journal has the change")


def _cell(value: Mapping[str, Any], name: str) -> str:
    """The field *name* of *value* as text; an end that has passed is told as one."""
    text = value_text(name, value[name])
    return f"{text} (ended)" if name == "until" and value.get("ended") else text


def _in_force(each: Mapping[str, Any]) -> str:
    """Who may send, and who says so, in a line."""
    where = f" in {each['domain']}" if each["domain"] else ""
    by = f", by {each['by']}" if each["by"] else ""
    accept = f", accept {value_text('accept', each['accept'])}" if each["accept"] else ""
    return f"in force{where}: receive {each['receive']}{by}{accept}"


def _because(entry: Mapping[str, Any]) -> str:
    exceptions = [*entry["except"], *entry["except_sender"]]
    but = f" but for {value_text('except', exceptions)}" if exceptions else ""
    ended = ", ended" if entry.get("ended") else ""
    return f"{but} (entry {entry['id']}{ended}{': ' if entry['reason'] else ''}{entry['reason']})"


def _print_table(lines: Iterable[Sequence[str]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for cells in lines:
        table.add_row(*(Text(printable(each)) for each in cells))
    Console(no_color="NO_COLOR" in os.environ, highlight=False).print(table)
