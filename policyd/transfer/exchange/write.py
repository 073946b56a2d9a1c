"""Writes the tables as an Exchange directory file."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import assert_never

from policyd.address import fold
from policyd.model import BlockedSender, Mailbox, PartyKind, Receive
from policyd.transfer.effective import Effective
from policyd.transfer.exchange.cells import common_name, escape, is_delete, join_values, show_proxy
from policyd.transfer.formats import ExportedTables

_HEADER = (
    "Obj-Class",
    "Mode",
    "Directory Name",
    "E-mail Addresses",
    "Secondary-Proxy-Addresses",
    "Accept messages from",
    "Reject messages from",
)
_CONNECTOR = ("Connector", "Update", "Internet Mail Service", "", "", "")
_NAMES_A_ROW = 100  # of a connector's Reject list, which is read as additions


def write(tables: ExportedTables, lost: Counter[str]) -> Iterator[str]:
    """A directory file, in lines ended by CR LF, that makes the same tables when it is read.

    Counts in *lost*, by kind, what the format can't say. A restriction is written only if it is `nobody` with
    at least one accepted mailbox, and only where it is the mailbox's own: that of a group or domain would be the
    mailbox's own on the way back. Memory grows with the memberships, and with the senders that mailboxes accept and
    reject, not with the mailboxes.
    """
    lost["domain"] += sum(1 for _ in tables.domains())
    lost["group"] += sum(1 for _ in tables.groups())
    effective = Effective(tables)
    yield _line(_HEADER)

    # A row for each mailbox; in the lists of senders stand names.
    rejected = _find_rejected(tables.blocked_senders())
    for mailbox, addresses in tables.mailboxes():
        _count_remarks(mailbox, lost)
        lost["inherited restriction"] += effective.inherits(mailbox, addresses)
        if not _is_sayable(mailbox.name):
            lost["mailbox"] += 1
            continue
        yield _line(
            (
                "Mailbox",
                "Update",
                escape(mailbox.name),
                join_values(map(show_proxy, addresses[:1])),
                join_values(map(show_proxy, addresses[1:])),
                join_values(_accepted_names(mailbox, lost)),
                join_values(rejected.get(fold(mailbox.name), ())),
            )
        )

    # Who is blocked to the outside stands in the Reject list of the connector.
    blocked = _blocked_names(tables.blocked_senders(), lost)
    while names := tuple(islice(blocked, _NAMES_A_ROW)):
        yield _line((*_CONNECTOR, join_values(names)))
    for kind in [kind for kind, count in lost.items() if not count]:
        del lost[kind]


def _line(cells: Iterable[str]) -> str:
    return ",".join(map(_quoted, cells)) + "\r\n"


def _quoted(cell: str) -> str:
    if '"' in cell or "," in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _is_sayable(name: str) -> bool:
    """Whether a name is read as itself, in a row of its own and in a list."""
    return not is_delete(name) and common_name(name) == name


def _count_remarks(thing: Mailbox | BlockedSender, lost: Counter[str]) -> None:
    lost["reason"] += bool(thing.reason)
    lost["until"] += thing.until is not None
    lost["comment"] += bool(thing.comment)


def _accepted_names(mailbox: Mailbox, lost: Counter[str]) -> list[str]:
    """The mailboxes that a restricted mailbox accepts; counts what is lost of its restriction."""
    match mailbox.receive:
        case Receive.ANYONE | Receive.INHERIT | Receive.INSIDERS | Receive.DOMAIN:
            lost["restriction"] += mailbox.receive.is_restriction
            lost["anyone"] += mailbox.receive is Receive.ANYONE
            lost["accepted sender"] += len(mailbox.accepted)
            return []
        case Receive.NOBODY:
            pass
        case _:
            assert_never(mailbox.receive)
    named = [each.text for each in mailbox.accepted if each.kind is PartyKind.MAILBOX and _is_sayable(each.text)]
    lost["restriction"] += not named
    lost["accepted sender"] += len(mailbox.accepted) - len(named)
    return sorted(named)


def _find_rejected(entries: Iterable[BlockedSender]) -> Mapping[str, list[str]]:
    """The mailboxes that are blocked to one mailbox, by its folded name."""
    rejected: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if _is_rejected(entry):
            rejected[fold(entry.to.text)].append(entry.who.text)
    return rejected


def _is_rejected(entry: BlockedSender) -> bool:
    """Whether *entry* can stand in the Reject list of its one mailbox."""
    if entry.to.kind is not PartyKind.MAILBOX or entry.who.kind is not PartyKind.MAILBOX:
        return False
    return _is_sayable(entry.who.text) and _is_sayable(entry.to.text)


def _is_connectors(entry: BlockedSender) -> bool:
    """Whether *entry* can stand in the Reject list of the connector to the outside."""
    is_outside = entry.to.kind is PartyKind.OUTSIDE
    return is_outside and entry.who.kind is PartyKind.MAILBOX and _is_sayable(entry.who.text)


def _blocked_names(entries: Iterable[BlockedSender], lost: Counter[str]) -> Iterator[str]:
    """The mailboxes that are blocked to the outside; counts what is lost of any entry."""
    for entry in entries:
        is_outside = _is_connectors(entry)
        if not is_outside and not _is_rejected(entry):
            lost["blocked sender"] += 1
            continue
        _count_remarks(entry, lost)
        lost["exception"] += len(entry.allowed) + len(entry.allowed_senders)
        lost["creation"] += bool(entry.created_at or entry.created_by)
        if is_outside:
            yield entry.who.text
