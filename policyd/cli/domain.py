"""`policyd domain`: the managed domains."""

from shlex import quote

import click
from sqlalchemy import Connection

from policyd.address import domain_for_postfix, unicode_domain
from policyd.cli.command import Group, invocation, need_consent
from policyd.cli.output import print_list
from policyd.cli.terminal import echo
from policyd.cli.types import DOMAIN
from policyd.model import Domain, Unlisted
from policyd.store import read
from policyd.store.journal import snapshot

_UNLISTED = click.Choice([each.value for each in Unlisted])


@click.group("domain", cls=Group)
def command() -> None:
    """The domains that policyd has an opinion on."""


@command.command("add")
@click.argument("name", type=DOMAIN)
@click.option(
    "--unlisted", type=_UNLISTED, default=Unlisted.REJECT.value, show_default=True, help="Recipients of no mailbox."
)
def add(name: str, unlisted: str) -> None:
    """Manage a domain: from now on, mail from outside reaches listed addresses in it only.

    \b
    Example: policyd domain add example.com
    """
    with invocation().changing(may_create=True) as changes:
        changes.edit.add_domain(Domain(name, Unlisted(unlisted)))
        advice = spelling_advice(changes.connection, name)
    if advice:
        echo(advice, err=True)


def spelling_advice(connection: Connection, name: str) -> str:
    """What to tell of the managed domain *name* where Postfix takes it for another, else ""."""
    other = domain_for_postfix(unicode_domain(name))
    if other in ("", name):
        return ""
    is_managed = read.find_domain(connection, other) is not None
    advice = "which is managed, too" if is_managed else f"so manage that, too: policyd domain add {quote(other)}"
    return f"policyd: Postfix takes {unicode_domain(name)} for {other}, {advice}"


@command.command("set")
@click.argument("name", type=DOMAIN)
@click.option("--unlisted", type=_UNLISTED, required=True, help="What happens to recipients that are no mailbox's.")
def set_(name: str, unlisted: str) -> None:
    """Change what happens to recipients in a managed domain that are no mailbox's.

    \b
    Example: policyd domain set example.com --unlisted accept
    """
    with invocation().changing() as changes:
        changes.edit.set_domain(name, Unlisted(unlisted))


@command.command("remove")
@click.argument("name", type=DOMAIN)
@click.option("--yes", is_flag=True, help="Also where the domain has addresses, which go with it.")
def remove(name: str, yes: bool) -> None:
    """Manage a domain no more: policyd then has no opinion on recipients in it.

    \b
    Example: policyd domain remove example.com
    """
    call = invocation()
    with call.reading() as connection:
        count = sum(1 for _ in read.addresses(connection, domain=name))
    if count:
        need_consent(f"{name} has {count} addresses, which would be removed with it.", is_given=yes)
    with call.changing() as changes:
        changes.edit.remove_domain(name)


@command.command("list")
def list_() -> None:
    """List the managed domains: name, unlisted.

    \b
    Example: policyd domain list --json
    """
    with invocation().reading() as connection:
        print_list(invocation(), map(snapshot, read.domains(connection)), ("name", "unlisted"))
