"""`policyd sender`: blocks and unblocks senders, and lists the entries."""

import time

import click

from policyd.cli.command import Group, invocation
from policyd.cli.output import print_list, print_object
from policyd.cli.types import PARTY, RECIPIENTS, SENDER, TEXT, UNTIL
from policyd.errors import RefusedError
from policyd.model import Party, PartyKind
from policyd.rules import is_past
from policyd.store.edit import EntryTerms, entries_found, need_group, need_mailbox
from policyd.store.journal import shown

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
    # Make the entries, new or changed.
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
@click.argument("senders", metavar="SENDER...", type=SENDER, nargs=-1, required=True)
@click.option("--to", type=RECIPIENTS, help="Only the entry for these recipients.  [default: every entry]")
def unblock(senders: tuple[Party, ...], to: Party | None) -> None:
    """Let senders send again.

    \b
    Example: policyd sender unblock alice
    """
    with invocation().changing() as edit:
        for sender in senders:
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
    now = int(time.time())
    with invocation().reading() as queries:
        entries = (each for each in queries.blocked_senders() if is_past(each.until, now) is expired)
        print_list(invocation(), map(shown, entries), _COLUMNS)


@command.command("show")
@click.argument("sender", type=SENDER)
def show(sender: Party) -> None:
    """Show every entry of a blocked sender, expired or not.

    \b
    Example: policyd sender show alice
    """
    call = invocation()
    with call.reading() as queries:
        if sender.kind is PartyKind.MAILBOX:
            sender = need_mailbox(queries, sender.text).party
        elif sender.kind is PartyKind.GROUP:
            sender = need_group(queries, sender.text).party
        entries = [shown(entry) for entry in entries_found(queries, sender)]
    if not entries:
        raise RefusedError(f"{sender} is not blocked; see: policyd sender list")
    if call.json:
        print_list(call, entries, _COLUMNS)
        return
    for number, entry in enumerate(entries):
        click.echo("", nl=number > 0)
        print_object(call, entry)
