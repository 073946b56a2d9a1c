"""Applies a row of a file with the editor, and counts what came of each object.

One file, as rows of every kind have their lists edited, their terms read and their outcomes counted in the same way.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from shlex import quote
from typing import TypeVar, assert_never

from policyd.address import fold, name_after, pattern_domain, patterns_overlap
from policyd.errors import NotManagedError, NotYetError, RefusedError
from policyd.model import (
    Address,
    BlockedSender,
    Domain,
    Group,
    Mailbox,
    Membership,
    Party,
    PartyKind,
    Receive,
    Unlisted,
)
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
    groups_of,
)
from policyd.rules import is_past
from policyd.store.edit import NO_END, NOTHING_SAID, Editor, EntryTerms, RestrictionTerms
from policyd.store.journal import Stored
from policyd.store.listed import ListedOnce

_Value = TypeVar("_Value")

_KINDS: Mapping[type, str] = {
    Domain: "domain",
    Mailbox: "mailbox",
    Group: "group",
    Membership: "member",
    Address: "address",
    BlockedSender: "blocked sender",
}


@dataclass(frozen=True, slots=True)
class References:
    """What a row says of whom its object accepts and rejects, to be applied last.

    And the object before and after the rest of the row, of a mailbox with the addresses that it had and has.
    """

    row: MailboxRow | DomainRow
    before: Mailbox | Domain | None
    after: Mailbox | Domain
    had: tuple[str, ...] = ()
    has: tuple[str, ...] = ()


_NUMBERED_LENGTH = 240  # characters of a name that gets a number; a name has 256
Left = References | GroupRow | BlockRow  # what waits until every mailbox of the file is there


class RowApplier:
    """Applies rows by *editor*. Domains of new addresses are managed too, if it *adds_domains*.

    `tally` counts what came of the objects, by pairs like ("mailbox", "added"): added, changed, removed, unchanged; and
    addresses that were left out.
    `on_named`, if set, gets each object that the file names, as it stands then. `leaves_blocks` says that a blocked
    sender had to wait: so do all below it, to come in the order of the file. `new_domains` are those that were not
    managed before. `listed` is to be told when a record is applied, or is not. `idle` is in words what was taken as it
    stood, though it does nothing.
    """

    def __init__(self, editor: Editor, *, adds_domains: bool = False) -> None:
        self._editor = editor
        self._queries = editor.queries
        self._adds_domains = adds_domains
        self.tally: Counter[tuple[str, str]] = Counter()
        self.on_named: Callable[[Stored], None] | None = None
        self.leaves_blocks = False
        self.new_domains: set[str] = set()
        self.listed = ListedOnce()
        self.idle: dict[str, None] = {}
        self._begun: set[str | int] = set()  # by name or id, what rows have changed of which something is left
        self._named_again: set[str | int] = set()  # those of them that are in a later row, too

    def begin(self, row: Row, *, is_last: bool) -> Left | None:
        """Apply *row*, but for what names groups, or other mailboxes: returns that, for `end` or `GroupRows`.

        Raises NotYetError where another mailbox or domain must first be there, or give an address up, and RefusedError
        where the row is wrong. Then nothing was written, but perhaps domains. With *is_last* no other row will help.
        """
        match row:
            case MailboxRow():
                row = self._without_strangers(row) if row.optional else row
                if row.optional or _has_references(row):
                    return self._declare_mailbox(row)
                self._apply_mailbox(row)
            case DomainRow():
                row = self._as_catch_all(row, is_last) if row.is_catch_all else row
                if _has_references(row):
                    return self._declare_domain(row)
                self._apply_domain(row)
            case GroupRow():
                return row
            case BlockRow():
                return self._begin_block(row)
            case AddressRow():
                self._apply_alias(row, is_last)
            case _:
                assert_never(row)
        return None

    def end(self, left: References | BlockRow) -> None:
        """Apply what was left of a row. Raises RefusedError, perhaps with some of it written."""
        match left:
            case References(row=MailboxRow() as row):
                self._apply_mailbox(row, left)
            case References(row=DomainRow() as row):
                self._apply_domain(row, left)
            case BlockRow():
                self._apply_block(left)
            case _:
                raise TypeError(f"{left} is no row")

    def withdraw(self, left: References) -> bool:
        """Take back what `begin` has made of a row of which *left* is wrong; False where others may build on it."""
        before, after = left.before, left.after
        if (before, left.had) == (after, left.has):
            return True
        with suppress(RefusedError):
            match after:
                case Domain():
                    is_alone = after.name not in self._named_again
                    return is_alone and self._withdraw_domain(before if isinstance(before, Domain) else None, after)
                case Mailbox():
                    is_alone = after.id not in self._named_again
                    return is_alone and isinstance(before, Mailbox) and self._withdraw_mailbox(left, before, after)
                case _:
                    assert_never(after)
        return False

    def remove(self, stored: Mailbox | Group | Address | BlockedSender) -> None:
        """Take away *stored*, and with a mailbox or a group all that refers to it."""
        match stored:
            case Mailbox() | Group():
                # Of the lists of others that it is taken from, the items are counted, not the lists.
                for before, after in [step[1:] for step in self._editor.what_goes_with(stored)]:
                    if isinstance(before, BlockedSender) and isinstance(after, BlockedSender):
                        self.tally["exception", "removed"] += _exceptions(before) - _exceptions(after)
                    elif after is not None:
                        self.tally["accepted sender", "removed"] += 1
                is_group = isinstance(stored, Group)
                remove = self._editor.remove_group if is_group else self._editor.remove_mailbox
                for removed in remove(stored.name):
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
        self.tally[_came_of(before, after)] += 1
        if self.on_named is not None and after is not None and not isinstance(after, Address):
            self.on_named(after)

    # --- Domains ---

    def _declare_domain(self, row: DomainRow) -> References:
        """Apply what others need of the domain: that it is managed, and for whom it stands."""
        before = self._queries.domain(row.name)
        self._need_good_terms(row, before or Domain(row.name))
        alone = DomainRow(row.name, row.mode, row.unlisted if before is None else KEEP, row.alias_of)
        after = self._write_domain(alone, before)
        self._note_named(row.name, is_begun=before != after)
        return References(replace(row, mode=RowMode.MODIFY, alias_of=KEEP), before, after)

    def _withdraw_domain(self, before: Domain | None, after: Domain) -> bool:
        if self._queries.domain(after.name) != after:
            return False
        if before is not None:
            self._editor.put_domain(after, before)
            return True
        if self._editor.has_addresses(after.name):
            return False
        self._editor.remove_domain(after.name)
        self.new_domains.discard(after.name)
        return True

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
        if waited is None:
            self._note_named(row.name)
        self.count(waited.before if waited else before, after)

    def _as_catch_all(self, row: DomainRow, is_last: bool) -> DomainRow:
        """What *row* says of its domain, in which every address is taken."""
        # The domain itself is managed, or comes in.
        before = self._queries.domain(row.name)
        if before is None and not self._adds_domains:
            raise NotYetError(NotManagedError(f"@{row.name}", row.name).fact)

        # It stands for another one, if that is managed. What was let through there so far, nobody shall lose.
        if isinstance(row.alias_of, str):
            if self._editor.is_managed(row.alias_of):
                self._need_nothing_lost(row, before)
                return replace(row, is_catch_all=False)
            if not is_last:
                raise NotYetError(f"the domain {row.alias_of} is not managed")

        # Else whatever is unlisted there must be let through, as nobody has said that it be rejected.
        taken = DomainRow(row.name, unlisted=Unlisted.ACCEPT)
        if before is None or row.name in self.new_domains or before.unlisted is Unlisted.ACCEPT:
            return taken
        raise RefusedError(
            f"@{row.name} takes mail to every address there, and policyd rejects unlisted recipients in {row.name};"
            f" to accept them: policyd domain set {row.name} --unlisted accept"
        )

    def _need_nothing_lost(self, row: DomainRow, before: Domain | None) -> None:
        """Raises RefusedError where a domain that lets unlisted recipients through would be an alias by *row*."""
        is_old = before is not None and row.name not in self.new_domains
        if is_old and before and not before.alias_of and before.unlisted is Unlisted.ACCEPT:
            raise RefusedError(
                f"{row.name} lets unlisted recipients through; if it has none but those of {row.alias_of}, type:"
                f" policyd domain set {row.name} --alias-of {row.alias_of}"
            )

    def _write_domain(self, row: DomainRow, before: Domain | None) -> Domain:
        """Make the domain what *row* says, and return it."""
        _need_mode(row.mode, f"the domain {row.name}", before is not None)
        current = before or Domain(row.name)
        changed = replace(
            current,
            unlisted=current.unlisted if isinstance(row.unlisted, Keep) else row.unlisted,
            alias_of=current.alias_of if isinstance(row.alias_of, Keep) else row.alias_of,
        )
        after = self._editor.after(changed, self._terms(row, before))
        if before is not None:
            return self._editor.put_domain(before, after)
        added = self._editor.add_domain(after)
        self.new_domains.add(row.name)
        return added

    # --- Groups ---

    def declare_group(self, row: GroupRow) -> Group | None:
        """Make the group what *row* says, but for its members, and for whom it accepts if they aren't all there yet.

        Returns it as it was, None where it is new.
        """
        before = self._queries.group_named(fold(row.name))
        _need_mode(row.mode, f"the group {row.name}", before is not None)
        if row.mode is RowMode.DELETE:
            assert before is not None
            self.remove(before)
            return before
        try:
            terms = self._terms(row, before)
        except NotYetError:
            terms = self._terms(replace(row, accepted=KEEP), before)
        after = self._editor.after(before or Group(row.name), terms)
        self._editor.put_group(before, replace(after, name=row.name))
        return before

    def fill_group(self, row: GroupRow, before: Group | None, listed: ListedOnce, *, takes_circles: bool) -> None:
        """Make members and accepted senders of a declared group, which was *before*, what *row* says.

        What other rows have said of members is in *listed*.
        """
        group = self._editor.group(row.name)
        accepted = self._edited(group.accepted, row.accepted)
        if accepted is not None:
            after = self._editor.after(group, RestrictionTerms(accepted=accepted))
            group = self._editor.put_group(group, after)
        self.count(before, group)
        if isinstance(row.members, Keep):
            return

        # Those who leave go first; who isn't a mailbox or a group any more has left already.
        held = {each.member for each in self._queries.members_of(group.id)}
        joining = set(map(self._editor.member, row.members.add))
        leaving = held if row.members.clear else self._known(row.members.remove, are_members=True)
        gone = (held & leaving) - joining
        if _is_whole(row.members):
            listed.say(str(group.party), str(group.party), map(str, gone))
        for membership in self._editor.leave(group, sorted(gone)):
            self.count(membership, None)
        for membership in self._editor.join(group, row.members.add, takes_circles=takes_circles):
            self.count(None, membership)
        if stayed := held & joining:
            self.tally[_KINDS[Membership], "unchanged"] += len(stayed)

    # --- Mailboxes ---

    def _without_strangers(self, row: MailboxRow) -> MailboxRow:
        """*row* without the optional addresses whose domain is not managed yet: those alone are optional in it."""
        assert isinstance(row.addresses, ListEdit)
        added = row.addresses.add
        strange = tuple(
            each for each in row.optional if each in added and not self._editor.is_managed(each.rpartition("@")[2])
        )
        left = tuple(each for each in added if each not in strange)
        return replace(row, addresses=replace(row.addresses, add=left), optional=strange)

    def _declare_mailbox(self, row: MailboxRow) -> References:
        """Apply what *row* says of the mailbox itself; who may send to it comes as a whole, or not at all."""
        before = self._named_mailbox(row)
        had = self._addresses_of(before) if before is not None else ()
        self._need_good_terms(row, before or Mailbox(row.name))
        alone = replace(row, receive=KEEP, reason=KEEP, until=KEEP, accepted=KEEP, rejected=KEEP)
        after = self._write_mailbox(alone, before)
        has = self._addresses_of(after)
        self._note_named(after.id, is_begun=before is not None and (before, had) != (after, has))
        self._name_addresses(row, after)
        rest = replace(row, name=after.name, mode=RowMode.MODIFY, addresses=KEEP, comment=KEEP)
        return References(replace(rest, is_named_by_address=False), before, after, had, has)

    def _withdraw_mailbox(self, left: References, before: Mailbox, after: Mailbox) -> bool:
        # Another row may have changed it since, or taken an address that it had.
        if self._queries.mailbox_numbered(after.id) != after or self._addresses_of(after) != left.has:
            return False
        for address in left.had:
            if address not in left.has:
                self._editor.need_free_address(address)

        # The change back undoes what was counted, too.
        held = self._queries.addresses_of(after.id)
        for is_, was in self._editor.set_addresses(after, held, left.had):
            self.tally[_came_of(was, is_)] -= 1
        self._editor.put_mailbox(after, before)
        return True

    def _note_named(self, key: str | int, *, is_begun: bool = False) -> None:
        """Note that a row names the domain or the mailbox with *key*, and whether something may be left of it."""
        if key in self._begun:
            self._named_again.add(key)
        elif is_begun:
            self._begun.add(key)

    def _addresses_of(self, mailbox: Mailbox) -> tuple[str, ...]:
        return tuple([each.address for each in self._queries.addresses_of(mailbox.id)])

    def _add_optional(self, mailbox: Mailbox, addresses: Sequence[str]) -> None:
        """Give *mailbox* those of its optional *addresses* whose domain another row has brought in."""
        for address in addresses:
            if self._editor.is_managed(address.rpartition("@")[2]):
                self._editor.add_address(mailbox.name, address)
                self.count(None, Address(address, mailbox.name))
            else:
                self.tally["address", "left out"] += 1
        self._name_addresses(MailboxRow(mailbox.name, addresses=ListEdit(add=tuple(addresses))), mailbox)

    def _apply_mailbox(self, row: MailboxRow, waited: References | None = None) -> None:
        before = self._named_mailbox(row)
        if row.mode is RowMode.DELETE:
            _need_mode(row.mode, f"the mailbox {row.name}", before is not None)
            assert before is not None
            self.remove(before)
            return
        after = self._write_mailbox(row, before)
        if waited is None:
            self._note_named(after.id)
            self._name_addresses(row, after)
        else:
            self._add_optional(after, row.optional)
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
        after = self._editor.after(before or Mailbox(name), terms)
        if new_name != after.name:
            after = replace(after, name=new_name)
        held = self._editor.addresses_of(before) if before else []
        wanted = None if isinstance(row.addresses, Keep) else self._wanted_addresses(held, row.addresses)
        left_out = [each.address for each in held if each.address not in wanted] if held and wanted is not None else []
        if row.is_entry and left_out and before is not None and self.listed.is_said(before.id):
            raise RefusedError(f"another entry, which has {left_out[0]}, is called {name}, too; give one another name")

        after = self._editor.put_mailbox(before, after)
        if row.as_it_stood and after.receive is Receive.ANYONE and after.accepted:
            self.idle[f"{after.name} is open, and accepts senders for when it is restricted again"] = None
        if _is_whole(row.addresses):
            self.listed.say(after.id, after.name, left_out)
        if wanted is not None:
            if before is not None and before.name != after.name:
                held = [replace(each, mailbox=after.name) for each in held]
            self._set_addresses(after, held, wanted)
        return after

    def _named_mailbox(self, row: MailboxRow) -> Mailbox | None:
        """The mailbox that *row* is about, if it is there; one named by its address is the one that has it."""
        if row.is_named_by_address and isinstance(row.addresses, ListEdit):
            return self._queries.mailbox_with(row.addresses.add[0])
        return self._editor.find_mailbox(fold(row.name))

    def _free_name(self, row: MailboxRow) -> str:
        """The name for a new mailbox: where an address named it and the name is taken, with the domain behind.

        And with a number, where that is taken, too: `"0@"@example.com` and `"@0"@example.com` are two mailboxes.
        """
        if not row.is_named_by_address or self._queries.mailbox_named(fold(row.name)) is None:
            return row.name
        assert isinstance(row.addresses, ListEdit)
        address = row.addresses.add[0]
        name = name_after(address, has_domain=True)
        numbered = (f"{name[:_NUMBERED_LENGTH].strip()} {number}" for number in count(2))
        return next(each for each in chain((name,), numbered) if self._queries.mailbox_named(fold(each)) is None)

    def _need_good_terms(self, row: DomainRow | MailboxRow, before: Domain | Mailbox) -> None:
        """Raises RefusedError where the restriction in *row* is wrong, whomever it accepts."""
        self._editor.after(before, self._terms(replace(row, accepted=KEEP), before))

    def _terms(
        self, row: DomainRow | GroupRow | MailboxRow, before: Domain | Group | Mailbox | None
    ) -> RestrictionTerms:
        """What *row* says of the restriction of what is *before*."""
        if row.receive is row.accepted is row.reason is row.until is row.comment is KEEP:
            return NOTHING_SAID
        receive = _given(row.receive)
        if isinstance(row, MailboxRow) and row.is_flag and not self._obeys_flag(receive, before):
            receive = None
        return RestrictionTerms(
            receive,
            self._edited(before.accepted if before else frozenset(), row.accepted),
            _given(row.reason),
            _given_end(row.until),
            _given(row.comment),
            as_it_stood=isinstance(row, MailboxRow) and row.as_it_stood,
        )

    def _obeys_flag(self, receive: Receive | None, before: Domain | Group | Mailbox | None) -> bool:
        """Whether *receive*, as a directory's flag says it, comes in place of what is in force *before*."""
        in_force = Receive.INHERIT
        if before is not None and not is_past(before.until, self._editor.journal.now):
            in_force = before.receive
        if receive is Receive.INSIDERS:
            return in_force.strictness <= receive.strictness
        return in_force is Receive.INSIDERS

    def _edited(self, parties: frozenset[Party], edit: ListEdit[Party] | Keep) -> frozenset[Party] | None:
        """*parties* as *edit* makes them, None where it leaves them as they are."""
        if isinstance(edit, Keep):
            return None
        remaining = frozenset() if edit.clear else parties
        return (remaining - self._known(edit.remove)) | self._editor.resolved(edit.add)

    def _known(self, parties: Iterable[Party], *, are_members: bool = False) -> frozenset[Party]:
        """Those of *parties* that are there: to take others away does nothing. Of members, an address is a mailbox."""
        known: set[Party] = set()
        for party in parties:
            with suppress(NotYetError):
                known |= {self._editor.member(party)} if are_members else self._editor.resolved([party])
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
        if self.on_named is None:
            return
        for each in self._queries.addresses_of(mailbox.id):
            if isinstance(row.addresses, Keep) or each.address in row.addresses.add:
                self.on_named(each)

    def _apply_alias(self, row: AddressRow, is_last: bool) -> None:
        """Give the mailbox that the alias leads to the alias as an address; one that isn't there is made."""
        if "@" in row.target:
            mailbox = self._queries.mailbox_with(row.target) or self._mailbox_in_target(row.target)
        else:
            mailbox = self._queries.mailbox_named(fold(row.target))
        if mailbox is None and (not is_last or row.doubt or row.mode in (RowMode.MODIFY, RowMode.DELETE)):
            raise NotYetError(row.doubt or f"there is no mailbox {row.target}")
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

    def _mailbox_in_target(self, address: str) -> Mailbox | None:
        """The mailbox that has *address*, which is in an alias domain, in the domain that that stands for."""
        local, _, name = address.rpartition("@")
        domain = self._queries.domain(name)
        return self._queries.mailbox_with(f"{local}@{domain.alias_of}") if domain and domain.alias_of else None

    # --- Blocked senders ---

    def _begin_block(self, row: BlockRow) -> BlockRow | None:
        """Apply *row*, or return it where it has to wait."""
        self.leaves_blocks |= bool(groups_of(row))
        if not self.leaves_blocks:
            try:
                self._apply_block(row)
            except NotYetError:
                self.leaves_blocks = True
        return row if self.leaves_blocks else None

    def _apply_block(self, row: BlockRow) -> None:
        entry = self._editor.entry_for(row.sender, row.to)
        before = entry if entry.id else None
        _need_mode(row.mode, f"the blocked sender {row.sender} to {entry.to}", before is not None)
        if row.mode is RowMode.DELETE:
            self.remove(entry)
            return
        if row.needs_no_proof and isinstance(row.allowed_senders, ListEdit):
            self._need_no_proof(row.sender, row.allowed_senders.add)
        terms = EntryTerms(
            self._edited(entry.allowed, row.allowed),
            self._edited(entry.allowed_senders, row.allowed_senders),
            _given(row.reason),
            _given_end(row.until),
            _given(row.comment),
            _given(row.created_at),
            _given(row.created_by),
            as_it_stood=row.as_it_stood,
        )
        self._say_exceptions(entry, row.allowed, terms.allowed, entry.allowed)
        self._say_exceptions(entry, row.allowed_senders, terms.allowed_senders, entry.allowed_senders)
        after = self._editor.set_entry(entry, terms)
        self.count(before, after)
        if row.as_it_stood:
            self._note_idle(after)

    def _note_idle(self, entry: BlockedSender) -> None:
        """Note what of *entry*, which is taken as it stood, no command would take."""
        try:
            self._editor.need_useful(entry, entry.allowed, entry.allowed_senders)
        except RefusedError as error:
            self.idle[f"{entry.who} to {entry.to}: {error.fact}"] = None

    def _say_exceptions(
        self,
        entry: BlockedSender,
        edit: ListEdit[Party] | Keep,
        edited: frozenset[Party] | None,
        current: frozenset[Party],
    ) -> None:
        """Note that a row makes the *current* exceptions of *entry* those that are *edited*, if it says all of them."""
        if _is_whole(edit) and edited is not None:
            kind = "except" if current is entry.allowed else "except_sender"
            key = f"{kind} {entry.who} {entry.to}"
            self.listed.say(key, f"the exceptions of {entry.who} to {entry.to}", map(str, current - edited))

    def _need_no_proof(self, who: Party, senders: Iterable[Party]) -> None:
        """Raises RefusedError where one of *senders*, exceptions from *who*, is let through only if it is proven."""
        for sender in senders:
            domain = pattern_domain(sender.text)
            names = [domain] if domain else [each.name for each in self._queries.domains()]
            for name in names:
                own = f"{who.text.rpartition('@')[0]}@{name}"
                is_matched = patterns_overlap(own, sender.text) and patterns_overlap(own, who.text)
                if self._editor.is_managed(name) and (domain or is_matched):
                    command = f"policyd sender block {quote(str(who))} --to anyone --except-sender {quote(str(sender))}"
                    raise RefusedError(
                        f"this blocks {who} but for {sender}, and policyd manages {name}: there who sends must log in,"
                        f" or be an insider, to be let through. If that will do, type: {command}"
                    )

    def _reject_senders(self, mailbox: Mailbox, edit: ListEdit[Party]) -> None:
        """Make the senders that may not send to *mailbox* what the row says."""
        entries = {each.who: each for each in self._queries.entries_to(mailbox.party)}
        added = self._editor.resolved(edit.add)
        gone = set(entries) if edit.clear else self._known(edit.remove)
        for who in sorted(gone.intersection(entries) - added):
            self.remove(entries[who])
        for sender in edit.add:
            self._apply_block(BlockRow(sender, mailbox.party))


def _came_of(before: Stored | None, after: Stored | None) -> tuple[str, str]:
    """Where an object that was *before* and is *after* counts."""
    if before is None:
        return _KINDS[type(after)], "added"
    return _KINDS[type(before)], "removed" if after is None else "unchanged" if before == after else "changed"


def _exceptions(entry: BlockedSender) -> int:
    """How many exceptions *entry* has."""
    return len(entry.allowed) + len(entry.allowed_senders)


def _need_mode(mode: RowMode, what: str, is_there: bool) -> None:
    """Raises RefusedError where *what* must be there, or must not, to be changed so."""
    match mode:
        case RowMode.UPDATE:
            pass
        case RowMode.CREATE:
            if is_there:
                raise RefusedError(f"{what} is there already; the mode Create wants it not to be")
        case RowMode.MODIFY | RowMode.DELETE:
            if not is_there:
                raise RefusedError(f"{what} is not there; the mode {mode.capitalize()} wants it to be")
        case _:
            assert_never(mode)


def _is_whole(edit: ListEdit[_Value] | Keep) -> bool:
    """Whether a row says a whole list, and does not just empty it."""
    return isinstance(edit, ListEdit) and edit.clear and bool(edit.add)


def _given(value: _Value | Keep) -> _Value | None:
    """What a row gives for a field, None where it leaves it as it is."""
    return None if isinstance(value, Keep) else value


def _given_end(until: int | Keep | None) -> int | None:
    """The same of an end, as the editor takes it."""
    return None if isinstance(until, Keep) else NO_END if until is None else until


def _has_references(row: MailboxRow | DomainRow) -> bool:
    """Whether *row* names mailboxes or groups, which may stand further down."""
    rejected = row.rejected if isinstance(row, MailboxRow) else KEEP
    accepted = row.accepted
    if rejected is accepted is KEEP or row.mode is RowMode.DELETE:
        return False
    if rejected is not KEEP:
        return True
    if isinstance(accepted, Keep):
        return False
    return any(party.kind is not PartyKind.PATTERN for party in (*accepted.add, *accepted.remove))
