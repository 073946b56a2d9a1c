"""The report on a while of the log: what was counted, beside what the tables of today say to it; as plain values.

Times are Unix seconds. What likely is refused by mistake stands first. The names are those of `policyd report --json`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from policyd.address import fold
from policyd.admin.reviewing import LISTED, Review, reviewing
from policyd.admin.session import Session
from policyd.audit_lines import asked_line
from policyd.decide import is_in_networks
from policyd.errors import PolicydError, StoreError
from policyd.model import Rule
from policyd.report.counting import DICTIONARY, Counts, Frequent, Refused, Unlisted
from policyd.report.log_files import Log
from policyd.settings import Settings

_HOUR = 3600
_WEEK = 7 * 86400
# RFC 1918, RFC 4193, and what a host has to itself: an outsider has no address there, but for a gateway's.
_PRIVATE = [*map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7", "::1/128"))]


def make_report(
    named: Sequence[Path], since: int, session: Session, settings: Settings, now: int, limit: int = LISTED
) -> dict[str, Any]:
    """The report on the log that is *named* (as `Log` takes it) from *since* to *now*, in Unix seconds.

    Lists have at most *limit* items, the most important ones. Where the tables can't be read, what they would say is
    missing, and `problems` says why. Raises LogError.
    """
    # Count what the log has.
    log = Log(named, since)
    counts = Counts(since, lambda client: is_in_networks(client, settings.insider_networks), settings.insider_contexts)
    for logged in log:
        counts.take(logged)
    reading = log.reading
    report = {
        "logs": reading.names,
        "lines": reading.lines,
        "lines_of_policyd": counts.period.count,
        "not_understood": counts.not_understood,
        "without_time": reading.untimed,
        "lost": reading.lost + counts.dropped,
        "problems": reading.problems,
        **_totals(counts),
    }

    # Ask the tables about it.
    try:
        with reviewing(session, settings, now) as review:
            return report | listed(counts, review, limit) | _from_tables(counts, review, now, limit)
    except StoreError as error:
        report["problems"] = [*reading.problems, f"the tables can't be read, so what they say is missing: {error}"]
        return report | listed(counts, None, limit)


def _totals(counts: Counts) -> dict[str, Any]:
    """What is counted, and not listed."""
    hung_up = counts.warnings.get("hung up")
    return {
        "first": int(counts.period.first) or None,
        "last": int(counts.period.last) or None,
        "questions": counts.decisions,
        "asked_twice": counts.asked_twice,
        "trials": counts.trials,
        "cut": counts.cut,
        "rules": {str(rule): asdict(answers) for rule, answers in counts.rules.items()},
        "unlisted_questions": sum(asdict(counts.rules[Rule.UNLISTED_RECIPIENT]).values()),
        "contexts": [
            {
                "context": context,
                "questions": each.count,
                "by_login": each.logins,
                "by_network": each.networks,
                "outsiders": each.outsiders,
            }
            for context, each in counts.contexts.ranked()
        ],
        "hours_without_questions": [*_silent_hours(counts)],
        "hung_up": hung_up.count if hung_up else 0,
        "starts": counts.events["started"],
        "stops": counts.events["stopped"],
        "reloads": counts.events["reloaded"],
        "warnings": [
            {"warning": warning, "count": each.count, "first": int(each.first) or None, "last": int(each.last) or None}
            for warning, each in counts.warnings.ranked(LISTED)
        ],
    }


def _silent_hours(counts: Counts) -> Iterator[dict[str, int]]:
    """The spans of whole hours, between the first and the last line, in which policyd was asked nothing."""
    if not counts.hours:
        return
    begin, end = int(counts.period.first) // _HOUR, int(counts.period.last) // _HOUR
    asked = sorted(counts.hours)
    for one, other in zip([begin, *asked], [*asked, end], strict=True):
        first = one + (one in counts.hours)
        if other > first:
            yield {"from": first * _HOUR, "to": other * _HOUR}


def listed(counts: Counts, review: Review | None, limit: int) -> dict[str, Any]:
    """What is listed: who was refused, and which addresses are unlisted."""
    refused = [_refused(each, _signs(each, counts, review), review) for _, each in counts.refused.ranked()]
    refused.sort(key=lambda each: (not each["likely_wrong"], -each["count"]))
    guessed = [each for each in counts.guessing.ranked() if len(each[1].recipients) >= DICTIONARY]
    guessing = {client for client, _ in guessed}
    tried = [each for _, each in counts.unlisted.ranked() if not each.clients <= guessing]
    return {
        "refused": refused[:limit],
        "refused_more": len(refused) - len(refused[:limit]),
        "refused_others": counts.refused.others,
        "unlisted": [*_unlisted(tried[:limit], review)],
        "unlisted_more": len(tried) - len(tried[:limit]),
        "unlisted_others": counts.unlisted.others,
        "guessing": [
            {"client": client, "count": each.count, "first": int(each.first) or None, "last": int(each.last) or None}
            for client, each in guessed[:limit]
        ],
        "insiders_by_network": [
            {"client": address, "count": each.count, "last_sender": each.request.sender}
            for address, each in counts.by_network.ranked(limit)
        ],
    }


def _refused(seen: Refused, signs: Iterable[str], review: Review | None) -> dict[str, Any]:
    """Mail of one sender to one mailbox."""
    decision = seen.last_decision
    return {
        **_about(seen),
        "rule": decision.rule,
        "entry": decision.entry,
        "by": decision.by or None,
        "mailbox": decision.mailbox or None,
        "likely_wrong": [*signs],
        **_answered_now(seen, review),
    }


def _unlisted(tried: Sequence[Unlisted], review: Review | None) -> Iterator[dict[str, Any]]:
    """Addresses that are unlisted, each with the listed one that is nearest."""
    nearest = review.nearest([fold(each.last_decision.request.recipient) for each in tried]) if review else {}
    for each in tried:
        near = nearest.get(fold(each.last_decision.request.recipient))
        yield {
            **_about(each),
            "nearest": near.address if near else None,
            "nearest_mailbox": near.mailbox if near else None,
            **_answered_now(each, review, near),
        }


def _about(seen: Refused) -> dict[str, Any]:
    decision = seen.last_decision
    request = decision.request
    return {
        "count": seen.count,
        "would_be_refused": seen.would,
        "refused": seen.count - seen.would,
        "first": int(seen.first) or None,
        "last": int(seen.last) or None,
        "sender": request.sender,
        "login": request.sasl_username,
        "recipient": request.recipient,
        "text": decision.text,
        "asked": None if decision.cut else asked_line(request),
    }


def _answered_now(seen: Refused, review: Review | None, near: Any = None) -> dict[str, Any]:
    """How the last question would be answered now, and the command that lets it through."""
    decision = seen.last_decision
    if review is None or decision.cut:
        return {"now": None, "command": None, "remark": None}
    try:
        remedy = review.remedy(decision.request, near)
    except StoreError:
        raise
    except PolicydError as error:  # an address that is none
        return {"now": None, "command": None, "remark": str(error)}
    now = "REJECT" if remedy.decision.is_refused else "DUNNO"
    return {"now": now, "command": remedy.command or None, "remark": remedy.remark or None}


def _signs(seen: Refused, counts: Counts, review: Review | None) -> Iterator[str]:
    """What speaks for it that somebody is refused who should not be."""
    decision = seen.last_decision
    if decision.rule != Rule.RESTRICTED_RECIPIENT:
        return
    request = decision.request
    if seen.has_login:
        yield "it came with a login"
    sender = fold(request.sender or request.sasl_username)
    recipients = {fold(request.recipient), *(review.addresses_of(decision.mailbox) if review else ())}
    if sender and any(counts.letters.has(each, sender) for each in recipients):
        yield "the mailbox has written to this sender"
    if any(counts.letters.has(sender, each) for each in recipients):
        yield "this sender was let through before"
    if not request.sasl_username and counts.known_clients.has(request.client_address):
        yield "somebody logs in from this client"
    if is_in_networks(request.client_address, _PRIVATE):
        yield "the client has an address of a private network"


def _from_tables(counts: Counts, review: Review, now: int, limit: int) -> dict[str, Any]:
    """What the tables and the journal have to it."""
    matched = {number: each for number, each in counts.entries.ranked() if isinstance(number, int)}
    terms = review.terms(matched.keys(), now + _WEEK)
    first, last = int(counts.period.first), int(counts.period.last)
    changesets = review.changesets(first, last) if first else []
    return {
        "blocked_senders": [*_tried(counts.entries, review, limit)],
        "never_matched": terms.never_matched[:limit],
        "never_matched_more": len(terms.never_matched[limit:]),
        "ended": terms.ended[:limit],
        "ending": terms.ending[:limit],
        "changes": changesets[:limit],
        "changes_more": len(changesets[limit:]),
    }


def _tried(entries: Frequent[Refused], review: Review, limit: int) -> Iterator[dict[str, Any]]:
    """The blocked senders that tried."""
    for number, each in entries.ranked(limit):
        entry = review.blocked_sender(number) if isinstance(number, int) else None
        yield {
            "entry": number,
            "sender": str(entry.who) if entry else None,
            "to": str(entry.to) if entry else None,
            "count": each.count,
            "first": int(each.first) or None,
            "last": int(each.last) or None,
            "reason": each.last_decision.reason,
        }
