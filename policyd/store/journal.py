"""The journal: a row for each object that a command changed, chained by digests, in the change's transaction."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, assert_never

from sqlalchemy import func, insert, select

from policyd.model import Address, BlockedSender, Change, Domain, Mailbox, Receive, Recipients, Unlisted, recipients_of
from policyd.store.database import Connection, Statement
from policyd.store.schema import change

Stored = Domain | Mailbox | Address | BlockedSender

_encode = json.JSONEncoder(ensure_ascii=False).encode
_INSERT = Statement(insert(change))
_LAST = Statement(
    select(change.c.id, change.c.digest).where(change.c.id == select(func.max(change.c.id)).scalar_subquery())
)


class Journal:
    """The changes that one command adds, all of one changeset; *now* is in Unix seconds.

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
        self._last, self._digest = last_change(connection)
        self.actor = actor
        self.now = now
        self.changeset = self._last + 1
        self.count = 0

    def mark(self) -> tuple[int, str, int]:
        """Where the journal stands, for `reset` after a rollback to a savepoint."""
        return self._last, self._digest, self.count

    def reset(self, mark: tuple[int, str, int]) -> None:
        """Go on from where the journal stood."""
        self._last, self._digest, self.count = mark

    def record(self, operation: str, before: Stored | None, after: Stored | None) -> None:
        """Write down that *before* became *after*."""
        stored = after if before is None else before
        assert stored is not None
        operation = f"{operation.partition('.')[0]}.{self._verb}" if self._verb else operation
        self.write(operation, object_name(stored), as_json(before), as_json(after))

    def write(self, operation: str, name: str, before: str | None, after: str | None) -> None:
        """Write down a change to what is called *name*; *before* and *after* are JSON."""
        number = self._last + 1
        row = (
            number,
            self.now,
            self.actor,
            self.changeset,
            operation,
            name,
            before,
            after,
        )
        digest = chain_digest(self._digest, row)
        self._connection.run(_INSERT, *row, digest)
        self._last, self._digest = number, digest
        self.count += 1
        if self._on_change is not None:
            self._on_change(Change(*row, digest))


def last_change(connection: Connection) -> tuple[int, str]:
    """The number and the digest of the journal's last row; 0 and "" where there is none."""
    return next(iter(connection.fetch(_LAST)), (0, ""))


def chain_digest(previous: str, row: tuple[int | str | None, ...]) -> str:
    """The digest of a row after one with the digest *previous* ("" before the first): SHA-256 in hexadecimal.

    Over *previous* and the row's other columns in the table's order, as UTF-8 text with a NUL between; NULL is empty.
    """
    text = "\0".join([previous, *["" if column is None else str(column) for column in row]])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def snapshot(stored: Stored) -> Mapping[str, Any]:
    """*stored* as it stands in the journal and in `--json`: every field, lists sorted."""
    match stored:
        case BlockedSender():
            return {
                "id": stored.id,
                "sender": stored.sender,
                "to": stored.to,
                "except": sorted(stored.allowed),
                "reason": stored.reason,
                "until": stored.until,
                "comment": stored.comment,
                "created_at": stored.created_at,
                "created_by": stored.created_by,
            }
        case Mailbox():
            return {
                "id": stored.id,
                "name": stored.name,
                "receive": stored.receive,
                "accept": sorted(stored.accepted),
                "reason": stored.reason,
                "until": stored.until,
                "comment": stored.comment,
            }
        case Address():
            return {"address": stored.address, "mailbox": stored.mailbox, "is_primary": stored.is_primary}
        case Domain():
            return {"name": stored.name, "unlisted": stored.unlisted}
        case _:
            assert_never(stored)


def from_snapshot(noun: str, taken: Mapping[str, Any]) -> Stored:
    """The object that a `snapshot` was taken of; *noun* is the first word of the journal's operation."""
    values = dict(taken)
    if noun == "sender":
        sender, to = values.pop("sender"), values.pop("to")
        recipients = recipients_of(to)
        return BlockedSender(
            mailbox="" if "@" in sender or sender == "<>" else sender,
            pattern=sender if "@" in sender or sender == "<>" else "",
            recipients=recipients,
            to_mailbox=to if recipients is Recipients.MAILBOX else "",
            allowed=frozenset(values.pop("except")),
            **values,
        )
    if noun == "mailbox":
        return Mailbox(accepted=frozenset(values.pop("accept")), receive=Receive(values.pop("receive")), **values)
    if noun == "address":
        return Address(**values)
    return Domain(values["name"], Unlisted(values["unlisted"]))


def object_name(stored: Stored) -> str:
    """What the journal calls *stored*: its name, address, or the sender."""
    match stored:
        case BlockedSender():
            return stored.sender
        case Address():
            return stored.address
        case Mailbox() | Domain():
            return stored.name
        case _:
            assert_never(stored)


def as_json(stored: Stored | None) -> str | None:
    """The snapshot of *stored* as the journal holds it."""
    return None if stored is None else _encode(snapshot(stored))
