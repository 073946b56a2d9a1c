"""`policyd address`: gives addresses to mailboxes, finds and lists them."""

import click

from policyd.cli.command import Group, invocation
from policyd.cli.narrowing import narrowing
from policyd.cli.output import print_list, print_object
from policyd.cli.types import ADDRESS, INTERNAL_ADDRESS, MAILBOX, NEW_ADDRESS, as_stored


@click.group("address", cls=Group)
def command() -> None:
    """The addresses of mailboxes."""


@command.command("add")
@click.argument("mailbox", type=MAILBOX)
@click.argument("addresses", metavar="ADDRESS...", type=NEW_ADDRESS, nargs=-1, required=True)
def add(mailbox: str, addresses: tuple[str, ...]) -> None:
    """Give a mailbox addresses.

    \b
    Example: policyd address add alice a.smith@example.com
    """
    with invocation().changing() as edit:
        for address in dict.fromkeys(addresses):
            edit.add_address(mailbox, address)


@command.command("remove")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True, shell_complete=ADDRESS.shell_complete)
def remove(addresses: tuple[str, ...]) -> None:
    """Take addresses from their mailboxes: mail from outside reaches them no more.

    \b
    Example: policyd address remove alice@example.com
    """
    from policyd.admin.advice import address_advice

    call = invocation()
    with call.changing() as edit:
        gone = [*dict.fromkeys(as_stored(each, ADDRESS, edit.queries.address) for each in addresses)]
        holders = {each.mailbox_id: each.mailbox for each in map(edit.queries.address, gone) if each}
        before = {number: edit.queries.addresses_of(number) for number in holders}
        for address in gone:
            edit.remove_address(address)
        told = [
            line
            for number, name in holders.items()
            for line in address_advice(name, before[number], edit.queries.addresses_of(number))
        ]
    for line in told:
        call.say(line)


@command.command("find")
@click.argument("address", type=INTERNAL_ADDRESS)
def find(address: str) -> None:
    """Say which mailbox an address leads to, and how: exact, extension, alias domain, BATV, IMCEA or route.

    \b
    Example: policyd address find alice+news@example.com
    """
    from policyd.admin.asking import find_address

    call = invocation()
    print_object(call, find_address(call.session.database, call.settings, address))


@command.command("list")
@narrowing("Only the addresses in this domain.")
def list_(text: str, domain: str | None, limit: int | None) -> None:
    """List the addresses: address, mailbox, is_primary.

    Only those with a text in the address or the mailbox's name, or that are like a glob.

    \b
    Example: policyd address list --domain example.com
    """
    from policyd.admin.showing import list_addresses

    print_list(
        invocation(),
        lambda queries: list_addresses(queries, domain or "", text),
        lambda _: ("address", "mailbox", "is_primary"),
        limit=limit,
    )
