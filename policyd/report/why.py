"""Why one mail was refused: its lines in the log, who set what refused it, what has changed since, and the answer now.

The answer is plain values, under the names of `policyd why --json`. Times are Unix seconds.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from policyd import changes
from policyd.address import fold
from policyd.admin.asking import as_object
from policyd.admin.reviewing import Review, reviewing
from policyd.admin.session import Session
from policyd.audit_lines import LoggedDecision, is_audit_line, kind_of, read_decision, read_request
from policyd.errors import AuditLineError, RefusedError
from policyd.model import Change, Request
from policyd.report.log_files import Log
from policyd.report.log_lines import Logged, LogReader
from policyd.settings import Settings

_TOLD = 20  # mails that are explained at once: a queue id comes again after a while
_KEPT = 1000  # decisions like the one that is asked about, the last ones
_WAITING = 5000  # messages whose queue id may still come
_NEAR_SECONDS = 2  # between smtpd's line about a mail and ours
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.]{3,254}", re.ASCII)  # a queue id, or Postfix's instance
_REJECTED = re.compile(
    r"reject(?:_warning)?: [A-Z-]+ from [^\[\s]*\[(?P<client>[^\]]*)\].*"
    r"; from=<(?P<sender>.*?)>(?: to=<(?P<recipient>.*?)>)? "
)


class Found(NamedTuple):
    """A decision in the log, and when it was logged; None where nobody says."""

    at: float | None
    decision: LoggedDecision


Wanted = Callable[[float | None, Request], bool]


def explain_mail(
    asked: str, logs: list[Path], session: Session, settings: Settings, now: int
) -> tuple[list[dict[str, Any]], int]:
    """Why what *asked* is about was refused, or let through, once for each mail; and how many mails more there are.

    *asked* is a line of the audit, of a report or of smtpd about a refusal, a queue id, or Postfix's `instance`. All
    but the first are looked for in the log that *logs* name (as `Log` takes it). Raises RefusedError where they are not
    there, AuditLineError, LogError and StoreError.
    """
    found = _found(asked, logs, now)
    some = found[:_TOLD]
    with reviewing(session, settings, now) as review:
        return [_explained(each, review, settings) for each in some], len(found) - len(some)


def _found(asked: str, logs: list[Path], now: int) -> list[Found]:
    """The decisions that are asked about, each mail once: those that refused; if there are none, the last one."""
    text = asked.strip()
    if _ID.fullmatch(text):
        log = Log(logs)
        found = _with_id(text, log)
        names = ", ".join(log.reading.names)
    else:
        logged = _only_line(text, now)
        if logged is not None and kind_of(logged.text) == "action":
            return [Found(logged.at, read_decision(logged.text))]
        wanted = _wanted(text, now)
        log = Log(logs)
        found = [*deque((each for each in _decisions(log) if wanted(each.at, each.decision.request)), _KEPT)]
        names = ", ".join(log.reading.names)
    if not found:
        about = text if _ID.fullmatch(text) else "this mail"
        raise RefusedError(f"{names}: no line of policyd about {about}; --log names another log")

    # The same question twice, by two places in Postfix's lists, is one.
    mails = {
        (each.decision.request.instance or number, each.decision.request.recipient): each
        for number, each in enumerate(found)
    }
    refused = [each for each in mails.values() if each.decision.is_refused]
    return refused or [found[-1]]


def _only_line(text: str, now: int) -> Logged | None:
    """What policyd logged, and when, in the one line that *text* is."""
    lines = [*LogReader(BytesIO(text.encode("utf-8", "surrogateescape")), now)]
    told = [each for each in lines if kind_of(each.text)]
    if len(told) > 1:
        raise AuditLineError(f"these are {len(told)} lines of the audit; give one of them")
    return told[0] if told else None


def _wanted(text: str, now: int) -> Wanted:
    """Whether a decision is the one that a line of a report, or of smtpd, is about."""
    if found := _REJECTED.search(text):
        at = LogReader(BytesIO(), now).time_of(text.encode("utf-8", "surrogateescape"))
        wanted = [fold(found[name] or "") for name in ("client", "sender", "recipient")]

        def is_near(logged_at: float | None, request: Request) -> bool:
            if at is not None and logged_at is not None and abs(at - logged_at) > _NEAR_SECONDS:
                return False
            return [*map(fold, (request.client_address, request.sender, request.recipient))] == wanted

        return is_near
    if is_audit_line(text):
        asked = read_request(text)
        return lambda _, request: request._replace(queue_id="", instance="") == asked._replace(queue_id="", instance="")
    raise AuditLineError(
        "this is neither a queue id nor a line of the audit, of a report, or of smtpd about a refusal; a queue id is"
        " like 4XyZ0B1cJ2z9"
    )


def _decisions(log: Iterable[Logged]) -> Iterable[Found]:
    """The decisions in a log; what can't be read is none."""
    for at, text in log:
        if kind_of(text) == "action":
            try:
                yield Found(at, read_decision(text))
            except AuditLineError:
                continue


def _with_id(wanted: str, log: Iterable[Logged]) -> list[Found]:
    """The decisions about messages with this queue id, or instance.

    Postfix gives a message its queue id with the first recipient that it takes: what was asked before is known by the
    instance alone.
    """
    found: list[Found] = []
    waiting: OrderedDict[str, list[Found]] = OrderedDict()
    for each in _decisions(log):
        request = each.decision.request
        if wanted in (request.queue_id, request.instance):
            found += [*waiting.pop(request.instance, ()), each]
        elif not request.queue_id and request.instance:
            waiting.setdefault(request.instance, []).append(each)
            if len(waiting) > _WAITING:
                waiting.popitem(last=False)
    return found


def _explained(found: Found, review: Review, settings: Settings) -> dict[str, Any]:
    """A decision, what made it, and how it would be answered now."""
    decision = found.decision
    request = decision.request
    cause = review.cause(decision, found.at)
    answer = None
    if not decision.cut & {"client", "sender", "recipient", "login", "context", "state"}:
        answer = as_object(request, *review.explain(request), settings.origin)
    return {
        "at": None if found.at is None else int(found.at),
        "action": decision.action,
        "would": decision.would,
        "rule": decision.rule,
        "entry": decision.entry,
        "by": decision.by or None,
        "mailbox": decision.mailbox or None,
        "sender": request.sender,
        "login": request.sasl_username,
        "client": f"{request.client_name}[{request.client_address}]",
        "recipient": request.recipient,
        "context": request.policy_context,
        "reason": decision.reason,
        "text": decision.text,
        "because": cause.words,
        "set_by": _change(cause.set_by) if cause.set_by else None,
        "ended": cause.until,
        "since": [*map(_change, cause.since)],
        "since_more": cause.more,
        "now": answer,
    }


def _change(change: Change) -> dict[str, Any]:
    """A change as `policyd history --json` has it, and in words."""
    return {**changes.as_object(change), "words": changes.describe(change)}
