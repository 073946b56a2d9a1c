"""All that the tables say about one mailbox or address: who may write to it, to whom it may not, and who said so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from policyd.address import internal_address
from policyd.admin.asking import found_address
from policyd.admin.journal_pages import changes_of_address, changes_of_mailbox
from policyd.admin.session import Session
from policyd.admin.showing import matching_entries, show_entries, show_mailbox
from policyd.admin.typed_commands import Offer, offers, unblocking
from policyd.decide import Decider
from policyd.errors import RefusedError
from policyd.model import BlockedSender, Change, pattern_party
from policyd.rules import Identity
from policyd.settings import Settings
from policyd.store.edit import need_mailbox
from policyd.store.lookup import Answers
from policyd.store.queries import Queries

ENTRIES = 200  # of one party that are looked at; a page shows fewer


@dataclass(slots=True)
class About:
    """What the tables say about what was asked for.

    `mailbox` is as `show_mailbox` has it; it is None for an address that leads to none, as `remark` says then. Of an
    address, `how` says how it leads there. `blocked` are all entries that match it as a sender, by its group or a
    pattern, too, and `blocked_to_it` those that name it, or a group that it is in. `changes` are those of all
    that. `offers` would change the mailbox.
    """

    address: str = ""
    how: str = ""
    remark: str = ""
    mailbox: Mapping[str, Any] | None = None
    blocked: list[Mapping[str, Any]] = field(default_factory=list)
    blocked_to_it: list[Mapping[str, Any]] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def about(session: Session, settings: Settings, text: str, now: int, *, limit_seconds: float, changes: int) -> About:
    """What the tables say at *now*, in Unix seconds, about a mailbox's name or an address, *text*.

    With so many *changes* at most, the last ones. Raises RefusedError where there is no such mailbox,
    AddressError where there can be none, and StoreError.
    """
    with session.reading(limit_seconds=limit_seconds) as queries:
        answers = Answers(queries)
        answers.look_at_flags()
        decider = Decider(settings, answers)
        if "@" in text:
            typed = internal_address(text)
            found = _about_address(queries, decider.find_recipient(typed), now)
            sender = pattern_party(typed)
        else:
            found = About(mailbox=show_mailbox(queries, text, now))
            sender = need_mailbox(queries, text).party

        # The entries about it, and what was changed.
        mailbox = need_mailbox(queries, found.mailbox["name"]) if found.mailbox else None
        found.blocked = entries_shown(matching_entries(decider, sender), now)
        if mailbox is not None:
            parties = (mailbox.party, *(group.party for group in queries.groups_of(mailbox.id)))
            to_it = (entry for each in parties for entry in queries.entries_to(each, ENTRIES))
            found.blocked_to_it = entries_shown(to_it, now)
            found.offers = offers(mailbox, now)
        made = changes_of_mailbox(queries, mailbox) if mailbox else changes_of_address(queries, found.address)
        found.changes = [*islice(made, changes)]
        return found


def entries_shown(entries: Iterable[BlockedSender], now: int) -> list[Mapping[str, Any]]:
    """Entries as `show_entries` has them, each with the command that would `unblock` its sender."""
    listed = sorted(entries, key=lambda each: each.id)
    return [
        {**each, "unblock": unblocking(entry)} for each, entry in zip(show_entries(listed, now), listed, strict=True)
    ]


def _about_address(queries: Queries, recipient: Identity, now: int) -> About:
    """What there is about an address as it was found; where it leads to no mailbox, what to do."""
    found = About(address=str(recipient.addresses[0]))
    try:
        leads = found_address(recipient)
    except RefusedError as error:
        found.remark = str(error)
        return found
    found.how, found.mailbox = leads["how"], show_mailbox(queries, leads["mailbox"], now)
    return found
