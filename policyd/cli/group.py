"""`policyd group`: groups of mailboxes, and who may send to each mailbox in them."""

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
from policyd.cli.types import GROUP, NEW_GROUP, PARTY, TEXT
from policyd.model import Party, Rule

_COLUMNS = ("name", "members", "receive", "until", "accept", "reason", "comment")
_members = click.argument("members", metavar="MEMBER...", type=PARTY, nargs=-1, required=True)


@click.group("group", cls=Group)
def command() -> None:
    """Groups of mailboxes, and who may send to each mailbox in them."""


@command.command("add")
@click.argument("name", type=NEW_GROUP)
@click.argument("members", metavar="[MEMBER]...", type=PARTY, nargs=-1)
@click.option("--comment", type=TEXT, default="", help="A note for administrators.")
def add(name: str, members: tuple[Party, ...], comment: str) -> None:
    """Make a group, of mailboxes, by name or address, and of other groups (group:NAME). It restricts nobody yet.

    \b
    Example: policyd group add staff alice
    """
    with invocation().changing(may_create=True) as edit:
        edit.add_group(name, members, comment)


@command.command("set")
@click.argument("name", type=GROUP)
@click.option("--comment", type=TEXT, required=True, help="A note for administrators.")
def set_(name: str, comment: str) -> None:
    """Change the note at a group.

    \b
    Example: policyd group set staff --comment "as of the payroll"
    """
    with invocation().changing() as edit:
        edit.set_group(edit.group(name), comment)


@command.command("remove")
@click.argument("name", type=GROUP)
@click.option("--yes", is_flag=True, help="Also where more than one thing goes with it.")
def remove(name: str, yes: bool) -> None:
    """Remove a group, and all that refers to it; its members stay.

    \b
    Example: policyd group remove staff
    """
    from policyd.admin.advice import removal_question, what_goes
    from policyd.store.edit import need_group

    # Ask first where more than one thing goes with it.
    call = invocation()
    with call.reading() as queries:
        group = need_group(queries, name)
        going, question = what_goes(queries, group), removal_question(queries, group)
    if len(going) > 1:
        need_consent(question, is_given=yes, listed=going)

    with call.changing() as edit:
        edit.remove_group(name)


@command.command("rename")
@click.argument("name", type=GROUP)
@click.argument("new", type=NEW_GROUP)
def rename(name: str, new: str) -> None:
    """Give a group another name; members, restriction and all that refers to it stay.

    \b
    Example: policyd group rename staff employees
    """
    with invocation().changing() as edit:
        edit.rename_group(name, new)


@command.command("join")
@click.argument("name", type=GROUP)
@_members
def join(name: str, members: tuple[Party, ...]) -> None:
    """Put mailboxes, by name or address, and groups (group:NAME) into a group.

    \b
    Example: policyd group join staff carol group:board
    """
    with invocation().changing() as edit:
        edit.join(edit.group(name), members)


@command.command("leave")
@click.argument("name", type=GROUP)
@_members
def leave(name: str, members: tuple[Party, ...]) -> None:
    """Take mailboxes and groups out of a group.

    \b
    Example: policyd group leave staff carol
    """
    with invocation().changing() as edit:
        edit.leave(edit.group(name), members)


@command.command("restrict")
@click.argument("names", metavar="NAME...", type=GROUP, nargs=-1, required=True)
@restriction_options
def restrict(
    names: tuple[str, ...], receive: str | None, accepted: tuple[Party, ...], reason: str | None, until: int | None
) -> None:
    """Let only insiders, or nobody, send to each mailbox in groups that says nothing itself.

    Mail to a list's own address is mail to another mailbox. Of several groups the strictest counts. Done again, it
    changes what is given.

    \b
    Example: policyd group restrict staff --accept @partner.example --reason "internal mailbox"
    """
    from policyd.admin.advice import reach_advice
    from policyd.store.edit import need_group

    terms = restriction_terms(receive, accepted, reason, until)
    call = invocation()
    with call.changing() as edit:
        groups = {each.id: each for each in map(edit.group, names)}.values()
        for group in groups:
            edit.restrict(group, terms)
    call.say_of([group.name for group in groups], need_group, reach_advice)
    warn_of_a_reason_that_is_cut(Rule.RESTRICTED_RECIPIENT, reason)


@command.command("lift")
@click.argument("names", metavar="NAME...", type=GROUP, nargs=-1, required=True)
def lift(names: tuple[str, ...]) -> None:
    """Restrict the mailboxes in groups no more; reason, end and accepted senders go too.

    \b
    Example: policyd group lift staff
    """
    from policyd.admin.advice import still_restricted
    from policyd.store.edit import need_group

    call = invocation()
    with call.changing() as edit:
        groups = {each.id: each for each in map(edit.group, names)}.values()
        for group in groups:
            edit.lift(group)
    call.say_of([group.name for group in groups], need_group, still_restricted)


@command.command("accept")
@click.argument("name", type=GROUP)
@senders_argument
def accept(name: str, senders: tuple[Party, ...]) -> None:
    """Let some senders send to the mailboxes of a restricted group all the same.

    A mailbox, group or managed address must be proven; a sender in a domain that is not managed can be forged.

    \b
    Example: policyd group accept staff group:board
    """
    with invocation().changing() as edit:
        edit.accept(edit.group(name), senders)


@command.command("unaccept")
@click.argument("name", type=GROUP)
@senders_argument
def unaccept(name: str, senders: tuple[Party, ...]) -> None:
    """Take senders from those that a restricted group accepts.

    \b
    Example: policyd group unaccept staff group:board
    """
    with invocation().changing() as edit:
        edit.unaccept(edit.group(name), senders)


@command.command("show")
@click.argument("name", type=GROUP)
def show(name: str) -> None:
    """Show a group: its members, the groups it is in, who may send to its mailboxes, and its blocks.

    \b
    Example: policyd group show staff
    """
    from policyd.admin.showing import show_group

    call = invocation()
    with call.reading() as queries:
        found = show_group(queries, name, call.now)
    print_shown(call, found)


@command.command("list")
@narrowing("Only groups with a mailbox that has an address in this domain.")
def list_(text: str, domain: str | None, limit: int | None) -> None:
    """List the groups: name, members, receive, until, accept, reason, comment.

    Only those with a text in their name, or whose name is like a glob.

    \b
    Example: policyd group list 'sales*'
    """
    from policyd.admin.showing import list_groups

    call = invocation()
    print_list(
        call, lambda queries: list_groups(queries, call.now, text, domain or ""), lambda _: _COLUMNS, limit=limit
    )
