"""What the tables hold, as objects of plain values: what `show` and `list` print, and a page shows.

Each has the fields of the journal and of `--json`. Iterators stream, inside the session's transaction.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from policyd.address import fold, is_pattern
from policyd.errors import RefusedError
from policyd.model import Mailbox
from policyd.rules import is_past
from policyd.store.edit import need_mailbox, need_managed
from policyd.store.journal import snapshot
from policyd.store.queries import Queries

Shown = Mapping[str, Any]


def list_domains(queries: Queries) -> Iterator[Shown]:
    """Every managed domain, by name."""
    return map(snapshot, queries.domains())


def list_addresses(queries: Queries, domain: str = "") -> Iterator[Shown]:
    """The addresses, by address: all, or those in *domain*. Raises NotManagedError where that is not managed."""
    if domain:
        need_managed(queries, "no addresses", domain)
    return map(snapshot, queries.addresses(domain))


def list_mailboxes(queries: Queries) -> list[Shown]:
    """Every mailbox, by name, with its `addresses`, the primary one first."""
    mailboxes = sorted(queries.mailboxes(), key=lambda each: fold(each[0].name))
    return [_with_addresses(mailbox, addresses) for mailbox, addresses in mailboxes]


def show_mailbox(queries: Queries, name: str) -> dict[str, Any]:
    """The mailbox *name*, with its `addresses`, and the entries that are `blocked`, or `blocked_to_it`.

    Raises RefusedError where there is none.
    """
    mailbox = need_mailbox(queries, name)
    return {
        **_with_addresses(mailbox, [each.address for each in queries.addresses_of(mailbox.id)]),
        "blocked": [*map(snapshot, queries.entries_of(name))],
        "blocked_to_it": [*map(snapshot, queries.entries_to(mailbox.id))],
    }


def list_blocked_senders(queries: Queries, now: int, *, is_expired: bool) -> Iterator[Shown]:
    """The entries in force at *now* (Unix seconds), or those that have expired by then; the oldest first."""
    return (snapshot(each) for each in queries.blocked_senders() if is_past(each.until, now) is is_expired)


def show_sender(queries: Queries, sender: str) -> list[Shown]:
    """Every entry of *sender*, a pattern or a mailbox's name, the oldest first; expired ones, too.

    Raises RefusedError where there is none.
    """
    if not is_pattern(sender):
        need_mailbox(queries, sender)
    entries = [*map(snapshot, queries.entries_of(sender))]
    if not entries:
        raise RefusedError(f"{sender} is not blocked; see: policyd sender list")
    return entries


def _with_addresses(mailbox: Mailbox, addresses: Iterable[str]) -> Shown:
    return {**snapshot(mailbox), "addresses": [*addresses]}
