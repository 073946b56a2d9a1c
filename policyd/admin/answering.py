"""Why a mail would be let through or refused, for who is asked "why was this refused?": a sentence, then all the rest.

The answer and its steps are those of `policyd.admin.asking`, so that every face gives the same one.
"""

import re
from dataclasses import dataclass, replace
from typing import NamedTuple, assert_never

from policyd.address import (
    NULL_SENDER,
    fold,
    is_group,
    is_pattern,
    normal_client,
    normal_domain,
    quote_local_part,
)
from policyd.admin.asking import explain_from, place_of_answers, typed_request
from policyd.admin.reviewing import Remedy, reviewing
from policyd.admin.session import Session
from policyd.admin.tracing import Cause
from policyd.audit_lines import LoggedDecision
from policyd.decide import Decider
from policyd.errors import AddressError, RefusedError, StoreError
from policyd.model import GROUP_PREFIX, Decision, Domain, Group, Holder, Mailbox, PartyKind, Receive, Request, Rule
from policyd.rules import Identity
from policyd.settings import Settings
from policyd.store.edit import need_mailbox
from policyd.store.lookup import Answers, looking
from policyd.store.queries import Queries
from policyd.timestamps import day_in_words


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request, as the tables are now.

    `because` says in words what decided; `until`, in Unix seconds, is the end of that restriction or entry. `cause` is
    who set it and what has changed since, and `remedy` what would let the mail through: both are None where nothing
    refuses it, or where the journal can't be asked, as `problem` says.
    """

    request: Request
    decision: Decision
    trace: list[str]
    because: str
    until: int | None = None
    cause: Cause | None = None
    remedy: Remedy | None = None
    problem: str = ""

    def sentence(self, now: int) -> str:
        """What decided, why, until when, who set it and when: one sentence, without the action."""
        reason = self.decision.reason
        parts = [f"{self.because}: {reason}" if reason else self.because]
        if self.until is not None:
            parts.append(f"until {day_in_words(self.until, now, is_end=True)}")
        if self.cause is not None and (change := self.cause.set_by):
            parts.append(f"set by {change.actor} on {day_in_words(change.at, now)}")
        return "; ".join(parts)


class Question(NamedTuple):
    """What a person asks about a mail: each side is an address as it is typed, or a mailbox's name.

    It is mail to `about` from `other`, or where it *is_from* `about`, the other way round; "" or `<>` as the sender is
    the null sender.
    """

    about: str
    other: str = ""
    is_from: bool = False
    login: str = ""
    client: str = ""
    context: str = ""


def request_meant(session: Session, question: Question, *, limit_seconds: float | None = None) -> Request:
    """The request that *question* is about. Raises AddressError, RefusedError and StoreError."""
    sides = (question.about, question.other)
    sender, recipient = sides if question.is_from else sides[::-1]
    if recipient in ("", NULL_SENDER):
        raise RefusedError("whom the mail is to is missing: an address, or a mailbox's name")

    # Only for a mailbox's name the tables are needed.
    names = {each for each in (sender, recipient) if each and "@" not in each and each != NULL_SENDER}
    addresses: dict[str, str] = {}
    if names:
        with session.reading(limit_seconds=limit_seconds) as queries:
            addresses = {name: _primary_address(queries, name) for name in names}
    return typed_request(
        addresses.get(recipient, recipient),
        addresses.get(sender, sender),
        question.login,
        normal_client(question.client),
        question.context,
    )


def noun_of(session: Session, text: str, *, limit_seconds: float | None = None) -> str:
    """What *text* names, by the first word of its commands: `mailbox`, `group` or `domain`; "" where it names nothing.

    As `parse_party` reads it, `group:NAME` is a group, and what has an `@` an address, but for `@DOMAIN`, which is a
    domain. A bare name is that of a mailbox, else of a managed domain, else of a group. Raises StoreError.
    """
    if is_group(text):
        return Group.noun
    if is_pattern(text):
        return Domain.noun if re.match(r"@[^.]", text) else Mailbox.noun
    with session.reading(limit_seconds=limit_seconds) as queries:
        if queries.mailbox_named(fold(text)) is not None:
            return Mailbox.noun
        if _is_managed(queries, text):
            return Domain.noun
        return Group.noun if queries.group_named(fold(text)) is not None else ""


def _is_managed(queries: Queries, text: str) -> bool:
    """Whether *text* is a managed domain."""
    try:
        return queries.find_domain(normal_domain(text)) is not None
    except AddressError:
        return False


def answer(
    session: Session,
    settings: Settings,
    request: Request,
    now: int,
    *,
    limit_seconds: float | None = None,
) -> Answer:
    """The answer to *request* at *now*, in Unix seconds. Raises StoreError where there is none.

    The journal is asked for *limit_seconds* at most.
    """
    # The answer itself: on a host with a replica from that, whether or not the database can be reached.
    with looking(place_of_answers(session.database, settings)) as tables:
        decider = Decider(settings, tables)
        decision, trace = explain_from(tables, decider, settings, request, now)
        found = _in_words(Answer(request, decision, trace, "nothing refuses it"), tables, decider)
    if not decision.is_refused:
        return found

    # Who set it, and what would let the mail through: the journal is in the database alone.
    try:
        with reviewing(session, settings, now, limit_seconds=limit_seconds) as review:
            return replace(found, cause=review.cause(logged(request, decision), None), remedy=review.remedy(request))
    except StoreError as error:
        return replace(found, problem=str(error))


def logged(request: Request, decision: Decision) -> LoggedDecision:
    """The answer to *request* as its line of the audit would have it."""
    return LoggedDecision(
        request,
        decision.action,
        decision.is_refused and not decision.action.is_refusal,
        decision.rule,
        decision.entry,
        decision.reason,
        decision.text,
        decision.mailbox,
        decision.by,
    )


def _primary_address(queries: Queries, name: str) -> str:
    """The address of a mailbox, the primary one if it has several. Raises RefusedError where it has none."""
    mailbox = need_mailbox(queries, name)
    addresses = queries.addresses_of(mailbox.id)
    if not addresses:
        raise RefusedError(f"{mailbox.name} has no address: no mail can be to it")
    return quote_local_part(addresses[0].address)


def _in_words(found: Answer, tables: Answers, decider: Decider) -> Answer:
    """*found* with what decided, and when that ends."""
    decision, request = found.decision, found.request
    if not request.recipient and decision.entry is None:
        return found
    recipient = decider.find_recipient(request.recipient) if request.recipient else None
    called = quote_local_part(request.recipient)
    match decision.rule:
        case Rule.ALWAYS_ACCEPTED:
            return replace(found, because=f"nobody may be kept from writing to {called}")
        case Rule.BLOCKED_SENDER:
            entry = tables.entry(decision.entry or 0)
            if entry is None:
                return found
            to = "recipients outside" if entry.to.kind is PartyKind.OUTSIDE else entry.to
            return replace(found, because=f"{entry.who} may not send to {to} (entry {entry.id})", until=entry.until)
        case Rule.UNLISTED_RECIPIENT:
            return replace(found, because=f"{called} is no mailbox's address, and {_domain(recipient)} rejects such")
        case Rule.RESTRICTED_RECIPIENT | Rule.ACCEPTED_SENDER | Rule.DEFAULT:
            return _about_recipient(found, recipient) if recipient is not None else found
        case _:
            assert_never(decision.rule)


def _about_recipient(found: Answer, recipient: Identity) -> Answer:
    """*found*, which hangs on who may send to *recipient*."""
    decision = found.decision
    called = decision.mailbox or quote_local_part(found.request.recipient)

    # Where a restriction was asked, what it says, and for whom it lets this mail through.
    owner = _owner(recipient, decision.by)
    if owner is not None:
        says = "" if isinstance(owner, Holder) else f", as {_called(owner)} says"
        words = f"{called} takes mail from {_senders(owner.receive)}{says}"
        if decision.rule is Rule.ACCEPTED_SENDER:
            words = f"{words}, and accepts this sender"
        elif not decision.is_refused:
            words = f"{words}, and this is one" if owner.receive is not Receive.NOBODY else words
        return replace(found, because=words, until=owner.until)

    # Where nobody restricts it.
    if recipient.is_outside:
        return replace(found, because=f"nothing blocks the sender, and {called} is outside: its domain is not managed")
    if recipient.mailbox is None and recipient.domain is not None:
        return replace(found, because=f"{called} is no mailbox's address, and {recipient.domain.name} accepts such")
    return replace(found, because=f"nothing blocks the sender, and {called} takes mail from anyone")


def _owner(recipient: Identity, by: str) -> Holder | Group | Domain | None:
    """What restricts *recipient*, where the decision says that it is restricted *by* this."""
    if by == "mailbox":
        return recipient.mailbox
    if by == "domain":
        return recipient.domain
    return next((each for each in recipient.groups if str(each.party) == by), None)


def _called(owner: Group | Domain) -> str:
    return f"{GROUP_PREFIX}{owner.name}" if isinstance(owner, Group) else f"domain {owner.name}"


def _domain(recipient: Identity | None) -> str:
    return recipient.domain.name if recipient is not None and recipient.domain is not None else "its domain"


def _senders(receive: Receive) -> str:
    """From whom mail is taken that *receive* restricts, in words."""
    match receive:
        case Receive.INSIDERS:
            return "insiders only"
        case Receive.DOMAIN:
            return "its own domains only"
        case Receive.NOBODY:
            return "nobody"
        case Receive.ANYONE | Receive.INHERIT:
            return "anyone"
        case _:
            assert_never(receive)
