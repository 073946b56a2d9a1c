"""The tables in memory, for tests: what `Decider` reads, with the constraints and the temper of the real ones.

What goes in must be in normal form and fit together; what is asked must be in normal form too. Nothing can
be read before `begin`, nor after an error, and what changes before the `end` is not seen.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from policyd.address import fold, is_pattern, normal_domain, normal_name, normal_pattern, parse_address
from policyd.errors import StoreError
from policyd.model import BlockedSender, Domain, Mailbox, Recipients, Unlisted

Found = TypeVar("Found")
UNASKED = "the tables were read before `begin`"


class MemoryTables:
    """Implements `Tables`. Each change moves them; `reads` names what was asked, in order."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self._domains: dict[str, Domain] = {}
        self._mailboxes: dict[int, Mailbox] = {}
        self._addresses: dict[str, int] = {}
        self._entries: dict[int, BlockedSender] = {}
        self._last_id = 0
        self._seen: MemoryTables | None = None  # as things were at `begin`
        self._moved = True
        self._trouble: StoreError | None = None
        self._meanwhile: list[Callable[[], object]] = []

    # What the daemon asks.

    def begin(self) -> bool:
        """Look at the tables as they are now, until `end`: whether they may differ from the last time."""
        self._raise_trouble()
        if self._seen is not None:
            return False
        self._seen = copy.copy(self)
        for name in ("_domains", "_mailboxes", "_addresses", "_entries"):
            setattr(self._seen, name, dict(getattr(self, name)))
        moved, self._moved = self._moved, False
        return moved

    def end(self) -> None:
        """Let go of what was looked at."""
        self._seen = None

    def domain(self, name: str) -> Domain | None:
        """The managed domain *name*."""
        assert name, "no domain has an empty name"
        return self._answer(f"domain {name}", lambda seen: seen._domains.get(name))

    def mailbox_with(self, address: str) -> Mailbox | None:
        """The mailbox that has *address*."""
        local, _, domain = address.rpartition("@")
        assert local, f"{address!r} has no local part"
        assert domain, f"{address!r} has no domain"
        assert local == fold(local), f"{address!r} is not in normal form"
        return self._answer(f"address {address}", lambda seen: seen._mailboxes.get(seen._addresses.get(address, 0)))

    def mailbox_named(self, folded_name: str) -> Mailbox | None:
        """The mailbox whose name folds to this."""
        assert folded_name, "no mailbox has an empty name"
        assert folded_name == fold(folded_name), f"{folded_name!r} is not folded"
        return self._answer(f"name {folded_name}", lambda seen: seen._find(folded_name))

    def entries_for(self, mailbox_id: int, patterns: Sequence[str]) -> tuple[BlockedSender, ...]:
        """The blocked senders that are this mailbox (0 for none) or one of *patterns*."""
        wanted = list(patterns)
        assert all(map(is_pattern, wanted)), f"{wanted} are not all patterns"
        holder = self._mailboxes[mailbox_id].name if mailbox_id else ""
        return self._answer(
            f"entries {' '.join([holder, *wanted]).strip()}",
            lambda seen: tuple(
                entry
                for entry in seen._entries.values()
                if (entry.mailbox and entry.mailbox == holder) or entry.pattern in wanted
            ),
        )

    # What the administrator does.

    def manage(self, name: str, unlisted: Unlisted = Unlisted.REJECT) -> None:
        """Add or change a managed domain."""
        assert name == normal_domain(name), f"{name} is not in normal form"
        self._domains[name] = Domain(name, unlisted)
        self._moved = True

    def add_mailbox(self, name: str, *addresses: str, **fields: Any) -> Mailbox:
        """Make a mailbox that has *addresses*."""
        assert name == normal_name(name), f"{name} is not in normal form"
        assert self._find(fold(name)) is None, f"there is a mailbox {name} already"
        mailbox = Mailbox(name, id=self._next_id())
        self._mailboxes[mailbox.id] = mailbox
        for address in addresses:
            self.add_address(name, address)
        return self.change_mailbox(name, **fields)

    def change_mailbox(self, name: str, **fields: Any) -> Mailbox:
        """Change the fields of a mailbox."""
        mailbox = replace(self._need(name), **fields)
        assert all(pattern == normal_pattern(pattern) for pattern in mailbox.accepted), "not in normal form"
        self._mailboxes[mailbox.id] = mailbox
        self._moved = True
        return mailbox

    def add_address(self, name: str, address: str) -> None:
        """Give a mailbox an address, in a managed domain, that is nobody's yet."""
        parsed = parse_address(address)
        assert address == str(parsed), f"{address} is not in normal form"
        assert parsed.domain in self._domains, f"{parsed.domain} is not managed"
        assert address not in self._addresses, f"{address} is taken"
        self._addresses[address] = self._need(name).id
        self._moved = True

    def remove_address(self, address: str) -> None:
        """Take an address away: the article's inbound restriction."""
        del self._addresses[address]
        self._moved = True

    def block(self, sender: str, to: str = "outside", **fields: Any) -> BlockedSender:
        """Block a mailbox or pattern; *to* is `outside`, `anyone` or a mailbox's name."""
        entry = BlockedSender(
            mailbox="" if is_pattern(sender) else self._need(sender).name,
            pattern=normal_pattern(sender) if is_pattern(sender) else "",
            recipients=Recipients(to) if to in ("outside", "anyone") else Recipients.MAILBOX,
            to_mailbox="" if to in ("outside", "anyone") else self._need(to).name,
            id=self._next_id(),
            **fields,
        )
        assert entry.sender == sender, f"{sender} is not in normal form"
        assert all(pattern == normal_pattern(pattern) for pattern in entry.allowed), "not in normal form"
        self._entries[entry.id] = entry
        self._moved = True
        return entry

    def unblock(self, entry: BlockedSender) -> None:
        """Take an entry away."""
        del self._entries[entry.id]
        self._moved = True

    # What happens to a database.

    def break_with(self, error: StoreError) -> None:
        """Raise *error* at everything that is asked, until `mend`."""
        self._trouble = error

    def mend(self) -> None:
        """Answer again."""
        self._trouble = None

    def meanwhile(self, *changes: Callable[[], object]) -> None:
        """Make each of *changes* just after one of the next reads, as a command in another process would."""
        self._meanwhile += changes

    def _answer(self, read: str, find: Callable[["MemoryTables"], Found]) -> Found:
        self._raise_trouble()
        if self._seen is None:
            raise StoreError(UNASKED)
        self.reads.append(read)
        found = find(self._seen)
        if self._meanwhile:
            self._meanwhile.pop(0)()
        return found

    def _raise_trouble(self) -> None:
        if self._trouble is not None:
            self._seen, self._moved = None, True
            raise self._trouble

    def _find(self, folded_name: str) -> Mailbox | None:
        return next((each for each in self._mailboxes.values() if fold(each.name) == folded_name), None)

    def _need(self, name: str) -> Mailbox:
        mailbox = self._find(fold(name))
        assert mailbox is not None, f"there is no mailbox {name}"
        return mailbox

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id
