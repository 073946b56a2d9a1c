"""What the tests of the formats share: reading bytes, and the rows that tables are."""

import io
from collections import Counter
from typing import Any

from policyd.model import Domain, Group, Mailbox, Party
from policyd.records import BlockRow, DomainRow, GroupRow, ListEdit, MailboxRow, Record
from policyd.transfer.formats import ExportedTables, ReadOptions
from policyd.transfer.values import whole_list


def read_all(module, content: str | bytes, **options) -> list[Any]:
    """Everything that *module* reads from *content*."""
    raw = content.encode() if isinstance(content, str) else content
    return list(module.read(io.BytesIO(raw), ReadOptions(**options)))


def rows_of(module, content: str | bytes, **options) -> list[Any]:
    """The rows that *module* reads from *content*, where nothing else is in it."""
    found = read_all(module, content, **options)
    assert all(isinstance(each, Record) and not each.problems and not each.skipped for each in found), found
    return [row for record in found for row in record.rows]


def problem_of(module, content: str | bytes, **options) -> tuple[str, str]:
    """Column and message of the one problem of the last record in *content*."""
    record = read_all(module, content, **options)[-1]
    assert not record.rows
    (problem,) = record.problems
    return problem.column, problem.message


def written(module, tables: ExportedTables) -> tuple[str, Counter[str]]:
    """What *module* writes of *tables*, and what was lost."""
    lost: Counter[str] = Counter()
    return "".join(module.write(tables, lost)), +lost


def rows_of_tables(tables: ExportedTables) -> list[Any]:
    """The rows that say everything in *tables*, and leave nothing else standing."""
    rows: list[Any] = [
        DomainRow(domain.name, unlisted=domain.unlisted, alias_of=domain.alias_of, **_restriction(domain))
        for domain in sorted(tables.domains(), key=lambda domain: bool(domain.alias_of))
    ]
    rows += [
        GroupRow(group.name, members=whole_list(members), **_restriction(group)) for group, members in tables.groups()
    ]
    rows += [
        MailboxRow(mailbox.name, addresses=whole_list(addresses), **_restriction(mailbox))
        for mailbox, addresses in tables.mailboxes()
    ]
    rows += [
        BlockRow(
            entry.who,
            entry.to,
            allowed=_whole(entry.allowed),
            allowed_senders=_whole(entry.allowed_senders),
            reason=entry.reason,
            until=entry.until,
            comment=entry.comment,
            created_at=entry.created_at,
            created_by=entry.created_by,
        )
        for entry in tables.blocked_senders()
    ]
    return rows


def _restriction(owner: Domain | Group | Mailbox) -> dict[str, Any]:
    said = {name: getattr(owner, name) for name in ("receive", "reason", "until", "comment")}
    return {**said, "accepted": _whole(owner.accepted)}


def _whole(parties: frozenset[Party]) -> ListEdit[Party]:
    return whole_list(sorted(parties, key=str))
