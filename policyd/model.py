"""The things policyd speaks of: requests, mailboxes, blocked senders, decisions. Data only.

Per-request objects are named tuples: creating one takes a fifth of a frozen dataclass's time.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, assert_never

_LINE = 400  # characters of a name, or of what is wrong with it; an address has 320 at most


class Unlisted(StrEnum):
    """What happens to a recipient in a managed domain that is no mailbox's address."""

    REJECT = "reject"
    ACCEPT = "accept"


class Receive(StrEnum):
    """Who may send to a mailbox."""

    ANYONE = "anyone"
    INSIDERS = "insiders"
    NOBODY = "nobody"

    @property
    def is_restriction(self) -> bool:
        """Whether somebody may not send to it."""
        match self:
            case Receive.INSIDERS | Receive.NOBODY:
                return True
            case Receive.ANYONE:
                return False
            case _:
                assert_never(self)


class Recipients(StrEnum):
    """To whom a blocked sender may not send."""

    OUTSIDE = "outside"  # recipients with a domain that is not managed
    ANYONE = "anyone"
    MAILBOX = "mailbox"  # one mailbox, named beside it

    @property
    def is_word(self) -> bool:
        """Whether people and files write the value itself; else they write the name of the mailbox."""
        match self:
            case Recipients.OUTSIDE | Recipients.ANYONE:
                return True
            case Recipients.MAILBOX:
                return False
            case _:
                assert_never(self)


RECIPIENT_WORDS = frozenset(each.value for each in Recipients if each.is_word)  # which no mailbox can be called


def recipients_of(to: str) -> Recipients:
    """To whom a sender is blocked where the entry says *to*: one of the words, or a mailbox's name."""
    return Recipients(to) if to in RECIPIENT_WORDS else Recipients.MAILBOX


class Rule(StrEnum):
    """What decided a request; the names are stable, for logs, counters and scripts."""

    ALWAYS_ACCEPTED = "always-accepted"
    BLOCKED_SENDER = "blocked-sender"
    UNLISTED_RECIPIENT = "unlisted-recipient"
    ACCEPTED_SENDER = "accepted-sender"
    RESTRICTED_RECIPIENT = "restricted-recipient"
    DEFAULT = "default"


class Action(StrEnum):
    """The answer to Postfix: no objection, or a refusal."""

    DUNNO = "DUNNO"
    REJECT = "REJECT"

    @property
    def is_refusal(self) -> bool:
        """Whether the mail is refused."""
        match self:
            case Action.REJECT:
                return True
            case Action.DUNNO:
                return False
            case _:
                assert_never(self)


class Mode(StrEnum):
    """Whether a refusal is sent to Postfix, or only logged."""

    ENFORCE = "enforce"
    MONITOR = "monitor"


class Request(NamedTuple):
    """One question from Postfix, under Postfix's own attribute names.

    An attribute that Postfix did not send is "". Bytes that are not UTF-8 stand as lone surrogates.
    Source: SMTPD_POLICY_README.
    """

    protocol_state: str = ""
    queue_id: str = ""
    instance: str = ""
    client_name: str = ""
    client_address: str = ""
    sender: str = ""  # "" is the null sender <>
    recipient: str = ""  # "" before RCPT, and at DATA for several recipients
    sasl_username: str = ""
    policy_context: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """A managed domain, in normal form."""

    name: str
    unlisted: Unlisted = Unlisted.REJECT


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A named holder of addresses, and who may send to it.

    `until` is in Unix seconds: from then on the restriction is off. `accepted` are patterns of
    envelope senders who may send to it all the same. An `id` of 0 is a mailbox not yet stored.
    """

    name: str
    receive: Receive = Receive.ANYONE
    reason: str = ""
    until: int | None = None
    comment: str = ""
    accepted: frozenset[str] = frozenset()
    id: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a mailbox; the primary one is the mailbox's own sender address."""

    address: str
    mailbox: str
    is_primary: bool = False


@dataclass(frozen=True, slots=True)
class BlockedSender:
    """An entry of the table of blocked senders.

    `mailbox` (a name) or `pattern` says who, the other one is "". `to_mailbox` is the name where
    `recipients` is `Recipients.MAILBOX`. `allowed` are patterns of recipients the entry leaves alone.
    Times are Unix seconds. An `id` of 0 is an entry not yet stored.
    """

    mailbox: str = ""
    pattern: str = ""
    recipients: Recipients = Recipients.OUTSIDE
    to_mailbox: str = ""
    reason: str = ""
    until: int | None = None
    comment: str = ""
    allowed: frozenset[str] = frozenset()
    created_at: int = 0
    created_by: str = ""
    id: int = 0

    @property
    def sender(self) -> str:
        """The mailbox's name, or the pattern."""
        return self.mailbox or self.pattern

    @property
    def to(self) -> str:
        """`outside`, `anyone`, or the name of the one mailbox."""
        return self.to_mailbox or self.recipients.value


class Decision(NamedTuple):
    """The answer to a request, and why.

    `text` is the refusal as Postfix gets it, "" for DUNNO. `is_refused` is true for a refusal in monitor
    mode too, where `action` is DUNNO. `mailbox` is the recipient's, `entry` the blocked sender's id.
    """

    action: Action
    rule: Rule
    text: str = ""
    reason: str = ""
    entry: int | None = None
    mailbox: str = ""
    is_insider: bool = False
    is_refused: bool = False


def _shorten(text: str) -> str:
    """No more of *text* than fits a line: somebody may have put a megabyte where an address belongs."""
    return text if len(text) <= _LINE else f"{text[:_LINE]}..."


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the database: the table ("" for the whole file), the row, what is wrong, what to do."""

    table: str
    row: str
    problem: str
    advice: str

    def __str__(self) -> str:
        row, problem, advice = (_shorten(text) for text in (self.row, self.problem, self.advice))
        place = f"{self.table} {row}".strip()
        return f"{place}: {problem}; {advice}" if place else f"{problem}; {advice}"


@dataclass(frozen=True, slots=True)
class Change:
    """A row of the journal: one object as it was and as it is, as JSON; None where there was or is none."""

    id: int
    at: int
    actor: str
    changeset: int
    operation: str
    object: str
    before: str | None
    after: str | None
    digest: str = field(default="", compare=False)
