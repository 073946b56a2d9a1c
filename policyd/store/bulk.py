"""The records of a file -> the tables, a million in one transaction: each record whole, or not at all."""

import pickle
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO

from policyd.errors import RefusedError
from policyd.records import Problem, Record, Row
from policyd.store.apply import References, RowEditor
from policyd.store.counted import BulkOptions, CountedTables, WaitsError
from policyd.store.writer import Writer

__all__ = ["BulkEditor", "BulkOptions"]


class BulkEditor:
    """Applies records over *connection*, by *writer*; row by row through `rows`, to `tables`."""

    def __init__(self, connection: sqlite3.Connection, writer: Writer, options: BulkOptions) -> None:
        self._connection = connection
        self._journal = writer.journal
        self._may_write_first = options.add_domains
        self._waiting: IO[bytes] | None = None
        self._waiting_count = 0
        self.tables = CountedTables(connection, writer, options)
        self.rows = RowEditor(self.tables)

    @property
    def tally(self) -> Counter[tuple[str, str]]:
        """What came of the objects so far, by pairs like ("mailbox", "added")."""
        return self.tables.tally

    def apply(self, record: Record) -> tuple[Problem, ...]:
        """Apply *record*, or tell what is wrong with it, in which case nothing of it was applied.

        What names a mailbox that isn't there yet waits for `finish`: of a mailbox, the senders that it accepts and
        rejects; of others, the whole record.
        """
        if record.problems:
            return record.problems
        if len(record.rows) != 1 or self._may_write_first:
            return self._apply_whole(record, record.rows, is_last=False)
        try:
            left = self.rows.apply(record.rows[0], is_last=False)
        except RefusedError as error:
            return (Problem(str(error)),)
        except WaitsError:
            self._defer(record, record.rows)
            return ()
        if left is not None:
            self._defer(record, (left,))
        return ()

    def finish(self) -> Iterator[tuple[Record, tuple[Problem, ...]]]:
        """Apply what waits, over and over while that lets others go on; of each, what is wrong with it, if anything."""
        before = 0
        while self._waiting is not None:
            is_last = self._waiting_count == before
            spool, before = self._waiting, self._waiting_count
            self._waiting, self._waiting_count = None, 0
            with spool:
                spool.seek(0)
                for _ in range(before):
                    record, rows = pickle.load(spool)
                    yield record, self._apply_whole(record, rows, is_last=is_last)

    def _apply_whole(self, record: Record, rows: Sequence[Row | References], *, is_last: bool) -> tuple[Problem, ...]:
        """Apply all *rows* of *record*, or none."""
        tally, journaled = self.tables.tally.copy(), self._journal.mark()
        self._connection.execute("SAVEPOINT record")
        left: list[References] = []
        try:
            for row in rows:
                rest = self.rows.apply(row, is_last=is_last)
                left += [rest] if rest is not None else []
        except (RefusedError, WaitsError) as error:
            self._connection.execute("ROLLBACK TO record")
            self._connection.execute("RELEASE record")
            self._journal.reset(journaled)
            self.tables.reset(tally)
            if isinstance(error, WaitsError) and not is_last:
                self._defer(record, rows)
                return ()
            return (self._problem_of(error, rows),)
        self._connection.execute("RELEASE record")
        if left:
            self._defer(record, left)
        return ()

    def _problem_of(self, error: RefusedError | WaitsError, rows: Sequence[Row | References]) -> Problem:
        message = str(error)
        for row in rows:
            if isinstance(row, References):
                self.tables.count("mailbox", row.before, row.after)
                message += "; the mailbox itself is imported"
        return Problem(message)

    def _defer(self, record: Record, rows: Sequence[Row | References]) -> None:
        if self._waiting is None:
            self._waiting = tempfile.TemporaryFile()  # noqa: SIM115 - finish() closes it
        pickle.dump((replace(record, rows=()), tuple(rows)), self._waiting)
        self._waiting_count += 1
