"""The mailboxes of a domain and the members of a group, some at a time, so that a large one takes no longer."""

from collections.abc import Sequence
from typing import NamedTuple

from policyd.admin.in_force import Held, held_with_restriction
from policyd.model import Domain, Group, Membership, Party, PartyKind
from policyd.store.queries import Queries

_ROWS = 100_000  # addresses or memberships that are looked at: some 50 ms
_NAMES = 8  # domains whose addresses are looked for: one and what stands for it
_GROUPS = 1000  # that are looked for within a group
_VISITED = 25  # groups whose members are asked for
_DIGITS = 19  # of a number that fits into a column


class Count(NamedTuple):
    """How many mailboxes there are: so many, or where these are not *is_all*, at least."""

    mailboxes: int
    is_all: bool


class MailboxPage(NamedTuple):
    """Some mailboxes of a domain, each with its addresses there; behind `after` is the next page, "" at the end."""

    mailboxes: list[Held]
    after: str


class Member(NamedTuple):
    """A mailbox or group in a group: the group that has it directly; of a mailbox, what is `held` and restricts it.

    Behind `position` stand those that come after it.
    """

    party: Party
    group: Party
    held: Held | None
    position: str


class MemberPage(NamedTuple):
    """Some members of a group, first the direct ones; behind `after` is the next page, "" at the end."""

    members: list[Member]
    after: str


def count_in_domains(queries: Queries, names: Sequence[str]) -> Count:
    """How many mailboxes have an address in one of these domains."""
    last = queries.last_behind("", _ROWS)
    return Count(queries.count_in(names[:_NAMES], last), not last and len(names) <= _NAMES)


def count_in_group(queries: Queries, group: Group) -> Count:
    """How many mailboxes are in *group*, directly or not."""
    return Count(*queries.count_within(group.id, _ROWS))


def page_of_mailboxes(
    queries: Queries, domain: Domain, names: Sequence[str], after: str, now: int, *, most: int
) -> MailboxPage:
    """The mailboxes with an address in *domain* or what stands for it, *names*, by the first of those, behind *after*.

    What restricts each is that of *now*, in Unix seconds. There may be fewer than *most*, and a next page all the same.
    """
    last = queries.last_behind(after, _ROWS)
    found = queries.held_in(names[:_NAMES], after, last, most + 1)
    held = {each.mailbox.id: each for each in held_with_restriction(queries, dict(found[:most]).values(), domain, now)}
    mailboxes = []
    for address, number in found[:most]:
        its_own = tuple(each for each in held[number].addresses if each.rpartition("@")[2] in names[:_NAMES])
        if address == min(its_own):  # it stands where its first address does, and nowhere else
            mailboxes.append(held[number]._replace(addresses=its_own))
    return MailboxPage(mailboxes, found[most - 1][0] if len(found) > most else last)


def page_of_members(queries: Queries, group: Group, after: str, now: int, *, most: int) -> MemberPage:
    """Who is in *group* behind *after*: those directly in it, then those in each group within it, by its number.

    What restricts a mailbox is what itself and its groups say at *now*, in Unix seconds.
    """
    # The groups from where the last page ended.
    at, behind = _position(after, group)
    within = [number for number in sorted(queries.groups_within(group.id, _GROUPS)) if number != group.id]
    rest = [group.id, *within] if at == group.id else [number for number in within if number >= at]

    # As many of their members as a page has, and one more where there is one.
    found: list[Membership] = []
    for number in rest[:_VISITED]:
        found += queries.members_behind(number, behind if number == at else 0, most + 1 - len(found))
        if len(found) > most:
            return MemberPage(_members(queries, found[:most], now), _position_of(found[most - 1]))
    return MemberPage(_members(queries, found, now), f"{rest[_VISITED]} 0" if len(rest) > _VISITED else "")


def _members(queries: Queries, found: Sequence[Membership], now: int) -> list[Member]:
    numbers = [each.member.number for each in found if each.member.kind is PartyKind.MAILBOX]
    held = {each.mailbox.id: each for each in held_with_restriction(queries, numbers, None, now)}
    return [
        Member(
            each.member,
            each.group,
            held.get(each.member.number) if each.member.kind is PartyKind.MAILBOX else None,
            _position_of(each),
        )
        for each in found
    ]


def _position_of(membership: Membership) -> str:
    """Where *membership* stands, as the page sends it back."""
    return f"{membership.group.number} {membership.id}"


def _position(text: str, group: Group) -> tuple[int, int]:
    """The number of the group and of the membership that *text* says; those of the beginning where it is neither."""
    at, _, behind = text.partition(" ")
    if not all(each.isascii() and each.isdecimal() and len(each) < _DIGITS for each in (at, behind)):
        return group.id, 0
    return int(at), int(behind)
