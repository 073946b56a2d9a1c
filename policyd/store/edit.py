"""Changes to domains, mailboxes and addresses, each with its journal row; the transaction is the caller's."""

from collections.abc import Iterable
from dataclasses import replace
from shlex import quote

from sqlalchemy import Connection, Table, delete, insert, update

from policyd.address import fold, parse_address
from policyd.errors import NotManagedError, RefusedError
from policyd.model import Address, Domain, Mailbox, Receive, Unlisted
from policyd.rules import is_past
from policyd.store import read, schema
from policyd.store.journal import Journal

NO_END = 0  # as an `until`: takes an end away


def need_mailbox(connection: Connection, name: str) -> Mailbox:
    """The mailbox *name*. Raises RefusedError, with what to do, where there is none."""
    mailbox = read.find_mailbox(connection, name)
    if mailbox is None:
        raise RefusedError(f"there is no mailbox {name}; see: policyd mailbox list, or: policyd mailbox add")
    return mailbox


def need_managed(connection: Connection, what: str, domain: str) -> None:
    """Raises NotManagedError, about *what*, where *domain* is not managed."""
    if read.find_domain(connection, domain) is None:
        raise NotManagedError(what, domain)


def new_until(given: int | None, current: int | None, now: int) -> int | None:
    """When a restriction ends: as *given*, else as it is, else (if that is past) never."""
    if given is None:
        return None if is_past(current, now) else current
    return None if given == NO_END else given


def store_patterns(
    connection: Connection, table: Table, owner_id: int, before: frozenset[str], after: frozenset[str]
) -> None:
    """Make *after* of the patterns *before* that *table* holds for its owner."""
    owner, pattern = table.c
    for gone in sorted(before - after):
        connection.execute(delete(table).where(owner == owner_id, pattern == gone))
    for new in sorted(after - before):
        connection.execute(insert(table).values({owner.name: owner_id, pattern.name: new}))


class Editor:
    """Changes the tables over *connection* and writes each change to *journal*."""

    def __init__(self, connection: Connection, journal: Journal) -> None:
        self._connection = connection
        self._journal = journal

    def add_domain(self, domain: Domain) -> None:
        """Manage *domain*, which must not be managed yet."""
        if read.find_domain(self._connection, domain.name):
            raise RefusedError(f"{domain.name} is managed already; to change it: policyd domain set {domain.name}")
        self._connection.execute(insert(schema.domain).values(name=domain.name, unlisted=domain.unlisted))
        self._journal.record("domain.add", None, domain)

    def set_domain(self, name: str, unlisted: Unlisted) -> None:
        """Make the managed domain *name* treat unlisted recipients so."""
        before = self._need_domain(name)
        self._connection.execute(update(schema.domain).where(schema.domain.c.name == name).values(unlisted=unlisted))
        self._journal.record("domain.set", before, Domain(name, unlisted))

    def remove_domain(self, name: str) -> None:
        """Manage *name* no more, and take the addresses in it away."""
        before = self._need_domain(name)
        for address in list(read.addresses(self._connection, domain=name)):
            self.remove_address(address.address)
        self._connection.execute(delete(schema.domain).where(schema.domain.c.name == name))
        self._journal.record("domain.remove", before, None)

    def add_mailbox(self, name: str, addresses: Iterable[str], comment: str) -> None:
        """Make a mailbox that receives from anyone, with *addresses*, of which the first is the primary one."""
        if read.find_mailbox(self._connection, name):
            raise RefusedError(
                f"there is a mailbox {name} already; to give it an address: policyd address add {quote(name)} ADDRESS"
            )
        values = {
            "name": name,
            "folded_name": fold(name),
            "receive": Receive.ANYONE,
            "reason": "",
            "comment": comment,
        }
        self._connection.execute(insert(schema.mailbox).values(values))
        mailbox = need_mailbox(self._connection, name)
        self._journal.record("mailbox.add", None, mailbox)
        for address in addresses:
            self.add_address(name, address)

    def remove_mailbox(self, name: str) -> None:
        """Take the mailbox away, with its addresses and every blocked sender that is it or that it is kept from."""
        before = need_mailbox(self._connection, name)
        for address in read.addresses(self._connection, mailbox_id=before.id):
            self._journal.record("address.remove", address, None)
        entries = read.entries_of(self._connection, before.name) + read.entries_to(self._connection, before.id)
        for entry in {entry.id: entry for entry in entries}.values():
            self._journal.record("sender.unblock", entry, None)
        self._connection.execute(delete(schema.mailbox).where(schema.mailbox.c.id == before.id))
        self._journal.record("mailbox.remove", before, None)

    def rename_mailbox(self, name: str, new_name: str) -> None:
        """Call the mailbox *new_name*; its addresses and blocks stay its own."""
        before = need_mailbox(self._connection, name)
        other = read.find_mailbox(self._connection, new_name)
        if other is not None and other.id != before.id:
            raise RefusedError(f"there is a mailbox {other.name} already; choose another name")
        self._connection.execute(
            update(schema.mailbox)
            .where(schema.mailbox.c.id == before.id)
            .values(name=new_name, folded_name=fold(new_name))
        )
        self._journal.record("mailbox.rename", before, replace(before, name=new_name))

    def restrict_mailbox(
        self,
        name: str,
        *,
        receive: Receive | None,
        accepted: Iterable[str] | None,
        reason: str | None,
        until: int | None,
    ) -> None:
        """Make the mailbox receive from insiders (or nobody) only; what is None stays as it is.

        *until* is in Unix seconds, `NO_END` for none. A restriction that had expired is in force again.
        """
        before = need_mailbox(self._connection, name)
        current = Receive.INSIDERS if before.receive is Receive.ANYONE else before.receive
        after = replace(
            before,
            receive=receive or current,
            accepted=before.accepted if accepted is None else frozenset(accepted),
            reason=before.reason if reason is None else reason,
            until=new_until(until, before.until, self._journal.now),
        )
        self._store_mailbox("mailbox.restrict", before, after)

    def lift_mailbox(self, name: str) -> None:
        """Let the mailbox receive from anyone again; reason, end and accepted senders go with the restriction."""
        before = need_mailbox(self._connection, name)
        if before.receive is Receive.ANYONE:
            raise RefusedError(f"{before.name} is not restricted; nothing to lift")
        after = replace(before, receive=Receive.ANYONE, accepted=frozenset(), reason="", until=None)
        self._store_mailbox("mailbox.lift", before, after)

    def accept_senders(self, name: str, patterns: Iterable[str]) -> None:
        """Let senders that match *patterns* send to the restricted mailbox all the same."""
        before = need_mailbox(self._connection, name)
        if before.receive is Receive.ANYONE:
            raise RefusedError(
                f"{before.name} receives from anyone, so this would do nothing; "
                f"to restrict it: policyd mailbox restrict {quote(before.name)} --accept PATTERN"
            )
        self._store_mailbox("mailbox.accept", before, replace(before, accepted=before.accepted | {*patterns}))

    def unaccept_senders(self, name: str, patterns: Iterable[str]) -> None:
        """Take *patterns*, each of which must be there, from the senders that the mailbox accepts."""
        before = need_mailbox(self._connection, name)
        gone = frozenset(patterns)
        if missing := sorted(gone - before.accepted):
            raise RefusedError(
                f"{before.name} does not accept {', '.join(missing)}; see: policyd mailbox show {quote(before.name)}"
            )
        self._store_mailbox("mailbox.unaccept", before, replace(before, accepted=before.accepted - gone))

    def add_address(self, name: str, address: str) -> None:
        """Give the mailbox an address, in normal form, that no mailbox has yet; its first is the primary one."""
        mailbox = need_mailbox(self._connection, name)
        need_managed(self._connection, address, parse_address(address).domain)
        owner = read.find_address(self._connection, address)
        if owner is not None:
            raise RefusedError(
                f"{address} is an address of {owner.mailbox} already; "
                f"to take it away: policyd address remove {quote(address)}"
            )
        is_primary = not any(read.addresses(self._connection, mailbox_id=mailbox.id))
        self._connection.execute(
            insert(schema.address).values(address=address, mailbox_id=mailbox.id, is_primary=int(is_primary))
        )
        self._journal.record("address.add", None, Address(address, mailbox.name, is_primary))

    def remove_address(self, address: str) -> None:
        """Take the address from its mailbox; of those left, the first becomes primary if this one was."""
        before = read.find_address(self._connection, address)
        if before is None:
            raise RefusedError(f"{address} is no mailbox's address; see: policyd address list")
        self._connection.execute(delete(schema.address).where(schema.address.c.address == address))
        self._journal.record("address.remove", before, None)
        if before.is_primary:
            mailbox = need_mailbox(self._connection, before.mailbox)
            for left in list(read.addresses(self._connection, mailbox_id=mailbox.id))[:1]:
                self._connection.execute(
                    update(schema.address).where(schema.address.c.address == left.address).values(is_primary=1)
                )
                self._journal.record("address.promote", left, replace(left, is_primary=True))

    def _need_domain(self, name: str) -> Domain:
        domain = read.find_domain(self._connection, name)
        if domain is None:
            raise RefusedError(f"the domain {name} is not managed; see: policyd domain list")
        return domain

    def _store_mailbox(self, operation: str, before: Mailbox, after: Mailbox) -> None:
        if before == after:
            return
        self._connection.execute(
            update(schema.mailbox)
            .where(schema.mailbox.c.id == before.id)
            .values(receive=after.receive, reason=after.reason, until=after.until)
        )
        store_patterns(self._connection, schema.accepted_sender, before.id, before.accepted, after.accepted)
        self._journal.record(operation, before, after)
