"""The rules: from what the tables know about a request, and the time, they make a verdict. Pure.

The order is that of docs/rules.rst; the first rule that decides ends it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from policyd.address import EmailAddress, matching_patterns, pattern_rank
from policyd.model import BlockedSender, Domain, Mailbox, Party, PartyKind, Receive, Rule, Unlisted

Note = Callable[..., None]  # a format string, and what goes into it: for the trace of `policyd check`


def silent(_step: str, *_values: object) -> None:
    """The `Note` of those who need no trace."""


class Identity(NamedTuple):
    """An address or a login, and what the tables know about it.

    `domain` is None where it is not managed; `how` says how `mailbox` was found: exact, extension, IMCEA, name, or
    route, by the address inside of this one. `address` is None for a login without a domain; `as_written` is the
    address as it came, where that leads nowhere and Postfix takes it for another. `leads_outside` says that the address
    inside of this one is in a domain that is not managed. `entries` are the blocked senders that match a login or an
    envelope sender.
    """

    text: str
    address: EmailAddress | None = None
    domain: Domain | None = None
    mailbox: Mailbox | None = None
    how: str = ""
    entries: tuple[BlockedSender, ...] = ()
    as_written: EmailAddress | None = None
    leads_outside: bool = False

    @property
    def base(self) -> str:
        """The local part without its extension; "" without an address."""
        return self.address.base or self.address.local if self.address else ""

    @property
    def is_outside(self) -> bool:
        """Whether mail to this goes to a domain that is not managed."""
        if self.leads_outside:
            return True
        return self.address is not None and self.address.domain != "" and self.domain is None

    def matched(self, parties: frozenset[Party]) -> str:
        """Which of *parties* this is: its mailbox, or the most specific pattern that matches it; "" where none is."""
        if not parties:
            return ""
        if self.mailbox is not None and self.mailbox.party in parties:
            return self.mailbox.name
        for address in (self.address, self.as_written):
            for pattern in matching_patterns(address) if address else ():
                if Party(PartyKind.PATTERN, pattern) in parties:
                    return pattern
        return ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say to the rules: local parts in normal form."""

    always_accept: frozenset[str]


class Question(NamedTuple):
    """A request as the rules see it.

    `recipient` is None without one; `sender` is None for the null sender and before MAIL, which
    `is_null_sender` distinguishes. `entries` are the blocked senders that match an identity of the client.
    """

    recipient: Identity | None
    sender: Identity | None
    is_null_sender: bool
    is_insider: bool
    entries: tuple[BlockedSender, ...]


class Verdict(NamedTuple):
    """What was decided, by which rule, and for `Rule.BLOCKED_SENDER` by which entry."""

    is_refused: bool
    rule: Rule
    entry: BlockedSender | None = None


def judge(question: Question, policy: Policy, now: int, note: Note = silent) -> Verdict:
    """The verdict on *question* at *now*, in Unix seconds."""
    # Some recipients must be reachable by everybody.
    recipient = question.recipient
    if recipient is not None and is_always_accepted(recipient, policy):
        note("recipient: {} is always accepted", recipient.text)
        return Verdict(False, Rule.ALWAYS_ACCEPTED)

    # A blocked sender.
    entry = blocking_entry(question, now, note) if question.entries else None
    if entry is not None:
        return Verdict(True, Rule.BLOCKED_SENDER, entry)

    # The recipient, if it is in a managed domain.
    if recipient is None or recipient.domain is None:
        return Verdict(False, Rule.DEFAULT)
    if recipient.mailbox is None:
        return _judge_unlisted(question, recipient.domain, note)
    return _judge_mailbox(question, recipient.mailbox, policy, now, note)


def is_always_accepted(recipient: Identity, policy: Policy) -> bool:
    """Whether nobody may be kept from writing to *recipient*, as to postmaster.

    Source: RFC 5321 §4.5.1.
    """
    if recipient.base not in policy.always_accept:
        return False
    return not recipient.is_outside or "@" not in recipient.text


def blocking_entry(question: Question, now: int, note: Note = silent) -> BlockedSender | None:
    """The most specific entry that refuses *question*, of equals the oldest; None where none does."""
    blocking = []
    for entry in question.entries:
        obstacle = why_not_applicable(entry, question.recipient, now)
        note("entry {}: {} may not send to {}: {}", entry.id, entry.who, entry.to, obstacle or "applies")
        if not obstacle:
            blocking.append(entry)
    return min(blocking, key=specificity, default=None)


def why_not_applicable(entry: BlockedSender, recipient: Identity | None, now: int) -> str:
    """Why *entry*, which matches the client, does not apply to *recipient*; "" where it applies.

    An entry with exceptions waits for the recipient: without one, nobody can say that it is not excepted.
    """
    if is_past(entry.until, now):
        return "expired"

    # Before RCPT only an entry that is to anyone, without exceptions, can apply.
    if recipient is None:
        if entry.to.kind is not PartyKind.ANYONE:
            return "there is no recipient yet"
        return "it has exceptions, and there is no recipient yet" if entry.allowed else ""

    # The recipient is one of the entry's, and none of its exceptions.
    match entry.to.kind:
        case PartyKind.ANYONE:
            pass
        case PartyKind.OUTSIDE:
            if not recipient.is_outside:
                return "the recipient is not outside"
        case PartyKind.MAILBOX | PartyKind.PATTERN | PartyKind.GROUP:
            if not recipient.matched(frozenset({entry.to})):
                return "the recipient is another"
        case _:
            assert_never(entry.to.kind)
    excepted = recipient.matched(entry.allowed)
    return f"except {excepted}" if excepted else ""


def specificity(entry: BlockedSender) -> tuple[int, int, int, int]:
    """A key that sorts the most specific entry first, and of equals the oldest."""
    rank, length = _rank(entry.who)
    return rank, length, entry.created_at, entry.id


def _rank(who: Party) -> tuple[int, int]:
    match who.kind:
        case PartyKind.MAILBOX:
            return -2, 0
        case PartyKind.GROUP:
            return -1, 0
        case PartyKind.PATTERN:
            return pattern_rank(who.text)
        case PartyKind.ANYONE | PartyKind.OUTSIDE:
            return 4, 0
        case _:
            assert_never(who.kind)


def is_past(until: int | None, now: int) -> bool:
    """Whether what is in force until *until* is over at *now*."""
    return until is not None and until <= now


def _judge_unlisted(question: Question, domain: Domain, note: Note) -> Verdict:
    if question.is_insider:
        note("recipient: unlisted, which an insider may try")
        return Verdict(False, Rule.DEFAULT)
    match domain.unlisted:
        case Unlisted.ACCEPT:
            note("recipient: unlisted, which {} accepts", domain.name)
            return Verdict(False, Rule.DEFAULT)
        case Unlisted.REJECT:
            note("recipient: unlisted, which {} rejects", domain.name)
            return Verdict(True, Rule.UNLISTED_RECIPIENT)
        case _:
            assert_never(domain.unlisted)


def _judge_mailbox(question: Question, mailbox: Mailbox, policy: Policy, now: int, note: Note) -> Verdict:
    # Who may send now, and whether that lets the client in.
    receive = Receive.ANYONE if is_past(mailbox.until, now) else mailbox.receive
    match receive:
        case Receive.ANYONE | Receive.INHERIT:
            expired = "" if mailbox.receive is receive else ": the restriction has expired"
            note("mailbox {}: receives from anyone{}", mailbox.name, expired)
            return Verdict(False, Rule.DEFAULT)
        case Receive.INSIDERS:
            is_let_in = question.is_insider
        case Receive.NOBODY | Receive.DOMAIN:
            is_let_in = False
        case _:
            assert_never(receive)
    note("mailbox {}: receives from {}", mailbox.name, receive)
    if is_let_in:
        return Verdict(False, Rule.DEFAULT)

    # Whom the mailbox accepts all the same.
    accepted = _accepted_pattern(question, mailbox, policy)
    if accepted:
        note("mailbox {}: accepts {}", mailbox.name, accepted)
        return Verdict(False, Rule.ACCEPTED_SENDER)
    return Verdict(True, Rule.RESTRICTED_RECIPIENT)


def _accepted_pattern(question: Question, mailbox: Mailbox, policy: Policy) -> str:
    if question.is_null_sender:
        return "<>" if Party(PartyKind.PATTERN, "<>") in mailbox.accepted else ""
    return question.sender.matched(mailbox.accepted) if question.sender else ""
