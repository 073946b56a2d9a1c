"""Opens a database on a PostgreSQL server, begins transactions on it, and says what its errors mean.

Every wait is bounded: for a host that is gone by libpq's own settings, and for a server that has the connection and
says nothing by a watch on it, since no setting of libpq's bounds that. This is one file, because whoever opens a
connection, changes tables or follows them needs the same bounds and the same words for what goes wrong.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, errors
from sqlalchemy import bindparam, create_mock_engine, insert, select
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.postgresql.psycopg import dialect as psycopg_dialect

from policyd.errors import (
    SettingsError,
    StoreAwayError,
    StoreCreateError,
    StoreError,
    StoreMissingError,
    StoreOutdatedError,
    StoreSpoiledError,
    StoreWriteError,
    reason_of,
)
from policyd.files import open_to_read
from policyd.model import Change
from policyd.store.connection import Connection, Database, Statement
from policyd.store.replica import Position
from policyd.store.rows import Rows, pages_of
from policyd.store.schema import REPLICATED, VERSION, change, first_head, journal_head, metadata

POSTGRESQL = psycopg_dialect(paramstyle="format")  # type: ignore[no-untyped-call]  # SQLAlchemy's own
DEFINING = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own
# An index of some rows is one on a server, too. It is said here: for an option that names an engine, SQLAlchemy loads
# all that it knows of it, and a command on a file needs nothing of PostgreSQL.
for _table in metadata.tables.values():
    for _index in _table.indexes:
        _index.dialect_options["postgresql"]["where"] = _index.dialect_options["sqlite"]["where"]

LOCALE = ("UTF8", "C")  # of the database: its encoding and its collation
CHANNEL = "policyd"  # on which each change is told

_CALL_SECONDS = 60.0  # for one statement
_REVISION_SECONDS = 600.0  # for one of an upgrade
_QUIET_WAIT_SECONDS = 1.0  # for another command, before that is said
_WRITER_WAIT_SECONDS = 600.0  # for another command that is changing the tables
_TABLE_WAIT_SECONDS = 50.0  # for who has locked a table: less than a call may take, so that it is told as what it is
_IDLE_SECONDS = 60  # between two statements of a change: a command that is frozen holds all others up
_BULK_IDLE_SECONDS = 600  # of one with thousands of rows, which may come from a pipe
_LOOK_SECONDS = 0.5
_PASSWORD_BYTES = 4096
_ROWS_AT_ONCE = 2000
_FOLLOWER_SECONDS = 10.0  # for one statement of who follows
_WORD_SECONDS = 5.0  # between two statements of who only waits: a server may end a connection that is idle
# What bounds the wait for a host that is gone; each host of several has its own.
_BOUNDS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20000,
}
_VERSION = Statement(select(journal_head.c.schema).where(journal_head.c.one == bindparam("one")))
_LOCK = Statement(select(journal_head.c.schema).where(journal_head.c.one == bindparam("one")).with_for_update())
_HEAD = Statement(select(journal_head.c.id, journal_head.c.digest).where(journal_head.c.one == bindparam("one")))
_POSITION = Statement(
    select(
        journal_head.c.history,
        journal_head.c.id,
        journal_head.c.digest,
        journal_head.c.next_accepted,
        journal_head.c.schema,
    ).where(journal_head.c.one == bindparam("one"))
)
_CHANGES_FROM = Statement(
    select(change).where(change.c.id >= bindparam("first")).order_by(change.c.id).limit(bindparam("most"))
)
_FIRST_HEAD = Statement(insert(journal_head))
_ADVICE = ("Is the server running", "DETAIL:", "HINT:")  # lines of libpq's beside the reason
_EACH_HOST = "- host: "  # a line of psycopg's for each host of several
_PREFIX = re.compile(f"({_EACH_HOST}.*?: )?connection (failed|is bad): ")  # psycopg's, before libpq's reason
_NOT_YET = re.compile("starting up|shutting down|recovery|not accepting|too many|terminating")
_TRIES = 20  # to learn whether a change was kept
_DIGEST = Statement(select(change.c.digest).where(change.c.id == bindparam("id")))


class ServerConnection(Connection):
    """A transaction on a server's tables."""

    __slots__ = ("_cursors",)

    def __init__(self, driver: psycopg.Connection[tuple[Any, ...]]) -> None:
        super().__init__(driver, POSTGRESQL)
        self._cursors = 0

    def stream(self, statement: Statement, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The rows that *statement* finds, some at a time; others may run meanwhile."""
        self._run_late_before(statement)
        self._cursors += 1
        with self.driver.cursor(name=f"rows_{self._cursors}") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(statement.text(POSTGRESQL), values)
            yield from cursor

    def run_each(self, statement: Statement, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run *statement*, which finds nothing, with the values of each of *rows*."""
        with self.driver.cursor() as cursor:
            cursor.executemany(statement.text(POSTGRESQL), rows)

    def copy_in(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add *rows* to the *table* of this name."""
        with self.driver.cursor() as cursor, cursor.copy(f'COPY "{table}" FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)


@contextmanager
def reading(database: Database, *, limit_seconds: float | None = None) -> Iterator[Connection]:
    """A connection that sees one state of the tables; a statement takes *limit_seconds* at most. Raises StoreError."""
    with _connected(database) as driver:
        driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if limit_seconds is not None:
            driver.execute(f"SET LOCAL statement_timeout = {1000 * limit_seconds:.0f}")
        connection = ServerConnection(driver)
        _need_version(database, connection.fetch(_VERSION, 1))
        yield connection
        driver.execute("ROLLBACK")


@contextmanager
def changing(database: Database, *, is_bulk: bool = False) -> Iterator[Connection]:
    """The one connection that may change the tables, in one transaction, kept if the block ends well.

    One that *is_bulk* may wait for its next row for minutes. Raises StoreError, with the tables as they were; where it
    is not known whether they are, it says so.
    """
    with _connected(database, is_writer=True) as driver:
        # Nobody else writes from here on: the row is locked before anything is read.
        driver.execute("BEGIN")
        _bound_idling(driver, _BULK_IDLE_SECONDS if is_bulk else _IDLE_SECONDS)
        connection = ServerConnection(driver)
        _need_version(database, _locked(database, connection))
        yield connection
        connection.finish()
        _keep(database, connection)


def _bound_idling(driver: "_WatchedConnection", seconds: float) -> None:
    """Bound how long others wait for this transaction where it does nothing."""
    driver.execute(f"SET LOCAL idle_in_transaction_session_timeout = {1000 * seconds:.0f}")


def _bound_waiting(driver: "_WatchedConnection", seconds: float) -> None:
    """Bound how long this transaction waits for what others have locked."""
    driver.execute(f"SET LOCAL lock_timeout = {1000 * seconds:.0f}")


def _locked(database: Database, connection: ServerConnection) -> list[tuple[Any, ...]]:
    """What the head says of the version, with the write lock; who waits for it longer than a second is told, once."""
    driver: _WatchedConnection = connection.driver
    _bound_waiting(driver, _QUIET_WAIT_SECONDS)
    connection.set_savepoint()
    try:
        found = connection.fetch(_LOCK, 1)
        connection.release_savepoint()
    except errors.LockNotAvailable:
        connection.roll_back_to_savepoint()
        if database.on_wait is not None:
            database.on_wait("")
        _bound_waiting(driver, _WRITER_WAIT_SECONDS)
        with driver.allowing(_WRITER_WAIT_SECONDS + _CALL_SECONDS):
            found = connection.fetch(_LOCK, 1)

    # From here on only somebody else's own statements can lock a table.
    _bound_waiting(driver, _TABLE_WAIT_SECONDS)
    return found


def _keep(database: Database, connection: ServerConnection) -> None:
    """Commit, and tell whoever follows the journal."""
    ((last, digest),) = connection.fetch(_HEAD, 1)
    connection.driver.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
    _commit(database, connection.driver, last, digest)


# --- Following ---


class Truth:
    """The database as who follows it sees it: its journal, and at first all of it. Every call may raise StoreError."""

    def __init__(self, driver: "_WatchedConnection") -> None:
        self._driver = driver

    def head(self) -> tuple[Position, int]:
        """Where the journal stands, and the tables' version."""
        found = self._driver.execute(_POSITION.text(POSTGRESQL), (1,)).fetchall()
        if len(found) != 1:
            raise StoreSpoiledError("the database does not say where its journal ends")
        *position, version = found[0]
        return Position(*position), version

    def changes_from(self, number: int, most: int) -> list[Change]:
        """The changes from this one on, *most* of them."""
        return [Change(*row) for row in self._driver.execute(_CHANGES_FROM.text(POSTGRESQL), (number, most))]

    @contextmanager
    def all(self) -> Iterator[tuple[Position, Iterator[Rows]]]:
        """All tables at one moment: where the journal stood then, and the rows, some at a time."""
        self._driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        position, version = self.head()
        if version != VERSION:
            raise StoreOutdatedError(f"the database has tables of version {version}, and this policyd knows {VERSION}")
        yield position, pages_of(ServerConnection(self._driver), REPLICATED)
        self._driver.execute("ROLLBACK")


def need_usable(database: Database) -> None:
    """Raises SettingsError where what the settings say of *database* can't be used, whether or not it is there."""
    _parameters(database, is_writer=False)


@contextmanager
def following(database: Database) -> Iterator[Truth]:
    """What *database* tells who follows it. Raises StoreError; a call takes seconds at most."""
    with _connected(database, is_follower=True) as driver:
        found = ServerConnection(driver).fetch(_VERSION, 1)
        if not found or found[0][0] < VERSION:  # of newer ones, the journal says from where on
            _need_version(database, found)
        yield Truth(driver)


@contextmanager
def listening(database: Database) -> Iterator[Callable[[float], None]]:
    """A function that waits for the next change, for so many seconds at most: less where a change is told.

    A standby tells nothing, nor does a pooler that lends connections for one transaction: there it waits in full.
    """
    with _connected(database, is_follower=True) as driver:
        try:
            driver.execute(f"LISTEN {CHANNEL}")
        except (errors.ReadOnlySqlTransaction, errors.FeatureNotSupported):
            yield time.sleep
            return

        spoke_at = time.monotonic()

        def wait(seconds: float) -> None:
            nonlocal spoke_at
            for _ in driver.notifies(timeout=seconds, stop_after=1):
                pass
            if time.monotonic() - spoke_at >= _WORD_SECONDS:
                driver.execute("SELECT 1")
                spoke_at = time.monotonic()

        yield wait


# --- Creating ---


@contextmanager
def filling(database: Database) -> Iterator[ServerConnection]:
    """The tables of an empty database, which are made, and stay if the block ends well. Raises StoreError."""
    with _new_tables(database) as driver:
        yield ServerConnection(driver)


def create_tables(database: Database) -> None:
    """Make the tables in an empty database. Raises StoreError."""
    with _new_tables(database) as driver:
        ServerConnection(driver).run(_FIRST_HEAD, *first_head().values())


@contextmanager
def _new_tables(database: Database) -> Iterator["_WatchedConnection"]:
    """A connection whose transaction makes the tables in an empty database. Raises StoreError."""
    with _connected(database, is_writer=True) as driver:
        # One after the other, where several try.
        driver.execute("BEGIN")
        driver.execute("SELECT pg_advisory_xact_lock(hashtext('policyd'))")

        # Texts are in the order of their bytes, as everywhere else.
        if (found := locale_of(driver)) != LOCALE:
            raise StoreCreateError(
                f"{database}: its encoding is {found[0]} and its locale {found[1]}; make another database with: "
                "createdb --template=template0 --encoding=UTF8 --locale=C NAME"
            )
        # In the first schema of the search_path that is there.
        ((schema, path),) = driver.execute("SELECT current_schema(), current_setting('search_path')").fetchall()
        if schema is None:
            raise StoreCreateError(
                f"{database}: its search_path ({path}) names no schema that is there and that this role may use; "
                "make one with: CREATE SCHEMA, or grant it with: GRANT USAGE, CREATE ON SCHEMA"
            )
        there = driver.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
            " ORDER BY relname = %s DESC, relname LIMIT 1",
            (journal_head.name,),
        ).fetchall()
        if there:
            what = "it has the tables already" if there[0][0] == journal_head.name else f"it has a table {there[0][0]}"
            raise StoreCreateError(f"{database}: {what}; it was left as it is")

        # All of it or nothing.
        made = create_mock_engine("postgresql://", lambda made, *_, **__: driver.execute(definition(made)))
        metadata.create_all(made, checkfirst=False)
        yield driver
        driver.execute("COMMIT")


def locale_of(driver: psycopg.Connection[tuple[Any, ...]]) -> tuple[str, str]:
    """The encoding and the collation of the database."""
    ((encoding, collation),) = driver.execute(
        "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = current_database()"
    ).fetchall()
    return encoding, collation


def definition(made: Any) -> str:
    """The statement that makes a table, an index or a comment."""
    return str(made.compile(dialect=DEFINING))


def _need_version(database: Database, found: list[tuple[Any, ...]]) -> None:
    """Raises StoreError unless the tables, of which the head says what was *found*, are of this version."""
    if len(found) != 1:
        raise StoreSpoiledError(f"{database}: the database does not say where its journal ends; restore a backup")
    ((version,),) = found
    if version < VERSION:
        raise StoreOutdatedError(
            f"{database}: has tables of version {version}, and this policyd needs version {VERSION}; "
            "type: policyd database upgrade"
        )
    if version > VERSION:
        raise StoreSpoiledError(
            f"{database}: made by a newer policyd (tables version {version}, this one knows {VERSION}); "
            "install that policyd"
        )


def _commit(database: Database, driver: "_WatchedConnection", last: int, digest: str) -> None:
    """Commit what made the journal end with *last* and its *digest*.

    Where the connection is lost in the middle of it, the journal tells whether that was kept. Raises StoreError.
    """
    try:
        driver.execute("COMMIT")
        return
    except psycopg.OperationalError as error:
        if not driver.closed and not driver.was_given_up:
            raise
        lost = error
    for _ in range(_TRIES):
        try:
            with reading(database) as connection:
                is_kept = connection.fetch(_DIGEST, last) == [(digest,)]
        except StoreError:
            time.sleep(_LOOK_SECONDS)
            continue
        if is_kept:
            return
        raise StoreWriteError(f"{database}: the connection was lost, and nothing was changed: do it again") from lost
    raise StoreError(
        f"{database}: the connection was lost at the last moment, and it is not known whether change {last} was kept; "
        "see policyd history when the database answers again, before you do it again"
    ) from lost


# --- Upgrading ---


@contextmanager
def upgrading(database: Database) -> Iterator[tuple[ServerConnection, int]]:
    """The write lock on tables of any version up to this one's, and which they are; kept if the block ends well.

    Only this block commits or rolls back, whatever a library calls. Raises StoreError, with the tables as they were.
    """
    with _connected(database, _UpgradingConnection, is_writer=True) as driver:
        # One after the other, before any table is looked at: which there are is what changes.
        driver.execute("BEGIN")
        _bound_idling(driver, _BULK_IDLE_SECONDS)
        _bound_waiting(driver, _WRITER_WAIT_SECONDS)
        connection = ServerConnection(driver)
        with driver.allowing(_WRITER_WAIT_SECONDS + _CALL_SECONDS):
            driver.execute("SELECT pg_advisory_xact_lock(hashtext('policyd'))")
            found = connection.fetch(_LOCK, 1)
        if not found or found[0][0] > VERSION:
            _need_version(database, found)
        ((version,),) = found

        # An index of a long journal is one statement.
        with driver.allowing(_REVISION_SECONDS):
            yield connection, version
        connection.finish()
        _keep(database, connection)


def statements_of(connection: ServerConnection) -> list[str]:
    """A list that gets the text of each statement that *connection* runs from now on, with its values."""
    driver: psycopg.Connection[tuple[Any, ...]] = connection.driver
    told: list[str] = []

    class NotingCursor(psycopg.Cursor[tuple[Any, ...]]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            told.append(psycopg.ClientCursor(driver).mogrify(query, params))
            return super().execute(query, params, **options)

        def executemany(self, query: Any, params_seq: Iterable[Any], **_: Any) -> None:
            for params in params_seq:
                self.execute(query, params)

    driver.cursor_factory = NotingCursor
    return told


# --- Connecting, and for how long to wait ---


class _WatchedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is given up where the server has not answered a call in time."""

    was_given_up = False
    seconds = _CALL_SECONDS  # for a call
    _deadline = 0.0  # of the call that waits, as time.monotonic() counts; 0 while none does

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the server as psycopg does, but not for ever."""
        self._deadline = time.monotonic() + self.seconds
        try:
            return super().wait(*args, **kwargs)
        finally:
            self._deadline = 0.0

    @contextmanager
    def allowing(self, seconds: float) -> Iterator[None]:
        """Allow each call of the block so many *seconds*."""
        before, self.seconds = self.seconds, seconds
        try:
            yield
        finally:
            self.seconds = before

    def watch(self, is_over: threading.Event) -> None:
        """Cut the connection where a call has waited too long, until it *is_over*; in a thread of its own."""
        while not is_over.wait(_LOOK_SECONDS):
            if 0 < self._deadline < time.monotonic():
                self.was_given_up = True
                with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as ours:
                    ours.shutdown(socket.SHUT_RDWR)
                return


class _UpgradingConnection(_WatchedConnection):
    """A connection whose transaction only COMMIT and ROLLBACK statements end, whatever a library calls."""

    def commit(self) -> None:
        """Leave the transaction to whoever began it."""

    def rollback(self) -> None:
        """Leave the transaction to whoever began it."""


@contextmanager
def _connected(
    database: Database,
    kind: type[_WatchedConnection] = _WatchedConnection,
    *,
    is_writer: bool = False,
    is_follower: bool = False,
) -> Iterator[_WatchedConnection]:
    """A DBAPI connection in autocommit. Raises StoreError, and SettingsError where the URL is not to be used."""
    parameters = _parameters(database, is_writer=is_writer)
    try:
        driver = kind.connect(**parameters)
    except psycopg.Error as error:
        raise _unreachable(database, error) from error
    driver.seconds = _FOLLOWER_SECONDS if is_follower else _CALL_SECONDS
    is_over = threading.Event()
    threading.Thread(target=driver.watch, args=(is_over,), daemon=True).start()
    try:
        yield driver
    except psycopg.DatabaseError as error:
        if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:  # a mistake of our own
            raise
        if is_follower and (lost := _lost(database, error, was_given_up=driver.was_given_up)):
            raise lost from error
        raise _store_error(database, error, was_given_up=driver.was_given_up) from error
    finally:
        is_over.set()
        driver.close()


def _parameters(database: Database, *, is_writer: bool) -> dict[str, Any]:
    """What libpq must know. Raises SettingsError, which repeats nothing of the URL: there may be a password in it."""
    try:
        said = conninfo.conninfo_to_dict(database.url)
    except psycopg.ProgrammingError as error:
        raise SettingsError(
            "database: not a URL as PostgreSQL's libpq takes it; in a user name or password, @ : / ? and % are written "
            "as %40 %3A %2F %3F and %25; better keep the password in a password_file"
        ) from error
    if not all(map(_can_be_host, str(said.get("host") or "").split(","))):
        raise SettingsError("database: a host in the URL can't be one: a part between its dots is empty or too long")
    sslmode = said.get("sslmode") or os.environ.get("PGSSLMODE")
    if sslmode != "verify-full" and not database.may_be_insecure and not _is_on_this_machine(said):
        raise SettingsError(
            f"database: {database} is on another machine, and nothing proves that it is the one: add "
            "sslmode=verify-full to the URL, behind a question mark, or say allow_insecure_database = true in the "
            "settings file"
        )
    parameters = _BOUNDS | said | {"autocommit": True, "prepare_threshold": None, "client_encoding": "UTF8"}
    parameters.setdefault("application_name", "policyd")
    if is_writer:
        parameters.setdefault("target_session_attrs", "read-write" if "," in str(said.get("host", "")) else "any")
    if "password" not in said and (password := _password(database)):
        parameters["password"] = password
    return parameters


def _is_on_this_machine(said: dict[str, Any]) -> bool:
    """Whether the server is on this machine, as far as the parameters tell; what a service says, is not looked at."""
    if said.get("service") or (os.environ.get("PGSERVICE") and "host" not in said):
        return False
    named = said.get("hostaddr") or said.get("host") or os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST") or ""
    return all(_is_local(host) for host in str(named).split(","))


def _can_be_host(host: str) -> bool:
    """Whether *host* is a socket's folder, an address, or what can be looked up as a name."""
    try:
        return host.startswith("/") or bool(host.encode("idna")) or not host
    except UnicodeError:
        return False


def _is_local(host: str) -> bool:
    """Whether *host* is a socket's folder, or a name or address of this machine."""
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _password(database: Database) -> str:
    """The password in the file that the settings name, else in systemd's credentials; "" where there is none."""
    file = database.password_file
    if file is None:
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        file = Path(folder, "database-password")
        if not folder or not file.exists():
            return ""
    try:
        with open_to_read(file) as opened:
            return opened.read(_PASSWORD_BYTES).decode().rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"password_file: {file}: {reason_of(error)}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"password_file: {file}: it is not UTF-8 text") from error


# --- What an error means ---


def _unreachable(database: Database, error: psycopg.Error) -> StoreError:
    """What the administrator must know where no connection came about."""
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [line for line in lines if line and not line.startswith(_ADVICE)]
    told = [line for line in reasons if line.startswith(_EACH_HOST)] or reasons[-1:]
    reason = "; ".join(_PREFIX.sub("", each, count=1) for each in told) or "no reason was given"
    if "password" in reason:
        reason += "; see the setting password_file"
    is_refused = any("FATAL:" in each and not _NOT_YET.search(each) for each in told)
    return (StoreError if is_refused else StoreAwayError)(f"{database}: can't be reached: {reason}")


def _lost(database: Database, error: psycopg.Error, *, was_given_up: bool) -> StoreError | None:
    """What to know where somebody who changes nothing lost the connection; None where it is something else."""
    if was_given_up:
        return StoreAwayError(f"{database}: the server does not answer")
    if error.sqlstate is None or error.sqlstate.startswith(("08", "57")):
        reason = str(error).strip().partition("\n")[0]
        return StoreAwayError(f"{database}: the connection was lost: {reason}")
    return None


def _store_error(database: Database, error: psycopg.Error, *, was_given_up: bool) -> StoreError:
    """What the administrator must know of an error in the middle of a transaction, of which so nothing is kept."""
    reason = str(error).strip().partition("\n")[0]
    if was_given_up:
        return StoreError(f"{database}: the server does not answer, and nothing was changed; try again")
    if told := _understood(database, error, reason):
        return told
    if error.sqlstate is None or error.sqlstate.startswith(("08", "57")):
        return StoreError(f"{database}: the connection was lost, and nothing was changed: {reason}; do it again")
    return StoreError(f"{database}: the server says: {reason}")


def _understood(database: Database, error: psycopg.Error, reason: str) -> StoreError | None:
    """What to do about an error of a kind that is known; None for any other."""
    match error:
        case errors.LockNotAvailable():
            return StoreError(f"{database}: another command is changing the tables and does not end; try again")
        case errors.ReadOnlySqlTransaction():
            return StoreError(f"{database}: the server is a standby, or allows no changes; name the primary one")
        case errors.UndefinedTable() | errors.InvalidSchemaName():
            return StoreMissingError(f"{database}: has no tables of policyd; make them with: policyd database create")
        case errors.InsufficientPrivilege():
            return StoreError(f"{database}: nothing was changed: the server says: {reason}; be a role that may")
        case errors.DiskFull() | errors.InsufficientResources():
            return StoreWriteError(f"{database}: can't be written, nothing was changed: {reason}; make room there")
        case errors.IdleInTransactionSessionTimeout():
            return StoreError(f"{database}: nothing was changed: the command did nothing for too long; do it again")
        case psycopg.IntegrityError():
            return StoreError(
                f"{database}: nothing was changed: {reason}; see what is wrong with: policyd database check"
            )
        case errors.QueryCanceled():
            return StoreError(f"{database}: nothing was changed: the server gave up: {reason}; raise its limit there")
    return None
