"""What is seen of the tables and the replica from time to time, by a thread, for metrics and `/readyz`."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from policyd.errors import PolicydError, StoreError
from policyd.replica.status import ReplicaStatus, read_status
from policyd.settings import Settings
from policyd.store.connection import Database
from policyd.store.lookup import Lookup
from policyd.store.queries import STANDING_TABLES, Queries
from policyd.web.context import BusyError, WebContext

_FRESH_SECONDS = 5.0  # for so long what was seen is shown again
_COUNTED_SECONDS = 60.0  # for so long rows are not counted again: a million take a moment


@dataclass(frozen=True, slots=True)
class Seen:
    """The tables from which this host answers, as they were seen last; `problem` says why they can't be read, or "".

    `change` is the number of their last change, `changed_at` when that was. `entries` are how many rows of each table
    stand and how many have ended. Of a replica, for how many seconds it may have missed changes, and how many it is
    known to miss.
    """

    problem: str = ""
    change: int = 0
    changed_at: int = 0
    entries: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: dict.fromkeys(STANDING_TABLES.values(), (0, 0))
    )
    lag_seconds: int = 0
    changes_behind: int = 0


class Observer:
    """Looks at the tables in a thread, at most every few seconds, however many ask."""

    def __init__(self, context: WebContext, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._monotonic = monotonic
        self._seen = Seen(problem="nobody has looked yet")
        self._seen_at = self._counted_at = float("-inf")
        self._waiting: list[Deferred[Seen]] | None = None  # those who wait for a look that is under way

    def observe(self) -> Deferred[Seen]:
        """What there is, seen a moment ago."""
        if self._monotonic() - self._seen_at < _FRESH_SECONDS:
            return succeed(self._seen)
        waits: Deferred[Seen] = Deferred()
        if self._waiting is None:
            self._waiting = [waits]
            self._context.threads.call(self._look).addCallbacks(self._keep, self._give_up)
        else:
            self._waiting.append(waits)
        return waits

    def _keep(self, seen: Seen) -> None:
        self._seen, self._seen_at = seen, self._monotonic()
        self._tell()

    def _give_up(self, failure: Failure) -> None:
        failure.trap(BusyError)
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for each in waiting:
            each.callback(self._seen)

    def _look(self) -> Seen:
        """Look at the tables, in a thread, as the daemon does."""
        settings, now = self._context.settings, int(time.time())
        try:
            with self._context.file_lock, closing(Lookup(Database.to_answer_from(settings))) as lookup:
                lookup.begin()
                return self._read(Queries(lookup), settings, now)
        except (PolicydError, OSError) as error:
            return replace(self._seen, problem=str(error))

    def _read(self, queries: Queries, settings: Settings, now: int) -> Seen:
        entries = self._seen.entries
        if self._monotonic() - self._counted_at > _COUNTED_SECONDS:
            entries = queries.standing(now)
            self._counted_at = self._monotonic()
        if settings.replica is None:
            change, changed_at = queries.last_change()
            return Seen("", change, changed_at, entries)
        try:
            status = read_status(settings.replica)
        except StoreError:  # nobody has followed yet, since it was copied
            status = ReplicaStatus()
        lag = now - (status.current_at or int(settings.replica.stat().st_mtime))
        changed_at = status.current_at if status.id != self._seen.change else self._seen.changed_at
        return Seen("", status.id, changed_at, entries, max(0, lag), status.behind)
