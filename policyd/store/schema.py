"""The tables, column by column. SQLite takes them as STRICT tables; the types are those PostgreSQL knows too."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, Table, Text, func

VERSION = 1  # of these tables; kept in PRAGMA user_version
APPLICATION_ID = 0x706F6C64  # "pold", in PRAGMA application_id: tells our files from other people's

metadata = MetaData()

domain = Table(
    "domain",
    metadata,
    Column("name", Text, primary_key=True, comment="the managed domain, in normal form: lower case, A-labels"),
    Column("unlisted", Text, nullable=False, comment="what happens to recipients in it that are no mailbox's"),
    CheckConstraint("unlisted IN ('reject', 'accept')", name="domain_unlisted"),
    comment="the domains that policyd has an opinion on",
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

mailbox = Table(
    "mailbox",
    metadata,
    Column("id", Integer, primary_key=True, comment="the number by which other tables name it"),
    Column("name", Text, nullable=False, comment="the name as it was typed"),
    Column(
        "folded_name",
        Text,
        nullable=False,
        unique=True,
        comment="the name as names are compared: case-folded",
    ),
    Column("receive", Text, nullable=False, comment="who may send to it"),
    Column("reason", Text, nullable=False, comment="why it is restricted, for the sender to read; may be empty"),
    Column("until", Integer, comment="when the restriction ends, in Unix seconds; NULL for never"),
    Column("comment", Text, nullable=False, comment="a note of the administrator's; may be empty"),
    CheckConstraint("receive IN ('anyone', 'insiders', 'nobody')", name="mailbox_receive"),
    comment="the named holders of addresses (Exchange: Directory Name)",
    sqlite_strict=True,
)

address = Table(
    "address",
    metadata,
    Column("address", Text, primary_key=True, comment="the SMTP address, in normal form"),
    Column(
        "mailbox_id",
        Integer,
        ForeignKey("mailbox.id", ondelete="CASCADE"),
        nullable=False,
        comment="the mailbox that has it",
    ),
    Column("is_primary", Integer, nullable=False, comment="1 for the mailbox's own sender address, else 0"),
    CheckConstraint("is_primary IN (0, 1)", name="address_is_primary"),
    comment="the mailbox addresses; a mailbox without one gets no mail",
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
Index("address_mailbox", address.c.mailbox_id)

accepted_sender = Table(
    "accepted_sender",
    metadata,
    Column(
        "mailbox_id",
        Integer,
        ForeignKey("mailbox.id", ondelete="CASCADE"),
        primary_key=True,
        comment="the restricted mailbox",
    ),
    Column("pattern", Text, primary_key=True, comment="envelope senders who may send to it all the same"),
    comment="exceptions to a mailbox's restriction",
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

blocked_sender = Table(
    "blocked_sender",
    metadata,
    Column("id", Integer, primary_key=True, comment="the number that the audit names as entry"),
    Column(
        "mailbox_id",
        Integer,
        ForeignKey("mailbox.id", ondelete="CASCADE"),
        comment="the mailbox that may not send; NULL if a pattern says who",
    ),
    Column("pattern", Text, comment="the logins and envelope senders that may not send; NULL if a mailbox does"),
    Column("recipients", Text, comment="to whom it may not send: outside or anyone; NULL if to one mailbox"),
    Column(
        "recipient_mailbox_id",
        Integer,
        ForeignKey("mailbox.id", ondelete="CASCADE"),
        comment="the one mailbox it may not send to; NULL if recipients says to whom",
    ),
    Column("reason", Text, nullable=False, comment="why, for the sender to read; may be empty"),
    Column("until", Integer, comment="when the entry ends, in Unix seconds; NULL for never"),
    Column("comment", Text, nullable=False, comment="a note of the administrator's; may be empty"),
    Column("created_at", Integer, nullable=False, comment="when the entry was made, in Unix seconds"),
    Column("created_by", Text, nullable=False, comment="who made it"),
    CheckConstraint("(mailbox_id IS NULL) <> (pattern IS NULL)", name="blocked_sender_who"),
    CheckConstraint("(recipients IS NULL) <> (recipient_mailbox_id IS NULL)", name="blocked_sender_to"),
    CheckConstraint("recipients IN ('outside', 'anyone')", name="blocked_sender_recipients"),
    comment="who may not send, and to whom (Exchange: Reject Messages From)",
    sqlite_strict=True,
    sqlite_autoincrement=True,  # a number in an old log must not become somebody else's
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
    metadata,
    Column(
        "blocked_sender_id",
        Integer,
        ForeignKey("blocked_sender.id", ondelete="CASCADE"),
        primary_key=True,
        comment="the entry it is an exception to",
    ),
    Column(
        "pattern",
        Text,
        primary_key=True,
        comment="recipients that the blocked sender may send to all the same",
    ),
    comment="exceptions to an entry of the blocked senders",
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

change = Table(
    "change",
    metadata,
    Column("id", Integer, primary_key=True, comment="gapless, in the order of the commits"),
    Column("at", Integer, nullable=False, comment="when, in Unix seconds"),
    Column("actor", Text, nullable=False, comment="who: the user, and who that was before sudo"),
    Column("changeset", Integer, nullable=False, comment="the id of the first change of the same command"),
    Column("operation", Text, nullable=False, comment="what was done, as noun.verb"),
    Column("object", Text, nullable=False, comment="to what: a domain, mailbox, address or blocked sender"),
    Column("before", Text, comment="the object before, as JSON; NULL if there was none"),
    Column("after", Text, comment="the object after, as JSON; NULL if there is none"),
    Column("digest", Text, nullable=False, comment="SHA-256, in hexadecimal, over the digest before and this row"),
    comment="the journal of every change, written in the change's own transaction",
    sqlite_strict=True,
)
