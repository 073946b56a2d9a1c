"""The tables as an import reads and changes them, with every object counted."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from policyd.address import fold
from policyd.errors import RefusedError
from policyd.model import Address, Mailbox
from policyd.records import Keep, Mode
from policyd.store import queries
from policyd.store.journal import Kept
from policyd.store.writer import Writer

_Value = TypeVar("_Value")

_DOMAINS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """How rows are applied: by whom, when (Unix seconds), and whether domains that aren't managed are to be."""

    actor: str
    now: int
    add_domains: bool = False


class WaitsError(Exception):
    """What a row lacks, and what may come further down in the file: a mailbox, or an address that is given up."""


class CountedTables:
    """Reads over *connection*, changes by *writer*; what came of the objects is counted in `tally`.

    Keys of `tally` are pairs like ("mailbox", "added"): added, changed, removed, unchanged. `seen`, if set, is told
    each object that the file names, as it stands then.
    """

    def __init__(self, connection: sqlite3.Connection, writer: Writer, options: BulkOptions) -> None:
        self.connection = connection
        self.rows = queries.rows_of(connection)
        self.writer = writer
        self.options = options
        self.is_managed = lru_cache(_DOMAINS_KEPT)(lambda name: queries.domain(self.rows, name) is not None)
        self.tally: Counter[tuple[str, str]] = Counter()
        self.seen: Callable[[Kept], None] | None = None

    def reset(self, tally: Counter[tuple[str, str]]) -> None:
        """Go on as it was when the tally was *tally*, after a rollback to a savepoint."""
        self.tally = tally
        self.is_managed.cache_clear()

    def need_mailbox(self, name: str) -> Mailbox:
        """The mailbox *name*. Raises WaitsError where there is none."""
        mailbox = queries.mailbox_named(self.rows, fold(name))
        if mailbox is None:
            raise WaitsError(f"there is no mailbox {name}")
        return mailbox

    def count(self, kind: str, before: Kept | None, after: Kept | None) -> None:
        """Count what came of an object that was *before*, and tell `seen` of it."""
        what = "unchanged" if before == after else "changed"
        if before is None:
            what = "added"
        elif after is None:
            what = "removed"
        self.tally[kind, what] += 1
        if self.seen is not None and after is not None and not isinstance(after, Address):
            self.seen(after)


def check_mode(mode: Mode, what: str, is_there: bool) -> None:
    """Raises RefusedError where *what* must be there, or must not, to be changed so."""
    if mode is Mode.CREATE and is_there:
        raise RefusedError(f"{what} is there already; the mode Create wants it not to be")
    if mode in (Mode.MODIFY, Mode.DELETE) and not is_there:
        raise RefusedError(f"{what} is not there; the mode {mode.capitalize()} wants it to be")


def given(value: _Value | Keep, current: _Value) -> _Value:
    """What a row gives for a field that is *current*."""
    return current if isinstance(value, Keep) else value
