"""Every change to the tables, and every rule that they must obey, once: for a command, an imported row, and an undo.

It is one long file, so that whoever asks "may the tables be like this?" has one place to look. The caller begins the
transaction; each change writes its journal row in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from shlex import quote
from typing import assert_never

from policyd.address import NULL_SENDER, domain_for_postfix, fold, is_pattern, pattern_domain, unicode_domain
from policyd.errors import NotManagedError, NotYetError, RefusedError
from policyd.model import Address, BlockedSender, Domain, Mailbox, Receive, Recipients, Unlisted, recipients_of
from policyd.rules import is_past
from policyd.store.database import Connection
from policyd.store.journal import Journal, Stored
from policyd.store.queries import Queries
from policyd.store.writer import Writer
from policyd.timestamps import show_local

NO_END = 0  # as an `until`: takes an end away
_CACHED_DOMAINS = 4096

AddressChange = tuple[Address | None, Address | None]  # before and after


@dataclass(frozen=True, slots=True)
class MailboxTerms:
    """What is said of a mailbox; None leaves it as it is. `until`: Unix seconds, `NO_END` for none."""

    receive: Receive | None = None
    accepted: frozenset[str] | None = None
    reason: str | None = None
    until: int | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class EntryTerms:
    """What is said of a blocked sender's entry; None leaves it as it is. `until`: Unix seconds, `NO_END` for none."""

    allowed: frozenset[str] | None = None
    reason: str | None = None
    until: int | None = None
    comment: str | None = None
    created_at: int | None = None
    created_by: str | None = None


def need_mailbox(queries: Queries, name: str) -> Mailbox:
    """The mailbox *name*. Raises NotYetError, with what to do, where there is none."""
    mailbox = queries.mailbox_named(fold(name))
    if mailbox is None:
        fact = f"there is no mailbox {name}"
        raise NotYetError(f"{fact}; see: policyd mailbox list, or: policyd mailbox add", fact=fact)
    return mailbox


def need_managed(queries: Queries, what: str, domain: str) -> None:
    """Raises NotManagedError, about *what*, where *domain* is not managed."""
    if queries.domain(domain) is None:
        raise NotManagedError(what, domain, postfix_spelling(queries, domain))


def postfix_spelling(queries: Queries, domain: str) -> str:
    """Where Postfix takes *domain* for another one, a line with that, and what to type; "" where it doesn't."""
    shown = unicode_domain(domain)
    other = domain_for_postfix(shown)
    if other in ("", domain):
        return ""
    is_managed = queries.domain(other) is not None
    advice = "which is managed, too" if is_managed else f"so manage that, too: policyd domain add {quote(other)}"
    return f"Postfix takes {shown} for {other}, {advice}"


class Editor:
    """Changes the tables over *connection*, as *journal* says by whom and when.

    Names, addresses and patterns are in normal form. A *sender* is a mailbox's name or a pattern; *to* is `outside`,
    `anyone`, a mailbox's name, or "" where that was not said. Raises RefusedError where a change makes no sense.
    """

    def __init__(self, connection: Connection, journal: Journal) -> None:
        self.queries = Queries(connection)
        self.journal = journal
        self._writer = Writer(connection, journal)
        self._now = journal.now
        self.is_managed = lru_cache(_CACHED_DOMAINS)(lambda name: self.queries.domain(name) is not None)

    def forget(self) -> None:
        """Forget what was remembered of the tables, after a rollback to a savepoint."""
        self._writer.forget()
        self.is_managed.cache_clear()

    # --- Domains ---

    def add_domain(self, domain: Domain) -> None:
        """Manage *domain*, which must not be managed yet."""
        if self.queries.domain(domain.name):
            raise RefusedError(f"{domain.name} is managed already; to change it: policyd domain set {domain.name}")
        self._put_domain("domain.add", None, domain)

    def set_domain(self, name: str, unlisted: Unlisted) -> None:
        """Make the managed domain *name* treat unlisted recipients so."""
        self._put_domain("domain.set", self._need_domain(name), Domain(name, unlisted))

    def remove_domain(self, name: str) -> None:
        """Manage *name* no more, and take the addresses in it away."""
        before = self._need_domain(name)
        for mailbox in dict.fromkeys([address.mailbox for address in self.queries.addresses(name)]):
            held = self.queries.addresses_of(need_mailbox(self.queries, mailbox).id)
            left = [each.address for each in held if each.address.rpartition("@")[2] != name]
            self.set_addresses(mailbox, held, left)
        self._put_domain("domain.remove", before, None)

    def has_addresses(self, domain: str) -> bool:
        """Whether mailboxes have addresses in *domain*."""
        return next(self.queries.addresses(domain), None) is not None

    # --- Mailboxes ---

    def add_mailbox(self, name: str, addresses: Iterable[str], comment: str) -> None:
        """Make a mailbox that receives from anyone, with *addresses*, of which the first is the primary one."""
        if self.queries.mailbox_named(fold(name)):
            raise RefusedError(
                f"there is a mailbox {name} already; to give it an address: policyd address add {quote(name)} ADDRESS"
            )
        self.put_mailbox(None, Mailbox(name, comment=comment))
        for address in addresses:
            self.add_address(name, address)

    def remove_mailbox(self, name: str) -> list[Stored]:
        """Take the mailbox away, with its addresses and every entry that is it or that is to it.

        Returns what was removed.
        """
        mailbox = need_mailbox(self.queries, name)
        addresses = self.queries.addresses_of(mailbox.id)
        entries = self.queries.entries_about(mailbox.id)

        # What refers to the mailbox goes first: an undo goes through the journal backwards.
        for address in addresses:
            self._writer.put_address("address.remove", address, None)
        for entry in entries:
            self.remove_entry(entry)
        self._writer.put_mailbox("mailbox.remove", mailbox, None)
        return [*addresses, *entries, mailbox]

    def rename_mailbox(self, name: str, new_name: str) -> None:
        """Call the mailbox *new_name*; its addresses and blocks stay its own."""
        before = need_mailbox(self.queries, name)
        if not self._is_free_for(before, new_name):
            other = need_mailbox(self.queries, new_name)
            raise RefusedError(f"there is a mailbox {other.name} already; choose another name")
        self._writer.put_mailbox("mailbox.rename", before, replace(before, name=new_name))

    def restrict_mailbox(self, name: str, terms: MailboxTerms) -> None:
        """Make the mailbox receive from insiders (or nobody) only. A restriction that has ended is in force again."""
        before = need_mailbox(self.queries, name)
        current = Receive.INSIDERS if before.receive is Receive.ANYONE else before.receive
        terms = replace(terms, receive=terms.receive or current)
        self._writer.put_mailbox("mailbox.restrict", before, self.mailbox_after(before, before.name, terms))

    def lift_mailbox(self, name: str) -> None:
        """Let the mailbox receive from anyone again; reason, end and accepted senders go with the restriction."""
        before = need_mailbox(self.queries, name)
        if before.receive is Receive.ANYONE:
            raise RefusedError(f"{before.name} is not restricted; nothing to lift")
        terms = MailboxTerms(receive=Receive.ANYONE)
        self._writer.put_mailbox("mailbox.lift", before, self.mailbox_after(before, before.name, terms))

    def accept_senders(self, name: str, patterns: Iterable[str]) -> None:
        """Let senders that match *patterns* send to the restricted mailbox all the same."""
        before = need_mailbox(self.queries, name)
        terms = MailboxTerms(accepted=before.accepted.union(patterns))
        self._writer.put_mailbox("mailbox.accept", before, self.mailbox_after(before, before.name, terms))

    def unaccept_senders(self, name: str, patterns: Iterable[str]) -> None:
        """Take *patterns*, each of which must be there, from the senders that the mailbox accepts."""
        before = need_mailbox(self.queries, name)
        gone = frozenset(patterns)
        if missing := sorted(gone - before.accepted):
            raise RefusedError(
                f"{before.name} does not accept {', '.join(missing)}; see: policyd mailbox show {quote(before.name)}"
            )
        terms = MailboxTerms(accepted=before.accepted - gone)
        self._writer.put_mailbox("mailbox.unaccept", before, self.mailbox_after(before, before.name, terms))

    def put_mailbox(self, before: Mailbox | None, after: Mailbox) -> Mailbox:
        """Make the mailbox that is *before* be *after*, as `mailbox_after` gave it; return it as stored."""
        return self._writer.put_mailbox("mailbox.set" if before else "mailbox.add", before, after) or after

    def mailbox_after(self, current: Mailbox, name: str, terms: MailboxTerms) -> Mailbox:
        """The mailbox *current*, called *name*, with *terms*. Nothing is written.

        Reason, end and accepted senders are a restriction's, and go with it. A restriction that has ended is in
        force again when it is set again; to accept somebody more does not set it.
        """
        receive = terms.receive or current.receive
        comment = current.comment if terms.comment is None else terms.comment
        if receive is Receive.ANYONE:
            if terms.accepted:
                raise RefusedError(
                    f"{name} receives from anyone, so this would do nothing; "
                    f"to restrict it: policyd mailbox restrict {quote(name)} --accept PATTERN",
                    fact=f"{name} receives from anyone, so accepted senders would do nothing",
                )
            return Mailbox(name, comment=comment, id=current.id)
        is_set = terms.receive is not None or terms.reason is not None or terms.until is not None
        return Mailbox(
            name,
            receive,
            current.reason if terms.reason is None else terms.reason,
            self._new_end(terms.until, current.until) if is_set else current.until,
            comment,
            current.accepted if terms.accepted is None else terms.accepted,
            current.id,
        )

    # --- Addresses ---

    def add_address(self, name: str, address: str) -> None:
        """Give the mailbox an address that no mailbox has yet; its first is the primary one."""
        mailbox = need_mailbox(self.queries, name)
        self.need_free_address(address)
        held = self.queries.addresses_of(mailbox.id)
        self.set_addresses(mailbox.name, held, [*(each.address for each in held), address])

    def remove_address(self, address: str) -> None:
        """Take the address from its mailbox; of those left, the first becomes primary if this one was."""
        before = self.queries.address(address)
        if before is None:
            raise RefusedError(f"{address} is no mailbox's address; see: policyd address list")
        held = self.queries.addresses_of(need_mailbox(self.queries, before.mailbox).id)
        self.set_addresses(before.mailbox, held, [each.address for each in held if each.address != address])

    def need_free_address(self, address: str) -> None:
        """Raises NotManagedError where *address* is in no managed domain, NotYetError where it is a mailbox's."""
        domain = address.rpartition("@")[2]
        if not self.is_managed(domain):
            raise NotManagedError(address, domain, postfix_spelling(self.queries, domain))
        owner = self.queries.address(address)
        if owner is not None:
            fact = f"{address} is an address of {owner.mailbox} already"
            raise NotYetError(f"{fact}; to take it away: policyd address remove {quote(address)}", fact=fact)

    def set_addresses(self, mailbox: str, held: Sequence[Address], wanted: Sequence[str]) -> list[AddressChange]:
        """Make *wanted*, of which the first is the primary one, the addresses of the mailbox, which has *held* now.

        Those that are new must have passed `need_free_address`. Returns each as it was and as it is.
        """
        old = {each.address: each for each in held}
        new = [Address(text, mailbox, position == 0) for position, text in enumerate(wanted)]
        changes: list[AddressChange] = [(each, None) for each in held if each.address not in wanted]
        changes += [(old.get(each.address), each) for each in new]

        # A mailbox never has two primary addresses: the former one is demoted before another takes its place.
        if new and new[0] not in held:
            changes.sort(key=lambda change: not (change[0] and change[0].is_primary))
        for before, after in changes:
            operation = "address.add" if before is None else "address.promote" if after else "address.remove"
            self._writer.put_address(operation, before, after)
        return changes

    def primary_problem(self, mailbox: str) -> str:
        """What is wrong with the primary address of *mailbox*: "" where it has one, or no addresses at all."""
        found = self.queries.mailbox_named(fold(mailbox))
        addresses = self.queries.addresses_of(found.id) if found else []
        count = sum(each.is_primary for each in addresses)
        return f"mailbox {mailbox} would have {count or 'no'} primary addresses" if addresses and count != 1 else ""

    # --- Blocked senders ---

    def block_sender(self, sender: str, to: str, terms: EntryTerms) -> BlockedSender:
        """Make the entry for *sender* and *to* be as *terms* say, new or changed; return it as stored."""
        return self.set_entry(self.entry_for(sender, to), terms)

    def entry_for(self, sender: str, to: str) -> BlockedSender:
        """The entry for *sender* and *to* as it stands; where there is none, a new one, whose id is 0."""
        wanted = self._new_entry(sender, to or self._default_to(sender))
        return next((each for each in self.queries.entries_of(sender) if each.to == wanted.to), wanted)

    def set_entry(self, entry: BlockedSender, terms: EntryTerms) -> BlockedSender:
        """Make *entry*, as `entry_for` gave it, be as *terms* say. One that has ended is in force again."""
        after = replace(
            entry,
            allowed=entry.allowed if terms.allowed is None else terms.allowed,
            reason=entry.reason if terms.reason is None else terms.reason,
            until=self._new_end(terms.until, entry.until),
            comment=entry.comment if terms.comment is None else terms.comment,
            created_at=entry.created_at if terms.created_at is None else terms.created_at,
            created_by=entry.created_by if terms.created_by is None else terms.created_by,
        )
        self._need_useful(after, after.allowed - entry.allowed)
        return self._writer.put_blocked("sender.block", entry if entry.id else None, after) or after

    def unblock_sender(self, sender: str, to: str) -> None:
        """Remove the entry for *sender* and *to*, or all of that sender's."""
        for entry in self._need_entries(sender, to):
            self.remove_entry(entry)

    def remove_entry(self, entry: BlockedSender) -> None:
        """Remove *entry*, which is there."""
        self._writer.put_blocked("sender.unblock", entry, None)

    def except_recipients(self, sender: str, to: str, patterns: Iterable[str]) -> None:
        """Let *sender* send to recipients that match *patterns* all the same."""
        added = frozenset(patterns)
        for entry in self._need_entries(sender, to):
            self._need_useful(entry, added - entry.allowed)
            self._writer.put_blocked("sender.except", entry, replace(entry, allowed=entry.allowed | added))

    def unexcept_recipients(self, sender: str, to: str, patterns: Iterable[str]) -> None:
        """Take *patterns*, each of which must be there, from the exceptions of *sender*."""
        gone = frozenset(patterns)
        entries = self._need_entries(sender, to)
        if missing := sorted(gone.difference(*(entry.allowed for entry in entries))):
            raise RefusedError(
                f"{', '.join(missing)}: no exception of {sender}; see: policyd sender show {quote(sender)}"
            )
        for entry in entries:
            self._writer.put_blocked("sender.unexcept", entry, replace(entry, allowed=entry.allowed - gone))

    # --- Back to what was ---

    def restore(self, noun: str, current: Stored | None, former: Stored | None) -> bool:
        """Make what is *current* be *former* again; *noun* is the journal's word for it.

        Returns False, with nothing changed, where it is not *current* any more, or other changes are in the way.
        """
        # What was removed comes back under a new number, if another object has been given the old one since.
        if current is None and isinstance(former, Mailbox | BlockedSender) and self._as_it_stands(former) is not None:
            former = replace(former, id=0)
        if self._as_it_stands(current or former) != current or self._is_in_the_way(current, former):
            return False
        self._writer.put(f"{noun}.restore", current, former)
        if noun == "domain":
            self.is_managed.cache_clear()
        return True

    def _as_it_stands(self, like: Stored | None) -> Stored | None:
        """The object that *like* is a state of, as it stands now; by its number, where it has one."""
        match like:
            case Mailbox():
                return self.queries.mailbox_numbered(like.id)
            case BlockedSender():
                return self.queries.entry(like.id)
            case Address():
                return self.queries.address(like.address)
            case Domain():
                return self.queries.domain(like.name)
            case None:
                return None

    def _is_in_the_way(self, current: Stored | None, former: Stored | None) -> bool:
        """Whether a change by others keeps *current* from becoming *former* again."""
        match former:
            case None:
                return self._has_dependants(current)
            case Mailbox():
                return not self._is_free_for(former, former.name)
            case Address():
                is_lost = self.queries.mailbox_named(fold(former.mailbox)) is None
                return is_lost or not self.is_managed(former.address.rpartition("@")[2])
            case BlockedSender():
                return current is None and not self._is_free_entry(former)
            case Domain():
                return False

    def _has_dependants(self, stored: Stored | None) -> bool:
        """Whether addresses or entries refer to *stored*, which is to be removed."""
        if isinstance(stored, Mailbox):
            return bool(self.queries.addresses_of(stored.id) or self.queries.entries_about(stored.id))
        return isinstance(stored, Domain) and self.has_addresses(stored.name)

    def _is_free_for(self, mailbox: Mailbox, name: str) -> bool:
        """Whether *mailbox* may have *name*: names are unique, in whatever case."""
        other = self.queries.mailbox_named(fold(name))
        return other is None or other.id == mailbox.id

    def _is_free_entry(self, entry: BlockedSender) -> bool:
        """Whether the mailboxes that *entry* names are there, and no other entry stands in its place."""
        named = [self.queries.mailbox_named(fold(name)) for name in (entry.mailbox, entry.to_mailbox) if name]
        return None not in named and entry.to not in [other.to for other in self.queries.entries_of(entry.sender)]

    # --- What the above share ---

    def _put_domain(self, operation: str, before: Domain | None, after: Domain | None) -> None:
        self._writer.put_domain(operation, before, after)
        self.is_managed.cache_clear()

    def _need_domain(self, name: str) -> Domain:
        domain = self.queries.domain(name)
        if domain is None:
            raise RefusedError(f"the domain {name} is not managed; see: policyd domain list")
        return domain

    def _new_end(self, given: int | None, current: int | None) -> int | None:
        """When something ends that is set now: as *given*, else as it is, else (if that is past) never.

        Raises RefusedError for an end that has passed: what is restricted until then would not be restricted.
        """
        if given is None:
            return None if is_past(current, self._now) else current
        if given != NO_END and is_past(given, self._now):
            raise RefusedError(f"until {show_local(given)} is past; give a time to come, or none")
        return None if given == NO_END else given

    def _new_entry(self, sender: str, to: str) -> BlockedSender:
        """The entry for *sender* and *to* as it is where nothing more is said of it."""
        recipients = recipients_of(to)
        is_one_mailbox = recipients is Recipients.MAILBOX
        return BlockedSender(
            mailbox="" if is_pattern(sender) else need_mailbox(self.queries, sender).name,
            pattern=sender if is_pattern(sender) else "",
            recipients=recipients,
            to_mailbox=need_mailbox(self.queries, to).name if is_one_mailbox else "",
            created_at=self._now,
            created_by=self.journal.actor,
        )

    def _default_to(self, sender: str) -> str:
        """`outside` for a mailbox or a pattern inside managed domains, else `anyone`."""
        is_inside = not is_pattern(sender) or self.is_managed(pattern_domain(sender))
        return Recipients.OUTSIDE if is_inside else Recipients.ANYONE

    def _need_entries(self, sender: str, to: str) -> list[BlockedSender]:
        """The entries of *sender*, to *to* if that is given. Raises RefusedError where there is none."""
        if not is_pattern(sender):
            need_mailbox(self.queries, sender)
        wanted = self._new_entry(sender, to).to if to else ""
        entries = [each for each in self.queries.entries_of(sender) if not wanted or each.to == wanted]
        if not entries:
            what = f"{sender} is not blocked to {to}" if to else f"{sender} is not blocked"
            raise RefusedError(f"{what}; see: policyd sender list")
        return entries

    def _need_useful(self, entry: BlockedSender, patterns: Iterable[str]) -> None:
        """Raises RefusedError for an exception that no recipient of *entry* can match."""
        for pattern in sorted(patterns):
            problem = self._useless_exception(entry, pattern)
            if problem:
                raise RefusedError(f"the exception {pattern} would do nothing: {problem}; leave it out")

    def _useless_exception(self, entry: BlockedSender, pattern: str) -> str:
        """Why no recipient of *entry* can match the exception *pattern*; "" where one can."""
        if pattern == NULL_SENDER:
            return "no recipient is the null sender"
        domain = pattern_domain(pattern)
        is_managed = bool(domain) and self.is_managed(domain)
        match entry.recipients:
            case Recipients.OUTSIDE:
                leaves_alone = f"{domain} is managed, and this entry leaves recipients in managed domains alone anyway"
                return leaves_alone if is_managed else ""
            case Recipients.MAILBOX:
                is_foreign = domain and not is_managed
                return f"{domain} is not managed, so {entry.to} has no address there" if is_foreign else ""
            case Recipients.ANYONE:
                return ""
            case _:
                assert_never(entry.recipients)
