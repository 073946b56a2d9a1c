"""Applies the rows of a file that are about groups: they stand or fall with the groups that they name."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from policyd.address import fold
from policyd.errors import RefusedError
from policyd.model import Group, Party, PartyKind
from policyd.records import GroupRow, ListEdit, RowMode, groups_of
from policyd.store.apply import RowApplier
from policyd.store.connection import Connection
from policyd.store.edit import Editor
from policyd.store.listed import ListedOnce
from policyd.store.spool import Spool


class WrongGroup(NamedTuple):
    """The first row about a group that is wrong: the group's name, the row's line (0: any), and what is wrong."""

    name: str
    line: int
    message: str


class GroupRows:
    """Keeps rows about groups, and applies them when every mailbox of the file is there.

    Rows of a directory may hold circles, which are harmless: *takes_circles* takes them, and so does a file with a row
    that says how a group stood. After `apply`, `circle` are the groups of the file that are in one another, and
    `listed` has whose members were said.
    """

    def __init__(self, connection: Connection, editor: Editor, applier: RowApplier, *, takes_circles: bool) -> None:
        self._connection = connection
        self._editor = editor
        self._applier = applier
        self._takes_circles = takes_circles
        self._rows: Spool[tuple[int, GroupRow]] = Spool()
        self._naming: dict[str, dict[str, str]] = defaultdict(dict)  # of each group, those of the file that name it
        self._refused: dict[str, WrongGroup] = {}
        self.circle: list[str] = []
        self.listed = ListedOnce()

    def add(self, line: int, row: GroupRow) -> None:
        """Keep *row*, of the record at *line*."""
        self._rows.put((line, row))
        self._takes_circles |= row.as_it_stood
        for name in groups_of(row):
            self._naming[name][fold(row.name)] = row.name

    def refuse(self, line: int, name: str) -> None:
        """Note that the record at *line*, about the group *name*, can't be read."""
        self._refused.setdefault(fold(name), WrongGroup(name, line, ""))

    def apply(self) -> dict[str, WrongGroup]:
        """Apply every row that isn't wrong; returns the groups that are wrong, by their folded names.

        Nothing in the file about a wrong group is applied, nor what names it: without some of its members, a block has
        a hole, and who is accepted is not who was meant.
        """
        wrong = self._refused.copy()
        self._add_naming(wrong, self._refused)
        tally, journaled = self._applier.tally.copy(), self._editor.journal.mark()
        while self._rows.count:
            # All rows that may be good are applied. If some are wrong, all is put back, and done without those.
            self._connection.set_savepoint()
            found = self._try_without(wrong)
            if not found:
                self._connection.release_savepoint()
                break
            self._connection.roll_back_to_savepoint()
            self._editor.journal.reset(journaled)
            self._editor.forget()
            self._applier.tally = tally.copy()
            wrong |= found
            self._add_naming(wrong, found)
        if self._takes_circles:
            self._find_circle(wrong)
        self._rows.close()
        return wrong

    def _try_without(self, wrong: dict[str, WrongGroup]) -> dict[str, WrongGroup]:
        """Apply the rows about groups that aren't *wrong*; returns those that turn out to be."""
        # First every group is declared: one may name those further down.
        found: dict[str, WrongGroup] = {}
        before: dict[str, Group | None] = {}
        for line, row in self._rows:
            name = fold(row.name)
            if name not in wrong and name not in found:
                try:
                    before.setdefault(name, self._applier.declare_group(row))
                except RefusedError as error:
                    found[name] = WrongGroup(row.name, line, error.fact)

        # Then each gets its members, and whom it accepts.
        self.listed = ListedOnce()
        for line, row in self._rows:
            name = fold(row.name)
            if row.mode is not RowMode.DELETE and name not in wrong and name not in found:
                try:
                    former = before.pop(name) if name in before else self._editor.group(row.name)
                    self._applier.fill_group(row, former, self.listed, takes_circles=self._takes_circles)
                    self.listed.keep()
                except RefusedError as error:
                    found[name] = WrongGroup(row.name, line, error.fact)
        return found

    def _add_naming(self, wrong: dict[str, WrongGroup], found: Iterable[str]) -> None:
        """Add to those that are *wrong* the groups that name one of those *found*, directly or not."""
        waiting = [*found]
        while waiting:
            name = waiting.pop()
            for naming, written in sorted(self._naming.get(name, {}).items()):
                if naming not in wrong:
                    wrong[naming] = WrongGroup(written, 0, falls_with(wrong[name]))
                    waiting.append(naming)

    def _find_circle(self, wrong: dict[str, WrongGroup]) -> None:
        """Find the groups of the file that are in themselves, through others or not."""
        found = set()
        for _, row in self._rows:
            members = row.members.add if isinstance(row.members, ListEdit) else ()
            groups = [fold(party.text) for party in members if party.kind is PartyKind.GROUP]
            if groups and fold(row.name) not in wrong:
                group = self._editor.group(row.name)
                above = [each.id for each in self._editor.queries.groups_above(group.id)]
                if fold(row.name) in groups or group.id in above:
                    found.add(group.name)
        self.circle = sorted(found)


def falls_with(wrong: WrongGroup) -> str:
    """What is wrong with what names a group that is *wrong*."""
    place = f" in line {wrong.line}" if wrong.line else ""
    return f"{Party(PartyKind.GROUP, wrong.name)} is wrong{place}, and this stands or falls with it"
