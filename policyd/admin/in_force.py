"""Who may send to a mailbox as the tables stand, and who says so; whom a group's or a domain's restriction is about.

What counts is decided by `policyd.rules`, as for the daemon.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from policyd.address import fold
from policyd.model import Domain, Group, Holder, Mailbox, Party, PartyKind, Receive
from policyd.rules import Identity, Restriction, is_past, restriction_of
from policyd.store.queries import Queries

_AT_ONCE = 256  # mailboxes that are asked for


class InForce(NamedTuple):
    """What counts for a mailbox: for all its addresses, or where `domain` is one, for those in it.

    `accepted` are those who may send all the same.
    """

    restriction: Restriction
    domain: str
    accepted: frozenset[Party]

    @property
    def where(self) -> str:
        """For which of its addresses, with a blank in front; "" for all."""
        return f" in {self.domain}" if self.domain else ""

    @property
    def said_by(self) -> str:
        """Who says so, in words."""
        by = self.restriction.by
        return f"domain {self.restriction.domain}" if by == "domain" else by


class Held(NamedTuple):
    """A mailbox, without whom it accepts, its addresses, the primary one first, and what restricts it."""

    mailbox: Mailbox
    addresses: tuple[str, ...]
    restriction: Restriction


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom a restriction is about: how many mailboxes, and some of them by name.

    `own` say something themselves, `others` have a group that does; `restricted` are those that not everybody may send
    to.
    """

    mailboxes: int
    own: list[str]
    others: list[str]
    restricted: list[str]


def in_force(queries: Queries, mailbox: Mailbox, now: int) -> list[InForce]:
    """Who may send to *mailbox* at *now*, in Unix seconds: once, or once for each domain of its addresses."""
    groups = queries.groups_of(mailbox.id)
    names = dict.fromkeys(each.address.rpartition("@")[2] for each in queries.addresses_of(mailbox.id))
    domains: dict[str, Domain | None] = {each.name: each for name in names if (each := _target(queries, name))}
    found = [(name, _restriction(mailbox, domain, groups, now)) for name, domain in (domains or {"": None}).items()]

    # What the mailbox or a group says counts everywhere.
    is_same = all(restriction == found[0][1] for _, restriction in found)
    return [
        InForce(restriction, "" if is_same else name, _accepted(queries, mailbox, restriction))
        for name, restriction in (found[:1] if is_same else found)
    ]


def reach_of(queries: Queries, owner: Group | Domain, now: int) -> Reach:
    """Whom the restriction of *owner* is about at *now*, in Unix seconds."""
    domain = owner if isinstance(owner, Domain) else None
    held = sorted(held_with_restriction(queries, _mailboxes(queries, owner), domain, now), key=_folded_name)
    own, others, restricted = [], [], []
    for mailbox, _, restriction in held:
        if restriction.receive.is_restriction:
            restricted.append(mailbox.name)
        if mailbox.receive is not Receive.INHERIT and not is_past(mailbox.until, now):
            own.append(mailbox.name)
        elif restriction.group_ids and not (isinstance(owner, Group) and owner.id in restriction.group_ids):
            others.append(mailbox.name)
    return Reach(len(held), own, others, restricted)


def held_with_restriction(queries: Queries, numbers: Iterable[int], domain: Domain | None, now: int) -> Iterator[Held]:
    """The mailboxes of these *numbers*, in no order, with what counts for each at *now*, in Unix seconds.

    That is, for its addresses in *domain*; where that is None, what is said by itself or a group of it.
    """
    has_groups = queries.flags().has_groups
    rest = iter(sorted({*numbers}))
    while some := [*islice(rest, _AT_ONCE)]:
        groups = queries.groups_of_each(some) if has_groups else {}
        for mailbox, addresses in queries.mailboxes_numbered(some):
            its_groups = tuple(groups.get(mailbox.id, ()))
            restriction = _restriction(mailbox, domain, its_groups, now)
            yield Held(mailbox, addresses, restriction)


def _restriction(mailbox: Mailbox, domain: Domain | None, groups: tuple[Group, ...], now: int) -> Restriction:
    """What counts for *mailbox*, which is in *groups*, by an address in *domain*."""
    holder = Holder(mailbox.name, mailbox.receive, mailbox.reason, mailbox.until, mailbox.id)
    return restriction_of(Identity("", domain=domain, mailbox=holder, groups=groups), now)


def _accepted(queries: Queries, mailbox: Mailbox, restriction: Restriction) -> frozenset[Party]:
    if not restriction.receive.is_restriction:
        return frozenset()
    return queries.accepted_by(mailbox_id=mailbox.id, group_ids=restriction.group_ids, domain=restriction.domain)


def _target(queries: Queries, name: str) -> Domain | None:
    """The managed domain *name*, or the one that it stands for."""
    domain = queries.find_domain(name)
    return queries.find_domain(domain.alias_of) if domain and domain.alias_of else domain


def _mailboxes(queries: Queries, owner: Group | Domain) -> Iterator[int]:
    """The numbers of the mailboxes in a group, directly or not, or with an address in a domain or in an alias of it."""
    if isinstance(owner, Domain):
        for name in (owner.name, *queries.aliases_of(owner.name)):
            yield from (address.mailbox_id for address in queries.addresses(name))
        return
    for number in queries.groups_within(owner.id):
        members = (each.member for each in queries.members_of(number))
        yield from (member.number for member in members if member.kind is PartyKind.MAILBOX)


def _folded_name(held: Held) -> str:
    return fold(held.mailbox.name)
