"""Checks a database on a server: the tables as the server's catalogue has them, then the rows as those of a file."""

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Column, Constraint, ForeignKeyConstraint, PrimaryKeyConstraint
from sqlalchemy.schema import AddConstraint, CreateIndex

from policyd.model import Finding
from policyd.store.check import Check, Checked
from policyd.store.connection import Connection
from policyd.store.copying import as_file
from policyd.store.postgresql import DEFINING, LOCALE, definition, locale_of
from policyd.store.schema import metadata

_RESTORE = "restore a backup"
_ORDINARY, _UNLOGGED = "r", "u"  # a table's kind and persistence, in the catalogue's words
_KINDS = {"p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table", "S": "sequence"}

# The tables are in the schema in which the journal's head is found. SQLAlchemy has no words for a catalogue.
_SCHEMA = "(SELECT relnamespace FROM pg_class WHERE oid = to_regclass('journal_head'))"
_NAMES = ", ".join(f"'{name}'" for name in metadata.tables)
_OURS = f"(SELECT oid FROM pg_class WHERE relnamespace = {_SCHEMA} AND relkind = 'r' AND relname IN ({_NAMES}))"
_RELATIONS = f"""
    SELECT relname, relkind::text, relpersistence::text, relrowsecurity, pg_table_is_visible(oid)
    FROM pg_class WHERE relnamespace = {_SCHEMA} AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') ORDER BY relname
"""
_COLUMNS = f"""
    SELECT relname, attname,
        format_type(atttypid, atttypmod) || coalesce(' collate ' || nullif(collname, 'default'), ''),
        attnotnull, attidentity <> '' OR adbin IS NOT NULL
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid IN {_OURS} AND attnum > 0 AND NOT attisdropped ORDER BY relname, attnum
"""
_CONSTRAINTS = f"""
    SELECT relname, conname, pg_get_constraintdef(pg_constraint.oid), convalidated
    FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    WHERE conrelid IN {_OURS} AND contype IN ('c', 'f', 'p', 'u', 'x') ORDER BY relname, conname
"""
_INDEXES = f"""
    SELECT tables.relname, indexes.relname, pg_get_indexdef(indexrelid), indisvalid AND indisready
    FROM pg_index JOIN pg_class indexes ON indexes.oid = indexrelid JOIN pg_class tables ON tables.oid = indrelid
    WHERE indrelid IN {_OURS}
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
    ORDER BY tables.relname, indexes.relname
"""
_ADDED = f"""
    SELECT relname, 'TRIGGER', tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE tgrelid IN {_OURS} AND NOT tgisinternal
    UNION ALL SELECT relname, 'RULE', rulename FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class
    WHERE ev_class IN {_OURS} ORDER BY 1, 2, 3
"""
_SWITCHED_OFF = f"""
    SELECT DISTINCT relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE tgrelid IN {_OURS} AND tgisinternal AND tgenabled <> 'O' ORDER BY relname
"""
_CHILDREN = f"""
    SELECT relname, inhrelid::regclass::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhparent
    WHERE inhparent IN {_OURS} ORDER BY 1, 2
"""

# The server words a definition in its own way: with types and brackets, and IN (…) as = ANY (ARRAY[…]).
_CAST = re.compile(r"::[a-z]+")
_BEFORE_NAME = re.compile(r"(?<=ON )\w+\.")  # the schema
_WORD = re.compile(r"'(?:[^']|'')*'|\w+|[^\s\w\"()\[\]]")
_SAME = (("USING btree", ""), ("= ANY (ARRAY", "IN ("), ("NOT VALID", ""))


class _Part(NamedTuple):
    """A constraint or an index of a table: its name and its definition."""

    table: str
    name: str
    definition: str


class ServerCheck:
    """Checks the whole database over *connection*, as `Check` does a file. It writes nothing there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._can_be_read = True

    def count(self) -> None:
        """How many rows there are to check: nobody knows before they have come."""

    def run(self, on_finding: Callable[[Finding], None], advance: Callable[[], None]) -> Checked:
        """Check everything. Each finding goes to *on_finding*; *advance* is called for each row. Raises StoreError."""
        for look in (self._place, self._columns, self._constraints, self._indexes, self._added):
            for finding in look():
                on_finding(finding)
        if self._can_be_read:
            try:
                with as_file(self._connection) as file:
                    return Check(file).run(on_finding, advance)
            except sqlite3.IntegrityError as error:
                on_finding(Finding("", "", f"a row is there that can't be: {error}", "remove it, or put it right"))
        return Checked(0, 0, "")

    def _fetch(self, query: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connection.driver.execute(query).fetchall()
        return rows

    def _place(self) -> Iterator[Finding]:
        """What is wrong with the database itself, or with a table as a whole."""
        if (found := locale_of(self._connection.driver)) != LOCALE:
            problem = f"its encoding is {found[0]} and its locale {found[1]}, so that texts are in another order"
            yield Finding("", "", problem, "copy it, with policyd database copy, to one with UTF8 and C")
        missing = set(metadata.tables)
        for name, kind, persistence, hides_rows, is_visible in self._fetch(_RELATIONS):
            if name not in metadata.tables:
                advice = "move it to another schema or database, or drop it"
                yield Finding("", "", f"{_KINDS.get(kind, 'table')} {name} is not policyd's", advice)
                continue
            missing.discard(name)
            if kind != _ORDINARY or not is_visible:
                self._can_be_read = False
                what = f"is a {_KINDS[kind]}" if kind != _ORDINARY else "is hidden by another of that name"
                yield Finding("", "", f"table {name} {what}", _RESTORE if is_visible else "drop that one")
            if persistence == _UNLOGGED:
                problem = "it is unlogged: a crash of the server empties it"
                yield Finding(name, "", problem, f"type in psql: ALTER TABLE {name} SET LOGGED;")
            if hides_rows:
                problem = "it has row-level security, which hides rows from some"
                yield Finding(name, "", problem, f"type in psql: ALTER TABLE {name} DISABLE ROW LEVEL SECURITY;")
        for name in sorted(missing):
            self._can_be_read = False
            yield Finding("", "", f"table {name} is missing", _RESTORE)

    def _columns(self) -> Iterator[Finding]:
        has = {(table, name): rest for table, name, *rest in self._fetch(_COLUMNS)}
        tables = {table for table, _ in has}
        for (table, name), column in _wanted_columns().items():
            if (table, name) not in has:
                self._can_be_read = False
                if table in tables:
                    yield Finding(table, "", f"column {name} is missing", _RESTORE)
                continue
            type_, is_needed, has_default = has[table, name]
            wanted = column.type.compile(dialect=DEFINING)  # as TEXT COLLATE "C"
            change = f"type in psql: ALTER TABLE {table} ALTER COLUMN {name}"
            must_be = _lowered(wanted)
            if type_ != must_be:
                self._can_be_read = False
                problem = f"column {name} is of the type {type_}, not {must_be}"
                yield Finding(table, "", problem, f"{change} TYPE {wanted} USING {name}::{must_be.split()[0]};")
            if is_needed is column.nullable:
                verb, can = ("DROP", "must have a value") if is_needed else ("SET", "may be without a value")
                yield Finding(table, "", f"column {name} {can}", f"{change} {verb} NOT NULL;")
            if has_default:
                yield Finding(table, "", f"column {name} gets a value by itself", f"{change} DROP DEFAULT;")
        for table, name in sorted(has.keys() - _wanted_columns().keys()):
            advice = f"type in psql: ALTER TABLE {table} DROP COLUMN {_quoted(name)};"
            yield Finding(table, "", f"column {name} is not policyd's", advice)

    def _constraints(self) -> Iterator[Finding]:
        found = self._fetch(_CONSTRAINTS)
        yield from _compared(
            "constraint",
            [_Part(*part) for *part, _ in found],
            _wanted_constraints(),
            lambda part: f"ALTER TABLE {part.table} ADD CONSTRAINT {part.name} {part.definition};",
            lambda part: f"ALTER TABLE {part.table} DROP CONSTRAINT {_quoted(part.name)};",
        )
        for table, name, _, is_validated in found:
            if not is_validated:
                problem = f"constraint {name} was not asked of the rows that were there"
                yield Finding(table, "", problem, f"type in psql: ALTER TABLE {table} VALIDATE CONSTRAINT {name};")

    def _indexes(self) -> Iterator[Finding]:
        found = self._fetch(_INDEXES)
        yield from _compared(
            "index",
            [_Part(*part) for *part, _ in found],
            _wanted_indexes(),
            lambda part: f"{part.definition};",
            lambda part: f"DROP INDEX {_quoted(part.name)};",
        )
        for table, name, _, is_valid in found:
            if not is_valid:
                yield Finding(table, "", f"index {name} is not whole", f"type in psql: REINDEX INDEX {name};")

    def _added(self) -> Iterator[Finding]:
        """What acts by itself when a table is read or written, and the constraints that don't act any more."""
        for table, kind, name in self._fetch(_ADDED):
            advice = f"type in psql: DROP {kind} {_quoted(name)} ON {table};"
            yield Finding(table, "", f"{kind.lower()} {name} is not policyd's", advice)
        for (table,) in self._fetch(_SWITCHED_OFF):
            problem = "its foreign keys are switched off, or those to it"
            yield Finding(table, "", problem, f"type in psql: ALTER TABLE {table} ENABLE TRIGGER ALL;")
        for table, child in self._fetch(_CHILDREN):
            problem = f"table {child} inherits from it, so that its rows are read, too"
            yield Finding(table, "", problem, f"type in psql: ALTER TABLE {child} NO INHERIT {table};")


def _compared(
    kind: str,
    has: Iterable[_Part],
    wants: Iterable[_Part],
    making: Callable[[_Part], str],
    dropping: Callable[[_Part], str],
) -> Iterator[Finding]:
    """What differs between the constraints or indexes that are there and those that must be; *making* one is SQL."""
    there = {part[:2]: part for part in has}
    for wanted in wants:
        part = there.pop(wanted[:2], None)
        if part is None:
            problem = f"{kind} {wanted.name} is missing"
            yield Finding(wanted.table, "", problem, f"type in psql: {making(wanted)}")
        elif _words(part.definition) != _words(wanted.definition):
            advice = f"type in psql: {dropping(wanted)} {making(wanted)}"
            yield Finding(wanted.table, "", f"{kind} {wanted.name} is altered", advice)
    for part in there.values():
        yield Finding(part.table, "", f"{kind} {part.name} is not policyd's", f"type in psql: {dropping(part)}")


def _words(text: str) -> list[str]:
    """The words of a definition, which are the same however SQLAlchemy or the server words it."""
    text = _BEFORE_NAME.sub("", _CAST.sub("", text))
    for theirs, ours in _SAME:
        text = text.replace(theirs, ours)
    return [word if word.startswith("'") else word.lower() for word in _WORD.findall(text)]


def _lowered(type_: str) -> str:
    """A column's type as the catalogue has it: all but the name of the collation in lower case."""
    name, _, collation = type_.replace('"', "").partition(" COLLATE ")
    return f"{name.lower()} collate {collation}" if collation else name.lower()


@cache
def _wanted_columns() -> dict[tuple[str, str], Column[Any]]:
    return {(table.name, column.name): column for table in metadata.sorted_tables for column in table.c}


@cache
def _wanted_constraints() -> tuple[_Part, ...]:
    return tuple(
        _Part(table.name, _name_of(constraint), _definition_of(constraint))
        for table in metadata.sorted_tables
        for constraint in table.constraints
        if constraint.name or constraint.columns  # type: ignore[attr-defined]  # those of a list are none
    )


def _name_of(constraint: Constraint) -> str:
    """The name that the schema gives it, or else the server."""
    if constraint.name:
        return str(constraint.name)
    if isinstance(constraint, PrimaryKeyConstraint):
        return f"{constraint.table.name}_pkey"
    (column,) = constraint.columns  # type: ignore[attr-defined]  # what has columns, has no name of its own
    return f"{constraint.table.name}_{column.name}_{'fkey' if isinstance(constraint, ForeignKeyConstraint) else 'key'}"


def _definition_of(constraint: Constraint) -> str:
    added = definition(AddConstraint(constraint, isolate_from_table=False)).partition(" ADD ")[2]
    return added.removeprefix(f"CONSTRAINT {constraint.name} ")


@cache
def _wanted_indexes() -> tuple[_Part, ...]:
    return tuple(
        _Part(table.name, str(index.name), definition(CreateIndex(index)))
        for table in metadata.sorted_tables
        for index in sorted(table.indexes, key=lambda each: str(each.name))
    )


def _quoted(name: str) -> str:
    return DEFINING.identifier_preparer.quote(name)
