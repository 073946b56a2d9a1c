"""The tables of the first edition: domains, mailboxes with their addresses, blocked senders, and the journal."""

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, Table, Text, func

revision = "0001"
down_revision = None

_Number = BigInteger().with_variant(Integer, "sqlite")

tables = MetaData()

domain = Table(
    "domain",
    tables,
    Column("name", Text, primary_key=True),
    Column("unlisted", Text, nullable=False),
    CheckConstraint("unlisted IN ('reject', 'accept')", name="domain_unlisted"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

mailbox = Table(
    "mailbox",
    tables,
    Column("id", _Number, primary_key=True),
    Column("name", Text, nullable=False),
    Column("folded_name", Text, nullable=False, unique=True),
    Column("receive", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("until", _Number),
    Column("comment", Text, nullable=False),
    CheckConstraint("receive IN ('anyone', 'insiders', 'nobody')", name="mailbox_receive"),
    sqlite_strict=True,
)

address = Table(
    "address",
    tables,
    Column("address", Text, primary_key=True),
    Column("mailbox_id", _Number, ForeignKey("mailbox.id", ondelete="CASCADE"), nullable=False),
    Column("is_primary", Integer, nullable=False),
    CheckConstraint("is_primary IN (0, 1)", name="address_is_primary"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("address_mailbox", address.c.mailbox_id)

accepted_sender = Table(
    "accepted_sender",
    tables,
    Column("mailbox_id", _Number, ForeignKey("mailbox.id", ondelete="CASCADE"), primary_key=True),
    Column("pattern", Text, primary_key=True),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

blocked_sender = Table(
    "blocked_sender",
    tables,
    Column("id", _Number, primary_key=True),
    Column("mailbox_id", _Number, ForeignKey("mailbox.id", ondelete="CASCADE")),
    Column("pattern", Text),
    Column("recipients", Text),
    Column("recipient_mailbox_id", _Number, ForeignKey("mailbox.id", ondelete="CASCADE")),
    Column("reason", Text, nullable=False),
    Column("until", _Number),
    Column("comment", Text, nullable=False),
    Column("created_at", _Number, nullable=False),
    Column("created_by", Text, nullable=False),
    CheckConstraint("(mailbox_id IS NULL) <> (pattern IS NULL)", name="blocked_sender_who"),
    CheckConstraint("(recipients IS NULL) <> (recipient_mailbox_id IS NULL)", name="blocked_sender_to"),
    CheckConstraint("recipients IN ('outside', 'anyone')", name="blocked_sender_recipients"),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)
Index("blocked_sender_mailbox", blocked_sender.c.mailbox_id)
Index("blocked_sender_pattern", blocked_sender.c.pattern)
Index("blocked_sender_recipient", blocked_sender.c.recipient_mailbox_id)
Index(
    "blocked_sender_once",
    func.coalesce(blocked_sender.c.mailbox_id, 0),
    func.coalesce(blocked_sender.c.pattern, ""),
    func.coalesce(blocked_sender.c.recipients, ""),
    func.coalesce(blocked_sender.c.recipient_mailbox_id, 0),
    unique=True,
)

allowed_recipient = Table(
    "allowed_recipient",
    tables,
    Column("blocked_sender_id", _Number, ForeignKey("blocked_sender.id", ondelete="CASCADE"), primary_key=True),
    Column("pattern", Text, primary_key=True),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

change = Table(
    "change",
    tables,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("at", _Number, nullable=False),
    Column("actor", Text, nullable=False),
    Column("changeset", _Number, nullable=False),
    Column("operation", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("digest", Text, nullable=False),
    sqlite_strict=True,
)


def upgrade() -> None:
    """Make the tables, where there are none."""
    tables.create_all(op.get_bind(), checkfirst=False)
