"""`policyd sender`: blocks and unblocks senders, lists the entries; `output.print_changes` prints what was changed."""

from typing import TYPE_CHECKING

import click

from policyd.cli.command import Group, invocation
from policyd.cli.narrowing import narrowing
from policyd.cli.output import print_list, print_object
from policyd.cli.restriction import warn_of_a_reason_that_is_cut
from policyd.cli.terminal import echo_json
from policyd.cli.types import PARTY, RECIPIENTS, SENDER, TEXT, UNTIL, is_text
from policyd.model import OUTSIDE, Party, PartyKind, Rule

if TYPE_CHECKING:
    from policyd.store.queries import Queries

_COLUMNS = ("id", "sender", "to", "until", "except", "reason", "comment")
_TO = "outside|anyone|MAILBOX|group:G|PATTERN"
_only_to = click.option(
    "--to", metavar=_TO, type=RECIPIENTS, help="Only the entry for these recipients.  [default: every entry]"
)
_except_senders = click.option(
    "--except-sender",
    "allowed_senders",
    metavar="SENDER",
    type=PARTY,
    multiple=True,
    help="Senders left alone. In a domain that is not managed that is what MAIL FROM says, and can be forged.",
)


@click.group("sender", cls=Group)
def command() -> None:
    """Who may not send, and to whom."""


@command.command("block")
@click.argument("senders", metavar="SENDER...", type=SENDER, nargs=-1, required=True)
@click.option(
    "--to",
    metavar=_TO,
    type=RECIPIENTS,
    help="To whom not.  [default: outside for a mailbox, a group or a pattern in a managed domain, else anyone]",
)
@click.option("--except", "allowed", metavar="RECIPIENT", type=PARTY, multiple=True, help="Recipients left alone.")
@_except_senders
@click.option("--reason", type=TEXT, help="For the sender to read in the bounce.")
@click.option("--until", metavar="WHEN", type=UNTIL, help="When it ends: a date, +30d, never.")
@click.option("--comment", type=TEXT, help="A note for administrators.")
def block(
    senders: tuple[Party, ...],
    to: Party | None,
    allowed: tuple[Party, ...],
    allowed_senders: tuple[Party, ...],
    reason: str | None,
    until: int | None,
    comment: str | None,
) -> None:
    """Keep mailboxes, groups (group:NAME), patterns or anyone from sending. Done again, it changes what is given.

    \b
    Example: policyd sender block alice --except @partner.example --reason "left the company"
    """
    from policyd.store.edit import EntryTerms, block_advice

    # Make the entries, new or changed; what was changed is printed as of every command.
    terms = EntryTerms(
        allowed=frozenset(allowed) if allowed else None,
        allowed_senders=frozenset(allowed_senders) if allowed_senders else None,
        reason=reason,
        until=until,
        comment=comment,
    )
    call = invocation()
    with call.changing(may_create=True) as edit:
        entries = [edit.block_sender(sender, to, terms) for sender in senders]
        advice = [line for entry in entries if (line := block_advice(edit.queries, entry.who))]

    # Say to whom, where that was not given, and what was perhaps not meant.
    if not to:
        for entry in entries:
            call.say(f"{entry.who} is blocked to {entry.to}, since --to was not given")
    for line in advice:
        call.say(line)
    if to == OUTSIDE and any(entry.who.kind is PartyKind.ANYONE for entry in entries):
        call.say("outside is every domain that is not managed, those that Postfix relays for, too")
    warn_of_a_reason_that_is_cut(Rule.BLOCKED_SENDER, reason)


@command.command("unblock")
@click.argument("senders", metavar="SENDER...", nargs=-1, required=True, shell_complete=SENDER.shell_complete)
@_only_to
def unblock(senders: tuple[str, ...], to: Party | None) -> None:
    """Let senders send again; an address that is not blocked itself stands for its mailbox.

    \b
    Example: policyd sender unblock alice
    """
    with invocation().changing() as edit:
        for sender in dict.fromkeys(_as_stored(each, edit.queries) for each in senders):
            edit.unblock_sender(sender, to)


@command.command("except")
@click.argument("sender", type=SENDER)
@click.argument("recipients", metavar="[RECIPIENT]...", type=PARTY, nargs=-1)
@_except_senders
@_only_to
def except_(sender: Party, recipients: tuple[Party, ...], allowed_senders: tuple[Party, ...], to: Party | None) -> None:
    """Let a blocked sender send to some recipients all the same, or some senders send to whomever it may not.

    \b
    Example: policyd sender except alice @partner.example
    """
    _need_exceptions(recipients, allowed_senders)
    with invocation().changing() as edit:
        edit.add_exceptions(sender, to, recipients, allowed_senders)


@command.command("unexcept")
@click.argument("sender", type=SENDER)
@click.argument("recipients", metavar="[RECIPIENT]...", type=PARTY, nargs=-1)
@_except_senders
@_only_to
def unexcept(
    sender: Party, recipients: tuple[Party, ...], allowed_senders: tuple[Party, ...], to: Party | None
) -> None:
    """Take recipients, or senders, from the exceptions of a blocked sender.

    \b
    Example: policyd sender unexcept alice @partner.example
    """
    _need_exceptions(recipients, allowed_senders)
    with invocation().changing() as edit:
        edit.remove_exceptions(sender, to, recipients, allowed_senders)


@command.command("list")
@narrowing("Only entries whose sender, or recipient, has an address or is a pattern in this domain.")
@click.option("--expired", is_flag=True, help="Those that have ended, instead of those in force.")
def list_(text: str, domain: str | None, limit: int | None, expired: bool) -> None:
    """List the blocked senders: id, sender, to, until, except, reason, comment, except_sender.

    Only those with a text in the sender or in whom it is to, or that are like a glob.

    \b
    Example: policyd sender list --expired
    """
    from policyd.admin.showing import list_blocked_senders

    call = invocation()
    print_list(
        call,
        lambda queries: list_blocked_senders(queries, call.now, text, domain or "", is_expired=expired),
        lambda queries: (*_COLUMNS, *(("except_sender",) if queries.has_senders_excepted() else ())),
        limit=limit,
    )


@command.command("show")
@click.argument("sender", type=SENDER)
def show(sender: Party) -> None:
    """Show every entry of a blocked sender, expired or not; of an address that has none, those of its mailbox.

    Which entries of others it matches, too, as its group's or its domain's, is told on a terminal.

    \b
    Example: policyd sender show alice
    """
    from policyd.admin.showing import other_entries, show_sender

    call = invocation()
    with call.reading() as queries:
        others = other_entries(queries, call.settings, sender, call.now)
        entries = show_sender(queries, sender, call.now, others)
    if call.json:
        echo_json(entries, indent=1)
        return
    for number, entry in enumerate(entries):
        click.echo("", nl=number > 0)
        print_object(call, entry)
    for other in others:
        call.say(f"{sender} matches entry {other.id}, too: {other.who} may not send to {other.to}")


def _need_exceptions(recipients: tuple[Party, ...], senders: tuple[Party, ...]) -> None:
    """Raises click.UsageError where there is neither a recipient nor a sender."""
    if not recipients and not senders:
        raise click.UsageError("say which recipients, or which senders with --except-sender.")


def _as_stored(typed: str, queries: "Queries") -> Party:
    """The sender *typed*; a pattern that an earlier policyd stored, as it stands.

    Raises click.BadParameter where it is neither.
    """
    pattern = Party(PartyKind.PATTERN, typed)
    is_stored = is_text(typed) and queries.entries_of(pattern)
    return pattern if is_stored else SENDER.convert(typed, None, click.get_current_context())
