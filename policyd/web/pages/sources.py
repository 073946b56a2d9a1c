"""What pages are made from, and how long a page may ask the tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from policyd.admin.session import Session, open_session
from policyd.counters import CounterPage
from policyd.errors import StoreError
from policyd.minutes import Minutes
from policyd.refusals import RefusalRing
from policyd.settings import Settings

LIMIT_SECONDS = 5.0  # for the questions of one page
_WAIT_SECONDS = 10.0  # for the pages before it
JOURNAL_ROWS = 20_000  # that one page looks at


@dataclass(frozen=True)
class Sources:
    """The *settings*, and what the daemon's processes count and keep in shared memory.

    Whoever reads a database that is a file holds *file_lock* meanwhile: one page after the other reads it.
    """

    settings: Settings
    counters: CounterPage
    refusals: RefusalRing
    minutes: Minutes
    file_lock: Lock

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """The way to the tables for as long as a page reads them. Raises StoreError, also where too many others do."""
        session = open_session(self.settings)
        if session.database.is_on_server and self.settings.replica is None:
            yield session
            return
        if not self.file_lock.acquire(timeout=_WAIT_SECONDS):
            raise StoreError("too many pages ask the tables at the moment; try again")
        try:
            yield session
        finally:
            self.file_lock.release()
