"""The records of a file to import, whatever its format: rows about objects, or problems, each with its place.

A reader yields `Record`s, in the file's order; nobody changes them. Names, addresses, domains and parties in them
are in normal form, and parties without numbers.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Final, Generic, TypeVar, assert_never

from policyd.address import fold, normal_domain
from policyd.errors import AddressError
from policyd.model import Party, PartyKind, Receive, Unlisted


class RowMode(StrEnum):
    """What a row wants done to its object. Source: Q155414, the column Mode."""

    CREATE = "create"  # must not be there
    MODIFY = "modify"  # must be there
    UPDATE = "update"  # made if missing, else changed
    DELETE = "delete"  # must be there, and goes


class Keep(Enum):
    """The type of KEEP: what a row leaves as it is. There is one, also of a row that waited in a file."""

    KEEP = auto()


KEEP: Final = Keep.KEEP

_Item = TypeVar("_Item")

_DOMAIN = re.compile(r"@([^\s@,;:\"'<>()\[\]]+)")


@dataclass(slots=True)  # not frozen: that costs five times the time, and files have millions
class ListEdit(Generic[_Item]):
    """What a row says of a list, of addresses or of parties: empty it or not, take away, then add, in this order.

    Of addresses added to a list that was emptied, the first is the primary one.
    `remove` of values that aren't there does nothing.
    """

    clear: bool = False
    remove: tuple[_Item, ...] = ()
    add: tuple[_Item, ...] = ()


@dataclass(frozen=True, slots=True)
class DomainRow:
    """A managed domain, and its restriction.

    `alias_of` is the domain that it stands for, "" for none; the rest is as in a `GroupRow`. With `is_catch_all`, mail
    to every address in it is taken: where it is no alias of a managed domain, it lets unlisted recipients through, and
    it must be new, or do so already.
    """

    name: str
    mode: RowMode = RowMode.UPDATE
    unlisted: Unlisted | Keep = KEEP
    alias_of: str | Keep = KEEP
    receive: Receive | Keep = KEEP
    reason: str | Keep = KEEP
    until: int | Keep | None = KEEP
    comment: str | Keep = KEEP
    accepted: ListEdit[Party] | Keep = KEEP
    is_catch_all: bool = False


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group, its members, which are mailboxes and groups, and its restriction.

    `accepted` are senders that may send to those in it though they are restricted. `until` is in Unix seconds, None
    for no end. A row that says all that an export says of a group tells it `as_it_stood`: circles are taken, which
    nobody could type.
    """

    name: str
    mode: RowMode = RowMode.UPDATE
    members: ListEdit[Party] | Keep = KEEP
    receive: Receive | Keep = KEEP
    reason: str | Keep = KEEP
    until: int | Keep | None = KEEP
    comment: str | Keep = KEEP
    accepted: ListEdit[Party] | Keep = KEEP
    as_it_stood: bool = field(default=False, compare=False)  # where it comes from, and not what it says


@dataclass(slots=True)  # not frozen: that costs five times the time, and files have millions
class MailboxRow:
    """A mailbox.

    `accepted` are senders that may send to it though it is restricted: patterns, mailboxes and groups. `rejected` are
    senders that may not send to it: blocked senders with this mailbox as their `to`.
    `until` is in Unix seconds, None for no end. Where `is_named_by_address`, the file gave no name, and the mailbox is
    the one that has the first of the addresses it adds; a new one is called `name`, the local part, or `name (domain)`
    where that is another's name. With `is_flag`, `receive` is what a directory's flag says, `insiders` at least or
    `inherit`, which opens nothing that is restricted more. Of the addresses added, the `optional` ones count only where
    their domain is managed: they bring none in, and elsewhere they are left out. Where it `is_entry`, of a directory,
    another entry of that name is another mailbox, and not more about this one. A row that says all that an export says
    of a mailbox tells it `as_it_stood`: it may be open and accept senders, as one that was opened later.
    """

    name: str
    mode: RowMode = RowMode.UPDATE
    addresses: ListEdit[str] | Keep = KEEP
    receive: Receive | Keep = KEEP
    reason: str | Keep = KEEP
    until: int | Keep | None = KEEP
    comment: str | Keep = KEEP
    accepted: ListEdit[Party] | Keep = KEEP
    rejected: ListEdit[Party] | Keep = KEEP
    is_named_by_address: bool = False
    is_flag: bool = False
    optional: tuple[str, ...] = ()
    is_entry: bool = field(default=False, compare=False)  # where it comes from, and not what it says
    as_it_stood: bool = field(default=False, compare=False)  # likewise


@dataclass(frozen=True, slots=True)
class AddressRow:
    """An address that is to lead to the mailbox that has the address `target`, or is named so (virtual(5)).

    `doubt`, if given, is what is wrong with it where there is no such mailbox.
    """

    address: str
    target: str
    mode: RowMode = RowMode.UPDATE
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class BlockRow:
    """A blocked sender.

    `to` is None where the file does not say (then as `policyd sender block` without --to). `allowed` are exceptions by
    recipient, `allowed_senders` by sender; where those come from a file that asks nobody for a proof, `needs_no_proof`,
    and one of them would have to prove who it is, the row is wrong. `created_at` (Unix seconds) and `created_by` are
    KEEP where the file does not carry them. A row that says all that an export says of a blocked sender tells it
    `as_it_stood`: an exception may do nothing, as one for which the tables have changed since it was typed.
    """

    sender: Party
    to: Party | None = None
    mode: RowMode = RowMode.UPDATE
    allowed: ListEdit[Party] | Keep = KEEP
    allowed_senders: ListEdit[Party] | Keep = KEEP
    reason: str | Keep = KEEP
    until: int | Keep | None = KEEP
    comment: str | Keep = KEEP
    created_at: int | Keep = KEEP
    created_by: str | Keep = KEEP
    needs_no_proof: bool = False
    as_it_stood: bool = field(default=False, compare=False)  # where it comes from, and not what it says


Row = DomainRow | GroupRow | MailboxRow | AddressRow | BlockRow


def parties_of(row: Row) -> Iterator[Party]:
    """Whom *row* names beside its object."""
    lists: tuple[ListEdit[Party] | Keep, ...]
    match row:
        case DomainRow():
            lists = (row.accepted,)
        case GroupRow():
            lists = (row.members, row.accepted)
        case MailboxRow():
            lists = (row.accepted, row.rejected)
        case BlockRow():
            yield row.sender
            if row.to is not None:
                yield row.to
            lists = (row.allowed, row.allowed_senders)
        case AddressRow():
            return
        case _:
            assert_never(row)
    for edit in lists:
        if isinstance(edit, ListEdit):
            yield from edit.remove
            yield from edit.add


def groups_of(row: Row) -> frozenset[str]:
    """The groups that *row* names beside its object, by their folded names."""
    return frozenset(fold(party.text) for party in parties_of(row) if party.kind is PartyKind.GROUP)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a record: the column by its name ("" for the whole), the article's event number or 0.

    `unmanaged` is the domain that would have to be managed, where that is what is wrong. What `is_told` was told of a
    record before, for all that have it.
    """

    message: str
    column: str = ""
    event: int = 0
    unmanaged: str = ""
    is_told: bool = False


@dataclass(slots=True)  # not frozen: that costs five times the time, and files have millions
class Record:
    """One record of a file: applied whole or not at all.

    `line` is the number of its first line, from 1; `source` is its text as it stands in the file, without
    the last line break, for the file of rejected rows ("" where it is too long to keep). `skipped` names what was left
    out on purpose, one word a value (such as X400). With problems, `wrong_groups` names the groups that it is about.

    `stands_with` are lines of other records: where one of those is wrong, so is this one, which has no rows. `opens`
    are domains of which the file does not say everything: one that comes in with it lets unlisted recipients through.
    `heading` is the comment that must stand above `source` to be read the same, "" for none.
    """

    line: int
    source: str
    rows: tuple[Row, ...] = ()
    problems: tuple[Problem, ...] = ()
    skipped: tuple[str, ...] = ()
    wrong_groups: tuple[str, ...] = ()
    stands_with: tuple[int, ...] = ()
    opens: tuple[str, ...] = ()
    heading: str = ""


def domains_of(record: Record, default: str = "") -> set[str]:
    """The domains in which *record* has mailboxes or addresses, as far as can be told of one that could not be read.

    Addresses that have none are in the *default*.
    """
    if not record.rows:
        # What stands behind an @, as people write it; and without any, whatever completes it.
        found = _DOMAIN.findall(record.source)
        texts = found or ([default] if default else [])
    else:
        texts = [each.rpartition("@")[2] for row in record.rows for each in _addresses_of(row)]
    domains = set()
    for text in texts:
        with suppress(AddressError):
            domains.add(normal_domain(text))
    return domains


def _addresses_of(row: Row) -> tuple[str, ...]:
    """The addresses that *row* gives to mailboxes; of a domain, its name."""
    match row:
        case MailboxRow():
            return row.addresses.add if isinstance(row.addresses, ListEdit) else ()
        case AddressRow():
            return (row.address,)
        case DomainRow():
            return (row.name,)
        case GroupRow() | BlockRow():
            return ()
        case _:
            assert_never(row)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to report once about the file itself: an unknown column, a column that is there twice."""

    line: int
    message: str
