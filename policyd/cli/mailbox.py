"""`policyd mailbox`: adds, shows, restricts and removes mailboxes."""

from collections.abc import Mapping
from typing import Any

import click

from policyd.admin.showing import list_mailboxes, show_mailbox
from policyd.cli.command import Group, invocation, need_consent
from policyd.cli.output import print_list, print_object
from policyd.cli.terminal import echo
from policyd.cli.types import ADDRESS, NAME, PARTY, TEXT, UNTIL
from policyd.model import Party, Receive
from policyd.store.edit import RestrictionTerms, need_mailbox

_COLUMNS = ("name", "receive", "until", "addresses", "accept", "reason")


@click.group("mailbox", cls=Group)
def command() -> None:
    """Mailboxes, and who may send to them."""


@command.command("add")
@click.argument("name", type=NAME)
@click.argument("addresses", metavar="[ADDRESS]...", type=ADDRESS, nargs=-1)
@click.option("--comment", type=TEXT, default="", help="A note for administrators.")
def add(name: str, addresses: tuple[str, ...], comment: str) -> None:
    """Add a mailbox, with its addresses; the first is the primary one.

    \b
    Example: policyd mailbox add alice alice@example.com a.smith@example.com
    """
    with invocation().changing(may_create=True) as edit:
        edit.add_mailbox(name, dict.fromkeys(addresses), comment)


@command.command("remove")
@click.argument("name", type=NAME)
@click.option("--yes", is_flag=True, help="Also where several addresses or blocks go with it.")
def remove(name: str, yes: bool) -> None:
    """Remove a mailbox, its addresses, and its entries among the blocked senders.

    \b
    Example: policyd mailbox remove alice
    """
    # Ask first where more than one thing goes with it.
    call = invocation()
    with call.reading() as queries:
        mailbox = need_mailbox(queries, name)
        addresses, blocks = len(queries.addresses_of(mailbox.id)), len(queries.entries_about(mailbox.party))
    if addresses + blocks > 1:
        what = f"{addresses} addresses and {blocks} blocked senders would be removed with {mailbox.name}."
        need_consent(what, is_given=yes)

    with call.changing() as edit:
        edit.remove_mailbox(name)


@command.command("rename")
@click.argument("name", type=NAME)
@click.argument("new", type=NAME)
def rename(name: str, new: str) -> None:
    """Give a mailbox another name; addresses, restriction and blocks stay.

    \b
    Example: policyd mailbox rename alice alice.smith
    """
    with invocation().changing() as edit:
        edit.rename_mailbox(name, new)


@command.command("show")
@click.argument("name", type=NAME)
def show(name: str) -> None:
    """Show a mailbox: its addresses, who may send to it, and its blocks.

    \b
    Example: policyd mailbox show alice
    """
    # Read it, and what blocks it or is blocked to it.
    call = invocation()
    with call.reading() as queries:
        shown = show_mailbox(queries, name)
    if call.json:
        print_object(call, shown)
        return

    # For a person, the entries about it are sentences below it.
    blocked, kept_out = shown.pop("blocked"), shown.pop("blocked_to_it")
    print_object(call, shown)
    for entry in blocked:
        echo(f"blocked: may not send to {entry['to']}{_because(entry)}")
    for entry in kept_out:
        echo(f"blocked: {entry['sender']} may not send to it{_because(entry)}")


@command.command("list")
def list_() -> None:
    """List the mailboxes: name, receive, until, addresses, accept, reason.

    \b
    Example: policyd mailbox list | cut -f 1
    """
    with invocation().reading() as queries:
        mailboxes = list_mailboxes(queries)
    print_list(invocation(), mailboxes, _COLUMNS)


@command.command("restrict")
@click.argument("names", metavar="NAME...", type=NAME, nargs=-1, required=True)
@click.option(
    "--receive",
    type=click.Choice([each.value for each in Receive if each.is_restriction]),
    help="Who may still send to it.  [default: insiders, or as it is]",
)
@click.option(
    "--accept",
    "accepted",
    metavar="SENDER",
    type=PARTY,
    multiple=True,
    help="Who may all the same. In a foreign domain that is what MAIL FROM says, and can be forged.",
)
@click.option("--reason", type=TEXT, help="For the sender to read in the bounce.")
@click.option("--until", metavar="WHEN", type=UNTIL, help="When it ends: a date, +30d, never.")
def restrict(
    names: tuple[str, ...],
    receive: str | None,
    accepted: tuple[Party, ...],
    reason: str | None,
    until: int | None,
) -> None:
    """Let only insiders, or nobody, send to mailboxes. Done again, it changes what is given.

    \b
    Example: policyd mailbox restrict alice --accept @partner.example --reason "internal mailbox"
    """
    terms = RestrictionTerms(
        receive=Receive(receive) if receive else None,
        accepted=frozenset(accepted) if accepted else None,
        reason=reason,
        until=until,
    )
    with invocation().changing() as edit:
        for name in names:
            edit.restrict(edit.mailbox(name), terms)


@command.command("lift")
@click.argument("names", metavar="NAME...", type=NAME, nargs=-1, required=True)
def lift(names: tuple[str, ...]) -> None:
    """Let anyone send to mailboxes again; reason, end and accepted senders go too.

    \b
    Example: policyd mailbox lift alice
    """
    with invocation().changing() as edit:
        for name in names:
            edit.lift(edit.mailbox(name))


@command.command("accept")
@click.argument("name", type=NAME)
@click.argument("senders", metavar="SENDER...", type=PARTY, nargs=-1, required=True)
def accept(name: str, senders: tuple[Party, ...]) -> None:
    """Let some senders send to a restricted mailbox all the same.

    A sender in a foreign domain is what MAIL FROM says, and can be forged.

    \b
    Example: policyd mailbox accept alice @partner.example
    """
    with invocation().changing() as edit:
        edit.accept(edit.mailbox(name), senders)


@command.command("unaccept")
@click.argument("name", type=NAME)
@click.argument("senders", metavar="SENDER...", type=PARTY, nargs=-1, required=True)
def unaccept(name: str, senders: tuple[Party, ...]) -> None:
    """Take senders from those that a restricted mailbox accepts.

    \b
    Example: policyd mailbox unaccept alice @partner.example
    """
    with invocation().changing() as edit:
        edit.unaccept(edit.mailbox(name), senders)


def _because(entry: Mapping[str, Any]) -> str:
    return f" (entry {entry['id']}{': ' if entry['reason'] else ''}{entry['reason']})"
