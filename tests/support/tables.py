"""A database for tests of decisions: the tables as the daemon reads them, and what a command does to them meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from policyd.address import fold
from policyd.errors import StoreError
from policyd.model import BlockedSender, Domain, Mailbox, Party, Receive, Unlisted
from policyd.store.database import Database, changing
from policyd.store.edit import Editor, EntryTerms, RestrictionTerms
from policyd.store.lookup import Lookup
from tests.support.parties import party
from tests.support.writing import editor_on

Found = TypeVar("Found")


class WatchedTables(Lookup):
    """The daemon's reads of a database file: `reads` names what was asked, in order, and `edit` changes the tables.

    What is asked must be in normal form, as what goes in must be.
    """

    def __init__(self, path: Path) -> None:
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

    def mailbox_with(self, address: str) -> Mailbox | None:
        """The mailbox that has *address*."""
        local, _, domain = address.rpartition("@")
        assert local, f"{address!r} has no local part"
        assert domain, f"{address!r} has no domain"
        assert local == fold(local), f"{address!r} is not in normal form"
        self._ask(f"address {address}")
        return self._answer(super().mailbox_with(address))

    def mailbox_named(self, folded_name: str) -> Mailbox | None:
        """The mailbox whose name folds to this."""
        assert folded_name, "no mailbox has an empty name"
        assert folded_name == fold(folded_name), f"{folded_name!r} is not folded"
        self._ask(f"name {folded_name}")
        return self._answer(super().mailbox_named(folded_name))

    def entries_for(self, mailbox_id: int, patterns: Sequence[str]) -> tuple[BlockedSender, ...]:
        """The blocked senders that are this mailbox (0 for none) or one of *patterns*."""
        self._ask(" ".join(["entries", *([f"of {mailbox_id}"] if mailbox_id else []), *patterns]))
        return self._answer(super().entries_for(mailbox_id, patterns))

    # What the administrator does.

    @contextmanager
    def edit(self) -> Iterator[Editor]:
        """What changes the tables, in one transaction, long ago: any end is one to come."""
        with changing(self._at) as connection:
            yield editor_on(connection, now=0)

    def manage(self, name: str, unlisted: Unlisted = Unlisted.REJECT) -> None:
        """Add or change a managed domain."""
        with self.edit() as editor:
            if editor.queries.domain(name):
                editor.set_domain(name, unlisted)
            else:
                editor.add_domain(Domain(name, unlisted))

    def add_mailbox(self, name: str, *addresses: str) -> None:
        """Make a mailbox that has *addresses*."""
        with self.edit() as editor:
            editor.add_mailbox(name, addresses, "")

    def restrict(
        self,
        name: str,
        receive: Receive,
        reason: str = "",
        until: int | None = None,
        accepted: frozenset[Party] = frozenset(),
    ) -> None:
        """Restrict a mailbox."""
        with self.edit() as editor:
            editor.restrict(editor.mailbox(name), RestrictionTerms(receive, accepted, reason, until))

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
        allowed: frozenset[Party] = frozenset(),
    ) -> BlockedSender:
        """Block a mailbox or pattern; *to* is `outside`, `anyone` or a mailbox's name."""
        with self.edit() as editor:
            terms = EntryTerms(allowed=allowed, reason=reason, until=until)
            return editor.block_sender(party(sender), party(to), terms)

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
