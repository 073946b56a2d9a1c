"""Who may send to a mailbox with what its groups and its domain say: for formats that can't say it of those."""

from collections import defaultdict
from typing import NamedTuple

from policyd.address import fold
from policyd.model import Domain, Group, Mailbox, Party, PartyKind, Receive
from policyd.transfer.formats import ExportedTables


class Restriction(NamedTuple):
    """Who may send, and the reason for who may not."""

    receive: Receive
    reason: str


class Effective:
    """What is in force in *tables*, with domains, groups and memberships in memory.

    Source: docs/rules.rst, the restriction of a recipient.
    """

    def __init__(self, tables: ExportedTables) -> None:
        self.domains = {domain.name: domain for domain in tables.domains()}
        self._groups: dict[str, Group] = {}
        self._above: dict[tuple[PartyKind, str], list[str]] = defaultdict(list)  # the groups that somebody is in
        for group, members in tables.groups():
            self._groups[fold(group.name)] = group
            for member in members:
                self._above[_key(member)].append(fold(group.name))

    def groups_of(self, mailbox: Party) -> list[Group]:
        """The groups that a mailbox is in, directly or not, by folded name in code points."""
        found: set[str] = set()
        waiting = [_key(mailbox)]
        while waiting:
            new = [name for name in self._above.get(waiting.pop(), ()) if name not in found]
            found.update(new)
            waiting += [(PartyKind.GROUP, name) for name in new]
        return [self._groups[name] for name in sorted(found)]

    def target(self, domain: str) -> Domain:
        """The managed domain that *domain* is, or stands for; one that isn't managed restricts nobody."""
        found = self.domains.get(domain) or Domain(domain)
        return self.domains[found.alias_of] if found.alias_of else found

    def of_domain(self, domain: str) -> Restriction:
        """Who may send to the addresses in *domain* that are no mailbox's."""
        found = self.target(domain)
        return Restriction(found.receive, found.reason)

    def of_mailbox(self, mailbox: Mailbox, domain: str) -> Restriction:
        """Who may send to the mailbox at an address in *domain*, but for accepted senders."""
        if mailbox.receive is not Receive.INHERIT:
            return Restriction(mailbox.receive, mailbox.reason)
        groups = [group for group in self.groups_of(mailbox.party) if group.receive.is_restriction]
        if groups:
            strictest = max(groups, key=lambda group: group.receive.strictness)
            return Restriction(strictest.receive, strictest.reason)
        return self.of_domain(domain)

    def inherits(self, mailbox: Mailbox, addresses: tuple[str, ...]) -> bool:
        """Whether the mailbox is restricted by a group, or at one of its *addresses* by a domain."""
        if mailbox.receive is not Receive.INHERIT:
            return False
        domains = [address.rpartition("@")[2] for address in addresses] or [""]
        return any(self.of_mailbox(mailbox, domain).receive.is_restriction for domain in domains)


def _key(party: Party) -> tuple[PartyKind, str]:
    return party.kind, fold(party.text)
