"""What the tables of today say to what a log has: the answer now, what would let a mail through, what is like it."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, assert_never

from policyd.address import fold, name_after, pattern_covers, quote_local_part
from policyd.admin.session import Session
from policyd.admin.tracing import Cause, Tracing
from policyd.admin.typed_commands import typed_command
from policyd.audit_lines import LoggedDecision
from policyd.decide import Decider
from policyd.model import (
    Address,
    BlockedSender,
    Change,
    Decision,
    Domain,
    Group,
    Mailbox,
    Party,
    PartyKind,
    Request,
    Rule,
    pattern_party,
)
from policyd.rules import is_past
from policyd.settings import Settings
from policyd.store.lookup import Answers
from policyd.store.queries import Queries

LISTED = 1000  # of each kind, at most
_UNTYPABLE = "it has characters that nobody can type"
_SEPARATORS = str.maketrans("", "", ".-_")
_SHORT, _LONG = 3, 64  # characters of a local part between which one more or less is a slip


@dataclass(frozen=True, slots=True)
class Remedy:
    """How a question is answered now, and what would let it through: a command, or where there is none, why.

    Both are "" where it is let through already.
    """

    decision: Decision
    command: str = ""
    remark: str = ""


@dataclass(slots=True)
class Terms:
    """Entries and restrictions: those that matched nothing, those that have ended, and those that end soon."""

    never_matched: list[dict[str, Any]] = field(default_factory=list)
    ended: list[dict[str, Any]] = field(default_factory=list)
    ending: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def reviewing(
    session: Session, settings: Settings, now: int, *, limit_seconds: float | None = None
) -> Iterator["Review"]:
    """One state of the tables at *now*, in Unix seconds, for *limit_seconds* at most. Raises StoreError."""
    with session.reading(limit_seconds=limit_seconds) as queries:
        answers = Answers(queries)
        answers.look_at_flags()
        yield Review(queries, Decider(settings, answers), now)


class Review:
    """Asks *queries*, and *decider* on the same state of the tables, at *now* in Unix seconds."""

    def __init__(self, queries: Queries, decider: Decider, now: int) -> None:
        self._queries = queries
        self._decider = decider
        self._now = now

    def cause(self, decision: LoggedDecision, at: float | None) -> Cause:
        """What made *decision*, at that time in Unix seconds, and what has changed since."""
        return Tracing(self._queries, self._decider, self._now).cause(decision, at)

    def explain(self, request: Request) -> tuple[Decision, list[str]]:
        """The answer to *request* now, and each step that led to it."""
        return self._decider.explain(request, self._now)

    def remedy(self, request: Request, nearest: Address | None = None) -> Remedy:
        """What would let *request* through; an address that is unlisted is given to whom the *nearest* one belongs."""
        decision = self._decider.decide(request, self._now)
        if not decision.is_refused:
            return Remedy(decision)
        if not (request.sender + request.recipient).isprintable():
            return Remedy(decision, remark=_UNTYPABLE)
        match decision.rule:
            case Rule.RESTRICTED_RECIPIENT:
                return self._acceptance(request, decision)
            case Rule.BLOCKED_SENDER:
                return self._exception(request, decision)
            case Rule.UNLISTED_RECIPIENT:
                recipient = quote_local_part(self._without_extension(request.recipient))
                name = nearest.mailbox if nearest else name_after(recipient)
                return _remedy(decision, "address" if nearest else "mailbox", "add", name, recipient)
            case Rule.ALWAYS_ACCEPTED | Rule.ACCEPTED_SENDER | Rule.DEFAULT:
                return Remedy(decision)
            case _:
                assert_never(decision.rule)

    def addresses_of(self, mailbox: str) -> list[str]:
        """The addresses of the mailbox of that name."""
        found = self._queries.mailbox_named(fold(mailbox)) if mailbox else None
        return [each.address for each in self._queries.addresses_of(found.id)] if found else []

    def nearest(self, unlisted: Sequence[str]) -> dict[str, Address]:
        """For each of these addresses the listed one that it may be a slip of, or another way to write it, if any.

        Local parts may differ by a letter, and by dots and dashes. It takes one pass over all addresses.
        """
        wanted: defaultdict[str, set[str]] = defaultdict(set)
        for each in unlisted[:LISTED]:
            for key in _almost(self._without_extension(each).rpartition("@")[0]):
                wanted[key].add(each)
        best: dict[str, tuple[float, bool, str]] = {}
        found: dict[str, Address] = {}
        if not wanted:
            return found
        for address in self._queries.addresses():
            local, _, domain = address.address.rpartition("@")
            for each in {each for key in _almost(local) for each in wanted.get(key, ())}:
                typed, _, where = self._without_extension(each).rpartition("@")
                rank = (-SequenceMatcher(None, typed, local).ratio(), domain != where, address.address)
                if each not in best or rank < best[each]:
                    best[each], found[each] = rank, address
        return found

    def terms(self, matched: Collection[int], soon: int) -> Terms:
        """What to look at: *matched* are the entries that refused something, *soon* is in Unix seconds."""
        terms = Terms()
        for each in self._with_an_end_or_entries():
            if is_past(each.until, self._now):
                _keep(terms.ended, each)
                continue
            if each.until is not None and each.until <= soon:
                _keep(terms.ending, each)
            if isinstance(each, BlockedSender) and each.id not in matched:
                _keep(terms.never_matched, each)
        return terms

    def blocked_sender(self, number: int) -> BlockedSender | None:
        """The entry with this number, if it is there still."""
        return self._queries.entry(number)

    def changesets(self, first: int, last: int) -> list[dict[str, Any]]:
        """What was changed from *first* to *last*, in Unix seconds: a command each, the newest first."""
        made: list[dict[str, Any]] = []
        for change in self._queries.changes_since(first):
            if change.at > last:
                continue
            if made and made[-1]["changeset"] == change.changeset:
                made[-1] |= {**_changeset(change), "changes": made[-1]["changes"] + 1}
            elif len(made) == LISTED:
                break
            else:
                made.append({**_changeset(change), "changes": 1})
        return made

    def _without_extension(self, text: str) -> str:
        """The address that covers every extension of *text*, too."""
        found = self._decider.find_recipient(text).addresses
        return f"{found[0].base or found[0].local}@{found[0].domain}" if found else text

    def _with_an_end_or_entries(self) -> Iterator[Domain | Group | Mailbox | BlockedSender]:
        yield from self._queries.blocked_senders()
        yield from (each for each in self._queries.domains() if each.until is not None)
        yield from (each for each in self._queries.groups() if each.until is not None)
        yield from self._queries.mailboxes_with_an_end()

    def _acceptance(self, request: Request, decision: Decision) -> Remedy:
        """How the recipient would accept the sender."""
        sender = self._decider.accepted_as(request)
        recipient = self._decider.find_recipient(request.recipient)
        if sender is not None:
            if recipient.mailbox is not None:
                return _remedy(decision, "mailbox", "accept", recipient.mailbox.name, sender)
            domain = recipient.domain.name if recipient.domain else ""
            return _remedy(decision, "domain", "accept", domain, sender)
        remark = (
            "nobody proves who sent it, since its domain is managed: have the client log in, or add it to"
            " insider_networks; to let everybody in"
        )
        if recipient.mailbox is not None:
            return _remedy(decision, "mailbox", "open", recipient.mailbox.name, remark=remark)
        return _remedy(decision, "domain", "lift", recipient.domain.name if recipient.domain else "", remark=remark)

    def _exception(self, request: Request, decision: Decision) -> Remedy:
        """How the entry would leave the recipient alone; where that is all that it is about, how it goes."""
        entry = self._queries.entry(decision.entry or 0)
        assert entry is not None  # in the state in which it was decided
        if not request.recipient:
            return _remedy(decision, "sender", "unblock", entry.who, to=entry.to)
        recipient = self._decider.find_recipient(request.recipient)
        match entry.to.kind:
            case PartyKind.MAILBOX:
                return _remedy(decision, "sender", "unblock", entry.who, to=entry.to)
            case PartyKind.GROUP:
                excepted = recipient.mailbox.party if recipient.mailbox else pattern_party(str(recipient.addresses[0]))
            case PartyKind.PATTERN | PartyKind.ANYONE | PartyKind.OUTSIDE:
                excepted = pattern_party(str(recipient.addresses[0]))
                if entry.to.kind is PartyKind.PATTERN and pattern_covers(excepted.text, entry.to.text):
                    return _remedy(decision, "sender", "unblock", entry.who, to=entry.to)
            case _:
                assert_never(entry.to.kind)
        return _remedy(decision, "sender", "except", entry.who, excepted, to=entry.to)


def _remedy(
    decision: Decision, noun: str, verb: str, *words: str | Party, to: Party | None = None, remark: str = ""
) -> Remedy:
    """The command of these words, if a person can type them."""
    command = typed_command(noun, verb, *words, options=() if to is None else ("--to", to))
    return Remedy(decision, command, remark) if command else Remedy(decision, remark=_UNTYPABLE)


def _almost(local: str) -> set[str]:
    """The keys of which two local parts share one where they are nearly the same."""
    plain = local.translate(_SEPARATORS)
    if not _SHORT <= len(plain) <= _LONG:
        return {plain} if plain else set()
    return {plain, *(plain[:at] + plain[at + 1 :] for at in range(len(plain)))}


def _keep(kept: list[dict[str, Any]], stored: Domain | Group | Mailbox | BlockedSender) -> None:
    if len(kept) < LISTED:
        kept.append(
            {
                "entry": stored.id if isinstance(stored, BlockedSender) else None,
                "what": _called(stored),
                "until": stored.until,
                "reason": stored.reason,
            }
        )


def _called(stored: Domain | Group | Mailbox | BlockedSender) -> str:
    match stored:
        case BlockedSender():
            return f"{stored.who} to {stored.to}"
        case Domain():
            return f"domain {stored.name}"
        case Group():
            return str(stored.party)
        case Mailbox():
            return f"mailbox {stored.name}"
        case _:
            assert_never(stored)


def _changeset(change: Change) -> dict[str, Any]:
    return {
        "changeset": change.changeset,
        "at": change.at,
        "actor": change.actor,
        "operation": change.operation,
        "object": change.object,
    }
