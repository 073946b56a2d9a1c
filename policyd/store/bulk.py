"""Applies the records of a file to the tables, a million in one transaction: each record whole, or not at all."""

import pickle
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO

from policyd.errors import NotYetError, RefusedError
from policyd.records import Problem, Record, Row
from policyd.store.apply import References, RowApplier
from policyd.store.database import Connection
from policyd.store.edit import Editor


class BulkEditor:
    """Applies records over *connection*, by *editor*; row by row through `applier`.

    Domains of new addresses are managed too, if it *adds_domains*.
    """

    def __init__(self, connection: Connection, editor: Editor, *, adds_domains: bool = False) -> None:
        self._connection = connection
        self._editor = editor
        self._adds_domains = adds_domains
        self._waiting: IO[bytes] | None = None
        self._waiting_count = 0
        self.applier = RowApplier(editor, adds_domains=adds_domains)

    @property
    def tally(self) -> Counter[tuple[str, str]]:
        """What came of the objects so far, by pairs like ("mailbox", "added")."""
        return self.applier.tally

    def apply(self, record: Record) -> tuple[Problem, ...]:
        """Apply *record*, or return what is wrong with it: then nothing of it was applied.

        What names a mailbox that isn't there yet waits for `finish`: of a mailbox, the senders that it accepts and
        rejects; of others, the whole record.
        """
        if record.problems:
            return record.problems

        # A single row is checked before anything of it is written, so it needs no savepoint; a domain may come first.
        if len(record.rows) != 1 or self._adds_domains:
            return self._apply_whole(record, record.rows, is_last=False)
        try:
            left = self.applier.apply(record.rows[0], is_last=False)
        except NotYetError:
            self._defer(record, record.rows)
            return ()
        except RefusedError as error:
            return (Problem(error.fact),)
        if left is not None:
            self._defer(record, (left,))
        return ()

    def finish(self) -> Iterator[tuple[Record, tuple[Problem, ...]]]:
        """Apply the records that wait, again as long as some succeed; yields each with what is wrong with it."""
        before = 0
        while self._waiting is not None:
            # Where a round has let nothing go on, the next one is the last: what still can't be applied is wrong.
            is_last = self._waiting_count == before
            spool, before = self._waiting, self._waiting_count
            self._waiting, self._waiting_count = None, 0

            # What has to wait again goes into a new spool.
            with spool:
                spool.seek(0)
                for _ in range(before):
                    record, rows = pickle.load(spool)
                    yield record, self._apply_whole(record, rows, is_last=is_last)

    def _apply_whole(self, record: Record, rows: Sequence[Row | References], *, is_last: bool) -> tuple[Problem, ...]:
        """Apply all *rows* of *record*, or none."""
        # Remember where tables, journal and tally stand.
        tally, journaled = self.applier.tally.copy(), self._editor.journal.mark()
        self._connection.set_savepoint()

        # Apply the rows; if one is refused, put all three back, and let the record wait or fail as a whole.
        left: list[References] = []
        try:
            for row in rows:
                rest = self.applier.apply(row, is_last=is_last)
                left += [rest] if rest is not None else []
        except RefusedError as error:
            self._connection.roll_back_to_savepoint()
            self._editor.journal.reset(journaled)
            self._editor.forget()
            self.applier.tally = tally
            if isinstance(error, NotYetError) and not is_last:
                self._defer(record, rows)
                return ()
            return (self._problem_of(error, rows),)

        # All rows are applied, but for what they say of other mailboxes, which waits.
        self._connection.release_savepoint()
        if left:
            self._defer(record, left)
        return ()

    def _problem_of(self, error: RefusedError, rows: Sequence[Row | References]) -> Problem:
        message = error.fact
        for row in rows:
            if isinstance(row, References):
                self.applier.count(row.before, row.after)
                message += "; the mailbox itself is imported"
        return Problem(message)

    def _defer(self, record: Record, rows: Sequence[Row | References]) -> None:
        if self._waiting is None:
            self._waiting = tempfile.TemporaryFile()  # noqa: SIM115 - finish() closes it
        pickle.dump((replace(record, rows=()), tuple(rows)), self._waiting)
        self._waiting_count += 1
