"""Applies a row of a file with the editor, and counts what came of each object."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar, assert_never

from policyd.address import fold, name_after
from policyd.errors import NotYetError, RefusedError
from policyd.model import Address, BlockedSender, Domain, Group, Mailbox, Membership, Party, PartyKind
from policyd.records import (
    KEEP,
    AddressRow,
    BlockRow,
    DomainRow,
    GroupRow,
    Keep,
    ListEdit,
    MailboxRow,
    Row,
    RowMode,
)
from policyd.store.edit import NO_END, Editor, EntryTerms, RestrictionTerms
from policyd.store.journal import Stored

_Value = TypeVar("_Value")

_KINDS = {
    Domain: "domain",
    Mailbox: "mailbox",
    Group: "group",
    Membership: "member",
    Address: "address",
    BlockedSender: "blocked sender",
}


@dataclass(frozen=True, slots=True)
class References:
    """What a row says of mailboxes and groups, to be applied later; and its object before and after the rest."""

    row: MailboxRow | GroupRow | DomainRow
    before: Mailbox | Group | Domain | None
    after: Mailbox | Group | Domain


class RowApplier:
    """Applies rows by *editor*. Domains of new addresses are managed too, if it *adds_domains*.

    `tally` counts what came of the objects, by pairs like ("mailbox", "added"): added, changed, removed, unchanged.
    `on_named`, if set, gets each object that the file names, as it stands then. What refers to a group waits until the
    file's groups are whole, which `knows_groups` says. `circles` are the members left out, since they closed one.
    """

    def __init__(self, editor: Editor, *, adds_domains: bool = False) -> None:
        self._editor = editor
        self._queries = editor.queries
        self._adds_domains = adds_domains
        self.tally: Counter[tuple[str, str]] = Counter()
        self.on_named: Callable[[Stored], None] | None = None
        self.knows_groups = False
        self.circles: list[str] = []

    def apply(self, row: Row | References, *, is_last: bool) -> References | None:
        """Apply *row*; returns what has to wait until every other row is applied, and *is_last* is true.

        Raises NotYetError where another mailbox must first be there, or give an address up, and RefusedError where the
        row is wrong. Then nothing was written, but perhaps domains.
        """
        match row:
            case MailboxRow() | GroupRow() | DomainRow():
                if not is_last and _has_references(row):
                    return self._apply_without_references(row)
                self._apply_alone(row)
            case BlockRow():
                self._need_groups(row)
                self._apply_block(row)
            case AddressRow():
                self._apply_alias(row, is_last)
            case References():
                self._need_groups(row.row)
                self._apply_alone(row.row, row)
            case _:
                assert_never(row)
        return None

    def unknown_in(self, references: References) -> str:
        """What a group's row names and is not there; "" where all is."""
        row = references.row
        assert isinstance(row, GroupRow)
        try:
            for edit in (row.members, row.accepted):
                for party in () if isinstance(edit, Keep) else edit.add:
                    self._editor.member(party) if edit is row.members else self._editor.resolved([party])
        except NotYetError as error:
            return error.fact
        return ""

    def forget_group(self, references: References) -> bool:
        """Take a group away again that was made by a row that is wrong; whether it was."""
        if references.before is None:
            self._editor.remove_group(references.after.name)
        return references.before is None

    def remove(self, stored: Mailbox | Group | Address | BlockedSender) -> None:
        """Take away *stored*, and with a mailbox or a group all that refers to it."""
        match stored:
            case Mailbox() | Group():
                # Of the lists of others that it is taken from, the items are counted, not the lists.
                for operation, _, after in self._editor.what_goes_with(stored):
                    if after is not None:
                        kind = "exception" if operation == "sender.unexcept" else "accepted sender"
                        self.tally[kind, "removed"] += 1
                is_group = isinstance(stored, Group)
                name = stored.name
                for removed in self._editor.remove_group(name) if is_group else self._editor.remove_mailbox(name):
                    self.count(removed, None)
            case Address():
                mailbox = self._editor.mailbox(stored.mailbox)
                held = self._queries.addresses_of(mailbox.id)
                self._set_addresses(mailbox, held, [each.address for each in held if each != stored])
            case BlockedSender():
                self._editor.remove_entry(stored)
                self.count(stored, None)
            case _:
                assert_never(stored)

    def count(self, before: Stored | None, after: Stored | None) -> None:
        """Count what came of an object, which was *before* and is *after*; the file names it, unless it goes."""
        what = "unchanged" if before == after else "changed"
        if before is None:
            what = "added"
        elif after is None:
            what = "removed"
        self.tally[_KINDS[type(before or after)], what] += 1
        if self.on_named is not None and after is not None and not isinstance(after, Address):
            self.on_named(after)

    def _apply_alone(self, row: MailboxRow | GroupRow | DomainRow, waited: References | None = None) -> None:
        """Apply *row*, of which some was applied already where it *waited*."""
        match row:
            case MailboxRow():
                self._apply_mailbox(row, waited)
            case GroupRow():
                self._apply_group(row, waited)
            case DomainRow():
                self._apply_domain(row, waited)
            case _:
                assert_never(row)

    def _apply_without_references(self, row: MailboxRow | GroupRow | DomainRow) -> References:
        """Apply what *row* says of its object alone."""
        match row:
            case MailboxRow():
                before = self._named_mailbox(row)
                after = self._write_mailbox(replace(row, accepted=KEEP, rejected=KEEP), before)
                rest = MailboxRow(after.name, RowMode.MODIFY, accepted=row.accepted, rejected=row.rejected)
                return References(rest, before, after)
            case GroupRow():
                group = self._queries.group_named(fold(row.name))
                made = self._write_group(replace(row, members=KEEP, accepted=KEEP), group)
                members = GroupRow(made.name, RowMode.MODIFY, members=row.members, accepted=row.accepted)
                return References(members, group, made)
            case DomainRow():
                domain = self._queries.domain(row.name)
                managed = self._write_domain(replace(row, accepted=KEEP), domain)
                return References(DomainRow(row.name, RowMode.MODIFY, accepted=row.accepted), domain, managed)
            case _:
                assert_never(row)

    def _need_groups(self, row: MailboxRow | GroupRow | DomainRow | BlockRow) -> None:
        """Raises NotYetError where *row* names a group, and those of the file are not whole yet."""
        if not self.knows_groups and not isinstance(row, GroupRow) and _names_group(row):
            raise NotYetError("there may be groups further down")

    # --- Domains ---

    def _apply_domain(self, row: DomainRow, waited: References | None = None) -> None:
        before = self._queries.domain(row.name)
        if row.mode is RowMode.DELETE:
            _need_mode(row.mode, f"the domain {row.name}", before is not None)
            # A command would ask whether the addresses shall go too; of a file nobody can ask that.
            if self._editor.has_addresses(row.name):
                raise RefusedError(f"{row.name} has addresses; remove them first")
            self._editor.remove_domain(row.name)
            self.count(before, None)
            return
        after = self._write_domain(row, before)
        self.count(waited.before if waited else before, after)

    def _write_domain(self, row: DomainRow, before: Domain | None) -> Domain:
        _need_mode(row.mode, f"the domain {row.name}", before is not None)
        domain = before or Domain(row.name)
        unlisted = domain.unlisted if isinstance(row.unlisted, Keep) else row.unlisted
        alias_of = domain.alias_of if isinstance(row.alias_of, Keep) else row.alias_of
        changed = replace(domain, unlisted=unlisted, alias_of=alias_of)
        after = self._editor.after(changed, self._terms(row, before))
        if before is None:
            self._editor.add_domain(after)
        else:
            self._editor.put_domain(before, after)
        return after

    # --- Groups ---

    def _apply_group(self, row: GroupRow, waited: References | None = None) -> None:
        before = self._queries.group_named(fold(row.name))
        if row.mode is RowMode.DELETE:
            _need_mode(row.mode, f"the group {row.name}", before is not None)
            assert before is not None
            self.remove(before)
            return
        after = self._write_group(row, before)
        self.count(waited.before if waited else before, after)
        if not isinstance(row.members, Keep):
            self._edit_members(after, row.members)

    def _write_group(self, row: GroupRow, before: Group | None) -> Group:
        _need_mode(row.mode, f"the group {row.name}", before is not None)
        after = self._editor.after(before or Group(row.name), self._terms(row, before))
        return self._editor.put_group(before, replace(after, name=row.name))

    def _edit_members(self, group: Group, edit: ListEdit[Party]) -> None:
        """Make the members of *group* what the row says; one that would close a circle is left out."""
        held = {each.member for each in self._queries.members_of(group.id)}
        added = {self._editor.member(party) for party in edit.add}
        gone = (held if edit.clear else held & self._known(edit.remove)) - added
        for membership in self._editor.leave(group, sorted(gone)):
            self.count(membership, None)
        for membership in self._editor.join(group, edit.add, self.circles.append):
            self.count(None, membership)

    # --- Mailboxes ---

    def _apply_mailbox(self, row: MailboxRow, waited: References | None = None) -> None:
        before = self._named_mailbox(row)
        if row.mode is RowMode.DELETE:
            _need_mode(row.mode, f"the mailbox {row.name}", before is not None)
            assert before is not None
            self.remove(before)
            return
        after = self._write_mailbox(row, before)
        self.count(waited.before if waited else before, after)
        if not isinstance(row.rejected, Keep):
            self._reject_senders(after, row.rejected)

    def _write_mailbox(self, row: MailboxRow, before: Mailbox | None) -> Mailbox:
        """Make the mailbox what *row* says, but for whom it rejects, and return it."""
        name = before.name if before else self._free_name(row)
        _need_mode(row.mode, f"the mailbox {name}", before is not None)

        # Everything that may be refused comes before anything is written.
        terms = self._terms(row, before)
        new_name = row.name if before and not row.is_named_by_address else name
        after = replace(self._editor.after(before or Mailbox(name), terms), name=new_name)
        held = self._queries.addresses_of(before.id) if before else []
        wanted = None if isinstance(row.addresses, Keep) else self._wanted_addresses(held, row.addresses)

        after = self._editor.put_mailbox(before, after)
        if wanted is not None:
            self._set_addresses(after, [replace(each, mailbox=after.name) for each in held], wanted)
        if self.on_named is not None:
            self._name_addresses(row, after)
        return after

    def _named_mailbox(self, row: MailboxRow) -> Mailbox | None:
        """The mailbox that *row* is about, if it is there; one named by its address is the one that has it."""
        if row.is_named_by_address and isinstance(row.addresses, ListEdit):
            return self._queries.mailbox_with(row.addresses.add[0])
        return self._queries.mailbox_named(fold(row.name))

    def _free_name(self, row: MailboxRow) -> str:
        """The name for a new mailbox: where an address named it and the name is taken, with the domain behind."""
        if not row.is_named_by_address or self._queries.mailbox_named(fold(row.name)) is None:
            return row.name
        assert isinstance(row.addresses, ListEdit)
        address = row.addresses.add[0]
        name = name_after(address, has_domain=True)
        if self._queries.mailbox_named(fold(name)) is not None:
            raise RefusedError(f"there is a mailbox {name} already, and it does not have {address}; give a name")
        return name

    def _terms(
        self, row: DomainRow | GroupRow | MailboxRow, before: Domain | Group | Mailbox | None
    ) -> RestrictionTerms:
        """What *row* says of the restriction of what is *before*."""
        return RestrictionTerms(
            _given(row.receive),
            self._edited(before.accepted if before else frozenset(), row.accepted),
            _given(row.reason),
            _given_end(row.until),
            _given(row.comment),
        )

    def _edited(self, parties: frozenset[Party], edit: ListEdit[Party] | Keep) -> frozenset[Party] | None:
        """*parties* as *edit* makes them, None where it leaves them as they are."""
        if isinstance(edit, Keep):
            return None
        remaining = frozenset() if edit.clear else parties
        return (remaining - self._known(edit.remove)) | self._editor.resolved(edit.add)

    def _known(self, parties: Iterable[Party]) -> frozenset[Party]:
        """Those of *parties* that are there: to take others away does nothing."""
        known: set[Party] = set()
        for party in parties:
            with suppress(NotYetError):
                known |= self._editor.resolved([party])
        return frozenset(known)

    # --- Addresses ---

    def _wanted_addresses(self, held: Sequence[Address], edit: ListEdit[str]) -> list[str]:
        """The addresses that a mailbox, which has *held*, is to have, the primary one first."""
        had = [each.address for each in held]
        left = [] if edit.clear else [text for text in had if text not in edit.remove]
        wanted = list(dict.fromkeys([*left, *edit.add]))
        for text in wanted:
            if text not in had:
                domain = text.rpartition("@")[2]
                if self._adds_domains and not self._editor.is_managed(domain):
                    self._apply_domain(DomainRow(domain))
                self._editor.need_free_address(text)
        return wanted

    def _set_addresses(self, mailbox: Mailbox, held: Sequence[Address], wanted: Sequence[str]) -> None:
        for before, after in self._editor.set_addresses(mailbox, held, wanted):
            self.count(before, after)

    def _name_addresses(self, row: MailboxRow, mailbox: Mailbox) -> None:
        """Say which addresses *row* names: those that it adds, or all where it leaves them as they are."""
        assert self.on_named is not None
        for each in self._queries.addresses_of(mailbox.id):
            if isinstance(row.addresses, Keep) or each.address in row.addresses.add:
                self.on_named(each)

    def _apply_alias(self, row: AddressRow, is_last: bool) -> None:
        """Give the mailbox that the alias leads to the alias as an address; one that isn't there is made."""
        if "@" in row.target:
            mailbox = self._queries.mailbox_with(row.target)
        else:
            mailbox = self._queries.mailbox_named(fold(row.target))
        if mailbox is None and (not is_last or row.mode in (RowMode.MODIFY, RowMode.DELETE)):
            raise NotYetError(f"there is no mailbox {row.target}")
        if mailbox is not None:
            held = self._queries.address(row.address)
            is_there = held is not None and held.mailbox == mailbox.name
            _need_mode(row.mode, f"the address {row.address} of {mailbox.name}", is_there)
            is_gone = row.mode is RowMode.DELETE
            edit: ListEdit[str] = ListEdit(remove=(row.address,)) if is_gone else ListEdit(add=(row.address,))
            self._apply_mailbox(MailboxRow(mailbox.name, addresses=edit))
            return
        edit = ListEdit(add=(row.address,))
        _, at, domain = row.target.rpartition("@")
        if not at:
            self._apply_mailbox(MailboxRow(row.target, addresses=edit))
        elif self._editor.is_managed(domain):
            both = ListEdit(add=(row.target, row.address))
            self._apply_mailbox(MailboxRow(name_after(row.target), addresses=both, is_named_by_address=True))
        else:  # it is forwarded to somewhere else: the mailbox is the alias itself
            self._apply_mailbox(MailboxRow(name_after(row.address), addresses=edit, is_named_by_address=True))

    # --- Blocked senders ---

    def _apply_block(self, row: BlockRow) -> None:
        entry = self._editor.entry_for(row.sender, row.to)
        before = entry if entry.id else None
        _need_mode(row.mode, f"the blocked sender {row.sender} to {entry.to}", before is not None)
        if row.mode is RowMode.DELETE:
            self.remove(entry)
            return
        terms = EntryTerms(
            self._edited(entry.allowed, row.allowed),
            self._edited(entry.allowed_senders, row.allowed_senders),
            _given(row.reason),
            _given_end(row.until),
            _given(row.comment),
            _given(row.created_at),
            _given(row.created_by),
        )
        self.count(before, self._editor.set_entry(entry, terms))

    def _reject_senders(self, mailbox: Mailbox, edit: ListEdit[Party]) -> None:
        """Make the senders that may not send to *mailbox* what the row says."""
        entries = {each.who: each for each in self._queries.entries_to(mailbox.party)}
        added = self._editor.resolved(edit.add)
        gone = set(entries) if edit.clear else self._known(edit.remove)
        for who in sorted(gone.intersection(entries) - added):
            self.remove(entries[who])
        for sender in edit.add:
            self._apply_block(BlockRow(sender, mailbox.party))


def _need_mode(mode: RowMode, what: str, is_there: bool) -> None:
    """Raises RefusedError where *what* must be there, or must not, to be changed so."""
    match mode:
        case RowMode.CREATE:
            if is_there:
                raise RefusedError(f"{what} is there already; the mode Create wants it not to be")
        case RowMode.MODIFY | RowMode.DELETE:
            if not is_there:
                raise RefusedError(f"{what} is not there; the mode {mode.capitalize()} wants it to be")
        case RowMode.UPDATE:
            pass
        case _:
            assert_never(mode)


def _given(value: _Value | Keep) -> _Value | None:
    """What a row gives for a field, None where it leaves it as it is."""
    return None if isinstance(value, Keep) else value


def _given_end(until: int | Keep | None) -> int | None:
    """The same of an end, as the editor takes it."""
    return None if isinstance(until, Keep) else NO_END if until is None else until


def _has_references(row: MailboxRow | GroupRow | DomainRow) -> bool:
    """Whether *row* names mailboxes or groups, which may stand further down."""
    if row.mode is RowMode.DELETE:
        return False
    if isinstance(row, MailboxRow) and not isinstance(row.rejected, Keep):
        return True
    if isinstance(row, GroupRow) and not isinstance(row.members, Keep):
        return True
    return any(party.kind is not PartyKind.PATTERN for party in _listed(row.accepted))


def _names_group(row: MailboxRow | DomainRow | BlockRow) -> bool:
    """Whether *row* names a group."""
    match row:
        case MailboxRow():
            parties = [*_listed(row.accepted), *_listed(row.rejected)]
        case DomainRow():
            parties = [*_listed(row.accepted)]
        case BlockRow():
            parties = [row.sender, *([row.to] if row.to else []), *_listed(row.allowed), *_listed(row.allowed_senders)]
        case _:
            assert_never(row)
    return any(party.kind is PartyKind.GROUP for party in parties)


def _listed(edit: ListEdit[Party] | Keep) -> tuple[Party, ...]:
    """Every party that *edit* names."""
    return () if isinstance(edit, Keep) else (*edit.add, *edit.remove)
