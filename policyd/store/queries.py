"""Every query of the tables, once: single objects by their keys, lists, and whole tables as streams.

It is one long file, so that whoever wants to ask something sees whether it is asked already: first the statements, then
`Queries`, by the kind of object.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from types import UnionType
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, literal_column, or_, select, union_all

from policyd.address import fold, normal_domain
from policyd.errors import AddressError, StoreError
from policyd.model import (
    RESERVED_WORDS,
    Address,
    BlockedSender,
    Change,
    Domain,
    Group,
    Holder,
    Mailbox,
    Membership,
    Party,
    PartyKind,
    Receive,
    Unlisted,
    new_tuple,
)
from policyd.store import schema
from policyd.store.connection import Statement
from policyd.store.journal import field_of_group, field_of_member, field_of_number, is_upgrade_from_first

_ARITIES = 300  # a domain has 127 labels at most, an address two forms
_ENTRIES_AT_ONCE = 256  # whose exceptions are asked for
_CHANGES_AT_ONCE = 64  # whose ids are known
_MAILBOXES_AT_ONCE = 256  # whose addresses and accepted senders are
_KEYS_AT_ONCE = 256  # names and addresses
_PATTERNS_AT_ONCE = 16  # whose entries are asked for; SQLite takes 500 terms
_RECEIVE = {each.value: each for each in Receive}  # a third of the time that a call of an enum takes
_UNLISTED = {each.value: each for each in Unlisted}
_NO_END = 2**63 - 1  # the highest id that a row can have
_LAST_OF_ALL = "\U0010ffff"  # behind every address
_WORDS = {word: Party(PartyKind(word), word) for word in RESERVED_WORDS}
_TEXT, _NUMBER, _MAYBE_TEXT, _MAYBE_NUMBER = str, int, str | None, int | None
_UNTIL_TYPES = (type(None), int)
_NAMED_TYPES = {(str, str, str, until, str, int) for until in _UNTIL_TYPES}
_DOMAIN_TYPES = (_TEXT, _TEXT, _MAYBE_TEXT, _TEXT, _TEXT, _MAYBE_NUMBER, _TEXT)
_TERM_TYPES = (_TEXT, _MAYBE_NUMBER, _TEXT, _NUMBER, _TEXT, _NUMBER)
_by_id = attrgetter("id")
_Named = TypeVar("_Named", Mailbox, Group)
_Key = TypeVar("_Key", int, str)
_NONE: frozenset[Party] = frozenset()
_TABLE_OF: dict[type, str] = {Mailbox: schema.mailbox.name, Group: schema.mailbox_group.name}


# Who stands in the columns of a list, or of an entry: the mailbox or group by number and name, joined by its number.
_a_mailbox, _a_group = schema.mailbox.alias("a_mailbox"), schema.mailbox_group.alias("a_group")
_to_mailbox, _to_group = schema.mailbox.alias("to_mailbox"), schema.mailbox_group.alias("to_group")
_PARTY = (_a_mailbox.c.id, _a_mailbox.c.name, _a_group.c.id, _a_group.c.name)


def _select_named(table: Any) -> Any:
    """What a mailbox or a group is made of."""
    return select(table.c.name, table.c.receive, table.c.reason, table.c.until, table.c.comment, table.c.id)


_select_mailbox = _select_named(schema.mailbox)
_select_group = _select_named(schema.mailbox_group)
_select_entry = (
    select(
        *_PARTY,
        schema.blocked_sender.c.pattern,
        schema.blocked_sender.c.senders,
        _to_mailbox.c.id,
        _to_mailbox.c.name,
        _to_group.c.id,
        _to_group.c.name,
        schema.blocked_sender.c.recipient_pattern,
        schema.blocked_sender.c.recipients,
        schema.blocked_sender.c.reason,
        schema.blocked_sender.c.until,
        schema.blocked_sender.c.comment,
        schema.blocked_sender.c.created_at,
        schema.blocked_sender.c.created_by,
        schema.blocked_sender.c.id,
    )
    .outerjoin(_a_mailbox, _a_mailbox.c.id == schema.blocked_sender.c.mailbox_id)
    .outerjoin(_a_group, _a_group.c.id == schema.blocked_sender.c.group_id)
    .outerjoin(_to_mailbox, _to_mailbox.c.id == schema.blocked_sender.c.recipient_mailbox_id)
    .outerjoin(_to_group, _to_group.c.id == schema.blocked_sender.c.recipient_group_id)
)
SELECT_ADDRESS = select(
    schema.address.c.address, schema.mailbox.c.name, schema.address.c.is_primary, schema.address.c.mailbox_id
).join(schema.mailbox, schema.mailbox.c.id == schema.address.c.mailbox_id)
_in_group = schema.mailbox_group.alias("in_group")
_select_membership = (
    select(
        schema.group_member.c.id,
        _in_group.c.id,
        _in_group.c.name,
        *_PARTY,
    )
    .join(_in_group, _in_group.c.id == schema.group_member.c.group_id)
    .outerjoin(_a_mailbox, _a_mailbox.c.id == schema.group_member.c.mailbox_id)
    .outerjoin(_a_group, _a_group.c.id == schema.group_member.c.member_group_id)
)


def _select_accepted(*owner: Any) -> Any:
    """The accepted senders, each behind its *owner*."""
    accepted = schema.accepted_sender
    return (
        select(*owner, *_PARTY, accepted.c.pattern)
        .select_from(accepted)
        .outerjoin(_a_mailbox, _a_mailbox.c.id == accepted.c.sender_mailbox_id)
        .outerjoin(_a_group, _a_group.c.id == accepted.c.sender_group_id)
    )


def _select_exceptions(table: Any, is_recipient: int) -> Any:
    """The exceptions in *table*: the entry, whether it is one by recipient, and who."""
    return (
        select(table.c.blocked_sender_id, literal_column(str(is_recipient)), *_PARTY, table.c.pattern)
        .select_from(table)
        .outerjoin(_a_mailbox, _a_mailbox.c.id == table.c.mailbox_id)
        .outerjoin(_a_group, _a_group.c.id == table.c.group_id)
    )


def _keys(name: str, count: int) -> list[Any]:
    """The placeholders for *count* values."""
    return [bindparam(f"{name}{number}") for number in range(count)]


def _entries_where(*alternatives: ColumnElement[bool]) -> Statement:
    return Statement(_select_entry.where(or_(*alternatives)))


def _first_entries_where(condition: ColumnElement[bool]) -> Statement:
    """The statement for the oldest entries of which this holds, as many as asked for."""
    return Statement(_at_most("most", _select_entry.where(condition).order_by(schema.blocked_sender.c.id)))


@lru_cache(_ARITIES)
def _has_entries(has_mailbox: bool, groups: int, patterns: int) -> Statement:
    """The statement for whether a mailbox, one of *groups* or one of *patterns* has an entry.

    It looks only at indexes: a third of the time that the statement for the entries takes where there is none.
    """
    found: Any = select(literal_column("1")).select_from(schema.blocked_sender)
    return Statement(select(union_all(*map(found.where, _are_senders(has_mailbox, groups, patterns))).exists()))


@lru_cache(_ARITIES)
def _entries_of(has_mailbox: bool, groups: int, patterns: int) -> Statement:
    """The statement for the entries of a mailbox, *groups* and *patterns*."""
    return _entries_where(*_are_senders(has_mailbox, groups, patterns))


def _are_senders(has_mailbox: bool, groups: int, patterns: int) -> list[ColumnElement[bool]]:
    """The conditions of which an entry of a mailbox, of one of *groups* or of one of *patterns* fulfils one.

    One for each pattern: for IN, SQLite makes and fills a table at each call.
    """
    blocked = schema.blocked_sender.c
    return [
        *([blocked.mailbox_id == bindparam("mailbox")] if has_mailbox else []),
        *([blocked.group_id.in_(_keys("group", groups))] if groups else []),
        *[blocked.pattern == key for key in _keys("pattern", patterns)],
    ]


@lru_cache(_ARITIES)
def _entries_of_anyone(groups: int, patterns: int) -> Statement:
    """The statement for the entries of anyone to a mailbox, *groups*, *patterns*, or a reserved word."""
    blocked = schema.blocked_sender.c
    to_whom = [
        blocked.recipients.is_not(None),
        blocked.recipient_mailbox_id == bindparam("mailbox"),
        *([blocked.recipient_group_id.in_(_keys("group", groups))] if groups else []),
        *([blocked.recipient_pattern.in_(_keys("pattern", patterns))] if patterns else []),
    ]
    is_anyone = blocked.senders == literal_column(f"'{PartyKind.ANYONE}'")
    return Statement(union_all(*(_select_entry.where(is_anyone, condition) for condition in to_whom)))


@lru_cache(_ARITIES)
def _exceptions_of(count: int) -> Statement:
    """The statement for the exceptions of *count* entries, whose numbers it takes twice."""
    recipients, senders = schema.allowed_recipient, schema.allowed_sender
    return Statement(
        union_all(
            _select_exceptions(recipients, 1).where(recipients.c.blocked_sender_id.in_(_keys("entry", count))),
            _select_exceptions(senders, 0).where(senders.c.blocked_sender_id.in_(_keys("same_entry", count))),
        )
    )


@lru_cache(_ARITIES)
def _accepted_by(has_mailbox: bool, groups: int, has_domain: bool) -> Statement:
    """The statement for what a mailbox, *groups* and a domain accept."""
    accepted = schema.accepted_sender.c
    owners = [
        *([accepted.mailbox_id == bindparam("mailbox")] if has_mailbox else []),
        *([accepted.group_id.in_(_keys("group", groups))] if groups else []),
        *([accepted.domain == bindparam("name")] if has_domain else []),
    ]
    return Statement(union_all(*(_select_accepted().where(each) for each in owners)))


def _groups_above(column: Any) -> Statement:
    """The statement for the groups above what *column* of the members is: each once, also in a circle."""
    above = schema.group_member.alias("above")
    up = (
        select(schema.group_member.c.group_id.label("id"))
        .where(column == bindparam("member"))
        .cte("up", recursive=True)
    )
    up = up.union(select(above.c.group_id).where(above.c.member_group_id == up.c.id))
    return Statement(_select_group.join(up, up.c.id == schema.mailbox_group.c.id))


@lru_cache(_ARITIES)
def _groups_of_each(mailboxes: int) -> Statement:
    """The statement for the groups above so many mailboxes, each with the number of the mailbox."""
    member, above = schema.group_member.c, schema.group_member.alias("above")
    up = select(member.mailbox_id.label("mailbox_id"), member.group_id.label("id")).where(
        member.mailbox_id.in_(_keys("mailbox", mailboxes))
    )
    each = up.cte("up", recursive=True)
    each = each.union(select(each.c.mailbox_id, above.c.group_id).where(above.c.member_group_id == each.c.id))
    return Statement(_select_group.add_columns(each.c.mailbox_id).join(each, each.c.id == schema.mailbox_group.c.id))


def _at_most(name: str, query: Any) -> Any:
    """The first rows of *query*, as many as the value of this *name* says."""
    return query.limit(bindparam(name)).offset(literal_column("0"))


def _groups_within() -> Any:
    """The numbers of a group and of all that are in it, directly or not: each once, also in a circle."""
    member = schema.group_member.c
    down = select(schema.mailbox_group.c.id).where(schema.mailbox_group.c.id == bindparam("group"))
    within = down.cte("down", recursive=True)
    return within.union(
        select(member.member_group_id).where(member.group_id == within.c.id, member.member_group_id.is_not(None))
    )


def _ends_with(name: str) -> ColumnElement[bool]:
    """Whether an address ends as the value of this *name* says, which is given twice."""
    address = schema.address.c.address
    first = func.length(address) - func.length(bindparam(name)) + literal_column("1")
    return func.substr(address, first) == bindparam(f"same_{name}")


def _is_between(domains: int) -> ColumnElement[bool]:
    """Whether an address is behind one, no further than another, and in one of so many domains."""
    address = schema.address.c.address
    is_in = or_(*[_ends_with(f"suffix{number}") for number in range(domains)])
    return and_(address > bindparam("after"), address <= bindparam("last"), is_in)


@lru_cache(_ARITIES)
def _held_in(domains: int) -> Statement:
    """The statement for the first addresses that `_is_between` has, each with the number of its mailbox."""
    query = select(schema.address.c.address, schema.address.c.mailbox_id).where(_is_between(domains))
    return Statement(_at_most("most", query.order_by(schema.address.c.address)))


@lru_cache(_ARITIES)
def _count_in(domains: int) -> Statement:
    """The statement for how many mailboxes have one of the addresses that `_is_between` has."""
    return Statement(select(func.count(schema.address.c.mailbox_id.distinct())).where(_is_between(domains)))


@lru_cache(_ARITIES)
def _entries_with(column: str, patterns: int) -> Statement:
    """The statement for the oldest entries that have one of so many patterns in this *column*."""
    query = _select_entry.where(schema.blocked_sender.c[column].in_(_keys("pattern", patterns))).order_by(
        schema.blocked_sender.c.id
    )
    return Statement(_at_most("most", query))


_DOMAIN = Statement(select(schema.domain).where(schema.domain.c.name == bindparam("name")))
_DOMAINS = Statement(select(schema.domain).order_by(schema.domain.c.name))
_ALIASES_OF = Statement(
    select(schema.domain.c.name).where(schema.domain.c.alias_of == bindparam("name")).order_by(schema.domain.c.name)
)
_has_address = schema.address.c.address == bindparam("address")
_holds_address = schema.address.c.mailbox_id == schema.mailbox.c.id
_MAILBOX_WITH = Statement(_select_mailbox.join(schema.address, _holds_address).where(_has_address))
_MAILBOX_NAMED = Statement(_select_mailbox.where(schema.mailbox.c.folded_name == bindparam("name")))


@lru_cache(_ARITIES)
def _mailboxes_named(names: int) -> Statement:
    """The statement for the mailboxes with so many folded names."""
    return Statement(_select_mailbox.where(schema.mailbox.c.folded_name.in_(_keys("name", names))))


# Each column is a thirtieth of the time that a recipient's statement takes: so only those that a decision needs, and
# whether a mailbox is in a group only while there are groups.
_select_holder = select(
    schema.mailbox.c.name,
    schema.mailbox.c.receive,
    schema.mailbox.c.reason,
    schema.mailbox.c.until,
    schema.mailbox.c.id,
)
_is_in_groups = exists(literal_column("1")).where(schema.group_member.c.mailbox_id == schema.mailbox.c.id)
_primary = schema.address.alias("primary_address")
_is_its_primary = and_(_primary.c.mailbox_id == schema.mailbox.c.id, _primary.c.is_primary == literal_column("1"))
_HOLDER_WITH = {
    has_groups: Statement(
        _select_holder.add_columns(schema.address.c.is_primary, *([_is_in_groups] if has_groups else []))
        .join(schema.address, _holds_address)
        .where(_has_address)
    )
    for has_groups in (False, True)
}
_HOLDER_CALLED = {
    has_groups: Statement(
        _select_holder.add_columns(_primary.c.address, *([_is_in_groups] if has_groups else []))
        .select_from(schema.mailbox.outerjoin(_primary, _is_its_primary))
        .where(schema.mailbox.c.folded_name == bindparam("name"))
    )
    for has_groups in (False, True)
}
_MAILBOX_NUMBERED = Statement(_select_mailbox.where(schema.mailbox.c.id == bindparam("id")))
_MAILBOXES = Statement(_select_mailbox.order_by(schema.mailbox.c.id))
_MAILBOXES_BY_NAME = Statement(_select_mailbox.order_by(schema.mailbox.c.folded_name))
_HAS_COMMENTS = Statement(
    select(exists(select(literal_column("1")).where(schema.mailbox.c.comment != literal_column("''"))))
)
_HAS_SENDERS_EXCEPTED = Statement(select(exists(select(literal_column("1")).select_from(schema.allowed_sender))))
_MAILBOXES_WITH_AN_END = Statement(
    _select_mailbox.where(schema.mailbox.c.until.is_not(None)).order_by(schema.mailbox.c.id)
)
_GROUP_NAMED = Statement(_select_group.where(schema.mailbox_group.c.folded_name == bindparam("name")))
_GROUP_NUMBERED = Statement(_select_group.where(schema.mailbox_group.c.id == bindparam("id")))
_GROUPS = Statement(_select_group.order_by(schema.mailbox_group.c.id))
_GROUPS_OF_MAILBOX = _groups_above(schema.group_member.c.mailbox_id)
_GROUPS_OF_GROUP = _groups_above(schema.group_member.c.member_group_id)
_within = _groups_within()
_GROUPS_WITHIN = Statement(_at_most("most", select(_within.c.id)))
_mailboxes_within = _at_most(
    "rows",
    select(schema.group_member.c.mailbox_id).where(
        schema.group_member.c.group_id.in_(select(_within.c.id)), schema.group_member.c.mailbox_id.is_not(None)
    ),
).subquery("looked_at")
_COUNT_WITHIN = Statement(
    select(func.count(), func.count(_mailboxes_within.c.mailbox_id.distinct())).select_from(_mailboxes_within)
)
_MEMBERSHIP = Statement(_select_membership.where(schema.group_member.c.id == bindparam("id")))
_MEMBERS_OF = Statement(
    _select_membership.where(schema.group_member.c.group_id == bindparam("group")).order_by(schema.group_member.c.id)
)
_MEMBERS_BEHIND = Statement(
    _at_most(
        "most",
        _select_membership.where(
            schema.group_member.c.group_id == bindparam("group"), schema.group_member.c.id > bindparam("after")
        ).order_by(schema.group_member.c.id),
    )
)
_MEMBERSHIPS_OF_MAILBOX = Statement(_select_membership.where(schema.group_member.c.mailbox_id == bindparam("member")))
_MEMBERSHIPS_OF_GROUP = Statement(
    _select_membership.where(schema.group_member.c.member_group_id == bindparam("member"))
)
_MEMBERSHIPS = Statement(_select_membership.order_by(schema.group_member.c.id))
_FLAGS = Statement(
    select(
        exists(select(literal_column("1")).select_from(schema.group_member)),
        exists(
            select(literal_column("1")).where(
                schema.blocked_sender.c.senders == literal_column(f"'{PartyKind.ANYONE}'")
            )
        ),
        exists(select(literal_column("1")).select_from(schema.accepted_sender)),
    )
)
_ACCEPTED_OF_MAILBOXES = Statement(
    _select_accepted(schema.accepted_sender.c.mailbox_id)
    .where(schema.accepted_sender.c.mailbox_id.is_not(None))
    .order_by(schema.accepted_sender.c.mailbox_id)
)
_OWNERS_ACCEPTING = {
    kind: Statement(
        select(
            schema.accepted_sender.c.mailbox_id, schema.accepted_sender.c.group_id, schema.accepted_sender.c.domain
        ).where(column == bindparam("who"))
    )
    for kind, column in (
        (PartyKind.MAILBOX, schema.accepted_sender.c.sender_mailbox_id),
        (PartyKind.GROUP, schema.accepted_sender.c.sender_group_id),
    )
}
_PATTERNS_ACCEPTED = Statement(
    select(
        schema.accepted_sender.c.pattern,
        schema.mailbox.c.name,
        schema.mailbox_group.c.name,
        schema.accepted_sender.c.domain,
    )
    .outerjoin(schema.mailbox, schema.mailbox.c.id == schema.accepted_sender.c.mailbox_id)
    .outerjoin(schema.mailbox_group, schema.mailbox_group.c.id == schema.accepted_sender.c.group_id)
    .where(schema.accepted_sender.c.pattern.is_not(None))
    .order_by(schema.accepted_sender.c.id)
)
_PATTERNS_ALLOWED = Statement(
    select(schema.allowed_sender.c.pattern, schema.allowed_sender.c.blocked_sender_id)
    .where(schema.allowed_sender.c.pattern.is_not(None))
    .order_by(schema.allowed_sender.c.blocked_sender_id, schema.allowed_sender.c.pattern)
)
_ENTRIES_EXCEPTING = {
    kind: Statement(
        select(schema.allowed_recipient.c.blocked_sender_id)
        .where(schema.allowed_recipient.c[name] == bindparam("who"))
        .union(
            select(schema.allowed_sender.c.blocked_sender_id).where(
                schema.allowed_sender.c[name] == bindparam("same_who")
            )
        )
    )
    for kind, name in ((PartyKind.MAILBOX, "mailbox_id"), (PartyKind.GROUP, "group_id"))
}
_ADDRESS = Statement(SELECT_ADDRESS.where(schema.address.c.address == bindparam("address")))
_ADDRESSES_OF = Statement(SELECT_ADDRESS.where(schema.address.c.mailbox_id == bindparam("id")))
_PRIMARY_OF = Statement(
    select(schema.address.c.address).where(
        schema.address.c.mailbox_id == bindparam("id"), schema.address.c.is_primary == literal_column("1")
    )
)
_ADDRESSES = Statement(SELECT_ADDRESS.order_by(schema.address.c.address))
_ADDRESS_TEXTS = Statement(select(schema.address.c.address).order_by(schema.address.c.address))
_RESTRICTING = [each.value for each in Receive if each.is_restriction]
_IS_RESTRICTED = schema.mailbox.c.receive.in_([literal_column(f"'{each}'") for each in _RESTRICTING])
_some_group_restricts = exists(
    select(literal_column("1")).where(
        schema.mailbox_group.c.receive.in_([literal_column(f"'{each}'") for each in _RESTRICTING])
    )
)
_RESTRICTED_ADDRESSES = Statement(
    select(schema.address.c.address, schema.address.c.mailbox_id).where(
        schema.address.c.mailbox_id.in_(
            union_all(
                select(schema.mailbox.c.id).where(_IS_RESTRICTED),
                select(schema.group_member.c.mailbox_id).where(
                    schema.group_member.c.mailbox_id.is_not(None), _some_group_restricts
                ),
            )
        )
    )
)
_ENDED_MAILBOXES = Statement(
    select(schema.mailbox.c.name)
    .where(_IS_RESTRICTED, schema.mailbox.c.until <= bindparam("now"))
    .order_by(schema.mailbox.c.id)
)
_ENDED_ENTRIES = Statement(
    select(schema.blocked_sender.c.id)
    .where(schema.blocked_sender.c.until <= bindparam("now"))
    .order_by(schema.blocked_sender.c.id)
)
_ADDRESSES_IN = Statement(SELECT_ADDRESS.where(_ends_with("suffix")).order_by(schema.address.c.address))
_addresses_by_mailbox = select(schema.address.c.mailbox_id, schema.address.c.address).order_by(
    schema.address.c.mailbox_id, schema.address.c.is_primary.desc(), schema.address.c.address
)
_ADDRESSES_BY_MAILBOX = Statement(_addresses_by_mailbox)
_LAST_BEHIND = Statement(
    select(schema.address.c.address)
    .where(schema.address.c.address > bindparam("after"))
    .order_by(schema.address.c.address)
    .limit(literal_column("1"))
    .offset(bindparam("rows"))
)


@lru_cache(_ARITIES)
def _mailboxes_numbered(mailboxes: int) -> Statement:
    """The statement for so many mailboxes."""
    return Statement(_select_mailbox.where(schema.mailbox.c.id.in_(_keys("mailbox", mailboxes))))


@lru_cache(_ARITIES)
def _addresses_among(addresses: int) -> Statement:
    """The statement for which of so many addresses mailboxes have."""
    return Statement(select(schema.address.c.address).where(schema.address.c.address.in_(_keys("address", addresses))))


@lru_cache(_ARITIES)
def _addresses_of(mailboxes: int) -> Statement:
    """The statement for the addresses of so many mailboxes, the primary ones first, and whether they are that."""
    query = _addresses_by_mailbox.add_columns(schema.address.c.is_primary)
    return Statement(query.where(schema.address.c.mailbox_id.in_(_keys("mailbox", mailboxes))))


@lru_cache(_ARITIES)
def _accepted_of(mailboxes: int) -> Statement:
    """The statement for the accepted senders of so many mailboxes."""
    mailbox_id = schema.accepted_sender.c.mailbox_id
    return Statement(_select_accepted(mailbox_id).where(mailbox_id.in_(_keys("mailbox", mailboxes))))


_ENTRIES_OF_WHO = {
    PartyKind.MAILBOX: _first_entries_where(schema.blocked_sender.c.mailbox_id == bindparam("who")),
    PartyKind.GROUP: _first_entries_where(schema.blocked_sender.c.group_id == bindparam("who")),
    PartyKind.PATTERN: _first_entries_where(schema.blocked_sender.c.pattern == bindparam("who")),
    PartyKind.ANYONE: _first_entries_where(schema.blocked_sender.c.senders == bindparam("who")),
}
_ENTRIES_TO = {
    PartyKind.MAILBOX: _first_entries_where(schema.blocked_sender.c.recipient_mailbox_id == bindparam("to")),
    PartyKind.GROUP: _first_entries_where(schema.blocked_sender.c.recipient_group_id == bindparam("to")),
}


def _first_of(column: Any) -> Statement:
    """The statement for the first values of *column*, each once, as many as are asked for."""
    return Statement(
        select(column).where(column.is_not(None)).distinct().limit(bindparam("most")).offset(literal_column("0"))
    )


_DOMAIN_NAMES = _first_of(schema.domain.c.name)
_PATTERNS_BLOCKED = _first_of(schema.blocked_sender.c.pattern)
_MAILBOXES_BLOCKED = _first_of(schema.blocked_sender.c.mailbox_id)
_ENTRY = _entries_where(schema.blocked_sender.c.id == bindparam("id"))
_ENTRIES = Statement(_select_entry.order_by(schema.blocked_sender.c.id))
_EXCEPTIONS = [
    Statement(_select_exceptions(table, is_recipient).order_by(table.c.blocked_sender_id))
    for table, is_recipient in ((schema.allowed_recipient, 1), (schema.allowed_sender, 0))
]
# The rows of a changeset stand together: another one's row ends it.
_END_OF_CHANGESET = Statement(
    select(schema.change.c.id)
    .where(schema.change.c.id >= bindparam("first"), schema.change.c.changeset != bindparam("changeset"))
    .order_by(schema.change.c.id)
    .limit(literal_column("1"))
    .offset(literal_column("0"))
)
_CHANGES_BETWEEN = Statement(
    select(schema.change)
    .where(
        schema.change.c.id >= bindparam("first"),
        schema.change.c.id < bindparam("end"),
        schema.change.c.changeset == bindparam("changeset"),
    )
    .order_by(schema.change.c.id.desc())
)
_CHANGES_FROM = select(schema.change).where(schema.change.c.id >= bindparam("first"))
_MADE = Statement(_CHANGES_FROM.order_by(schema.change.c.id))
_MADE_REMOVED_FIRST = Statement(_CHANGES_FROM.order_by(schema.change.c.after.is_not(None), schema.change.c.id))
_CHANGESET_OF = Statement(select(schema.change.c.changeset).where(schema.change.c.id == bindparam("id")))
_LATER_CHANGES = Statement(
    select(schema.change)
    .where(
        schema.change_object == func.lower(bindparam("name")),
        schema.change.c.object == bindparam("same_name"),
        schema.change.c.id > bindparam("after"),
    )
    .order_by(schema.change.c.id)
)
_since = select(schema.change).where(schema.change.c.at >= bindparam("since"))
_CHANGES_SINCE = {
    True: Statement(_since.order_by(schema.change.c.id.desc())),  # the last first
    False: Statement(_since.order_by(schema.change.c.id)),
}
_OTHER_OBJECTS = Statement(select(schema.change.c.object).where(schema.has_other_than_ascii).distinct())
_CHANGES_BEFORE = Statement(
    select(schema.change).where(schema.change.c.id < bindparam("before")).order_by(schema.change.c.id.desc())
)


@lru_cache(_ARITIES)
def _ids_about(names: int, numbers: int = 0, members: int = 0, groups: int = 0) -> Statement:
    """The statement for the ids of the changes of so many names, numbers, members, and groups that have members.

    It looks only at the indexes, of which each of these has one. The rows are another statement's: in one for both,
    PostgreSQL would go through all rows in their order as long as it has not counted what an index has.
    """
    change = schema.change
    found: list[ColumnElement[bool]] = []
    if names:
        found.append(schema.change_object.in_([*map(func.lower, _keys("name", names))]))
    for kind, count, (has_field, field) in (
        ("number", numbers, schema.change_number),
        ("member", members, schema.change_member),
        ("group", groups, schema.change_group),
    ):
        if count:
            found.append(and_(has_field, field.in_(_keys(kind, count))))
    return Statement(union_all(*(select(change.c.id).where(each) for each in found)))


@lru_cache(_ARITIES)
def _changes_with(ids: int) -> Statement:
    """The statement for the changes with so many ids."""
    return Statement(select(schema.change).where(schema.change.c.id.in_(_keys("id", ids))).order_by(schema.change.c.id))


_UPGRADES_SINCE = Statement(
    select(schema.change.c.operation, schema.change.c.before).where(
        schema.change.c.id > bindparam("after"), schema.is_upgrade
    )
)
_COUNTS = {
    table.name: Statement(select(func.count()).select_from(table))
    for table in schema.metadata.sorted_tables
    if table is not schema.journal_head
}
# The tables whose rows decide; their names where people read them.
STANDING_TABLES = {table.name: table.name.removeprefix("mailbox_") for table in schema.REPLICATED}
_ENDED = {
    table.name: Statement(select(func.count()).select_from(table).where(table.c.until <= bindparam("now")))
    for table in schema.REPLICATED
    if "until" in table.c
}
_LAST_CHANGE = Statement(
    select(schema.change.c.id, schema.change.c.at).where(
        schema.change.c.id == select(func.max(schema.change.c.id)).scalar_subquery()
    )
)


class Flags(NamedTuple):
    """What there is at all in the tables: what there is none of, nobody needs to ask for."""

    has_groups: bool  # some mailbox or group is in a group
    has_anyone_entries: bool  # some blocked sender is anyone
    has_accepted_senders: bool


class Source(Protocol):
    """What runs a statement: all rows that it finds, or one after another."""

    def fetch(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]: ...

    def stream(self, statement: Statement, *values: Any) -> Iterator[tuple[Any, ...]]: ...


class Queries:
    """The tables as *source* reads them, in whose transaction all there is is of one moment.

    What is asked for must be in normal form. Iterators stream: memory does not grow with the tables.
    `recipient_delimiter` is the setting: what an address leads to hangs on it.
    """

    def __init__(self, source: Source, recipient_delimiter: str = "") -> None:
        self.recipient_delimiter = recipient_delimiter
        self._fetch = source.fetch
        self._stream = source.stream

    # --- Domains ---

    def domain(self, name: str) -> Domain | None:
        """The managed domain *name*."""
        found = self._fetch(_DOMAIN, name)
        return _to_domain(found[0], self.accepted_by(domain=name)) if found else None

    def find_domain(self, name: str) -> Domain | None:
        """The same without its accepted senders: for who asks for those only if they matter."""
        found = self._fetch(_DOMAIN, name)
        return _to_domain(found[0]) if found else None

    def domain_names(self, most: int) -> frozenset[str] | None:
        """The names of all managed domains; None where there are more than *most*."""
        return self._few(_DOMAIN_NAMES, most)

    def domains(self) -> Iterator[Domain]:
        """Every managed domain, by name."""
        for row in self._fetch(_DOMAINS):
            yield _to_domain(row, self.accepted_by(domain=row[0]))

    def aliases_of(self, domain: str) -> list[str]:
        """The names of the alias domains that stand for *domain*."""
        return [name for (name,) in self._fetch(_ALIASES_OF, domain)]

    # --- Mailboxes ---

    def mailbox_with(self, address: str) -> Mailbox | None:
        """The mailbox that has *address*."""
        return self._mailbox(self._fetch(_MAILBOX_WITH, address))

    def mailbox_named(self, folded_name: str) -> Mailbox | None:
        """The mailbox whose name folds to this."""
        return self._mailbox(self._fetch(_MAILBOX_NAMED, folded_name))

    def mailboxes_among(self, folded_names: Iterable[str]) -> Iterator[tuple[Mailbox, list[Address]]]:
        """The mailboxes whose names fold to one of these, with their addresses, the primary one first."""
        for names in _some_at_once(folded_names):
            for mailbox, held in self._with_addresses(self._fetch(_mailboxes_named(len(names)), *names)):
                name, number = mailbox.name, mailbox.id
                yield mailbox, [Address(text, name, bool(is_primary), number) for text, is_primary in held]

    def mailbox_numbered(self, number: int) -> Mailbox | None:
        """The mailbox with this id."""
        return self._mailbox(self._fetch(_MAILBOX_NUMBERED, number))

    def holder_of(self, address: str, *, has_groups: bool) -> Holder | None:
        """The mailbox that has *address*; *has_groups* says whether some mailbox is in a group."""
        found = self._fetch(_HOLDER_WITH[has_groups], address)
        if not found:
            return None
        row = found[0]
        return _to_holder(row, address if row[5] else None)

    def holder_called(self, folded_name: str, *, has_groups: bool) -> Holder | None:
        """The mailbox whose name folds to this; *has_groups* says whether some mailbox is in a group."""
        found = self._fetch(_HOLDER_CALLED[has_groups], folded_name)
        return _to_holder(found[0], found[0][5] or "") if found else None

    def mailboxes_numbered(self, numbers: Sequence[int]) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """The mailboxes with these ids, a few hundred at most, in no order; without whom they accept.

        Each with its addresses, the primary one first.
        """
        if not numbers:
            return
        keys = _filled_up(numbers)
        held = _by_owner(self._fetch(_addresses_of(len(keys)), *keys))
        for row in self._fetch(_mailboxes_numbered(len(keys)), *keys):
            yield _to_named(Mailbox, row), tuple(address for address, _ in held[row[-1]])

    def mailboxes(self) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """Every mailbox, oldest first, with its addresses, the primary one first."""
        held, accepted = Grouped(self._stream(_ADDRESSES_BY_MAILBOX)), Grouped(self._stream(_ACCEPTED_OF_MAILBOXES))
        for row in self._stream(_MAILBOXES):
            own = tuple(address for (address,) in held.of(row[-1]))
            yield _to_named(Mailbox, row, _to_parties("accepted_sender", accepted.of(row[-1]))), own

    def mailboxes_by_name(self) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """Every mailbox, by its folded name, with its addresses, the primary one first: the first at once."""
        rows = self._stream(_MAILBOXES_BY_NAME)
        while some := [*islice(rows, _MAILBOXES_AT_ONCE)]:
            for mailbox, held in self._with_addresses(some):
                yield mailbox, tuple(address for address, _ in held)

    def has_comments(self) -> bool:
        """Whether some mailbox has a comment."""
        return bool(self._fetch(_HAS_COMMENTS)[0][0])

    def mailboxes_with_an_end(self) -> Iterator[Mailbox]:
        """The mailboxes whose restriction has an end, passed or not, oldest first; without their accepted senders."""
        return (_to_named(Mailbox, row) for row in self._stream(_MAILBOXES_WITH_AN_END))

    # --- Groups ---

    def group_named(self, folded_name: str) -> Group | None:
        """The group whose name folds to this."""
        return self._group(self._fetch(_GROUP_NAMED, folded_name))

    def group_numbered(self, number: int) -> Group | None:
        """The group with this id."""
        return self._group(self._fetch(_GROUP_NUMBERED, number))

    def groups(self) -> Iterator[Group]:
        """Every group, oldest first."""
        for row in self._fetch(_GROUPS):
            yield _to_named(Group, row, self.accepted_by(group_ids=(row[-1],)))

    def groups_of(self, mailbox_id: int) -> tuple[Group, ...]:
        """The groups that a mailbox is in, directly or not, without their accepted senders."""
        return tuple(_to_named(Group, row) for row in self._fetch(_GROUPS_OF_MAILBOX, mailbox_id))

    def groups_of_each(self, mailbox_ids: Sequence[int]) -> dict[int, list[Group]]:
        """The same of some mailboxes, by their ids; nothing of one that is in no group."""
        found: defaultdict[int, list[Group]] = defaultdict(list)
        keys = _filled_up(mailbox_ids) if mailbox_ids else []
        for *row, mailbox_id in self._fetch(_groups_of_each(len(keys)), *keys) if keys else ():
            found[mailbox_id].append(_to_named(Group, row))
        return found

    def groups_above(self, group_id: int) -> tuple[Group, ...]:
        """The groups that a group is in, directly or not, without their accepted senders; itself in a circle."""
        return tuple(_to_named(Group, row) for row in self._fetch(_GROUPS_OF_GROUP, group_id))

    def membership(self, number: int) -> Membership | None:
        """The membership with this id."""
        found = self._fetch(_MEMBERSHIP, number)
        return _to_membership(found[0]) if found else None

    def members_of(self, group_id: int) -> list[Membership]:
        """Who is in a group directly, oldest first."""
        return [*map(_to_membership, self._fetch(_MEMBERS_OF, group_id))]

    def members_behind(self, group_id: int, number: int, most: int) -> list[Membership]:
        """The first *most* of those in a group directly whose membership came after the one with this id."""
        return [*map(_to_membership, self._fetch(_MEMBERS_BEHIND, group_id, number, most))]

    def groups_within(self, group_id: int, most: int = _NO_END) -> list[int]:
        """The ids of a group and of those in it, directly or not: *most* of them, in no order."""
        return [number for (number,) in self._fetch(_GROUPS_WITHIN, group_id, most)]

    def count_within(self, group_id: int, rows: int) -> tuple[int, bool]:
        """How many mailboxes are in a group, directly or not; no more than *rows* memberships are looked at.

        And whether that were all.
        """
        ((looked, mailboxes),) = self._fetch(_COUNT_WITHIN, group_id, rows)
        return int(mailboxes), int(looked) < rows

    def memberships_of(self, member: Party) -> list[Membership]:
        """What groups a mailbox or group is in directly, oldest first."""
        is_group = member.kind is PartyKind.GROUP
        found = self._fetch(_MEMBERSHIPS_OF_GROUP if is_group else _MEMBERSHIPS_OF_MAILBOX, member.number)
        return sorted(map(_to_membership, found), key=_by_id)

    def memberships(self) -> Iterator[Membership]:
        """Every membership, oldest first."""
        return map(_to_membership, self._stream(_MEMBERSHIPS))

    def flags(self) -> Flags:
        """What there is at all."""
        (found,) = self._fetch(_FLAGS)
        return Flags(*map(bool, found))

    # --- Accepted senders ---

    def accepted_by(self, *, mailbox_id: int = 0, group_ids: Sequence[int] = (), domain: str = "") -> frozenset[Party]:
        """Whom a mailbox, groups or a domain accept, all together; of those that are given."""
        keys = [*([mailbox_id] if mailbox_id else []), *group_ids, *([domain] if domain else [])]
        if not keys:
            return frozenset()
        return _to_parties(
            "accepted_sender", self._fetch(_accepted_by(bool(mailbox_id), len(group_ids), bool(domain)), *keys)
        )

    def accepting(self, party: Party) -> list[Domain | Group | Mailbox]:
        """What accepts a mailbox or a group as a sender."""
        owners: list[Domain | Group | Mailbox | None] = []
        for mailbox_id, group_id, domain in self._fetch(_OWNERS_ACCEPTING[party.kind], party.number):
            if mailbox_id is not None:
                owners.append(self.mailbox_numbered(mailbox_id))
            else:
                owners.append(self.domain(domain) if group_id is None else self.group_numbered(group_id))
        return [owner for owner in owners if owner is not None]

    def patterns_let_through(self) -> Iterator[tuple[str, str]]:
        """Every pattern that is accepted, or an exception by sender, with where that is said, in words."""
        for pattern, mailbox, group, domain in self._stream(_PATTERNS_ACCEPTED):
            yield pattern, f"mailbox {mailbox}" if mailbox else f"group:{group}" if group else f"domain {domain}"
        for pattern, number in self._stream(_PATTERNS_ALLOWED):
            yield pattern, f"entry {number}"

    # --- Addresses ---

    def address(self, text: str) -> Address | None:
        """The address *text*, and whose it is."""
        found = self._fetch(_ADDRESS, text)
        return to_address(found[0]) if found else None

    def addresses_among(self, texts: Iterable[str]) -> set[str]:
        """Those of these addresses that mailboxes have."""
        found = (self._fetch(_addresses_among(len(some)), *some) for some in _some_at_once(texts))
        return {text for rows in found for (text,) in rows}

    def primary_address(self, mailbox_id: int) -> str:
        """The primary address of a mailbox, "" where it has none."""
        found = self._fetch(_PRIMARY_OF, mailbox_id)
        return str(found[0][0]) if found else ""

    def addresses_of(self, mailbox_id: int) -> list[Address]:
        """The addresses of a mailbox, the primary one first."""
        held = map(to_address, self._fetch(_ADDRESSES_OF, mailbox_id))
        return sorted(held, key=lambda each: (not each.is_primary, each.address))

    def addresses(self, domain: str = "") -> Iterator[Address]:
        """The addresses, by address: all, or those in one domain, for which each call goes through the whole table."""
        if not domain:
            return map(to_address, self._stream(_ADDRESSES))
        return map(to_address, self._stream(_ADDRESSES_IN, f"@{domain}", f"@{domain}"))

    def last_behind(self, after: str, rows: int) -> str:
        """The last of the *rows* addresses behind *after*; "" where there are fewer."""
        found = self._fetch(_LAST_BEHIND, after, rows - 1)
        return str(found[0][0]) if found else ""

    def held_in(self, domains: Sequence[str], after: str, last: str, most: int) -> list[tuple[str, int]]:
        """The first *most* addresses in *domains* behind *after*, up to *last*, each with the number of its mailbox.

        *last* is "" for no such limit.
        """
        suffixes = _suffixes(domains)
        found = self._fetch(_held_in(len(suffixes) // 2), after, last or _LAST_OF_ALL, *suffixes, most)
        return [(address, number) for address, number in found]

    def count_in(self, domains: Sequence[str], last: str) -> int:
        """How many mailboxes have an address in *domains*, up to *last*, which is "" for no such limit."""
        suffixes = _suffixes(domains)
        ((mailboxes,),) = self._fetch(_count_in(len(suffixes) // 2), "", last or _LAST_OF_ALL, *suffixes)
        return int(mailboxes)

    def address_texts(self) -> Iterator[str]:
        """Every address, as text, by address: a fifth of the time that `addresses` takes."""
        return map(itemgetter(0), self._stream(_ADDRESS_TEXTS))

    def perhaps_restricted(self) -> Iterator[tuple[str, int]]:
        """The addresses of mailboxes that say who may send, and of those in groups if one does; with the mailbox's id.

        They come in no order. Whether a restriction is in force for one is for the rules to say.
        """
        return ((address, mailbox_id) for address, mailbox_id in self._stream(_RESTRICTED_ADDRESSES))

    def ended(self, now: int) -> tuple[list[str], list[int]]:
        """The mailboxes whose restriction has ended at *now*, in Unix seconds, and the entries that have."""
        mailboxes = [name for (name,) in self._fetch(_ENDED_MAILBOXES, now)]
        return mailboxes, [number for (number,) in self._fetch(_ENDED_ENTRIES, now)]

    # --- Blocked senders ---

    def entry(self, number: int) -> BlockedSender | None:
        """The blocked sender with this id."""
        return next(iter(self._entries(self._fetch(_ENTRY, number))), None)

    def entries_for(
        self, mailbox_id: int, group_ids: Sequence[int], patterns: Sequence[str]
    ) -> tuple[BlockedSender, ...]:
        """The blocked senders that are this mailbox (0 for none), one of the groups or of *patterns*, in no order."""
        # A statement has only so many terms, and a domain may have a hundred labels.
        if len(patterns) > _PATTERNS_AT_ONCE:
            first, rest = patterns[:_PATTERNS_AT_ONCE], patterns[_PATTERNS_AT_ONCE:]
            return (*self.entries_for(mailbox_id, group_ids, first), *self.entries_for(0, (), rest))

        # Most senders have no entry.
        keys = (mailbox_id, *group_ids, *patterns) if mailbox_id else (*group_ids, *patterns)
        counts = (mailbox_id != 0, len(group_ids), len(patterns))
        if not keys or not self._fetch(_has_entries(*counts), *keys)[0][0]:
            return ()
        return self._entries(self._fetch(_entries_of(*counts), *keys))

    def blocked_patterns(self, most: int) -> frozenset[str] | None:
        """Every pattern that is a blocked sender; None where there are more than *most*."""
        return self._few(_PATTERNS_BLOCKED, most)

    def blocked_mailboxes(self, most: int) -> frozenset[int] | None:
        """The id of every mailbox that is a blocked sender; None where there are more than *most*."""
        return self._few(_MAILBOXES_BLOCKED, most)

    def entries_for_anyone(
        self, mailbox_id: int, group_ids: Sequence[int], patterns: Sequence[str]
    ) -> tuple[BlockedSender, ...]:
        """The blocked senders that are anyone, to a recipient with this mailbox (0 for none), groups and patterns.

        Those to outside and to anyone are among them.
        """
        statement = _entries_of_anyone(len(group_ids), len(patterns))
        return self._entries(self._fetch(statement, mailbox_id, *group_ids, *patterns))

    def entries_of(self, who: Party, most: int = _NO_END) -> list[BlockedSender]:
        """The entries of one sender, known by its number where it has one: the oldest *most*, oldest first."""
        key = who.number if who.kind in (PartyKind.MAILBOX, PartyKind.GROUP) else who.text
        return [*self._entries(self._fetch(_ENTRIES_OF_WHO[who.kind], key, most))]

    def entries_to(self, to: Party, most: int = _NO_END) -> list[BlockedSender]:
        """The blocked senders that may not send to this one mailbox or group: the oldest *most*, oldest first."""
        return [*self._entries(self._fetch(_ENTRIES_TO[to.kind], to.number, most))]

    def entries_with(self, patterns: Sequence[str], most: int) -> tuple[list[BlockedSender], list[BlockedSender]]:
        """The entries that are one of *patterns*, and those to one of them: the oldest *most* of each."""
        statements = [_entries_with(each, len(patterns)) for each in ("pattern", "recipient_pattern")]
        who, to = [[*self._entries(self._fetch(each, *patterns, most))] for each in statements]
        return who, to

    def entries_about(self, party: Party) -> list[BlockedSender]:
        """The entries that are this mailbox or group, then those that are to it; each once, oldest first."""
        entries = (*self.entries_of(party), *self.entries_to(party))
        return [*{entry.id: entry for entry in entries}.values()]

    def entries_excepting(self, party: Party) -> list[BlockedSender]:
        """The entries with this mailbox or group among their exceptions, oldest first."""
        found = self._fetch(_ENTRIES_EXCEPTING[party.kind], party.number, party.number)
        return [entry for (number,) in sorted(found) if (entry := self.entry(number))]

    def blocked_senders(self) -> Iterator[BlockedSender]:
        """Every blocked sender, oldest first."""
        recipients, senders = [Grouped(self._stream(each)) for each in _EXCEPTIONS]
        for row in self._stream(_ENTRIES):
            yield _to_entry(row, [*recipients.of(row[-1]), *senders.of(row[-1])])

    def has_senders_excepted(self) -> bool:
        """Whether some blocked sender has exceptions by sender."""
        return bool(self._fetch(_HAS_SENDERS_EXCEPTED)[0][0])

    # --- The journal ---

    def last_change(self) -> tuple[int, int]:
        """The number of the last change, and when that was, in Unix seconds; both 0 where there is none."""
        return next(((int(number), int(at)) for number, at in self._fetch(_LAST_CHANGE)), (0, 0))

    def changes(
        self,
        *,
        of_object: str = "",
        since: int = 0,
        limit: int | None = None,
        is_wanted: Callable[[Change], bool] = lambda _: True,
    ) -> Iterator[Change]:
        """The journal, oldest first: the last *limit* wanted rows of those from *since* on, in Unix seconds."""
        # The last ones are found from the end on; all of them, as they come.
        is_last_first = limit is not None
        if of_object:
            names = self._spellings(of_object)
            changes = self._changes_with(self._fetch(_ids_about(len(names)), *names), is_last_first=is_last_first)
        else:
            changes = (Change(*row) for row in self._stream(_CHANGES_SINCE[is_last_first], since))
        found = (change for change in changes if change.at >= since and is_wanted(change))
        return found if limit is None else reversed([*islice(found, limit)])

    def changes_since(self, since: int) -> Iterator[Change]:
        """The journal's rows from *since* on, in Unix seconds, one by one, the last first."""
        return (Change(*row) for row in self._stream(_CHANGES_SINCE[True], since))

    def changes_before(self, number: int) -> Iterator[Change]:
        """The journal's rows before the one with this id, one by one, the last first."""
        return (Change(*row) for row in self._stream(_CHANGES_BEFORE, number))

    def changes_about(
        self,
        names: Sequence[str],
        numbers: Sequence[int] = (),
        members: Sequence[Party] = (),
        groups: Sequence[int] = (),
    ) -> Iterator[Change]:
        """The journal's rows about any of these, one by one, the last first; few others are among them.

        That is about what has one of *names*, whatever the case of its ASCII letters; about what was stored under one
        of *numbers*, of whatever kind; that one of *members*, mailboxes or groups, was in a group; or that something
        was in the groups with these numbers.
        """
        keys = (
            *names,
            *map(field_of_number, numbers),
            *map(field_of_member, members),
            *map(field_of_group, groups),
        )
        if not keys:
            return iter(())
        found = self._fetch(_ids_about(len(names), len(numbers), len(members), len(groups)), *keys)
        return self._changes_with(found)

    def _changes_with(self, found: list[tuple[int]], *, is_last_first: bool = True) -> Iterator[Change]:
        """The changes with the ids that were *found*, each once, some read at a time."""
        ids = sorted({number for (number,) in found}, reverse=is_last_first)
        for first in range(0, len(ids), _CHANGES_AT_ONCE):
            some = _filled_up(ids[first : first + _CHANGES_AT_ONCE])
            rows = self._fetch(_changes_with(len(some)), *some)
            yield from (Change(*row) for row in (reversed(rows) if is_last_first else rows))

    def _spellings(self, name: str) -> list[str]:
        """How the journal has what is called *name*, which may be a domain's in Unicode: all but the case of ASCII.

        What has other letters is compared here, each name once: no engine folds as names are folded.
        """
        folded = _folded_forms(name)
        others = (found for (found,) in self._stream(_OTHER_OBJECTS) if fold(found) in folded)
        return sorted({*folded, *others})

    def changes_of(self, changeset: int) -> Iterator[Change]:
        """The journal's rows of one changeset, the last first, one by one."""
        end = self._fetch(_END_OF_CHANGESET, changeset, changeset)
        rows = self._stream(_CHANGES_BETWEEN, changeset, end[0][0] if end else _NO_END, changeset)
        return (Change(*row) for row in rows)

    def changes_from(self, first: int, *, is_removed_first: bool = False) -> Iterator[Change]:
        """The journal's rows from the one with this id on, one by one; those of what was removed first if asked for."""
        return (Change(*row) for row in self._stream(_MADE_REMOVED_FIRST if is_removed_first else _MADE, first))

    def changeset_of(self, number: int) -> int:
        """The changeset that the journal's row with this id is in; 0 where there is no such row."""
        found = self._fetch(_CHANGESET_OF, number)
        return int(found[0][0]) if found else 0

    def later_changes(self, name: str, after: int) -> list[Change]:
        """The journal's rows about the object called *name* that came after the row with this id."""
        return [Change(*row) for row in self._fetch(_LATER_CHANGES, name, name, after)]

    def is_first_edition(self, number: int) -> bool:
        """Whether the journal's row with this id was written by the first edition, before the upgrade from it."""
        return any(is_upgrade_from_first(*row) for row in self._fetch(_UPGRADES_SINCE, number))

    # --- All tables ---

    def counts(self) -> dict[str, int]:
        """The number of rows of each table."""
        return {name: int(self._fetch(statement)[0][0]) for name, statement in _COUNTS.items()}

    def standing(self, now: int) -> dict[str, tuple[int, int]]:
        """Of each of `STANDING_TABLES`, how many rows stand at *now*, in Unix seconds, and how many have ended."""
        found = {}
        for table, name in STANDING_TABLES.items():
            rows = int(self._fetch(_COUNTS[table])[0][0])
            ended = int(self._fetch(_ENDED[table], now)[0][0]) if table in _ENDED else 0
            found[name] = (rows - ended, ended)
        return found

    def _with_addresses(self, found: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Mailbox, list[Any]]]:
        """The mailboxes in these rows, each with its addresses and whether they are primary, the primary one first."""
        if not found:
            return
        # Asked for by number: whatever is ordered by name would be sorted as a whole first.
        numbers = _filled_up([row[-1] for row in found])
        held = _by_owner(self._fetch(_addresses_of(len(numbers)), *numbers))
        accepted = _by_owner(self._fetch(_accepted_of(len(numbers)), *numbers))
        for row in found:
            yield _to_named(Mailbox, row, _to_parties("accepted_sender", accepted[row[-1]])), held[row[-1]]

    def _few(self, statement: Statement, most: int) -> frozenset[Any] | None:
        """Every value that *statement* finds, with which comes how many; None where there are more than *most*."""
        found = self._fetch(statement, most + 1)
        return frozenset(value for (value,) in found) if len(found) <= most else None

    def _mailbox(self, found: list[tuple[Any, ...]]) -> Mailbox | None:
        return _to_named(Mailbox, found[0], self.accepted_by(mailbox_id=found[0][-1])) if found else None

    def _group(self, found: list[tuple[Any, ...]]) -> Group | None:
        return _to_named(Group, found[0], self.accepted_by(group_ids=(found[0][-1],))) if found else None

    def _entries(self, found: Sequence[tuple[Any, ...]]) -> tuple[BlockedSender, ...]:
        """The entries in these rows, with their exceptions."""
        exceptions: dict[int, list[tuple[Any, ...]]] = {row[-1]: [] for row in found}
        numbers = [*exceptions]
        for first in range(0, len(numbers), _ENTRIES_AT_ONCE):
            some = _filled_up(numbers[first : first + _ENTRIES_AT_ONCE])
            for row in self._fetch(_exceptions_of(len(some)), *some, *some):
                exceptions[row[0]].append(row[1:])
        return tuple(_to_entry(row, exceptions[row[-1]]) for row in found)


def _suffixes(domains: Sequence[str]) -> list[str]:
    """How the addresses in *domains* end, each twice."""
    return [suffix for domain in _filled_up(domains) for suffix in [f"@{domain}"] * 2]


def _filled_up(keys: Sequence[_Key]) -> list[_Key]:
    """*keys*, the last one again and again up to the next power of two: so few statements are compiled."""
    missing = (1 << (len(keys) - 1).bit_length()) - len(keys)
    return list(keys) + [keys[-1]] * missing


def _some_at_once(keys: Iterable[str]) -> Iterator[list[str]]:
    """*keys*, as many as a statement asks for."""
    rest = iter(keys)
    while some := [*islice(rest, _KEYS_AT_ONCE)]:
        yield _filled_up(some)


def _by_owner(rows: Iterable[tuple[Any, ...]]) -> defaultdict[int, list[Any]]:
    """The other columns of *rows* by the first, an id."""
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for owner_id, *columns in rows:
        found[owner_id].append(columns)
    return found


class Grouped:
    """The other columns of *rows*, grouped by the first, an id: asked for in rising order of ids."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._groups = groupby(rows, key=itemgetter(0))
        self._next = next(self._groups, None)

    def of(self, owner_id: int) -> list[Any]:
        """The rows of one owner, without its id."""
        while self._next is not None and self._next[0] < owner_id:
            self._next = next(self._groups, None)
        if self._next is None or self._next[0] != owner_id:
            return []
        values = [row[1:] for row in self._next[1]]
        self._next = next(self._groups, None)
        return values


def to_address(row: Sequence[Any]) -> Address:
    """The address in a row of `SELECT_ADDRESS`."""
    address, mailbox, is_primary, mailbox_id = row
    return Address(address, mailbox, bool(is_primary), mailbox_id)


def _to_domain(row: Sequence[Any], accepted: frozenset[Party] = frozenset()) -> Domain:
    name, unlisted, alias_of, receive, reason, until, comment = row
    if unlisted not in _UNLISTED or receive not in _RECEIVE or not _are(row, _DOMAIN_TYPES):
        raise _odd_row("domain", name)
    return Domain(name, _UNLISTED[unlisted], alias_of or "", _RECEIVE[receive], reason, until, comment, accepted)


def _to_named(kind: type[_Named], row: Sequence[Any], accepted: frozenset[Party] = frozenset()) -> _Named:
    name, receive, reason, until, comment, number = row
    if receive not in _RECEIVE or (*map(type, row),) not in _NAMED_TYPES:
        raise _odd_row(_TABLE_OF[kind], number)
    return kind(name, _RECEIVE[receive], reason, until, comment, accepted, number)


def _to_holder(row: Sequence[Any], primary: str | None) -> Holder:
    """The mailbox in a row of `_HOLDER_WITH` or `_HOLDER_CALLED`, with this *primary* address."""
    name, receive, reason, until, number, _, *in_groups = row
    if receive not in _RECEIVE or type(name) is not str or type(reason) is not str or type(until) not in _UNTIL_TYPES:
        raise _odd_row("mailbox", number)
    return new_tuple(Holder, (name, _RECEIVE[receive], reason, until, number, primary, 1 in in_groups))


def _to_membership(row: Sequence[Any]) -> Membership:
    number, group_id, group, *member = row
    party = _to_party(*member)
    if party is None:
        raise _odd_row("group_member", number)
    return Membership(Party(PartyKind.GROUP, group, group_id), party, number)


def _to_entry(row: Sequence[Any], exceptions: Sequence[Sequence[Any]]) -> BlockedSender:
    """The entry in a row of `_select_entry`, with its exceptions: whether it is one by recipient, and who."""
    who, to = _to_party(*row[:6]), _to_party(*row[6:12])
    terms, number = row[12:], row[-1]
    if who is None or to is None or not _are(terms, _TERM_TYPES):
        raise _odd_row("blocked_sender", number)
    allowed = allowed_senders = _NONE
    if exceptions:
        allowed = _to_parties("allowed_recipient", (each[1:] for each in exceptions if each[0]))
        allowed_senders = _to_parties("allowed_sender", (each[1:] for each in exceptions if not each[0]))
    reason, until, comment, created_at, created_by, _ = terms
    return BlockedSender(who, to, reason, until, comment, allowed, allowed_senders, created_at, created_by, number)


def _to_parties(table: str, rows: Iterable[Sequence[Any]]) -> frozenset[Party]:
    """The parties in rows of *table*."""
    parties = set()
    for row in rows:
        party = _to_party(*row)
        if party is None:
            raise _odd_row(table, row)
        parties.add(party)
    return frozenset(parties)


def _to_party(
    mailbox_id: Any, mailbox: Any, group_id: Any, group: Any, pattern: Any = None, word: Any = None
) -> Party | None:
    """Who stands in these columns, of which all but those for one are NULL; None where nobody can."""
    match mailbox, group, pattern, word:
        case str(), None, None, None:
            return Party(PartyKind.MAILBOX, mailbox, mailbox_id)
        case None, str(), None, None:
            return Party(PartyKind.GROUP, group, group_id)
        case None, None, str(), None:
            return Party(PartyKind.PATTERN, pattern)
        case None, None, None, str():
            return _WORDS.get(word)
        case _:
            return None


def _are(row: Sequence[Any], types: Sequence[type | UnionType]) -> bool:
    return False not in map(isinstance, row, types)


def _odd_row(table: str, key: object) -> StoreError:
    """What to do about a row that policyd would never write: it says nothing that an answer could come from."""
    return StoreError(
        f"the database has a row that policyd did not write: {table} {key!a}; see: policyd database check"
    )


def _folded_forms(name: str) -> set[str]:
    """What *name*, which may be a domain's in Unicode, folds to in the journal."""
    try:
        return {fold(name), normal_domain(name)}
    except AddressError:
        return {fold(name)}
