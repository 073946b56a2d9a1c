"""Follows a database on a server: the replica on this host gets each change as soon as it is committed there.

Nothing that happens to the server or the network stops the daemon: it answers from the replica, which stays at the last
state that came, and this process tries again.

It is one long file because the loop, and what each failure leaves for its next turn, are one state of one process.
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
from policyd.errors import (
    DivergedError,
    NoReplicaError,
    ReplicaSpoiledError,
    SettingsError,
    StoreAwayError,
    StoreError,
    StoreMissingError,
    StoreOutdatedError,
    StoreWriteError,
)
from policyd.files import check_permissions
from policyd.model import Change
from policyd.replica.status import ReplicaStatus, read_status, write_status
from policyd.store.connection import Database
from policyd.store.database import postgresql
from policyd.store.journal import UPGRADE
from policyd.store.replica import Replica, create, make_again
from policyd.store.schema import VERSION
from policyd.store.wal import identity

if TYPE_CHECKING:
    from policyd.store.postgresql import Truth

POLL_SECONDS = 0.5  # between two looks, where nothing tells of a change
BATCH = 1000  # changes in one transaction, unless one changeset has more

SPREAD_SECONDS = 30.0  # over which many hosts begin to copy a whole database

_TRY_SECONDS = 1.0  # until an attempt after one that failed
_LONGER_TRY_SECONDS = 10.0  # the same, while a copy is due later
_COPIES_SECONDS = 300.0  # between two such copies
_STATUS_SECONDS = 5.0
_TIDY_SECONDS = 1.0
_LOOK_SECONDS = 60.0  # between two looks at the whole file, which somebody could not read

Beat = Callable[[str], bool]  # a sign of life, with how things are; whether to go on


class _StoppedError(Exception):
    """The parent wants no more."""


class _AnotherError(StoreError):
    """The database is another one altogether."""


class _NewerError(StoreError):
    """The database's tables are of a newer version."""


def prepare(database: Database, path: Path, on_page: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """Make the replica at *path* if there is none yet, or one that can't be read; upgrade one of an older policyd.

    Returns which file it is: device and inode. *on_page* is called all the time. Raises StoreError, and SettingsError
    where what the settings say of *database* can't be used.
    """
    check_permissions(path)
    postgresql().need_usable(database)
    try:
        _look_at(path)
        return identity(path)[0]
    except StoreWriteError:
        return identity(path)[0]  # it may be good to answer from
    except StoreMissingError:
        make, problem = create, "there is no replica yet, and it can't be made"
    except ReplicaSpoiledError as error:
        make, problem = make_again, f"{str(error).removeprefix(f'{path}: ')}; and it can't be copied again"
    try:
        with postgresql().following(database) as truth, truth.all() as (position, rows):
            make(path, position, rows, on_page)
    except StoreError as error:
        raise type(error)(f"{path}: {problem}: {str(error).removeprefix(f'{path}: ')}") from error
    return identity(path)[0]


def _look_at(path: Path) -> None:
    """Open the replica at *path*, and make one of an older policyd one of this one. Raises StoreError."""
    try:
        Replica(path).close()
    except StoreOutdatedError:
        from policyd.store.upgrade import upgrade_replica  # Alembic takes a fifth of a second

        upgrade_replica(path)
        Replica(path).close()


class Follower:
    """Keeps the replica at *path* equal to *database*. *audit* gets what happens; *beat* is called all the time.

    *prepared* is the file that was a replica before this began: where it is none any more, it is damaged, and not
    somebody else's. *is_doubted* tells whether somebody could not read it since it was asked last. Where many hosts
    must copy the whole database again, each begins at some moment of so many *spread_seconds*.
    """

    def __init__(
        self,
        database: Database,
        path: Path,
        audit: AuditLog,
        beat: Beat,
        prepared: tuple[int, int] | None = None,
        is_doubted: Callable[[], bool] = lambda: False,
        spread_seconds: float = SPREAD_SECONDS,
    ) -> None:
        self._database = database
        self._path = path
        self._audit = audit
        self._tell = beat
        self._is_doubted = is_doubted
        self._spread_seconds = spread_seconds
        self._status = replace(_last_status(path), source=str(database), problem="")
        self._told: set[str | type] = set()  # problems, since it was followed last
        self._written_at = 0.0  # the status, as time.monotonic() counts
        self._tidied_at = 0.0
        self._looked_at = -_LOOK_SECONDS
        self._file = prepared  # which one was a replica
        self._copied_at = -_COPIES_SECONDS
        self._copy_due: float | None = None  # where the whole database must be copied

    def run(self) -> None:
        """Follow until the parent wants no more."""
        is_checked = is_doubted = False  # whether the file is sound, as a disk may have left it
        try:
            while True:
                try:
                    with self._opened() as replica:
                        if not is_checked:
                            replica.need_sound(is_thorough=is_doubted)
                            is_checked, is_doubted = True, False
                        self._follow(replica)
                        is_checked, is_doubted = False, True  # only who opens it anew reads what is on the disk
                except (DivergedError, ReplicaSpoiledError) as error:
                    self._have_problem(error)
                    self._copy_when_due(is_spoiled=isinstance(error, ReplicaSpoiledError))
                except (StoreError, SettingsError) as error:
                    self._have_problem(error)
                    self._pause(_TRY_SECONDS * random.uniform(0.5, 1.5))
        except _StoppedError:
            self._write_status(is_due=True)

    @contextmanager
    def _opened(self) -> Iterator[Replica]:
        if not self._path.exists():
            self._file = prepare(self._database, self._path, self._beat)
        try:
            replica = Replica(self._path)
        except NoReplicaError as error:
            if identity(self._path)[0] != self._file:
                raise
            raise ReplicaSpoiledError(f"{self._path}: damaged: it no longer begins as a replica") from error
        self._file = identity(self._path)[0]
        try:
            position = replica.position
            self._know(history=position.history, id=position.id, digest=position.digest)
            yield replica
        finally:
            replica.close()

    def _follow(self, replica: Replica) -> None:
        """Bring *replica* up to date again and again, over one connection, until somebody could not read it."""
        with (
            postgresql().listening(self._database) as wait,
            postgresql().following(self._database) as truth,
        ):
            self._need_same_history(replica, truth)
            while True:
                while self._catch_up(replica, truth):
                    self._beat()
                replica.need_place()
                self._have_no_problem()
                self._tidy(replica)
                self._beat()
                if self._is_doubted() and time.monotonic() - self._looked_at >= _LOOK_SECONDS:
                    self._looked_at = time.monotonic()
                    return
                wait(POLL_SECONDS)

    def _need_same_history(self, replica: Replica, truth: "Truth") -> None:
        """Raises _AnotherError where the database is not the one that was followed, DivergedError where it has less."""
        head, _ = truth.head()
        position = replica.position
        if head.history != position.history:
            raise _AnotherError(
                f"{self._database} is another database (history {head.history}) than the replica has followed "
                f"(history {position.history}); to follow it, stop policyd, remove {self._path}, and start policyd"
            )
        self._know(behind=max(0, head.id - position.id))
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
        self._reached(replica, behind=0 if is_all else max(0, truth.head()[0].id - changes[-1].id))
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
        position = replica.position
        self._reached(replica, behind=max(0, truth.head()[0].id - position.id))

    def _known(self, changes: list[Change]) -> list[Change]:
        """The first of *changes*, up to an upgrade to a newer policyd: what comes then, only that one knows.

        Raises _NewerError where the upgrade comes first.
        """
        for number, change in enumerate(changes):
            version = json.loads(change.after or "{}").get("schema", 0) if change.operation == UPGRADE else 0
            if version > VERSION:
                if not number:
                    raise _NewerError(
                        f"{self._database} was upgraded at change {change.id}, to tables of version {version}; this "
                        f"policyd knows version {VERSION}: install a newer one here, and restart it"
                    )
                return changes[:number]
        return changes

    def _copy_when_due(self, *, is_spoiled: bool) -> None:
        """Copy the whole database again: not all hosts at once, and not again and again.

        Until then the caller looks now and then whether it can be followed after all, as where a name leads to the
        former server for a moment.
        """
        now = time.monotonic()
        if self._copy_due is None:
            spread = 0.0 if is_spoiled else random.uniform(0, self._spread_seconds)
            self._copy_due = max(now + spread, self._copied_at + _COPIES_SECONDS)
        if now < self._copy_due:
            self._pause(min(self._copy_due - now, _LONGER_TRY_SECONDS))
            return
        self._copy_due = None
        try:
            self._copy(is_spoiled=is_spoiled)
            self._copied_at = time.monotonic()
        except (StoreError, SettingsError) as error:
            self._have_problem(error)
            most = _LONGER_TRY_SECONDS if is_spoiled else self._spread_seconds  # nobody may be hung up on for long
            self._copy_due = time.monotonic() + _TRY_SECONDS + random.uniform(0, most)

    def _copy(self, *, is_spoiled: bool) -> None:
        with postgresql().following(self._database) as truth, truth.all() as (position, rows):
            if self._status.history not in ("", position.history):
                return  # that is told when it is followed again
            if is_spoiled:
                make_again(self._path, position, rows, self._beat)
                self._file = identity(self._path)[0]
            else:
                with self._opened() as replica:
                    replica.rebuild(position, rows, self._beat)
        self._know(history=position.history, id=position.id, digest=position.digest, behind=0)
        self._write_status(is_due=True)
        self._audit.noticed("replica-copied", change=position.id, digest=position.digest)

    # --- How it goes ---

    def _reached(self, replica: Replica, behind: int) -> None:
        position = replica.position
        self._know(id=position.id, digest=position.digest, history=position.history, behind=behind)
        self._write_status(is_due=False)

    def _have_problem(self, error: StoreError | SettingsError) -> None:
        """Log it once for each cause until it is followed again: one that is away is so in many words."""
        cause = type(error) if isinstance(error, (StoreAwayError, DivergedError)) else str(error)
        if cause not in self._told:
            self._told.add(cause)
            self._audit.warned(f"the replica is not followed: {error}", change=self._status.id)
        self._know(problem=str(error))
        self._write_status(is_due=True)

    def _have_no_problem(self) -> None:
        if self._told:
            self._audit.noticed("replica-followed", change=self._status.id, age=self._status.age(int(time.time())))
        is_due = bool(self._told) or not self._status.current_at
        self._told.clear()
        self._copy_due = None
        self._know(problem="", current_at=int(time.time()), behind=0)
        self._write_status(is_due=is_due)

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
        self._audit.flush()
        self._write_status(is_due=False)
        if not self._tell(self._status.told()):
            raise _StoppedError

    def _pause(self, seconds: float) -> None:
        """Wait so long, with signs of life."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._beat()
            time.sleep(min(left, POLL_SECONDS))
        self._beat()


def _last_status(path: Path) -> ReplicaStatus:
    """What is known of the replica at *path* from before; of a time that is still to come, nothing."""
    try:
        status = read_status(path)
    except StoreError:
        return ReplicaStatus()
    return status if status.current_at <= time.time() else replace(status, current_at=0)


def _diverged(number: int, here: str, there: str) -> DivergedError:
    return DivergedError(
        f"the database's journal is another one than the replica has followed: change {number} has the digest "
        f"{there or 'of nothing'} there, and {here} here; the whole database is copied again"
    )
