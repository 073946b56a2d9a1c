"""`policyd history`: lists the changes in the journal."""

import click

from policyd.changes import as_object, difference
from policyd.cli.command import Command, invocation
from policyd.cli.output import print_list
from policyd.cli.types import SENDER, SINCE
from policyd.model import Party

_COLUMNS = ("id", "changeset", "at", "actor", "operation", "object", "change")


@click.command("history", cls=Command)
@click.option(
    "--object",
    "of_object",
    metavar="O",
    type=SENDER,
    help="Only changes to this mailbox, group:NAME, address, domain or sender.",
)
@click.option("--since", metavar="WHEN", type=SINCE, default=0, help="Only changes since then: a date, -30d, -12h.")
@click.option("--limit", metavar="N", type=click.IntRange(1, 2**31), help="Only the last N changes.")
def command(of_object: Party | None, since: int, limit: int | None) -> None:
    """Say who changed what and when, oldest first: id, changeset, at, actor, operation, object, change.

    \b
    Example: policyd history --object alice --since -7d
    """
    call = invocation()
    with call.reading() as queries:
        changes = queries.changes(of_object=str(of_object or ""), since=since, limit=limit)
    if call.json:
        print_list(call, map(as_object, changes), _COLUMNS)
        return
    print_list(call, ({**as_object(change), "change": difference(change)} for change in changes), _COLUMNS)
