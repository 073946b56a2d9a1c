"""Replays the journal from its first row: whether the chain is whole, and what it left of each object."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text, bindparam, delete, insert, select
from sqlalchemy.schema import CreateTable

from policyd.address import fold
from policyd.model import Address, BlockedSender, Change, Finding, Party, PartyKind
from policyd.store.database import compiled
from policyd.store.journal import (
    UPGRADE,
    Stored,
    chain_digest,
    from_snapshot,
    is_upgrade_from_first,
    numbered,
    snapshot,
)
from policyd.store.schema import change

_CACHE_KIBIBYTES = 32768
_ALTERED = "somebody altered the journal; compare it with a backup and with the mail log"
_BEHIND = "somebody changed the tables past policyd; see: policyd history --object"
_KEYS = {"domain": "name", "mailbox": "id", "group": "id", "member": "id", "address": "address", "sender": "id"}
_COUNTERS = {"mailbox": "next_mailbox", "group": "next_group", "member": "next_member", "sender": "next_blocked"}
TABLES = {
    "domain": "domain",
    "mailbox": "mailbox",
    "group": "mailbox_group",
    "member": "group_member",
    "address": "address",
    "sender": "blocked_sender",
}

_replayed = MetaData()
_name = Table(
    "replayed_name",
    _replayed,
    Column("folded", Text, primary_key=True),
    Column("mailbox", Integer, nullable=False),
    prefixes=["TEMPORARY"],
    sqlite_with_rowid=False,
)
_state = Table(
    "replayed_state",
    _replayed,
    Column("noun", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("state", LargeBinary, nullable=False),
    Column("object", Text, nullable=False),
    Column("change", Integer, nullable=False),
    prefixes=["TEMPORARY"],
    sqlite_with_rowid=False,
)
_KEEP_NAME = compiled(insert(_name).prefix_with("OR REPLACE"))
_DROP_NAME = compiled(delete(_name).where(_name.c.folded == bindparam("folded")))
_FIND_NAME = compiled(select(_name.c.mailbox).where(_name.c.folded == bindparam("folded")))
_KEEP = compiled(insert(_state).prefix_with("OR REPLACE"))
_TAKE = compiled(
    delete(_state)
    .where(_state.c.noun == bindparam("noun"), _state.c.key == bindparam("which"))
    .returning(_state.c.state, _state.c.change)
)
_LEFT = compiled(select(_state.c.noun, _state.c.object, _state.c.change).order_by(_state.c.change))
_CHANGES = compiled(select(change).order_by(change.c.id))
_UPGRADES = compiled(select(change.c.operation, change.c.before).where(change.c.operation == bindparam("upgrade")))


class Replay:
    """The journal over *connection*; what it left of each object is in temporary tables, on disk where large."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._latest = ("", 0)  # a mailbox whose addresses come next, as a rule
        self._is_first_edition = False  # what wrote the row that is read now
        self.last, self.digest = 0, ""
        self.highest = dict.fromkeys(_COUNTERS.values(), 0)  # number of each kind, by the counter that gave it
        connection.execute(f"PRAGMA temp.cache_size = {-_CACHE_KIBIBYTES}")
        for table in _replayed.sorted_tables:
            connection.execute(compiled(CreateTable(table)))

    def chain(self, advance: Callable[[], None]) -> Iterator[Finding]:
        """What is wrong with the journal itself: an id that is missing, a digest that is not that of row and chain.

        To be read to its end, before `take`; *advance* is called for each row.
        """
        self._is_first_edition = self._has_first_edition()
        for row in self._connection.execute(_CHANGES):
            advance()
            read = Change(*row)
            if read.id != self.last + 1:
                yield Finding("change", str(read.id), f"it comes after change {self.last}: rows are missing", _ALTERED)
            elif chain_digest(self.digest, row[:-1]) != read.digest:
                yield Finding("change", str(read.id), "its digest is not that of the row and the one before", _ALTERED)

            # What an object became by this change.
            self.last, self.digest = read.id, read.digest
            try:
                self._apply(read)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # whatever somebody wrote there
                yield Finding("change", str(read.id), "it doesn't say what was changed", _ALTERED)

    def take(self, noun: str, key: int | str, name: str, values: Mapping[str, Any]) -> Finding | None:
        """What is wrong with an object; *values* is its snapshot, others by number. Once for each object."""
        storable = str(key).encode("utf-8", "backslashreplace").decode("utf-8")
        found = self._connection.execute(_TAKE, (noun, storable)).fetchone()
        if found is None:
            return Finding(TABLES[noun], name, "no change in the journal made it", f"{_BEHIND} '{name}'")
        if found[0] != _digest(values):
            problem = f"it is not as change {found[1]} left it"
            return Finding(TABLES[noun], name, problem, f"{_BEHIND} '{name}'")
        return None

    def left(self) -> Iterator[Finding]:
        """The objects that the journal left and nobody asked for."""
        for noun, name, number in self._connection.execute(_LEFT):
            problem = f"it is not there, and change {number} left it"
            yield Finding(TABLES[noun], name, problem, f"{_BEHIND} '{name}'")

    def _has_first_edition(self) -> bool:
        """Whether the journal begins with rows of the first edition."""
        for operation, before in self._connection.execute(_UPGRADES, (UPGRADE,)):
            try:
                if is_upgrade_from_first(operation, before):
                    return True
            except (ValueError, TypeError, AttributeError, RecursionError):  # whatever somebody wrote there
                continue
        return False

    def _apply(self, read: Change) -> None:
        noun = read.operation.partition(".")[0]
        if noun == "database":  # restored or upgraded, with the journal of that database: no object became another
            if is_upgrade_from_first(read.operation, read.before):
                self._is_first_edition = False
            return
        f"{read.operation}{read.object}".encode()  # what can't be, can't be looked for either
        before, after = _snapshot(read.before), _snapshot(read.after)
        if noun == "group" and "member" in (after or before):
            noun = "member"

        # The object's new state, in which others are named by number: renaming one changes no other object.
        state = after if after is None else self._state(noun, after)

        # Which mailbox has which name from here on; the first edition names it so.
        if noun == "mailbox" and self._is_first_edition:
            if before is not None:
                self._connection.execute(_DROP_NAME, (fold(before["name"]),))
            if after is not None:
                self._connection.execute(_KEEP_NAME, (fold(after["name"]), _number_of(after)))
            self._latest = (after["name"], after["id"]) if after else ("", 0)

        if state is None:
            self._connection.execute(_TAKE, (noun, str(before[_KEYS[noun]]))).fetchall()
            return
        if noun in _COUNTERS:
            counter = _COUNTERS[noun]
            self.highest[counter] = max(self.highest[counter], _number_of(after))
        self._connection.execute(_KEEP, (noun, str(after[_KEYS[noun]]), _digest(state), read.object, read.id))

    def _state(self, noun: str, taken: Any) -> Mapping[str, Any]:
        """What a snapshot says, with others by their numbers."""
        if not self._is_first_edition:
            return numbered(taken)
        return numbered(snapshot(self._with_numbers(from_snapshot(noun, taken, is_first_edition=True))))

    def _with_numbers(self, stored: Stored) -> Stored:
        """An object of the first edition, which names mailboxes, with the numbers of those."""
        match stored:
            case Address():
                return replace(stored, mailbox_id=self._number(stored.mailbox))
            case BlockedSender():
                return replace(stored, who=self._numbered(stored.who), to=self._numbered(stored.to))
            case _:
                return stored

    def _numbered(self, party: Party) -> Party:
        return party._replace(number=self._number(party.text)) if party.kind is PartyKind.MAILBOX else party

    def _number(self, name: str) -> int:
        """The number of the mailbox that had *name* then."""
        if name == self._latest[0]:
            return self._latest[1]
        found = self._connection.execute(_FIND_NAME, (fold(name),)).fetchone()
        return int(found[0]) if found else 0


def _snapshot(text: str | None) -> Any:
    """An object as the journal has it. Raises ValueError where that is no JSON, or has text that is no UTF-8."""
    if text is None:
        return None
    text.encode("utf-8")
    value = json.loads(text)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _number_of(snapshot: Any) -> int:
    """The number of the row that *snapshot* is of. Raises ValueError where no row can have it."""
    number = snapshot["id"]
    if type(number) is int and 0 < number < 2**63:
        return number
    raise ValueError


def _digest(values: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("utf-8")).digest()
