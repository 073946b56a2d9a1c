"""Who an address or a login is: found in the tables, by every way that leads to a mailbox.

One file, as senders, recipients and logins are found by the same ways, and what they have in common is told once.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Protocol

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
from policyd.model import BlockedSender, Domain, Group, Holder, Party, new_tuple
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


class Identities:
    """Finds in *tables*, by *settings*, who the texts of a request are, and remembers it until `forget`.

    Every call but `forget` may raise StoreError.
    """

    def __init__(self, settings: Settings, tables: FactLookup) -> None:
        self._origin = settings.origin
        self._delimiters = settings.recipient_delimiter
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
        found = written = self._locate(text)
        inner = self._decapsulated(self._inner(text, written)) if written.mailbox is None else written
        if inner is not written:
            addresses = inner.addresses + written.addresses
            if inner.mailbox is not None:
                found = inner._replace(text=text, addresses=addresses, ways=("route", *inner.ways))
            elif inner.is_outside:
                found = written._replace(addresses=addresses, leads_outside=True)

        # An IMCEA address can be in any managed domain; its mailbox is in its own.
        mailbox = found.mailbox
        if mailbox is not None and "IMCEA" in found.ways:
            home = self._managed(self._primary_of(mailbox).rpartition("@")[2])
            found = found._replace(domain=home or found.domain)

        # What everybody may not send to it.
        groups = self._groups_of(mailbox)
        entries = NO_ENTRIES
        if self._tables.has_anyone_entries:
            patterns = _patterns(found.addresses + found.others)
            entries = _by_target(self._tables.entries_of_anyone(*_ids(mailbox, groups), patterns))
        return found._replace(groups=groups, entries=entries) if groups or entries else found

    def _find_sender(self, text: str) -> Identity:
        return self._find_client(self._locate(text), text)

    def _find_login(self, text: str) -> Identity:
        # An address is whoever sends by it, unless it is nobody's, and has a realm.
        if has_domain(text):
            sender = self.sender(text)
            if sender.mailbox is not None or not self._without_realm(text):
                return sender

        # As it is written; then, as long as it is nobody's, without a realm.
        asked, found = text, self._locate_login(text)
        others: list[EmailAddress] = []
        ways: tuple[str, ...] = ()
        while found.mailbox is None and (rest := self._without_realm(asked)):
            others += found.addresses + found.others
            ways += ("realm",)
            asked, found = rest, self._locate_login(rest)
        found = found._replace(text=text, others=(*found.others, *others), ways=(*ways, *found.ways))
        return self._find_client(found, asked if has_domain(asked) else "")

    def _find_client(self, written: Identity, address: str) -> Identity:
        """*written*, a sender or login, with the blocked senders it may be.

        *address* is what may hold another address, "" for a login that is none. Nobody who is blocked can hide behind
        another form of an address, or behind an address around it. The address inside does not count where somebody is
        let through.
        """
        inner = self._inner(address, written) if address else written
        possible = written.addresses + written.others
        if inner is not written:
            possible += inner.addresses + inner.others

        # Whose mailbox it is counts by its groups and its primary address, too.
        mailbox = inner.mailbox
        if mailbox is None:
            patterns = _patterns(possible)
            found = self._tables.entries_of(0, (), patterns) if patterns else ()
            return written._replace(entries=_by_target(found)) if found else written
        groups = self._groups_of(mailbox)
        if mailbox.primary is None or inner.ways:
            primary = self._primary_of(mailbox)
            possible += self._spelled(primary) if primary else ()
        found = self._tables.entries_of(*_ids(mailbox, groups), _patterns(possible))
        own = groups if written.mailbox is not None else ()
        return written._replace(groups=own, entries=_by_target(found)) if own or found else written

    def _find_null_entries(self) -> Entries:
        """The entries that the null sender matches."""
        return _by_target(self._tables.entries_of(0, (), (NULL_SENDER,)))

    def _find_entries_of_anyone(self) -> Entries:
        """The entries of `anyone` that may apply where there is no recipient."""
        return _by_target(self._tables.entries_of_anyone(0, (), ())) if self._tables.has_anyone_entries else NO_ENTRIES

    # Where an address leads to.

    def _locate_login(self, text: str) -> Identity:
        """Who a login is, as it stands: an address; without a domain a name, else an address at the origin."""
        if has_domain(text):
            return self._locate(text)
        local, at, rest = text.rpartition("@")
        name = split_address(local if at else rest).local
        mailbox = self._tables.mailbox_called(name) if name else None
        if mailbox is None:
            found = self._locate(text)
            return found._replace(ways=("origin", *found.ways)) if found.mailbox else found
        # Somebody else may have that address; who is blocked by it is blocked, but nobody is let through by it.
        return Identity(text, others=self._spelled(text), mailbox=mailbox, ways=("name",))

    def _without_realm(self, login: str) -> str:
        """What is left of a login without a realm of the settings, "" where it has none, or nothing else."""
        realm, backslash, rest = login.partition("\\")
        if backslash and normal_realm(realm) in self._realms:
            return rest
        rest, _, realm = login.rpartition("@")
        return rest if normal_realm(realm) in self._realms else ""

    def _locate(self, text: str) -> Identity:
        """Who an address is, by the first of its forms that leads to a mailbox.

        The forms are the address as it is written, and as Postfix takes it; then both without a BATV tag. Where none
        leads to a mailbox, it is in the domain of the first in a managed one; where none is in one, it is outside.
        """
        plain = self._forms(text)
        untagged = without_batv(text)
        found = self._locate_form(text, plain[0])
        if not untagged and len(plain) == 1:
            return found

        # A mailbox ends the search; a managed domain is kept in case that there is none.
        bare = self._forms(untagged) if untagged else ()
        located = plain[0].domain
        for form in (*plain[1:], *bare):
            if found.mailbox is not None:
                break
            other = self._locate_form(text, form)
            if other.mailbox is not None or found.domain is None:
                ways = ("BATV", *other.ways) if form in bare else other.ways
                found, located = other._replace(foreign=found.foreign, ways=ways), form.domain

        # It is itself where it was found, and as it is written, whatever else Postfix takes it for.
        certain: list[EmailAddress] = []
        others: list[EmailAddress] = []
        for form in sorted(plain + bare, key=lambda form: form.domain != located):
            meant = certain if form.domain in (plain[0].domain, located) else others
            meant += _with_target(form, self._managed(form.domain))
        foreign = (*found.foreign, *bare[:1]) if found.foreign else ()
        return found._replace(addresses=tuple(certain), others=tuple(others), foreign=foreign)

    def _locate_form(self, text: str, address: EmailAddress) -> Identity:
        """Who *text* is where it is this *address*."""
        local, name, _ = address
        domain = self._managed(name)
        if domain is None:
            alone = (address,)
            return Identity(text, alone, (), None, None, (), (), alone)

        # Most are listed as they stand, and so may an IMCEA address be.
        mailbox = self._tables.holder_of(f"{local}@{name}") if local else None
        ways: tuple[str, ...] = ()
        if mailbox is None:
            mailbox, ways = self._find_otherwise(address, domain)
        addresses = _with_target(address, domain)
        return new_tuple(Identity, (text, addresses, (), domain, mailbox, ways, (), (), False, NO_ENTRIES))

    def _inner(self, text: str, written: Identity) -> Identity:
        """Where the address leads to which Postfix would send *written* on, or *written*.

        Without its BATV tag *text* may lead to a mailbox where with it, it leads outside.
        """
        if written.mailbox is not None or written.is_outside:
            return written
        inner = self._follow(text, written)
        if inner.mailbox is None and (untagged := without_batv(text)):
            inside = self._follow(untagged, written)
            return inside if inside.mailbox is not None else inner
        return inner

    def _follow(self, text: str, written: Identity) -> Identity:
        """The same for *text* as it stands.

        Postfix goes on where the domain is its own: so no further than through managed ones. Where it has passed one,
        it delivers no address in it but the innermost.
        """
        inner = written
        passed = set()
        for hop, is_innermost in inner_addresses(text):
            domain = domain_for_postfix(hop.rpartition("@")[2])
            if domain not in passed or is_innermost:
                inner = self._locate(hop)
                passed.add(domain)
            if inner.mailbox is not None or inner.is_outside:
                break
        return inner

    def _decapsulated(self, written: Identity) -> Identity:
        """Where an Exchange behind Postfix sends what *written* encapsulates, if that is outside; else *written*.

        Source: Q189492.
        """
        inner = written
        while inner.mailbox is None and not inner.is_outside:
            inside = _encapsulated_by(inner.addresses)
            if not inside:
                break
            inner = self._locate(inside)
        return inner if inner.is_outside else written

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

    def _groups_of(self, mailbox: Holder | None) -> tuple[Group, ...]:
        return self._tables.groups_of(mailbox.id) if mailbox is not None and mailbox.is_in_groups else ()

    def _find_accepted_by(self, mailbox_id: int, group_ids: tuple[int, ...], domain: str) -> frozenset[Party]:
        return self._tables.accepted_by(mailbox_id=mailbox_id, group_ids=group_ids, domain=domain)

    def _find_addresses_of(self, mailbox_id: int) -> tuple[EmailAddress, ...]:
        return tuple(chain.from_iterable(map(self._spelled, self._tables.addresses_of(mailbox_id))))

    def _find_patterns_of(self, mailbox_id: int) -> frozenset[Party]:
        return patterns_of(self._addresses_of(mailbox_id))

    def _find_domains_of(self, mailbox_id: int) -> frozenset[str]:
        names = {address.domain for address in self._addresses_of(mailbox_id)}
        return frozenset(domain.name for domain in map(self._managed, names) if domain is not None)

    def _primary_of(self, mailbox: Holder) -> str:
        """The primary address of a mailbox, "" where it has none."""
        return self._tables.primary_address(mailbox.id) if mailbox.primary is None else mailbox.primary

    def _find_managed(self, name: str) -> Domain | None:
        """The managed domain *name*, of an alias domain its target."""
        domain = self._tables.domain(name) if name else None
        return (self._tables.domain(domain.alias_of) or domain) if domain and domain.alias_of else domain

    def _forms(self, text: str) -> tuple[EmailAddress, ...]:
        """The address as it is written, and as Postfix takes it, if that is another."""
        return address_forms(text, self._origin, self._delimiters)

    def _spelled(self, text: str) -> tuple[EmailAddress, ...]:
        """Every form of an address, each also in the target of its domain."""
        return tuple(chain.from_iterable(_with_target(form, self._managed(form.domain)) for form in self._forms(text)))


def _with_target(address: EmailAddress, domain: Domain | None) -> tuple[EmailAddress, ...]:
    """*address*, and if its domain is an alias of *domain*, the address there."""
    if domain is None or domain.name == address.domain:
        return (address,)
    return address, address._replace(domain=domain.name)


def _encapsulated_by(addresses: Iterable[EmailAddress]) -> str:
    """The address with a domain that is encapsulated in the first of *addresses* that has one, "" where none has."""
    for address in addresses:
        encapsulated = decode_imcea(address.local)
        if encapsulated is not None and has_domain(encapsulated.smtp_address):
            return encapsulated.smtp_address
    return ""


def _ids(mailbox: Holder | None, groups: Sequence[Group]) -> tuple[int, tuple[int, ...]]:
    return mailbox.id if mailbox is not None else 0, tuple([group.id for group in groups]) if groups else ()


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
