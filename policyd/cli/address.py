"""`policyd address`: gives addresses to mailboxes, finds and lists them."""

import click

from policyd.admin.asking import find_address
from policyd.admin.showing import list_addresses
from policyd.cli.command import Group, invocation
from policyd.cli.output import print_list, print_object
from policyd.cli.types import ADDRESS, DOMAIN, INTERNAL_ADDRESS, NAME, as_stored


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
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
def remove(addresses: tuple[str, ...]) -> None:
    """Take addresses from their mailboxes: mail from outside reaches them no more.

    \b
    Example: policyd address remove alice@example.com
    """
    with invocation().changing() as edit:
        for address in dict.fromkeys(as_stored(each, ADDRESS, edit.queries.address) for each in addresses):
            edit.remove_address(address)


@command.command("find")
@click.argument("address", type=INTERNAL_ADDRESS)
def find(address: str) -> None:
    """Say which mailbox an address leads to, and how: exact, extension, alias domain, BATV, IMCEA or route.

    \b
    Example: policyd address find alice+news@example.com
    """
    call = invocation()
    print_object(call, find_address(call.session.database, call.settings, address))


@command.command("list")
@click.option("--domain", type=DOMAIN, help="Only the addresses in this domain.")
def list_(domain: str | None) -> None:
    """List the addresses: address, mailbox, is_primary.

    \b
    Example: policyd address list --domain example.com
    """
    with invocation().reading() as queries:
        print_list(invocation(), list_addresses(queries, domain or ""), ("address", "mailbox", "is_primary"))
