"""Asks the running daemon what the tables tell, and compares."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from itertools import islice

from policyd.admin.asking import ask_daemon, explain
from policyd.doctor.diagnosis import Diagnosis
from policyd.endpoint import Endpoint, default_listen
from policyd.errors import DaemonError
from policyd.model import TRIAL, Action, Mode, Request, Unlisted
from policyd.settings import Settings
from policyd.store.connection import Database
from policyd.store.database import reading
from policyd.store.queries import Queries

_OUTSIDERS = ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1")
_NOBODY = "nobody-of-policyd-doctor"
DOCTOR = f"{TRIAL}doctor"
_TRIED = 20  # addresses that are perhaps refused


def outsider(settings: Settings) -> str:
    """An address, of those for documentation, that is no insider's; "" where each is."""
    for each in _OUTSIDERS:
        if not any(ip_address(each) in network for network in settings.insider_networks):
            return each
    return ""


def refused_request(settings: Settings, database: Database, now: int) -> Request | None:
    """A request to refuse, as the tables stand; None where they refuse nothing to a stranger."""
    client = outsider(settings)
    if not client:
        return None
    for recipient in _candidates(settings, database):
        request = Request(
            protocol_state="RCPT",
            instance=DOCTOR,
            client_name="unknown",
            client_address=client,
            sender=f"{_NOBODY}@doctor.invalid",
            recipient=recipient,
        )
        if explain(database, settings, request, now)[0].is_refused:
            return request
    return None


def _candidates(settings: Settings, database: Database) -> list[str]:
    """Addresses of which one is perhaps refused."""
    with reading(database) as connection:
        queries = Queries(connection, settings.recipient_delimiter)
        found = [address for address, _ in islice(queries.perhaps_restricted(), _TRIED)]
        unlisted = (each.name for each in queries.domains() if each.unlisted is Unlisted.REJECT and not each.alias_of)
        found += [f"{_NOBODY}@{name}" for name in islice(unlisted, 1)]
    return found


def diagnose_daemon(settings: Settings, database: Database, now: int, unseen: list[str]) -> Iterator[Diagnosis]:
    """What is wrong with the answers on each socket."""
    request = refused_request(settings, database, now)
    if settings.mode is Mode.MONITOR:
        unseen.append("whether the daemon answers from these tables: in monitor mode it refuses nothing")
    elif request is None:
        unseen.append("whether the daemon answers from these tables: they refuse nothing to a stranger")
    if request is None:
        request = Request(protocol_state="RCPT", instance=DOCTOR, recipient=f"{_NOBODY}@doctor.invalid")
    decision, _ = explain(database, settings, request, now)
    expected = f"{decision.action} {decision.text}".rstrip() if decision.action.is_refusal else str(decision.action)
    for endpoint in settings.listen or default_listen():
        yield from _endpoint(settings, endpoint, request, expected, unseen)


def diagnose_log(settings: Settings, unseen: list[str]) -> Iterator[Diagnosis]:
    """Whether somebody takes the lines of the audit."""
    path = settings.audit.syslog.removeprefix("unix:")
    if path == settings.audit.syslog:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as trial:
            trial.connect(path)
    except ConnectionRefusedError:
        told = f"Nobody reads what is sent to {path}."
        yield Diagnosis("syslog-gone", settings.audit.syslog, told, ("systemctl restart rsyslog",))
    except OSError as error:
        unseen.append(f"the log: {path}: {error.strerror}; without one, decisions are not logged")


def _endpoint(
    settings: Settings, endpoint: Endpoint, request: Request, expected: str, unseen: list[str]
) -> Iterator[Diagnosis]:
    try:
        reply = ask_daemon(replace(settings, listen=(endpoint,)), request)
    except DaemonError as error:
        if "hung up" in str(error) or "timed out" in str(error):
            yield Diagnosis("daemon-mute", endpoint.text, f"{error}.", ("journalctl -u policyd",))
        else:
            unseen.append(f"what answers on {endpoint.text}: {error}")
        return
    action = reply.partition(" ")[0]
    if action not in [*Action]:
        told = f"On {endpoint.text} somebody answers {reply[:80]!r}, which policyd never does."
        yield Diagnosis("not-policyd", endpoint.text, told, advice="Have policyd listen elsewhere, or stop that.")
    elif reply != expected:
        told = (
            f"About {request.recipient} the daemon on {endpoint.text} answers {reply!r}, and by these tables and "
            f"settings it is {expected!r}."
        )
        yield Diagnosis("other-database", endpoint.text, told, ("systemctl restart policyd",))
