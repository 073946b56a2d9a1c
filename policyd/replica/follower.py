"""Follows a database on a server: the replica on this host gets each change as soon as it is committed there.

Nothing that happens to the server or the network stops the daemon: it answers from the replica, which stays at the last
state that came, and this process tries again.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policyd.audit import AuditLog
from policyd.errors import DivergedError, StoreError, StoreOutdatedError
from policyd.model import Change
from policyd.replica.status import ReplicaStatus, write_status
from policyd.store.connection import Database
from policyd.store.database import connect_reading, postgresql
from policyd.store.journal import UPGRADE
from policyd.store.replica import Replica, create
from policyd.store.schema import VERSION

if TYPE_CHECKING:
    from policyd.store.postgresql import Truth

POLL_SECONDS = 0.5  # between two looks, where nothing tells of a change
BATCH = 1000  # changes in one transaction, unless one changeset has more

_TRY_SECONDS = 1.0  # until an attempt after one that failed
_SPREAD_SECONDS = 30.0  # over which many hosts begin to copy a whole database
_COPIES_SECONDS = 300.0  # between two such copies
_STATUS_SECONDS = 5.0
_TIDY_SECONDS = 1.0

Beat = Callable[[str], bool]  # a sign of life, with how things are; whether to go on


class _StoppedError(Exception):
    """The parent wants no more."""


class _AnotherError(StoreError):
    """The database is another one altogether."""


class _NewerError(StoreError):
    """The database's tables are of a newer version."""


def prepare(database: Database, path: Path) -> None:
    """Make the replica at *path* if there is none yet, and of an older policyd's one of this one. Raises StoreError."""
    if path.exists():
        _upgrade(path)
        return
    try:
        with postgresql().following(database) as truth, truth.all() as (position, rows):
            create(path, position, rows, lambda: None)
    except StoreError as error:
        raise type(error)(f"{path}: there is no replica yet, and it can't be made: {error}") from error


def _upgrade(path: Path) -> None:
    """Make the replica of an older policyd one of this one. Raises StoreError."""
    try:
        connect_reading(Database.at(path)).close()
    except StoreOutdatedError:
        from policyd.store.upgrade import upgrade_replica  # Alembic takes a fifth of a second

        upgrade_replica(path)


class Follower:
    """Keeps the replica at *path* equal to *database*. *audit* gets what happens; *beat* is called all the time."""

    def __init__(self, database: Database, path: Path, audit: AuditLog, beat: Beat) -> None:
        self._database = database
        self._path = path
        self._audit = audit
        self._tell = beat
        self._status = ReplicaStatus(source=str(database))
        self._written_at = 0.0  # the status, as time.monotonic() counts
        self._tidied_at = 0.0
        self._copied_at = -_COPIES_SECONDS

    def run(self) -> None:
        """Follow until the parent wants no more."""
        try:
            while True:
                try:
                    with self._opened() as replica:
                        self._follow(replica)
                except StoreError as error:
                    self._have_problem(error)
                    if isinstance(error, DivergedError):
                        self._heal()
                self._pause(_TRY_SECONDS * random.uniform(0.5, 1.5))
        except _StoppedError:
            self._write_status(is_due=True)

    @contextmanager
    def _opened(self) -> Iterator[Replica]:
        prepare(self._database, self._path)
        replica = Replica(self._path)
        try:
            position = replica.position
            self._know(history=position.history, id=position.id, digest=position.digest)
            yield replica
        finally:
            replica.close()

    def _follow(self, replica: Replica) -> None:
        """Bring *replica* up to date again and again, over one connection."""
        with (
            postgresql().listening(self._database) as wait,
            postgresql().following(self._database) as truth,
        ):
            self._need_same_history(replica, truth)
            while True:
                while self._catch_up(replica, truth):
                    self._beat()
                self._have_no_problem()
                self._tidy(replica)
                self._beat()
                wait(POLL_SECONDS)

    def _need_same_history(self, replica: Replica, truth: "Truth") -> None:
        """Raises _AnotherError where the database is not the one that was followed, _NewerError, DivergedError."""
        head, _ = truth.head()
        position = replica.position
        if head.history != position.history:
            raise _AnotherError(
                f"{self._database} is another database (history {head.history}) than the replica has followed "
                f"(history {position.history}); to follow it, stop policyd, remove {self._path}, and start policyd"
            )
        if head.id < position.id:
            raise _diverged(position.id, position.digest, "")

    def _catch_up(self, replica: Replica, truth: "Truth") -> bool:
        """Apply what has come, a batch of whole changesets; whether there may be more already."""
        # The last change that was applied comes along: it shows whether this is still the same journal.
        position = replica.position
        found = truth.changes_from(position.id, BATCH + 1)
        changes = found
        if position.id:
            if not found or (found[0].id, found[0].digest) != (position.id, position.digest):
                is_there = bool(found) and found[0].id == position.id
                raise _diverged(position.id, position.digest, found[0].digest if is_there else "")
            changes = found[1:]
        if not changes:
            return False
        changes = self._known(changes)
        if not changes:
            raise _NewerError(
                f"{self._database} was upgraded at change {position.id + 1}; install that policyd here and restart it"
            )
        is_cut = changes[-1].id < found[-1].id

        # Never half of a changeset: what may go on is left for the next batch, or is a transaction of its own.
        is_all = len(found) <= BATCH or is_cut
        if not is_all:
            whole = [each for each in changes if each.changeset != changes[-1].changeset]
            if not whole:
                self._apply_long(replica, truth, changes)
                return True
            changes = whole
        with replica.changing():
            replica.apply(changes)
        self._reached(replica, behind=0 if is_all else 1)
        return not is_all or is_cut

    def _apply_long(self, replica: Replica, truth: "Truth", changes: list[Change]) -> None:
        """Apply a changeset that is longer than a batch, of which *changes* are the first."""
        changeset = changes[0].changeset
        with replica.changing():
            while changes:
                replica.apply(changes)
                self._beat()
                found = truth.changes_from(changes[-1].id + 1, BATCH)
                changes = [each for each in found if each.changeset == changeset]
        self._reached(replica, behind=1)

    def _known(self, changes: list[Change]) -> list[Change]:
        """The first of *changes*, up to an upgrade to a newer policyd: what comes then, only that one knows."""
        for number, change in enumerate(changes):
            if change.operation == UPGRADE and json.loads(change.after or "{}").get("schema", 0) > VERSION:
                return changes[:number]
        return changes

    def _heal(self) -> None:
        """Copy the whole database again: not all hosts at once, and not again and again."""
        since = time.monotonic() - self._copied_at
        self._pause(random.uniform(0, _SPREAD_SECONDS) if since > _COPIES_SECONDS else _COPIES_SECONDS - since)
        self._copied_at = time.monotonic()
        try:
            with (
                postgresql().following(self._database) as truth,
                truth.all() as (position, rows),
                self._opened() as replica,
            ):
                if position.history != replica.position.history:
                    return  # that is told when it is followed again
                replica.rebuild(position, rows, self._beat)
                self._reached(replica, behind=0)
                self._audit.noticed("replica-copied", change=position.id, digest=position.digest)
        except StoreError as error:
            self._have_problem(error)

    # --- How it goes ---

    def _reached(self, replica: Replica, behind: int) -> None:
        position = replica.position
        self._know(id=position.id, digest=position.digest, history=position.history, behind=behind)
        self._write_status(is_due=False)

    def _have_problem(self, error: StoreError) -> None:
        """Say it once, as long as it is the same."""
        if self._status.problem != str(error):
            self._audit.warned(f"the replica is not followed: {error}", change=self._status.id)
        self._know(problem=str(error))
        self._write_status(is_due=True)

    def _have_no_problem(self) -> None:
        if self._status.problem:
            self._audit.noticed("replica-followed", change=self._status.id, age=self._status.age(int(time.time())))
            self._know(problem="")
            self._written_at = 0.0
        self._know(current_at=int(time.time()), behind=0)
        self._write_status(is_due=False)

    def _know(self, **values: Any) -> None:
        self._status = replace(self._status, **values)

    def _write_status(self, *, is_due: bool) -> None:
        now = time.monotonic()
        if is_due or now - self._written_at > _STATUS_SECONDS:
            self._written_at = now
            write_status(self._path, self._status)

    def _tidy(self, replica: Replica) -> None:
        if time.monotonic() - self._tidied_at > _TIDY_SECONDS:
            self._tidied_at = time.monotonic()
            replica.tidy()

    def _beat(self) -> None:
        if not self._tell(self._status.told(int(time.time()))):
            raise _StoppedError

    def _pause(self, seconds: float) -> None:
        """Wait so long, with signs of life."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._beat()
            time.sleep(min(left, POLL_SECONDS))
        self._beat()


def _diverged(number: int, here: str, there: str) -> DivergedError:
    return DivergedError(
        f"the database's journal is another one than the replica has followed: change {number} has the digest "
        f"{there or 'of nothing'} there, and {here} here; the whole database is copied again"
    )
