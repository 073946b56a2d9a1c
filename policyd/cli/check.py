"""`policyd check`: prints what the answer to a request is, and why."""

import sys
import time

import click

from policyd.cli.command import Command, Invocation, invocation
from policyd.cli.terminal import echo, echo_json
from policyd.cli.types import ADDRESS, CLIENT
from policyd.errors import AddressError
from policyd.model import Action, Decision, Request


@click.command("check", cls=Command)
@click.argument("asked", metavar="[R|-]", required=False, shell_complete=ADDRESS.shell_complete)
@click.option(
    "--recipient",
    metavar="R",
    shell_complete=ADDRESS.shell_complete,
    help="The recipient's address, if it is not given without this option.",
)
@click.option(
    "--sender",
    metavar="S",
    default="",
    shell_complete=ADDRESS.shell_complete,
    help="The envelope sender; without it, or as <>, the null sender.",
)
@click.option(
    "--login",
    metavar="L",
    default="",
    shell_complete=ADDRESS.shell_complete,
    help="The SASL login; without it, the client is not logged in.",
)
@click.option(
    "--client-address", metavar="IP", type=CLIENT, default="", help="The client's; without it, an outsider's."
)
@click.option("--context", metavar="C", default="", help="The policy_context of the service that asks.")
@click.option("--daemon", is_flag=True, help="Ask the running daemon, over its first socket, instead of the tables.")
def command(asked: str | None, recipient: str | None, daemon: bool, **given: str) -> None:
    """Say what the answer to mail for the recipient R is, and why; `-` reads a request from stdin.

    That is a raw one, or the line of the audit or of a report about one, from a file or journalctl: it is asked again.

    Ends with 0 if the mail would be permitted, with 1 if it would be refused.

    \b
    Example: policyd check alice@example.com --sender joe@example.net
    """
    from policyd.admin.asking import ask_daemon, explain, given_request

    # The request, as a person or the wire gives it.
    if (asked is None) is (recipient is None):
        raise click.UsageError(
            "Give either a recipient, as in: policyd check alice@example.com; or - for a request, or a line of the "
            "audit, on stdin."
        )
    request = (
        given_request(sys.stdin.buffer.read()) if asked == "-" else _typed_request(asked or recipient or "", given)
    )
    call = invocation()

    # The daemon's answer.
    if daemon:
        _print_reply(call, ask_daemon(call.settings, request))
        return

    # The answer as the daemon would find it in the tables, with each step noted on the way.
    decision, trace = explain(call.session.database, call.settings, request, int(time.time()))
    _warn_where_outdated(call)
    _print_decision(call, request, decision, trace)
    click.get_current_context().exit(1 if decision.action.is_refusal else 0)


def _typed_request(recipient: str, given: dict[str, str]) -> Request:
    from policyd.admin.asking import typed_request

    try:
        return typed_request(recipient, given["sender"], given["login"], given["client_address"], given["context"])
    except AddressError as error:
        raise click.UsageError(str(error)) from error


def _warn_where_outdated(call: Invocation) -> None:
    """Say where the answer comes from a replica that may have missed changes."""
    if call.settings.replica is not None and call.session.database.is_on_server:
        from policyd.replica.status import why_outdated

        if told := why_outdated(call.settings.replica, call.now):
            call.warn(told)


def _print_reply(call: Invocation, reply: str) -> None:
    action, _, text = reply.partition(" ")
    if call.json:
        echo_json({"action": action, "text": text})
    else:
        echo(reply)
    click.get_current_context().exit(1 if action == Action.REJECT else 0)


def _print_decision(call: Invocation, request: Request, decision: Decision, trace: list[str]) -> None:
    from policyd.admin.asking import as_object

    if call.json:
        echo_json(as_object(request, decision, trace, call.settings.origin), indent=1)
        return
    echo(f"{decision.action} {decision.text}".rstrip() if decision.action.is_refusal else decision.action)
    for step in trace:
        echo(f"  {step}")
