"""Groups, alias domains, restrictions of domains, and parties wherever a pattern stood; the journal gets a head.

The tables of the first edition are set aside, the new ones are filled from them, and the old ones are dropped. SQLite
can't change them in place; and the names of the new ones, and of their indexes, are then those of a new database.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from secrets import token_hex
from typing import Any

from alembic import context, op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    case,
    column,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.schema import SchemaItem

from policyd.address import fold
from policyd.store.journal import chain_digest
from policyd.store.migrations.rebuild import rebuild
from policyd.store.migrations.versions import v0001_first_edition as first

revision = "0002"
down_revision = "0001"

_GROUP_PREFIX = "group:"  # what begins with it is a group now, and no mailbox's name
_NAME_LIMIT = 256  # characters of a mailbox's name

# --- The tables, as they are from now on ---

_Number = BigInteger().with_variant(Integer, "sqlite")
_Key = Text().with_variant(Text(collation="C"), "postgresql")

tables = MetaData()


def _id() -> Column[int]:
    return Column("id", _Number, primary_key=True, autoincrement=False)


def _reference(name: str, to: str, *, is_needed: bool = False) -> Column[int]:
    return Column(name, _Number, ForeignKey(to, deferrable=True, initially="DEFERRED"), nullable=not is_needed)


def _domain_reference(name: str) -> Column[str]:
    return Column(name, _Key, ForeignKey("domain.name", deferrable=True, initially="DEFERRED"))


def _restriction(name: str, receive: Sequence[str]) -> Iterator[SchemaItem]:
    """The columns of a restriction; the first of *receive* says nothing."""
    words = ", ".join(f"'{each}'" for each in receive)
    yield Column("receive", Text, nullable=False)
    yield Column("reason", Text, nullable=False)
    yield Column("until", _Number)
    yield Column("comment", Text, nullable=False)
    yield CheckConstraint(f"receive IN ({words})", name=f"{name}_receive")
    yield CheckConstraint(
        f"receive <> '{receive[0]}' OR (reason = '' AND until IS NULL)", name=f"{name}_says_nothing_of_nothing"
    )


def _exactly_one(*columns: str) -> str:
    return " + ".join(f"CASE WHEN {each} IS NULL THEN 0 ELSE 1 END" for each in columns) + " = 1"


def _index_present(indexed: Table, *columns: str) -> None:
    for name in columns:
        is_there = indexed.c[name].is_not(None)
        Index(f"{indexed.name}_{name}", indexed.c[name], sqlite_where=is_there, postgresql_where=is_there)


def _once(indexed: Table, *columns: str) -> None:
    keys: list[ColumnElement[Any]] = []
    for name in columns:
        key, none = indexed.c[name], 0 if isinstance(indexed.c[name].type, BigInteger) else ""
        keys.append(func.coalesce(key, none) if key.nullable else key)
    Index(f"{indexed.name}_once", *keys, unique=True)


domain = Table(
    "domain",
    tables,
    Column("name", _Key, primary_key=True),
    Column("unlisted", Text, nullable=False),
    _domain_reference("alias_of"),
    *_restriction("domain", ("anyone", "insiders", "domain", "nobody")),
    CheckConstraint("unlisted IN ('reject', 'accept')", name="domain_unlisted"),
    CheckConstraint("alias_of <> name", name="domain_alias_of_another"),
    CheckConstraint("alias_of IS NULL OR receive = 'anyone'", name="domain_alias_has_no_restriction"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
_index_present(domain, "alias_of")

mailbox = Table(
    "mailbox",
    tables,
    _id(),
    Column("name", Text, nullable=False),
    Column("folded_name", _Key, nullable=False, unique=True),
    *_restriction("mailbox", ("inherit", "anyone", "insiders", "domain", "nobody")),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

mailbox_group = Table(
    "mailbox_group",
    tables,
    _id(),
    Column("name", Text, nullable=False),
    Column("folded_name", _Key, nullable=False, unique=True),
    *_restriction("mailbox_group", ("anyone", "insiders", "domain", "nobody")),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

group_member = Table(
    "group_member",
    tables,
    _id(),
    _reference("group_id", "mailbox_group.id", is_needed=True),
    _reference("mailbox_id", "mailbox.id"),
    _reference("member_group_id", "mailbox_group.id"),
    CheckConstraint(_exactly_one("mailbox_id", "member_group_id"), name="group_member_who"),
    CheckConstraint("member_group_id <> group_id", name="group_member_not_itself"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
Index("group_member_group_id", group_member.c.group_id)
Index("group_member_mailbox", group_member.c.mailbox_id, group_member.c.group_id, unique=True)
Index("group_member_group", group_member.c.member_group_id, group_member.c.group_id, unique=True)

address = Table(
    "address",
    tables,
    Column("address", _Key, primary_key=True),
    _reference("mailbox_id", "mailbox.id", is_needed=True),
    Column("is_primary", Integer, nullable=False),
    CheckConstraint("is_primary IN (0, 1)", name="address_is_primary"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("address_mailbox", address.c.mailbox_id)
Index(
    "address_one_primary",
    address.c.mailbox_id,
    unique=True,
    sqlite_where=address.c.is_primary == 1,
    postgresql_where=address.c.is_primary == 1,
)

accepted_sender = Table(
    "accepted_sender",
    tables,
    _id(),
    _reference("mailbox_id", "mailbox.id"),
    _reference("group_id", "mailbox_group.id"),
    _domain_reference("domain"),
    Column("pattern", _Key),
    _reference("sender_mailbox_id", "mailbox.id"),
    _reference("sender_group_id", "mailbox_group.id"),
    CheckConstraint(_exactly_one("mailbox_id", "group_id", "domain"), name="accepted_sender_of"),
    CheckConstraint(_exactly_one("pattern", "sender_mailbox_id", "sender_group_id"), name="accepted_sender_who"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
_index_present(accepted_sender, "mailbox_id", "group_id", "domain", "sender_mailbox_id", "sender_group_id")
_once(accepted_sender, "mailbox_id", "group_id", "domain", "pattern", "sender_mailbox_id", "sender_group_id")

blocked_sender = Table(
    "blocked_sender",
    tables,
    _id(),
    _reference("mailbox_id", "mailbox.id"),
    _reference("group_id", "mailbox_group.id"),
    Column("pattern", _Key),
    Column("senders", Text),
    Column("recipients", Text),
    _reference("recipient_mailbox_id", "mailbox.id"),
    _reference("recipient_group_id", "mailbox_group.id"),
    Column("recipient_pattern", _Key),
    Column("reason", Text, nullable=False),
    Column("until", _Number),
    Column("comment", Text, nullable=False),
    Column("created_at", _Number, nullable=False),
    Column("created_by", Text, nullable=False),
    CheckConstraint(_exactly_one("mailbox_id", "group_id", "pattern", "senders"), name="blocked_sender_who"),
    CheckConstraint(
        _exactly_one("recipients", "recipient_mailbox_id", "recipient_group_id", "recipient_pattern"),
        name="blocked_sender_to",
    ),
    CheckConstraint("senders = 'anyone'", name="blocked_sender_senders"),
    CheckConstraint("recipients IN ('outside', 'anyone')", name="blocked_sender_recipients"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
_index_present(blocked_sender, "mailbox_id", "group_id", "pattern")
_index_present(blocked_sender, "recipient_mailbox_id", "recipient_group_id", "recipient_pattern")
Index(
    "blocked_sender_senders",
    blocked_sender.c.senders,
    blocked_sender.c.recipients,
    sqlite_where=blocked_sender.c.senders.is_not(None),
    postgresql_where=blocked_sender.c.senders.is_not(None),
)
_once(
    blocked_sender,
    *("mailbox_id", "group_id", "pattern", "senders"),
    *("recipients", "recipient_mailbox_id", "recipient_group_id", "recipient_pattern"),
)


def _exceptions(name: str) -> Table:
    made = Table(
        name,
        tables,
        _reference("blocked_sender_id", "blocked_sender.id", is_needed=True),
        Column("pattern", _Key),
        _reference("mailbox_id", "mailbox.id"),
        _reference("group_id", "mailbox_group.id"),
        CheckConstraint(_exactly_one("pattern", "mailbox_id", "group_id"), name=f"{name}_who"),
        sqlite_strict=True,
    )
    _index_present(made, "mailbox_id", "group_id")
    _once(made, "blocked_sender_id", "pattern", "mailbox_id", "group_id")
    return made


allowed_recipient = _exceptions("allowed_recipient")
allowed_sender = _exceptions("allowed_sender")

journal_head = Table(
    "journal_head",
    tables,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("history", Text, nullable=False),
    Column("id", _Number, nullable=False),
    Column("digest", Text, nullable=False),
    Column("schema", Integer, nullable=False),
    Column("next_mailbox", _Number, nullable=False),
    Column("next_group", _Number, nullable=False),
    Column("next_member", _Number, nullable=False),
    Column("next_accepted", _Number, nullable=False),
    Column("next_blocked", _Number, nullable=False),
    CheckConstraint("one = 1", name="journal_head_one"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# --- From the old tables to the new ones ---


def upgrade() -> None:
    """Make the tables of the first edition those of the second; every number and every journal row stays.

    Of the caller, `actor`, `now`, `changeset` and `notice` are in the configuration's attributes.
    """
    if context.is_offline_mode():
        _change_tables()
        return

    # What the new tables can't hold is changed before, as the first edition itself could have done, and journaled so.
    connection, attributes = op.get_bind(), context.config.attributes
    journal = _Journal(connection, attributes["actor"], attributes["now"], attributes["changeset"])
    _rename_groups(connection, journal, attributes["notice"])
    _have_one_primary(connection, journal, attributes["notice"])
    highest = _highest_numbers(connection)

    # The head says where the journal and the numbers stand.
    _change_tables()
    accepted = connection.scalar(select(func.max(accepted_sender.c.id))) or 0
    head = {"one": 1, "history": token_hex(16), "id": journal.last, "digest": journal.digest, "schema": 2}
    head |= {"next_mailbox": highest["mailbox"] + 1, "next_group": 1, "next_member": 1}
    head |= {"next_accepted": accepted + 1, "next_blocked": highest["sender"] + 1}
    connection.execute(insert(journal_head).values(head))


def _change_tables() -> None:
    """Make the tables anew; the journal alone stays as it is."""
    rebuild([each for each in first.tables.sorted_tables if each is not first.change], tables, _contents)


def _contents(aside: dict[str, Table]) -> Iterator[tuple[Table, Any]]:
    """Each new table, with what the old ones have for it."""
    old = aside["domain"].c
    nothing = literal("")
    yield (
        domain,
        select(old.name, old.unlisted, *_said("anyone", nothing, null(), nothing)),
    )

    # Who received from anyone had no restriction: now that is left to the groups and the domain.
    old = aside["mailbox"].c
    says_nothing = old.receive == "anyone"
    restriction = _said(
        case((says_nothing, "inherit"), else_=old.receive),
        case((says_nothing, nothing), else_=old.reason),
        case((says_nothing, null()), else_=old.until),
        old.comment,
    )
    yield mailbox, select(old.id, old.name, old.folded_name, *restriction)

    yield address, select(*aside["address"].c)

    old = aside["accepted_sender"].c
    number = func.row_number().over(order_by=(old.mailbox_id, old.pattern)).label("id")
    yield accepted_sender, select(number, old.mailbox_id, old.pattern)

    yield blocked_sender, select(*aside["blocked_sender"].c)
    yield allowed_recipient, select(*aside["allowed_recipient"].c)


def _said(receive: Any, reason: Any, until: Any, comment: Any) -> list[ColumnElement[Any]]:
    """The columns of a restriction."""
    values = {"receive": receive, "reason": reason, "until": until, "comment": comment}
    return [(literal(each) if isinstance(each, str) else each).label(name) for name, each in values.items()]


# --- What the new tables can't hold ---


class _Journal:
    """The journal's rows that this revision adds, as the first edition wrote them."""

    def __init__(self, connection: Connection, actor: str, now: int, changeset: int) -> None:
        self._connection = connection
        self._terms = (now, actor, changeset)
        newest = select(first.change.c.id, first.change.c.digest).order_by(first.change.c.id.desc()).limit(1)
        found = connection.execute(newest).first()
        self.last = int(found.id) if found else 0
        self.digest = str(found.digest) if found else ""

    def write(self, operation: str, name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Write down that what is called *name* was *before*, and is *after*."""
        snapshots = [json.dumps(each, ensure_ascii=False) for each in (before, after)]
        row: tuple[int | str | None, ...] = (self.last + 1, *self._terms, operation, name, *snapshots)
        self.digest = chain_digest(self.digest, row)
        self.last += 1
        names = [each.name for each in first.change.c]
        self._connection.execute(insert(first.change).values(dict(zip(names, (*row, self.digest), strict=True))))


def _rename_groups(connection: Connection, journal: _Journal, notice: Callable[[str], None]) -> None:
    """Take `group:` from the names of mailboxes that begin with it."""
    mailbox = first.mailbox
    taken = set(connection.scalars(select(mailbox.c.folded_name)))
    accepted = first.accepted_sender
    for row in connection.execute(
        select(mailbox).where(mailbox.c.folded_name.like(f"{_GROUP_PREFIX}%")).order_by(mailbox.c.id)
    ).all():
        wanted = f"{row.name[: len(_GROUP_PREFIX) - 1]}-{row.name[len(_GROUP_PREFIX) :]}"
        name, number = wanted, 1
        while fold(name) in taken:
            number += 1
            name = f"{wanted[: _NAME_LIMIT - len(str(number)) - 1]}-{number}"
        taken.add(fold(name))
        patterns = connection.scalars(select(accepted.c.pattern).where(accepted.c.mailbox_id == row.id))
        before = {"id": row.id, "name": row.name, "receive": row.receive, "accept": sorted(patterns)}
        before |= {"reason": row.reason, "until": row.until, "comment": row.comment}
        renamed = update(mailbox).where(mailbox.c.id == row.id).values(name=name, folded_name=fold(name))
        connection.execute(renamed)
        journal.write("mailbox.rename", row.name, before, before | {"name": name})
        notice(f"the mailbox {row.name} is called {name} now: what begins with {_GROUP_PREFIX} is a group")


def _have_one_primary(connection: Connection, journal: _Journal, notice: Callable[[str], None]) -> None:
    """Of the addresses of a mailbox, leave one the primary one: of those that are, or else of all, the first."""
    mailbox, address = first.mailbox, first.address
    count = func.sum(address.c.is_primary)
    wrong = select(address.c.mailbox_id).group_by(address.c.mailbox_id).having(count != 1)
    held = defaultdict(list)
    for row in connection.execute(
        select(address, mailbox.c.name)
        .join(mailbox, mailbox.c.id == address.c.mailbox_id)
        .where(address.c.mailbox_id.in_(wrong))
        .order_by(address.c.mailbox_id, address.c.is_primary.desc(), address.c.address)
    ):
        held[row.mailbox_id].append(row)
    for primary, *others in held.values():
        had = sum(each.is_primary for each in (primary, *others))
        for each in (primary, *others):
            is_primary = each is primary
            if bool(each.is_primary) != is_primary:
                before = {"address": each.address, "mailbox": each.name, "is_primary": not is_primary}
                journal.write("address.promote", each.address, before, before | {"is_primary": is_primary})
                changed = update(address).where(address.c.address == each.address).values(is_primary=int(is_primary))
                connection.execute(changed)
        notice(f"{primary.address} is the primary address of {primary.name} now, which had {had or 'none'}")


def _highest_numbers(connection: Connection) -> dict[str, int]:
    """The highest number that any mailbox, and any blocked sender, has or had, by the noun of its operations."""
    # What is there, and what SQLite gave.
    mailbox, blocked, change = first.mailbox.c, first.blocked_sender.c, first.change.c
    highest = {
        "mailbox": connection.scalar(select(func.max(mailbox.id))) or 0,
        "sender": connection.scalar(select(func.max(blocked.id))) or 0,
    }
    if connection.dialect.name == "sqlite":
        counted = table("sqlite_sequence", column("name"), column("seq"))
        for number in connection.scalars(select(counted.c.seq).where(counted.c.name == "blocked_sender")):
            highest["sender"] = max(highest["sender"], _as_number(number))

    # What the journal knows of: the number of a mailbox that is gone went to the next one.
    are_numbered = or_(change.operation.like("mailbox.%"), change.operation.like("sender.%"))
    rows = connection.execute(select(change.operation, change.before, change.after).where(are_numbered))
    for operation, before, after in rows.yield_per(1000):
        noun = operation.partition(".")[0]
        highest[noun] = max(highest[noun], _number_in(after or before))
    return highest


def _number_in(snapshot: str | None) -> int:
    """The number in a journal row; 0 where somebody altered that."""
    try:
        return _as_number(json.loads(snapshot or "")["id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0


def _as_number(found: Any) -> int:
    return found if type(found) is int and 0 < found < 2**62 else 0
