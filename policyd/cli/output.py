"""Prints what a command changed, lists and single objects: for people, and for scripts."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import click

from policyd.changes import as_object, describe, value_text
from policyd.cli.terminal import echo, echo_cells, echo_json, echo_json_array
from policyd.model import Change
from policyd.printable import printable

if TYPE_CHECKING:
    from policyd.settings import Settings
    from policyd.store.queries import Queries

PLANNED = 30  # changes that a dry run shows: about a screen
_BELOW = ("in_force", "blocked", "blocked_to_it")
# Columns of lists and of sentences; a name, an address or a time is read as one.
_WRAPPED = frozenset({"addresses", "accept", "members", "except", "except_sender", "reason", "comment", "change"})


class Call(Protocol):
    """What output has to know of the call that makes it: `policyd.cli.command.Invocation`."""

    json: bool
    verbose: bool

    @property
    def settings(self) -> "Settings":
        """Those of the call."""

    def say(self, line: str) -> None:
        """Print a line for a person."""

    def reading(self) -> "AbstractContextManager[Queries]":
        """One state of the tables."""


def print_list(
    call: Call,
    read: "Callable[[Queries], Iterable[Mapping[str, Any]]]",
    columns: "Callable[[Queries], Sequence[str]]",
    *,
    limit: int | None = None,
) -> None:
    """Print *columns* of the objects *read*: a table for people, tab-separated lines for scripts, all fields as JSON.

    Each is printed as soon as it is read, but for those of a table. Of more than *limit* objects the first are printed,
    and that is said.
    """
    try:
        with call.reading() as queries:
            objects = _limited(call, read(queries), limit)
            if call.json:
                echo_json_array(objects, indent=1)
                return
            names = columns(queries)
            lines = ([printable(_cell(each, name)) for name in names] for each in objects)
            if not (sys.stdout and sys.stdout.isatty()):
                for cells in lines:
                    echo_cells(cells)
                return
            rows = [*lines]

        # A person takes his time: no state of the tables is kept meanwhile.
        _print_table(rows, names)
    except KeyboardInterrupt:  # whoever has seen enough needs to be told nothing
        sys.exit(130)


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


def print_planned(call: Call, changes: Iterable[Change], count: int, shown: int = PLANNED) -> None:
    """Print those of *count* *changes* that a dry run would have made: *shown* of them, with -v all."""
    for change in changes if call.verbose else islice(changes, shown):
        echo(describe(change))
    if count > shown and not call.verbose:
        echo(f"and {count - shown} more; -v shows all of them", err=True)


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


def _limited(call: Call, objects: Iterable[Mapping[str, Any]], limit: int | None) -> Iterable[Mapping[str, Any]]:
    """The first *limit* of *objects*; if there are more, a person is told."""
    if limit is None:
        return objects
    some = [*islice(objects, limit + 1)]
    if len(some) > limit:
        call.say(f"there are more than {limit}; without --limit all are listed")
    return some[:limit]


def _print_table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    import shutil  # what a terminal needs, a script does not

    from policyd.cli.pager import find_pager, show_lines
    from policyd.cli.table import table

    pager = find_pager(os.environ)
    is_plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not (pager is None or pager.shows_bold)
    width = shutil.get_terminal_size().columns
    show_lines(table(rows, columns, width, wrapped=_WRAPPED, emphasize=str if is_plain else _bold), pager)


def _bold(text: str) -> str:
    return click.style(text, bold=True)
