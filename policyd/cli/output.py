"""Prints lists, single objects and changes, for people and for scripts."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from policyd.cli.terminal import echo, echo_cells, echo_json
from policyd.model import Change, party_text
from policyd.printable import printable
from policyd.settings import Settings
from policyd.timestamps import show_local

_TIMES = frozenset({"until", "at", "created_at"})
_NOUNS = {"sender": "blocked sender"}
_NOT_NEWS = frozenset({"id", "name", "address", "mailbox_id", "sender", "created_at", "created_by"})


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
    lines = ([cell(name, each[name]) for name in columns] for each in objects)
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
        echo(f"{name}: {cell(name, each)}".rstrip())


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


def as_object(change: Change) -> dict[str, Any]:
    """A change for `--json`: `before` and `after` are objects, or null."""
    return {
        "id": change.id,
        "at": change.at,
        "actor": change.actor,
        "changeset": change.changeset,
        "operation": change.operation,
        "object": change.object,
        "before": change.before and json.loads(change.before),
        "after": change.after and json.loads(change.after),
        "digest": change.digest,
    }


def describe(change: Change) -> str:
    """A change in words: the object, and what is different now."""
    noun = change.operation.partition(".")[0]
    before = json.loads(change.before) if change.before else {}
    after = json.loads(change.after) if change.after else {}
    return f"{_NOUNS.get(noun, noun)} {change.object}{_to(before or after)}: {difference(before, after)}"


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What is different in *after*: `added`, `removed`, or each field's old and new value."""
    if not after:
        return "removed"
    if not before:
        # Of a domain, who may send is news only where somebody may not.
        usual = {"to"} | ({"receive"} if "unlisted" in after and after.get("receive") == "anyone" else set())
        facts = [
            f"{key} {_quoted(key, value)}" for key, value in after.items() if value and key not in _NOT_NEWS | usual
        ]
        return f"added{': ' if facts else ''}{', '.join(facts)}"
    changed = [key for key in after if after[key] != before.get(key)]
    return ", ".join(f"{key} {_quoted(key, before.get(key))} -> {_quoted(key, after[key])}" for key in changed)


def cell(name: str, value: Any) -> str:
    """A value as text: times in local ISO form, lists with blanks between."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in _TIMES:
        return show_local(value)
    if isinstance(value, Mapping):
        return party_text(value)
    if isinstance(value, (list, tuple)):
        return " ".join(map(party_text, value))
    return str(value)


def _to(entry: Mapping[str, Any]) -> str:
    return f" to {party_text(entry['to'])}" if "to" in entry else ""


def _quoted(name: str, value: Any) -> str:
    text = cell(name, value)
    if name in _TIMES:
        return text or "never"
    return f'"{text}"' if not text or " " in text else text


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
