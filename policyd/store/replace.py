"""Makes the tables equal to a file: removes what the file's domains hold and the file does not name."""

from collections.abc import Iterable, Iterator
from typing import assert_never

from sqlalchemy import Column, MetaData, Table, func, insert, literal_column, select
from sqlalchemy.schema import CreateTable

from policyd.address import pattern_domain
from policyd.errors import RefusedError
from policyd.model import Address, BlockedSender, Domain, Group, Mailbox, Membership, Party, PartyKind
from policyd.store import schema
from policyd.store.bulk import BulkEditor
from policyd.store.connection import Connection, Statement
from policyd.store.edit import Editor
from policyd.store.journal import Stored
from policyd.store.queries import SELECT_ADDRESS, to_address

_named = MetaData()  # what the file names; some of it twice
_named_address = Table("named_address", _named, Column("address", schema.Key), prefixes=["TEMPORARY"])
_named_mailbox = Table("named_mailbox", _named, Column("id", schema.Number), prefixes=["TEMPORARY"])
_named_entry = Table("named_entry", _named, Column("id", schema.Number), prefixes=["TEMPORARY"])
_named_group = Table("named_group", _named, Column("id", schema.Number), prefixes=["TEMPORARY"])

_CREATE = [Statement(CreateTable(table)) for table in _named.sorted_tables]
_NAME_ADDRESS = Statement(insert(_named_address))
_NAME_MAILBOX = Statement(insert(_named_mailbox))
_NAME_ENTRY = Statement(insert(_named_entry))
_NAME_GROUP = Statement(insert(_named_group))
_UNNAMED_GROUPS = Statement(
    select(schema.mailbox_group.c.id).where(schema.mailbox_group.c.id.not_in(select(_named_group.c.id)))
)
_COUNT_GROUPS = Statement(select(func.count()).select_from(schema.mailbox_group))
_COUNT_RESTRICTED = Statement(
    select(
        sum(
            (
                select(func.count())
                .select_from(table)
                .where(table.c.receive.not_in([literal_column("'inherit'"), literal_column("'anyone'")]))
                .scalar_subquery()
                for table in (schema.mailbox, schema.mailbox_group, schema.domain)
            ),
            literal_column("0"),
        )
    )
)
_COUNT_LISTED = Statement(
    select(
        sum(
            (
                select(func.count()).select_from(table).scalar_subquery()
                for table in (schema.accepted_sender, schema.allowed_recipient, schema.allowed_sender)
            ),
            literal_column("0"),
        )
    )
)
_UNNAMED_ADDRESSES = Statement(
    SELECT_ADDRESS.where(schema.address.c.address.not_in(select(_named_address.c.address))).order_by(
        schema.address.c.address
    )
)
_UNNAMED_MAILBOXES = Statement(
    select(schema.mailbox.c.id).where(schema.mailbox.c.id.not_in(select(_named_mailbox.c.id)))
)
_COUNT_ENTRIES = Statement(select(func.count()).select_from(schema.blocked_sender))
_UNNAMED_ENTRIES = Statement(
    select(schema.blocked_sender.c.id).where(schema.blocked_sender.c.id.not_in(select(_named_entry.c.id)))
)


class Replacement:
    """Remembers what a file names, and removes what it does not name; over *connection*, by *bulk* and its *editor*.

    Groups go only where the file's format *carries_groups*, all there are, and the file has one: but none that
    something outside of the file's domains refers to.
    """

    def __init__(
        self,
        connection: Connection,
        editor: Editor,
        bulk: BulkEditor,
        domains: Iterable[str],
        *,
        carries_groups: bool = False,
    ) -> None:
        self._connection = connection
        self._editor = editor
        self._queries = editor.queries
        self._carries_groups = carries_groups
        self._has_groups = False
        self._bulk = bulk
        self._domains = set(domains)
        self._has_entries = False
        for statement in _CREATE:
            connection.run(statement)
        bulk.applier.on_named = self.add_named

    def add_named(self, stored: Stored) -> None:
        """Remember that the file names *stored*."""
        match stored:
            case Address():
                self._domains.add(stored.address.rpartition("@")[2])
                self._connection.run(_NAME_ADDRESS, stored.address)
            case Mailbox():
                self._connection.run(_NAME_MAILBOX, stored.id)
            case BlockedSender():
                self._has_entries = True
                self._connection.run(_NAME_ENTRY, stored.id)
            case Domain():
                self._domains.add(stored.name)
            case Group():
                self._has_groups = True
                self._connection.run(_NAME_GROUP, stored.id)
            case Membership():
                pass  # whom a group's row does not name has left it already
            case _:
                assert_never(stored)

    def remove_unnamed(self, max_percent: float) -> None:
        """Remove what is in the file's domains and not in the file.

        Raises RefusedError where that is more than *max_percent* of the addresses that those domains held before, of
        all blocked senders, restrictions, accepted senders and exceptions together, or groups.
        """
        # Before anything is removed, refuse a file that would take away more than was agreed to.
        held = sum(1 for each in self._queries.addresses() if self._is_ours(each.address))
        gone = sum(1 for _ in self._unnamed_addresses())
        self._need_few("address", "addresses", gone, held, max_percent)
        ((entries,),) = self._connection.fetch(_COUNT_ENTRIES)
        gone = sum(1 for _ in self._unnamed_entries())
        self._need_few("blocked sender", "blocked senders", gone, entries, max_percent)
        self._need_few_lists(max_percent)

        # What refers to a mailbox goes before it: an undo goes backwards, and must find the mailbox there.
        for entry in list(self._unnamed_entries()):
            self._bulk.applier.remove(entry)
        for mailbox in list(self._unnamed_mailboxes()):
            self._bulk.applier.remove(mailbox)
        for address in list(self._unnamed_addresses()):
            self._bulk.applier.remove(address)
        self._remove_groups()

    def _remove_groups(self) -> None:
        """Remove the groups that the file does not name, those that hold others first."""
        is_done = False
        while not is_done:
            going = [group for group in self._unnamed_groups() if self._is_ours_alone(group)]
            for group in going:
                self._bulk.applier.remove(group)
            is_done = not going

    def _need_few_lists(self, max_percent: float) -> None:
        """Raises RefusedError where too much that hangs on mailboxes, entries and groups would go with them."""
        restricted = listed = 0
        groups = [*self._unnamed_groups()]
        owners: list[Mailbox | Group] = [*self._unnamed_mailboxes(), *groups]
        for owner in owners:
            restricted += owner.receive.is_restriction
            listed += len(owner.accepted)
            listed += sum(after is not None for _, _, after in self._editor.what_goes_with(owner))
        for entry in self._unnamed_entries():
            listed += len(entry.allowed) + len(entry.allowed_senders)
        ((held,),) = self._connection.fetch(_COUNT_RESTRICTED)
        self._need_few("restriction", "restrictions", restricted, held, max_percent)
        ((held,),) = self._connection.fetch(_COUNT_LISTED)
        self._need_few("list item", "accepted senders and exceptions", listed, held, max_percent)
        ((held,),) = self._connection.fetch(_COUNT_GROUPS)
        self._need_few("group", "groups", len(groups), held, max_percent)

    def _need_few(self, kind: str, called: str, gone: int, held: int, max_percent: float) -> None:
        """Raises RefusedError if *gone* is too many of the *held* objects of a *kind* that are there now."""
        before = held - self._bulk.tally[kind, "added"] + self._bulk.tally[kind, "removed"]
        if gone * 100 > before * max_percent:
            raise RefusedError(
                f"--replace would remove {gone} of {before} {called}, and may remove {max_percent:g} %; nothing was "
                f"changed; if the file is right, add --max-remove {-(-gone * 100 // before)}"
            )

    def _is_ours(self, address: str) -> bool:
        return address.rpartition("@")[2] in self._domains

    def _unnamed_addresses(self) -> Iterator[Address]:
        addresses = map(to_address, self._connection.stream(_UNNAMED_ADDRESSES))
        return (each for each in addresses if self._is_ours(each.address))

    def _unnamed_mailboxes(self) -> Iterator[Mailbox]:
        """The mailboxes that the file does not name, and that have addresses in its domains only."""
        for (number,) in self._connection.fetch(_UNNAMED_MAILBOXES):
            mailbox, held = self._queries.mailbox_numbered(number), self._queries.addresses_of(number)
            if mailbox and held and all(self._is_ours(each.address) for each in held):
                yield mailbox

    def _unnamed_groups(self) -> Iterator[Group]:
        """The groups that the file does not name, where it could, and names some."""
        if self._carries_groups and self._has_groups:
            for (number,) in self._connection.fetch(_UNNAMED_GROUPS):
                group = self._queries.group_numbered(number)
                if group is not None:
                    yield group

    def _is_ours_alone(self, group: Group) -> bool:
        """Whether nothing refers to *group*, and all who are in it are mailboxes in the file's domains, or groups."""
        for _, before, _ in self._editor.what_goes_with(group):
            if not isinstance(before, Membership) or before.member == group.party:
                return False
        return all(self._has_ours(member) for member in self._mailboxes_in(group.party))

    def _mailboxes_in(self, group: Party) -> list[Party]:
        """The mailboxes in a group, directly or not."""
        found: list[Party] = []
        waiting, seen = [group], {group}
        while waiting:
            for membership in self._queries.members_of(waiting.pop().number):
                member = membership.member
                if member.kind is PartyKind.MAILBOX:
                    found.append(member)
                elif member not in seen:
                    seen.add(member)
                    waiting.append(member)
        return found

    def _has_ours(self, mailbox: Party) -> bool:
        """Whether the mailbox has addresses, and all of them in the file's domains."""
        held = self._queries.addresses_of(mailbox.number)
        return bool(held) and all(self._is_ours(each.address) for each in held)

    def _unnamed_entries(self) -> Iterator[BlockedSender]:
        """The blocked senders in the file's domains that it does not name; none where it names none at all."""
        for (number,) in self._connection.fetch(_UNNAMED_ENTRIES) if self._has_entries else ():
            entry = self._queries.entry(number)
            if entry is not None and self._is_inside(entry):
                yield entry

    def _is_inside(self, entry: BlockedSender) -> bool:
        """Whether *entry* is about somebody in the file's domains: who may not send, or, of anyone, to whom."""
        party = entry.to if entry.who.kind is PartyKind.ANYONE else entry.who
        match party.kind:
            case PartyKind.PATTERN:
                return pattern_domain(party.text) in self._domains
            case PartyKind.MAILBOX:
                return any(self._is_ours(each.address) for each in self._queries.addresses_of(party.number))
            case PartyKind.GROUP:
                mailboxes = self._mailboxes_in(party) if self._carries_groups else []
                return bool(mailboxes) and all(map(self._has_ours, mailboxes))
            case PartyKind.ANYONE | PartyKind.OUTSIDE:
                return False
            case _:
                assert_never(party.kind)
