"""`policyd undo`: changes back what a changeset changed."""

import os
import time
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import click

from policyd.changes import as_object
from policyd.cli.command import Command, Invocation, actor, invocation
from policyd.cli.output import print_changes, print_planned, warn_of_silent_syslog
from policyd.cli.terminal import echo, echo_json
from policyd.cli.types import Number
from policyd.model import Change

if TYPE_CHECKING:
    from policyd.admin.session import Changing
    from policyd.store.spool import Spool


@click.command("undo", cls=Command)
@click.argument("changeset", type=Number(1, 2**63 - 1))
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def command(changeset: int, dry_run: bool) -> None:
    """Undo everything one command changed, as a new changeset; `policyd history` has the numbers.

    Refused where later changes touched the same objects.

    \b
    Example: policyd undo 42 --dry-run
    """
    from policyd.admin.undoing import LOGGED_SINGLY, undo
    from policyd.store.spool import Spool

    # Undo it in a changeset of its own; a dry run keeps nothing of that.
    call = invocation()
    who, now = actor(os.environ), int(time.time())
    if dry_run:
        with closing(Spool[Change]()) as planned:
            _show_dry_run(call, undo(call.session, changeset, who, now, is_dry_run=True, spool=planned), planned)
        return
    made = undo(call.session, changeset, who, now)

    # Show each change, of a large changeset only the number.
    if made.count > LOGGED_SINGLY:
        warn_of_silent_syslog(call, made.is_logged)
        call.say(f"changeset {changeset} is undone: {made.count} changes; changeset {made.changeset}")
        if call.json:
            _print_json(made, made.changes[:LOGGED_SINGLY])
    else:
        print_changes(call, made.changes, is_logged=made.is_logged)


def _show_dry_run(call: Invocation, made: "Changing", planned: "Spool[Change]") -> None:
    """Show what an undo would change, or the beginning of it."""
    from policyd.admin.undoing import LOGGED_SINGLY

    if call.json:
        _print_json(made, islice(planned, None if call.verbose else LOGGED_SINGLY))
        return
    print_planned(call, planned, made.count, LOGGED_SINGLY)
    echo(f"{made.count} changes; nothing was changed (--dry-run)")


def _print_json(made: "Changing", changes: Iterable[Change]) -> None:
    """One object as of every command that changes something, and how many changes there are beyond those shown."""
    echo_json({"changeset": made.changeset, "changes": [*map(as_object, changes)], "count": made.count})
