"""All that the tables say about one group: who is in it, who may write to them, what blocks them, and who said so."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from policyd.address import normal_group
from policyd.admin.about import ENTRIES, entries_shown
from policyd.admin.journal_pages import changes_of_group
from policyd.admin.mailbox_pages import Count, MemberPage, count_in_group, page_of_members
from policyd.admin.session import Session
from policyd.admin.showing import group_facts
from policyd.admin.typed_commands import Offer, offers
from policyd.model import Change
from policyd.store.edit import need_group


@dataclass(frozen=True, slots=True)
class AboutGroup:
    """What the tables say about a group.

    `group` is as `show_group` has it, but for its members; `count` is how many mailboxes are in it, directly or not.
    `blocked` are the entries that are it, or a group that it is in, `blocked_to_it` those to one of these, and
    `changes` those of all that, and of who is in it. `offers` would change it.
    """

    group: Mapping[str, Any]
    count: Count
    members: MemberPage
    blocked: list[Mapping[str, Any]]
    blocked_to_it: list[Mapping[str, Any]]
    offers: list[Offer]
    changes: list[Change]


def about_group(
    session: Session, text: str, now: int, *, after: str, limit_seconds: float, rows: int, changes: int
) -> AboutGroup:
    """What the tables say at *now*, in Unix seconds, about the group *text*, with or without `group:` in front.

    With so many *rows* at most, the members behind *after*, and so many *changes*, the last ones. Raises RefusedError
    where there is no such group, AddressError where there can be none, and StoreError.
    """
    with session.reading(limit_seconds=limit_seconds) as queries:
        group = need_group(queries, normal_group(text))
        parties = dict.fromkeys((group.party, *(each.party for each in queries.groups_above(group.id))))
        blocked = [entry for each in parties for entry in queries.entries_of(each, ENTRIES)]
        blocked_to_it = [entry for each in parties for entry in queries.entries_to(each, ENTRIES)]
        return AboutGroup(
            group_facts(queries, group, now),
            count_in_group(queries, group),
            page_of_members(queries, group, after, now, most=rows),
            entries_shown(blocked, now),
            entries_shown(blocked_to_it, now),
            offers(group, now),
            [*islice(changes_of_group(queries, group, [*blocked, *blocked_to_it]), changes)],
        )
