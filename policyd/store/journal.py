"""The journal: a row for each object that a command changed, chained by digests, in the change's transaction.

An object's snapshot, as JSON, names other objects by number and name: `{"group": 7, "name": "sales"}`; patterns and
reserved words are texts. An undo, and a replay, go by the numbers: a rename changes no other object.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, NamedTuple, assert_never

from sqlalchemy import bindparam, insert, select, update

from policyd.address import is_pattern
from policyd.errors import StoreError
from policyd.model import (
    RESERVED_WORDS,
    Address,
    BlockedSender,
    Change,
    Domain,
    Group,
    Mailbox,
    Membership,
    Party,
    PartyKind,
    Receive,
    Unlisted,
)
from policyd.store.connection import Connection, Statement
from policyd.store.schema import COUNTERS, change, journal_head

Stored = Domain | Mailbox | Group | Membership | Address | BlockedSender
Shown = Mapping[str, Any]  # an object's fields by name, as JSON has them

UPGRADE = "database.upgrade"  # the operation of the row that an upgrade writes: above it, rows of this edition
_FIRST_SCHEMA = 1  # the tables' version in the first edition
_MEMBER = '"member": '  # a field that only memberships have; in a text, its quotes would be escaped

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode
# How a value of a type stands in JSON, without an encoder, which is made anew at each call for whatever is no text.
_IN_JSON: Mapping[type, Callable[[Any], str]] = {
    str: encode_basestring,
    Receive: encode_basestring,
    Unlisted: encode_basestring,
    dict: _encode,
    bool: {True: "true", False: "false"}.__getitem__,
    int: str,
    type(None): lambda _: "null",
    list: lambda value: _encode(value) if value else "[]",
}
_INSERT = Statement(insert(change))
_READ_HEAD = Statement(
    select(*(column for column in journal_head.c if column.name not in ("one", "schema"))).where(
        journal_head.c.one == bindparam("one")
    )
)
_WRITE_HEAD = Statement(
    update(journal_head)
    .values({name: bindparam(f"new_{name}") for name in ("id", "digest", *COUNTERS)})
    .where(journal_head.c.one == bindparam("one"))
)


class Head(NamedTuple):
    """Where the journal stands: its last change, and the next number of each kind."""

    history: str
    id: int
    digest: str
    next_mailbox: int
    next_group: int
    next_member: int
    next_accepted: int
    next_blocked: int


class Journal:
    """The changes that one command adds, all of one changeset; *now* is in Unix seconds.

    It is made at the transaction's beginning, and gives the numbers of new objects, too.
    *verb*, if given, takes the place of the verb in each operation: import, undo. *on_change* gets each change.
    """

    def __init__(
        self,
        connection: Connection,
        actor: str,
        now: int,
        *,
        verb: str = "",
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        self._connection = connection
        self._verb = verb
        self._on_change = on_change
        head = read_head(connection)
        self._last, self._digest = head.id, head.digest
        self._next: list[int] = [getattr(head, name) for name in COUNTERS]
        self.actor = actor
        self.now = now
        self.changeset = self._last + 1
        self.count = 0
        connection.before_commit(self._write_head)

    def mark(self) -> tuple[int, str, int, tuple[int, ...]]:
        """Where the journal stands, for `reset` after a rollback to a savepoint."""
        return self._last, self._digest, self.count, tuple(self._next)

    def reset(self, mark: tuple[int, str, int, tuple[int, ...]]) -> None:
        """Go on from where the journal stood."""
        self._last, self._digest, self.count, counters = mark
        self._next = [*counters]

    def next_mailbox(self) -> int:
        """The number for a new mailbox, which no other had or will have."""
        return self._number(0)

    def next_group(self) -> int:
        """The number for a new group."""
        return self._number(1)

    def next_member(self) -> int:
        """The number for a new row of group_member."""
        return self._number(2)

    def next_accepted(self) -> int:
        """The number for a new row of accepted_sender."""
        return self._number(3)

    def next_blocked(self) -> int:
        """The number for a new blocked sender."""
        return self._number(4)

    def record(self, operation: str, before: Stored | None, after: Stored | None) -> None:
        """Write down that *before* became *after*."""
        stored = after if before is None else before
        assert stored is not None
        operation = _by_verb(operation, self._verb) if self._verb else operation
        self.write(operation, object_name(stored), as_json(before), as_json(after))

    def write(self, operation: str, name: str, before: str | None, after: str | None) -> None:
        """Write down a change to what is called *name*; *before* and *after* are JSON."""
        number = self._last + 1
        row = (number, self.now, self.actor, self.changeset, operation, name, before, after)
        digest = chain_digest(self._digest, row)
        self._connection.run_late(_INSERT, (*row, digest))
        self._last, self._digest = number, digest
        self.count += 1
        if self._on_change is not None:
            self._on_change(Change(*row, digest))

    def _number(self, which: int) -> int:
        number = self._next[which]
        self._next[which] = number + 1
        return number

    def _write_head(self) -> None:
        """The last thing in the transaction: the head row says where the journal stands now."""
        self._connection.run(_WRITE_HEAD, self._last, self._digest, *self._next, 1)


@lru_cache(maxsize=64)  # of which an import needs a few, for millions of changes
def _by_verb(operation: str, verb: str) -> str:
    """*operation* with this *verb* in place of its own."""
    return f"{operation.partition('.')[0]}.{verb}"


def read_head(connection: Connection) -> Head:
    """Where the journal stands. Raises StoreError where the database doesn't say so."""
    found = connection.fetch(_READ_HEAD, 1)
    if not found:
        raise StoreError("the database does not say where its journal ends; restore a backup")
    return Head(*found[0])


def chain_digest(previous: str, row: tuple[int | str | None, ...]) -> str:
    """The digest of a row after one with the digest *previous* ("" before the first): SHA-256 in hexadecimal.

    Over *previous* and the row's other columns in the table's order, as UTF-8 text with a NUL between; NULL is empty.
    """
    number, at, actor, changeset, operation, name, before, after = row
    text = f"{previous}\0{number}\0{at}\0{actor}\0{changeset}\0{operation}\0{name}\0{before or ''}\0{after or ''}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


# --- What the journal says of an object ---


def snapshot(stored: Stored) -> Shown:
    """*stored* as it stands in the journal: every field, others named by number and name, lists sorted by number."""
    return _fields(stored, _party_json, _by_number)


def shown(stored: Stored) -> Shown:
    """*stored* as it stands in `--json` and in tables: every field, others named as people write them, lists sorted."""
    fields = _fields(stored, str, str)
    if isinstance(stored, Address):
        return {key: value for key, value in fields.items() if key != "mailbox_id"}
    return fields


def numbered(taken: Shown) -> Shown:
    """What a `snapshot` says without the names of others: the same before and after one of those is renamed."""
    return {key: _without_names(value) for key, value in taken.items() if key != "mailbox"}


def same(one: Stored | None, other: Stored | None) -> bool:
    """Whether two are equal, whatever the objects that they refer to are called."""
    if one is None or other is None:
        return one is other
    return numbered(snapshot(one)) == numbered(snapshot(other))


def from_snapshot(noun: str, taken: Shown, *, is_first_edition: bool = False) -> Stored:
    """The object that a `snapshot` was taken of; *noun* is the first word of the journal's operation.

    In the first edition's, objects have no number, which is 0 then, and what said nothing received from anyone.
    """
    values = dict(taken)
    match noun:
        case "sender":
            return BlockedSender(
                who=_party(values.pop("sender")),
                to=_party(values.pop("to")),
                allowed=_parties(values.pop("except")),
                allowed_senders=_parties(values.pop("except_sender", ())),
                **values,
            )
        case "mailbox":
            receive = Receive(values.pop("receive"))
            if is_first_edition and receive is Receive.ANYONE:
                receive = Receive.INHERIT
            return Mailbox(accepted=_parties(values.pop("accept")), receive=receive, **values)
        case "group" if "member" in values:
            return Membership(_party(values["group"]), _party(values["member"]), values["id"])
        case "group":
            return Group(accepted=_parties(values.pop("accept")), receive=Receive(values.pop("receive")), **values)
        case "address":
            return Address(**values)
        case "domain":
            return Domain(
                unlisted=Unlisted(values.pop("unlisted")),
                alias_of=values.pop("alias_of", None) or "",
                receive=Receive(values.pop("receive", Receive.ANYONE)),
                accepted=_parties(values.pop("accept", ())),
                **values,
            )
        case _:
            raise ValueError(noun)


def is_upgrade_from_first(operation: str, before: str | None) -> bool:
    """Whether a journal row is the upgrade from the first edition: the rows below it are the first edition's."""
    return operation == UPGRADE and bool(before) and json.loads(before or "{}").get("schema") == _FIRST_SCHEMA


def object_name(stored: Stored) -> str:
    """What the journal calls *stored*: its name, address, or the sender; a membership, as the group."""
    match stored:  # what files have most comes first
        case Address():
            return stored.address
        case Mailbox() | Domain():
            return stored.name
        case BlockedSender():
            return str(stored.who)
        case Membership():
            return str(stored.group)
        case Group():
            return str(stored.party)
        case _:
            assert_never(stored)


def field_of_number(number: int) -> str:
    """What is in the snapshot of what has this number, of whatever kind it is; domains and addresses have none."""
    return f'"id": {number},'


def field_of_member(member: Party) -> str:
    """What is in the snapshot of a membership of *member*, a mailbox or a group."""
    return f'{_MEMBER}{{"{member.kind}": {member.number},'


def field_of_group(number: int) -> str:
    """What is in the snapshot of a membership in the group with this number."""
    return f'"group": {{"group": {number},'


def is_membership(taken: str) -> bool:
    """Whether *taken*, a snapshot as the journal holds it, is a membership's."""
    return _MEMBER in taken


def as_json(stored: Stored | None) -> str | None:
    """The snapshot of *stored* as the journal holds it."""
    if stored is None:
        return None
    fields = snapshot(stored)
    return _object_of(*fields) % tuple([_IN_JSON[type(value)](value) for value in fields.values()])


@lru_cache  # of which each kind of object has one
def _object_of(*names: str) -> str:
    """A JSON object with fields of these *names*, and a `%s` in place of each value."""
    return "{" + ", ".join([f'"{name}": %s' for name in names]) + "}"


def _fields(stored: Stored, show: Callable[[Party], Any], order: Callable[[Party], Any]) -> dict[str, Any]:
    """Every field of *stored*; parties as *show* has them, in lists in this *order*."""
    match stored:
        case Address():
            return {
                "address": stored.address,
                "mailbox_id": stored.mailbox_id,
                "mailbox": stored.mailbox,
                "is_primary": stored.is_primary,
            }
        case Mailbox() | Group():
            return {
                "id": stored.id,
                "name": stored.name,
                "receive": stored.receive,
                "accept": [*map(show, sorted(stored.accepted, key=order))] if stored.accepted else [],
                "reason": stored.reason,
                "until": stored.until,
                "comment": stored.comment,
            }
        case BlockedSender():
            return {
                "id": stored.id,
                "sender": show(stored.who),
                "to": show(stored.to),
                "except": [*map(show, sorted(stored.allowed, key=order))],
                "except_sender": [*map(show, sorted(stored.allowed_senders, key=order))],
                "reason": stored.reason,
                "until": stored.until,
                "comment": stored.comment,
                "created_at": stored.created_at,
                "created_by": stored.created_by,
            }
        case Membership():
            return {"id": stored.id, "group": show(stored.group), "member": show(stored.member)}
        case Domain():
            return {
                "name": stored.name,
                "unlisted": stored.unlisted,
                "alias_of": stored.alias_of or None,
                "receive": stored.receive,
                "accept": [*map(show, sorted(stored.accepted, key=order))] if stored.accepted else [],
                "reason": stored.reason,
                "until": stored.until,
                "comment": stored.comment,
            }
        case _:
            assert_never(stored)


def _party_json(party: Party) -> str | dict[str, Any]:
    match party.kind:
        case PartyKind.MAILBOX:
            return {"mailbox": party.number, "name": party.text}
        case PartyKind.GROUP:
            return {"group": party.number, "name": party.text}
        case PartyKind.PATTERN | PartyKind.ANYONE | PartyKind.OUTSIDE:
            return party.text
        case _:
            assert_never(party.kind)


def _party(value: Any) -> Party:
    """The party that a snapshot has. A text that is no pattern and no word is a mailbox's, in the first edition's."""
    if not isinstance(value, str):
        kind = PartyKind.GROUP if "group" in value else PartyKind.MAILBOX
        return Party(kind, value["name"], value[kind])
    if value in RESERVED_WORDS:
        return Party(PartyKind(value), value)
    return Party(PartyKind.PATTERN if is_pattern(value) else PartyKind.MAILBOX, value)


def _parties(values: Iterable[Any]) -> frozenset[Party]:
    return frozenset(map(_party, values))


def _by_number(party: Party) -> tuple[str, int, str]:
    return party.kind, party.number, party.text


def _without_names(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: number for key, number in value.items() if key != "name"}
    return [*map(_without_names, value)] if isinstance(value, list) else value
