"""The rules: from what the tables know about a request, and the time, they make a verdict. Pure.

The order is that of docs/rules.rst; the first rule that decides ends it. What only some verdicts hang on is asked when
it is needed, through `Facts`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple, Protocol, assert_never

from policyd.address import NULL_SENDER, EmailAddress, fold, matching_patterns, pattern_rank
from policyd.model import (
    ANYONE,
    OUTSIDE,
    BlockedSender,
    Domain,
    Group,
    Holder,
    Party,
    PartyKind,
    Receive,
    Rule,
    Unlisted,
    pattern_party,
)

Note = Callable[..., None]  # a format string, and what goes into it: for the trace of `policyd check`
Entries = Mapping[Party, tuple[BlockedSender, ...]]  # blocked senders by whom they may not send to
NO_ENTRIES: Entries = {}

# Python 3.11 looks for a member in its enumeration for as long as a call takes: these each request needs.
_ANYONE, _INHERIT = Receive.ANYONE, Receive.INHERIT


def silent(_step: str, *_values: object) -> None:
    """The `Note` of those who need no trace."""


class _Known(NamedTuple):
    """What is known of an `Identity`."""

    text: str
    addresses: tuple[EmailAddress, ...] = ()
    others: tuple[EmailAddress, ...] = ()
    domain: Domain | None = None
    mailbox: Holder | None = None
    ways: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    foreign: tuple[EmailAddress, ...] = ()
    leads_outside: bool = False
    entries: Entries = NO_ENTRIES


class Identity(_Known):
    """An address or a login, and what the tables know about it.

    `addresses` are those that it is for certain, the one by which it was found first; `others` are those that Postfix
    may take it for, too. `foreign` are the addresses as they are written, if their domain is not managed.

    `domain` is the managed domain that it is in, of an alias domain the target; of an IMCEA address, it is that of the
    mailbox's primary address. `ways` are those by which `mailbox` was found where it has not this address as it stands;
    `groups` are all that the mailbox is in.
    `leads_outside` says that the address inside of this one is in a domain that is not managed.

    `entries` are the blocked senders that match a login or an envelope sender; of a recipient, they are those of
    `anyone` that may be to it.
    """

    @property
    def is_outside(self) -> bool:
        """Whether mail to this goes to a domain that is not managed."""
        if self.leads_outside:
            return True
        return self.domain is None and bool(self.addresses) and self.addresses[0].domain != ""

    @property
    def how(self) -> str:
        """How its mailbox was found, in words."""
        return ", ".join(self.ways) or "exact"

    @cached_property
    def holders(self) -> frozenset[Party]:
        """Its mailbox, and the groups that the mailbox is in."""
        if self.mailbox is None:
            return frozenset()
        return frozenset((self.mailbox.party, *[group.party for group in self.groups]))

    @cached_property
    def certain(self) -> frozenset[Party]:
        """Every mailbox, group and pattern that this certainly is, or is in."""
        return self.holders | patterns_of(self.addresses)

    @cached_property
    def as_written(self) -> frozenset[Party]:
        """Every pattern that this matches though nobody proves it: that of no address in a managed domain."""
        return patterns_of(self.foreign)

    @cached_property
    def possible(self) -> frozenset[Party]:
        """Every party that mail to this may be to."""
        return self.certain | patterns_of(self.others) | (frozenset((ANYONE, OUTSIDE)) if self.is_outside else {ANYONE})


class Restriction(NamedTuple):
    """Who may send to a recipient, and where that is said.

    `by` is `mailbox`, `group:NAME` or `domain`, "" where nothing is restricted. The accepted senders that count are
    those of the mailbox, of the groups with `group_ids`, and of `domain`.
    """

    receive: Receive = Receive.ANYONE
    by: str = ""
    reason: str = ""
    group_ids: tuple[int, ...] = ()
    domain: str = ""


OPEN = Restriction()
_NULL = frozenset((pattern_party(NULL_SENDER),))
_SHOWN_LIMIT = 20  # entries to other recipients that a trace lists


class Facts(Protocol):
    """What the rules ask only where a verdict hangs on it. Each may raise StoreError."""

    def accepted_by(self, restriction: Restriction, mailbox: Holder | None) -> frozenset[Party]:
        """The accepted senders that count where *restriction* holds for *mailbox*, or for a recipient without one."""

    def patterns_of_mailbox(self, mailbox: Holder) -> frozenset[Party]:
        """Every pattern that an address of *mailbox* matches."""

    def domains_of_mailbox(self, mailbox: Holder) -> frozenset[str]:
        """The domains in which *mailbox* has an address, of alias domains the targets."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings say to the rules: local parts in normal form."""

    always_accept: frozenset[str]


class Question(NamedTuple):
    """A request as the rules see it.

    `recipient` is None without one; `sender` is None for the null sender and before MAIL, which `is_null_sender`
    distinguishes. `entries` are the blocked senders that match an identity of the client.
    """

    recipient: Identity | None
    sender: Identity | None
    login: Identity | None
    is_null_sender: bool
    is_insider: bool
    entries: tuple[Entries, ...] = ()

    @property
    def proven(self) -> Identity | None:
        """Who the client certainly is: its login; without one, an insider's envelope sender; else nobody."""
        if self.login is not None:
            return self.login
        return self.sender if self.is_insider else None


class Verdict(NamedTuple):
    """What was decided, by which rule, and by which entry or under which restriction."""

    is_refused: bool
    rule: Rule
    entry: BlockedSender | None = None
    restriction: Restriction = OPEN


_PERMITTED = Verdict(False, Rule.DEFAULT)


def judge(question: Question, policy: Policy, facts: Facts, now: int, note: Note = silent) -> Verdict:
    """The verdict on *question* at *now*, in Unix seconds."""
    # Some recipients must be reachable by everybody.
    recipient = question.recipient
    if recipient is not None and is_always_accepted(recipient, policy):
        note("recipient: {} is always accepted", recipient.text)
        return Verdict(False, Rule.ALWAYS_ACCEPTED)

    # A blocked sender.
    entry = blocking_entry(question, facts, now, note) if question.entries else None
    if entry is not None:
        return Verdict(True, Rule.BLOCKED_SENDER, entry)

    # The recipient, if it is in a managed domain, and listed there or left to what the domain says.
    if recipient is None or recipient.domain is None:
        return _PERMITTED
    if recipient.mailbox is None and not _is_left_to_domain(recipient.domain, note):
        if question.is_insider:
            note("recipient: unlisted, which an insider may try")
            return _PERMITTED
        note("recipient: unlisted, which {} rejects", recipient.domain.name)
        return Verdict(True, Rule.UNLISTED_RECIPIENT)

    # Who may send to it, and whether that lets the client in.
    restriction = restriction_of(recipient, now, note)
    if _is_let_in(question, recipient, restriction, facts, note):
        return _PERMITTED if restriction is OPEN else Verdict(False, Rule.DEFAULT, None, restriction)

    # Who is accepted all the same.
    accepted = certainly(facts.accepted_by(restriction, recipient.mailbox), question, facts, note)
    if accepted is not None:
        if note is not silent:
            says = _list_with(accepted, recipient, restriction, facts)
            note("{}: accepts {}{}", _called(recipient), accepted, f", as {says} says" if says else "")
        return Verdict(False, Rule.ACCEPTED_SENDER, restriction=restriction)
    return Verdict(True, Rule.RESTRICTED_RECIPIENT, restriction=restriction)


def is_always_accepted(recipient: Identity, policy: Policy) -> bool:
    """Whether nobody may be kept from writing to *recipient*, as to postmaster.

    Source: RFC 5321 §4.5.1.
    """
    for address in recipient.addresses:
        if (address.base or address.local) in policy.always_accept:
            return not recipient.is_outside or "@" not in recipient.text
    return False


# --- Blocked senders: who it might be


def blocking_entry(question: Question, facts: Facts, now: int, note: Note = silent) -> BlockedSender | None:
    """The most specific entry that refuses *question*, of equals the oldest; None where none does."""
    blocking = []
    looked_at = _entries_to(question.recipient, question.entries) if note is silent else _entries_shown(question, note)
    for entry in looked_at:
        obstacle = why_not_applicable(entry, question, facts, now, note)
        note("entry {}: {} may not send to {}: {}", entry.id, entry.who, entry.to, obstacle or "applies")
        if not obstacle:
            blocking.append(entry)
    if len(blocking) < 2:
        return blocking[0] if blocking else None
    return min(blocking, key=specificity)


def why_not_applicable(entry: BlockedSender, question: Question, facts: Facts, now: int, note: Note = silent) -> str:
    """Why *entry*, which matches the client, does not apply to *question*; "" where it applies.

    An entry with exceptions waits for those whom they are about: before, nobody can say that they are not excepted.
    """
    if is_past(entry.until, now):
        return "expired"

    # The recipient is one of the entry's, and none of its exceptions.
    recipient = question.recipient
    if recipient is None:
        if entry.to != ANYONE:
            return "there is no recipient yet"
        if entry.allowed:
            return "it has exceptions, and there is no recipient yet"
    elif entry.to not in recipient.possible:
        return "the recipient is not outside" if entry.to == OUTSIDE else "the recipient is another"
    elif excepted := most_specific(entry.allowed & recipient.certain):
        return f"except {excepted}"

    # Nor is the client one of its exceptions.
    if entry.allowed_senders:
        if question.sender is None and not question.is_null_sender:
            return "it has exceptions by sender, and there is no sender yet"
        if excepted := certainly(entry.allowed_senders, question, facts, note):
            return f"except from {excepted}"
    return ""


def _entries_to(recipient: Identity | None, found: Iterable[Entries]) -> list[BlockedSender]:
    """The entries among *found* that may be to *recipient*, each once; no other one is looked at."""
    meant = frozenset((ANYONE,)) if recipient is None else recipient.possible
    to_it = chain.from_iterable(entries[to] for entries in found for to in entries.keys() & meant)
    return [*{entry.id: entry for entry in to_it}.values()]


def _entries_shown(question: Question, note: Note) -> list[BlockedSender]:
    """All entries that match the client, each once, for the trace; of those to other recipients the first ones."""
    every = {entry.id: entry for found in question.entries for entries in found.values() for entry in entries}
    shown = {entry.id: entry for entry in _entries_to(question.recipient, question.entries)}
    elsewhere = [number for number in sorted(every) if number not in shown]
    shown |= {number: every[number] for number in elsewhere[:_SHOWN_LIMIT]}
    if len(elsewhere) > _SHOWN_LIMIT:
        more = len(elsewhere) - _SHOWN_LIMIT
        note("{} to other recipients", "1 more entry is" if more == 1 else f"{more} more entries are")
    return [shown[number] for number in sorted(shown)]


def specificity(entry: BlockedSender) -> tuple[int, int, int, int]:
    """A key that sorts the most specific entry first, and of equals the oldest."""
    return *party_rank(entry.who), entry.created_at, entry.id


def party_rank(party: Party) -> tuple[int, int]:
    """How specific a party is; the smaller, the more: mailbox, group, then patterns, and `anyone` and `outside`."""
    match party.kind:
        case PartyKind.MAILBOX:
            return (-2, 0)
        case PartyKind.GROUP:
            return (-1, 0)
        case PartyKind.PATTERN:
            return pattern_rank(party.text)
        case PartyKind.ANYONE | PartyKind.OUTSIDE:
            return (4, 0)
        case _:
            assert_never(party.kind)


def most_specific(parties: Iterable[Party]) -> Party | None:
    """The most specific of *parties*, the same one each time; None of none."""
    return min(parties, key=lambda party: (*party_rank(party), str(party)), default=None)


def is_past(until: int | None, now: int) -> bool:
    """Whether what is in force until *until* is over at *now*."""
    return until is not None and until <= now


# --- Letting through: who it certainly is


def certainly(parties: frozenset[Party], question: Question, facts: Facts, note: Note = silent) -> Party | None:
    """The most specific of *parties* that the client certainly is, as far as that is known; None where it is none."""
    if not parties:
        return None
    sender, proven = question.sender, question.proven
    _note_proof(question, note)

    # What is written counts where its domain is nobody's here: nobody could prove it.
    found = parties & (_NULL if question.is_null_sender else sender.as_written if sender else frozenset())

    # What is proven, and the envelope sender if the proven mailbox has it.
    if proven is not None:
        found |= parties & proven.certain
        if sender is not None and _is_same(sender.mailbox, proven.mailbox):
            found |= parties & sender.certain

        # Any other address of the proven mailbox.
        if not found and proven.mailbox is not None and any(each.kind is PartyKind.PATTERN for each in parties):
            found = parties & facts.patterns_of_mailbox(proven.mailbox)
    return most_specific(found)


def accepted_as(question: Question) -> Party | None:
    """As whom an accepted sender would let the client in; None where nobody proves who it is.

    That is the proven mailbox, or the proven address; else what is written, where that counts.
    """
    proven = question.proven
    if proven is not None and proven.mailbox is not None:
        return proven.mailbox.party
    if question.is_null_sender and proven is None:
        return pattern_party(NULL_SENDER)
    written = question.sender.foreign if question.sender else ()
    named = [each for each in (*(proven.addresses[:1] if proven else ()), *written[::-1]) if each.local and each.domain]
    return pattern_party(str(named[0])) if named else None


def patterns_of(addresses: Iterable[EmailAddress]) -> frozenset[Party]:
    """Every pattern that one of *addresses* matches."""
    return frozenset(map(pattern_party, chain.from_iterable(map(matching_patterns, addresses))))


# --- Restrictions


def restriction_of(recipient: Identity, now: int, note: Note = silent) -> Restriction:
    """Who may send to *recipient*, which is in a managed domain, at *now*.

    What the mailbox says itself stands before what its groups say, and that before what its domain says.
    """
    mailbox, domain = recipient.mailbox, recipient.domain
    over = ""
    if mailbox is not None:
        # The mailbox's own, unless it inherits.
        if mailbox.receive is not _INHERIT:
            if not is_past(mailbox.until, now):
                if note is not silent:
                    note("mailbox {}: receives from {}", mailbox.name, senders_in_words(mailbox.receive))
                is_open = mailbox.receive is _ANYONE
                return OPEN if is_open else Restriction(mailbox.receive, "mailbox", mailbox.reason)
            over = "; what it said itself has expired"

        # The strictest of its groups.
        if recipient.groups and (found := _strictest(recipient.groups, now, note)):
            note(
                "{}: receives from {}, as {} says{}",
                _called(recipient),
                senders_in_words(found.receive),
                found.by,
                over,
            )
            return found

    # The domain's.
    if domain is not None and domain.receive is not _ANYONE:
        if not is_past(domain.until, now):
            says = f", as domain {domain.name} says" if mailbox else ""
            note("{}: receives from {}{}{}", _called(recipient), senders_in_words(domain.receive), says, over)
            return Restriction(domain.receive, "domain", domain.reason, domain=domain.name)
        note("domain {}: the restriction has expired", domain.name)

    if mailbox is not None and note is not silent:
        expired = ": the restriction has expired" if over and mailbox.receive is not _ANYONE else ""
        note("mailbox {}: receives from anyone{}", mailbox.name, expired)
    return OPEN


def _strictest(groups: Iterable[Group], now: int, note: Note) -> Restriction | None:
    """What the strictest of *groups* say, with the accepted senders of all that are as strict; None of no restriction.

    The first of them by folded name gives its name and its reason.
    """
    restricted = []
    for group in groups:
        if group.receive.is_restriction and is_past(group.until, now):
            note("{}: the restriction has expired", group.party)
        elif group.receive.is_restriction:
            restricted.append(group)
    if not restricted:
        return None
    strictness = max(group.receive.strictness for group in restricted)
    equals = sorted((each for each in restricted if each.receive.strictness == strictness), key=_by_folded_name)
    first = equals[0]
    return Restriction(first.receive, str(first.party), first.reason, tuple(group.id for group in equals))


def _by_folded_name(group: Group) -> str:
    return fold(group.name)


def _is_let_in(question: Question, recipient: Identity, restriction: Restriction, facts: Facts, note: Note) -> bool:
    """Whether *restriction* itself lets the client send to *recipient*."""
    match restriction.receive:
        case Receive.ANYONE | Receive.INHERIT:
            return True
        case Receive.INSIDERS:
            return question.is_insider
        case Receive.DOMAIN:
            _note_proof(question, note)
            shared = _shared_domains(question.proven, recipient, facts)
            if shared:
                note("{}: is in {}, too", _called(recipient), min(shared))
            return bool(shared)
        case Receive.NOBODY:
            return False
        case _:
            assert_never(restriction.receive)


def _shared_domains(proven: Identity | None, recipient: Identity, facts: Facts) -> frozenset[str]:
    """The domains, of alias domains the targets, in which both have an address."""
    return _domains_of(proven, facts) & _domains_of(recipient, facts) if proven is not None else frozenset()


def _domains_of(identity: Identity, facts: Facts) -> frozenset[str]:
    if identity.mailbox is not None:
        return facts.domains_of_mailbox(identity.mailbox)
    return frozenset((identity.domain.name,)) if identity.domain is not None else frozenset()


def _is_left_to_domain(domain: Domain, note: Note) -> bool:
    """Whether a recipient that is no mailbox's is judged by the restriction of *domain*."""
    match domain.unlisted:
        case Unlisted.ACCEPT:
            note("recipient: unlisted, which {} accepts", domain.name)
            return True
        case Unlisted.REJECT:
            return False
        case _:
            assert_never(domain.unlisted)


# --- The trace


def _note_proof(question: Question, note: Note) -> None:
    """Note who the client certainly is, and what proves that."""
    proven = question.proven
    if proven is None:
        note("proven: nobody; an envelope sender counts only in a domain that is not managed")
        return
    who = f"mailbox {proven.mailbox.name}" if proven.mailbox is not None else proven.text
    note("proven: {}, by {}", who, "the login" if question.login is not None else "the envelope sender of an insider")


def _list_with(accepted: Party, recipient: Identity, restriction: Restriction, facts: Facts) -> str:
    """Whose list has *accepted*, a group's or the domain's; "" where it is the recipient's own."""
    mailbox = recipient.mailbox
    if mailbox is None or accepted in facts.accepted_by(OPEN, mailbox):
        return ""
    for group in sorted(recipient.groups, key=_by_folded_name):
        its_own = OPEN._replace(group_ids=(group.id,))
        if group.id in restriction.group_ids and accepted in facts.accepted_by(its_own, None):
            return str(group.party)
    return f"domain {restriction.domain}"


def _called(recipient: Identity) -> str:
    """What says who may send to *recipient*."""
    if recipient.mailbox is not None:
        return f"mailbox {recipient.mailbox.name}"
    return f"domain {recipient.domain.name}" if recipient.domain is not None else recipient.text


def senders_in_words(receive: Receive) -> str:
    """Whom *receive* lets in, in words."""
    match receive:
        case Receive.ANYONE | Receive.INHERIT:
            return "anyone"
        case Receive.INSIDERS | Receive.NOBODY:
            return receive.value
        case Receive.DOMAIN:
            return "its own domains"
        case _:
            assert_never(receive)


def _is_same(one: Holder | None, other: Holder | None) -> bool:
    return one is not None and other is not None and one.id == other.id
