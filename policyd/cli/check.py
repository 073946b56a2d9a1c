"""`policyd check`: prints what the answer to a request is, and why."""

import socket
import sys
import time

import click

from policyd.address import NULL_SENDER, internal_address
from policyd.admin.asking import as_object, explain
from policyd.cli.command import Command, Invocation, invocation
from policyd.cli.terminal import echo, echo_json
from policyd.cli.types import CLIENT
from policyd.endpoint import default_listen
from policyd.errors import AddressError, DaemonError, ProtocolError
from policyd.model import Action, Decision, Request
from policyd.wire import Layouts, RequestReader, render_request

_DAEMON_SECONDS = 10  # to the end of the answer: who else listens on the port may send byte after byte for ever
_REPLY_BYTES = 65536  # far above what the daemon sends


@click.command("check", cls=Command)
@click.argument("stdin", metavar="[-]", required=False, type=click.Choice(["-"]))
@click.option("--recipient", metavar="R", help="The recipient's address.")
@click.option("--sender", metavar="S", default="", help="The envelope sender; without it, or as <>, the null sender.")
@click.option("--login", metavar="L", default="", help="The SASL login; without it, the client is not logged in.")
@click.option(
    "--client-address", metavar="IP", type=CLIENT, default="", help="The client's; without it, an outsider's."
)
@click.option("--context", metavar="C", default="", help="The policy_context of the service that asks.")
@click.option("--daemon", is_flag=True, help="Ask the running daemon, over its first socket, instead of the tables.")
def command(stdin: str | None, recipient: str | None, daemon: bool, **given: str) -> None:
    """Say what the answer to a request is, and why; `-` reads a raw request from stdin.

    Ends with 0 if the mail would be permitted, with 1 if it would be refused.

    \b
    Example: policyd check --sender joe@example.net --recipient alice@example.com
    """
    # The request, as a person or the wire gives it.
    if (stdin is None) is (recipient is None):
        raise click.UsageError("Give either --recipient or - for a raw request on stdin.")
    request = _read_request() if stdin else _made_request(recipient or "", given)
    call = invocation()

    # The daemon's answer.
    if daemon:
        _print_reply(call, _ask_daemon(call, request))
        return

    # The answer as the daemon would find it in the tables, with each step noted on the way.
    decision, trace = explain(call.store, call.settings, request, int(time.time()))
    _print_decision(call, request, decision, trace)
    click.get_current_context().exit(1 if decision.action.is_refusal else 0)


def _made_request(recipient: str, given: dict[str, str]) -> Request:
    """A request at RCPT, from addresses as a person types them."""
    sender = "" if given["sender"] == NULL_SENDER else _internal(given["sender"])
    return Request(
        protocol_state="RCPT",
        sender=sender,
        recipient=_internal(recipient),
        sasl_username=given["login"],
        client_address=given["client_address"],
        client_name="unknown" if given["client_address"] else "",
        policy_context=given["context"],
    )


def _internal(text: str) -> str:
    """The form in which Postfix sends an address: unquoted."""
    if text.startswith('"'):
        try:
            return internal_address(text)
        except AddressError as error:
            raise click.UsageError(str(error)) from error
    return text


def _read_request() -> Request:
    reader = RequestReader(Layouts())
    reader.feed(sys.stdin.buffer.read())
    request = reader.next_request()
    if request is None:
        raise ProtocolError("the request on stdin has no end; a request ends with an empty line")
    return request


def _ask_daemon(call: Invocation, request: Request) -> str:
    """The daemon's own reply, without `action=`."""
    # Ask as Postfix does.
    endpoint = (call.settings.listen or default_listen())[0]
    family = socket.AF_UNIX if endpoint.path else socket.AF_INET6 if ":" in endpoint.interface else socket.AF_INET
    try:
        with socket.socket(family) as connection:
            deadline = time.monotonic() + _DAEMON_SECONDS
            connection.settimeout(_DAEMON_SECONDS)
            connection.connect(endpoint.path or (endpoint.interface or "127.0.0.1", endpoint.port))
            connection.sendall(render_request(request))
            reply = b""
            while not reply.endswith(b"\n\n") and (received := _receive(connection, deadline)):
                reply += received
                if len(reply) > _REPLY_BYTES:
                    raise DaemonError(f"what listens on {endpoint.text} is no policyd: its answer has no end")
    except OSError as error:
        raise DaemonError(f"no daemon answers on {endpoint.text}: {error.strerror or error}") from error

    # The daemon hangs up where it has no answer.
    if not reply.endswith(b"\n\n"):
        raise DaemonError(f"the daemon on {endpoint.text} hung up without an answer; its log says why")
    return reply.decode("ascii", "replace").strip().removeprefix("action=")


def _receive(connection: socket.socket, deadline: float) -> bytes:
    """What comes next on *connection*, b"" at its end. Raises OSError, also where *deadline* has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    connection.settimeout(left)
    return connection.recv(4096)


def _print_reply(call: Invocation, reply: str) -> None:
    action, _, text = reply.partition(" ")
    if call.json:
        echo_json({"action": action, "text": text})
    else:
        echo(reply)
    click.get_current_context().exit(1 if action == Action.REJECT else 0)


def _print_decision(call: Invocation, request: Request, decision: Decision, trace: list[str]) -> None:
    if call.json:
        echo_json(as_object(request, decision, trace, call.settings.origin), indent=1)
        return
    echo(f"{decision.action} {decision.text}".rstrip() if decision.action.is_refusal else decision.action)
    for step in trace:
        echo(f"  {step}")
