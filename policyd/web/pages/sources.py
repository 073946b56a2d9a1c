"""What pages are made from, and how long a page may ask the tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from policyd.admin.session import Session
from policyd.counters import CounterPage
from policyd.errors import StoreError
from policyd.refusals import RefusalRing
from policyd.settings import Settings
from policyd.web.pages.minutes import Minutes

LIMIT_SECONDS = 5.0  # for the questions of one page
_WAIT_SECONDS = 10.0  # for the pages before it
JOURNAL_ROWS = 50_000  # that one page looks at


@dataclass(frozen=True)
class Sources:
    """The *settings*, the tables of *session*, and what the daemon's processes count and keep in shared memory.

    *file_lock* is held while tables are read: one page after the other reads them.
    """

    settings: Settings
    session: Session
    counters: CounterPage
    refusals: RefusalRing
    minutes: Minutes = field(default_factory=Minutes)
    file_lock: Lock = field(default_factory=Lock)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The time in which one page reads the tables. Raises StoreError where too many others want that, too."""
        if not self.file_lock.acquire(timeout=_WAIT_SECONDS):
            raise StoreError("too many pages ask the tables at the moment; try again")
        try:
            yield
        finally:
            self.file_lock.release()
