"""Lists and single objects of the tables, for the command line and for changes."""

from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import ColumnElement, Connection, Row, Table, func, select

from policyd.address import fold, is_pattern, normal_domain
from policyd.errors import AddressError
from policyd.model import Address, BlockedSender, Change, Domain, Mailbox, Unlisted
from policyd.store import schema
from policyd.store.queries import SELECT_BLOCKED, SELECT_MAILBOX, to_blocked, to_mailbox


def domains(connection: Connection) -> Iterator[Domain]:
    """Every managed domain, by name."""
    for name, unlisted in connection.execute(select(schema.domain).order_by(schema.domain.c.name)):
        yield Domain(name, Unlisted(unlisted))


def find_domain(connection: Connection, name: str) -> Domain | None:
    """The managed domain *name*, in normal form."""
    row = connection.execute(select(schema.domain).where(schema.domain.c.name == name)).one_or_none()
    return Domain(row.name, Unlisted(row.unlisted)) if row else None


def mailboxes(connection: Connection) -> Iterator[Mailbox]:
    """Every mailbox, by folded name."""
    accepted = _grouped(connection, schema.accepted_sender)
    for row in connection.execute(SELECT_MAILBOX.order_by(schema.mailbox.c.folded_name)):
        yield to_mailbox(row, accepted[row.id])


def find_mailbox(connection: Connection, name: str) -> Mailbox | None:
    """The mailbox *name*, compared without case."""
    row = connection.execute(SELECT_MAILBOX.where(schema.mailbox.c.folded_name == fold(name))).one_or_none()
    return to_mailbox(row, _patterns(connection, schema.accepted_sender, row.id)) if row else None


def addresses(connection: Connection, *, mailbox_id: int = 0, domain: str = "") -> Iterator[Address]:
    """The addresses, by address: all, or those of one mailbox, or those in one domain."""
    columns = schema.address.c
    statement = (
        select(columns.address, schema.mailbox.c.name, columns.is_primary)
        .join(schema.mailbox, schema.mailbox.c.id == columns.mailbox_id)
        .order_by(columns.address)
    )
    if mailbox_id:
        statement = statement.where(columns.mailbox_id == mailbox_id)
    if domain:
        statement = statement.where(columns.address.endswith(f"@{domain}", autoescape=True))
    for address, mailbox, is_primary in connection.execute(statement):
        yield Address(address, mailbox, bool(is_primary))


def find_address(connection: Connection, address: str) -> Address | None:
    """The row of *address*, in normal form."""
    statement = (
        select(schema.mailbox.c.name, schema.address.c.is_primary)
        .join(schema.address, schema.address.c.mailbox_id == schema.mailbox.c.id)
        .where(schema.address.c.address == address)
    )
    row = connection.execute(statement).one_or_none()
    return Address(address, row.name, bool(row.is_primary)) if row else None


def blocked_senders(connection: Connection) -> Iterator[BlockedSender]:
    """Every blocked sender, oldest first."""
    allowed = _grouped(connection, schema.allowed_recipient)
    for row in connection.execute(SELECT_BLOCKED.order_by(schema.blocked_sender.c.id)):
        yield to_blocked(row, allowed[row.id])


def entries_of(connection: Connection, sender: str) -> list[BlockedSender]:
    """The entries of one sender, a pattern in normal form or a mailbox's name, oldest first."""
    if is_pattern(sender):
        return _entries(connection, schema.blocked_sender.c.pattern == sender)
    mailbox = find_mailbox(connection, sender)
    return _entries(connection, schema.blocked_sender.c.mailbox_id == mailbox.id) if mailbox else []


def entries_to(connection: Connection, mailbox_id: int) -> list[BlockedSender]:
    """The entries that keep senders from one mailbox, oldest first."""
    return _entries(connection, schema.blocked_sender.c.recipient_mailbox_id == mailbox_id)


def changes(connection: Connection, *, of_object: str = "", since: int = 0, limit: int | None = None) -> list[Change]:
    """The journal, oldest first: the last *limit* rows of those from *since* on, in Unix seconds."""
    statement = select(schema.change).order_by(schema.change.c.id.desc()).limit(limit)
    if of_object:
        connection.connection.create_function("fold", 1, fold, deterministic=True)
        statement = statement.where(func.fold(schema.change.c.object).in_(_forms(of_object)))
    if since:
        statement = statement.where(schema.change.c.at >= since)
    return [Change(*row) for row in reversed(connection.execute(statement).all())]


def _forms(name: str) -> set[str]:
    """What *name*, which may be a domain's in Unicode, folds to in the journal."""
    try:
        return {fold(name), normal_domain(name)}
    except AddressError:
        return {fold(name)}


def counts(connection: Connection) -> dict[str, int]:
    """The number of rows of each table."""
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in schema.metadata.sorted_tables
    }


def _entries(connection: Connection, condition: ColumnElement[bool]) -> list[BlockedSender]:
    rows: list[Row[tuple[object, ...]]] = list(
        connection.execute(SELECT_BLOCKED.where(condition).order_by(schema.blocked_sender.c.id))
    )
    return [to_blocked(row, _patterns(connection, schema.allowed_recipient, row.id)) for row in rows]


def _patterns(connection: Connection, table: Table, owner_id: int) -> list[str]:
    owner, pattern = table.c
    return list(connection.execute(select(pattern).where(owner == owner_id)).scalars())


def _grouped(connection: Connection, table: Table) -> dict[int, list[str]]:
    grouped = defaultdict(list)
    for owner, pattern in connection.execute(select(table)):
        grouped[owner].append(pattern)
    return grouped
