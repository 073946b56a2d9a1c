"""What `restrict`, `accept` and `unaccept` take, for a mailbox, a group and a domain alike."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from policyd.cli.command import invocation
from policyd.cli.terminal import echo
from policyd.cli.types import PARTY, TEXT, UNTIL
from policyd.model import Party, Receive, Rule

if TYPE_CHECKING:
    from policyd.store.edit import RestrictionTerms

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--receive",
        type=click.Choice([each.value for each in Receive if each.is_restriction]),
        help="Who may still send; domain: who has an address in the same one.  [default: insiders, or as it is]",
    ),
    click.option(
        "--accept",
        "accepted",
        metavar="SENDER",
        type=PARTY,
        multiple=True,
        help="A mailbox, group:NAME or pattern that may all the same. In a domain that is not managed that is what MAIL"
        " FROM says, and can be forged.",
    ),
    click.option("--reason", type=TEXT, help="For the sender to read in the bounce."),
    click.option("--until", metavar="WHEN", type=UNTIL, help="When it ends: a date, +30d, never."),
)


def restriction_options(function: _Function) -> _Function:
    """Give a command the options that `restriction_terms` takes."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def restriction_terms(
    receive: str | None, accepted: tuple[Party, ...], reason: str | None, until: int | None
) -> "RestrictionTerms":
    """What the options say; what was not given stays as it is."""
    from policyd.store.edit import RestrictionTerms

    return RestrictionTerms(
        receive=Receive(receive) if receive else None,
        accepted=frozenset(accepted) if accepted else None,
        reason=reason,
        until=until,
    )


def warn_of_a_reason_that_is_cut(rule: Rule, reason: str | None) -> None:
    """Warn where a sender who is refused by *rule* would read only a part of *reason*."""
    from policyd.admin.advice import reason_advice

    for line in reason_advice(invocation().settings.reply, rule, reason):
        echo(f"policyd: warning: {line}", err=True)


senders_argument = click.argument("senders", metavar="SENDER...", type=PARTY, nargs=-1, required=True)
