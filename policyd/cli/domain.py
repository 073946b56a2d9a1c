"""`policyd domain`: manages domains, says who may send to them, and lists them."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

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
from policyd.cli.types import DOMAIN, NEW_DOMAIN, TEXT, as_stored
from policyd.model import Domain, Party, Receive, Rule, Unlisted
from policyd.printable import count_of

if TYPE_CHECKING:
    from policyd.store.queries import Queries

_UNLISTED = click.Choice([each.value for each in Unlisted])
_COLUMNS = ("name", "unlisted")
_TRAILING: Mapping[str, Any] = {
    "alias_of": None,
    "receive": Receive.ANYONE,
    "until": None,
    "accept": [],
    "reason": "",
    "comment": "",
}


@click.group("domain", cls=Group)
def command() -> None:
    """The domains that policyd has an opinion on, and who may send to them."""


@command.command("add")
@click.argument("name", type=NEW_DOMAIN)
@click.option("--unlisted", type=_UNLISTED, help="What happens to recipients that are no mailbox's.  [default: reject]")
@click.option("--alias-of", metavar="DOMAIN", type=DOMAIN, help="The managed domain that it stands for.")
@click.option("--comment", type=TEXT, default="", help="A note for administrators.")
def add(name: str, unlisted: str | None, alias_of: str | None, comment: str) -> None:
    """Manage a domain. With --unlisted reject, mail from outside reaches listed addresses in it only, from now on.

    Begin with accept, list the addresses, and then type: policyd domain set NAME --unlisted reject.

    \b
    Example: policyd domain add example.com --unlisted accept
    """
    from policyd.admin.advice import acceptance_advice, spelling_advice, unlisted_advice

    # An alias domain has no say of its own.
    if alias_of and unlisted:
        raise click.UsageError(f"of an alias domain, what {alias_of} says counts; leave --unlisted out")
    call = invocation()
    with call.changing(may_create=True) as edit:
        edit.add_domain(Domain(name, Unlisted(unlisted or Unlisted.REJECT), alias_of or "", comment=comment))
        advice = spelling_advice(edit.queries, [name])
        told = unlisted_advice(edit.queries, None, edit.domain(name))
        told += acceptance_advice(edit.queries, name, is_managed=True)
    for line in told:
        call.say(line)
    for line in advice:
        call.warn(line)


@command.command("set")
@click.argument("name", type=DOMAIN)
@click.option("--unlisted", type=_UNLISTED, help="What happens to recipients that are no mailbox's.")
@click.option("--alias-of", metavar="DOMAIN", type=DOMAIN, help="The managed domain that it stands for.")
@click.option("--no-alias", is_flag=True, help="It stands for itself again.")
@click.option("--comment", type=TEXT, help="A note for administrators.")
def set_(name: str, unlisted: str | None, alias_of: str | None, no_alias: bool, comment: str | None) -> None:
    """Change a managed domain: what happens to its unlisted recipients, what it stands for, or the note.

    \b
    Example: policyd domain set example.com --unlisted accept
    """
    from policyd.admin.advice import unlisted_advice

    if alias_of and no_alias:
        raise click.UsageError("either --alias-of or --no-alias.")
    if unlisted is None and alias_of is None and comment is None and not no_alias:
        raise click.UsageError("say what shall be: --unlisted, --alias-of, --no-alias or --comment.")
    call = invocation()
    with call.changing() as edit:
        before = edit.domain(name)
        target = alias_of or ("" if no_alias else before.alias_of)
        if target and unlisted:
            raise click.UsageError(f"of an alias domain, what its target says counts: policyd domain set {target}")
        edit.set_domain(
            name, Unlisted(unlisted) if unlisted else None, alias_of="" if no_alias else alias_of, comment=comment
        )
        told = unlisted_advice(edit.queries, before, edit.domain(name))
    for line in told:
        call.say(line)


@command.command("restrict")
@click.argument("names", metavar="NAME...", type=DOMAIN, nargs=-1, required=True)
@restriction_options
def restrict(
    names: tuple[str, ...], receive: str | None, accepted: tuple[Party, ...], reason: str | None, until: int | None
) -> None:
    """Let only insiders, or nobody, send to the mailboxes in domains that say nothing themselves.

    What a mailbox says itself, and what its groups say, stands before it. Done again, it changes what is given.

    \b
    Example: policyd domain restrict example.com --accept @partner.example --reason "internal mail only"
    """
    from policyd.admin.advice import reach_advice
    from policyd.store.edit import need_domain

    terms = restriction_terms(receive, accepted, reason, until)
    call = invocation()
    with call.changing() as edit:
        for name in dict.fromkeys(names):
            edit.restrict(edit.domain(name), terms)
    call.say_of(dict.fromkeys(names), need_domain, reach_advice)
    warn_of_a_reason_that_is_cut(Rule.RESTRICTED_RECIPIENT, reason)


@command.command("lift")
@click.argument("names", metavar="NAME...", type=DOMAIN, nargs=-1, required=True)
def lift(names: tuple[str, ...]) -> None:
    """Let anyone send to the mailboxes in domains again, as far as these and their groups say nothing.

    \b
    Example: policyd domain lift example.com
    """
    from policyd.admin.advice import still_restricted
    from policyd.store.edit import need_domain

    call = invocation()
    with call.changing() as edit:
        for name in dict.fromkeys(names):
            edit.lift(edit.domain(name))
    call.say_of(dict.fromkeys(names), need_domain, still_restricted)


@command.command("accept")
@click.argument("name", type=DOMAIN)
@senders_argument
def accept(name: str, senders: tuple[Party, ...]) -> None:
    """Let some senders send to a restricted domain all the same.

    A mailbox, group or managed address must be proven; a sender in a domain that is not managed can be forged.

    \b
    Example: policyd domain accept example.com @partner.example
    """
    with invocation().changing() as edit:
        edit.accept(edit.domain(name), senders)


@command.command("unaccept")
@click.argument("name", type=DOMAIN)
@senders_argument
def unaccept(name: str, senders: tuple[Party, ...]) -> None:
    """Take senders from those that a restricted domain accepts.

    \b
    Example: policyd domain unaccept example.com @partner.example
    """
    with invocation().changing() as edit:
        edit.unaccept(edit.domain(name), senders)


@command.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Also where the domain has addresses, which go with it.")
def remove(name: str, yes: bool) -> None:
    """Manage a domain no more: policyd then has no opinion on recipients in it.

    \b
    Example: policyd domain remove example.com
    """
    from policyd.admin.advice import acceptance_advice

    # Ask first where addresses go with it.
    call = invocation()
    with call.reading() as queries:
        name = as_stored(name, DOMAIN, queries.domain)
        held = [f"{each.address} of {each.mailbox}" for each in queries.addresses(name)]
    if held:
        question = f"{name} has {count_of(len(held), 'address')}, which would be removed with it."
        need_consent(question, is_given=yes, listed=held)

    with call.changing() as edit:
        edit.remove_domain(name)
        told = acceptance_advice(edit.queries, name, is_managed=False)
    for line in told:
        call.say(line)


@command.command("show")
@click.argument("name", type=DOMAIN)
def show(name: str) -> None:
    """Show a managed domain: what it stands for, who may send to it, and how many mailboxes that is about.

    \b
    Example: policyd domain show example.com
    """
    from policyd.admin.showing import show_domain

    call = invocation()
    with call.reading() as queries:
        found = show_domain(queries, name, call.now)
    print_shown(call, found)


@command.command("list")
@narrowing("Only this domain, and those that stand for it.")
def list_(text: str, domain: str | None, limit: int | None) -> None:
    """List the managed domains: name, unlisted, alias_of, receive, until, accept, reason, comment.

    Only those with a text in their name, or whose name is like a glob.

    \b
    Example: policyd domain list '*.example'
    """
    from policyd.admin.showing import list_domains

    call = invocation()

    def read(queries: "Queries") -> Iterator[Mapping[str, Any]]:
        return list_domains(queries, call.now, text, domain or "")

    def columns(queries: "Queries") -> list[str]:
        said = {name for each in read(queries) for name, nothing in _TRAILING.items() if each[name] != nothing}
        last = max((number for number, name in enumerate(_TRAILING, start=1) if name in said), default=0)
        return [*_COLUMNS, *[*_TRAILING][:last]]

    print_list(call, read, columns, limit=limit)
