"""Writes the tables as LDIF: entries for a directory whose schema has the attributes, which `read` takes back.

A sender who is no mailbox is a contact below the mailbox that accepts or refuses it. A mailbox that accepts nobody
accepts the members of a group that has none. Source: RFC 2849, RFC 2798 (inetOrgPerson), RFC 4519.
"""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from typing import assert_never

from policyd.address import is_pattern
from policyd.model import BlockedSender, Mailbox, Party, PartyKind, Receive, Unlisted
from policyd.transfer.formats import Tables
from policyd.transfer.ldif.names import BASE, NOBODY, escape_value

_DOT_STRING = re.compile(r"[^\s\"(),:;<>@\[\\\]\x00-\x1f.]+(?:\.[^\s\"(),:;<>@\[\\\]\x00-\x1f.]+)*")

_SAFE = re.compile(r"(?![ :<])[\x01-\x09\x0b\x0c\x0e-\x7f]*(?<! )")
_LINE_BYTES = 76

_Values = dict[str, list[str]]


def write(tables: Tables, lost: Counter[str]) -> Iterator[str]:
    """The mailboxes as entries, one a piece of text, and who may send to them.

    Counts in *lost*, by a word each, what can't be said. Holds the senders that are blocked to a single mailbox.
    """
    # There are no domains in LDIF; whom a mailbox rejects stands in its entry.
    for domain in tables.domains():
        lost["domain"] += 1
        lost["unlisted"] += domain.unlisted is not Unlisted.REJECT
    rejected = _rejected(tables, lost)

    # What the entries hang below.
    yield "version: 1\n\n"
    yield _entry(BASE, {"objectClass": ["organizationalUnit"], "ou": ["policyd"]})
    # An empty name as its one member: the schema wants one.
    yield _entry(NOBODY, {"objectClass": ["groupOfNames"], "cn": ["accepted by nobody"], "member": [""]})

    # The mailboxes, each with the senders that it names.
    for mailbox, addresses in tables.mailboxes():
        yield from _mailbox(mailbox, addresses, rejected.get(mailbox.name, []), lost)
    for word in [word for word in lost if not lost[word]]:
        del lost[word]


def _rejected(tables: Tables, lost: Counter[str]) -> dict[str, list[str]]:
    """The senders that are blocked to a single mailbox, by its name."""
    rejected: dict[str, list[str]] = {}
    for entry in tables.blocked_senders():
        if not _can_say(entry):
            lost["blocked-sender"] += 1
            continue
        lost["reason"] += bool(entry.reason)
        lost["until"] += entry.until is not None
        lost["comment"] += bool(entry.comment)
        lost["except"] += bool(entry.allowed or entry.allowed_senders)
        lost["created"] += bool(entry.created_at or entry.created_by)
        rejected.setdefault(entry.to.text, []).append(entry.who.text)
    return rejected


def _mailbox(mailbox: Mailbox, addresses: tuple[str, ...], rejected: list[str], lost: Counter[str]) -> Iterator[str]:
    """The entry of a mailbox, and those of the senders below it."""
    lost["reason"] += bool(mailbox.reason)
    lost["until"] += mailbox.until is not None
    lost["comment"] += bool(mailbox.comment)
    name = f"uid={escape_value(mailbox.name)},{BASE}"
    accepted = sorted(party.text for party in mailbox.accepted if _can_name(party))
    is_restricted = mailbox.receive.is_restriction
    lost["accepted-sender"] += len(mailbox.accepted) - len(accepted) * is_restricted
    values = {
        "objectClass": ["inetOrgPerson"],
        "uid": [mailbox.name],
        "cn": [mailbox.name],
        "sn": [mailbox.name],
        "mailNickname": [] if addresses else [mailbox.name],
        **_addresses(addresses),
        "authOrig": [_sender_name(pattern, name) for pattern in accepted if is_restricted],
        "unauthOrig": [_sender_name(sender, name) for sender in rejected],
    }
    match mailbox.receive:
        case Receive.ANYONE | Receive.INHERIT:
            pass
        case Receive.INSIDERS | Receive.DOMAIN:
            values["msExchRequireAuthToSendTo"] = ["TRUE"]
        case Receive.NOBODY:
            values["dLMemSubmitPerms"] = [] if accepted else [NOBODY]
        case _:
            assert_never(mailbox.receive)
    yield _entry(name, values)
    below = filter(is_pattern, {*(accepted if is_restricted else ()), *rejected})
    for address in sorted(below):
        contact = {"objectClass": ["contact"], "cn": [address], "targetAddress": [f"SMTP:{_quote_local_part(address)}"]}
        yield _entry(_sender_name(address, name), contact)


def _addresses(addresses: tuple[str, ...]) -> _Values:
    """The attributes that hold *addresses*, in their order. `mail` is ASCII only. Source: RFC 4524 §2.16."""
    quoted = [_quote_local_part(address) for address in addresses]
    if all(map(str.isascii, quoted)):
        return {"mail": quoted}
    proxies = [f"{'smtp' if number else 'SMTP'}:{address}" for number, address in enumerate(quoted)]
    return {"mail": quoted[:1] if quoted[0].isascii() else [], "proxyAddresses": proxies}


def _can_say(entry: BlockedSender) -> bool:
    """Whether an attribute can hold *entry*: a mailbox or a single address, blocked to one mailbox."""
    return entry.to.kind is PartyKind.MAILBOX and _can_name(entry.who)


def _can_name(sender: Party) -> bool:
    """Whether an entry can stand for *sender*: a mailbox or a single address."""
    match sender.kind:
        case PartyKind.MAILBOX:
            return True
        case PartyKind.PATTERN:
            local, _, domain = sender.text.rpartition("@")
            return bool(local and domain and not domain.startswith("."))
        case PartyKind.GROUP | PartyKind.ANYONE | PartyKind.OUTSIDE:
            return False
        case _:
            assert_never(sender.kind)


def _sender_name(sender: str, mailbox: str) -> str:
    """The name of the entry for a sender: a mailbox's own, or a contact's below the entry *mailbox*."""
    if is_pattern(sender):
        return f"cn={escape_value(sender)},{mailbox}"
    return f"uid={escape_value(sender)},{BASE}"


def _quote_local_part(address: str) -> str:
    """An address in normal form, its local part quoted where SMTP wants it so. Source: RFC 5321 §4.1.2."""
    local, _, domain = address.rpartition("@")
    if _DOT_STRING.fullmatch(local):
        return address
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"@{domain}'


def _entry(name: str, values: _Values) -> str:
    """A record with its empty line."""
    lines = [_line("dn", name), *(_line(attribute, value) for attribute, some in values.items() for value in some)]
    return "".join(lines) + "\n"


def _line(attribute: str, value: str) -> str:
    """A value behind its attribute, folded; what has no plain form is base64. Source: RFC 2849, SAFE-STRING."""
    line = f"{attribute}: {value}" if _SAFE.fullmatch(value) else f"{attribute}:: {b64encode(value.encode()).decode()}"
    starts = range(_LINE_BYTES, len(line), _LINE_BYTES - 1)  # behind the first line, a blank comes first
    return "\n ".join([line[:_LINE_BYTES], *(line[start : start + _LINE_BYTES - 1] for start in starts)]) + "\n"
