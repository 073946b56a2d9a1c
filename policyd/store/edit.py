"""Every change to the tables, and every rule that they must obey, once: for a command, an imported row, and an undo.

It is one long file, so that whoever asks "may the tables be like this?" has one place to look. The caller begins the
transaction; each change writes its journal row in it.
"""

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache
from shlex import quote
from typing import TypeVar, assert_never

from policyd.address import (
    NULL_SENDER,
    domain_for_postfix,
    fold,
    normal_domain,
    pattern_covers,
    pattern_domain,
    patterns_overlap,
    slip_in_name,
    unicode_domain,
)
from policyd.errors import AddressError, NotManagedError, NotYetError, RefusedError
from policyd.model import (
    ANYONE,
    GROUP_PREFIX,
    OUTSIDE,
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
from policyd.rules import is_past
from policyd.store.connection import Connection
from policyd.store.journal import Journal, Stored, same
from policyd.store.queries import Queries
from policyd.store.reached import mailbox_reached
from policyd.store.writer import Writer
from policyd.timestamps import show_local

NO_END = 0  # as an `until`: takes an end away
_CACHED_DOMAINS = 4096
_EVERYBODY = frozenset({"everyone", "everybody", "all", "any", "*"})  # what people type who mean `anyone`
_FOREIGN = frozenset({"internet", "external", "extern", "world", "outsiders", "public", "foreign"})  # or `outside`

Restricted = Domain | Group | Mailbox  # what can have a restriction, and accepted senders
_Restricted = TypeVar("_Restricted", bound=Restricted)
AddressChange = tuple[Address | None, Address | None]  # before and after
Step = tuple[str, Stored, Stored | None]  # an operation, and an object before and after it


@dataclass(frozen=True, slots=True)
class RestrictionTerms:
    """What is said of a mailbox, group or domain; None leaves it as it is. `until`: Unix seconds, `NO_END` for none.

    A mailbox `as_it_stood` may be open and accept senders, for when it is restricted again.
    """

    receive: Receive | None = None
    accepted: frozenset[Party] | None = None
    reason: str | None = None
    until: int | None = None
    comment: str | None = None
    as_it_stood: bool = False


NOTHING_SAID = RestrictionTerms()


@dataclass(frozen=True, slots=True)
class EntryTerms:
    """What is said of a blocked sender's entry; None leaves it as it is. `until`: Unix seconds, `NO_END` for none.

    An entry `as_it_stood` may have exceptions that do nothing, or everything, as the tables are by now.
    """

    allowed: frozenset[Party] | None = None
    allowed_senders: frozenset[Party] | None = None
    reason: str | None = None
    until: int | None = None
    comment: str | None = None
    created_at: int | None = None
    created_by: str | None = None
    as_it_stood: bool = False


def need_mailbox(queries: Queries, name: str) -> Mailbox:
    """The mailbox *name*, or the one that this address leads to. Raises NotYetError, with what to do, for none."""
    mailbox = mailbox_reached(queries, name) if "@" in name else queries.mailbox_named(fold(name))
    if mailbox is not None:
        return mailbox
    fact = f"{name} is no mailbox's address" if "@" in name else f"there is no mailbox {name}{slip_in_name(name)}"
    meant = _meant(queries, name)
    raise NotYetError(f"{fact}; see: policyd mailbox list, or: policyd mailbox add{meant}", fact=f"{fact}{meant}")


def _meant(queries: Queries, name: str) -> str:
    """What *name*, which is no mailbox's, was perhaps meant for, and how that is written; "" where nobody knows."""
    if queries.group_named(fold(name)) is not None:
        return f"; the group is written {quote(f'{GROUP_PREFIX}{name}')}, and has its own commands: policyd group"
    if fold(name) in _EVERYBODY:
        return f"; everybody is written {ANYONE}"
    if fold(name) in _FOREIGN:
        return f"; every recipient in a domain that is not managed is written {OUTSIDE}"
    if "." not in name or "@" in name:
        return ""
    try:
        domain = normal_domain(name.removeprefix("."))
    except AddressError:
        return ""
    if name.startswith("."):
        return f"; all subdomains are written {quote(f'@.{domain}')}"
    return f"; the domain is written {quote(f'@{domain}')}, and has its own commands: policyd domain"


def need_group(queries: Queries, name: str) -> Group:
    """The group *name*. Raises NotYetError, with what to do, where there is none."""
    group = queries.group_named(fold(name))
    if group is None:
        fact = f"there is no group {name}"
        also = "; the mailbox has its own commands: policyd mailbox" if queries.mailbox_named(fold(name)) else ""
        raise NotYetError(f"{fact}; see: policyd group list, or: policyd group add {quote(name)}{also}", fact=fact)
    return group


def need_domain(queries: Queries, name: str) -> Domain:
    """The managed domain *name*. Raises RefusedError where it isn't managed."""
    domain = queries.domain(name)
    if domain is None:
        raise RefusedError(f"the domain {name} is not managed; see: policyd domain list")
    return domain


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


def mailbox_behind(queries: Queries, who: Party) -> Mailbox | None:
    """The mailbox that the address *who* leads to; None where it is no address, or leads to none."""
    return mailbox_reached(queries, who.text) if who.kind is PartyKind.PATTERN else None


def block_advice(queries: Queries, who: Party) -> str:
    """What to know of a block of *who*, if that is an address of a mailbox: it is not the mailbox. "" for others."""
    mailbox = mailbox_behind(queries, who)
    if mailbox is None:
        return ""
    return (
        f"{who} is an address of the mailbox {mailbox.name}, which may have others; to block the mailbox: "
        f"policyd sender block {quote(mailbox.name)}"
    )


def entries_found(queries: Queries, who: Party) -> list[BlockedSender]:
    """The entries of *who*, oldest first; where an address has none, those of the mailbox that has it."""
    entries = queries.entries_of(who)
    mailbox = None if entries else mailbox_behind(queries, who)
    return queries.entries_of(mailbox.party) if mailbox else entries


def what_goes_with(queries: Queries, owner: Mailbox | Group) -> list[Step]:
    """What must be changed before *owner* can be taken away, in this order; nothing is written.

    The addresses and the entries of it go, its memberships and its members' too; it is taken from the exceptions
    of other entries, and from the accepted senders of others.
    """
    party = owner.party
    addresses = queries.addresses_of(owner.id) if isinstance(owner, Mailbox) else []
    members = queries.members_of(owner.id) if isinstance(owner, Group) else []
    entries = queries.entries_about(party)
    gone = {entry.id for entry in entries}
    steps: list[Step] = [("address.remove", each, None) for each in addresses]
    steps += [("sender.unblock", each, None) for each in entries]
    for entry in queries.entries_excepting(party):
        if entry.id not in gone:
            rest = replace(entry, allowed=entry.allowed - {party}, allowed_senders=entry.allowed_senders - {party})
            steps.append(("sender.unexcept", entry, rest))
    for other in queries.accepting(party):
        if other != owner:
            steps.append((f"{other.noun}.unaccept", other, replace(other, accepted=other.accepted - {party})))
    steps += [("group.leave", each, None) for each in (*members, *queries.memberships_of(party))]
    return steps


class Editor:
    """Changes the tables over *connection*, as *journal* says by whom and when.

    Names, addresses and patterns are in normal form. Parties may be without a number: they are looked up by their
    names. *recipient_delimiter* is the setting, for addresses that stand for a mailbox. Raises RefusedError where a
    change makes no sense.
    """

    def __init__(self, connection: Connection, journal: Journal, recipient_delimiter: str = "") -> None:
        self.queries = Queries(connection, recipient_delimiter)
        self.journal = journal
        self._writer = Writer(connection, journal)
        self._now = journal.now
        self._domain = lru_cache(_CACHED_DOMAINS)(self.queries.find_domain)
        self._restored: set[int] = set()  # the memberships that came back, by number
        # What `look_ahead` has found, as far as it is so yet: addresses, and folded names of mailboxes.
        self._nobodys: set[str] = set()
        self._found: dict[str, tuple[Mailbox, list[Address]]] = {}

    def forget(self) -> None:
        """Forget what was remembered of the tables, after a rollback to a savepoint."""
        self._domain.cache_clear()
        self._forget_found()

    def look_ahead(self, names: Collection[str], addresses: Collection[str]) -> None:
        """Find out who has these folded *names* of mailboxes and these *addresses*, for what comes next.

        One statement for hundreds takes a fifth of the time that one for each takes.
        """
        self._found = {fold(each[0].name): each for each in self.queries.mailboxes_among(names)}
        self._nobodys = {*names, *addresses}.difference(self._found, self.queries.addresses_among(addresses))

    def find_mailbox(self, folded_name: str) -> Mailbox | None:
        """The mailbox whose name folds to this."""
        if folded_name in self._nobodys:
            return None
        found = self._found.get(folded_name)
        return found[0] if found is not None else self.queries.mailbox_named(folded_name)

    def addresses_of(self, mailbox: Mailbox) -> list[Address]:
        """The addresses of *mailbox*, the primary one first."""
        found = self._found.get(fold(mailbox.name))
        return found[1] if found is not None and found[0].id == mailbox.id else self.queries.addresses_of(mailbox.id)

    def _forget_found(self) -> None:
        self._nobodys.clear()
        self._found.clear()

    def mailbox(self, name: str) -> Mailbox:
        """The mailbox *name*, or the one that has this address. Raises NotYetError where there is none."""
        return need_mailbox(self.queries, name)

    def group(self, name: str) -> Group:
        """The group *name*. Raises NotYetError where there is none."""
        return need_group(self.queries, name)

    def domain(self, name: str) -> Domain:
        """The managed domain *name*. Raises RefusedError where there is none."""
        return need_domain(self.queries, name)

    def is_managed(self, domain: str) -> bool:
        """Whether *domain* is managed."""
        return self._domain(domain) is not None

    # --- Restrictions, of whatever has one ---

    def restrict(self, owner: Restricted, terms: RestrictionTerms) -> None:
        """Restrict who may send to *owner*: to insiders, where *terms* and it say nothing else.

        A restriction that has ended is in force again.
        """
        self._need_no_alias(owner, "restrict")
        current = owner.receive if owner.receive.is_restriction else Receive.INSIDERS
        self._put_restricted("restrict", owner, replace(terms, receive=terms.receive or current))

    def lift(self, owner: Restricted) -> None:
        """Take the restriction of *owner* away; reason, end and accepted senders go with it. Closes what was opened."""
        nothing = _says_nothing(owner)
        if owner.receive is nothing:
            raise RefusedError(f"{owner.name} is not restricted; nothing to lift")
        self._put_restricted("lift", owner, RestrictionTerms(receive=nothing, accepted=frozenset()))

    def open_mailbox(self, mailbox: Mailbox, until: int | None = None) -> None:
        """Have the mailbox receive from anyone, whatever its groups and its domain say; *until* as in the terms."""
        self._put_restricted("open", mailbox, RestrictionTerms(receive=Receive.ANYONE, until=until))

    def accept(self, owner: Restricted, senders: Iterable[Party]) -> None:
        """Let *senders* send to *owner* all the same."""
        self._need_no_alias(owner, "accept")
        self._put_restricted("accept", owner, RestrictionTerms(accepted=owner.accepted | self.resolved(senders)))

    def unaccept(self, owner: Restricted, senders: Iterable[Party]) -> None:
        """Take *senders*, each of which must be there, from those that *owner* accepts."""
        gone = self.resolved(senders)
        if missing := sorted(map(str, gone - owner.accepted)):
            raise RefusedError(
                f"{owner.name} does not accept {', '.join(missing)}; see: policyd {owner.noun} show {quote(owner.name)}"
            )
        self._put_restricted("unaccept", owner, RestrictionTerms(accepted=owner.accepted - gone))

    def after(self, current: _Restricted, terms: RestrictionTerms) -> _Restricted:
        """*current* with *terms*. Nothing is written.

        Reason and end are a restriction's, or an opened mailbox's, and go with it; so do accepted senders. A
        restriction that has ended is in force again when it is set again; to accept somebody more does not set it, and
        is refused.
        """
        if terms is NOTHING_SAID or terms == NOTHING_SAID:
            return current
        receive = terms.receive or current.receive
        comment = current.comment if terms.comment is None else terms.comment
        accepted = current.accepted if terms.accepted is None else self.resolved(terms.accepted)

        # Of what has ended, nobody looks at the accepted senders.
        is_set = terms.receive is not None or terms.reason is not None or terms.until is not None
        if not is_set and accepted - current.accepted and is_past(current.until, self._now):
            raise self._has_ended(current)

        # Accepted senders go with the restriction; to accept somebody where nobody is kept out would do nothing.
        if not receive.is_restriction:
            if terms.accepted and receive is Receive.ANYONE and not terms.as_it_stood:
                raise self._accepts_anyway(current)
            if current.receive.is_restriction and terms.accepted is None:
                accepted = frozenset()
        if receive is _says_nothing(current):
            return replace(current, receive=receive, reason="", until=None, comment=comment, accepted=accepted)

        # What is set again is in force again, with an end to come.
        is_changed = receive.is_restriction is not current.receive.is_restriction
        reason = "" if is_changed else current.reason
        return replace(
            current,
            receive=receive,
            reason=reason if terms.reason is None else terms.reason,
            until=self._new_end(terms.until, None if is_changed else current.until) if is_set else current.until,
            comment=comment,
            accepted=accepted,
        )

    # --- Domains ---

    def add_domain(self, domain: Domain) -> Domain:
        """Manage *domain*, which must not be managed yet; return it as stored."""
        if self.queries.domain(domain.name):
            raise RefusedError(f"{domain.name} is managed already; to change it: policyd domain set {domain.name}")
        after = replace(self._as_alias(domain), accepted=self.resolved(domain.accepted))
        self._put("domain.add", None, after)
        return after

    def set_domain(
        self, name: str, unlisted: Unlisted | None = None, *, alias_of: str | None = None, comment: str | None = None
    ) -> None:
        """Change the managed domain *name*; None leaves it as it is, an *alias_of* of "" makes it none's alias."""
        before = self.domain(name)
        after = replace(
            before,
            unlisted=before.unlisted if unlisted is None else unlisted,
            alias_of=before.alias_of if alias_of is None else alias_of,
            comment=before.comment if comment is None else comment,
        )
        self.put_domain(before, after)

    def put_domain(self, before: Domain, after: Domain) -> Domain:
        """Make the managed domain that is *before* be *after*; return it as stored."""
        after = self._as_alias(after)
        self._put("domain.set", before, after)
        return after

    def remove_domain(self, name: str) -> None:
        """Manage *name* no more, and take the addresses in it away."""
        before = self.domain(name)
        if aliases := self.queries.aliases_of(name):
            raise RefusedError(
                f"{', '.join(aliases)} stands for {name}; first type: policyd domain set {aliases[0]} --no-alias, "
                f"or: policyd domain remove {aliases[0]}"
            )
        for number in dict.fromkeys([address.mailbox_id for address in self.queries.addresses(name)]):
            mailbox = self.queries.mailbox_numbered(number)
            assert mailbox is not None
            held = self.queries.addresses_of(number)
            left = [each.address for each in held if each.address.rpartition("@")[2] != name]
            self.set_addresses(mailbox, held, left)
        self._put("domain.remove", before, None)

    def has_addresses(self, domain: str) -> bool:
        """Whether mailboxes have addresses in *domain*."""
        return next(self.queries.addresses(domain), None) is not None

    # --- Mailboxes ---

    def add_mailbox(self, name: str, addresses: Iterable[str], comment: str) -> None:
        """Make a mailbox that inherits who may send to it, with *addresses*; the first is the primary one."""
        if self.queries.mailbox_named(fold(name)):
            raise RefusedError(
                f"there is a mailbox {name} already; to give it an address: policyd address add {quote(name)} ADDRESS"
            )
        self.put_mailbox(None, Mailbox(name, comment=comment))
        for address in addresses:
            self.add_address(name, address)

    def set_mailbox(self, mailbox: Mailbox, comment: str) -> None:
        """Note *comment* at the mailbox."""
        self._put("mailbox.set", mailbox, replace(mailbox, comment=comment))

    def remove_mailbox(self, name: str) -> list[Stored]:
        """Take the mailbox away, with all that refers to it. Returns what was removed."""
        return self._remove(self.mailbox(name))

    def rename_mailbox(self, name: str, new_name: str) -> None:
        """Call the mailbox *new_name*; all that refers to it goes on doing so."""
        before = self.mailbox(name)
        if not self._is_free_for(before, new_name):
            other = self.mailbox(new_name)
            raise RefusedError(f"there is a mailbox {other.name} already; choose another name")
        self._put("mailbox.rename", before, replace(before, name=new_name))

    def put_mailbox(self, before: Mailbox | None, after: Mailbox) -> Mailbox:
        """Make the mailbox that is *before* be *after*, as `after` gave it; return it as stored."""
        if before is not None and before.name != after.name:
            self._forget_found()  # others may accept it by the name that it had
        elif before is None or before != after:
            folded_name = fold(after.name)
            self._nobodys.discard(folded_name)
            self._found.pop(folded_name, None)
        return self._writer.put_mailbox("mailbox.set" if before else "mailbox.add", before, after) or after

    # --- Groups ---

    def add_group(self, name: str, members: Iterable[Party] = (), comment: str = "") -> Group:
        """Make a group that restricts nobody, with *members*: mailboxes, by name or address, and groups."""
        if self.queries.group_named(fold(name)):
            raise RefusedError(
                f"there is a group {name} already; to put somebody into it: policyd group join {quote(name)} MEMBER"
            )
        group = self.put_group(None, Group(name, comment=comment))
        self.join(group, members)
        return group

    def set_group(self, group: Group, comment: str) -> None:
        """Note *comment* at the group."""
        self._put("group.set", group, replace(group, comment=comment))

    def put_group(self, before: Group | None, after: Group) -> Group:
        """Make the group that is *before* be *after*, as `after` gave it; return it as stored."""
        self._forget_found()
        return self._writer.put_group("group.set" if before else "group.add", before, after) or after

    def remove_group(self, name: str) -> list[Stored]:
        """Take the group away, with all that refers to it; its members stay. Returns what was removed."""
        return self._remove(self.group(name))

    def rename_group(self, name: str, new_name: str) -> None:
        """Call the group *new_name*; all that refers to it goes on doing so."""
        before = self.group(name)
        if not self._is_free_for(before, new_name):
            other = self.group(new_name)
            raise RefusedError(f"there is a group {other.name} already; choose another name")
        self._put("group.rename", before, replace(before, name=new_name))

    def join(self, group: Group, members: Iterable[Party], *, takes_circles: bool = False) -> list[Membership]:
        """Put mailboxes and groups into *group*, but those that are in it; returns the new memberships.

        A group that would close a circle is refused, as a courtesy: a circle that is taken is harmless. Where they are
        taken, *group* in itself is left out, since it says nothing.
        """
        held = {each.member for each in self.queries.members_of(group.id)}
        made = []
        for member in dict.fromkeys(map(self.member, members)):
            if member in held or (takes_circles and member == group.party):
                continue
            if not takes_circles and self._makes_circle(group.id, member):
                raise RefusedError(f"{member} can't join {group.party}, which is in it already; groups make no circle")
            stored = self._writer.put_membership("group.join", None, Membership(group.party, member))
            made += [stored] if stored else []
        return made

    def leave(self, group: Group, members: Iterable[Party]) -> list[Membership]:
        """Take mailboxes and groups, each of which must be in *group*, out of it; returns the former memberships."""
        held = {each.member: each for each in self.queries.members_of(group.id)}
        gone = [*dict.fromkeys(map(self.member, members))]
        if missing := [str(member) for member in gone if member not in held]:
            raise RefusedError(
                f"{', '.join(missing)}: not in {group.party}; see: policyd group show {quote(group.name)}"
            )
        for member in gone:
            self._put("group.leave", held[member], None)
        return [held[member] for member in gone]

    # --- Addresses ---

    def add_address(self, name: str, address: str) -> None:
        """Give the mailbox an address that no mailbox has yet; its first is the primary one."""
        mailbox = self.mailbox(name)
        self.need_free_address(address)
        held = self.queries.addresses_of(mailbox.id)
        self.set_addresses(mailbox, held, [*(each.address for each in held), address])

    def remove_address(self, address: str) -> None:
        """Take the address from its mailbox; of those left, the first becomes primary if this one was."""
        mailbox = self.queries.mailbox_with(address)
        if mailbox is None:
            raise RefusedError(f"{address} is no mailbox's address; see: policyd address list")
        held = self.queries.addresses_of(mailbox.id)
        self.set_addresses(mailbox, held, [each.address for each in held if each.address != address])

    def need_free_address(self, address: str) -> None:
        """Raises NotManagedError where *address* is in no managed domain, NotYetError where it is a mailbox's."""
        domain = address.rpartition("@")[2]
        if not self.is_managed(domain):
            raise NotManagedError(address, domain, postfix_spelling(self.queries, domain))
        owner = None if address in self._nobodys else self.queries.address(address)
        if owner is not None:
            fact = f"{address} is an address of {owner.mailbox} already"
            raise NotYetError(f"{fact}; to take it away: policyd address remove {quote(address)}", fact=fact)

    def set_addresses(self, mailbox: Mailbox, held: Sequence[Address], wanted: Sequence[str]) -> list[AddressChange]:
        """Make *wanted*, of which the first is the primary one, the addresses of the mailbox, which has *held* now.

        Those that are new must have passed `need_free_address`. Returns each as it was and as it is.
        """
        new = [Address(text, mailbox.name, position == 0, mailbox.id) for position, text in enumerate(wanted)]
        changes: list[AddressChange] = [(None, each) for each in new]
        if held:
            old = {each.address: each for each in held}
            changes = [(each, None) for each in held if each.address not in wanted]
            changes += [(old.get(each.address), each) for each in new]

            # A mailbox never has two primary addresses: the former one is demoted before another takes its place.
            if new and new[0] not in held:
                changes.sort(key=lambda change: not (change[0] and change[0].is_primary))
        if (new and not held) or any(before != after for before, after in changes):
            self._nobodys.difference_update(wanted)
            if self._found:
                self._found.pop(fold(mailbox.name), None)
        for before, after in changes:
            operation = "address.add" if before is None else "address.promote" if after else "address.remove"
            self._writer.put_address(operation, before, after)
        return changes

    def primary_problem(self, mailbox_id: int) -> str:
        """What is wrong with the primary address of a mailbox: "" where it has one, or no addresses at all."""
        addresses = self.queries.addresses_of(mailbox_id)
        if not addresses or sum(each.is_primary for each in addresses) == 1:
            return ""
        return f"mailbox {addresses[0].mailbox} would have no primary addresses"

    # --- Blocked senders ---

    def block_sender(self, who: Party, to: Party | None, terms: EntryTerms) -> BlockedSender:
        """Make the entry for *who* and *to* be as *terms* say, new or changed; return it as stored."""
        return self.set_entry(self.entry_for(who, to), terms)

    def entry_for(self, who: Party, to: Party | None) -> BlockedSender:
        """The entry for *who* and *to* as it stands; where there is none, a new one, whose id is 0.

        *to* is None where nobody said it: `outside` for a mailbox, a group or a pattern inside managed domains, else
        `anyone`; anyone may not be blocked so.
        """
        who = self._resolve(who)
        to = self._default_to(who) if to is None else self._resolve(to)
        new = BlockedSender(who, to, created_at=self._now, created_by=self.journal.actor)
        return next((each for each in self.queries.entries_of(who) if each.to == to), new)

    def set_entry(self, entry: BlockedSender, terms: EntryTerms) -> BlockedSender:
        """Make *entry*, as `entry_for` gave it, be as *terms* say. One that has ended is in force again."""
        allowed, senders = terms.allowed, terms.allowed_senders
        after = replace(
            entry,
            allowed=entry.allowed if allowed is None else self.resolved(allowed),
            allowed_senders=entry.allowed_senders if senders is None else self.resolved(senders),
            reason=entry.reason if terms.reason is None else terms.reason,
            until=self._new_end(terms.until, entry.until),
            comment=entry.comment if terms.comment is None else terms.comment,
            created_at=entry.created_at if terms.created_at is None else terms.created_at,
            created_by=entry.created_by if terms.created_by is None else terms.created_by,
        )
        if not terms.as_it_stood:
            self.need_useful(after, after.allowed - entry.allowed, after.allowed_senders - entry.allowed_senders)
        return self._writer.put_blocked("sender.block", entry if entry.id else None, after) or after

    def unblock_sender(self, who: Party, to: Party | None) -> None:
        """Remove the entry for *who* and *to*, or all of that sender's; of an address without any, its mailbox's."""
        for entry in self._need_entries(who, to):
            self.remove_entry(entry)

    def remove_entry(self, entry: BlockedSender) -> None:
        """Remove *entry*, which is there."""
        self._put("sender.unblock", entry, None)

    def add_exceptions(
        self, who: Party, to: Party | None, recipients: Iterable[Party] = (), senders: Iterable[Party] = ()
    ) -> None:
        """Let *who* send to *recipients* all the same, and *senders* to whomever *who* may not."""
        allowed, allowed_senders = self.resolved(recipients), self.resolved(senders)
        for entry in self._need_entries(who, to):
            self.need_useful(entry, allowed - entry.allowed, allowed_senders - entry.allowed_senders)
            after = replace(
                entry, allowed=entry.allowed | allowed, allowed_senders=entry.allowed_senders | allowed_senders
            )
            self._put("sender.except", entry, after)

    def remove_exceptions(
        self, who: Party, to: Party | None, recipients: Iterable[Party] = (), senders: Iterable[Party] = ()
    ) -> None:
        """Take *recipients* and *senders*, each of which must be there, from the exceptions of *who*."""
        entries = self._need_entries(who, to)
        allowed, allowed_senders = self.resolved(recipients), self.resolved(senders)
        missing = allowed.difference(*(entry.allowed for entry in entries))
        missing |= allowed_senders.difference(*(entry.allowed_senders for entry in entries))
        if missing:
            listed = ", ".join(sorted(map(str, missing)))
            raise RefusedError(f"{listed}: no exception of {who}; see: policyd sender show {quote(str(who))}")
        for entry in entries:
            after = replace(
                entry, allowed=entry.allowed - allowed, allowed_senders=entry.allowed_senders - allowed_senders
            )
            self._put("sender.unexcept", entry, after)

    # --- What refers to an object ---

    def what_goes_with(self, owner: Mailbox | Group) -> list[Step]:
        """What `what_goes_with` says of *owner*, as the tables stand in this changeset."""
        return what_goes_with(self.queries, owner)

    def _remove(self, owner: Mailbox | Group) -> list[Stored]:
        """Take *owner* away, and what refers to it before it: an undo goes through the journal backwards."""
        removed: list[Stored] = []
        for operation, before, after in self.what_goes_with(owner):
            self._put(operation, before, after)
            removed += [before] if after is None else []
        self._put(f"{owner.noun}.remove", owner, None)
        return [*removed, owner]

    # --- Back to what was ---

    def restore(self, noun: str, current: Stored | None, former: Stored | None) -> bool:
        """Make what is *current* be *former* again; *noun* is the journal's word for it.

        Returns False, with nothing changed, where it is not *current* any more, or other changes are in the way. A
        rename in between is in nobody's way.
        """
        standing = self._as_it_stands(current or former)

        # In the first edition, what was removed gave its number to another: it comes back under a new one.
        if current is None and standing is not None and isinstance(former, Mailbox | BlockedSender):
            former, standing = replace(former, id=0), None

        # It must be as the change left it, but for the names that are others' by now, or its own.
        if current is not None:
            renamed = isinstance(current, Mailbox | Group) and isinstance(standing, Mailbox | Group)
            if renamed and _name_of(former) in ("", _name_of(current)):
                current = _called(current, _name_of(standing))
                former = former and _called(former, _name_of(standing))
            current = self._named_now(current)
        if not same(current, standing):
            return False

        # What it was must be possible, with what there is now.
        if former is not None:
            former = self._named_now(former)
            if former is None or not self._is_possible(standing, former):
                return False
        elif standing is None or self._has_dependants(standing):
            return False
        self._put(f"{noun}.restore", standing, former)
        if isinstance(former, Membership):
            self._restored.add(former.id)
        return True

    def _as_it_stands(self, like: Stored | None) -> Stored | None:
        """The object that *like* is a state of, as it stands now; by its number, where it has one."""
        match like:
            case Mailbox():
                return self.queries.mailbox_numbered(like.id)
            case Group():
                return self.queries.group_numbered(like.id)
            case Membership():
                return self.queries.membership(like.id)
            case BlockedSender():
                return self.queries.entry(like.id)
            case Address():
                return self.queries.address(like.address)
            case Domain():
                return self.queries.domain(like.name)
            case None:
                return None
            case _:
                assert_never(like)

    def _named_now(self, stored: Stored) -> Stored | None:
        """*stored* with those it refers to as they are called now; None where one of them is not there any more."""
        try:
            match stored:
                case Mailbox() | Group() | Domain():
                    return replace(stored, accepted=self.resolved(stored.accepted))
                case Membership():
                    return replace(stored, group=self._resolve(stored.group), member=self._resolve(stored.member))
                case BlockedSender():
                    return replace(
                        stored,
                        who=self._resolve(stored.who),
                        to=self._resolve(stored.to),
                        allowed=self.resolved(stored.allowed),
                        allowed_senders=self.resolved(stored.allowed_senders),
                    )
                case Address():
                    holder = self._resolve(Party(PartyKind.MAILBOX, stored.mailbox, stored.mailbox_id))
                    return replace(stored, mailbox=holder.text, mailbox_id=holder.number)
                case _:
                    assert_never(stored)
        except NotYetError:
            return None

    def _is_possible(self, standing: Stored | None, former: Stored) -> bool:
        """Whether *standing* can be *former*, whose parties are all there."""
        match former:
            case Mailbox() | Group():
                return self._is_free_for(former, former.name)
            case Membership():
                is_held = former.member in [each.member for each in self.queries.members_of(former.group.number)]
                closes = self._makes_circle(former.group.number, former.member, but_for=self._restored)
                return not is_held and not closes
            case Address():
                primary = self.queries.primary_address(former.mailbox_id) if former.is_primary else ""
                return primary in ("", former.address) and self.is_managed(former.address.rpartition("@")[2])
            case BlockedSender():
                is_taken = former.to in [each.to for each in self.queries.entries_of(former.who)]
                return standing is not None or not is_taken
            case Domain():
                return not self._alias_problem(former)
            case _:
                assert_never(former)

    def _has_dependants(self, stored: Stored) -> bool:
        """Whether others refer to *stored*, which is to be removed."""
        match stored:
            case Mailbox() | Group():
                return bool(self.what_goes_with(stored))
            case Domain():
                return self.has_addresses(stored.name) or bool(self.queries.aliases_of(stored.name))
            case Membership() | Address() | BlockedSender():
                return False
            case _:
                assert_never(stored)

    # --- What the above share ---

    def resolved(self, parties: Iterable[Party]) -> frozenset[Party]:
        """*parties* with the numbers and names that they have now. Raises NotYetError where one is not there."""
        return frozenset(map(self._resolve, parties))

    def _resolve(self, party: Party) -> Party:
        """*party* with its number, and as it is called now. Raises NotYetError where it is not there."""
        match party.kind:
            case PartyKind.MAILBOX:
                mailbox = self.queries.mailbox_numbered(party.number) if party.number else self.mailbox(party.text)
                if mailbox is None:
                    raise NotYetError(f"there is no mailbox {party.text} any more")
                return mailbox.party
            case PartyKind.GROUP:
                group = self.queries.group_numbered(party.number) if party.number else self.group(party.text)
                if group is None:
                    raise NotYetError(f"there is no group {party.text} any more")
                return group.party
            case PartyKind.PATTERN | PartyKind.ANYONE | PartyKind.OUTSIDE:
                return party
            case _:
                assert_never(party.kind)

    def member(self, party: Party) -> Party:
        """The mailbox or group that *party* means; an address is the mailbox that has it. Raises NotYetError."""
        if party.kind is PartyKind.PATTERN:
            return self.mailbox(party.text).party
        return self._resolve(party)

    def _makes_circle(self, group_id: int, member: Party, *, but_for: AbstractSet[int] = frozenset()) -> bool:
        """Whether the group is *member*, or is in it: then *member* can't join it.

        Memberships with the numbers *but_for* are left alone: what was a circle before may be one again.
        """
        if member.kind is not PartyKind.GROUP:
            return False
        above, waiting = {group_id}, [group_id]
        while waiting and member.number not in above:
            for each in self.queries.memberships_of(Party(PartyKind.GROUP, "", waiting.pop())):
                if each.id not in but_for and each.group.number not in above:
                    above.add(each.group.number)
                    waiting.append(each.group.number)
        return member.number in above

    def _put(self, operation: str, before: Stored | None, after: Stored | None) -> None:
        """Make *before* be *after*, and forget what was remembered of the likes of it."""
        self._writer.put(operation, before, after)
        self._forget_found()
        if isinstance(before or after, Domain):
            self._domain.cache_clear()

    def _put_restricted(self, verb: str, owner: Restricted, terms: RestrictionTerms) -> None:
        self._put(f"{owner.noun}.{verb}", owner, self.after(owner, terms))

    def _is_free_for(self, owner: Mailbox | Group, name: str) -> bool:
        """Whether *owner* may have *name*: among its kind names are unique, in whatever case."""
        is_group = isinstance(owner, Group)
        other = self.queries.group_named(fold(name)) if is_group else self.queries.mailbox_named(fold(name))
        return other is None or other.id == owner.id

    def _as_alias(self, domain: Domain) -> Domain:
        """*domain*; where it stands for another one, as such: what is unlisted there is the other's to say.

        Raises NotYetError where it can't be an alias of what it is to be one.
        """
        if not domain.alias_of:
            return domain
        if problem := self._alias_problem(domain):
            raise NotYetError(problem)
        return replace(domain, unlisted=Unlisted.REJECT)

    def _alias_problem(self, domain: Domain) -> str:
        """Why *domain* can't be what it says: an alias of no managed domain, or one in a chain. "" where it can."""
        if not domain.alias_of:
            return ""
        target = self._domain(domain.alias_of)
        if domain.alias_of == domain.name:
            return f"{domain.name} can't stand for itself"
        if target is None:
            return f"{domain.alias_of} is not managed; add it with: policyd domain add {domain.alias_of}"
        if target.alias_of:
            return f"{target.name} stands for {target.alias_of} itself; type --alias-of {target.alias_of}"
        if aliases := self.queries.aliases_of(domain.name):
            return f"{', '.join(aliases)} stands for {domain.name}, which so can't stand for another one"
        if domain.receive.is_restriction:
            return f"{domain.name} has a restriction of its own; first type: policyd domain lift {domain.name}"
        return ""

    def _need_no_alias(self, owner: Restricted, verb: str) -> None:
        """Raises RefusedError where *owner* is an alias domain: its target's restriction counts."""
        if isinstance(owner, Domain) and owner.alias_of:
            raise RefusedError(
                f"{owner.name} stands for {owner.alias_of}, whose restriction counts; "
                f"type: policyd domain {verb} {owner.alias_of}"
            )

    def _accepts_anyway(self, owner: Restricted) -> RefusedError:
        """What to say to who would have *owner* accept a sender, though nobody is kept from sending to it."""
        name, noun = owner.name, owner.noun
        return RefusedError(
            f"{name} receives from anyone, so this would do nothing; "
            f"to restrict it: policyd {noun} restrict {quote(name)} --accept SENDER",
            fact=f"{name} receives from anyone, so accepted senders would do nothing",
        )

    def _has_ended(self, owner: Restricted) -> RefusedError:
        """What to say to who would have *owner* accept a sender, though what it says of who may send has ended."""
        name, command = quote(owner.name), f"policyd {owner.noun}"
        was = "its restriction" if owner.receive.is_restriction else "what opened it"
        fact = f"{owner.name}: {was} has ended, {show_local(owner.until or 0)}, so this would do nothing"
        again = f"to restrict it again: {command} restrict {name} --accept SENDER"
        inherits = f"; to have it inherit: {command} lift {name}" if isinstance(owner, Mailbox) else ""
        return RefusedError(f"{fact}; {again}{inherits}", fact=fact)

    def _new_end(self, given: int | None, current: int | None) -> int | None:
        """When something ends that is set now: as *given*, else as it is, else (if that is past) never.

        Raises RefusedError for an end that has passed: what is restricted until then would not be restricted.
        """
        if given is None:
            return None if is_past(current, self._now) else current
        if given != NO_END and is_past(given, self._now):
            raise RefusedError(f"until {show_local(given)} is past; give a time to come, or none")
        return None if given == NO_END else given

    def _default_to(self, who: Party) -> Party:
        """To whom *who* is blocked where nobody said it."""
        match who.kind:
            case PartyKind.MAILBOX | PartyKind.GROUP:
                return OUTSIDE
            case PartyKind.PATTERN:
                return OUTSIDE if self.is_managed(pattern_domain(who.text)) else ANYONE
            case PartyKind.ANYONE | PartyKind.OUTSIDE:
                raise RefusedError("who blocks anyone must say to whom: add --to outside, or --to @competitor.example")
            case _:
                assert_never(who.kind)

    def _need_entries(self, who: Party, to: Party | None) -> list[BlockedSender]:
        """The entries of *who*, to *to* if that is given. Raises RefusedError where there is none."""
        who = self._resolve(who)
        wanted = None if to is None else self._resolve(to)
        entries = [each for each in entries_found(self.queries, who) if wanted is None or each.to == wanted]
        if not entries:
            what = f"{who} is not blocked" if to is None else f"{who} is not blocked to {to}"
            raise RefusedError(f"{what}; see: policyd sender list")
        return entries

    # --- Exceptions that would do nothing, or everything ---

    def need_useful(self, entry: BlockedSender, recipients: Iterable[Party], senders: Iterable[Party]) -> None:
        """Raises RefusedError for an entry or exception that no recipient can match, and for one that they all do."""
        if entry.to.text == NULL_SENDER:
            raise RefusedError(
                "no recipient is the null sender, so an entry to <> would do nothing; "
                "to block the null sender: policyd sender block '<>'"
            )
        for party in sorted(recipients):
            if problem := self._useless_exception(entry, party):
                raise RefusedError(f"the exception {party} would do nothing: {problem}; leave it out")
            if self._covers(party, entry.to):
                raise RefusedError(f"the exception {party} leaves nothing of the entry, which is to {entry.to}")
        for party in sorted(senders):
            if self._covers_sender(party, entry.who):
                raise RefusedError(f"the exception {party} leaves nothing of the entry, which is for {entry.who}")

    def _useless_exception(self, entry: BlockedSender, party: Party) -> str:
        """Why no recipient of *entry* can match the exception *party*; "" where one can."""
        pattern = party.text if party.kind is PartyKind.PATTERN else ""
        if pattern == NULL_SENDER:
            return "no recipient is the null sender"
        domain = pattern_domain(pattern)
        match entry.to.kind:
            case PartyKind.OUTSIDE:
                return self._why_not_outside(party, domain)
            case PartyKind.MAILBOX | PartyKind.GROUP:
                if domain and not self.is_managed(domain):
                    return f"{domain} is not managed, so {entry.to} has no address there"
                is_other = party.kind is entry.to.kind is PartyKind.MAILBOX and party != entry.to
                return f"{party} is another mailbox than {entry.to}" if is_other else ""
            case PartyKind.PATTERN:
                theirs = pattern_domain(entry.to.text)
                if not pattern:
                    is_foreign = theirs and not self.is_managed(theirs)
                    return f"{theirs} is not managed, so {party} has no address there" if is_foreign else ""
                can_match = patterns_overlap(self._in_target(pattern), self._in_target(entry.to.text))
                return "" if can_match else f"no recipient that {entry.to} matches is one"
            case PartyKind.ANYONE:
                return ""
            case _:
                assert_never(entry.to.kind)

    def _why_not_outside(self, party: Party, domain: str) -> str:
        """Why no recipient outside can match *party*, whose pattern is in this *domain*; "" where one can."""
        if party.kind is not PartyKind.PATTERN:
            return f"{party} is inside, and this entry leaves recipients in managed domains alone anyway"
        if domain and self.is_managed(domain):
            return f"{domain} is managed, and this entry leaves recipients in managed domains alone anyway"
        return ""

    def _covers(self, party: Party, to: Party) -> bool:
        """Whether *party*, an exception by recipient, matches everything that an entry is *to*."""
        if party == to:
            return True
        if party.kind is PartyKind.PATTERN and to.kind is PartyKind.PATTERN:
            return pattern_covers(party.text, to.text) or pattern_covers(party.text, self._in_target(to.text))
        if party.kind is PartyKind.GROUP and to.kind in (PartyKind.MAILBOX, PartyKind.GROUP):
            is_group = to.kind is PartyKind.GROUP
            above = self.queries.groups_above(to.number) if is_group else self.queries.groups_of(to.number)
            return party in [each.party for each in above]
        return False

    def _covers_sender(self, party: Party, who: Party) -> bool:
        """Whether *party*, an exception by sender, lets through everybody that *who* may be.

        It does so only where nothing has to be proven: in foreign domains, and for the null sender.
        """
        if party.kind is not PartyKind.PATTERN or who.kind is not PartyKind.PATTERN:
            return False
        domain = pattern_domain(party.text)
        is_as_written = party.text == NULL_SENDER or (domain != "" and not self.is_managed(domain))
        return is_as_written and pattern_covers(party.text, who.text)

    def _in_target(self, pattern: str) -> str:
        """*pattern*, of an alias domain, in the one that it stands for."""
        local, _, name = pattern.rpartition("@")
        domain = self._domain(name)
        return f"{local}@{domain.alias_of}" if domain and domain.alias_of else pattern


def _says_nothing(owner: Restricted) -> Receive:
    """How *owner* says nothing of who may send."""
    return Receive.INHERIT if isinstance(owner, Mailbox) else Receive.ANYONE


def _name_of(stored: Stored | None) -> str:
    return stored.name if isinstance(stored, Mailbox | Group) else ""


def _called(stored: Stored, name: str) -> Stored:
    return replace(stored, name=name) if isinstance(stored, Mailbox | Group) else stored
