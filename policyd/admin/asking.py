"""A question, answered and explained as the daemon would answer it: for `policyd check`, and any other face.

The answer is that of `policyd.decide`; here is the way to the tables, and what it looks like as one object.
"""

from typing import Any

from policyd.address import split_address
from policyd.decide import Decider
from policyd.model import Decision, Request
from policyd.settings import Settings
from policyd.store.database import Database
from policyd.store.lookup import looking


def explain(database: Database, settings: Settings, request: Request, now: int) -> tuple[Decision, list[str]]:
    """The answer to *request* at *now*, in Unix seconds, and each step that led to it. Raises StoreError."""
    with looking(database) as lookup:
        return Decider(settings, lookup).explain(request, now)


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
