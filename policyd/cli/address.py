"""`policyd address`: gives addresses to mailboxes, finds and lists them."""

from shlex import quote

import click

from policyd.cli.command import Group, invocation
from policyd.cli.output import print_list, print_object
from policyd.cli.types import ADDRESS, DOMAIN, INTERNAL_ADDRESS, NAME
from policyd.decide import Decider
from policyd.errors import NotManagedError, RefusedError
from policyd.store.edit import need_managed
from policyd.store.journal import shown
from policyd.store.lookup import looking


@click.group("address", cls=Group)
def command() -> None:
    """The addresses of mailboxes."""


@command.command("add")
@click.argument("mailbox", type=NAME)
@click.argument("addresses", metavar="ADDRESS...", type=ADDRESS, nargs=-1, required=True)
def add(mailbox: str, addresses: tuple[str, ...]) -> None:
    """Give a mailbox addresses.

    \b
    Example: policyd address add alice a.smith@example.com
    """
    with invocation().changing() as edit:
        for address in dict.fromkeys(addresses):
            edit.add_address(mailbox, address)


@command.command("remove")
@click.argument("addresses", metavar="ADDRESS...", type=ADDRESS, nargs=-1, required=True)
def remove(addresses: tuple[str, ...]) -> None:
    """Take addresses from their mailboxes: mail from outside reaches them no more.

    \b
    Example: policyd address remove alice@example.com
    """
    with invocation().changing() as edit:
        for address in dict.fromkeys(addresses):
            edit.remove_address(address)


@command.command("find")
@click.argument("address", type=INTERNAL_ADDRESS)
def find(address: str) -> None:
    """Say which mailbox an address leads to, and how: exact, extension, alias domain, BATV, IMCEA or route.

    \b
    Example: policyd address find alice+news@example.com
    """
    # Find it as the daemon does.
    call = invocation()
    with looking(call.store) as lookup:
        found = Decider(call.settings, lookup).find_recipient(address)

    # Say what to do where it leads nowhere.
    written = found.addresses[0]
    if found.domain is None or found.leads_outside:
        raise NotManagedError(str(written), written.domain)
    if found.mailbox is None:
        raise RefusedError(
            f"{written} leads to no mailbox; to give it to one: policyd address add MAILBOX {quote(str(written))}"
        )
    print_object(call, {"address": str(written), "mailbox": found.mailbox.name, "how": found.how})


@command.command("list")
@click.option("--domain", type=DOMAIN, help="Only the addresses in this domain.")
def list_(domain: str | None) -> None:
    """List the addresses: address, mailbox, is_primary.

    \b
    Example: policyd address list --domain example.com
    """
    with invocation().reading() as queries:
        if domain:
            need_managed(queries, "no addresses", domain)
        print_list(invocation(), map(shown, queries.addresses(domain or "")), ("address", "mailbox", "is_primary"))
