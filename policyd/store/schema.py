"""The tables, column by column. SQLite takes them as STRICT tables; PostgreSQL takes them as they are.

No row goes because another went: what refers to something is taken away before it, with a journal row of its own, and
what was forgotten fails at the commit. Numbers come from `journal_head`, under the write lock: they are the same on
either engine, and never given twice.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.schema import SchemaItem

from policyd.store.engines import HasOtherThanAscii, PlaceOf

VERSION = 3  # of these tables; kept in journal_head, and in PRAGMA user_version
APPLICATION_ID = 0x706F6C64  # "pold", in PRAGMA application_id: tells our files from other people's
REPLICA_ID = 0x706F6C72  # "polr": and a replica, which only its follower changes, from a database

Number = BigInteger().with_variant(Integer, "sqlite")  # PostgreSQL's INTEGER ends in 2038
Key = Text().with_variant(Text(collation="C"), "postgresql")  # in the order of the bytes, as SQLite's

metadata = MetaData()


def _number(comment: str) -> Column[int]:
    """The number by which a row is named."""
    return Column("id", Number, primary_key=True, autoincrement=False, comment=comment)


def _reference(name: str, to: str, comment: str, *, is_needed: bool = False) -> Column[int]:
    """A column that names the row of another table; whether that is there is asked at the commit."""
    foreign_key = ForeignKey(to, deferrable=True, initially="DEFERRED")
    return Column(name, Number, foreign_key, nullable=not is_needed, comment=comment)


def _restriction(table: str, receive: Sequence[str], none: str, about: str) -> Iterator[SchemaItem]:
    """The columns of a restriction, and a note; *receive* are the words, *none* the one that restricts nobody."""
    words = ", ".join(f"'{each}'" for each in receive)
    yield Column("receive", Text, nullable=False, comment=f"who may send to {about}")
    yield Column("reason", Text, nullable=False, comment="why that is so, for the sender to read; may be empty")
    yield Column("until", Number, comment="when that ends, in Unix seconds; NULL for never")
    yield Column("comment", Text, nullable=False, comment="a note of the administrator's; may be empty")
    yield CheckConstraint(f"receive IN ({words})", name=f"{table}_receive")
    yield CheckConstraint(
        f"receive <> '{none}' OR (reason = '' AND until IS NULL)", name=f"{table}_says_nothing_of_nothing"
    )


def _exactly_one(*columns: str) -> str:
    """A condition: of *columns* all but one are NULL. In words that every engine has."""
    return " + ".join(f"CASE WHEN {column} IS NULL THEN 0 ELSE 1 END" for column in columns) + " = 1"


def _index_present(table: Table, *columns: str) -> None:
    """An index on each of *columns*, of the rows in which it is not NULL."""
    for name in columns:
        is_there = table.c[name].is_not(None)
        Index(f"{table.name}_{name}", table.c[name], sqlite_where=is_there)


def _once(table: Table, *columns: str) -> None:
    """A unique index over *columns*, in which NULL equals NULL."""
    keys: list[ColumnElement[Any]] = []
    for name in columns:
        column, none = table.c[name], 0 if isinstance(table.c[name].type, BigInteger) else ""
        keys.append(func.coalesce(column, none) if column.nullable else column)
    Index(f"{table.name}_once", *keys, unique=True)


domain = Table(
    "domain",
    metadata,
    Column("name", Key, primary_key=True, comment="the managed domain, in normal form: lower case, A-labels"),
    Column("unlisted", Text, nullable=False, comment="what happens to recipients in it that are no mailbox's"),
    Column(
        "alias_of",
        Key,
        ForeignKey("domain.name", deferrable=True, initially="DEFERRED"),
        comment="the managed domain that it stands for, which is no alias itself; NULL where it is none",
    ),
    *_restriction(
        "domain",
        ("anyone", "insiders", "domain", "nobody"),
        "anyone",
        "its addresses, where mailbox and groups say nothing",
    ),
    CheckConstraint("unlisted IN ('reject', 'accept')", name="domain_unlisted"),
    CheckConstraint("alias_of <> name", name="domain_alias_of_another"),
    CheckConstraint("alias_of IS NULL OR receive = 'anyone'", name="domain_alias_has_no_restriction"),
    comment="the domains that policyd has an opinion on",
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
_index_present(domain, "alias_of")

mailbox = Table(
    "mailbox",
    metadata,
    _number("the number by which other tables and the journal name it"),
    Column("name", Text, nullable=False, comment="the name as it was typed"),
    Column("folded_name", Key, nullable=False, unique=True, comment="the name as names are compared: case-folded"),
    *_restriction(
        "mailbox",
        ("inherit", "anyone", "insiders", "domain", "nobody"),
        "inherit",
        "it; inherit: what its groups say, else its domain",
    ),
    comment="the named holders of addresses (Exchange: Directory Name)",
    sqlite_strict=True,
    sqlite_autoincrement=True,  # a number in an old journal row must not become somebody else's
)

mailbox_group = Table(
    "mailbox_group",
    metadata,
    _number("the number by which other tables and the journal name it"),
    Column("name", Text, nullable=False, comment="the name as it was typed, without group: in front"),
    Column("folded_name", Key, nullable=False, unique=True, comment="the name as names are compared: case-folded"),
    *_restriction(
        "mailbox_group",
        ("anyone", "insiders", "domain", "nobody"),
        "anyone",
        "each mailbox in it that says nothing itself; anyone: the group says nothing",
    ),
    comment="the groups: named sets of mailboxes and groups",
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

group_member = Table(
    "group_member",
    metadata,
    _number("the number by which the journal names it"),
    _reference("group_id", "mailbox_group.id", "the group", is_needed=True),
    _reference("mailbox_id", "mailbox.id", "the mailbox that is in it; NULL if a group is"),
    _reference("member_group_id", "mailbox_group.id", "the group that is in it; NULL if a mailbox is"),
    CheckConstraint(_exactly_one("mailbox_id", "member_group_id"), name="group_member_who"),
    CheckConstraint("member_group_id <> group_id", name="group_member_not_itself"),
    comment="which mailboxes and groups are in a group; a circle of groups does no harm",
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
Index("group_member_group_id", group_member.c.group_id)
# NULLs are distinct in a unique index; these are what the groups of a mailbox are looked up by, too.
Index("group_member_mailbox", group_member.c.mailbox_id, group_member.c.group_id, unique=True)
Index("group_member_group", group_member.c.member_group_id, group_member.c.group_id, unique=True)

address = Table(
    "address",
    metadata,
    Column("address", Key, primary_key=True, comment="the SMTP address, in normal form"),
    _reference("mailbox_id", "mailbox.id", "the mailbox that has it", is_needed=True),
    Column("is_primary", Integer, nullable=False, comment="1 for the mailbox's own sender address, else 0"),
    CheckConstraint("is_primary IN (0, 1)", name="address_is_primary"),
    comment="the mailbox addresses; a mailbox without one gets no mail",
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("address_mailbox", address.c.mailbox_id)
Index(
    "address_one_primary",
    address.c.mailbox_id,
    unique=True,
    sqlite_where=address.c.is_primary == 1,
)

accepted_sender = Table(
    "accepted_sender",
    metadata,
    _number("a number of its own"),
    _reference("mailbox_id", "mailbox.id", "the mailbox that accepts it; NULL if a group or a domain does"),
    _reference("group_id", "mailbox_group.id", "the group that accepts it; NULL if a mailbox or a domain does"),
    Column(
        "domain",
        Key,
        ForeignKey("domain.name", deferrable=True, initially="DEFERRED"),
        comment="the domain that accepts it; NULL if a mailbox or a group does",
    ),
    Column("pattern", Key, comment="a pattern of senders; NULL if a mailbox or a group says who"),
    _reference("sender_mailbox_id", "mailbox.id", "the mailbox that is accepted; NULL if another column says who"),
    _reference("sender_group_id", "mailbox_group.id", "the group that is accepted; NULL if another column says who"),
    CheckConstraint(_exactly_one("mailbox_id", "group_id", "domain"), name="accepted_sender_of"),
    CheckConstraint(_exactly_one("pattern", "sender_mailbox_id", "sender_group_id"), name="accepted_sender_who"),
    comment="who may send all the same to what is restricted",
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
_index_present(accepted_sender, "mailbox_id", "group_id", "domain", "sender_mailbox_id", "sender_group_id")
_once(accepted_sender, "mailbox_id", "group_id", "domain", "pattern", "sender_mailbox_id", "sender_group_id")

blocked_sender = Table(
    "blocked_sender",
    metadata,
    _number("the number that the audit names as entry"),
    _reference("mailbox_id", "mailbox.id", "the mailbox that may not send; NULL if another column says who"),
    _reference("group_id", "mailbox_group.id", "the group that may not send; NULL if another column says who"),
    Column("pattern", Key, comment="the logins and senders that may not send; NULL if another column says who"),
    Column("senders", Text, comment="anyone, if nobody may send; NULL if another column says who"),
    Column("recipients", Text, comment="to whom not: outside or anyone; NULL if another column says to whom"),
    _reference("recipient_mailbox_id", "mailbox.id", "the mailbox to which not; NULL if another column says to whom"),
    _reference("recipient_group_id", "mailbox_group.id", "the group to which not; NULL if another column says to whom"),
    Column("recipient_pattern", Key, comment="the recipients to whom not; NULL if another column says to whom"),
    Column("reason", Text, nullable=False, comment="why, for the sender to read; may be empty"),
    Column("until", Number, comment="when the entry ends, in Unix seconds; NULL for never"),
    Column("comment", Text, nullable=False, comment="a note of the administrator's; may be empty"),
    Column("created_at", Number, nullable=False, comment="when the entry was made, in Unix seconds"),
    Column("created_by", Text, nullable=False, comment="who made it"),
    CheckConstraint(_exactly_one("mailbox_id", "group_id", "pattern", "senders"), name="blocked_sender_who"),
    CheckConstraint(
        _exactly_one("recipients", "recipient_mailbox_id", "recipient_group_id", "recipient_pattern"),
        name="blocked_sender_to",
    ),
    CheckConstraint("senders = 'anyone'", name="blocked_sender_senders"),
    CheckConstraint("recipients IN ('outside', 'anyone')", name="blocked_sender_recipients"),
    comment="who may not send, and to whom (Exchange: Reject Messages From)",
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
_index_present(blocked_sender, "mailbox_id", "group_id", "pattern")
_index_present(blocked_sender, "recipient_mailbox_id", "recipient_group_id", "recipient_pattern")
Index(
    "blocked_sender_senders",  # with the recipients that are a word: few of the entries for anyone are
    blocked_sender.c.senders,
    blocked_sender.c.recipients,
    sqlite_where=blocked_sender.c.senders.is_not(None),
)
_once(
    blocked_sender,
    *("mailbox_id", "group_id", "pattern", "senders"),
    *("recipients", "recipient_mailbox_id", "recipient_group_id", "recipient_pattern"),
)


def _exceptions(name: str, about: str) -> Table:
    """A table of exceptions to blocked senders."""
    table = Table(
        name,
        metadata,
        _reference("blocked_sender_id", "blocked_sender.id", "the entry that it is an exception to", is_needed=True),
        Column("pattern", Key, comment=f"a pattern of {about}; NULL if a mailbox or a group says who"),
        _reference("mailbox_id", "mailbox.id", "the mailbox that is left alone; NULL if another column says who"),
        _reference("group_id", "mailbox_group.id", "the group that is left alone; NULL if another column says who"),
        CheckConstraint(_exactly_one("pattern", "mailbox_id", "group_id"), name=f"{name}_who"),
        comment=f"exceptions to an entry of the blocked senders: {about} that it leaves alone",
        sqlite_strict=True,
    )
    _index_present(table, "mailbox_id", "group_id")
    _once(table, "blocked_sender_id", "pattern", "mailbox_id", "group_id")
    return table


allowed_recipient = _exceptions("allowed_recipient", "recipients")
allowed_sender = _exceptions("allowed_sender", "senders")

journal_head = Table(
    "journal_head",
    metadata,
    Column("one", Integer, primary_key=True, autoincrement=False, comment="1: there is one row"),
    Column("history", Text, nullable=False, comment="a random name for this journal: tells it from another's"),
    Column("id", Number, nullable=False, comment="the id of the journal's last change; 0 where there is none"),
    Column("digest", Text, nullable=False, comment="the digest of that change; empty where there is none"),
    Column("schema", Integer, nullable=False, comment="the version of these tables"),
    Column("next_mailbox", Number, nullable=False, comment="the number of the next mailbox"),
    Column("next_group", Number, nullable=False, comment="the number of the next group"),
    Column("next_member", Number, nullable=False, comment="the number of the next row of group_member"),
    Column("next_accepted", Number, nullable=False, comment="the number of the next row of accepted_sender"),
    Column("next_blocked", Number, nullable=False, comment="the number of the next blocked sender"),
    CheckConstraint("one = 1", name="journal_head_one"),
    comment="where the journal and the numbering stand; every change locks it first",
    sqlite_strict=True,
    sqlite_with_rowid=False,
)


def key_of(table: Table) -> Column[Any]:
    """The column that tells a row of *table* from others, or in a list, whose row it is."""
    return next(iter((*table.primary_key, *table.c)))


COUNTERS = tuple(column.name for column in journal_head.c if column.name.startswith("next_"))


def first_head() -> dict[str, int | str]:
    """The row of `journal_head` in a new database."""
    history = os.urandom(16).hex()
    return {"one": 1, "history": history, "id": 0, "digest": "", "schema": VERSION, **dict.fromkeys(COUNTERS, 1)}


change = Table(
    "change",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=False, comment="gapless, in the order of the commits"),
    Column("at", Number, nullable=False, comment="when, in Unix seconds"),
    Column("actor", Text, nullable=False, comment="who: the user, and who that was before sudo"),
    Column("changeset", Number, nullable=False, comment="the id of the first change of the same command"),
    Column("operation", Text, nullable=False, comment="what was done, as noun.verb"),
    Column("object", Text, nullable=False, comment="to what: a domain, mailbox, group, address or blocked sender"),
    Column("before", Text, comment="the object before, as JSON; NULL if there was none"),
    Column("after", Text, comment="the object after, as JSON; NULL if there is none"),
    Column("digest", Text, nullable=False, comment="SHA-256, in hexadecimal, over the digest before and this row"),
    comment="the journal of every change, written in the change's own transaction",
    sqlite_strict=True,
)


def _up_to_comma(whole: ColumnElement[str]) -> ColumnElement[str]:
    """The beginning of *whole* with its first comma; nothing where there is none."""
    return func.substr(whole, text("1"), PlaceOf(whole, text("','")))


def _index_field(name: str, beginning: str) -> tuple[ColumnElement[bool], ColumnElement[str]]:
    """An index on the number in a field of the journal's snapshots, which begins so, of the rows that have it.

    Returns the conditions for a query: whether a row has the field, and what it is then up to the number.
    """
    snapshot = func.coalesce(change.c.after, change.c.before)
    place = PlaceOf(snapshot, text(f"'{beginning}'"))
    has_field, field = place > text("0"), _up_to_comma(func.substr(snapshot, place))
    Index(f"change_{name}", field, sqlite_where=has_field)
    return has_field, field


# What a row of the journal is found by: what its object was called then, and, since that may have been renamed, its
# number; of a membership, the member's and the group's. Case matters in no name; of other letters than ASCII's, no
# engine knows which are the same.
change_object = func.lower(change.c.object)
has_other_than_ascii = HasOtherThanAscii(change.c.object)
is_upgrade = change.c.operation == text("'database.upgrade'")
Index("change_object", change_object)
Index("change_object_other", change.c.object, sqlite_where=has_other_than_ascii)
Index("change_upgrade", change.c.id, sqlite_where=is_upgrade)
change_number = _index_field("number", '"id": ')  # as "id": 7,
change_member = _index_field("member", '"member": {')  # as "member": {"mailbox": 7,
change_group = _index_field("group", '"group": {"group": ')  # as "group": {"group": 7,
# What a replica has in place of the journal and its head.
replica_metadata = MetaData()
replica = Table(
    "replica",
    replica_metadata,
    Column("one", Integer, primary_key=True, autoincrement=False, comment="1: there is one row"),
    Column("history", Text, nullable=False, comment="the name of the journal that is followed"),
    Column("id", Number, nullable=False, comment="the id of the last change that is in these tables"),
    Column("digest", Text, nullable=False, comment="the digest of that change; empty where there is none"),
    Column("next_accepted", Number, nullable=False, comment="the number of the next row of accepted_sender"),
    CheckConstraint("one = 1", name="replica_one"),
    comment="how far the journal of the database was followed",
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
REPLICATED = tuple(table for table in metadata.sorted_tables if table not in (change, journal_head))
