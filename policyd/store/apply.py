"""One row of a file -> the tables: what it says of its object, checked before anything of it is written."""

from dataclasses import dataclass, replace

from policyd.address import fold, is_pattern, name_after
from policyd.errors import NotManagedError, RefusedError
from policyd.model import Address, BlockedSender, Domain, Mailbox, Receive, Unlisted
from policyd.records import (
    KEEP,
    AddressRow,
    BlockRow,
    DomainRow,
    Keep,
    ListEdit,
    MailboxRow,
    Mode,
    Row,
)
from policyd.store import queries
from policyd.store.counted import CountedTables, WaitsError, check_mode, given
from policyd.store.row_block import BlockRowEditor


@dataclass(frozen=True, slots=True)
class References:
    """What a mailbox's row says of other mailboxes, which has to wait; what the mailbox was and is without that."""

    row: MailboxRow
    before: Mailbox | None
    after: Mailbox


class RowEditor:
    """Applies rows to *tables*."""

    def __init__(self, tables: CountedTables) -> None:
        self._tables = tables
        self._blocks = BlockRowEditor(tables)

    def apply(self, row: Row | References, *, is_last: bool) -> References | None:
        """Apply *row*; what is returned has to wait until every other row is applied, and *is_last* is true.

        Raises RefusedError, and WaitsError if another mailbox has to be there, or to give an address up, first. Then
        nothing was written, but perhaps domains.
        """
        if isinstance(row, MailboxRow):
            if not is_last and _has_references(row):
                return self._apply_first_part(row)
            self._apply_mailbox(row)
        elif isinstance(row, BlockRow):
            self._blocks.apply(row)
        elif isinstance(row, AddressRow):
            self._apply_alias(row, is_last)
        elif isinstance(row, References):
            self._apply_mailbox(row.row, row)
        else:
            self._apply_domain(row)
        return None

    def remove(self, kept: Mailbox | Address | BlockedSender) -> None:
        """Take away *kept*, and with a mailbox all that hangs on it."""
        if isinstance(kept, Mailbox):
            self._remove_mailbox(kept)
        elif isinstance(kept, Address):
            held = queries.addresses_of(self._tables.rows, self._tables.need_mailbox(kept.mailbox).id)
            self._put_addresses(held, _in_order(kept.mailbox, [each.address for each in held if each != kept]))
        else:
            self._blocks.put(kept, None)

    def _apply_domain(self, row: DomainRow) -> None:
        before = queries.domain(self._tables.rows, row.name)
        check_mode(row.mode, f"the domain {row.name}", before is not None)
        after = None
        if row.mode is not Mode.DELETE:
            unlisted = before.unlisted if before else Unlisted.REJECT
            after = Domain(row.name, given(row.unlisted, unlisted))
        elif next(queries.addresses_in(self._tables.connection, row.name), None):
            raise RefusedError(f"{row.name} has addresses; remove them first")
        self._tables.writer.put_domain("domain.import", before, after)
        self._tables.is_managed.cache_clear()
        self._tables.count("domain", before, after)

    def _apply_first_part(self, row: MailboxRow) -> References:
        """Apply what *row* says of the mailbox alone."""
        alone = replace(row, accepted=KEEP, rejected=KEEP)
        before = self._named_mailbox(row)
        after = self._write_mailbox(alone, before)
        references = MailboxRow(after.name, Mode.MODIFY, accepted=row.accepted, rejected=row.rejected)
        return References(references, before, after)

    def _apply_mailbox(self, row: MailboxRow, waited: References | None = None) -> None:
        before = self._named_mailbox(row)
        if row.mode is Mode.DELETE:
            check_mode(row.mode, f"the mailbox {row.name}", before is not None)
            self._remove_mailbox(before)
            return
        after = self._write_mailbox(row, before)
        self._tables.count("mailbox", waited.before if waited else before, after)
        if not isinstance(row.rejected, Keep):
            self._blocks.put_rejected(after, row.rejected)

    def _write_mailbox(self, row: MailboxRow, before: Mailbox | None) -> Mailbox:
        """Make the mailbox what *row* says, but for whom it rejects, and return it."""
        name = before.name if before else self._free_name(row)
        check_mode(row.mode, f"the mailbox {name}", before is not None)
        held = queries.addresses_of(self._tables.rows, before.id) if before else []
        addresses = held if isinstance(row.addresses, Keep) else self._wanted_addresses(name, held, row.addresses)
        wanted = self._wanted_mailbox(name, before, row)
        after = self._tables.writer.put_mailbox("mailbox.import", before, wanted) or wanted
        if addresses != held:
            self._put_addresses(held, addresses)
        elif not isinstance(row.addresses, Keep):
            self._tables.tally["address", "unchanged"] += len(held)
        if self._tables.seen is not None:
            for each in addresses:
                if isinstance(row.addresses, Keep) or each.address in row.addresses.add:
                    self._tables.seen(each)
        return after

    def _named_mailbox(self, row: MailboxRow) -> Mailbox | None:
        """The mailbox that *row* is about, if it is there; one named by its address is the one that has it."""
        if row.is_named_by_address and isinstance(row.addresses, ListEdit):
            return queries.mailbox_with(self._tables.rows, row.addresses.add[0])
        return queries.mailbox_named(self._tables.rows, fold(row.name))

    def _free_name(self, row: MailboxRow) -> str:
        """The name for a new mailbox: where an address named it and the name is taken, with the domain behind."""
        if not row.is_named_by_address or queries.mailbox_named(self._tables.rows, fold(row.name)) is None:
            return row.name
        assert isinstance(row.addresses, ListEdit)
        address = row.addresses.add[0]
        name = name_after(address, has_domain=True)
        if queries.mailbox_named(self._tables.rows, fold(name)) is not None:
            raise RefusedError(f"there is a mailbox {name} already, and it does not have {address}; give a name")
        return name

    def _wanted_mailbox(self, name: str, before: Mailbox | None, row: MailboxRow) -> Mailbox:
        current = before or Mailbox(name)
        accepted = current.accepted
        if not isinstance(row.accepted, Keep):
            kept = frozenset() if row.accepted.clear else accepted
            accepted = (kept - self._patterns(row.accepted.remove)) | self._patterns(row.accepted.add)
        wanted = Mailbox(
            row.name if before and not row.is_named_by_address else name,
            given(row.receive, current.receive),
            given(row.reason, current.reason),
            given(row.until, current.until),
            given(row.comment, current.comment),
            accepted,
            current.id,
        )
        if wanted.receive is Receive.ANYONE:
            if not isinstance(row.accepted, Keep) and row.accepted.add:
                raise RefusedError(f"{name} receives from anyone, so accepted senders would do nothing")
            if wanted.reason or wanted.until or wanted.accepted:
                wanted = replace(wanted, reason="", until=None, accepted=frozenset())
        return wanted

    def _patterns(self, senders: tuple[str, ...]) -> frozenset[str]:
        """*senders* as patterns: a mailbox's name stands for its addresses."""
        patterns: set[str] = set()
        for sender in senders:
            if is_pattern(sender):
                patterns.add(sender)
                continue
            held = queries.addresses_of(self._tables.rows, self._tables.need_mailbox(sender).id)
            if not held:
                raise RefusedError(f"{sender} has no address, so accepting it would do nothing")
            patterns.update(each.address for each in held)
        return frozenset(patterns)

    def _wanted_addresses(self, mailbox: str, held: list[Address], edit: ListEdit) -> list[Address]:
        """The addresses that the mailbox is to have, the primary one first."""
        left = [] if edit.clear else [each.address for each in held if each.address not in edit.remove]
        texts = list(dict.fromkeys([*left, *edit.add]))
        had = {each.address for each in held}
        for text in texts:
            if text not in had:
                self._check_new_address(text)
        return _in_order(mailbox, texts)

    def _check_new_address(self, text: str) -> None:
        domain = text.rpartition("@")[2]
        if not self._tables.is_managed(domain):
            if not self._tables.options.add_domains:
                raise NotManagedError(text, domain)
            self._apply_domain(DomainRow(domain))
        owner = queries.address(self._tables.rows, text)
        if owner is not None:
            raise WaitsError(f"{text} is an address of {owner.mailbox} already")

    def _put_addresses(self, held: list[Address], wanted: list[Address]) -> None:
        old, new = ({each.address: each for each in addresses} for addresses in (held, wanted))
        for text, address in old.items():
            if text not in new:
                self._tables.writer.put_address("address.import", address, None)
                self._tables.count("address", address, None)
        for text, address in new.items():
            self._tables.writer.put_address("address.import", old.get(text), address)
            self._tables.count("address", old.get(text), address)

    def _remove_mailbox(self, mailbox: Mailbox | None) -> None:
        assert mailbox is not None
        self._put_addresses(queries.addresses_of(self._tables.rows, mailbox.id), [])
        self._blocks.remove_all(mailbox)
        self._tables.writer.put_mailbox("mailbox.import", mailbox, None)
        self._tables.count("mailbox", mailbox, None)

    def _apply_alias(self, row: AddressRow, is_last: bool) -> None:
        """Give the mailbox that the alias leads to the alias as an address; one that isn't there is made."""
        mailbox = self._target(row.target)
        if mailbox is None and (not is_last or row.mode in (Mode.MODIFY, Mode.DELETE)):
            raise WaitsError(f"there is no mailbox {row.target}")
        if mailbox is not None:
            held = queries.address(self._tables.rows, row.address)
            is_there = held is not None and held.mailbox == mailbox.name
            check_mode(row.mode, f"the address {row.address} of {mailbox.name}", is_there)
            edit = ListEdit(remove=(row.address,)) if row.mode is Mode.DELETE else ListEdit(add=(row.address,))
            self._apply_mailbox(MailboxRow(mailbox.name, addresses=edit))
            return
        edit = ListEdit(add=(row.address,))
        _, at, domain = row.target.rpartition("@")
        if not at:
            self._apply_mailbox(MailboxRow(row.target, addresses=edit))
        elif self._tables.is_managed(domain):
            both = ListEdit(add=(row.target, row.address))
            self._apply_mailbox(MailboxRow(name_after(row.target), addresses=both, is_named_by_address=True))
        else:  # it is forwarded to somewhere else: the mailbox is the alias itself
            self._apply_mailbox(MailboxRow(name_after(row.address), addresses=edit, is_named_by_address=True))

    def _target(self, target: str) -> Mailbox | None:
        if "@" in target:
            return queries.mailbox_with(self._tables.rows, target)
        return queries.mailbox_named(self._tables.rows, fold(target))


def _has_references(row: MailboxRow) -> bool:
    """Whether *row* names other mailboxes, which may stand further down."""
    if row.mode is Mode.DELETE:
        return False
    if row.rejected is not KEEP:
        return True
    accepted = row.accepted
    return not isinstance(accepted, Keep) and not all(map(is_pattern, (*accepted.add, *accepted.remove)))


def _in_order(mailbox: str, texts: list[str]) -> list[Address]:
    """The addresses of *mailbox*, of which the first is the primary one."""
    return [Address(text, mailbox, position == 0) for position, text in enumerate(texts)]
