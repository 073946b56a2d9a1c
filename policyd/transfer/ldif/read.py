"""Reads LDIF, as directories export it: entries and changes -> rows.

An entry with addresses or a mailNickname is a mailbox, named by its mailNickname, uid or cn. A group with an address
is one too; one that a restriction names is a group here, of the same name. A modify or delete has only the entry's dn:
it is about the mailbox that has the value in the dn's first part for a name; a modify of its members, about the group
of that name. Source: RFC 2849, RFC 2798; Active Directory's schema.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, TypeVar, assert_never

from policyd.address import normal_group
from policyd.errors import AddressError
from policyd.model import Party, PartyKind, Receive
from policyd.records import KEEP, GroupRow, Keep, ListEdit, MailboxRow, Notice, Problem, Record, Row, RowMode
from policyd.transfer.formats import Evidence, ReadOptions, Sample
from policyd.transfer.ldif.entries import ACCEPTED, MEMBERS, NAMES, REJECTED, Edit, Entry, Operation, read_entries
from policyd.transfer.ldif.names import name_key
from policyd.transfer.ldif.people import (
    OWN_ADDRESSES,
    LdifSource,
    List,
    People,
    entry_addresses,
    find_people,
    is_mailbox,
    kind_of,
    mailbox_name,
    name_in,
    optional_addresses,
    read_addresses,
)

_Item = TypeVar("_Item")

_FIRST_LINE = re.compile(r"version:\s*\d+\s*|dn::?\s.*", re.IGNORECASE)
_ADDRESSES = tuple(attribute.lower() for attribute in OWN_ADDRESSES)
_SIGN_IN = "msexchrequireauthtosendto"
_CONTAINERS = frozenset({"ou", "dc", "o", "c", "l", "st"})
_SPELLED = {
    "proxyaddresses": "proxyAddresses",
    "authorig": "authOrig",
    "dlmemsubmitperms": "dLMemSubmitPerms",
    "unauthorig": "unauthOrig",
    "dlmemrejectperms": "dLMemRejectPerms",
    "mailnickname": "mailNickname",
    _SIGN_IN: "msExchRequireAuthToSendTo",
}


def read(stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
    """The mailboxes that a directory's entries and changes are about; other entries are skipped and counted.

    *stream* is read from its start, and more than once. Raises TransferError for what isn't LDIF.
    """
    # Restrictions name entries that may come later, so first find out who each entry is.
    people = find_people(LdifSource(stream), options)

    # Then each entry is read.
    for entry in read_entries(stream):
        yield entry if isinstance(entry, Notice) else read_entry(entry, people, options)


def recognize(sample: Sample) -> Evidence:
    """By its first line; ldapsearch writes comments above it, and folds long ones."""
    unfolded = [line for line in sample.content if not line[0].isspace()]
    first = [*unfolded, *sample.content, ""][0]
    return Evidence.LINES if _FIRST_LINE.fullmatch(first.strip()) else Evidence.NONE


@dataclass(frozen=True, slots=True)
class _Reading:
    """What an entry is read with, and the problems that were found and the values that were skipped."""

    people: People
    options: ReadOptions
    problems: list[Problem] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def senders(self, attribute: str, names: Iterable[str]) -> tuple[Party, ...]:
        """Whom the values of a restriction stand for."""
        found: list[Party] = []
        for name in names:
            try:
                found += self.people.find(name)
            except AddressError as error:
                self.problems.append(Problem(str(error), _SPELLED[attribute]))
        return tuple(dict.fromkeys(found))

    def members(self, edit: Edit) -> tuple[Party, ...]:
        """The mailboxes and groups that the values of a change to a group's members stand for."""
        found: list[Party] = []
        for name in filter(None, edit.values):
            try:
                party = self.people.member(name)
            except AddressError as error:
                self.problems.append(Problem(str(error), edit.attribute))
                continue
            if party is None:
                self.skipped.append("contact")
            else:
                found.append(party)
        return tuple(dict.fromkeys(found))

    def must_sign_in(self, values: list[str]) -> bool | None:
        """Whether only insiders may send to the mailbox; None where that isn't said."""
        if values and values[0].upper() not in ("TRUE", "FALSE"):
            self.problems.append(Problem(f"{values[0][:40]!a} is neither TRUE nor FALSE", _SPELLED[_SIGN_IN]))
        return values[0].upper() == "TRUE" if values else None


def read_entry(entry: Entry, people: People, options: ReadOptions) -> Record:
    """What *entry* says, whom its names stand for being *people*."""
    # A broken entry is not read; a good one may turn out to be wrong.
    reading = _Reading(people, options, list(entry.problems))
    rows: list[Row] = []
    group = people.lists.get(name_key(entry.name)) if entry.change in ("", "add") else None
    if not entry.problems:
        try:
            rows = [*_read_rows(entry, group, reading)]
        except AddressError as error:
            reading.problems.append(Problem(str(error)))

    # With a problem, nothing of it is imported.
    if reading.problems:
        wrong = (group.name,) if group else _wrong_groups(entry)
        return Record(entry.line, entry.source, (), tuple(reading.problems), tuple(reading.skipped), wrong)
    return Record(entry.line, entry.source, tuple(rows), (), tuple(reading.skipped))


def _wrong_groups(entry: Entry) -> tuple[str, ...]:
    """The groups that a change with a problem is about."""
    try:
        return (name,) if (name := _changed_group(entry)) else ()
    except AddressError:
        return ()


def _read_rows(entry: Entry, group: List | None, reading: _Reading) -> Iterator[Row]:
    """What a record says of a mailbox, and of the *group* that it is here; nothing if it is neither.

    Raises AddressError where there is no name to give it.
    """
    # An entry as it is, or an addition.
    if entry.change in ("", "add"):
        if group is not None:
            yield _read_group(group, reading)
        yield from _read_content(entry, reading, is_group=group is not None)
        return

    # A change: only the dn of the entry says what it is about.
    if entry.change not in ("modify", "delete"):
        raise AddressError(
            f"changetype: {entry.change[:40]!a} can't be imported; to rename a mailbox: policyd mailbox rename"
        )
    if entry.name and entry.name[0][0] in _CONTAINERS:
        reading.skipped.append(entry.name[0][0])
    elif entry.change == "delete":
        yield MailboxRow(name_in(entry.name), RowMode.DELETE)
    elif not entry.edits:
        reading.skipped.append("modify")
    else:
        members, others = ([e for e in entry.edits if (e.attribute in MEMBERS) is are] for are in (True, False))
        if members:
            yield _read_membership(entry, members, reading)
        if others:
            yield _read_modify(replace(entry, edits=tuple(others)), reading)


def _read_membership(entry: Entry, edits: list[Edit], reading: _Reading) -> GroupRow:
    """The changes to a group's members; without values, all of them leave. Raises AddressError."""
    parts = [(edit, reading.members(edit)) for edit in edits]
    members = _combine([_apply([part for part in parts if part[0].attribute == one]) for one in MEMBERS])
    return GroupRow(_changed_group(entry), RowMode.MODIFY, members=members)


def _changed_group(entry: Entry) -> str:
    """The name of the group whose members a record changes, "" for other records. Raises AddressError."""
    return normal_group(name_in(entry.name)) if any(edit.attribute in MEMBERS for edit in entry.edits) else ""


def _read_group(group: List, reading: _Reading) -> GroupRow:
    """A group that the file's restrictions name, with those of its members that can be in one here."""
    members, left_out = reading.people.members_of(group)
    reading.skipped.extend(["contact"] * left_out)
    return GroupRow(group.name, members=ListEdit(not reading.options.is_append, add=members))


def _read_content(entry: Entry, reading: _Reading, *, is_group: bool) -> Iterator[MailboxRow]:
    """An entry as it stands in the directory. What isn't there is left as it is: an export seldom has every attribute.

    So is an added one: an export of ldifde says changetype: add of each, and can be imported again.
    """
    # Only an entry with addresses, or that had some, is a mailbox.
    addresses = entry_addresses(entry.values, reading.options)
    reading.problems.extend(addresses.problems)
    if not is_mailbox(entry.values, addresses) and not addresses.problems:
        reading.skipped.extend([] if is_group else [kind_of(entry.values)])
        return
    reading.skipped.extend(addresses.skipped)

    # Who may send to it, as two attributes say together.
    must_sign_in = reading.must_sign_in(entry.values.get(_SIGN_IN, []))
    accepted = _read_senders(entry, ACCEPTED, reading)
    is_said = any(attribute in entry.values for attribute in _ADDRESSES)
    is_listed = isinstance(accepted, ListEdit)
    yield MailboxRow(
        mailbox_name(entry.values),
        addresses=ListEdit(not reading.options.is_append, add=addresses.all) if is_said else KEEP,
        receive=Receive.NOBODY if is_listed else _receive(must_sign_in),
        accepted=_signed_in(accepted, must_sign_in, reading),
        rejected=_read_senders(entry, REJECTED, reading),
        is_flag=not is_listed and must_sign_in is not None,
        optional=optional_addresses(entry.values, reading.options),
        is_entry=True,
    )


def _receive(must_sign_in: bool | None) -> Receive | Keep:
    """Who may send, by whether senders must sign in."""
    return KEEP if must_sign_in is None else Receive.INSIDERS if must_sign_in else Receive.INHERIT


def _signed_in(
    accepted: ListEdit[Party] | Keep, must_sign_in: bool | None, reading: _Reading
) -> ListEdit[Party] | Keep:
    """Those *accepted* who can sign in, where they must: whoever writes to a list must be on it, and prove it."""
    if isinstance(accepted, Keep) or not must_sign_in:
        return accepted
    added = tuple(party for party in accepted.add if party.kind is not PartyKind.PATTERN)
    reading.skipped.extend(["contact"] * (len(accepted.add) - len(added)))
    return replace(accepted, add=added)


def _read_senders(entry: Entry, attributes: tuple[str, ...], reading: _Reading) -> ListEdit[Party] | Keep:
    if not any(attribute in entry.values for attribute in attributes):
        return KEEP
    found = [reading.senders(attribute, entry.values.get(attribute, ())) for attribute in attributes]
    return ListEdit(not reading.options.is_append, add=tuple(dict.fromkeys(sum(found, ()))))


def _read_modify(entry: Entry, reading: _Reading) -> MailboxRow:
    """The changes to an entry. `mail` and `proxyAddresses` are one list here: who replaces one replaces all."""
    for attribute in (edit.attribute for edit in entry.edits if edit.attribute in NAMES):
        message = "a name can't be changed by an import; use: policyd mailbox rename"
        reading.problems.append(Problem(message, _SPELLED.get(attribute, attribute)))
    accepted = _edit_senders(entry.edits, ACCEPTED, reading)
    must_sign_in = _edited_flag(entry.edits, reading)
    is_flag = must_sign_in is not None and (isinstance(accepted, Keep) or not (accepted.add or accepted.clear))
    said = {one: [text for each in entry.edits if each.attribute == one for text in each.values] for one in _ADDRESSES}
    return MailboxRow(
        name_in(entry.name),
        RowMode.MODIFY,
        addresses=_edit_addresses(entry.edits, reading),
        receive=_receive(must_sign_in) if is_flag else _listed_receive(accepted, must_sign_in, reading),
        accepted=_signed_in(accepted, must_sign_in, reading),
        rejected=_edit_senders(entry.edits, REJECTED, reading),
        is_flag=is_flag,
        optional=optional_addresses(said, reading.options),
    )


def _edited_flag(edits: tuple[Edit, ...], reading: _Reading) -> bool | None:
    """Whether senders must sign in after the changes, of which the last counts; None if nothing is said of it."""
    must_sign_in = None
    for edit in edits:
        if edit.attribute == _SIGN_IN:
            said = reading.must_sign_in(list(edit.values))
            must_sign_in = bool(said) and edit.operation is not Operation.DELETE
    return must_sign_in


def _listed_receive(accepted: ListEdit[Party] | Keep, must_sign_in: bool | None, reading: _Reading) -> Receive | Keep:
    """Who may send after changes to the list of those accepted, KEEP if that stays as it is."""
    if isinstance(accepted, Keep) or not (accepted.add or accepted.clear):
        return KEEP
    if accepted.add:
        return Receive.NOBODY

    # Without its list, a restriction to some senders says nothing about who may send now.
    if must_sign_in is None:
        message = "the last restriction to some senders goes: say with msExchRequireAuthToSendTo who may send now"
        reading.problems.append(Problem(message, _SPELLED["authorig"]))
    return _receive(must_sign_in)


def _edit_senders(edits: tuple[Edit, ...], attributes: tuple[str, ...], reading: _Reading) -> ListEdit[Party] | Keep:
    parts = [
        (edit, reading.senders(edit.attribute, edit.values))
        for attribute in attributes
        for edit in edits
        if edit.attribute == attribute
    ]
    return _combine([_apply([part for part in parts if part[0].attribute == one]) for one in attributes])


def _edit_addresses(edits: tuple[Edit, ...], reading: _Reading) -> ListEdit[str] | Keep:
    # Each edit of one of the attributes, with the addresses in it.
    parts, has_primary = [], False
    for edit in edits:
        if edit.attribute in _ADDRESSES:
            is_mail = edit.attribute == "mail"
            mail, proxies = (edit.values, ()) if is_mail else ((), edit.values)
            found = read_addresses(mail, proxies, reading.options)
            reading.problems.extend(found.problems)
            reading.skipped.extend(found.skipped)
            has_primary |= bool(found.primary)
            # Nobody knows which of the addresses here are from otherMailbox: that only adds, and takes named ones away.
            if edit.attribute == "othermailbox" and edit.operation is not Operation.DELETE:
                edit = replace(edit, operation=Operation.ADD)
            if edit.values or edit.attribute != "othermailbox":
                parts.append((edit, found.all))

    # The attribute with the primary address comes first: the first address of a list is the primary one.
    order = (_ADDRESSES[1], _ADDRESSES[0], *_ADDRESSES[2:]) if has_primary else _ADDRESSES
    return _combine([_apply([part for part in parts if part[0].attribute == one]) for one in order])


def _apply(parts: list[tuple[Edit, tuple[_Item, ...]]]) -> ListEdit[_Item]:
    """One attribute's changes, made one after the other. Beside each its values, without those of no interest here."""
    is_cleared = False
    removed: dict[_Item, None] = {}
    added: dict[_Item, None] = {}
    for edit, values in parts:
        if edit.operation is Operation.REPLACE or not edit.values:
            is_cleared, removed, added = True, {}, {}
        match edit.operation:
            case Operation.DELETE:
                removed.update(dict.fromkeys(values))
                added = {value: None for value in added if value not in removed}
            case Operation.ADD | Operation.REPLACE:
                added.update(dict.fromkeys(values))
            case _:
                assert_never(edit.operation)
    return ListEdit(is_cleared, tuple(removed), tuple(added))


def _combine(lists: list[ListEdit[_Item]]) -> ListEdit[_Item] | Keep:
    """Changes to attributes that are one list here, as changes to that."""
    clear = any(one.clear for one in lists)
    removed = () if clear else tuple(dict.fromkeys(value for one in lists for value in one.remove))
    added = tuple(dict.fromkeys(value for one in lists for value in one.add))
    return ListEdit(clear, removed, added) if clear or removed or added else KEEP
