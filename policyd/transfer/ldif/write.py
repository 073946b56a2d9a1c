"""Writes the tables as LDIF: entries for a directory whose schema has the attributes, which `read` takes back.

A mailbox has its own restriction here, not what its groups and its domain say: that would be its own on the way back.
A sender who is no mailbox is a contact below the mailbox that accepts or refuses it. A mailbox that accepts nobody
accepts the members of a group that has none. Source: RFC 2849, RFC 2798 (inetOrgPerson), RFC 4519.
"""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from typing import assert_never

from policyd.address import fold, quote_local_part
from policyd.model import BlockedSender, Group, Mailbox, Party, PartyKind, Receive, Unlisted
from policyd.transfer.effective import Effective
from policyd.transfer.formats import ExportedTables
from policyd.transfer.ldif.names import BASE, GROUPS, NOBODY, escape_value
from policyd.transfer.values import is_one_address

ACCEPTING = ("authOrig", "dLMemSubmitPerms")  # people, and groups
REJECTING = ("unauthOrig", "dLMemRejectPerms")
_DOT_STRING = re.compile(r"[^\s\"(),:;<>@\[\\\]\x00-\x1f.]+(?:\.[^\s\"(),:;<>@\[\\\]\x00-\x1f.]+)*")

_SAFE = re.compile(r"(?![ :<])[\x01-\x09\x0b\x0c\x0e-\x7f]*(?<! )")
_LINE_BYTES = 76

_Values = dict[str, list[str]]


def write(tables: ExportedTables, lost: Counter[str]) -> Iterator[str]:
    """The mailboxes as entries, one a piece of text, and who may send to them.

    Counts in *lost*, by a word each, what can't be said. Holds the senders that are blocked to a single mailbox.
    """
    # LDIF has no domains; a mailbox's entry says which senders it rejects.
    for domain in tables.domains():
        lost["domain"] += 1
        lost["unlisted"] += domain.unlisted is not Unlisted.REJECT
    effective = Effective(tables)
    rejected = _rejected(tables, lost)

    # What the entries hang below.
    yield "version: 1\n\n"
    yield _entry(BASE, {"objectClass": ["organizationalUnit"], "ou": ["policyd"]})
    # An empty name as its one member: the schema wants one.
    yield _entry(NOBODY, {"objectClass": ["groupOfNames"], "cn": ["accepted by nobody"], "member": [""]})

    # The groups that mailboxes name, and those in them: a directory has many of which nobody wants to know here.
    yield from _groups(tables, _named_groups(tables, rejected), lost)

    # The mailboxes, each with the senders that it names.
    for mailbox, addresses in tables.mailboxes():
        lost["inherited-restriction"] += effective.inherits(mailbox, addresses)
        yield from _mailbox(mailbox, addresses, rejected.get(mailbox.name, []), lost)
    for word in [word for word in lost if not lost[word]]:
        del lost[word]


def _rejected(tables: ExportedTables, lost: Counter[str]) -> dict[str, list[Party]]:
    """The senders that are blocked to a single mailbox, by its name."""
    rejected: dict[str, list[Party]] = {}
    for entry in tables.blocked_senders():
        if not _can_say(entry):
            lost["blocked-sender"] += 1
            continue
        lost["except"] += bool(entry.allowed or entry.allowed_senders)
        lost["created"] += bool(entry.created_at or entry.created_by)
        _count_remarks(entry, lost)
        rejected.setdefault(entry.to.text, []).append(entry.who)
    return rejected


def _count_remarks(kept: Group | Mailbox | BlockedSender, lost: Counter[str]) -> None:
    lost["reason"] += bool(kept.reason)
    lost["until"] += kept.until is not None
    lost["comment"] += bool(kept.comment)


def _named_groups(tables: ExportedTables, rejected: dict[str, list[Party]]) -> set[str]:
    """The folded names of the groups that mailboxes accept or reject, and of those in them."""
    held = {fold(group.name): members for group, members in tables.groups()}
    if not held:
        return set()
    waiting = [party for parties in rejected.values() for party in parties]
    for mailbox, _ in tables.mailboxes():
        waiting += _accepted(mailbox)
    named: set[str] = set()
    while waiting:
        party = waiting.pop()
        if party.kind is PartyKind.GROUP and fold(party.text) not in named:
            named.add(fold(party.text))
            waiting += held[fold(party.text)]
    return named


def _groups(tables: ExportedTables, named: set[str], lost: Counter[str]) -> Iterator[str]:
    """The entries of the groups that are *named*; they have no restrictions here."""
    if named:
        yield _entry(GROUPS, {"objectClass": ["organizationalUnit"], "ou": ["groups"]})
    for group, members in tables.groups():
        if fold(group.name) not in named:
            lost["group"] += 1
            continue
        lost["restriction"] += group.receive.is_restriction
        lost["accepted-sender"] += len(group.accepted)
        _count_remarks(group, lost)
        values = {
            "objectClass": ["groupOfNames"],
            "cn": [group.name],
            "member": [_sender_name(member, "") for member in members] or [""],
        }
        yield _entry(_sender_name(group.party, ""), values)


def _accepted(mailbox: Mailbox) -> list[Party]:
    """Those of the accepted senders that the mailbox's entry can name.

    A list beside the flag would be of those who may send only if they sign in, and not besides those who do.
    """
    if mailbox.receive not in (Receive.NOBODY, Receive.DOMAIN):
        return []
    return sorted(filter(_can_name, mailbox.accepted), key=str)


def _mailbox(mailbox: Mailbox, addresses: tuple[str, ...], rejected: list[Party], lost: Counter[str]) -> Iterator[str]:
    """The entry of a mailbox, and those of the senders below it."""
    _count_remarks(mailbox, lost)
    name = _sender_name(mailbox.party, "")
    accepted = _accepted(mailbox)
    lost["accepted-sender"] += len(mailbox.accepted) - len(accepted)
    values = {
        "objectClass": ["inetOrgPerson"],
        "uid": [mailbox.name],
        "cn": [mailbox.name],
        "sn": [mailbox.name],
        "mailNickname": [] if addresses else [mailbox.name],
        **_addresses(addresses),
        **_senders(accepted, ACCEPTING, name),
        **_senders(rejected, REJECTING, name),
    }

    # Who may send to it, where the list of accepted senders does not say it alone.
    match mailbox.receive:
        case Receive.INHERIT:
            pass
        case Receive.ANYONE:
            lost["anyone"] += 1
        case Receive.INSIDERS:
            values["msExchRequireAuthToSendTo"] = ["TRUE"]
        case Receive.NOBODY | Receive.DOMAIN:  # no attribute says `domain`: closed, rather than open to all who sign in
            lost["restriction"] += mailbox.receive is Receive.DOMAIN
            if not accepted:
                values["dLMemSubmitPerms"] = [NOBODY]
        case _:
            assert_never(mailbox.receive)
    yield _entry(name, values)
    below = {party.text for party in (*accepted, *rejected) if party.kind is PartyKind.PATTERN}
    for address in sorted(below):
        contact = {"objectClass": ["contact"], "cn": [address], "targetAddress": [f"SMTP:{quote_local_part(address)}"]}
        yield _entry(f"cn={escape_value(address)},{name}", contact)


def _senders(parties: list[Party], attributes: tuple[str, str], mailbox: str) -> _Values:
    """The attribute for people, and that for groups, with those of *parties* that belong there."""
    people, groups = attributes
    return {
        people: [_sender_name(party, mailbox) for party in parties if party.kind is not PartyKind.GROUP],
        groups: [_sender_name(party, mailbox) for party in parties if party.kind is PartyKind.GROUP],
    }


def _addresses(addresses: tuple[str, ...]) -> _Values:
    """The attributes that hold *addresses*, in their order. `mail` is ASCII only. Source: RFC 4524 §2.16."""
    quoted = [quote_local_part(address) for address in addresses]
    if all(map(str.isascii, quoted)):
        return {"mail": quoted}
    proxies = [f"{'smtp' if number else 'SMTP'}:{address}" for number, address in enumerate(quoted)]
    return {"mail": quoted[:1] if quoted[0].isascii() else [], "proxyAddresses": proxies}


def _can_say(entry: BlockedSender) -> bool:
    """Whether an attribute can hold *entry*: a mailbox, a group, or a single address, blocked to one mailbox."""
    return entry.to.kind is PartyKind.MAILBOX and _can_name(entry.who)


def _can_name(sender: Party) -> bool:
    """Whether an entry can stand for *sender*."""
    return bool(_sender_name(sender, ""))


def _sender_name(sender: Party, mailbox: str) -> str:
    """The name of the entry for a sender: a mailbox's or group's own, or a contact's below the entry *mailbox*.

    "" where no entry can stand for it: a pattern that is no single address, and anyone.
    """
    match sender.kind:
        case PartyKind.MAILBOX:
            return f"uid={escape_value(sender.text)},{BASE}"
        case PartyKind.GROUP:
            return f"cn={escape_value(sender.text)},{GROUPS}"
        case PartyKind.PATTERN:
            return f"cn={escape_value(sender.text)},{mailbox}" if is_one_address(sender) else ""
        case PartyKind.ANYONE | PartyKind.OUTSIDE:
            return ""
        case _:
            assert_never(sender.kind)


def _entry(name: str, values: _Values) -> str:
    """A record with its empty line."""
    lines = [_line("dn", name), *(_line(attribute, value) for attribute, some in values.items() for value in some)]
    return "".join(lines) + "\n"


def _line(attribute: str, value: str) -> str:
    """A value behind its attribute, folded; what has no plain form is base64. Source: RFC 2849, SAFE-STRING."""
    line = f"{attribute}: {value}" if _SAFE.fullmatch(value) else f"{attribute}:: {b64encode(value.encode()).decode()}"
    starts = range(_LINE_BYTES, len(line), _LINE_BYTES - 1)  # behind the first line, a blank comes first
    return "\n ".join([line[:_LINE_BYTES], *(line[start : start + _LINE_BYTES - 1] for start in starts)]) + "\n"
