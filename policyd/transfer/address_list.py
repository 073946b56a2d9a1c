"""list: an address or a pattern a line, for mailboxes to be made or senders to be blocked (also a mailbox's name).

Several on a line are each one of their own; but `SMTP:` and `smtp:` before them say that they are one mailbox's.
What follows a `#` at the start of a line or behind a blank is a comment; in front of it, quotes may hold blanks and
`#`: `"john doe"@example.com`. With --domain, a line without an `@` is completed. The comments `# into: mailboxes` and
`# into: blocked`, as in an export, say what the lines after them are, before --into does.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, assert_never

from policyd.address import fold, name_after, pattern_domain
from policyd.errors import AddressError, TransferError
from policyd.model import ANYONE, OUTSIDE, BlockedSender, Domain, Group, Mailbox, PartyKind, Receive
from policyd.records import BlockRow, ListEdit, Notice, Problem, Record, Row
from policyd.transfer import values
from policyd.transfer.fields import mailbox_of
from policyd.transfer.formats import Evidence, ExportedTables, Format, Into, ReadOptions, Sample
from policyd.transfer.proxies import addresses_of, split_proxies
from policyd.transfer.text import LINE_LIMIT, find_encoding, read_lines

_ENTRY = re.compile(r'("(?:[^"\\]|\\.)*+"\S*+|(?!#)\S++(?:\s++(?!#)\S++)*+)?+\s*+(?:#.*)?')
_WORD = re.compile(r'(?:"(?:[^"\\]|\\.)*+"\S*+|[^\s"]\S*+)(?:\s+#.*)?')
MARK = "# into: "


def read(stream: BinaryIO, options: ReadOptions) -> Iterator[Record | Notice]:
    """The records of *stream*. Raises TransferError where nothing says what the lines are."""
    into = options.into
    for line in read_lines(stream, find_encoding(stream)):
        # A line of our own exports says what the lines after it are.
        if line.text.startswith(MARK) and line.text.removeprefix(MARK) in [*Into]:
            into = Into(line.text.removeprefix(MARK))

        # Empty lines and comments say nothing.
        match = _ENTRY.fullmatch(line.text.strip())
        if match and not match[1]:
            continue

        # Every other line is one mailbox's address, or one sender.
        if into is None:
            break
        if line.is_too_long:
            yield Record(line.number, "", problems=(Problem(f"this line has more than {LINE_LIMIT} characters"),))
            continue
        try:
            rows, skipped = _read_entry(match[1] if match else line.text.strip(), into, options.domain)
            yield Record(line.number, line.text, rows, skipped=skipped)
        except (AddressError, values.CellError) as error:
            yield Record(line.number, line.text, problems=(Problem(str(error)),))
    if into is None:
        raise TransferError("say what the lines of the list are: --into mailboxes, or --into blocked")


def write(tables: ExportedTables, lost: Counter[str]) -> Iterator[str]:
    """The addresses of the mailboxes, then the blocked senders; what a list can't say is counted in *lost*."""
    # A list has no domains and no names: a mailbox is called after its address.
    managed = {domain.name for domain in tables.domains()}
    lost["domain"] += len(managed)
    lost["group"] += sum(1 for _ in tables.groups())

    # A mailbox that is blocked is named; whether reading gives that name back to it depends on the addresses before.
    named = (entry.who for entry in tables.blocked_senders() if entry.who.kind is PartyKind.MAILBOX)
    own = dict.fromkeys({fold(who.text) for who in named}, False)
    free = set(own)

    # The addresses of the mailboxes.
    yield f"{MARK}{Into.MAILBOXES}\n"
    for mailbox, addresses in tables.mailboxes():
        _count_mailbox(mailbox, addresses, lost)
        for name in free.intersection(fold(name_after(address)) for address in addresses):
            own[name] = name == fold(mailbox.name)
            free.remove(name)
        yield from (f"{values.quote_in_file(address)}\n" for address in addresses)

    # The blocked senders.
    yield f"{MARK}{Into.BLOCKED}\n"
    for entry in tables.blocked_senders():
        sender = values.written(entry.who)
        match = _ENTRY.fullmatch(sender)
        is_sayable = entry.who.kind is PartyKind.PATTERN or own.get(fold(sender), False)
        if match is None or match[1] != sender or not is_sayable:
            lost["blocked sender"] += 1
            continue
        _count_block(entry, managed, lost)
        yield f"{sender}\n"


def recognize(sample: Sample) -> Evidence:
    """By the comments of an export, else by one word a line, of which one at least is an address or a pattern."""
    if any(line.startswith(MARK) for line in sample.lines):
        return Evidence.COMMENT
    is_list = all(_WORD.fullmatch(line.strip()) for line in sample.content)
    has_address = any("@" in line or line.startswith("<>") for line in sample.content)
    return Evidence.LINES if is_list and has_address else Evidence.NONE


FORMAT = Format(read, write, recognize)


def count_remarks(
    kept: Domain | Group | Mailbox | BlockedSender, lost: Counter[str], *, is_reason_kept: bool = False
) -> None:
    """Count in *lost* the reason, end and comment of *kept*, where it has them."""
    lost["reason"] += bool(kept.reason) and not is_reason_kept
    lost["until"] += kept.until is not None
    lost["comment"] += bool(kept.comment)


def _read_entry(text: str, into: Into, domain: str) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """What a line says: the rows, and the types of values that are no SMTP addresses."""
    match into:
        case Into.BLOCKED:
            senders = values.split_list(text) if "@" in text else (text,)
            return tuple(BlockRow(values.sender(each, domain)) for each in senders), ()
        case Into.MAILBOXES:
            proxies = split_proxies(text)
            found = addresses_of(proxies, domain)
            if found.primary:  # with its type, an address is one of somebody's
                return (mailbox_of(found.all[0], addresses=ListEdit(add=found.all)),), found.skipped
            rows = (mailbox_of(address, addresses=ListEdit(add=(address,))) for address in found.all)
            return tuple(rows), found.skipped
        case _:
            assert_never(into)


def _count_mailbox(mailbox: Mailbox, addresses: tuple[str, ...], lost: Counter[str]) -> None:
    local = addresses[0].rpartition("@")[0] if addresses else mailbox.name
    lost["mailbox name"] += local != mailbox.name
    lost["mailbox"] += not addresses
    lost["several addresses"] += len(addresses) > 1
    lost["receive"] += mailbox.receive is not Receive.INHERIT
    lost["accept"] += bool(mailbox.accepted)
    count_remarks(mailbox, lost)


def _count_block(entry: BlockedSender, managed: set[str], lost: Counter[str]) -> None:
    is_inside = entry.who.kind is not PartyKind.PATTERN or pattern_domain(entry.who.text) in managed
    lost["to"] += entry.to != (OUTSIDE if is_inside else ANYONE)
    lost["except"] += bool(entry.allowed or entry.allowed_senders)
    lost["created_at"] += 1
    count_remarks(entry, lost)
