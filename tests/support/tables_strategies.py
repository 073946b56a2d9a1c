"""Random tables such as a database can hold, for the round trips of the formats."""

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar, assert_never

from hypothesis import strategies as st

from policyd.address import fold, normal_group, normal_name, normal_pattern, parse_address, pattern_domain
from policyd.errors import AddressError
from policyd.model import ANYONE, OUTSIDE, BlockedSender, Domain, Group, Mailbox, Party, PartyKind, Receive, Unlisted

_Owner = TypeVar("_Owner", Domain, Group, Mailbox)

DOMAINS = ("example.com", "example.org", "sub.example.com", "xn--bcher-kva.example", "[192.0.2.1]")
# What formats use as marks of their own, and what they may take for blanks.
_HARD = st.sampled_from([*"\"\\,;:%@#|/=+-~<>{}[]() .'", "\u00a0", "\u3000", "ß", "é", "İ", "ﬀ", "𝔘", "ж", "中"])
_CHARACTERS = st.one_of(st.sampled_from(string.ascii_lowercase + string.digits), _HARD)


@dataclass(frozen=True, slots=True)
class FixedTables:
    """Tables in memory; they are `policyd.transfer.formats.ExportedTables`."""

    held_domains: tuple[Domain, ...] = ()
    held_mailboxes: tuple[tuple[Mailbox, tuple[str, ...]], ...] = ()
    held_entries: tuple[BlockedSender, ...] = ()
    held_groups: tuple[tuple[Group, tuple[Party, ...]], ...] = ()

    def domains(self) -> Iterator[Domain]:
        """Every managed domain."""
        return iter(self.held_domains)

    def groups(self) -> Iterator[tuple[Group, tuple[Party, ...]]]:
        """Every group with its members."""
        return iter(self.held_groups)

    def mailboxes(self) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """Every mailbox with its addresses, the primary one first."""
        return iter(self.held_mailboxes)

    def blocked_senders(self) -> Iterator[BlockedSender]:
        """Every blocked sender, oldest first."""
        return iter(self.held_entries)


def _stored(text: str, parse: Callable[[str], str]) -> str:
    """*text* as the database would hold it, "" where it would be refused."""
    try:
        return parse(text)
    except AddressError:
        return ""


def _normal(texts, parse):
    """Values in normal form, made of *texts*."""
    return texts.map(lambda text: _stored(text, parse)).filter(bool)


words = st.text(_CHARACTERS, min_size=1, max_size=8)
addresses = _normal(st.builds("{}@{}".format, words, st.sampled_from(DOMAINS)), lambda text: str(parse_address(text)))
patterns = st.one_of(
    addresses,
    st.sampled_from(["<>", *(f"@{domain}" for domain in DOMAINS), "@.example.com", "@.com"]),
    _normal(words.map(lambda word: f"{word}@"), normal_pattern),
)
pattern_parties = patterns.map(lambda pattern: Party(PartyKind.PATTERN, pattern))
names = _normal(st.text(_CHARACTERS, min_size=1, max_size=12), normal_name)
group_names = _normal(st.text(_CHARACTERS, min_size=1, max_size=12), normal_group)
remarks = st.one_of(
    st.just(""),
    st.sampled_from(["-", "\\-", "\\\\-", "~", "5.7.1 left", "left the company", '"', "#", "a,b", "null"]),
    _normal(st.text(_CHARACTERS, max_size=20), lambda text: text.strip()),
)
moments = st.one_of(st.integers(100_000_000, 253_370_764_799), st.sampled_from([1_000_000_000, 1798758000]))
ends = moments.map(lambda moment: max(moment, 4_102_444_800))  # to come: no import takes one that has passed


@st.composite
def tables(draw, *, max_size: int = 4) -> FixedTables:
    """Tables with a few of everything, consistent as a database holds it, whose lists name one another."""
    domains = draw(st.lists(st.sampled_from(DOMAINS), unique=True))
    taken = draw(st.lists(addresses, unique=True, max_size=3 * max_size))
    owned: dict[str, tuple[str, ...]] = {}
    for name in draw(st.lists(names, unique_by=fold, max_size=max_size)):
        count = draw(st.integers(0, 3))
        owned[name], taken = tuple(taken[:count]), taken[count:]
    managed = {*domains, *(text.rpartition("@")[2] for own in owned.values() for text in own)}

    # Who can be named, and then everything that names somebody.
    groups = draw(st.lists(group_names, unique_by=fold, max_size=3))
    mailbox_parties = [Party(PartyKind.MAILBOX, name) for name in owned]
    group_parties = [Party(PartyKind.GROUP, name) for name in groups]
    named = [*mailbox_parties, *group_parties]
    senders = st.one_of(pattern_parties, st.sampled_from(named)) if named else pattern_parties
    held_groups = []
    for index, name in enumerate(groups):
        inside = [*mailbox_parties, *group_parties[:index]]  # those above it, so that they make no circle
        members = tuple(draw(st.lists(st.sampled_from(inside), unique=True, max_size=3))) if inside else ()
        held_groups.append((draw(_owners(Group, name, senders)), members))
    entries = {}
    for _ in range(draw(st.integers(0, max_size))):
        entry = draw(_entries(senders, named, managed))
        entries[entry.who, entry.to] = entry
    return FixedTables(
        draw(_domains(sorted(domains), senders)),
        tuple((draw(_owners(Mailbox, name, senders)), own) for name, own in owned.items()),
        tuple(sorted(entries.values(), key=lambda entry: entry.created_at)),
        tuple(held_groups),
    )


@st.composite
def _domains(draw, held: list[str], senders) -> tuple[Domain, ...]:
    """The managed domains, some of which stand for another one; those come last, as in a file."""
    targets: list[Domain] = []
    aliases: list[Domain] = []
    for name in held:
        if targets and draw(st.booleans()):
            target = draw(st.sampled_from(targets)).name
            aliases.append(Domain(name, alias_of=target, comment=draw(remarks)))
        else:
            targets.append(replace(draw(_owners(Domain, name, senders)), unlisted=draw(st.sampled_from(Unlisted))))
    return (*targets, *aliases)


@st.composite
def _owners(draw, kind: type[_Owner], name: str, senders) -> _Owner:
    """A domain, group or mailbox, with its restriction; who has none, has no terms and accepts nobody."""
    silent = kind("x").receive  # what one that says nothing has
    kinds = [each for each in Receive if silent is Receive.INHERIT or each is not Receive.INHERIT]
    owner = kind(name, receive=draw(st.sampled_from(kinds)), comment=draw(remarks))
    if owner.receive is not Receive.ANYONE:
        owner = replace(owner, accepted=draw(st.frozensets(senders, max_size=3)))
    if owner.receive is not silent:
        owner = replace(owner, reason=draw(remarks), until=draw(st.none() | ends))
    return owner


@st.composite
def _entries(draw, senders, named: list[Party], managed: set[str]) -> BlockedSender:
    """A blocked sender, where there are those *named*; exceptions are such as do something."""
    recipients = [OUTSIDE, ANYONE, *named, Party(PartyKind.PATTERN, "joe@"), Party(PartyKind.PATTERN, "@rival.example")]
    entry = BlockedSender(
        who=draw(st.one_of(senders, st.just(ANYONE))),
        to=draw(st.sampled_from(recipients)),
        reason=draw(remarks),
        until=draw(st.none() | ends),
        comment=draw(remarks),
        created_at=draw(moments),
        created_by=draw(remarks),
    )
    allowed = draw(st.frozensets(senders.filter(lambda party: party.text != "<>"), max_size=3))
    allowed = frozenset(party for party in allowed if _can_match(entry, party, managed))
    is_pattern = entry.who.kind is PartyKind.PATTERN
    excepted = st.sampled_from(named) if is_pattern else senders
    allowed_senders = draw(st.frozensets(excepted, max_size=2)) if named or not is_pattern else frozenset()
    return replace(entry, allowed=allowed, allowed_senders=allowed_senders)


def _can_match(entry: BlockedSender, party: Party, managed: set[str]) -> bool:
    """Whether a recipient of *entry* can match the exception *party*, and not all do: others are refused."""
    domain = pattern_domain(party.text) if party.kind is PartyKind.PATTERN else ""
    match entry.to.kind:
        case PartyKind.ANYONE:
            return True
        case PartyKind.OUTSIDE:
            return party.kind is PartyKind.PATTERN and domain not in managed
        case PartyKind.MAILBOX:
            return party.kind is PartyKind.PATTERN and (not domain or domain in managed)
        case PartyKind.GROUP | PartyKind.PATTERN:
            return False
        case _:
            assert_never(entry.to.kind)
