"""Applies the records of a file to the tables, a million in one transaction: each record whole, or not at all."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from policyd.address import fold
from policyd.errors import NotManagedError, NotYetError, RefusedError
from policyd.model import Domain, Unlisted
from policyd.records import BlockRow, DomainRow, GroupRow, ListEdit, MailboxRow, Problem, Record, Row, groups_of
from policyd.store.apply import Left, References, RowApplier
from policyd.store.connection import Connection
from policyd.store.edit import Editor
from policyd.store.group_rows import GroupRows, WrongGroup, falls_with
from policyd.store.spool import Spool


class BulkEditor:
    """Applies records over *connection*, by *editor*; row by row through `applier`.

    Domains of new addresses are managed too, if it *adds_domains*. Groups may be in one another, if it
    *takes_circles*; after `finish`, `circle` are the names of those of the file that are.
    """

    def __init__(
        self, connection: Connection, editor: Editor, *, adds_domains: bool = False, takes_circles: bool = False
    ) -> None:
        self._connection = connection
        self._editor = editor
        self._adds_domains = adds_domains
        self.applier = RowApplier(editor, adds_domains=adds_domains)
        self._waiting: Spool[Record] = Spool()  # not applied at all yet
        self._waiting_domains: set[str] = set()
        self._left: Spool[tuple[Record, tuple[Left, ...]]] = Spool()  # what is left of records
        self._groups = GroupRows(connection, editor, self.applier, takes_circles=takes_circles)
        self._leaning: Spool[Record] = Spool()  # those that stand or fall with others
        self._wrong_lines: set[int] = set()  # of the records that such ones may stand with

    @property
    def tally(self) -> Counter[tuple[str, str]]:
        """What came of the objects so far, by pairs like ("mailbox", "added")."""
        return +self.applier.tally

    @property
    def is_waiting(self) -> bool:
        """Whether a record so far may still turn out to be wrong."""
        return bool(self._waiting.count or self._left.count or self._leaning.count)

    @property
    def circle(self) -> list[str]:
        """The groups of the file that are in one another."""
        return self._groups.circle

    @property
    def taken(self) -> list[str]:
        """What rows of the file have taken away that others of it say: of some, in words."""
        return self.applier.listed.taken + self._groups.listed.taken

    @property
    def idle(self) -> list[str]:
        """What was taken as it stood, though it does nothing, in words."""
        return [*self.applier.idle]

    def look_ahead(self, records: Iterable[Record]) -> None:
        """Find out at once what `apply` will ask of each of *records*: who has the names and the addresses in it."""
        names: dict[str, None] = {}
        addresses: dict[str, None] = {}
        for record in records:
            for row in record.rows:
                if isinstance(row, MailboxRow):
                    names[fold(row.name)] = None
                    if isinstance(row.addresses, ListEdit):
                        for address in row.addresses.add:
                            addresses[address] = None
        self._editor.look_ahead(names, addresses)

    def apply(self, record: Record) -> tuple[Problem, ...]:
        """Apply *record*, or return what is wrong with it: then nothing of it was applied.

        What names a mailbox or a domain that isn't there yet waits for `finish`, and so does what names groups: of a
        mailbox and a domain, the senders that it accepts and rejects; of others, the whole record.
        """
        if record.problems:
            for name in record.wrong_groups:
                self._groups.refuse(record.line, name)
            return record.problems
        if record.stands_with:
            self._leaning.put(record)
            return ()

        # A single row is checked before anything of it is written, so it needs no savepoint.
        if len(record.rows) != 1 or self._brings_domains(record.rows[0]):
            return self._begin_whole(record, is_last=False)
        try:
            left = self.applier.begin(record.rows[0], is_last=False)
        except RefusedError as error:
            self.applier.listed.drop()
            return self._wait_or_fail(record, error, is_last=False)
        self._keep(record, [left] if left is not None else [])
        return ()

    def _brings_domains(self, row: Row) -> bool:
        """Whether domains may come in with *row*, before it is known whether all of it can be applied."""
        if not self._adds_domains:
            return False
        if not isinstance(row, MailboxRow):
            return True
        added = row.addresses.add if isinstance(row.addresses, ListEdit) else ()
        return not all(self._editor.is_managed(address.rpartition("@")[2]) for address in added)

    def finish(self) -> Iterator[tuple[Record, tuple[Problem, ...]]]:
        """Apply the records that wait, and what is left of others; yields each with what is wrong with it."""
        # First what waits for other records is tried again, as long as some succeed.
        before = 0
        while self._waiting.count:
            # Where a round has let nothing go on, the next one is the last: what still can't be applied is wrong.
            is_last = self._waiting.count == before
            waiting, before = self._waiting, self._waiting.count
            self._waiting = Spool()
            for record in waiting:
                yield record, self._begin_whole(record, is_last=is_last)
            waiting.close()

        # Now each mailbox is there, for the groups; and then each group, for what names one.
        wrong = self._groups.apply()
        for record, rows in self._left:
            yield record, self._end_whole(record, rows, wrong)
        self._left.close()

        # At last what says nothing alone: the exceptions, in lines of their own, from what may be wrong by now.
        for record in self._leaning:
            fallen = self._wrong_lines.intersection(record.stands_with)
            if fallen:
                yield record, (Problem(f"line {min(fallen)} is wrong, and this stands or falls with it"),)
        self._leaning.close()

    def open_domains(self, names: Iterable[str]) -> list[Domain]:
        """Let mail to unlisted recipients through in those of *names* that the file manages; returns them, as before.

        Rows about them are missing, and for whom nobody knows, mail must not be refused. One that stands for another
        one stands for itself then: what is unlisted there would be the other's to say.
        """
        opened = []
        for name in sorted(self.applier.new_domains.intersection(names)):
            domain = self._editor.queries.domain(name)
            if domain is not None and (domain.alias_of or domain.unlisted is Unlisted.REJECT):
                self._editor.put_domain(domain, replace(domain, unlisted=Unlisted.ACCEPT, alias_of=""))
                opened.append(domain)
        return opened

    def _begin_whole(self, record: Record, *, is_last: bool) -> tuple[Problem, ...]:
        """Apply all rows of *record* as far as they go before groups are there, or none."""
        # Remember where the tally stands, too; if a row is refused, put all back, and let the record wait or fail.
        tally, journaled = self.applier.tally.copy(), self._editor.journal.mark()
        self._connection.set_savepoint()
        left = []
        left_blocks = self.applier.leaves_blocks
        try:
            for row in record.rows:
                rest = self.applier.begin(row, is_last=is_last)
                left += [rest] if rest is not None else []
        except RefusedError as error:
            self._roll_back(tally, journaled)
            return self._wait_or_fail(record, error, is_last=is_last)

        # Where one of its blocked senders has to wait, so do all: what waits may turn out to be wrong.
        if self.applier.leaves_blocks and not left_blocks:
            self._roll_back(tally, journaled)
            return self._begin_whole(record, is_last=is_last)

        # All rows are applied, but for what is left of them.
        self._connection.release_savepoint()
        self._keep(record, left)
        return ()

    def _end_whole(self, record: Record, rows: Sequence[Left], wrong: dict[str, WrongGroup]) -> tuple[Problem, ...]:
        """Apply *rows*, what is left of *record*, or none of it; groups are in, but for those that are *wrong*."""
        if message := _wrong_with(record, rows, wrong):
            return (self._problem(message, rows),)
        tally, journaled = self.applier.tally.copy(), self._editor.journal.mark()
        self._connection.set_savepoint()
        try:
            for row in rows:
                if not isinstance(row, GroupRow):
                    self.applier.end(row)
        except RefusedError as error:
            self._roll_back(tally, journaled)
            self._note_wrong(record.line, rows)
            return (self._problem(error.fact, rows),)
        self._connection.release_savepoint()
        self.applier.listed.keep()
        return ()

    def _note_wrong(self, line: int, rows: Sequence[Left | Row]) -> None:
        """Note that the record at *line* is wrong, if others may stand with it."""
        if any(isinstance(row, BlockRow) and row.needs_no_proof for row in rows):
            self._wrong_lines.add(line)

    def _roll_back(self, tally: Counter[tuple[str, str]], journaled: tuple[int, str, int, tuple[int, ...]]) -> None:
        """Put the tables back to the savepoint, and *tally* and journal to where they stood."""
        self._connection.roll_back_to_savepoint()
        self._editor.journal.reset(journaled)
        self._editor.forget()
        self.applier.tally = tally
        self.applier.listed.drop()

    def _wait_or_fail(self, record: Record, error: RefusedError, *, is_last: bool) -> tuple[Problem, ...]:
        """Let *record* wait, if another one may mend what *error* says; else what is wrong with it."""
        is_waiting = isinstance(error, NotYetError)
        is_waiting |= isinstance(error, NotManagedError) and error.domain in self._waiting_domains
        if is_last or not is_waiting:
            self._note_wrong(record.line, record.rows)
            return (Problem(error.fact, unmanaged=error.domain if isinstance(error, NotManagedError) else ""),)
        self._waiting.put(record)
        self._waiting_domains.update(row.name for row in record.rows if isinstance(row, DomainRow))
        return ()

    def _keep(self, record: Record, rows: Sequence[Left]) -> None:
        """Note that *record* is applied, but for *rows*, which are left until every mailbox of the file is there."""
        self.applier.listed.keep()
        for row in rows:
            if isinstance(row, GroupRow):
                self._groups.add(record.line, row)
        if rows:
            self._left.put((replace(record, rows=()), tuple(rows)))

    def _problem(self, message: str, rows: Sequence[Left]) -> Problem:
        """What is wrong with a record of which *rows* are left, and what of it was applied all the same."""
        for row in rows:
            if isinstance(row, References) and not self.applier.withdraw(row):
                self.applier.count(row.before, row.after)
                message += f"; the {'domain' if isinstance(row.row, DomainRow) else 'mailbox'} itself is imported"
        return Problem(message)


def _wrong_with(record: Record, rows: Sequence[Left], wrong: dict[str, WrongGroup]) -> str:
    """What is wrong with *rows* of *record* by the groups that are *wrong*; "" for nothing."""
    for row in rows:
        if isinstance(row, GroupRow) and (name := fold(row.name)) in wrong:
            is_here = wrong[name].message and wrong[name].line in (record.line, 0)
            return wrong[name].message if is_here else falls_with(wrong[name])
        named: Row = row.row if isinstance(row, References) else row
        for name in sorted(groups_of(named) & wrong.keys()):
            return falls_with(wrong[name])
    return ""
