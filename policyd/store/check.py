"""Checks that the database is as policyd makes it: the file, the tables, each row, and the journal of their changes."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Integer,
    Table,
    Text,
    bindparam,
    create_engine,
    func,
    literal_column,
    or_,
    select,
)

from policyd.address import (
    fold,
    normal_domain,
    normal_name,
    normal_pattern,
    normal_text,
    parse_address,
    quote_local_part,
)
from policyd.errors import AddressError
from policyd.model import Finding
from policyd.store import schema
from policyd.store.database import compiled, foreign_object
from policyd.store.queries import Grouped
from policyd.store.replay import Replay
from policyd.timestamps import is_time

_RESTORE = "restore a backup"
_AGAIN = "take it away, and add it again with policyd"
_SHOWN = 20  # of SQLite's own complaints
_IS_OF_A_ROW = re.compile(r"(CHECK constraint failed|\S+ value) in ")  # which is reported below, with the row's key

# Kind, name and SQL text of each table, index, view and trigger. What SQLite makes for itself is left out: an index
# without SQL, and the tables for AUTOINCREMENT and ANALYZE.
_MADE = """
    SELECT CASE WHEN sql LIKE 'CREATE VIRTUAL%' THEN 'virtual ' ELSE '' END || type, name, coalesce(sql, '')
    FROM sqlite_schema
    WHERE sql IS NOT NULL
        AND NOT (name IN ('sqlite_sequence', 'sqlite_stat1', 'sqlite_stat4') AND sql GLOB 'CREATE TABLE*')
"""  # SQLAlchemy can't express these
_WORD = re.compile(r"""'(?:[^']|'')*'|\w+|[^\s\w"]""")  # spaces, and quotes around a name, make no difference
_NUMBERED = "SELECT seq FROM sqlite_sequence WHERE name = 'blocked_sender'"  # SQLite's table
_LAST_NUMBER = 2**63 - 1
_DOMAINS = compiled(select(schema.domain).order_by(schema.domain.c.name))
_IS_MANAGED = compiled(select(schema.domain.c.name).where(schema.domain.c.name == bindparam("name")))
_MAILBOXES = compiled(select(schema.mailbox).order_by(schema.mailbox.c.id))
_ADDRESSES = compiled(select(schema.address).order_by(schema.address.c.address))
_ACCEPTED = compiled(select(schema.accepted_sender).order_by(*schema.accepted_sender.c))
_BLOCKED = compiled(select(schema.blocked_sender).order_by(schema.blocked_sender.c.id))
_ALLOWED = compiled(select(schema.allowed_recipient).order_by(*schema.allowed_recipient.c))
_COUNTS = [
    compiled(select(func.count()).select_from(table))
    for table in (schema.domain, schema.mailbox, schema.address, schema.blocked_sender, schema.change)
]
_TYPES = {Text: "text", Integer: "integer"}


def _wrong_values(table: Table) -> tuple[str, list[str]]:
    """A statement that finds the rows with a value of a wrong type, and the names of the columns.

    It gives the row's key, then for each column whether its value is wrong.
    """
    are_wrong = []
    for column in table.c:
        allowed = [_TYPES[type(column.type)], *(["null"] if column.nullable else [])]
        are_wrong.append(func.typeof(column).not_in([literal_column(f"'{each}'") for each in allowed]))
    key = next(iter(table.primary_key))
    return compiled(select(key, *are_wrong).where(or_(*are_wrong))), [column.name for column in table.c]


def _broken(table: Table) -> Iterator[tuple[str, str, str]]:
    """Each constraint of *table*: the table's name, its own, and a statement for the keys of rows that break it."""
    key = next(iter(table.primary_key))
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint):
            yield (
                table.name,
                str(constraint.name),
                compiled(select(key).where(literal_column(f"NOT ({constraint.sqltext})"))),
            )


_WRONG_VALUES = {table.name: _wrong_values(table) for table in schema.metadata.sorted_tables}
_BROKEN = [each for table in schema.metadata.sorted_tables for each in _broken(table)]
_PRIMARIES = func.sum(schema.address.c.is_primary == literal_column("1"))
_NOT_ONE_PRIMARY = compiled(
    select(schema.mailbox.c.name, _PRIMARIES)
    .join(schema.address, schema.address.c.mailbox_id == schema.mailbox.c.id)
    .group_by(schema.address.c.mailbox_id)
    .having(literal_column("1") != _PRIMARIES)
)


@dataclass(frozen=True, slots=True)
class Checked:
    """How many rows were checked, and the journal's last change and digest.

    Whoever kept an earlier digest can see whether the journal was cut off since.
    """

    rows: int
    change: int
    digest: str


class Check:
    """Checks the whole database over *connection*, whose transaction holds one state of it. It writes nothing there.

    Memory does not grow with the tables.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        self._connection = connection
        self._on_finding: Callable[[Finding], None] = lambda _: None
        self._advance: Callable[[], None] = lambda: None
        self._rows = 0
        self._replay = Replay(connection)
        self._is_managed = lru_cache(1024)(lambda name: bool(connection.execute(_IS_MANAGED, (name,)).fetchall()))

    def count(self) -> int | None:
        """How many rows there are to check; None where the file is too damaged to count them."""
        try:
            if foreign_object(self._connection):
                return None
            return sum(int(self._connection.execute(statement).fetchone()[0]) for statement in _COUNTS)
        except sqlite3.DatabaseError:
            return None

    def run(self, on_finding: Callable[[Finding], None], advance: Callable[[], None]) -> Checked:
        """Check everything. Each finding goes to *on_finding*; *advance* is called for each row.

        Raises sqlite3.Error where the database can't be read, but not for a damaged file, which is a finding.
        """
        self._on_finding, self._advance = on_finding, advance
        try:
            if self._check_file():
                self._check_rows()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise
            self._find("", "", f"the file is damaged: {error}", _RESTORE)
        return Checked(self._rows, self._replay.last, self._replay.digest)

    def _check_file(self) -> bool:
        """Check the file by SQLite's own checks, and the tables against the schema; false where rows can't be read."""
        # SQLite's own checks; those of single rows are made below, with the row's key.
        for (report,) in self._connection.execute(f"PRAGMA integrity_check({_SHOWN})"):
            for line in report.splitlines():
                if line != "ok" and not line.startswith("***") and not _IS_OF_A_ROW.match(line):
                    self._find("", "", f"SQLite says: {line}", _RESTORE)

        # Every table, index, view and trigger is the schema's, and nothing else is there.
        has, wants = _made(self._connection), _wanted()
        for name in sorted({*has, *wants}):
            if has.get(name) != wants.get(name):
                how = "missing" if name not in has else "altered" if name in wants else "not policyd's"
                self._find("", "", f"{name} is {how}", _RESTORE)

        # What a row refers to is there.
        for table, number, parent, _ in self._connection.execute("PRAGMA foreign_key_check"):
            row = f"in row {number}" if number is not None else "in a row"
            self._find(table, row, f"it names a {parent} that isn't there", _RESTORE)

        # Rows are read only from tables that have the schema's columns.
        can_be_read = all(has.get(name) == made for name, made in wants.items() if name.startswith("table"))
        return can_be_read and self._check_values()

    def _check_values(self) -> bool:
        """Check the type of every value, then each constraint of the schema; false where rows can't be read.

        SQLite does not do it: the file's own constraints may have been altered, or switched off by whoever wrote.
        """
        can_be_read = True
        for table, (statement, names) in _WRONG_VALUES.items():
            for key, *are_wrong in self._connection.execute(statement):
                for name, is_wrong in zip(names, are_wrong, strict=True):
                    if is_wrong:
                        self._find(table, _shown(key), f"{name} is of a wrong type", _RESTORE)
                        can_be_read = False
        if can_be_read:
            for table, name, statement in _BROKEN:
                for (key,) in self._connection.execute(statement):
                    self._find(table, _shown(key), f"it breaks the rule {name}, which every row keeps", _AGAIN)
        return can_be_read

    def _check_rows(self) -> None:
        # Replay the journal: it is whole, and says what each object must be now.
        for finding in self._replay.chain(self._count_one):
            self._on_finding(finding)

        # Every object is valid, and as its last change in the journal left it.
        for noun, key, name, values in self._objects():
            self._count_one()
            wrong = self._replay.take(noun, key, name, values)
            if wrong is not None:
                self._on_finding(wrong)

        # What the journal left is there.
        for finding in self._replay.left():
            self._on_finding(finding)

        # Rules over several rows.
        self._check_numbering()
        for name, count in self._connection.execute(_NOT_ONE_PRIMARY):
            advice = "take one of its addresses away, and add it again with policyd"
            self._find("mailbox", name, f"it has {count} primary addresses, not one", advice)

    def _check_numbering(self) -> None:
        """Check that the next blocked sender gets a new number: one in an old log must not become somebody else's."""
        given = [number for (number,) in self._connection.execute(_NUMBERED)]
        is_fit = all(type(number) is int and self._replay.highest <= number < _LAST_NUMBER for number in given)
        if not is_fit or len(given) > 1 or (self._replay.highest and not given):
            self._find("blocked_sender", "", "the next number is not the one after the last", _RESTORE)

    def _objects(self) -> Iterator[tuple[str, int | str, str, dict[str, Any]]]:
        """Every object: noun, key, name, and its snapshot with mailboxes named by their numbers."""
        for name, unlisted in self._connection.execute(_DOMAINS):
            self._check_domain(name)
            yield "domain", name, name, {"name": name, "unlisted": unlisted}
        accepted = Grouped(self._connection.execute(_ACCEPTED))
        for number, name, folded_name, receive, reason, until, comment in self._connection.execute(_MAILBOXES):
            patterns = accepted.of(number)
            self._check_mailbox(name, folded_name)
            self._check_remarks("mailbox", name, until, reason, comment)
            self._check_patterns("accepted_sender", name, patterns)
            values = {"id": number, "name": name, "receive": receive, "accept": sorted(patterns)}
            yield "mailbox", number, name, values | {"reason": reason, "until": until, "comment": comment}
        for address, mailbox_id, is_primary in self._connection.execute(_ADDRESSES):
            self._check_address(address)
            values = {"address": address, "mailbox": mailbox_id, "is_primary": bool(is_primary)}
            yield "address", address, address, values
        yield from self._entries()

    def _entries(self) -> Iterator[tuple[str, int | str, str, dict[str, Any]]]:
        """Every blocked sender, as `_objects`."""
        allowed = Grouped(self._connection.execute(_ALLOWED))
        for number, holder, pattern, recipients, target, *terms in self._connection.execute(_BLOCKED):
            reason, until, comment, created_at, created_by = terms
            patterns = allowed.of(number)
            self._check_remarks("blocked_sender", f"{number}", until, reason, comment, created_by)
            self._check_patterns("blocked_sender", f"{number}", [pattern] if pattern is not None else [])
            self._check_patterns("allowed_recipient", f"{number}", patterns)
            yield (
                "sender",
                number,
                pattern or str(number),
                {
                    "id": number,
                    "sender": pattern if holder is None else holder,
                    "to": recipients if target is None else target,
                    "except": sorted(patterns),
                    "reason": reason,
                    "until": until,
                    "comment": comment,
                    "created_at": created_at,
                    "created_by": created_by,
                },
            )

    def _check_domain(self, name: str) -> None:
        if not _is_normal(normal_domain, name):
            self._find("domain", name, "it is not in normal form, so no recipient is in it", _AGAIN)

    def _check_mailbox(self, name: str, folded_name: str) -> None:
        if not _is_normal(normal_name, name):
            self._find("mailbox", name, "its name is not in normal form", _AGAIN)
        if folded_name != fold(name):
            self._find("mailbox", name, f"it is found as {folded_name!a}, not by its name", _AGAIN)

    def _check_address(self, address: str) -> None:
        domain = address.rpartition("@")[2]
        if not _is_normal(lambda text: str(parse_address(quote_local_part(text))), address):
            self._find("address", address, "it is not in normal form, so it gets no mail", _AGAIN)
        elif not self._is_managed(domain):
            self._find("address", address, f"{domain} is not managed", f"type: policyd domain add {domain}")

    def _check_patterns(self, table: str, name: str, patterns: list[str]) -> None:
        for pattern in patterns:
            if not _is_normal(lambda text: normal_pattern(quote_local_part(text)), pattern):
                self._find(table, name, f"the pattern {pattern!a} is not in normal form, so it matches nobody", _AGAIN)

    def _check_remarks(self, table: str, name: str, until: int | None, *texts: str) -> None:
        if until is not None and not is_time(until):
            self._find(table, name, f"until is {until}, which is no time", _AGAIN)
        for text in texts:
            if not _is_normal(lambda text: normal_text(text, "it"), text):
                self._find(table, name, f"the text {text[:100]!a} is not one line of plain text", _AGAIN)

    def _find(self, table: str, row: str, problem: str, advice: str) -> None:
        self._on_finding(Finding(table, row, problem, advice))

    def _count_one(self) -> None:
        self._rows += 1
        self._advance()


def _made(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """The SQL of each table, index, view and trigger, as words, by its kind and name."""
    return {f"{kind} {name}": _WORD.findall(sql) for kind, name, sql in connection.execute(_MADE)}


def _wanted() -> dict[str, list[str]]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        schema.metadata.create_all(connection)
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return _made(driver)


def _shown(key: object) -> str:
    """A row's key, of whatever type, in a line."""
    return key[:100] if isinstance(key, str) else ascii(key)[:100]


def _is_normal(normal: Callable[[str], str], text: str) -> bool:
    try:
        return normal(text) == text
    except AddressError:
        return False
