"""What the tables hold, as objects of plain values: what `show` and `list` print, and a page shows.

Each has the fields of the journal and of `--json`, and a true `ended` where its end has passed. Iterators stream,
inside the session's transaction. *now* is in Unix seconds. *text* narrows a list: to names that have it in them, in any
case, or that are as a glob with `*` or `?` says.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from shlex import quote
from typing import TYPE_CHECKING, Any, assert_never

from policyd.address import fold, unicode_domain
from policyd.admin.history import is_in, name_filter
from policyd.admin.in_force import InForce, in_force, reach_of
from policyd.errors import RefusedError
from policyd.model import BlockedSender, Domain, Group, Mailbox, Party, PartyKind
from policyd.rules import NO_ENTRIES, is_past
from policyd.settings import Settings
from policyd.store.edit import Restricted, entries_found, need_domain, need_group, need_mailbox, need_managed
from policyd.store.journal import shown
from policyd.store.lookup import Answers
from policyd.store.queries import Queries

if TYPE_CHECKING:
    from policyd.decide import Decider

Shown = Mapping[str, Any]


def list_domains(queries: Queries, now: int, text: str = "", domain: str = "") -> Iterator[Shown]:
    """The managed domains, by name: all, or *domain* and those that stand for it, which say what it says.

    Raises NotManagedError where that is not managed.
    """
    if domain:
        need_managed(queries, "no domains", domain)
    is_wanted = name_filter(text)
    return (
        _stated(_counting(queries, each), now)
        for each in queries.domains()
        if domain in ("", each.name, each.alias_of) and is_wanted(each.name, unicode_domain(each.name))
    )


def show_domain(queries: Queries, name: str, now: int) -> dict[str, Any]:
    """The managed domain *name*, its `aliases`, and how many `mailboxes` its restriction is about, of which `keep_own`.

    Of an alias domain, what its target says. Raises RefusedError where it is not managed.
    """
    domain = need_domain(queries, name)
    target = need_domain(queries, domain.alias_of) if domain.alias_of else domain
    return {**domain_facts(queries, domain, now), **_reach(queries, target, now)}


def domain_facts(queries: Queries, domain: Domain, now: int) -> Shown:
    """*domain* with its `aliases`; of an alias domain, what its target says."""
    return {**_stated(_counting(queries, domain), now), "aliases": queries.aliases_of(domain.name)}


def _counting(queries: Queries, domain: Domain) -> Domain:
    """*domain* with what counts in it: in an alias domain, what its target says."""
    if not domain.alias_of:
        return domain
    target = need_domain(queries, domain.alias_of)
    return replace(target, name=domain.name, alias_of=domain.alias_of, comment=domain.comment)


def list_groups(queries: Queries, now: int, text: str = "", domain: str = "") -> list[Shown]:
    """The groups, by name, each with its `members`: all, or those that a mailbox in *domain* is in, directly or not.

    Raises NotManagedError where that is not managed.
    """
    if domain:
        need_managed(queries, "no mailboxes", domain)
    is_wanted, in_domain = name_filter(text), _InDomain(queries, domain)
    groups = [each for each in queries.groups() if is_wanted(each.name) and in_domain.has(each.party)]
    groups.sort(key=lambda each: fold(each.name))
    return [_with_members(queries, group, now) for group in groups]


def show_group(queries: Queries, name: str, now: int) -> dict[str, Any]:
    """The group *name*: its `members`, the `groups` that it is in, how many `mailboxes` its restriction is about.

    And the entries that are `blocked`, or `blocked_to_it`. Raises RefusedError where there is none.
    """
    group = need_group(queries, name)
    return {
        **_with_members(queries, group, now),
        **group_facts(queries, group, now),
        **_reach(queries, group, now),
        **_entries(queries, group.party, now),
    }


def group_facts(queries: Queries, group: Group, now: int) -> Shown:
    """*group* with the `groups` that it is in."""
    return {**_stated(group, now), "groups": sorted(str(each.party) for each in queries.groups_above(group.id))}


def list_addresses(queries: Queries, domain: str = "", text: str = "") -> Iterator[Shown]:
    """The addresses, by address: all, or those in *domain*. Raises NotManagedError where that is not managed."""
    if domain:
        need_managed(queries, "no addresses", domain)
    is_wanted = name_filter(text)
    return (shown(each) for each in queries.addresses(domain) if is_wanted(each.address, each.mailbox))


def list_mailboxes(queries: Queries, now: int, text: str = "", domain: str = "") -> Iterator[Shown]:
    """The mailboxes, by name, each with its `addresses`, the primary one first; *text* may be in these, too.

    All, or those with an address in *domain*. Raises NotManagedError where that is not managed.
    """
    if domain:
        need_managed(queries, "no addresses", domain)
    is_wanted, end = name_filter(text), f"@{domain}" if domain else ""
    return (
        _with_addresses(mailbox, addresses, now)
        for mailbox, addresses in queries.mailboxes_by_name()
        if is_wanted(mailbox.name, *addresses) and (not end or any(each.endswith(end) for each in addresses))
    )


def show_mailbox(queries: Queries, name: str, now: int) -> dict[str, Any]:
    """The mailbox *name*, or the one with this address: its `addresses`, its `groups`, and what is `in_force`.

    And the entries that are `blocked`, or `blocked_to_it`. Raises RefusedError where there is none.
    """
    mailbox = need_mailbox(queries, name)
    return {
        **_with_addresses(mailbox, [each.address for each in queries.addresses_of(mailbox.id)], now),
        **_entries(queries, mailbox.party, now),
        "groups": sorted(str(each.party) for each in queries.groups_of(mailbox.id)),
        "in_force": [_in_force(each) for each in in_force(queries, mailbox, now)],
    }


def list_blocked_senders(
    queries: Queries, now: int, text: str = "", domain: str = "", *, is_expired: bool
) -> Iterator[Shown]:
    """The entries in force at *now*, or those that have expired by then; the oldest first.

    All, or those about a pattern in *domain*, managed or not, or about a mailbox or group that has an address there.
    """
    is_wanted, in_domain = name_filter(text), _InDomain(queries, domain)
    return (
        _stated(each, now)
        for each in queries.blocked_senders()
        if is_past(each.until, now) is is_expired
        and is_wanted(str(each.who), str(each.to))
        and (in_domain.has(each.who) or in_domain.has(each.to))
    )


def show_sender(queries: Queries, sender: Party, now: int, others: Sequence[BlockedSender] = ()) -> list[Shown]:
    """Every entry of *sender*, the oldest first, expired ones, too; of an address without any, its mailbox's.

    Raises RefusedError where there is none; the first of *others*, which it matches, is named then.
    """
    entries = [_stated(entry, now) for entry in entries_found(queries, _numbered(queries, sender))]
    if not entries and others:
        first = str(others[0].who)
        raise RefusedError(f"{sender} has no entry, but {first} has; see: policyd sender show {quote(first)}")
    if not entries:
        raise RefusedError(f"{sender} is not blocked; see: policyd sender list")
    return entries


def other_entries(queries: Queries, settings: Settings, sender: Party, now: int) -> list[BlockedSender]:
    """The entries in force that *sender* matches, too, but for `anyone`: its mailbox's, its groups', its domain's.

    Those that `show_sender` has are not among them. The oldest first.
    """
    from policyd.decide import Decider  # what no list and no other page needs

    answers = Answers(queries)
    answers.look_at_flags()
    its_own = entries_found(queries, _numbered(queries, sender))
    matching = matching_entries(Decider(settings, answers), sender)
    return [each for each in matching if each not in its_own and not is_past(each.until, now)]


def _numbered(queries: Queries, sender: Party) -> Party:
    """*sender* with its number. Raises RefusedError where there is no such mailbox or group."""
    match sender.kind:
        case PartyKind.MAILBOX:
            return need_mailbox(queries, sender.text).party
        case PartyKind.GROUP:
            return need_group(queries, sender.text).party
        case PartyKind.PATTERN | PartyKind.ANYONE | PartyKind.OUTSIDE:
            return sender
        case _:
            assert_never(sender.kind)


def matching_entries(decider: "Decider", sender: Party) -> list[BlockedSender]:
    """The entries that a mailbox or an address, as a sender, matches, the oldest first; of other parties none."""
    match sender.kind:
        case PartyKind.MAILBOX:
            found = decider.find_login(sender.text).entries
        case PartyKind.PATTERN:
            found = decider.find_sender(sender.text).entries if all(sender.text.rpartition("@")) else NO_ENTRIES
        case PartyKind.GROUP | PartyKind.ANYONE | PartyKind.OUTSIDE:
            return []
        case _:
            assert_never(sender.kind)
    return sorted(chain.from_iterable(found.values()), key=lambda each: each.id)


def show_entries(entries: Iterable[BlockedSender], now: int) -> list[Shown]:
    """Entries as they are, the oldest first, expired ones, too."""
    return [_stated(each, now) for each in sorted(entries, key=lambda each: each.id)]


class _InDomain:
    """Whether a party is in a domain: a pattern in it, or a mailbox, directly or in a group, with an address there.

    In no domain, "", everybody is.
    """

    def __init__(self, queries: Queries, domain: str) -> None:
        self._domain = domain
        self._mailboxes = {each.mailbox_id for each in queries.addresses(domain)} if domain else set()
        has_members = queries.flags().has_groups
        with_members = self._mailboxes if has_members else ()
        self._groups = {group.id for number in with_members for group in queries.groups_of(number)}

    def has(self, party: Party) -> bool:
        match party.kind:
            case _ if not self._domain:
                return True
            case PartyKind.MAILBOX:
                return party.number in self._mailboxes
            case PartyKind.GROUP:
                return party.number in self._groups
            case PartyKind.PATTERN:
                return is_in(party.text, self._domain)
            case PartyKind.ANYONE | PartyKind.OUTSIDE:
                return False
            case _:
                assert_never(party.kind)


def _stated(stored: Restricted | BlockedSender, now: int) -> Shown:
    return {**shown(stored), **({"ended": True} if is_past(stored.until, now) else {})}


def _with_addresses(mailbox: Mailbox, addresses: Iterable[str], now: int) -> Shown:
    return {**_stated(mailbox, now), "addresses": [*addresses]}


def _with_members(queries: Queries, group: Group, now: int) -> Shown:
    return {**_stated(group, now), "members": [str(each.member) for each in queries.members_of(group.id)]}


def _reach(queries: Queries, owner: Group | Domain, now: int) -> Shown:
    reach = reach_of(queries, owner, now)
    return {"mailboxes": reach.mailboxes, "keep_own": [*reach.own, *reach.others]}


def _in_force(each: InForce) -> Shown:
    restriction = each.restriction
    return {
        "receive": restriction.receive,
        "by": restriction.by or None,
        "domain": each.domain or restriction.domain or None,
        "reason": restriction.reason,
        "accept": sorted(map(str, each.accepted)),
    }


def _entries(queries: Queries, party: Party, now: int) -> Shown:
    return {
        "blocked": show_entries(queries.entries_of(party), now),
        "blocked_to_it": show_entries(queries.entries_to(party), now),
    }
