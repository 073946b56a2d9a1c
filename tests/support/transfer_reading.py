"""What the tests of the formats share: reading octets, and the rows that tables are."""

import io
from collections import Counter
from typing import Any

from policyd.records import BlockRow, DomainRow, MailboxRow, Record
from policyd.transfer.formats import ReadOptions, Tables
from policyd.transfer.values import whole_list


def read_all(module, content: str | bytes, **options) -> list[Any]:
    """Everything that *module* reads from *content*."""
    octets = content.encode() if isinstance(content, str) else content
    return list(module.read(io.BytesIO(octets), ReadOptions(**options)))


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


def written(module, tables: Tables) -> tuple[str, Counter[str]]:
    """What *module* writes of *tables*, and what was lost."""
    lost: Counter[str] = Counter()
    return "".join(module.write(tables, lost)), +lost


def rows_of_tables(tables: Tables) -> list[Any]:
    """The rows that say everything in *tables*, and leave nothing else standing."""
    return [
        *(DomainRow(each.name, unlisted=each.unlisted) for each in tables.domains()),
        *(
            MailboxRow(
                each.name,
                addresses=whole_list(addresses),
                receive=each.receive,
                reason=each.reason,
                until=each.until,
                comment=each.comment,
                accepted=whole_list(sorted(each.accepted, key=str)),
            )
            for each, addresses in tables.mailboxes()
        ),
        *(
            BlockRow(
                each.who,
                each.to,
                allowed=whole_list(sorted(each.allowed, key=str)),
                reason=each.reason,
                until=each.until,
                comment=each.comment,
                created_at=each.created_at,
                created_by=each.created_by,
            )
            for each in tables.blocked_senders()
        ),
    ]
