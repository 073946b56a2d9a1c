"""Applies the records of a file to the tables, a million in one transaction: each record whole, or not at all."""

import pickle
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO

from policyd.errors import NotYetError, RefusedError
from policyd.records import DomainRow, GroupRow, MailboxRow, Problem, Record, Row
from policyd.store.apply import References, RowApplier
from policyd.store.database import Connection
from policyd.store.edit import Editor

_NOUNS = {MailboxRow: "mailbox", GroupRow: "group", DomainRow: "domain"}


class BulkEditor:
    """Applies records over *connection*, by *editor*; row by row through `applier`.

    Domains of new addresses are managed too, if it *adds_domains*.
    """

    def __init__(self, connection: Connection, editor: Editor, *, adds_domains: bool = False) -> None:
        self._connection = connection
        self._editor = editor
        self._adds_domains = adds_domains
        self._waiting = _Spool()
        self._groups = _Spool()  # what is said of the members and lists of groups
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
        # First the members of groups: what refers to a group must find it whole.
        yield from self._finish_groups()
        self.applier.knows_groups = True

        before = 0
        while self._waiting.count:
            # Where a round has let nothing go on, the next one is the last: what still can't be applied is wrong.
            is_last = self._waiting.count == before
            spool, before = self._waiting, self._waiting.count

            # What has to wait again goes into a new spool.
            self._waiting = _Spool()
            for record, rows in spool.drain():
                yield record, self._apply_whole(record, rows, is_last=is_last)

    def _finish_groups(self) -> Iterator[tuple[Record, tuple[Problem, ...]]]:
        """Give the groups their members; a new group of which one is missing is no group, and so on to those around it.

        A group without one of its members would let that one through where it is blocked.
        """
        # Take out what names somebody who is not there, until there is no more such group.
        is_settled = False
        while not is_settled:
            is_settled = True
            spool, self._groups = self._groups, _Spool()
            for record, rows in spool.drain():
                problems = [problem for row in rows if (problem := self.applier.unknown_in(_references(row)))]
                if not problems:
                    self._groups.add(record, rows)
                    continue
                gone = [self.applier.forget_group(_references(row)) for row in rows]
                is_settled = is_settled and not any(gone)
                kept = "" if all(gone) else "; the group itself is imported"
                yield record, tuple(Problem(f"{problem}{kept}") for problem in problems)

        # All that is left can be applied.
        for record, rows in self._groups.drain():
            yield record, self._apply_whole(record, rows, is_last=True)

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

        # All rows are applied, but for what they say of other objects, which waits.
        self._connection.release_savepoint()
        if left:
            self._defer(record, left)

        # A circle of groups is in many a directory, and does no harm: it is said, and the rest stands.
        circles, self.applier.circles = self.applier.circles, []
        return tuple(map(Problem, circles))

    def _problem_of(self, error: RefusedError, rows: Sequence[Row | References]) -> Problem:
        message = error.fact
        for row in rows:
            if isinstance(row, References):
                self.applier.count(row.before, row.after)
                message += f"; the {_NOUNS[type(row.row)]} itself is imported"
        return Problem(message)

    def _defer(self, record: Record, rows: Sequence[Row | References]) -> None:
        is_of_groups = all(isinstance(row, References) and isinstance(row.row, GroupRow) for row in rows)
        (self._groups if is_of_groups else self._waiting).add(replace(record, rows=()), rows)


class _Spool:
    """Records that wait, with what is left of their rows, in a file: memory does not grow with them."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self.count = 0

    def add(self, record: Record, rows: Sequence[Row | References]) -> None:
        """Keep *record*, of which *rows* wait."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - drain() closes it
        pickle.dump((record, tuple(rows)), self._file)
        self.count += 1

    def drain(self) -> Iterator[tuple[Record, tuple[Row | References, ...]]]:
        """All that was added, in that order; to be read to the end, and once."""
        if self._file is None:
            return
        with self._file as file:
            file.seek(0)
            for _ in range(self.count):
                yield pickle.load(file)


def _references(row: Row | References) -> References:
    assert isinstance(row, References)
    return row
