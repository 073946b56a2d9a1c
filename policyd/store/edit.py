"""Changes to domains, mailboxes and addresses, each with its journal row; the transaction is the caller's."""

from collections.abc import Iterable
from dataclasses import replace
from shlex import quote

from sqlalchemy import Connection

from policyd.errors import NotManagedError, RefusedError
from policyd.model import Address, Domain, Mailbox, Receive, Unlisted
from policyd.rules import is_past
from policyd.store import read
from policyd.store.writer import Writer

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


class Editor:
    """Changes the tables, which it reads over *connection*, by *writer*; *now* is in Unix seconds."""

    def __init__(self, connection: Connection, writer: Writer, now: int) -> None:
        self._connection = connection
        self._writer = writer
        self._now = now

    def add_domain(self, domain: Domain) -> None:
        """Manage *domain*, which must not be managed yet."""
        if read.find_domain(self._connection, domain.name):
            raise RefusedError(f"{domain.name} is managed already; to change it: policyd domain set {domain.name}")
        self._writer.put_domain("domain.add", None, domain)

    def set_domain(self, name: str, unlisted: Unlisted) -> None:
        """Make the managed domain *name* treat unlisted recipients so."""
        self._writer.put_domain("domain.set", self._need_domain(name), Domain(name, unlisted))

    def remove_domain(self, name: str) -> None:
        """Manage *name* no more, and take the addresses in it away."""
        before = self._need_domain(name)
        gone = list(read.addresses(self._connection, domain=name))
        for address in gone:
            self._writer.put_address("address.remove", address, None)
        for mailbox in dict.fromkeys(address.mailbox for address in gone if address.is_primary):
            self._promote(mailbox)
        self._writer.put_domain("domain.remove", before, None)

    def add_mailbox(self, name: str, addresses: Iterable[str], comment: str) -> None:
        """Make a mailbox that receives from anyone, with *addresses*, of which the first is the primary one."""
        if read.find_mailbox(self._connection, name):
            raise RefusedError(
                f"there is a mailbox {name} already; to give it an address: policyd address add {quote(name)} ADDRESS"
            )
        self._writer.put_mailbox("mailbox.add", None, Mailbox(name, comment=comment))
        for address in addresses:
            self.add_address(name, address)

    def remove_mailbox(self, name: str) -> None:
        """Take the mailbox away, with its addresses and every blocked sender that is it or that it is kept from."""
        before = need_mailbox(self._connection, name)
        for address in list(read.addresses(self._connection, mailbox_id=before.id)):
            self._writer.put_address("address.remove", address, None)
        entries = read.entries_of(self._connection, before.name) + read.entries_to(self._connection, before.id)
        for entry in {entry.id: entry for entry in entries}.values():
            self._writer.put_blocked("sender.unblock", entry, None)
        self._writer.put_mailbox("mailbox.remove", before, None)

    def rename_mailbox(self, name: str, new_name: str) -> None:
        """Call the mailbox *new_name*; its addresses and blocks stay its own."""
        before = need_mailbox(self._connection, name)
        other = read.find_mailbox(self._connection, new_name)
        if other is not None and other.id != before.id:
            raise RefusedError(f"there is a mailbox {other.name} already; choose another name")
        self._writer.put_mailbox("mailbox.rename", before, replace(before, name=new_name))

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
            until=new_until(until, before.until, self._now),
        )
        self._writer.put_mailbox("mailbox.restrict", before, after)

    def lift_mailbox(self, name: str) -> None:
        """Let the mailbox receive from anyone again; reason, end and accepted senders go with the restriction."""
        before = need_mailbox(self._connection, name)
        if before.receive is Receive.ANYONE:
            raise RefusedError(f"{before.name} is not restricted; nothing to lift")
        after = replace(before, receive=Receive.ANYONE, accepted=frozenset(), reason="", until=None)
        self._writer.put_mailbox("mailbox.lift", before, after)

    def accept_senders(self, name: str, patterns: Iterable[str]) -> None:
        """Let senders that match *patterns* send to the restricted mailbox all the same."""
        before = need_mailbox(self._connection, name)
        if before.receive is Receive.ANYONE:
            raise RefusedError(
                f"{before.name} receives from anyone, so this would do nothing; "
                f"to restrict it: policyd mailbox restrict {quote(before.name)} --accept PATTERN"
            )
        self._writer.put_mailbox("mailbox.accept", before, replace(before, accepted=before.accepted | {*patterns}))

    def unaccept_senders(self, name: str, patterns: Iterable[str]) -> None:
        """Take *patterns*, each of which must be there, from the senders that the mailbox accepts."""
        before = need_mailbox(self._connection, name)
        gone = frozenset(patterns)
        if missing := sorted(gone - before.accepted):
            raise RefusedError(
                f"{before.name} does not accept {', '.join(missing)}; see: policyd mailbox show {quote(before.name)}"
            )
        self._writer.put_mailbox("mailbox.unaccept", before, replace(before, accepted=before.accepted - gone))

    def add_address(self, name: str, address: str) -> None:
        """Give the mailbox an address, in normal form, that no mailbox has yet; its first is the primary one."""
        mailbox = need_mailbox(self._connection, name)
        need_managed(self._connection, address, address.rpartition("@")[2])
        owner = read.find_address(self._connection, address)
        if owner is not None:
            raise RefusedError(
                f"{address} is an address of {owner.mailbox} already; "
                f"to take it away: policyd address remove {quote(address)}"
            )
        is_primary = not any(read.addresses(self._connection, mailbox_id=mailbox.id))
        self._writer.put_address("address.add", None, Address(address, mailbox.name, is_primary))

    def remove_address(self, address: str) -> None:
        """Take the address from its mailbox; of those left, the first becomes primary if this one was."""
        before = read.find_address(self._connection, address)
        if before is None:
            raise RefusedError(f"{address} is no mailbox's address; see: policyd address list")
        self._writer.put_address("address.remove", before, None)
        if before.is_primary:
            self._promote(before.mailbox)

    def _promote(self, mailbox: str) -> None:
        """Make the first address that is left to the mailbox its primary one."""
        held = read.addresses(self._connection, mailbox_id=need_mailbox(self._connection, mailbox).id)
        for first in list(held)[:1]:
            self._writer.put_address("address.promote", first, replace(first, is_primary=True))

    def _need_domain(self, name: str) -> Domain:
        domain = read.find_domain(self._connection, name)
        if domain is None:
            raise RefusedError(f"the domain {name} is not managed; see: policyd domain list")
        return domain
