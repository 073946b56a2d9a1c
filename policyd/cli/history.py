"""`policyd history`: lists the changes in the journal."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from policyd.changes import as_object, difference, whom_it_is_to
from policyd.cli.command import Command, invocation
from policyd.cli.narrowing import domain_option, text_argument
from policyd.cli.output import print_list
from policyd.cli.types import SENDER, SINCE, Number
from policyd.model import Change, Party

if TYPE_CHECKING:
    from policyd.store.queries import Queries

_COLUMNS = ("id", "changeset", "at", "actor", "operation", "object", "change")


@click.command("history", cls=Command)
@text_argument
@click.option(
    "--object",
    "of_object",
    metavar="O",
    type=SENDER,
    help="Only changes to this mailbox, group:NAME, address, domain or sender.",
)
@click.option("--since", metavar="WHEN", type=SINCE, default=0, help="Only changes since then: a date, -30d, -12h.")
@domain_option("Only changes to this domain, and to addresses and patterns in it.")
@click.option("--limit", metavar="N", type=Number(1, 2**31), help="Only the last N changes.")
def command(text: str, of_object: Party | None, since: int, domain: str | None, limit: int | None) -> None:
    """Say who changed what and when, oldest first: id, changeset, at, actor, operation, object, change.

    Only changes with a text in the object, or in whom a blocked sender may not write to, or that are like a glob.

    \b
    Example: policyd history --object alice --since -7d
    """
    from policyd.admin.history import list_changes

    call = invocation()

    def read(queries: "Queries") -> Iterator[Mapping[str, Any]]:
        for each in list_changes(queries, str(of_object or ""), since, text, domain or "", limit):
            yield as_object(each) | ({} if call.json else {"change": _in_words(each)})

    print_list(call, read, lambda _: _COLUMNS)


def _in_words(change: Change) -> str:
    """What is different since, behind whom a blocked sender may not write to, which its object does not say."""
    to = whom_it_is_to(change)
    return f"{f'to {to}: ' if to else ''}{difference(change)}"
