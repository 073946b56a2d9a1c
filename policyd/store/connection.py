"""Which database, a statement, and one transaction on the tables: the same whichever engine there is."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Dialect, Table
from sqlalchemy.sql.visitors import iterate

from policyd.errors import SettingsError
from policyd.settings import Settings

_SERVER = re.compile(r"postgres(?:ql)?://")
_LATE_AT_ONCE = 500  # rows
_SHOWN_URL = re.compile(r"(?P<user>[^:@/?]*)(?::[^@]*)?@(?P<place>[^@?]*)|(?P<alone>[^@?]*)")


@dataclass(frozen=True, slots=True)
class Database:
    """Which database: a file of SQLite's, by its `sqlite:///` URL, or one on a PostgreSQL server, by libpq's URL.

    For a server: the *password* comes from that file, if there is one; and where it is not on this machine, it
    *may_be_insecure* only if somebody asked for it. *on_wait* is called once where a change waits for another one, with
    the process that makes it, or "".
    """

    url: str = field(repr=False)  # which may have a password in it
    password_file: Path | None = None
    may_be_insecure: bool = False
    on_wait: Callable[[str], None] | None = field(default=None, compare=False)

    @classmethod
    def at(cls, path: Path) -> "Database":
        """The database in the file at *path*."""
        return cls(f"sqlite:///{path}")

    @classmethod
    def of(cls, settings: Settings, on_wait: Callable[[str], None] | None = None) -> "Database":
        """The one that *settings* name: what commands read and change."""
        return cls(settings.database, settings.password_file, settings.allow_insecure_database, on_wait)

    @classmethod
    def to_answer_from(cls, settings: Settings) -> "Database":
        """The one that the daemon reads: on this host, a replica of the one that *settings* name, or that itself.

        Raises SettingsError where that is on a server, and they name no replica.
        """
        database = cls.of(settings)
        if settings.replica is None:
            if database.is_on_server:
                raise SettingsError(
                    "replica: must name the file from which this host answers, since database is on a server; as "
                    'replica = "/var/lib/policyd/replica.db"'
                )
            return database
        if not database.is_on_server:
            raise SettingsError(f"replica: {database} is on this host already, and needs none; leave replica out")
        return cls.at(settings.replica)

    @property
    def is_on_server(self) -> bool:
        """Whether it is PostgreSQL's, not a file."""
        return _SERVER.match(self.url) is not None

    @property
    def path(self) -> Path:
        """The file. Raises ValueError where it is none."""
        if self.is_on_server:
            raise ValueError(f"{self} is no file")
        return Path(self.url.removeprefix("sqlite:///"))

    def __str__(self) -> str:
        """What messages call it: the path, or the URL without a password and what else is behind a question mark."""
        found = _SERVER.match(self.url)
        if found is None:
            return str(self.path)
        before, _, behind = self.url[found.end() :].partition("?")
        shown = _SHOWN_URL.fullmatch(before)
        if shown is None or "@" in behind:  # what is before an @ may be a password
            return "postgresql://"
        if shown["alone"] is not None:
            return f"postgresql://{shown['alone']}"
        return f"postgresql://{shown['user']}@{shown['place']}"


class Statement:
    """A statement of SQLAlchemy's, compiled at its first use, and once for each engine."""

    def __init__(self, construct: Any) -> None:
        self._construct = construct
        self._texts: dict[str, str] = {}

    @cached_property
    def tables(self) -> frozenset[str]:
        """The names of the tables in it, however deep."""
        return frozenset(each.name for each in iterate(self._construct) if isinstance(each, Table))

    def text(self, dialect: Dialect) -> str:
        """The statement as *dialect* has it, with placeholders for the values in their order."""
        text = self._texts.get(dialect.name)
        if text is None:
            text = self._texts[dialect.name] = str(self._construct.compile(dialect=dialect))
        return text


class Connection:
    """One transaction on the tables, over a DBAPI connection, the *driver*, whose statements *dialect* writes.

    Statements run on the driver itself: a quarter of the time that SQLAlchemy's own execution takes.
    """

    __slots__ = ("_at_commit", "_dialect", "_execute", "_late", "_late_tables", "driver")

    def __init__(self, driver: Any, dialect: Dialect) -> None:
        self.driver = driver
        self._at_commit: list[Callable[[], None]] = []
        self._execute = driver.execute
        self._dialect = dialect
        self._late: dict[Statement, list[tuple[Any, ...]]] = {}
        self._late_tables: set[str] = set()

    def fetch(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]:
        """All rows that *statement* finds."""
        self._run_late_before(statement)
        rows: list[tuple[Any, ...]] = self._execute(statement.text(self._dialect), values).fetchall()
        return rows

    def stream(self, statement: Statement, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The rows that *statement* finds, one by one: memory does not grow with their number."""
        self._run_late_before(statement)
        rows: Iterator[tuple[Any, ...]] = self._execute(statement.text(self._dialect), values)
        return rows

    def run(self, statement: Statement, *values: Any) -> None:
        """Run *statement*, which finds nothing."""
        self._run_late_before(statement)
        self._execute(statement.text(self._dialect), values)

    def run_late(self, statement: Statement, row: tuple[Any, ...]) -> None:
        """Run *statement*, which only adds *row*, some hundred at a time; but before another one asks for its table."""
        rows = self._late.get(statement)
        if rows is None:
            rows = self._late[statement] = []
            self._late_tables |= statement.tables
        rows.append(row)
        if len(rows) == _LATE_AT_ONCE:
            self._run_all_late()

    def run_each(self, statement: Statement, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run *statement*, which finds nothing, with the values of each of *rows*."""
        self.driver.executemany(statement.text(self._dialect), rows)

    def before_commit(self, last: Callable[[], None]) -> None:
        """Have *last* called when all else in the transaction is done."""
        self._at_commit.append(last)

    def finish(self) -> None:
        """Call what `before_commit` was given; for whoever commits."""
        while self._at_commit:
            self._at_commit.pop(0)()
        self._run_all_late()

    def set_savepoint(self) -> None:
        """Begin a part of the transaction that can be rolled back alone."""
        self._run_all_late()
        self._execute("SAVEPOINT part")

    def release_savepoint(self) -> None:
        """Keep what was done since the savepoint."""
        self._execute("RELEASE SAVEPOINT part")

    def roll_back_to_savepoint(self) -> None:
        """Undo what was done since the savepoint, and release it."""
        self._late.clear()
        self._execute("ROLLBACK TO SAVEPOINT part")
        self._execute("RELEASE SAVEPOINT part")

    def _run_late_before(self, statement: Statement) -> None:
        """Run what is late, where it is about a table of *statement*, which is to run now."""
        if self._late and not statement.tables.isdisjoint(self._late_tables):
            self._run_all_late()

    def _run_all_late(self) -> None:
        late, self._late, self._late_tables = self._late, {}, set()
        for statement, rows in late.items():
            self.run_each(statement, rows)
