"""Random tables such as a database can hold, for the round trips of the formats."""

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from policyd.address import fold, normal_name, normal_pattern, parse_address, pattern_domain
from policyd.errors import AddressError
from policyd.model import ANYONE, OUTSIDE, BlockedSender, Domain, Group, Mailbox, Party, PartyKind, Receive, Unlisted

DOMAINS = ("example.com", "example.org", "sub.example.com", "xn--bcher-kva.example", "[192.0.2.1]")
# What formats use as marks of their own, and what they may take for blanks.
_HARD = st.sampled_from([*"\"\\,;:%@#|/=+-~<>{}[]() .'", "\u00a0", "\u3000", "ß", "é", "İ", "ﬀ", "𝔘", "ж", "中"])
_CHARACTERS = st.one_of(st.sampled_from(string.ascii_lowercase + string.digits), _HARD)


@dataclass(frozen=True, slots=True)
class FixedTables:
    """Tables in memory; they are `policyd.transfer.formats.Tables`."""

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
remarks = st.one_of(
    st.just(""),
    st.sampled_from(["-", "\\-", "\\\\-", "~", "5.7.1 left", "left the company", '"', "#", "a,b", "null"]),
    _normal(st.text(_CHARACTERS, max_size=20), lambda text: text.strip()),
)
moments = st.one_of(st.integers(100_000_000, 253_370_764_799), st.sampled_from([1_000_000_000, 1798758000]))
ends = moments.map(lambda moment: max(moment, 4_102_444_800))  # to come: no import takes one that has passed


@st.composite
def tables(draw, *, max_size: int = 4) -> FixedTables:
    """Tables with a few of everything, consistent as the database's constraints demand."""
    domains = draw(st.lists(st.sampled_from(DOMAINS), unique=True))
    held = [Domain(name, draw(st.sampled_from(Unlisted))) for name in sorted(domains)]
    taken = draw(st.lists(addresses, unique=True, max_size=3 * max_size))
    mailboxes = []
    for name in draw(st.lists(names, unique_by=fold, max_size=max_size)):
        count = draw(st.integers(0, 3))
        own, taken = taken[:count], taken[count:]
        mailboxes.append((draw(_mailboxes(name)), tuple(own)))
    managed = {*domains, *(text.rpartition("@")[2] for _, own in mailboxes for text in own)}
    entries = {}
    for _ in range(draw(st.integers(0, max_size))):
        entry = draw(_entries([mailbox.name for mailbox, _ in mailboxes]))
        allowed = frozenset(pattern for pattern in entry.allowed if _can_match(entry, pattern, managed))
        entries[entry.who, entry.to] = replace(entry, allowed=allowed)
    in_order = sorted(entries.values(), key=lambda entry: entry.created_at)
    return FixedTables(tuple(held), tuple(mailboxes), tuple(in_order))


def _can_match(entry: BlockedSender, pattern: Party, managed: set[str]) -> bool:
    """Whether a recipient of *entry* can match the exception *pattern*: others are refused."""
    domain = pattern_domain(pattern.text)
    if entry.to == OUTSIDE:
        return domain not in managed
    return entry.to == ANYONE or not domain or domain in managed


def _mailboxes(name: str):
    return st.builds(
        Mailbox,
        name=st.just(name),
        receive=st.sampled_from(Receive),
        reason=remarks,
        until=st.none() | ends,
        comment=remarks,
        accepted=st.frozensets(pattern_parties, max_size=3),
    )


@st.composite
def _entries(draw, held: list[str]) -> BlockedSender:
    """A blocked sender, where there are the mailboxes *held*."""
    entry = BlockedSender(
        who=draw(pattern_parties),
        reason=draw(remarks),
        until=draw(st.none() | ends),
        comment=draw(remarks),
        allowed=draw(st.frozensets(pattern_parties.filter(lambda party: party.text != "<>"), max_size=3)),
        created_at=draw(moments),
        created_by=draw(remarks),
    )
    if held and draw(st.booleans()):
        entry = replace(entry, who=Party(PartyKind.MAILBOX, draw(st.sampled_from(held))))
    is_to_mailbox = held and draw(st.booleans())
    to = (
        Party(PartyKind.MAILBOX, draw(st.sampled_from(held)))
        if is_to_mailbox
        else draw(st.sampled_from([OUTSIDE, ANYONE]))
    )
    return replace(entry, to=to)
