"""Upgrades the tables of an older policyd: a backup beside the database first, then all revisions in one transaction.

Alembic runs the revisions in `policyd.store.migrations`. Which version the tables have, their own number says;
Alembic's table is there only while it works, so that there are no two that could differ. This module is imported by the
one command that needs it: Alembic takes a fifth of a second.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, Table, bindparam, create_engine, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import DropTable

from policyd.errors import StoreError, StoreSpoiledError, StoreWriteError, reason_of
from policyd.files import acting, drafting, entered, owner_of
from policyd.model import Change
from policyd.pipe_watch import watching
from policyd.store import migrations
from policyd.store.backup import Progress, copy_database, empty_file, opened_again
from policyd.store.check import objects_in
from policyd.store.connection import Connection, Database, Statement
from policyd.store.database import (
    SQLITE,
    begin_writing,
    check_objects,
    connect_upgrading,
    empty_log,
    file_uri,
    give_away,
    missing_error,
    postgresql,
    store_error,
    version_of,
)
from policyd.store.journal import UPGRADE, Journal
from policyd.store.schema import VERSION, change, journal_head
from policyd.store.wal import are_open

_SCRIPTS = Path(migrations.__file__).parent
VERSIONS = [_SCRIPTS / "versions"]  # the folders with revisions
_ALEMBICS = "alembic_version"  # its own table
_SHOWN = 3  # things that are not as policyd makes them
_UNTOLD = (
    "BEGIN",
    "SELECT",
    "PRAGMA main",
    "PRAGMA temp",
    "PRAGMA read_uncommitted",
    "--",
    "SHOW",
    "SAVEPOINT",
    "RELEASE",
)  # statements that change nothing
_LAST = Statement(select(journal_head.c.id))
_CHANGES = Statement(select(change).where(change.c.id > bindparam("last")).order_by(change.c.id))
_SET_VERSION = Statement(update(journal_head).values(schema=bindparam("version")))
_MADE = "SELECT tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*' ORDER BY type DESC"
_HEAD_OF_REPLICA = """
    INSERT INTO journal_head (one, history, id, digest, schema, next_mailbox, next_group, next_member, next_accepted,
        next_blocked)
    SELECT 1, history, id, digest, ?, 1, 1, 1, next_accepted, 1 FROM replica
"""
_OF_NOBODY: dict[str, Any] = {"actor": "", "now": 0, "changeset": 1, "notice": lambda text: None}  # in no journal
_ENGINES = {"sqlite": "sqlite://", "postgresql": "postgresql+psycopg://"}


class _DiscardedError(Exception):
    """Ends the transaction without keeping anything."""


@dataclass(slots=True)
class Upgraded:
    """What became of a database: the versions of its tables, the same where there was nothing to do.

    *kept* is the file with what it was; *changes* are the journal's new rows, and *notices* what else people must know.
    """

    before: int = VERSION
    after: int = VERSION
    kept: Path | None = None
    changes: list[Change] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


class Upgrade:
    """Makes the tables in *database* those of this policyd, as a change of *actor*'s at *now*, in Unix seconds.

    *on_progress* hears of the backup's pages.
    """

    def __init__(self, database: Database, actor: str, now: int, on_progress: Progress) -> None:
        self._path = database.path
        self._actor = actor
        self._now = now
        self._on_progress = on_progress
        self._outcome = Upgraded()

    def run(self) -> Upgraded:
        """Upgrade: all of it or nothing, one after the other where several try.

        Raises StoreError where that can't be; the database is as it was.
        """
        with self._transaction() as driver:
            self._outcome.before = version_of(self._path, driver)
            if self._outcome.before < VERSION:
                self._need_known(driver)
                self._keep_and_change(driver)
        empty_log(self._path)
        return self._outcome

    def statements(self) -> list[str]:
        """What `run` would do, as SQL: it is done, noted, and rolled back. Raises StoreError."""
        told: list[str] = []

        def note(statement: str) -> None:
            if not statement.lstrip().startswith(_UNTOLD):
                told.append(f"{statement.strip()};")

        try:
            with self._transaction() as driver:
                self._outcome.before = version_of(self._path, driver)
                if self._outcome.before < VERSION:
                    self._need_known(driver)
                    driver.set_trace_callback(note)
                    self._change(driver)
                    driver.set_trace_callback(None)
                raise _DiscardedError
        except _DiscardedError:
            empty_log(self._path)
        return told

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The write lock on the database, until the block ends."""
        try:
            owner = owner_of(self._path)
        except FileNotFoundError as error:
            raise missing_error(self._path, error) from error
        self._path = Path(os.path.realpath(self._path))  # SQLite has its files beside that
        try:
            with entered(_begun(Database.at(self._path)), owner) as driver:
                yield driver
        except (DBAPIError, sqlite3.Error) as error:
            if _code_of(error) == sqlite3.SQLITE_FULL and self._outcome.kept is not None:
                # Nothing was committed, and the next try needs the room.
                with acting(owner), suppress(FileNotFoundError):
                    self._outcome.kept.unlink()
            raise self._error(error) from error

    def _need_known(self, driver: sqlite3.Connection) -> None:
        """Raises StoreError where the tables are not as that policyd made them: a revision could lose something."""
        check_objects(self._path, driver)
        has = objects_in(driver)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
            run_revisions(memory, 0, self._outcome.before, _OF_NOBODY)
            wants = objects_in(memory)
        others = [name for name in sorted({*has, *wants}) if has.get(name) != wants.get(name)]
        if others:
            what = ", ".join(each.encode("ascii", "backslashreplace").decode() for each in others[:_SHOWN])
            raise StoreError(
                f"{self._path}: not as policyd {self._outcome.before} made it, and nothing was changed: {what}; put "
                "right what was added, altered or removed there, or restore a backup"
            )

    def _keep_and_change(self, driver: sqlite3.Connection) -> None:
        # Keep what is about to be changed: the file gets its name when all is done but the commit.
        self._outcome.kept = kept = _free_name(self._path, self._outcome.before)
        try:
            with entered(drafting(kept), owner_of(self._path)) as draft:
                with acting(owner_of(self._path)):
                    _copy(self._path, draft, kept, self._on_progress)
                self._change(driver)

                # A commit to a file that is no longer at this path would be lost without a word.
                if not are_open(self._path):
                    raise StoreWriteError(
                        f"{self._path}: the file, or -wal or -shm beside it, was removed or replaced meanwhile, "
                        "nothing was changed: do it again"
                    )
        except OSError as error:
            raise StoreWriteError(
                f"{kept}: nothing was changed: what the database is now can't be kept: {reason_of(error)}"
            ) from error

    def _change(self, driver: sqlite3.Connection) -> None:
        """Run the revisions, and note in the journal that they ran."""
        outcome = self._outcome
        ((last,),) = driver.execute('SELECT coalesce(max(id), 0) FROM "change"').fetchall()
        attributes = {"actor": self._actor, "now": self._now, "changeset": last + 1, "notice": outcome.notices.append}
        run_revisions(driver, outcome.before, VERSION, attributes)
        connection = Connection(driver, SQLITE)
        _note(connection, outcome, last, self._actor, self._now, _text(self._path))
        driver.execute(f"PRAGMA user_version = {VERSION}")

    def _error(self, error: DBAPIError | sqlite3.Error) -> StoreError:
        if _code_of(error) == sqlite3.SQLITE_CONSTRAINT:
            cause = error.orig if isinstance(error, DBAPIError) else error
            return StoreError(
                f"{self._path}: a row breaks a rule of the new tables, and nothing was changed: {cause}; the older "
                "policyd's own database check tells which row"
            )
        return store_error(self._path, error)


class ServerUpgrade:
    """The same for a *database* on a server, whose tables are changed where they are: no backup is made."""

    def __init__(self, database: Database, actor: str, now: int) -> None:
        self._database = database
        self._actor = actor
        self._now = now
        self._outcome = Upgraded()

    def run(self) -> Upgraded:
        """Upgrade: all of it or nothing, one after the other where several try. Raises StoreError."""
        with postgresql().upgrading(self._database) as (connection, version):
            self._outcome.before = version
            if version < VERSION:
                self._change(connection)
        return self._outcome

    def statements(self) -> list[str]:
        """What `run` would do, as SQL: it is done, noted, and rolled back. Raises StoreError."""
        told: list[str] = []
        with suppress(_DiscardedError), postgresql().upgrading(self._database) as (connection, version):
            if version < VERSION:
                told = postgresql().statements_of(connection)
                self._outcome.before = version
                self._change(connection)
            raise _DiscardedError
        told = [f"{each.strip()};" for each in told if not each.lstrip().startswith(_UNTOLD)]
        return ["BEGIN;", *told, "COMMIT;"] if told else []

    def _change(self, connection: Connection) -> None:
        ((last,),) = connection.fetch(_LAST)
        outcome = self._outcome
        attributes = {"actor": self._actor, "now": self._now, "changeset": last + 1, "notice": outcome.notices.append}
        run_revisions(connection.driver, outcome.before, VERSION, attributes, "postgresql")
        _note(connection, outcome, last, self._actor, self._now, str(self._database))


def _note(connection: Connection, outcome: Upgraded, last: int, actor: str, now: int, name: str) -> None:
    """Note in the journal, which ended with change *last*, that the tables are new: rows below it are in old words."""
    connection.run(_SET_VERSION, VERSION)
    journal = Journal(connection, actor, now)
    journal.changeset = last + 1
    before = {"schema": outcome.before, "file": _text(outcome.kept) if outcome.kept else None}
    journal.write(UPGRADE, name, _json(before), _json({"schema": VERSION}))
    connection.finish()
    outcome.changes = [Change(*row) for row in connection.fetch(_CHANGES, last)]


def upgrade_replica(path: Path) -> None:
    """Make the tables of the replica at *path* those of this policyd, whatever becomes of its database meanwhile.

    All of it or nothing. Raises StoreError.
    """
    try:
        with entered(_begun(Database.at(path), takes_replica=True), owner_of(path)) as driver:
            version = version_of(path, driver, takes_replica=True)
            if version == VERSION:
                return

            # A revision finds all tables: those that a replica does without are there meanwhile.
            there = {name for (name,) in driver.execute("SELECT tbl_name FROM sqlite_schema")}
            with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
                run_revisions(memory, 0, version, _OF_NOBODY)
                made = memory.execute(_MADE).fetchall()
            lacking = [(table, sql) for table, sql in made if table not in there]
            for _, sql in lacking:
                driver.execute(sql)
            driver.execute(_HEAD_OF_REPLICA, (version,))
            run_revisions(driver, version, VERSION, _OF_NOBODY)
            for name in {table for table, _ in lacking}:
                driver.execute(f'DROP TABLE IF EXISTS "{name}"')
            driver.execute(f"PRAGMA user_version = {VERSION}")
        empty_log(path)
    except (DBAPIError, sqlite3.Error) as error:
        raise store_error(path, error) from error


@contextmanager
def _begun(database: Database, *, takes_replica: bool = False) -> Iterator[sqlite3.Connection]:
    """A DBAPI connection with the write lock; what was done is committed if the block ends well, else rolled back."""
    with closing(connect_upgrading(database, takes_replica=takes_replica)) as driver:
        begin_writing(database, driver)
        yield driver
        driver.execute("COMMIT")


def _copy(path: Path, draft: Path, kept: Path, on_progress: Progress) -> None:
    """Copy the database at *path* to *draft*, to be called *kept*, and check that the disk has all of it.

    The write lock is held, by another connection: SQLite doesn't copy what a connection itself may be changing.
    """
    with watching(path):
        now = sqlite3.connect(f"{file_uri(path)}?mode=ro", uri=True, isolation_level=None)
    with closing(now), empty_file(draft) as copy:
        copy_database(now, copy, kept, on_progress)
    give_away(draft)
    with opened_again(draft) as copy:
        ((report,),) = copy.execute("PRAGMA integrity_check(1)").fetchall()
    if report != "ok":
        raise StoreSpoiledError(
            f"{path}: damaged, and nothing was changed: SQLite says: {' '.join(report.split())}; restore a backup"
        )


def _code_of(error: DBAPIError | sqlite3.Error) -> int:
    """SQLite's code for *error*, without what it adds."""
    return getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlite_errorcode", 0) & 0xFF


def run_revisions(driver: Any, since: int, to: int, attributes: dict[str, Any], engine_name: str = "sqlite") -> None:
    """Make the tables of version *since*, 0 for none at all, those of version *to*, in the transaction there is.

    What the revisions must know is in *attributes*: see the `upgrade` of each.
    """
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(str(each).replace("%", "%%") for each in VERSIONS))
    engine = create_engine(_ENGINES[engine_name], creator=lambda: driver, poolclass=StaticPool)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        if since:
            command.stamp(config, f"{since:04}")
        command.upgrade(config, f"{to:04}")
        connection.execute(DropTable(Table(_ALEMBICS, MetaData())))


def _free_name(path: Path, version: int) -> Path:
    """A name beside *path* for what its tables were in that *version*, which nothing has yet."""
    name = f"{path}.before-{version}"
    number = 1
    while os.path.lexists(name):
        number += 1
        name = f"{path}.before-{version}.{number}"
    return Path(name)


def _text(path: Path) -> str:
    """A name for the journal, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
