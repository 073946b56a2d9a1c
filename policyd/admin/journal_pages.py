"""The journal by pages, the last change first: some rows at a time, however long it is."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from policyd.admin.history import name_filter
from policyd.admin.tracing import Subject, changes_about, is_in_group, is_member_in
from policyd.changes import whom_it_is_to
from policyd.model import BlockedSender, Change, Group, Mailbox
from policyd.store.queries import Queries

_BEHIND_THE_LAST = 2**62  # larger than any id
_SUBJECTS = 200  # that are looked for: a statement has only so many terms


class Page(NamedTuple):
    """Some rows of the journal, the last first, and how far back it was looked for them.

    `before` is the id from which the next page goes on, 0 where the journal has no older row. `reached` is the oldest
    row that was looked at, None where there was none.
    """

    changes: list[Change]
    before: int
    reached: Change | None


def page_of_changes(
    queries: Queries, before: int, is_wanted: Callable[[Change], bool], *, limit: int, rows: int
) -> Page:
    """The last *limit* wanted changes before the one with this id; 0 begins with the last one.

    At most *rows* are looked at, so that a long journal takes no longer than a short one.
    """
    found: list[Change] = []
    reached, looked = None, 0
    for change in islice(queries.changes_before(before or _BEHIND_THE_LAST), rows):
        reached, looked = change, looked + 1
        if is_wanted(change):
            found.append(change)
            if len(found) == limit:
                break
    is_end = reached is None or reached.id <= 1 or (looked < rows and len(found) < limit)
    return Page(found, 0 if is_end or reached is None else reached.id, reached)


def change_filter(text: str, actor: str) -> Callable[[Change], bool]:
    """Whether a change is about what has *text* in its name, or is as this glob says, and its actor has *actor* in it.

    As for `list_changes`, the text may be in whom a blocked sender may not write to, too.
    """
    is_named, is_by = name_filter(text), name_filter(actor)

    def is_wanted(change: Change) -> bool:
        if actor and not is_by(change.actor):
            return False
        is_sender = change.operation.startswith("sender.")  # nothing else has anybody whom it is to
        return not text or is_named(change.object) or (is_sender and is_named(whom_it_is_to(change)))

    return is_wanted


def changes_of_mailbox(queries: Queries, mailbox: Mailbox) -> Iterator[Change]:
    """The changes of *mailbox*, of an address that it has, of an entry about it, and of its groups; the last first."""
    subjects = [
        Subject("mailbox", mailbox.name, mailbox.id),
        *(Subject("address", each.address) for each in queries.addresses_of(mailbox.id)),
        *map(_subject, queries.entries_about(mailbox.party)),
    ][:_SUBJECTS]
    for change in changes_about(queries, subjects, [mailbox.party]):
        if any(each.has(change) for each in subjects) or is_member_in(change, mailbox.party):
            yield change


def changes_of_address(queries: Queries, address: str) -> Iterator[Change]:
    """The changes of an *address*, in normal form, and of a blocked sender that is written so; the last first."""
    subjects = [Subject(noun, address) for noun in ("address", "sender")]
    return (change for change in changes_about(queries, subjects) if any(each.has(change) for each in subjects))


def changes_of_domain(queries: Queries, domain: str, entries: Iterable[BlockedSender]) -> Iterator[Change]:
    """The changes of a *domain*, and of these *entries*; the last first."""
    subjects = [Subject("domain", domain), *map(_subject, entries)][:_SUBJECTS]
    return (change for change in changes_about(queries, subjects) if any(each.has(change) for each in subjects))


def changes_of_group(queries: Queries, group: Group, entries: Iterable[BlockedSender]) -> Iterator[Change]:
    """The changes of *group*, of who is in it, of what it is in, and of these *entries*; the last first."""
    subjects = [Subject("group", group.name, group.id), *map(_subject, entries)][:_SUBJECTS]
    for change in changes_about(queries, subjects, [group.party], [group.id]):
        is_moved = is_member_in(change, group.party) or is_in_group(change, group.id)
        if is_moved or any(each.has(change) for each in subjects):
            yield change


def _subject(entry: BlockedSender) -> Subject:
    return Subject("sender", str(entry.who), entry.id)
