"""`policyd undo`: what a changeset changed, changed back."""

import json
import os
import time
from contextlib import suppress

import click

from policyd.cli.command import Command, Invocation, actor, invocation
from policyd.cli.output import as_object, describe, log_changes, tell_changes
from policyd.model import Change
from policyd.store.database import changing, driver_connection
from policyd.store.journal import Journal
from policyd.store.undo import undo_changeset
from policyd.store.writer import Writer

_TOLD = 1000  # changes; of a larger changeset only the number is told and logged


class _LeaveAsItWasError(Exception):
    """Ends the transaction without keeping anything."""


@click.command("undo", cls=Command)
@click.argument("changeset", type=click.IntRange(1, 2**63 - 1))
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def command(changeset: int, dry_run: bool) -> None:
    """Undo everything one command changed, as a new changeset; `policyd history` has the numbers.

    Refused where later changes touched the same objects.

    \b
    Example: policyd undo 42 --dry-run
    """
    call = invocation()
    who, now, told, count = actor(os.environ), int(time.time()), list[Change](), 0

    def tell(change: Change) -> None:
        if len(told) <= _TOLD:
            told.append(change)

    with suppress(_LeaveAsItWasError), changing(call.database_path) as connection:
        driver = driver_connection(connection)
        journal = Journal(driver, who, now, verb="undo", tell=tell)
        undo_changeset(driver, Writer(driver, journal), changeset)
        count = journal.count
        if dry_run:
            raise _LeaveAsItWasError
    if dry_run:
        _tell_dry_run(call, told, count)
    elif count > _TOLD:
        log_changes(call, who, told[0].changeset, "database.undo", f"changeset {changeset}", count)
        call.say(f"changeset {changeset} is undone: {count} changes; changeset {told[0].changeset}")
        if call.json:
            _print_json(told[0].changeset, told, count)
    else:
        tell_changes(call, told)


def _tell_dry_run(call: Invocation, told: list[Change], count: int) -> None:
    """Show what an undo would change, or the beginning of it."""
    if call.json:
        _print_json(None, told, count)
        return
    for change in told[:_TOLD]:
        click.echo(describe(change))
    click.echo(f"{count} changes; nothing was changed (--dry-run)")


def _print_json(changeset: int | None, told: list[Change], count: int) -> None:
    """One object as of every command that changes something, and how many changes there are beyond those shown."""
    changes = [*map(as_object, told[:_TOLD])]
    click.echo(json.dumps({"changeset": changeset, "changes": changes, "count": count}, ensure_ascii=False))
