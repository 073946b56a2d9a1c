"""What every format offers: a reader of records, a writer of the tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from policyd.model import BlockedSender, Domain, Mailbox


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a file, where the format leaves it open.

    `column_separator`, `quote` and `multi_separator` are single characters, of exchange-csv.
    `is_append` adds plain multi-values to those there are instead of replacing them. `into` says what a line of a
    list is: "mailboxes" or "blocked". `domain`, if given, completes addresses that have none.
    """

    column_separator: str = ","
    quote: str = '"'
    multi_separator: str = "%"
    is_append: bool = False
    into: str = ""
    domain: str = ""


class Tables(Protocol):
    """All there is, to be written out; each may be called more than once, and streams."""

    def domains(self) -> Iterator[Domain]:
        """Every managed domain."""

    def mailboxes(self) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """Every mailbox with its addresses, the primary one first."""

    def blocked_senders(self) -> Iterator[BlockedSender]:
        """Every blocked sender, oldest first."""
