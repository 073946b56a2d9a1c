"""`policyd mailbox`: adds, shows, restricts and removes mailboxes."""

import click

from policyd.cli.command import Group, invocation, need_consent
from policyd.cli.narrowing import narrowing
from policyd.cli.output import print_list, print_shown
from policyd.cli.restriction import (
    restriction_options,
    restriction_terms,
    senders_argument,
    warn_of_a_reason_that_is_cut,
)
from policyd.cli.types import MAILBOX, NAME, NEW_ADDRESS, NEW_MAILBOX, NEW_NAME, TEXT, UNTIL
from policyd.model import Party, Rule

_COLUMNS = ("name", "receive", "until", "addresses", "accept", "reason")


@click.group("mailbox", cls=Group)
def command() -> None:
    """Mailboxes, and who may send to them."""


@command.command("add")
@click.argument("name", type=NEW_MAILBOX)
@click.argument("addresses", metavar="[ADDRESS]...", type=NEW_ADDRESS, nargs=-1)
@click.option("--comment", type=TEXT, default="", help="A note for administrators.")
def add(name: str, addresses: tuple[str, ...], comment: str) -> None:
    """Add a mailbox, with its addresses; the first is the primary one.

    \b
    Example: policyd mailbox add alice alice@example.com a.smith@example.com
    """
    with invocation().changing(may_create=True) as edit:
        edit.add_mailbox(name, dict.fromkeys(addresses), comment)


@command.command("set")
@click.argument("name", type=MAILBOX)
@click.option("--comment", type=TEXT, required=True, help="A note for administrators.")
def set_(name: str, comment: str) -> None:
    """Change the note at a mailbox.

    \b
    Example: policyd mailbox set alice --comment "on leave until May"
    """
    with invocation().changing() as edit:
        edit.set_mailbox(edit.mailbox(name), comment)


@command.command("remove")
@click.argument("name", type=NAME)
@click.option("--yes", is_flag=True, help="Also where more than one thing goes with it.")
def remove(name: str, yes: bool) -> None:
    """Remove a mailbox, its addresses, its entries among the blocked senders, and all that refers to it.

    \b
    Example: policyd mailbox remove alice
    """
    from policyd.admin.advice import removal_question, what_goes
    from policyd.store.edit import need_mailbox

    # Ask first where more than one thing goes with it.
    call = invocation()
    with call.reading() as queries:
        mailbox = need_mailbox(queries, name)
        going, question = what_goes(queries, mailbox), removal_question(queries, mailbox)
    if len(going) > 1:
        need_consent(question, is_given=yes, listed=going)

    with call.changing() as edit:
        edit.remove_mailbox(name)


@command.command("rename")
@click.argument("name", type=NAME)
@click.argument("new", type=NEW_NAME)
def rename(name: str, new: str) -> None:
    """Give a mailbox another name; addresses, restriction and blocks stay.

    \b
    Example: policyd mailbox rename alice alice.smith
    """
    with invocation().changing() as edit:
        edit.rename_mailbox(name, new)


@command.command("show")
@click.argument("name", type=MAILBOX)
def show(name: str) -> None:
    """Show a mailbox: its addresses and groups, who may send to it and who says so, and its blocks.

    \b
    Example: policyd mailbox show alice
    """
    from policyd.admin.showing import show_mailbox

    call = invocation()
    with call.reading() as queries:
        found = show_mailbox(queries, name, call.now)
    print_shown(call, found)


@command.command("list")
@narrowing("Only mailboxes with an address in this domain.")
def list_(text: str, domain: str | None, limit: int | None) -> None:
    """List the mailboxes: name, receive, until, addresses, accept, reason, comment.

    Only those with a text in their name or an address, or that are like a glob.

    \b
    Example: policyd mailbox list 'sales*' | cut -f 1
    """
    from policyd.admin.showing import list_mailboxes

    call = invocation()
    print_list(
        call,
        lambda queries: list_mailboxes(queries, call.now, text, domain or ""),
        lambda queries: (*_COLUMNS, *(("comment",) if queries.has_comments() else ())),
        limit=limit,
    )


@command.command("restrict")
@click.argument("names", metavar="NAME...", type=MAILBOX, nargs=-1, required=True)
@restriction_options
def restrict(
    names: tuple[str, ...], receive: str | None, accepted: tuple[Party, ...], reason: str | None, until: int | None
) -> None:
    """Let only insiders, or nobody, send to mailboxes. Done again, it changes what is given.

    \b
    Example: policyd mailbox restrict alice --accept @partner.example --reason "internal mailbox"
    """
    terms = restriction_terms(receive, accepted, reason, until)
    with invocation().changing() as edit:
        for name in names:
            edit.restrict(edit.mailbox(name), terms)
    warn_of_a_reason_that_is_cut(Rule.RESTRICTED_RECIPIENT, reason)


@command.command("open")
@click.argument("names", metavar="NAME...", type=MAILBOX, nargs=-1, required=True)
@click.option("--until", metavar="WHEN", type=UNTIL, help="When it ends: a date, +30d, never.")
def open_(names: tuple[str, ...], until: int | None) -> None:
    """Let anyone send to mailboxes, whatever their groups and their domain say.

    \b
    Example: policyd mailbox open alice --until +14d
    """
    with invocation().changing() as edit:
        for name in names:
            edit.open_mailbox(edit.mailbox(name), until)


@command.command("lift")
@click.argument("names", metavar="NAME...", type=MAILBOX, nargs=-1, required=True)
def lift(names: tuple[str, ...]) -> None:
    """Have mailboxes say nothing themselves of who may send; reason, end and accepted senders go, too.

    Then their groups' restrictions count, or their domain's, or else anyone may send. It says which.

    \b
    Example: policyd mailbox lift alice
    """
    from policyd.admin.advice import still_restricted
    from policyd.store.edit import need_mailbox

    call = invocation()
    with call.changing() as edit:
        mailboxes = {each.id: each for each in map(edit.mailbox, names)}.values()
        for mailbox in mailboxes:
            edit.lift(mailbox)
    call.say_of([mailbox.name for mailbox in mailboxes], need_mailbox, still_restricted)


@command.command("accept")
@click.argument("name", type=MAILBOX)
@senders_argument
def accept(name: str, senders: tuple[Party, ...]) -> None:
    """Let some senders send to a mailbox all the same, whoever restricts it.

    A mailbox, group or managed address must be proven; a sender in a domain that is not managed can be forged.

    \b
    Example: policyd mailbox accept alice @partner.example
    """
    with invocation().changing() as edit:
        edit.accept(edit.mailbox(name), senders)


@command.command("unaccept")
@click.argument("name", type=MAILBOX)
@senders_argument
def unaccept(name: str, senders: tuple[Party, ...]) -> None:
    """Take senders from those that a mailbox accepts.

    \b
    Example: policyd mailbox unaccept alice @partner.example
    """
    with invocation().changing() as edit:
        edit.unaccept(edit.mailbox(name), senders)
