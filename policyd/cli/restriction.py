"""What `restrict`, `accept` and `unaccept` take, for a mailbox, a group and a domain alike."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from policyd.address import fold
from policyd.cli.command import invocation
from policyd.cli.terminal import echo
from policyd.cli.types import TEXT, UNTIL, PartyType
from policyd.model import RESERVED_WORDS, Party, Receive, Rule

if TYPE_CHECKING:
    from policyd.store.edit import RestrictionTerms

_Function = TypeVar("_Function", bound=Callable[..., Any])
_EVERYBODY = frozenset({*RESERVED_WORDS, Receive.INHERIT.value, "everyone", "everybody", "all", "any", "internet", "*"})


class _Accepted(PartyType):
    """A mailbox, a group or a pattern that is accepted; of a word for everybody, what to type instead."""

    def convert(self, value: str | Party, param: click.Parameter | None, ctx: click.Context | None) -> Party:
        """The party, without a number."""
        if isinstance(value, str) and fold(value) in RESERVED_WORDS:
            self.fail(f"{fold(value)} has a meaning of its own, and is nobody's name; {_opening(ctx)}", param, ctx)
        return super().convert(value, param, ctx)


class _Restricting(click.Choice[str]):
    """Who may still send; of a word for everybody, what to type instead."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word."""
        if fold(str(value)) in _EVERYBODY:
            choices = ", ".join(map(repr, self.choices))
            self.fail(f"{value!r} is not one of {choices}; {_opening(ctx)}", param, ctx)
        return super().convert(value, param, ctx)


def _opening(ctx: click.Context | None) -> str:
    """How anyone is let in, where a noun's restriction is typed."""
    noun = (ctx.parent.info_name if ctx and ctx.parent else None) or "mailbox"
    commands = ("open", "lift") if noun == "mailbox" else ("lift",)
    return f"to let anyone send: {', or: '.join(f'policyd {noun} {verb} NAME' for verb in commands)}"


_ACCEPTED = _Accepted("party")

_OPTIONS = (
    click.option(
        "--receive",
        type=_Restricting([each.value for each in Receive if each.is_restriction]),
        help="Who may still send; domain: who has an address in the same one.  [default: insiders, or as it is]",
    ),
    click.option(
        "--accept",
        "accepted",
        metavar="SENDER",
        type=_ACCEPTED,
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


senders_argument = click.argument("senders", metavar="SENDER...", type=_ACCEPTED, nargs=-1, required=True)
