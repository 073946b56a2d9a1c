"""The things policyd speaks of: requests, mailboxes, blocked senders, decisions. Data only.

Per-request objects are named tuples: creating one takes a fifth of a frozen dataclass's time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, assert_never

# Makes a named tuple of a tuple with all its values, in half of the time that its name or `_make` take.
new_tuple = tuple.__new__

_LINE = 400  # characters of a name, or of what is wrong with it; an address has 320 at most


class Unlisted(StrEnum):
    """What happens to a recipient in a managed domain that is no mailbox's address."""

    REJECT = "reject"
    ACCEPT = "accept"


class Receive(StrEnum):
    """Who may send to a mailbox, to those in a group, or to a domain."""

    INHERIT = "inherit"  # what its groups say, or else its domain: of a mailbox only
    ANYONE = "anyone"
    INSIDERS = "insiders"
    DOMAIN = "domain"  # who certainly has an address in one of the recipient's domains
    NOBODY = "nobody"

    @property
    def is_restriction(self) -> bool:
        """Whether somebody may not send to it."""
        return self.strictness > 0

    @property
    def strictness(self) -> int:
        """How strict it is: the larger, the fewer may send; 0 where anybody may, or where it says nothing."""
        match self:
            case Receive.INHERIT | Receive.ANYONE:
                return 0
            case Receive.INSIDERS:
                return 1
            case Receive.DOMAIN:
                return 2
            case Receive.NOBODY:
                return 3
            case _:
                assert_never(self)


class PartyKind(StrEnum):
    """What a `Party` is."""

    MAILBOX = "mailbox"
    GROUP = "group"
    PATTERN = "pattern"
    ANYONE = "anyone"
    OUTSIDE = "outside"  # recipients with a domain that is not managed

    @property
    def is_word(self) -> bool:
        """Whether people and files write the value itself: a reserved word, which no mailbox can be called."""
        match self:
            case PartyKind.ANYONE | PartyKind.OUTSIDE:
                return True
            case PartyKind.MAILBOX | PartyKind.GROUP | PartyKind.PATTERN:
                return False
            case _:
                assert_never(self)


GROUP_PREFIX = "group:"  # in front of a group's name, wherever mailboxes and patterns may stand, too
RESERVED_WORDS = frozenset(each.value for each in PartyKind if each.is_word)


class Party(NamedTuple):
    """Who may not send, to whom, an exception, or an accepted sender.

    `text` is the name of a mailbox or group, the pattern in normal form, or the reserved word; `number` is the id of
    the mailbox or group, 0 where nobody has looked it up. Two are equal if all three are.
    """

    kind: PartyKind
    text: str
    number: int = 0

    def __str__(self) -> str:
        """As people and files write it."""
        return f"{GROUP_PREFIX}{self.text}" if self.kind is PartyKind.GROUP else self.text


def pattern_party(pattern: str) -> Party:
    """A pattern, in normal form, as a party."""
    return Party(PartyKind.PATTERN, pattern)


ANYONE = Party(PartyKind.ANYONE, "anyone")
OUTSIDE = Party(PartyKind.OUTSIDE, "outside")


def party_text(value: str | Mapping[str, Any]) -> str:
    """A party as people write it, from the journal's JSON: a text, or an object with its number and name."""
    if isinstance(value, str):
        return value
    return f"{GROUP_PREFIX if 'group' in value else ''}{value['name']}"


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


TRIAL = "policyd-"  # begins the `instance` of a question about no mail; Postfix's own are numbers


class Request(NamedTuple):
    """One question from Postfix, under Postfix's own attribute names, in the order in which it sends them.

    An attribute that Postfix did not send is "". Bytes that are not UTF-8 stand as lone surrogates.
    Source: SMTPD_POLICY_README.
    """

    protocol_state: str = ""
    client_address: str = ""
    client_name: str = ""
    sender: str = ""  # "" is the null sender <>
    recipient: str = ""  # "" before RCPT, and at DATA for several recipients
    queue_id: str = ""
    instance: str = ""
    sasl_username: str = ""
    policy_context: str = ""

    @property
    def is_trial(self) -> bool:
        """Whether it is about no mail: doctor or setup asks, or a person who tries the daemon."""
        return self.instance.startswith(TRIAL)


@dataclass(frozen=True, slots=True)
class Domain:
    """A managed domain, in normal form, and who may send to it.

    `alias_of` is the managed domain that it stands for, "" where it is none's alias; of an alias, only that counts.
    The restriction is for its addresses whose mailbox, and whose groups, have none of their own: `until` is in Unix
    seconds, from then on it is off; `accepted` may send all the same.
    """

    noun: ClassVar[str] = "domain"  # in commands and in the journal
    name: str
    unlisted: Unlisted = Unlisted.REJECT
    alias_of: str = ""
    receive: Receive = Receive.ANYONE
    reason: str = ""
    until: int | None = None
    comment: str = ""
    accepted: frozenset[Party] = frozenset()


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A named holder of addresses, and who may send to it.

    `until` is in Unix seconds: from then on it inherits what its groups and its domain say. `accepted` are those who
    may send to it all the same, also where it inherits. An `id` of 0 is a mailbox not yet stored.
    """

    noun: ClassVar[str] = "mailbox"  # in commands and in the journal
    name: str
    receive: Receive = Receive.INHERIT
    reason: str = ""
    until: int | None = None
    comment: str = ""
    accepted: frozenset[Party] = frozenset()
    id: int = 0

    @property
    def party(self) -> Party:
        """It as a party."""
        return Party(PartyKind.MAILBOX, self.name, self.id)


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of mailboxes and groups, and who may send to each of its mailboxes.

    The restriction is for those mailboxes that have none of their own, and as that of a `Domain`. An `id` of 0 is a
    group not yet stored.
    """

    noun: ClassVar[str] = "group"  # in commands and in the journal
    name: str
    receive: Receive = Receive.ANYONE
    reason: str = ""
    until: int | None = None
    comment: str = ""
    accepted: frozenset[Party] = frozenset()
    id: int = 0

    @property
    def party(self) -> Party:
        """It as a party."""
        return Party(PartyKind.GROUP, self.name, self.id)


@dataclass(frozen=True, slots=True)
class Membership:
    """That a mailbox or a group, `member`, is in a `group`. An `id` of 0 is one not yet stored."""

    group: Party
    member: Party
    id: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a mailbox; the primary one is the mailbox's own sender address.

    `mailbox` is the mailbox's name. A `mailbox_id` of 0 says that nobody has looked its number up.
    """

    address: str
    mailbox: str
    is_primary: bool = False
    mailbox_id: int = 0


class Holder(NamedTuple):
    """A mailbox as a decision needs it: found by an address or by its name, with what it says of who may send to it.

    The first of its values are those of the `Mailbox`. `primary` is its primary address, "" where it has none, and None
    where nobody has looked. `is_in_groups` says whether it is in a group.
    """

    name: str
    receive: Receive = Receive.INHERIT
    reason: str = ""
    until: int | None = None
    id: int = 0
    primary: str | None = None
    is_in_groups: bool = False

    @property
    def party(self) -> Party:
        """It as a party."""
        return Party(PartyKind.MAILBOX, self.name, self.id)


@dataclass(frozen=True, slots=True)
class BlockedSender:
    """An entry of the table of blocked senders.

    `who` (a mailbox, a group, a pattern, or anyone) may not send to `to` (outside, anyone, a mailbox, a group, or a
    pattern). `allowed` are recipients, and `allowed_senders` senders, that the entry leaves alone.
    Times are Unix seconds. An `id` of 0 is an entry not yet stored.
    """

    who: Party
    to: Party = OUTSIDE
    reason: str = ""
    until: int | None = None
    comment: str = ""
    allowed: frozenset[Party] = frozenset()
    allowed_senders: frozenset[Party] = frozenset()
    created_at: int = 0
    created_by: str = ""
    id: int = 0


class Decision(NamedTuple):
    """The answer to a request, and why.

    `text` is the refusal as Postfix gets it, "" for DUNNO. `is_refused` is true for a refusal in monitor
    mode too, where `action` is DUNNO. `mailbox` is the recipient's, `entry` the blocked sender's id. `by` says where a
    restriction that was asked comes from: `mailbox`, `group:NAME` or `domain`.
    """

    action: Action
    rule: Rule
    text: str = ""
    reason: str = ""
    entry: int | None = None
    mailbox: str = ""
    is_insider: bool = False
    is_refused: bool = False
    by: str = ""


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
