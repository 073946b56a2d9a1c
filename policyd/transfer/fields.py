"""The columns and keys of our own formats, csv and jsonl, for each kind of object, and the row that they make.

Both formats use the words of `--json`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

from policyd.address import name_after
from policyd.errors import AddressError
from policyd.model import BlockedSender, Domain, Group, Mailbox, Party, Receive
from policyd.records import (
    KEEP,
    AddressRow,
    BlockRow,
    DomainRow,
    GroupRow,
    Keep,
    ListEdit,
    MailboxRow,
    Problem,
    Record,
    Row,
)
from policyd.transfer import columns, values
from policyd.transfer.formats import ExportedTables
from policyd.transfer.proxies import Addresses, address_of, addresses_of, split_proxies
from policyd.transfer.text import Line
from policyd.transfer.values import CellError


class Kind(StrEnum):
    """What an object or a row is about."""

    DOMAIN = "domain"
    GROUP = "group"
    MAILBOX = "mailbox"
    BLOCKED = "blocked"
    ADDRESS = "address"


Parse = Callable[[Any, str], Any]  # a value of JSON's types, and the domain that completes addresses


def _without_domain(parse: Callable[[Any], Any]) -> Parse:
    """A `Parse` from *parse*, for values that no domain completes."""
    return lambda value, _domain: parse(value)


class _Held(NamedTuple):
    """What a file says of the addresses of a mailbox: what becomes of the list, and the types of other values."""

    edit: ListEdit[str] | Keep
    skipped: tuple[str, ...]


def _addresses(value: Any, domain: str) -> _Held:
    found = _read_addresses(value, domain)
    is_silent = found.skipped and not found.all  # it says nothing of addresses: no reason to take those away there are
    return _Held(KEEP if is_silent else ListEdit(True, (), found.all), found.skipped)


def _one_address(value: Any, domain: str) -> _Held:
    found = _read_addresses(values.string(value), domain)
    return _Held(ListEdit(add=found.all), found.skipped)


def _read_addresses(value: Any, domain: str) -> Addresses:
    if isinstance(value, str):
        return addresses_of(split_proxies(value), domain)
    return addresses_of([each for text in values.strings(value) for each in split_proxies(text)], domain)


def _blocked(value: Any, _domain: str) -> tuple[Party, ...]:
    """Each who may not send: of addresses and patterns, there may be several in a text."""
    text = values.string(value)
    return tuple(map(values.blocked, values.split_list(text) if "@" in text else (text,)))


def _senders(value: Any, _domain: str) -> ListEdit[Party]:
    return values.whole_list(values.sender(each) for each in values.strings(value))


def _recipients(value: Any, domain: str) -> ListEdit[Party]:
    return values.whole_list(values.sender(each, domain) for each in values.strings(value))


def _members(value: Any, _domain: str) -> ListEdit[Party]:
    return values.whole_list(values.member(each) for each in values.strings(value))


def _number(value: Any, _domain: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise CellError("this is not a number")


def _flag(value: Any, _domain: str) -> None:
    if not isinstance(value, bool):
        raise CellError("this is neither true nor false")


_MODE = {"mode": ("mode", _without_domain(values.mode)), "id": ("", _number)}
_REMARKS: dict[str, tuple[str, Parse]] = {
    "reason": ("reason", _without_domain(values.remark)),
    "until": ("until", _without_domain(values.end)),
    "comment": ("comment", _without_domain(values.remark)),
}

_RESTRICTION: dict[str, tuple[str, Parse]] = {
    **_REMARKS,
    "receive": ("receive", _without_domain(values.receive)),
    "accept": ("accepted", _senders),
}

# Of each kind, its keys: the attribute of the row ("" where the row has none), and how the value is read.
KEYS: Mapping[Kind, Mapping[str, tuple[str, Parse]]] = {
    Kind.DOMAIN: {
        **_MODE,
        **_RESTRICTION,
        "name": ("name", _without_domain(values.domain_name)),
        "unlisted": ("unlisted", _without_domain(values.unlisted)),
        "alias_of": ("alias_of", _without_domain(values.target)),
        "receive": ("receive", _without_domain(values.own_receive)),
    },
    Kind.GROUP: {
        **_MODE,
        **_RESTRICTION,
        "name": ("name", _without_domain(values.group_name)),
        "members": ("members", _members),
        "receive": ("receive", _without_domain(values.own_receive)),
    },
    Kind.MAILBOX: {
        **_MODE,
        **_RESTRICTION,
        "name": ("name", _without_domain(values.mailbox_name)),
        "addresses": ("addresses", _addresses),
        "address": ("addresses", _one_address),
    },
    Kind.BLOCKED: {
        **_MODE,
        **_REMARKS,
        "sender": ("sender", _blocked),  # without a domain, a mailbox's name: not completed
        "to": ("to", _without_domain(values.recipients)),
        "except": ("allowed", _recipients),
        "except_sender": ("allowed_senders", _senders),
        "created_at": ("created_at", _without_domain(values.moment)),
        "created_by": ("created_by", _without_domain(values.remark)),
    },
    Kind.ADDRESS: {
        **_MODE,
        "address": ("address", lambda value, domain: address_of(values.string(value), domain)),
        "mailbox": ("target", _without_domain(values.mailbox_name)),
        "is_primary": ("", _flag),
    },
}
# What a row that is made of an export has, of the kinds that tables hold in ways in which no command would make them.
_EXPORTED: Mapping[Kind, frozenset[str]] = {
    Kind.GROUP: frozenset({"name", "members", "receive", "accepted", "reason", "until", "comment"}),
    Kind.MAILBOX: frozenset({"name", "addresses", "receive", "accepted", "reason", "until", "comment"}),
    Kind.BLOCKED: frozenset(attribute for attribute, _ in KEYS[Kind.BLOCKED].values()) - {"", "mode"},
}
BOTH = "address and addresses can't both be given"
LISTS = frozenset({"addresses", "accept", "except", "except_sender", "members"})


def refuse(_value: Any, _domain: str) -> None:
    """What reads the keys that a kind hasn't got: raises CellError."""
    raise CellError("an object of this kind has no such field")


def _is_known(key: str) -> bool:
    return any(key in keys for keys in KEYS.values())


def _refuse_key(key: str, kind: Kind) -> str:
    """What is wrong with a *key* that an object of *kind* hasn't got."""
    if _is_known(key):
        return "an object of this kind has no such field"
    known = [*KEYS[kind]]
    no_field = f"an object of this kind has no such field{columns.guess(key, known)}"
    return f"{no_field}; a {kind} has {', '.join(known)}; {columns.HOW_TO_LEAVE_OUT}"


def read_object(line: Line, kind: Kind, said: Mapping[str, Any], domain: str) -> Record:
    """The record with the row about an object of *kind*, from its values by key; or everything that is wrong with them.

    A value of None empties its field.
    """
    keys = KEYS[kind]
    found: dict[str, Any] = {}
    problems = []
    skipped = []
    for key, value in said.items():
        attribute, parse = keys.get(key, ("", refuse))
        shown = ascii(key[:100])[1:-1]
        if not _is_known(key) and columns.is_left_out(key):
            skipped.append(shown)
            continue
        if key not in keys:
            problems.append(Problem(_refuse_key(key, kind), shown))
            continue
        try:
            if attribute and attribute in found:
                raise CellError(BOTH)
            found[attribute] = parse(value, domain)
        except (AddressError, CellError) as error:
            problems.append(Problem(str(error), shown))
    found.pop("", None)
    record = make_record(line.number, line.text, kind, found, problems)
    return replace(record, skipped=(*skipped, *record.skipped)) if skipped else record


def make_record(number: int, source: str, kind: Kind, found: dict[str, Any], problems: Sequence[Problem]) -> Record:
    """The record at line *number* with the row of *kind* with the attributes *found*; or with what is wrong.

    That are the *problems* there were, or there are with those.
    """
    if problems:
        groups = (found["name"],) if kind is Kind.GROUP and "name" in found else ()
        return Record(number, source, problems=tuple(problems), wrong_groups=groups)
    held = found.get("addresses")
    skipped: tuple[str, ...] = ()
    if isinstance(held, _Held):
        found["addresses"], skipped = held
    try:
        return Record(number, source, _make(kind, found), skipped=skipped)
    except (AddressError, CellError) as error:
        return Record(number, source, problems=(Problem(str(error)),))


def as_in_first_edition(record: Record) -> Record:
    """*record* of an export of the first edition, where mailboxes that receive from anyone are those not restricted."""
    for row in record.rows:
        if isinstance(row, MailboxRow) and row.receive is Receive.ANYONE:
            return replace(record, rows=(replace(row, receive=Receive.INHERIT),))
    return record


def mailbox_of(address: str, **said: Any) -> MailboxRow:
    """The mailbox of *address*, in normal form, named after its local part, as far as that can be a name."""
    return MailboxRow(name_after(address), **said, is_named_by_address=True)


def _make(kind: Kind, found: dict[str, Any]) -> tuple[Row, ...]:
    """The rows of *kind* with the attributes *found*. Raises CellError where one is missing that it needs."""
    if kind in _EXPORTED and found.keys() >= _EXPORTED[kind]:
        found = {**found, "as_it_stood": True}
    match kind:  # what files have most comes first
        case Kind.MAILBOX:
            if "name" in found:
                return (MailboxRow(**found),)
            edit = found.get("addresses")
            if not isinstance(edit, ListEdit) or not edit.add:
                raise CellError("a mailbox needs a name, or an address to be named after")
            return (mailbox_of(edit.add[0], **found),)
        case Kind.DOMAIN:
            _need(found, name="a domain needs a name")
            return (DomainRow(**found),)
        case Kind.GROUP:
            _need(found, name="a group needs a name")
            return (GroupRow(**found),)
        case Kind.BLOCKED:
            _need(found, sender="a blocked sender needs a sender")
            return tuple(BlockRow(**{**found, "sender": sender}) for sender in found["sender"])
        case Kind.ADDRESS:
            _need(found, address="an address needs an address", target="an address needs a mailbox")
            return (AddressRow(**found),)
        case _:
            assert_never(kind)


def objects(tables: ExportedTables) -> Iterator[dict[str, Any]]:
    """What each object is, by the keys of `KEYS`; parties as such, each list in one order.

    Alias domains come after those that they stand for.
    """
    for is_alias in (False, True):
        for domain in tables.domains():
            if bool(domain.alias_of) is is_alias:
                alias = {"unlisted": domain.unlisted, "alias_of": domain.alias_of}
                yield {"kind": Kind.DOMAIN, "name": domain.name, **alias, **_restriction(domain)}
    for group, members in tables.groups():
        yield {"kind": Kind.GROUP, "name": group.name, "members": members, **_restriction(group)}
    for mailbox, addresses in tables.mailboxes():
        yield {"kind": Kind.MAILBOX, "name": mailbox.name, "addresses": addresses, **_restriction(mailbox)}
    for entry in tables.blocked_senders():
        yield {
            "kind": Kind.BLOCKED,
            "sender": entry.who,
            "to": entry.to,
            "except": _in_order(entry.allowed),
            "except_sender": _in_order(entry.allowed_senders),
            **_remarks(entry),
            "created_at": entry.created_at,
            "created_by": entry.created_by,
        }


def _restriction(owner: Domain | Group | Mailbox) -> dict[str, Any]:
    return {"receive": owner.receive, "accept": _in_order(owner.accepted), **_remarks(owner)}


def _remarks(kept: Domain | Group | Mailbox | BlockedSender) -> dict[str, Any]:
    return {"reason": kept.reason, "until": kept.until, "comment": kept.comment}


def _in_order(parties: Iterable[Party]) -> tuple[Party, ...]:
    return tuple(sorted(parties, key=str))


def _need(found: Mapping[str, Any], **needed: str) -> None:
    """Raises CellError with what is said of the first attribute that is not *found*."""
    for attribute, message in needed.items():
        if attribute not in found:
            raise CellError(message)
