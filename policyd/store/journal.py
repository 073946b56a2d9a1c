"""The journal: a row for each object that a command changed, chained by digests, in the change's transaction."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from policyd.model import Address, BlockedSender, Change, Domain, Mailbox
from policyd.store.schema import change

Kept = Domain | Mailbox | Address | BlockedSender


class Journal:
    """The rows that one command adds, all of one changeset; *now* is in Unix seconds."""

    def __init__(self, connection: Connection, actor: str, now: int) -> None:
        self._connection = connection
        self.actor = actor
        self.now = now
        self.changes: list[Change] = []

    def record(self, operation: str, before: Kept | None, after: Kept | None) -> None:
        """Write down that *before* became *after*; nothing where they are the same."""
        if before == after:
            return
        last_id, last_digest = self._last()
        number = last_id + 1
        row = Change(
            number,
            self.now,
            self.actor,
            self.changes[0].id if self.changes else number,
            operation,
            _name(before or after),
            _as_json(before),
            _as_json(after),
        )
        row = Change(**{**_fields(row), "digest": chain_digest(last_digest, row)})
        self._connection.execute(insert(change).values(**_fields(row)))
        self.changes.append(row)

    def _last(self) -> tuple[int, str]:
        if self.changes:
            return self.changes[-1].id, self.changes[-1].digest
        last = self._connection.execute(select(change.c.id, change.c.digest).order_by(change.c.id.desc()).limit(1))
        return next(((row.id, row.digest) for row in last), (0, ""))


def chain_digest(previous: str, row: Change) -> str:
    """The digest of *row* after a row with the digest *previous* ("" before the first): SHA-256 in hexadecimal.

    Over the JSON array of *previous* and the row's columns in the table's order, without blanks, as UTF-8.
    """
    columns = [row.id, row.at, row.actor, row.changeset, row.operation, row.object, row.before, row.after]
    text = json.dumps([previous, *columns], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


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
    return _fields(kept)


def _as_json(kept: Kept | None) -> str | None:
    return None if kept is None else json.dumps(snapshot(kept), ensure_ascii=False)


def _name(kept: Kept | None) -> str:
    if isinstance(kept, BlockedSender):
        return kept.sender
    if isinstance(kept, Address):
        return kept.address
    return kept.name if kept else ""


def _fields(row: Change | Domain | Address) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}
