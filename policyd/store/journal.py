"""The journal: a row for each object that a command changed, chained by digests, in the change's transaction."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import func, insert, select

from policyd.model import Address, BlockedSender, Change, Domain, Mailbox, Receive, Recipients, Unlisted
from policyd.store.database import Connection, Statement
from policyd.store.schema import change

Kept = Domain | Mailbox | Address | BlockedSender

_encode = json.JSONEncoder(ensure_ascii=False).encode
_INSERT = Statement(insert(change))
_LAST = Statement(
    select(change.c.id, change.c.digest).where(change.c.id == select(func.max(change.c.id)).scalar_subquery())
)


class Journal:
    """The rows that one command adds, all of one changeset; *now* is in Unix seconds.

    *verb*, if given, is what every operation is called by, whichever way it was made: import, undo.
    Each row goes to *on_change* too.
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

    def record(self, operation: str, before: Kept | None, after: Kept | None) -> None:
        """Write down that *before* became *after*."""
        kept = after if before is None else before
        assert kept is not None
        operation = f"{operation.partition('.')[0]}.{self._verb}" if self._verb else operation
        self.write(operation, object_name(kept), as_json(before), as_json(after))

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


def snapshot(kept: Kept) -> Mapping[str, Any]:
    """*kept* as it stands in the journal and in `--json`: every field, lists sorted."""
    if isinstance(kept, BlockedSender):
        return {
            "id": kept.id,
            "sender": kept.sender,
            "to": kept.to,
            "except": sorted(kept.allowed),
            "reason": kept.reason,
            "until": kept.until,
            "comment": kept.comment,
            "created_at": kept.created_at,
            "created_by": kept.created_by,
        }
    if isinstance(kept, Mailbox):
        return {
            "id": kept.id,
            "name": kept.name,
            "receive": kept.receive,
            "accept": sorted(kept.accepted),
            "reason": kept.reason,
            "until": kept.until,
            "comment": kept.comment,
        }
    if isinstance(kept, Address):
        return {"address": kept.address, "mailbox": kept.mailbox, "is_primary": kept.is_primary}
    return {"name": kept.name, "unlisted": kept.unlisted}


def from_snapshot(noun: str, taken: Mapping[str, Any]) -> Kept:
    """The object that a `snapshot` was taken of; *noun* is the first word of the journal's operation."""
    values = dict(taken)
    if noun == "sender":
        sender, to = values.pop("sender"), values.pop("to")
        is_fixed = to in (Recipients.OUTSIDE, Recipients.ANYONE)
        return BlockedSender(
            mailbox="" if "@" in sender or sender == "<>" else sender,
            pattern=sender if "@" in sender or sender == "<>" else "",
            recipients=Recipients(to) if is_fixed else Recipients.MAILBOX,
            to_mailbox="" if is_fixed else to,
            allowed=frozenset(values.pop("except")),
            **values,
        )
    if noun == "mailbox":
        return Mailbox(accepted=frozenset(values.pop("accept")), receive=Receive(values.pop("receive")), **values)
    if noun == "address":
        return Address(**values)
    return Domain(values["name"], Unlisted(values["unlisted"]))


def object_name(kept: Kept) -> str:
    """What the journal calls *kept*: its name, address, or the sender."""
    if isinstance(kept, BlockedSender):
        return kept.sender
    return kept.address if isinstance(kept, Address) else kept.name


def as_json(kept: Kept | None) -> str | None:
    """The snapshot of *kept* as the journal holds it."""
    return None if kept is None else _encode(snapshot(kept))
