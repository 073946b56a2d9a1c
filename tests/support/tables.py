"""A database for tests of decisions: the tables as the daemon reads them, and what a command does to them meanwhile."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from policyd.address import fold, parse_party
from policyd.errors import StoreError
from policyd.model import BlockedSender, Domain, Group, Holder, Membership, Party, PartyKind, Receive, Unlisted
from policyd.store.connection import Database, Statement
from policyd.store.database import changing
from policyd.store.edit import Editor, EntryTerms, Restricted, RestrictionTerms
from policyd.store.lookup import Lookup
from tests.support.waiting import until
from tests.support.writing import editor_on

Found = TypeVar("Found")


@dataclass
class StatementCounter:
    """How many statements ran."""

    count: int = 0


class WatchedTables(Lookup):
    """The daemon's reads of a database file: `reads` names what was asked, in order, and `edit` changes the tables.

    What is asked must be in normal form, as what goes in must be.
    """

    def __init__(self, path: Path) -> None:
        self._counters: list[StatementCounter] = []
        super().__init__(Database.at(path))
        self._at = Database.at(path)
        self.reads: list[str] = []
        self._trouble: StoreError | None = None
        self._meanwhile: list[Callable[[], object]] = []

    # What the daemon asks.

    def begin(self) -> bool:
        """Look at one state of the tables."""
        self._raise_trouble()
        return super().begin()

    def domain(self, name: str) -> Domain | None:
        """The managed domain *name*."""
        assert name, "no domain has an empty name"
        self._ask(f"domain {name}")
        return self._answer(super().domain(name))

    def holder_of(self, address: str) -> Holder | None:
        """The mailbox that has *address*."""
        local, _, domain = address.rpartition("@")
        assert local, f"{address!r} has no local part"
        assert domain, f"{address!r} has no domain"
        assert local == fold(local), f"{address!r} is not in normal form"
        self._ask(f"address {address}")
        return self._answer(super().holder_of(address))

    def mailbox_called(self, folded_name: str) -> Holder | None:
        """The mailbox whose name folds to this."""
        assert folded_name, "no mailbox has an empty name"
        assert folded_name == fold(folded_name), f"{folded_name!r} is not folded"
        self._ask(f"name {folded_name}")
        return self._answer(super().mailbox_called(folded_name))

    def primary_address(self, mailbox_id: int) -> str:
        """The primary address of a mailbox."""
        self._ask(f"primary of {mailbox_id}")
        return self._answer(super().primary_address(mailbox_id))

    def addresses_of(self, mailbox_id: int) -> tuple[str, ...]:
        """The addresses of a mailbox."""
        self._ask(f"addresses of {mailbox_id}")
        return self._answer(super().addresses_of(mailbox_id))

    def groups_of(self, mailbox_id: int) -> tuple[Group, ...]:
        """All groups that a mailbox is in."""
        self._ask(f"groups of {mailbox_id}")
        return self._answer(super().groups_of(mailbox_id))

    def accepted_by(self, *, mailbox_id: int = 0, group_ids: Sequence[int] = (), domain: str = "") -> frozenset[Party]:
        """The accepted senders of all of these."""
        self._ask(f"accepted by {_shown(mailbox_id, group_ids, [domain])}")
        return self._answer(super().accepted_by(mailbox_id=mailbox_id, group_ids=group_ids, domain=domain))

    def entries_of(
        self, mailbox_id: int, group_ids: Sequence[int], patterns: Sequence[str]
    ) -> tuple[BlockedSender, ...]:
        """The blocked senders that are one of these."""
        self._ask(f"entries of {_shown(mailbox_id, group_ids, patterns)}")
        return self._answer(super().entries_of(mailbox_id, group_ids, patterns))

    def entries_of_anyone(
        self, mailbox_id: int, group_ids: Sequence[int], patterns: Sequence[str]
    ) -> tuple[BlockedSender, ...]:
        """The entries of anyone that are to one of these."""
        self._ask(f"anyone to {_shown(mailbox_id, group_ids, patterns)}")
        return self._answer(super().entries_of_anyone(mailbox_id, group_ids, patterns))

    def fetch(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]:
        """All rows that *statement* finds."""
        for counter in self._counters:
            counter.count += 1
        return super().fetch(statement, *values)

    @contextmanager
    def count_statements(self) -> Iterator["StatementCounter"]:
        """Count the statements that run meanwhile."""
        counter = StatementCounter()
        self._counters.append(counter)
        yield counter
        self._counters.remove(counter)

    def settle(self) -> None:
        """Look until nothing is new: a file that was written just now, or that nobody had open, is opened once more."""

        def is_known() -> bool:
            is_new = self.begin()
            self.end()
            return not is_new

        until(is_known, "the tables to stand still")

    # What the administrator does.

    @contextmanager
    def edit(self) -> Iterator[Editor]:
        """What changes the tables, in one transaction, long ago: any end is one to come."""
        with changing(self._at) as connection:
            yield editor_on(connection, now=0)

    def manage(self, name: str, unlisted: Unlisted = Unlisted.REJECT, *, alias_of: str = "") -> None:
        """Add or change a managed domain."""
        with self.edit() as editor:
            if editor.queries.domain(name):
                editor.set_domain(name, unlisted)
            else:
                editor.add_domain(Domain(name, unlisted, alias_of))

    def add_mailbox(self, name: str, *addresses: str) -> None:
        """Make a mailbox that has *addresses*."""
        with self.edit() as editor:
            editor.add_mailbox(name, addresses, "")

    def add_group(self, name: str, *members: str) -> None:
        """Make a group that holds *members*."""
        with self.edit() as editor:
            editor.add_group(name, map(parse_party, members))

    def join(self, group: str, *members: str) -> None:
        """Put *members* into the group, also where that closes a circle, as no command would."""
        with self.edit() as editor:
            for party in editor.resolved(map(parse_party, members)):
                editor._writer.put_membership("group.join", None, Membership(editor.group(group).party, party))

    def restrict(
        self,
        name: str,
        receive: Receive,
        reason: str = "",
        until: int | None = None,
        accepted: Iterable[str] = (),
    ) -> None:
        """Restrict a mailbox."""
        self._restrict(lambda editor: editor.mailbox(name), receive, reason, until, accepted)

    def restrict_group(
        self, name: str, receive: Receive, reason: str = "", until: int | None = None, accepted: Iterable[str] = ()
    ) -> None:
        """Restrict the mailboxes in a group."""
        self._restrict(lambda editor: editor.group(name), receive, reason, until, accepted)

    def restrict_domain(
        self, name: str, receive: Receive, reason: str = "", until: int | None = None, accepted: Iterable[str] = ()
    ) -> None:
        """Restrict the addresses in a domain."""
        self._restrict(lambda editor: editor.domain(name), receive, reason, until, accepted)

    def _restrict(
        self,
        find: Callable[[Editor], Restricted],
        receive: Receive,
        reason: str,
        until: int | None,
        accepted: Iterable[str],
    ) -> None:
        with self.edit() as editor:
            terms = RestrictionTerms(receive, frozenset(map(parse_party, accepted)), reason, until)
            editor.restrict(find(editor), terms)

    def open(self, name: str) -> None:
        """Let a mailbox receive from anyone."""
        with self.edit() as editor:
            editor.open_mailbox(editor.mailbox(name))

    def accept(self, name: str, *senders: str) -> None:
        """Let *senders* send to a mailbox all the same."""
        with self.edit() as editor:
            editor.accept(editor.mailbox(name), map(parse_party, senders))

    def add_address(self, name: str, address: str) -> None:
        """Give a mailbox an address."""
        with self.edit() as editor:
            editor.add_address(name, address)

    def remove_address(self, address: str) -> None:
        """Take an address away: the article's inbound restriction."""
        with self.edit() as editor:
            editor.remove_address(address)

    def block(
        self,
        sender: str,
        to: str = "outside",
        reason: str = "",
        until: int | None = None,
        allowed: Iterable[str] = (),
        allowed_senders: Iterable[str] = (),
    ) -> BlockedSender:
        """Block whoever *sender* is to whomever *to* is, as people write them; such an entry there is, is changed."""
        terms = EntryTerms(
            frozenset(map(parse_party, allowed)), frozenset(map(parse_party, allowed_senders)), reason, until
        )
        with self.edit() as editor:
            return editor.block_sender(
                parse_party(sender, PartyKind.ANYONE), parse_party(to, PartyKind.ANYONE, PartyKind.OUTSIDE), terms
            )

    def unblock(self, entry: BlockedSender) -> None:
        """Take an entry away."""
        with self.edit() as editor:
            editor.remove_entry(entry)

    # What happens to a database.

    def break_with(self, error: StoreError) -> None:
        """Raise *error* at everything that is asked, until `repair`."""
        self._trouble = error

    def repair(self) -> None:
        """Answer again."""
        self._trouble = None

    def meanwhile(self, *changes: Callable[[], object]) -> None:
        """Make each of *changes* just after one of the next reads, as a command in another process would."""
        self._meanwhile += changes

    def _ask(self, read: str) -> None:
        self._raise_trouble()
        self.reads.append(read)

    def _answer(self, found: Found) -> Found:
        if self._meanwhile:
            self._meanwhile.pop(0)()
        return found

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            self.close()  # as after any error
            raise self._trouble


def _shown(mailbox_id: int, group_ids: Sequence[int], rest: Sequence[str]) -> str:
    ids = [str(mailbox_id)] if mailbox_id else []
    return " ".join([*ids, *(f"group {number}" for number in group_ids), *filter(None, rest)])
