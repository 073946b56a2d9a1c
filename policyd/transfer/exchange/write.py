"""Writes the tables as an Exchange directory file."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import assert_never

from policyd.address import fold
from policyd.model import BlockedSender, Mailbox, Receive, Recipients
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
    at least one accepted sender, and accepted senders only where they are all the addresses of a mailbox.
    Memory grows with the accepted and rejected senders of mailboxes, not with the mailboxes.
    """
    lost["domain"] += sum(1 for _ in tables.domains())
    yield _line(_HEADER)

    # A row for each mailbox; in the lists of senders stand names, so their owners are found first.
    accepted = _find_accepted(tables)
    rejected = _find_rejected(tables.blocked_senders())
    for mailbox, addresses in tables.mailboxes():
        _count_remarks(mailbox, lost)
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
                join_values(_accepted_names(mailbox, accepted, lost)),
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


def _find_accepted(tables: ExportedTables) -> Mapping[str, tuple[str, tuple[str, ...]]]:
    """By each accepted sender that is a mailbox's address, that mailbox's name and all its addresses."""
    wanted: set[str] = set()
    for mailbox, _ in tables.mailboxes():
        if mailbox.receive is Receive.NOBODY:
            wanted |= mailbox.accepted
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    if wanted:
        for mailbox, addresses in tables.mailboxes():
            found.update((address, (mailbox.name, addresses)) for address in addresses if address in wanted)
    return found


def _accepted_names(
    mailbox: Mailbox, owners: Mapping[str, tuple[str, tuple[str, ...]]], lost: Counter[str]
) -> list[str]:
    match mailbox.receive:
        case Receive.ANYONE | Receive.INSIDERS:
            lost["restriction"] += mailbox.receive.is_restriction
            lost["accepted sender"] += len(mailbox.accepted)
            return []
        case Receive.NOBODY:
            pass
        case _:
            assert_never(mailbox.receive)
    owning = {owners[pattern] for pattern in mailbox.accepted if pattern in owners}
    whole = [(name, all_) for name, all_ in owning if mailbox.accepted.issuperset(all_) and _is_sayable(name)]
    lost["restriction"] += not whole
    lost["accepted sender"] += len(mailbox.accepted) - sum(len(all_) for _, all_ in whole)
    return sorted(name for name, _ in whole)


def _find_rejected(entries: Iterable[BlockedSender]) -> Mapping[str, list[str]]:
    """The mailboxes that are blocked to one mailbox, by its folded name."""
    rejected: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if _is_rejected(entry):
            rejected[fold(entry.to_mailbox)].append(entry.mailbox)
    return rejected


def _is_rejected(entry: BlockedSender) -> bool:
    """Whether *entry* can stand in the Reject list of its one mailbox."""
    match entry.recipients:
        case Recipients.MAILBOX:
            return bool(entry.mailbox) and _is_sayable(entry.mailbox) and _is_sayable(entry.to_mailbox)
        case Recipients.OUTSIDE | Recipients.ANYONE:
            return False
        case _:
            assert_never(entry.recipients)


def _is_connectors(entry: BlockedSender) -> bool:
    """Whether *entry* can stand in the Reject list of the connector to the outside."""
    match entry.recipients:
        case Recipients.OUTSIDE:
            return bool(entry.mailbox) and _is_sayable(entry.mailbox)
        case Recipients.MAILBOX | Recipients.ANYONE:
            return False
        case _:
            assert_never(entry.recipients)


def _blocked_names(entries: Iterable[BlockedSender], lost: Counter[str]) -> Iterator[str]:
    """The mailboxes that are blocked to the outside; counts what is lost of any entry."""
    for entry in entries:
        is_outside = _is_connectors(entry)
        if not is_outside and not _is_rejected(entry):
            lost["blocked sender"] += 1
            continue
        _count_remarks(entry, lost)
        lost["exception"] += len(entry.allowed)
        lost["creation"] += bool(entry.created_at or entry.created_by)
        if is_outside:
            yield entry.mailbox
