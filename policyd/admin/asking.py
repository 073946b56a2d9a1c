"""What the answer to a request is, and why; asked of the tables, as the daemon would, or of the daemon itself.

The answer is that of `policyd.decide`; here is the way to the tables, and what it looks like as one object.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote
from typing import Any

from policyd.address import NULL_SENDER, fold, has_domain, internal_address, slip_around_address, split_address
from policyd.decide import Decider
from policyd.endpoint import Endpoint, default_listen
from policyd.errors import AddressError, AuditLineError, DaemonError, NotManagedError, ProtocolError, RefusedError
from policyd.model import TRIAL, Decision, Holder, Request
from policyd.rules import Identity
from policyd.settings import Settings
from policyd.store.connection import Database
from policyd.store.lookup import Answers, looking
from policyd.wire import Layouts, RequestReader, render_request

_DAEMON_SECONDS = 10  # to the end of the answer: who else listens on the port may send byte after byte for ever
_REPLY_BYTES = 65536  # far above what the daemon sends


def typed_request(recipient: str, sender: str, login: str, client_address: str, context: str) -> Request:
    """A request at RCPT, from addresses as a person types them.

    Raises AddressError, also for what is around an address where people copy it from.
    """
    for typed in (recipient, sender):
        if typed != NULL_SENDER and (told := slip_around_address(typed)):
            raise AddressError(f"{typed[:100]}: {told}")
    return Request(
        protocol_state="RCPT",
        sender="" if sender == NULL_SENDER else _unquoted(sender),
        recipient=_unquoted(recipient),
        sasl_username=login,
        client_address=client_address,
        client_name="unknown" if client_address else "",
        policy_context=context,
    )


def given_request(raw: bytes) -> Request:
    """The request that *raw* is, as Postfix sends it; or that the one line of the audit in it is about.

    Lines of others' may stand around that one. Raises ProtocolError and AuditLineError.
    """
    from policyd.audit_lines import is_audit_line, read_request

    lines = [_logged(line) for line in raw.decode("utf-8", "surrogateescape").split("\n")]
    told = [line for line in lines if is_audit_line(line)]
    if told and not any(line.startswith("request=") for line in lines):
        if len(told) > 1:
            raise AuditLineError(f"stdin has {len(told)} lines of the audit; give one of them")
        return read_request(told[0])
    reader = RequestReader(Layouts())
    reader.feed(raw)
    request = reader.next_request()
    if request is None:
        raise ProtocolError(
            "stdin has no line of the audit, and no request with an end; a request ends with an empty line"
        )
    return request


def _logged(line: str) -> str:
    """What was logged, where *line* is an entry of the journal as `journalctl -o json` writes it."""
    if not line.startswith("{") or '"MESSAGE"' not in line:
        return line
    try:
        message = json.loads(line)["MESSAGE"]
    except (ValueError, KeyError, RecursionError):
        return line
    return message if isinstance(message, str) else line


def _unquoted(text: str) -> str:
    """The form in which Postfix sends an address."""
    return internal_address(text) if text.startswith('"') else text


def explain(database: Database, settings: Settings, request: Request, now: int) -> tuple[Decision, list[str]]:
    """The answer to *request* at *now*, in Unix seconds, and each step that led to it. Raises StoreError."""
    with looking(place_of_answers(database, settings)) as tables:
        return explain_from(tables, Decider(settings, tables), settings, request, now)


def explain_from(
    tables: Answers, decider: Decider, settings: Settings, request: Request, now: int
) -> tuple[Decision, list[str]]:
    """The same by a *decider* that reads *tables*.

    A recipient without a domain is told first, with what it is taken for.
    """
    decision, trace = decider.explain(request, now)
    bare = request.recipient if request.recipient and not has_domain(request.recipient) else ""
    holder = tables.mailbox_called(fold(bare)) if bare and not decision.mailbox else None
    return decision, [*_bare_recipient(bare, settings.origin, holder), *trace]


def _bare_recipient(bare: str, origin: str, holder: Holder | None) -> list[str]:
    """What a recipient without a domain is taken for, and the address of the mailbox of that name, which may be meant.

    Nothing where *bare* is "".
    """
    if not bare:
        return []
    taken = (
        f"taken for {split_address(bare, origin)}, as the origin says"
        if origin
        else "no origin is set, so it is neither managed nor outside"
    )
    lines = [f"{bare} has no domain: {taken}"]
    if holder is not None:
        name, primary = holder.name, holder.primary
        told = f"its address is {primary}; type: policyd check {quote(primary)}" if primary else "it has no address"
        lines.append(f"there is a mailbox {name}: {told}")
    return lines


def place_of_answers(database: Database, settings: Settings) -> Database:
    """Where the answer is looked up: in this host's replica where there is to be one, as the daemon does."""
    return Database.to_answer_from(settings) if settings.replica is not None else database


def as_object(request: Request, decision: Decision, trace: list[str], origin: str) -> dict[str, Any]:
    """The answer to *request* and what led to it, by the names of `policyd check --json`; *origin* is the setting."""
    addresses = {
        name: str(split_address(value, origin)) if value else ""
        for name, value in request._asdict().items()
        if name in ("recipient", "sender")
    }
    return {
        "action": decision.action,
        "text": decision.text,
        "rule": decision.rule,
        "by": decision.by or None,
        "entry": decision.entry,
        "recipient": addresses["recipient"],
        "mailbox": decision.mailbox or None,
        "sender": addresses["sender"],
        "login": request.sasl_username,
        "insider": decision.is_insider,
        "trace": trace,
    }


def find_address(database: Database, settings: Settings, text: str) -> dict[str, Any]:
    """The mailbox that an address leads to, and how, as the daemon finds it; *text* is as Postfix sends it.

    Raises NotManagedError and RefusedError where it leads to none, and StoreError.
    """
    with looking(place_of_answers(database, settings)) as lookup:
        return found_address(Decider(settings, lookup).find_recipient(text))


def found_address(found: Identity) -> dict[str, Any]:
    """The same of an address as the daemon has *found* it. Raises NotManagedError and RefusedError."""
    written = found.addresses[0]
    if found.domain is None or found.leads_outside:
        raise NotManagedError(str(written), written.domain)
    address = str(written)
    if found.mailbox is None:
        raise RefusedError(
            f"{address} leads to no mailbox; to give it to one: policyd address add MAILBOX {quote(address)}"
        )
    return {"address": address, "mailbox": found.mailbox.name, "how": found.how}


def ask_daemon(settings: Settings, request: Request) -> str:
    """The running daemon's own reply to *request*, without `action=`, over its first socket. Raises DaemonError.

    Where the request says of no message that it is about it, it is a trial.
    """
    # Ask as Postfix does.
    request = request._replace(instance=request.instance or f"{TRIAL}check")
    endpoint = (settings.listen or default_listen())[0]
    with reaching(endpoint, "answers", "listen"), connected(endpoint, _DAEMON_SECONDS) as connection:
        deadline = time.monotonic() + _DAEMON_SECONDS
        connection.sendall(render_request(request))
        reply = b""
        while not reply.endswith(b"\n\n") and (received := _receive(connection, deadline)):
            reply += received
            if len(reply) > _REPLY_BYTES:
                raise DaemonError(f"what listens on {endpoint.text} is no policyd: its answer has no end")

    # The daemon hangs up where it has no answer.
    if not reply.endswith(b"\n\n"):
        raise DaemonError(f"the daemon on {endpoint.text} hung up without an answer; its log says why")
    return reply.decode("ascii", "replace").strip().removeprefix("action=")


def connected(endpoint: Endpoint, seconds: float) -> socket.socket:
    """A connection to who listens on *endpoint*, on which nothing takes longer. Raises OSError."""
    family = socket.AF_UNIX if endpoint.path else socket.AF_INET6 if ":" in endpoint.interface else socket.AF_INET
    connection = socket.socket(family)
    try:
        connection.settimeout(seconds)
        connection.connect(endpoint.path or (endpoint.interface or "127.0.0.1", endpoint.port))
    except OSError:
        connection.close()
        raise
    return connection


@contextmanager
def reaching(endpoint: Endpoint, does: str, setting: str) -> Iterator[None]:
    """Turns each OSError into a DaemonError that says what nobody *does* on *endpoint*, which *setting* names."""
    try:
        yield
    except PermissionError as error:
        raise DaemonError(
            f"the daemon can't be asked: {endpoint.text} is not open to you; become root, or a member of its group"
        ) from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise DaemonError(
            f"no daemon {does} on {endpoint.text}: nobody listens there ({error.strerror}); start it, or set {setting} "
            "to where it listens"
        ) from error
    except OSError as error:
        raise DaemonError(f"no daemon {does} on {endpoint.text}: {error.strerror or error}") from error


def _receive(connection: socket.socket, deadline: float) -> bytes:
    """What comes next on *connection*, b"" at its end. Raises OSError, also where *deadline* has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    connection.settimeout(left)
    return connection.recv(4096)
