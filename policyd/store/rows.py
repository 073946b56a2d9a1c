"""Whole tables as rows, some at a time: for a copy to another engine, and for a replica."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Table, select

from policyd.store.connection import Connection, Statement
from policyd.store.schema import metadata

_AT_ONCE = 5000

Rows = tuple[str, Sequence[tuple[Any, ...]]]  # of one table, by its name: some at a time

_ALL = {table.name: Statement(select(table)) for table in metadata.sorted_tables}


def rows_of(connection: Connection, tables: Iterable[Table]) -> Iterator[Rows]:
    """Every row of *tables*, as *connection* sees them; memory does not grow with their number."""
    for table in tables:
        rows = connection.stream(_ALL[table.name])
        while some := [*islice(rows, _AT_ONCE)]:
            yield table.name, some
