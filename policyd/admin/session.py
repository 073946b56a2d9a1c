"""How any face reads the tables and changes them: a transaction, its journal, and after the commit the audit."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from policyd.files import check_permissions
from policyd.model import Change
from policyd.settings import AuditSettings, Settings
from policyd.store.connection import Connection, Database
from policyd.store.database import changing, create_database, exists, reading
from policyd.store.queries import Queries

if TYPE_CHECKING:
    from policyd.store.spool import Spool


class _DiscardedError(Exception):
    """Ends a transaction without keeping anything."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The one line in the audit for a changeset of more than *above* changes, instead of a line for each."""

    operation: str
    about: str
    above: int = 0


class Changing:
    """A changeset that is being made by `edit`, over `connection`; afterwards, what came of it.

    `changes` are the changes, of a changeset that gets a `Summary` only those up to its limit, and one more; with a
    *spool* they are in that. `count` is how many there are. `is_logged` is false where syslog took no line.
    """

    def __init__(
        self,
        connection: Connection,
        actor: str,
        now: int,
        verb: str,
        summary: Summary | None,
        recipient_delimiter: str,
        spool: "Spool[Change] | None" = None,
    ) -> None:
        from policyd.store.edit import Editor  # who only reads needs neither
        from policyd.store.journal import Journal

        self._limit = None if summary is None else summary.above + 1
        collect: Callable[[Change], None] | None = None
        if spool is not None:
            collect = spool.put
        elif summary is None or summary.above > 0:
            collect = self._collect
        self._journal = Journal(connection, actor, now, verb=verb, on_change=collect)
        self._is_discarded = False
        self.connection = connection
        self.edit = Editor(connection, self._journal, recipient_delimiter)
        self.changes: list[Change] = []
        self.is_kept = False
        self.is_logged = True

    @property
    def count(self) -> int:
        """How many changes there are."""
        return self._journal.count

    @property
    def changeset(self) -> int | None:
        """The number of the changeset, None where nothing was changed, or nothing is kept."""
        return self._journal.changeset if self.count and self.is_kept else None

    def discard(self) -> None:
        """Keep nothing of it: the tables will be as they were."""
        self._is_discarded = True

    def _collect(self, change: Change) -> None:
        if self._limit is None or len(self.changes) < self._limit:
            self.changes.append(change)

    def _end(self) -> None:
        """The last thing in the transaction."""
        if self._is_discarded:
            raise _DiscardedError
        self.is_kept = True


def open_session(settings: Settings, on_wait: Callable[[str], None] | None = None) -> "Session":
    """The way to the tables that *settings* name; *on_wait* is the `Database`'s.

    Raises StoreError where others could write or swap the database.
    """
    database = Database.of(settings, on_wait)
    if not database.is_on_server:
        check_permissions(database.path)
    return Session(database, settings.audit, settings.recipient_delimiter)


class Session:
    """The tables of *database*, and the audit for what is changed in them; *recipient_delimiter* is the setting."""

    def __init__(self, database: Database, audit: AuditSettings, recipient_delimiter: str = "") -> None:
        self.database = database
        self._audit = audit
        self._recipient_delimiter = recipient_delimiter

    @contextmanager
    def reading(self, *, limit_seconds: float | None = None) -> Iterator[Queries]:
        """One state of the tables, for *limit_seconds* at most, if that is given. Raises StoreError."""
        with reading(self.database, limit_seconds=limit_seconds) as connection:
            yield Queries(connection, self._recipient_delimiter)

    @contextmanager
    def changing(
        self,
        actor: str,
        now: int,
        *,
        verb: str = "",
        summary: Summary | None = None,
        may_create: bool = False,
        is_bulk: bool = False,
        journal_from: int | None = None,
        spool: "Spool[Change] | None" = None,
    ) -> Iterator[Changing]:
        """A changeset by *actor* at *now*, in Unix seconds: kept, then logged, if the block ends well.

        *verb*, if given, is what the journal calls each change: import, undo. What can be the first change of all
        *may_create* the database. *is_bulk* says that there may be thousands of changes, which read of the journal what
        is *journal_from* on. A changeset of any length goes to a *spool*. Raises StoreError.
        """
        if may_create and not exists(self.database):
            create_database(self.database, exist_ok=True)
        made: Changing | None = None
        with (
            suppress(_DiscardedError),
            changing(self.database, is_bulk=is_bulk, journal_from=journal_from) as connection,
        ):
            made = Changing(connection, actor, now, verb, summary, self._recipient_delimiter, spool)
            yield made
            made._end()

        # Only what is committed is logged: a line about something that was rolled back would be a lie.
        if made is not None and made.is_kept and made.count:
            changes: Iterable[Change] = made.changes if spool is None else spool
            if summary is not None and made.count > summary.above:
                number, after = made.changeset or 0, json.dumps({"changes": made.count})
                changes = [Change(number, now, actor, number, summary.operation, summary.about, None, after)]
            made.is_logged = self.log(changes)

    def log(self, changes: Iterable[Change]) -> bool:
        """Log *changes*, which are committed; whether syslog took every line.

        A terminal is no log: who types a command there reads from the command itself what it did.
        """
        if self._audit.syslog == "stderr" and sys.stderr is not None and sys.stderr.isatty():
            return True
        from policyd.audit import AuditLog
        from policyd.syslog import open_sink

        audit = AuditLog(self._audit, open_sink(self._audit))
        for change in changes:
            audit.changed(change)
            audit.keep_up()
        return not audit.close()
