"""Prints what a command changed, lists and single objects: for people, and for scripts."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from policyd.changes import as_object, describe, value_text
from policyd.cli.terminal import echo, echo_cells, echo_json
from policyd.model import Change
from policyd.printable import printable
from policyd.settings import Settings


class Call(Protocol):
    """What output has to know of the call that makes it: `policyd.cli.command.Invocation`."""

    json: bool

    @property
    def settings(self) -> Settings:
        """Those of the call."""

    def say(self, line: str) -> None:
        """Print a line for a person."""


def print_list(call: Call, objects: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print *columns* of *objects*: a table for people, tab-separated lines for scripts, whole as JSON."""
    if call.json:
        echo_json(list(objects), indent=1)
        return
    lines = ([value_text(name, each[name]) for name in columns] for each in objects)
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
    for name, each in value.items():
        echo(f"{name}: {value_text(name, each)}".rstrip())


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
