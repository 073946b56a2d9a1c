"""Exports one state of the tables to a file, in any of the formats that can be imported."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

from policyd.admin.session import Session
from policyd.errors import StoreWriteError
from policyd.files import writing
from policyd.model import BlockedSender, Domain, Group, Mailbox, Party, Receive
from policyd.printable import printable
from policyd.rules import is_past
from policyd.store.queries import Queries
from policyd.transfer.formats import load_format

_Owner = TypeVar("_Owner", Domain, Group, Mailbox)


@dataclass(frozen=True, slots=True)
class ExportOutcome:
    """What was left out, counted: what the format can't carry, and what has ended."""

    lost: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)


def export_tables(
    session: Session, format_: str, target: Path | BinaryIO, now: int, *, is_terminal: bool = False
) -> ExportOutcome:
    """Write all tables, but what has ended at *now* (Unix seconds), to *target*, a stream or a file.

    A file appears whole, readable by its owner only. For a stream that *is_terminal*, what a terminal obeys is written
    as a code. Raises StoreError where the tables can't be read, or the file can't be written.
    """
    outcome = ExportOutcome()
    with session.reading() as queries:
        tables = _InForce(queries, now, outcome.ended)
        chunks = load_format(format_).write(tables, outcome.lost)
        if is_terminal:
            chunks = (printable(chunk, keep="\r\n\t") for chunk in chunks)
        if isinstance(target, Path):
            _write_file(target, chunks)
        else:
            _write_to(target, chunks)
    return outcome


class _InForce:
    """The tables but for what has ended at *now*, which no import would take; they are a format's `ExportedTables`.

    A blocked sender that has ended is left out, and of a mailbox, group or domain its restriction. *ended* counts them
    once they have been read to the end, however often.
    """

    def __init__(self, queries: Queries, now: int, ended: Counter[str]) -> None:
        self._queries = queries
        self._now = now
        self._ended = ended

    def domains(self) -> Iterator[Domain]:
        """Every managed domain."""
        ended = 0
        for domain in self._queries.domains():
            is_ended = is_past(domain.until, self._now)
            ended += is_ended
            yield self._free(domain, Receive.ANYONE) if is_ended else domain
        self._ended["domain's restriction"] = ended

    def groups(self) -> Iterator[tuple[Group, tuple[Party, ...]]]:
        """Every group with its members, those that are in it for longest first."""
        ended = 0
        for group in self._queries.groups():
            is_ended = is_past(group.until, self._now)
            ended += is_ended
            members = tuple(each.member for each in self._queries.members_of(group.id))
            yield self._free(group, Receive.ANYONE) if is_ended else group, members
        self._ended["group's restriction"] = ended

    def mailboxes(self) -> Iterator[tuple[Mailbox, tuple[str, ...]]]:
        """Every mailbox with its addresses, the primary one first."""
        ended = 0
        for mailbox, addresses in self._queries.mailboxes():
            is_ended = is_past(mailbox.until, self._now)
            ended += is_ended
            yield self._free(mailbox, Receive.INHERIT) if is_ended else mailbox, addresses
        self._ended["restriction"] = ended

    def _free(self, owner: _Owner, receive: Receive) -> _Owner:
        """*owner* without its restriction, which has ended; whom it accepts, a mailbox alone can go on saying."""
        accepted = owner.accepted if receive is Receive.INHERIT else frozenset()
        return replace(owner, receive=receive, reason="", until=None, accepted=accepted)

    def blocked_senders(self) -> Iterator[BlockedSender]:
        """Every blocked sender, oldest first."""
        ended = 0
        for entry in self._queries.blocked_senders():
            if is_past(entry.until, self._now):
                ended += 1
            else:
                yield entry
        self._ended["blocked sender"] = ended


def _write_file(output: Path, chunks: Iterable[str]) -> None:
    """Write *chunks* to *output*: the whole file appears at once, readable by its owner only.

    A device or pipe that is there already is written to as it is.
    """
    try:
        with writing(output) as file:
            _write_to(file, chunks)
    except OSError as error:
        raise StoreWriteError(f"{output}: can't be written: {error.strerror}") from error


def _write_to(file: BinaryIO, chunks: Iterable[str]) -> None:
    """Write *chunks* in UTF-8, whatever the locale says."""
    file.writelines(chunk.encode("utf-8") for chunk in chunks)
    file.flush()
