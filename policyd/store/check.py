"""Checks that the database is as policyd makes it: the file, the tables, each row, and the journal of their changes."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Integer,
    Table,
    Text,
    bindparam,
    func,
    literal_column,
    or_,
    select,
)

from policyd.address import (
    fold,
    normal_domain,
    normal_group,
    normal_name,
    normal_pattern,
    normal_text,
    parse_address,
    quote_local_part,
)
from policyd.errors import AddressError
from policyd.model import (
    Address,
    BlockedSender,
    Domain,
    Finding,
    Group,
    Mailbox,
    Membership,
    Party,
    PartyKind,
)
from policyd.store import schema
from policyd.store.database import compiled, empty_tables, foreign_object
from policyd.store.journal import Stored, numbered, snapshot
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
_LAST_NUMBER = 2**63 - 1
_target = schema.domain.alias("target")
_DOMAINS = compiled(select(schema.domain).order_by(schema.domain.c.name))
_IS_MANAGED = compiled(select(schema.domain.c.name).where(schema.domain.c.name == bindparam("name")))
_CHAINS = compiled(
    select(schema.domain.c.name, _target.c.name)
    .join(_target, _target.c.name == schema.domain.c.alias_of)
    .where(_target.c.alias_of.is_not(None))
    .order_by(schema.domain.c.name)
)
_HEAD = compiled(select(schema.journal_head))
_MAILBOXES = compiled(select(schema.mailbox).order_by(schema.mailbox.c.id))
_GROUPS = compiled(select(schema.mailbox_group).order_by(schema.mailbox_group.c.id))
_MEMBERS = compiled(select(schema.group_member).order_by(schema.group_member.c.id))
_ADDRESSES = compiled(select(schema.address).order_by(schema.address.c.address))
_WHO = ("pattern", "sender_mailbox_id", "sender_group_id")
_ACCEPTED = {
    owner: compiled(
        select(schema.accepted_sender.c[owner], *(schema.accepted_sender.c[name] for name in _WHO))
        .where(schema.accepted_sender.c[owner].is_not(None))
        .order_by(schema.accepted_sender.c[owner])
    )
    for owner in ("domain", "mailbox_id", "group_id")
}
_BLOCKED = compiled(select(schema.blocked_sender).order_by(schema.blocked_sender.c.id))
_ALLOWED = {
    table.name: compiled(select(table).order_by(table.c.blocked_sender_id))
    for table in (schema.allowed_recipient, schema.allowed_sender)
}
_COUNTED = (schema.domain, schema.mailbox, schema.mailbox_group, schema.group_member, schema.address)
_COUNTS = [
    compiled(select(func.count()).select_from(table)) for table in (*_COUNTED, schema.blocked_sender, schema.change)
]
_TYPES = {Text: "text", Integer: "integer", BigInteger: "integer"}


def _wrong_values(table: Table) -> tuple[str, list[str]]:
    """A statement that finds the rows with a value of a wrong type, and the names of the columns.

    It gives the row's key, then for each column whether its value is wrong.
    """
    are_wrong = []
    for column in table.c:
        allowed = [_TYPES[type(column.type)], *(["null"] if column.nullable else [])]
        are_wrong.append(func.typeof(column).not_in([literal_column(f"'{each}'") for each in allowed]))
    return compiled(select(schema.key_of(table), *are_wrong).where(or_(*are_wrong))), [
        column.name for column in table.c
    ]


def _broken(table: Table) -> Iterator[tuple[str, str, str]]:
    """Each constraint of *table*: the table's name, its own, and a statement for the keys of rows that break it."""
    key = schema.key_of(table)
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
        has, wants = objects_in(self._connection), _wanted()
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
        for noun, key, name, stored in self._objects():
            self._count_one()
            wrong = self._replay.take(noun, key, name, numbered(snapshot(stored)))
            if wrong is not None:
                self._on_finding(wrong)

        # What the journal left is there.
        for finding in self._replay.left():
            self._on_finding(finding)

        # Rules over several rows.
        self._check_head()
        for name, target in self._connection.execute(_CHAINS):
            advice = f"type: policyd domain set {name} --no-alias"
            self._find("domain", name, f"it stands for {target}, which stands for another one itself", advice)
        for name, count in self._connection.execute(_NOT_ONE_PRIMARY):
            advice = "take one of its addresses away, and add it again with policyd"
            self._find("mailbox", name, f"it has {count} primary addresses, not one", advice)

    def _check_head(self) -> None:
        """Check that the journal ends where its head says, and that numbers in old logs are nobody else's."""
        heads = [*self._connection.execute(_HEAD)]
        if len(heads) != 1:
            self._find("journal_head", "", "it does not say where the journal ends", _RESTORE)
            return
        _, _, last, digest, version, *counters = heads[0]
        if (last, digest) != (self._replay.last, self._replay.digest):
            problem = f"it says that change {last} is the last, with another digest than the journal's"
            self._find("journal_head", "", problem, "somebody altered the journal; compare it with a backup")
        if version != schema.VERSION:
            self._find("journal_head", "", f"it says that the tables are of version {version}", _RESTORE)
        for name, number in zip(schema.COUNTERS, counters, strict=True):
            if not self._replay.highest.get(name, 0) < number < _LAST_NUMBER:
                self._find("journal_head", name, "the next number is not the one after the last", _RESTORE)

    def _objects(self) -> Iterator[tuple[str, int | str, str, Stored]]:
        """Every object: noun, key, name, and itself with others named by their numbers alone."""
        accepted = {owner: Grouped(self._connection.execute(statement)) for owner, statement in _ACCEPTED.items()}
        for name, unlisted, alias_of, *terms in self._connection.execute(_DOMAINS):
            self._check_domain(name)
            restriction = self._restriction("domain", name, terms, accepted["domain"].of(name))
            yield "domain", name, name, Domain(name, unlisted, alias_of or "", *restriction)
        for number, name, folded_name, *terms in self._connection.execute(_MAILBOXES):
            self._check_name("mailbox", name, folded_name, normal_name)
            restriction = self._restriction("mailbox", name, terms, accepted["mailbox_id"].of(number))
            yield "mailbox", number, name, Mailbox(name, *restriction, number)
        for number, name, folded_name, *terms in self._connection.execute(_GROUPS):
            self._check_name("mailbox_group", name, folded_name, normal_group)
            restriction = self._restriction("mailbox_group", name, terms, accepted["group_id"].of(number))
            yield "group", number, name, Group(name, *restriction, number)
        for number, group_id, mailbox_id, member_group_id in self._connection.execute(_MEMBERS):
            member = _party(None, mailbox_id, member_group_id)
            yield "member", number, str(number), Membership(Party(PartyKind.GROUP, "", group_id), member, number)
        for address, mailbox_id, is_primary in self._connection.execute(_ADDRESSES):
            self._check_address(address)
            yield "address", address, address, Address(address, "", bool(is_primary), mailbox_id)
        yield from self._entries()

    def _restriction(
        self, table: str, name: str, terms: list[Any], senders: list[Any]
    ) -> tuple[Any, Any, Any, Any, frozenset[Party]]:
        """Check the remarks and the accepted senders of a row of *table*, and return them all, in the model's order."""
        receive, reason, until, comment = terms
        self._check_remarks(table, name, until, reason, comment)
        return receive, reason, until, comment, self._list("accepted_sender", name, senders)

    def _list(self, table: str, name: str, rows: list[Any]) -> frozenset[Party]:
        """Check the patterns in a list of parties, and return it."""
        self._check_patterns(table, name, [pattern for pattern, *_ in rows if pattern is not None])
        return frozenset(_party(*row) for row in rows)

    def _entries(self) -> Iterator[tuple[str, int | str, str, Stored]]:
        """Every blocked sender, as `_objects`."""
        allowed = {table: Grouped(self._connection.execute(statement)) for table, statement in _ALLOWED.items()}
        for row in self._connection.execute(_BLOCKED):
            number, mailbox_id, group_id, pattern, word, *rest = row
            to_word, to_mailbox_id, to_group_id, to_pattern, reason, until, comment, created_at, created_by = rest
            name = f"{number}"
            self._check_remarks("blocked_sender", name, until, reason, comment, created_by)
            self._check_patterns("blocked_sender", name, [each for each in (pattern, to_pattern) if each is not None])
            recipients, senders = (self._list(table, name, lists.of(number)) for table, lists in allowed.items())
            entry = BlockedSender(
                _party(pattern, mailbox_id, group_id, word),
                _party(to_pattern, to_mailbox_id, to_group_id, to_word),
                *(reason, until, comment, recipients, senders, created_at, created_by, number),
            )
            yield "sender", number, pattern or word or name, entry

    def _check_domain(self, name: str) -> None:
        if not _is_normal(normal_domain, name):
            self._find("domain", name, "it is not in normal form, so no recipient is in it", _AGAIN)

    def _check_name(self, table: str, name: str, folded_name: str, normal: Callable[[str], str]) -> None:
        if not _is_normal(normal, name):
            self._find(table, name, "its name is not in normal form", _AGAIN)
        if folded_name != fold(name):
            self._find(table, name, f"it is found as {folded_name!a}, not by its name", _AGAIN)

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


def _party(pattern: str | None, mailbox_id: int | None, group_id: int | None, word: str | None = None) -> Party:
    """Who stands in these columns, by number."""
    if mailbox_id is not None:
        return Party(PartyKind.MAILBOX, "", mailbox_id)
    if group_id is not None:
        return Party(PartyKind.GROUP, "", group_id)
    return Party(PartyKind.PATTERN, pattern or "") if word is None else Party(PartyKind.ANYONE, word)


def objects_in(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """The SQL of each table, index, view and trigger, as words, by its kind and name: `table mailbox`."""
    return {f"{kind} {name}": _WORD.findall(sql) for kind, name, sql in connection.execute(_MADE)}


@cache
def _wanted() -> dict[str, list[str]]:
    with closing(empty_tables()) as tables:
        return objects_in(tables)


def _shown(key: object) -> str:
    """A row's key, of whatever type, in a line."""
    return key[:100] if isinstance(key, str) else ascii(key)[:100]


def _is_normal(normal: Callable[[str], str], text: str) -> bool:
    try:
        return normal(text) == text
    except AddressError:
        return False
