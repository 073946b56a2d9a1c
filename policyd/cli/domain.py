"""`policyd domain`: manages domains, and lists them."""

import click

from policyd.admin.domains import spelling_advice
from policyd.cli.command import Group, invocation, need_consent
from policyd.cli.output import print_list
from policyd.cli.terminal import echo
from policyd.cli.types import DOMAIN
from policyd.model import Domain, Unlisted
from policyd.store.journal import shown

_UNLISTED = click.Choice([each.value for each in Unlisted])


@click.group("domain", cls=Group)
def command() -> None:
    """The domains that policyd has an opinion on."""


@command.command("add")
@click.argument("name", type=DOMAIN)
@click.option(
    "--unlisted",
    type=_UNLISTED,
    default=Unlisted.REJECT.value,
    show_default=True,
    help="What happens to recipients that are no mailbox's.",
)
def add(name: str, unlisted: str) -> None:
    """Manage a domain: from now on, mail from outside reaches listed addresses in it only.

    \b
    Example: policyd domain add example.com
    """
    with invocation().changing(may_create=True) as edit:
        edit.add_domain(Domain(name, Unlisted(unlisted)))
        advice = spelling_advice(edit.queries, [name])
    for line in advice:
        echo(f"policyd: {line}", err=True)


@command.command("set")
@click.argument("name", type=DOMAIN)
@click.option("--unlisted", type=_UNLISTED, required=True, help="What happens to recipients that are no mailbox's.")
def set_(name: str, unlisted: str) -> None:
    """Change what happens to recipients in a managed domain that are no mailbox's.

    \b
    Example: policyd domain set example.com --unlisted accept
    """
    with invocation().changing() as edit:
        edit.set_domain(name, Unlisted(unlisted))


@command.command("remove")
@click.argument("name", type=DOMAIN)
@click.option("--yes", is_flag=True, help="Also where the domain has addresses, which go with it.")
def remove(name: str, yes: bool) -> None:
    """Manage a domain no more: policyd then has no opinion on recipients in it.

    \b
    Example: policyd domain remove example.com
    """
    # Ask first where addresses go with it.
    call = invocation()
    with call.reading() as queries:
        count = sum(1 for _ in queries.addresses(name))
    if count:
        need_consent(f"{name} has {count} addresses, which would be removed with it.", is_given=yes)

    with call.changing() as edit:
        edit.remove_domain(name)


@command.command("list")
def list_() -> None:
    """List the managed domains: name, unlisted.

    \b
    Example: policyd domain list --json
    """
    with invocation().reading() as queries:
        print_list(invocation(), map(shown, queries.domains()), ("name", "unlisted"))
