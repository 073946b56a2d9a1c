"""Who an address or a login is: found in the tables, by every way that leads to a mailbox.

One file, as senders, recipients and logins are found by the same ways, and what they have in common is told once.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import NamedTuple, Protocol

from policyd.address import (
    NULL_SENDER,
    EmailAddress,
    Encapsulated,
    address_forms,
    decode_imcea,
    domain_for_postfix,
    has_domain,
    matching_patterns,
    normal_realm,
    split_address,
    without_batv,
)
from policyd.model import BlockedSender, Domain, Group, Holder, Party
from policyd.route import inner_addresses
from policyd.rules import NO_ENTRIES, Entries, Identity, Restriction, patterns_of
from policyd.settings import Settings

_KEPT = 4096
_KEPT_DOMAINS = 1024
_KEPT_SENDERS = 12_288  # a day's correspondents of a large site; half a kilobyte each
_KEPT_LENGTH = 320  # characters; a longer text, which may be hostile, is looked up each time


class FactLookup(Protocol):
    """What a decision needs of the tables. Each call but `end` may raise StoreError, and then has ended it.

    After TablesMovedError begin again, and read again what was read: it may be of another state.

    Groups and domains come without their accepted senders. What is asked for is in normal form.
    """

    has_anyone_entries: bool  # some blocked sender is `anyone`

    def begin(self) -> bool:
        """Read from the newest state of the tables until `end`; returns whether it may differ from the last one.

        False where that has begun already.
        """

    def confirm(self) -> None:
        """Make sure that all that was read since `begin` is of one state of the tables. Raises TablesMovedError."""

    def end(self) -> None:
        """Stop reading from the state that `begin` took, if any."""

    def domain(self, name: str) -> Domain | None:
        """The managed domain *name*."""

    def holder_of(self, address: str) -> Holder | None:
        """The mailbox that has *address*, and whether that is its primary one."""

    def mailbox_called(self, folded_name: str) -> Holder | None:
        """The mailbox whose name folds to this, and its primary address."""

    def primary_address(self, mailbox_id: int) -> str:
        """The primary address of a mailbox, "" where it has none."""

    def addresses_of(self, mailbox_id: int) -> tuple[str, ...]:
        """The addresses of a mailbox."""

    def groups_of(self, mailbox_id: int) -> tuple[Group, ...]:
        """All groups that a mailbox is in, directly or not."""

    def accepted_by(self, *, mailbox_id: int, group_ids: Sequence[int], domain: str) -> frozenset[Party]:
        """The accepted senders of all of these, 0 and "" for none."""

    def entries_of(
        self, mailbox_id: int, group_ids: Sequence[int], patterns: Sequence[str]
    ) -> tuple[BlockedSender, ...]:
        """The blocked senders that are this mailbox (0 for none), one of these groups, or one of *patterns*."""

    def entries_of_anyone(
        self, mailbox_id: int, group_ids: Sequence[int], patterns: Sequence[str]
    ) -> tuple[BlockedSender, ...]:
        """The entries of `anyone` to this mailbox (0 for none), one of these groups or *patterns*, and to words."""


class _Place(NamedTuple):
    """Where an address leads to: what `Identity` has of it, and by which ways the mailbox was found."""

    addresses: tuple[EmailAddress, ...] = ()
    others: tuple[EmailAddress, ...] = ()
    foreign: tuple[EmailAddress, ...] = ()
    domain: Domain | None = None
    holder: Holder | None = None
    ways: tuple[str, ...] = ()

    @property
    def is_outside(self) -> bool:
        return self.domain is None and self.addresses[0].domain != ""


class Identities:
    """Finds in *tables*, by *settings*, who the texts of a request are, and remembers it until `forget`.

    Every call but `forget` may raise StoreError.
    """

    def __init__(self, settings: Settings, tables: FactLookup) -> None:
        self._delimiters = settings.recipient_delimiter
        self._forms = partial(address_forms, origin=settings.origin, delimiters=settings.recipient_delimiter)
        self._realms = settings.login_realms
        self._tables = tables
        self._managed = lru_cache(_KEPT_DOMAINS)(self._find_managed)
        self._recipient = lru_cache(_KEPT)(self._find_recipient)
        self._sender = lru_cache(_KEPT_SENDERS)(self._find_sender)
        self._login = lru_cache(_KEPT)(self._find_login)
        self.null_entries = lru_cache(1)(self._find_null_entries)
        self.entries_of_anyone = lru_cache(1)(self._find_entries_of_anyone)
        self._accepted_by = lru_cache(_KEPT)(self._find_accepted_by)
        self._addresses_of = lru_cache(_KEPT)(self._find_addresses_of)
        self._patterns_of = lru_cache(_KEPT)(self._find_patterns_of)
        self._domains_of = lru_cache(_KEPT)(self._find_domains_of)

    def forget(self) -> None:
        """Look everything up anew."""
        for cached in (
            *(self._managed, self._recipient, self._sender, self._login, self.null_entries, self.entries_of_anyone),
            *(self._accepted_by, self._addresses_of, self._patterns_of, self._domains_of),
        ):
            cached.cache_clear()

    def recipient(self, text: str) -> Identity:
        """Who an envelope recipient is."""
        return self._recipient(text) if len(text) <= _KEPT_LENGTH else self._find_recipient(text)

    def sender(self, text: str) -> Identity:
        """Who an envelope sender is, which is not the null sender."""
        return self._sender(text) if len(text) <= _KEPT_LENGTH else self._find_sender(text)

    def login(self, text: str) -> Identity:
        """Who a login is: an address, or a mailbox's name, or one of these in a realm."""
        return self._login(text) if len(text) <= _KEPT_LENGTH else self._find_login(text)

    # What the rules ask.

    def accepted_by(self, restriction: Restriction, mailbox: Holder | None) -> frozenset[Party]:
        """The accepted senders that count where *restriction* holds for *mailbox*, or for a recipient without one."""
        return self._accepted_by(mailbox.id if mailbox is not None else 0, restriction.group_ids, restriction.domain)

    def patterns_of_mailbox(self, mailbox: Holder) -> frozenset[Party]:
        """Every pattern that an address of *mailbox* matches."""
        return self._patterns_of(mailbox.id)

    def domains_of_mailbox(self, mailbox: Holder) -> frozenset[str]:
        """The domains in which *mailbox* has an address, of alias domains the targets."""
        return self._domains_of(mailbox.id)

    # Recipients, senders, logins.

    def _find_recipient(self, text: str) -> Identity:
        # The address inside counts where it leads to a mailbox or outside.
        place = written = self._locate(text)
        leads_outside = False
        if written.holder is None:
            inner = self._decapsulated(self._inner(text, written))
            leads_outside = inner is not written and inner.is_outside
            if inner.holder is not None:
                place = inner._replace(addresses=inner.addresses + written.addresses, ways=("route", *inner.ways))
            elif leads_outside:
                place = written._replace(addresses=inner.addresses + written.addresses)

        # An IMCEA address can be in any managed domain; its mailbox is in its own.
        holder = place.holder
        if holder is not None and "IMCEA" in place.ways:
            home = self._managed(self._primary_of(holder).rpartition("@")[2])
            place = place._replace(domain=home or place.domain)

        # What everybody may not send to it.
        groups = self._tables.groups_of(holder.id) if holder is not None and holder.is_in_groups else ()
        entries = NO_ENTRIES
        if self._tables.has_anyone_entries:
            patterns = _patterns(place.addresses + place.others)
            entries = _by_target(self._tables.entries_of_anyone(*_ids(holder, groups), patterns))
        return _identity(text, place, groups, entries, leads_outside=leads_outside)

    def _find_sender(self, text: str) -> Identity:
        return self._find_client(text, text, self._locate(text))

    def _find_login(self, text: str) -> Identity:
        # An address is whoever sends by it, unless it is nobody's, and has a realm.
        if has_domain(text):
            sender = self.sender(text)
            if sender.mailbox is not None or not self._without_realm(text):
                return sender

        # As it is written; then, as long as it is nobody's, without a realm.
        asked, place = text, self._locate_login(text)
        others: list[EmailAddress] = []
        ways: tuple[str, ...] = ()
        while place.holder is None and (rest := self._without_realm(asked)):
            others += place.addresses + place.others
            ways += ("realm",)
            asked, place = rest, self._locate_login(rest)
        place = place._replace(others=(*place.others, *others), ways=(*ways, *place.ways))
        return self._find_client(text, asked if has_domain(asked) else "", place)

    def _find_client(self, text: str, address: str, written: _Place) -> Identity:
        """Who *text* is, a sender or login that leads to *written*, with the blocked senders it may be.

        *address* is what may hold another address, "" for a login that is none. Nobody who is blocked can hide behind
        another form of an address, or behind an address around it. The address inside does not count where somebody is
        let through.
        """
        place = self._inner(address, written) if address else written
        possible = written.addresses + written.others
        if place is not written:
            possible += place.addresses + place.others

        # Whose mailbox it is counts by its groups and its primary address, too.
        holder = place.holder
        if holder is None:
            patterns = _patterns(possible)
            found = self._tables.entries_of(0, (), patterns) if patterns else ()
            return _identity(text, written, (), _by_target(found) if found else NO_ENTRIES)
        groups = self._tables.groups_of(holder.id) if holder.is_in_groups else ()
        if holder.primary is None or place.ways:
            primary = self._primary_of(holder)
            possible += self._spelled(primary) if primary else ()
        found = self._tables.entries_of(*_ids(holder, groups), _patterns(possible))
        return _identity(text, written, groups if written.holder else (), _by_target(found))

    def _find_null_entries(self) -> Entries:
        """The entries that the null sender matches."""
        return _by_target(self._tables.entries_of(0, (), (NULL_SENDER,)))

    def _find_entries_of_anyone(self) -> Entries:
        """The entries of `anyone` that may apply where there is no recipient."""
        return _by_target(self._tables.entries_of_anyone(0, (), ())) if self._tables.has_anyone_entries else NO_ENTRIES

    # Places.

    def _locate_login(self, text: str) -> _Place:
        """Where a login leads to, as it is: an address; without a domain a name, else an address at the origin."""
        if has_domain(text):
            return self._locate(text)
        local, at, rest = text.rpartition("@")
        name = split_address(local if at else rest).local
        holder = self._tables.mailbox_called(name) if name else None
        if holder is None:
            place = self._locate(text)
            return place._replace(ways=("origin", *place.ways)) if place.holder else place
        # Somebody else may have that address; who is blocked by it is blocked, but nobody is let through by it.
        return _Place(others=self._spelled(text), holder=holder, ways=("name",))

    def _without_realm(self, login: str) -> str:
        """What is left of a login without a realm of the settings, "" where it has none, or nothing else."""
        realm, backslash, rest = login.partition("\\")
        if backslash and normal_realm(realm) in self._realms:
            return rest
        rest, _, realm = login.rpartition("@")
        return rest if normal_realm(realm) in self._realms else ""

    def _locate(self, text: str) -> _Place:
        """Where an address leads to, by the first of its forms that leads to a mailbox.

        The forms are the address as it is written, and as Postfix takes it; then both without a BATV tag. Where none
        leads to a mailbox, the place is that of the first in a managed domain; where none is in one, it is outside.
        """
        plain = self._forms(text)
        untagged = without_batv(text)
        place = self._place_of(plain[0])
        if not untagged and len(plain) == 1:
            return place

        # A mailbox ends the search; a managed domain is kept in case that there is none.
        bare = self._forms(untagged) if untagged else ()
        located = plain[0].domain
        for form in (*plain[1:], *bare):
            if place.holder is not None:
                break
            other = self._place_of(form)
            if other.holder is not None or place.domain is None:
                ways = ("BATV", *other.ways) if form in bare else other.ways
                place, located = other._replace(foreign=place.foreign, ways=ways), form.domain

        # It is itself where it was found, and as it is written, whatever else Postfix takes it for.
        certain: list[EmailAddress] = []
        others: list[EmailAddress] = []
        for form in sorted(plain + bare, key=lambda form: form.domain != located):
            meant = certain if form.domain in (plain[0].domain, located) else others
            meant += _with_target(form, self._managed(form.domain))
        foreign = (*place.foreign, *bare[:1]) if place.foreign else ()
        return place._replace(addresses=tuple(certain), others=tuple(others), foreign=foreign)

    def _place_of(self, address: EmailAddress) -> _Place:
        """Where *address* leads to, in this one form."""
        local, name, _ = address
        domain = self._managed(name)
        if domain is None:
            alone = (address,)
            return _Place(alone, (), alone)

        # Most are listed as they stand, and so may an IMCEA address be.
        holder = self._tables.holder_of(f"{local}@{name}") if local else None
        ways: tuple[str, ...] = ()
        if holder is None:
            holder, ways = self._find_otherwise(address, domain)
        return _Place._make((_with_target(address, domain), (), (), domain, holder, ways))

    def _inner(self, text: str, written: _Place) -> _Place:
        """Where the address leads to which Postfix would send *written* on, or *written*.

        Without its BATV tag *text* may lead to a mailbox where with it, it leads outside.
        """
        if written.holder is not None or written.is_outside:
            return written
        place = self._follow(text, written)
        if place.holder is None and (untagged := without_batv(text)):
            inside = self._follow(untagged, written)
            return inside if inside.holder is not None else place
        return place

    def _follow(self, text: str, written: _Place) -> _Place:
        """The same for *text* as it stands.

        Postfix goes on where the domain is its own: so no further than through managed ones. Where it has passed one,
        it delivers no address in it but the innermost.
        """
        place = written
        passed = set()
        for hop, is_innermost in inner_addresses(text):
            domain = domain_for_postfix(hop.rpartition("@")[2])
            if domain not in passed or is_innermost:
                place = self._locate(hop)
                passed.add(domain)
            if place.holder is not None or place.is_outside:
                break
        return place

    def _decapsulated(self, written: _Place) -> _Place:
        """Where an Exchange behind Postfix sends what *written* encapsulates, if that is outside; else *written*.

        Source: Q189492.
        """
        place = written
        while place.holder is None and not place.is_outside:
            found = filter(None, [decode_imcea(address.local) for address in place.addresses])
            inside = next((each.smtp_address for each in found if has_domain(each.smtp_address)), "")
            if not inside:
                break
            place = self._locate(inside)
        return place if place.is_outside else written

    def _find_otherwise(self, address: EmailAddress, domain: Domain) -> tuple[Holder | None, tuple[str, ...]]:
        """The mailbox that *address*, which nobody has as it stands, leads to, and by which ways.

        *domain* is the managed domain that it is in, of an alias domain the target.
        """
        encapsulated = decode_imcea(address.local)
        locals_ = address.locals if encapsulated is None else (address.local,)
        listed = self._find_listed(address, locals_, domain, missing=f"{address.local}@{address.domain}")
        if listed[0] is not None or encapsulated is None:
            return listed
        holder = self._find_encapsulated(encapsulated)
        if holder is not None:
            return holder, ("IMCEA",)

        # What encapsulates nobody is to Postfix an address like others, with an extension.
        return self._find_listed(address, address.locals[1:], domain)

    def _find_listed(
        self, address: EmailAddress, locals_: Sequence[str], domain: Domain, *, missing: str = ""
    ) -> tuple[Holder | None, tuple[str, ...]]:
        """The same for an address that is listed with one of *locals_*, in its own domain or in the target.

        Nobody has the address *missing*, which is not asked for again.
        """
        for name in (address.domain,) if domain.name == address.domain else (address.domain, domain.name):
            for local in locals_:
                text = f"{local}@{name}"
                holder = self._tables.holder_of(text) if text != missing else None
                if holder is not None:
                    ways: tuple[str, ...] = () if name is address.domain else ("alias domain",)
                    return holder, ways if local is address.local else (*ways, "extension")
        return None, ()

    def _find_encapsulated(self, encapsulated: Encapsulated) -> Holder | None:
        """The mailbox that an IMCEA address leads to; an IMCEA address inside it leads nowhere."""
        if encapsulated.common_name:
            return self._tables.mailbox_called(encapsulated.common_name)
        inside = encapsulated.smtp_address
        for text in (inside, without_batv(inside)):
            for address in address_forms(text, delimiters=self._delimiters):
                domain = self._managed(address.domain)
                holder = self._find_listed(address, address.locals, domain)[0] if domain is not None else None
                if holder is not None:
                    return holder
        return None

    # What hangs on a mailbox.

    def _find_accepted_by(self, mailbox_id: int, group_ids: tuple[int, ...], domain: str) -> frozenset[Party]:
        return self._tables.accepted_by(mailbox_id=mailbox_id, group_ids=group_ids, domain=domain)

    def _find_addresses_of(self, mailbox_id: int) -> tuple[EmailAddress, ...]:
        return tuple(chain.from_iterable(map(self._spelled, self._tables.addresses_of(mailbox_id))))

    def _find_patterns_of(self, mailbox_id: int) -> frozenset[Party]:
        return patterns_of(self._addresses_of(mailbox_id))

    def _find_domains_of(self, mailbox_id: int) -> frozenset[str]:
        names = {address.domain for address in self._addresses_of(mailbox_id)}
        return frozenset(domain.name for domain in map(self._managed, names) if domain is not None)

    def _primary_of(self, holder: Holder) -> str:
        """The primary address of a mailbox, "" where it has none."""
        return self._tables.primary_address(holder.id) if holder.primary is None else holder.primary

    def _find_managed(self, name: str) -> Domain | None:
        """The managed domain *name*, of an alias domain its target."""
        domain = self._tables.domain(name) if name else None
        return (self._tables.domain(domain.alias_of) or domain) if domain and domain.alias_of else domain

    def _spelled(self, text: str) -> tuple[EmailAddress, ...]:
        """Every form of an address, each also in the target of its domain."""
        return tuple(chain.from_iterable(_with_target(form, self._managed(form.domain)) for form in self._forms(text)))


def _with_target(address: EmailAddress, domain: Domain | None) -> tuple[EmailAddress, ...]:
    """*address*, and if its domain is an alias of *domain*, the address there."""
    if domain is None or domain.name == address.domain:
        return (address,)
    return address, address._replace(domain=domain.name)


def _identity(
    text: str, place: _Place, groups: tuple[Group, ...], entries: Entries, *, leads_outside: bool = False
) -> Identity:
    addresses, others, foreign, domain, holder, ways = place
    how = ", ".join(ways) if ways else "exact" if holder is not None else ""
    return Identity._make((text, addresses, others, domain, holder, how, groups, foreign, leads_outside, entries))


def _ids(holder: Holder | None, groups: Sequence[Group]) -> tuple[int, tuple[int, ...]]:
    return holder.id if holder is not None else 0, tuple([group.id for group in groups]) if groups else ()


def _patterns(addresses: Sequence[EmailAddress]) -> tuple[str, ...]:
    """Every pattern that one of *addresses* matches, once."""
    if len(addresses) == 1:
        return matching_patterns(addresses[0])
    return tuple(dict.fromkeys(chain.from_iterable(map(matching_patterns, addresses))))


def _by_target(found: Sequence[BlockedSender]) -> Entries:
    """Entries by whom they are to: one sender may have thousands, of which a recipient is one or two's."""
    if not found:
        return NO_ENTRIES
    entries: dict[Party, tuple[BlockedSender, ...]] = {}
    for entry in found:
        entries[entry.to] = (*entries.get(entry.to, ()), entry)
    return entries
