"""Asks for decisions as the daemon does, one request after another."""

from policyd.decide import Decider
from policyd.model import Request
from policyd.settings import Settings

NOW = 1_700_000_000
OUTSIDE = "joe@partner.example"


def ask(tables, settings=Settings(), state="RCPT", now=NOW, **fields):  # noqa: B008 - settings are frozen
    """The decision on such a request, from an outsider unless it says otherwise."""
    request = Request(**{"protocol_state": state, "client_address": "192.0.2.7", **fields})
    return decide(Decider(settings, tables), request, now)


def decide(decider, request, now=NOW):
    """The decision of *decider* on a request that comes alone."""
    try:
        return decider.decide(request, now)
    finally:
        decider.end()


def rule(*arguments, **fields):
    """The rule that decided."""
    return ask(*arguments, **fields).rule


def trace(tables, settings=Settings(), **fields):  # noqa: B008 - settings are frozen
    """The answer as `check` explains it."""
    steps = []
    Decider(settings, tables).decide(Request(**fields), NOW, lambda step, *values: steps.append(step.format(*values)))
    tables.end()
    return steps
