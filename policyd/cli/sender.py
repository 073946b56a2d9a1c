"""`policyd sender`: blocks and unblocks senders, lists the entries; `output.print_changes` prints what was changed."""

import time

import click

from policyd.admin.showing import list_blocked_senders, show_sender
from policyd.cli.command import Group, invocation
from policyd.cli.output import print_list, print_object
from policyd.cli.types import PARTY, RECIPIENTS, SENDER, TEXT, UNTIL
from policyd.model import Party, PartyKind
from policyd.store.edit import EntryTerms
from policyd.store.queries import Queries

_COLUMNS = ("id", "sender", "to", "until", "except", "reason", "comment")


@click.group("sender", cls=Group)
def command() -> None:
    """Who may not send, and to whom."""


@command.command("block")
@click.argument("senders", metavar="SENDER...", type=SENDER, nargs=-1, required=True)
@click.option(
    "--to",
    type=RECIPIENTS,
    help="To whom not.  [default: outside for a mailbox or a pattern in a managed domain, else anyone]",
)
@click.option("--except", "allowed", metavar="RECIPIENT", type=PARTY, multiple=True, help="Recipients left alone.")
@click.option("--reason", type=TEXT, help="For the sender to read in the bounce.")
@click.option("--until", metavar="WHEN", type=UNTIL, help="When it ends: a date, +30d, never.")
@click.option("--comment", type=TEXT, help="A note for administrators.")
def block(
    senders: tuple[Party, ...],
    to: Party | None,
    allowed: tuple[Party, ...],
    reason: str | None,
    until: int | None,
    comment: str | None,
) -> None:
    """Keep mailboxes or patterns from sending. Done again, it changes what is given.

    \b
    Example: policyd sender block alice --except @partner.example --reason "left the company"
    """
    # Make the entries, new or changed; what was changed is printed as of every command.
    exceptions = frozenset(allowed) if allowed else None
    terms = EntryTerms(allowed=exceptions, reason=reason, until=until, comment=comment)
    call = invocation()
    with call.changing(may_create=True) as edit:
        entries = [edit.block_sender(sender, to, terms) for sender in senders]

    # Say to whom, where that was not given.
    if not to:
        for entry in entries:
            call.say(f"{entry.who} is blocked to {entry.to}, since --to was not given")


@command.command("unblock")
@click.argument("senders", metavar="SENDER...", nargs=-1, required=True)
@click.option("--to", type=RECIPIENTS, help="Only the entry for these recipients.  [default: every entry]")
def unblock(senders: tuple[str, ...], to: Party | None) -> None:
    """Let senders send again.

    \b
    Example: policyd sender unblock alice
    """
    with invocation().changing() as edit:
        for sender in dict.fromkeys(_as_stored(each, edit.queries) for each in senders):
            edit.unblock_sender(sender, to)


@command.command("except")
@click.argument("sender", type=SENDER)
@click.argument("recipients", metavar="RECIPIENT...", type=PARTY, nargs=-1, required=True)
@click.option("--to", type=RECIPIENTS, help="Only the entry for these recipients.  [default: every entry]")
def except_(sender: Party, recipients: tuple[Party, ...], to: Party | None) -> None:
    """Let a blocked sender send to some recipients all the same.

    \b
    Example: policyd sender except alice @partner.example
    """
    with invocation().changing() as edit:
        edit.add_exceptions(sender, to, recipients)


@command.command("unexcept")
@click.argument("sender", type=SENDER)
@click.argument("recipients", metavar="RECIPIENT...", type=PARTY, nargs=-1, required=True)
@click.option("--to", type=RECIPIENTS, help="Only the entry for these recipients.  [default: every entry]")
def unexcept(sender: Party, recipients: tuple[Party, ...], to: Party | None) -> None:
    """Take recipients from the exceptions of a blocked sender.

    \b
    Example: policyd sender unexcept alice @partner.example
    """
    with invocation().changing() as edit:
        edit.remove_exceptions(sender, to, recipients)


@command.command("list")
@click.option("--expired", is_flag=True, help="Those that have ended, instead of those in force.")
def list_(expired: bool) -> None:
    """List the blocked senders: id, sender, to, until, except, reason, comment.

    \b
    Example: policyd sender list --expired
    """
    with invocation().reading() as queries:
        entries = list_blocked_senders(queries, int(time.time()), is_expired=expired)
        print_list(invocation(), entries, _COLUMNS)


@command.command("show")
@click.argument("sender", type=SENDER)
def show(sender: Party) -> None:
    """Show every entry of a blocked sender, expired or not.

    \b
    Example: policyd sender show alice
    """
    call = invocation()
    with call.reading() as queries:
        entries = show_sender(queries, sender)
    if call.json:
        print_list(call, entries, _COLUMNS)
        return
    for number, entry in enumerate(entries):
        click.echo("", nl=number > 0)
        print_object(call, entry)


def _as_stored(typed: str, queries: Queries) -> Party:
    """The sender *typed*; a pattern that an earlier policyd stored, as it stands.

    Raises click.BadParameter where it is neither.
    """
    pattern = Party(PartyKind.PATTERN, typed)
    return pattern if queries.entries_of(pattern) else SENDER.convert(typed, None, click.get_current_context())
