"""The page Ask: why a mail was refused, or would be, from an address, a mailbox, or the queue id of a mail."""

from collections.abc import Iterator
from itertools import islice
from shlex import quote
from typing import Any

from policyd.address import NULL_SENDER, fold
from policyd.admin.answering import Answer, Question, answer, noun_of, request_meant
from policyd.admin.refused import LOOKED_AT
from policyd.errors import AddressError, RefusedError, StoreError
from policyd.model import Domain, Group, Mailbox, Request
from policyd.refusals import Refused
from policyd.replica.status import why_outdated
from policyd.web.pages.about import show_domain, show_group
from policyd.web.pages.page import BAD_REQUEST, OK, UNAVAILABLE, Form, Page, request_in_field, typed
from policyd.web.pages.sources import LIMIT_SECONDS, Sources

FROM = "from"  # the direction; anything else is mail to what was asked about
_REFUSALS = 5  # that are shown below an answer
_ELSEWHERE = {Domain.noun: show_domain, Group.noun: show_group}


def show(sources: Sources, form: Form, now: int) -> Page:
    """The page for what *form* asks at *now*, in Unix seconds."""
    fields = typed(form, "about", "direction", "other", "login", "client", "context")
    values: dict[str, Any] = {"fields": fields, "problem": "", "answer": None, "refusals": [], "is_by_id": False}
    if not (fields["about"] or form.get("asked")):
        return Page("ask.html", values)

    try:
        # There is no mail to a domain or a group: each has a page of its own.
        noun = _noun(sources, form, fields)
        if noun in _ELSEWHERE:
            return _ELSEWHERE[noun](sources, {"name": fields["about"]}, now)
        request, found = _meant(sources, form, fields, is_party=bool(noun))
        values |= {"fields": fields | _fields_of(request, fields), "refusals": found, "is_by_id": bool(found)}
        values["answer"] = _answer(sources, request, now)
    except (AddressError, RefusedError) as error:
        return Page("ask.html", values | {"problem": str(error)}, BAD_REQUEST)
    except StoreError as error:
        return Page("ask.html", values | {"problem": str(error)}, UNAVAILABLE)

    # What was refused of this pair lately, and whether the answer may be an old one.
    if not found:
        values["refusals"] = [*islice(_of_pair(sources, request), _REFUSALS)]
    replica = sources.settings.replica
    values["outdated"] = why_outdated(replica, now) if replica is not None else ""
    values["now"] = now
    return Page("ask.html", values, OK)


def _noun(sources: Sources, form: Form, fields: dict[str, str]) -> str:
    """What it is that is asked about; "" where it may be the id of a mail."""
    if form.get("asked"):
        return Mailbox.noun
    with sources.reading() as session:
        return noun_of(session, fields["about"], limit_seconds=LIMIT_SECONDS)


def _meant(sources: Sources, form: Form, fields: dict[str, str], *, is_party: bool) -> tuple[Request, list[Refused]]:
    """The request that is asked about, and where that was not by a party but by an id, the refusals that have it."""
    # One that another page offered.
    if asked := form.get("asked"):
        return request_in_field(asked), []

    # An address, or a mailbox; what is neither may be the id of a mail.
    about = fields["about"]
    question = Question(
        about,
        fields["other"],
        fields["direction"] == FROM,
        fields["login"],
        fields["client"],
        fields["context"],
    )
    if is_party:
        with sources.reading() as session:
            return request_meant(session, question, limit_seconds=LIMIT_SECONDS), []
    found = [*islice(_with_id(sources, about), _REFUSALS)]
    if not found:
        raise RefusedError(
            f"there is no mailbox, managed domain or group {about}, and no mail with this queue id or instance among"
            f" the refusals that are kept; an older one is found in the mail log, with: policyd why {quote(about)}"
        )
    decision = found[0].decision
    if decision.cut & {"sender", "recipient", "login", "client", "context", "state"}:
        raise RefusedError("it can't be asked again: a value that decides is cut in the line that is kept")
    return decision.request, found


def _answer(sources: Sources, request: Request, now: int) -> Answer:
    with sources.reading() as session:
        return answer(session, sources.settings, request, now, limit_seconds=LIMIT_SECONDS)


def _fields_of(request: Request, fields: dict[str, str]) -> dict[str, str]:
    """What stands in the form afterwards: what was typed, or where that was nothing, what the request has."""
    if fields["about"]:
        return {}
    return {
        "about": request.recipient,
        "direction": "",
        "other": request.sender or NULL_SENDER,
        "login": request.sasl_username,
        "client": request.client_address,
        "context": request.policy_context,
    }


def _of_pair(sources: Sources, request: Request) -> Iterator[Refused]:
    """The refusals of mail from this sender to this recipient; from anybody, where no sender was asked about."""
    sender, recipient = fold(request.sender), fold(request.recipient)
    for refused in islice(sources.refusals.newest([sender, recipient]), LOOKED_AT):
        other = refused.decision.request
        if fold(other.recipient) == recipient and (not sender or fold(other.sender) == sender):
            yield refused


def _with_id(sources: Sources, text: str) -> Iterator[Refused]:
    for refused in islice(sources.refusals.newest([fold(text)]), LOOKED_AT):
        if text in (refused.decision.request.queue_id, refused.decision.request.instance):
            yield refused
