"""What the tables hold, as objects of plain values: what `show` and `list` print, and a page shows.

Each has the fields of the journal and of `--json`. Iterators stream, inside the session's transaction.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from policyd.address import fold
from policyd.errors import RefusedError
from policyd.model import Mailbox, Party, PartyKind
from policyd.rules import is_past
from policyd.store.edit import entries_found, need_group, need_mailbox, need_managed
from policyd.store.journal import shown
from policyd.store.queries import Queries

Shown = Mapping[str, Any]


def list_domains(queries: Queries) -> Iterator[Shown]:
    """Every managed domain, by name."""
    return map(shown, queries.domains())


def list_addresses(queries: Queries, domain: str = "") -> Iterator[Shown]:
    """The addresses, by address: all, or those in *domain*. Raises NotManagedError where that is not managed."""
    if domain:
        need_managed(queries, "no addresses", domain)
    return map(shown, queries.addresses(domain))


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
        "blocked": [*map(shown, queries.entries_of(mailbox.party))],
        "blocked_to_it": [*map(shown, queries.entries_to(mailbox.party))],
    }


def list_blocked_senders(queries: Queries, now: int, *, is_expired: bool) -> Iterator[Shown]:
    """The entries in force at *now* (Unix seconds), or those that have expired by then; the oldest first."""
    return (shown(each) for each in queries.blocked_senders() if is_past(each.until, now) is is_expired)


def show_sender(queries: Queries, sender: Party) -> list[Shown]:
    """Every entry of *sender*, the oldest first, expired ones, too; of an address without any, its mailbox's.

    Raises RefusedError where there is none.
    """
    if sender.kind is PartyKind.MAILBOX:
        sender = need_mailbox(queries, sender.text).party
    elif sender.kind is PartyKind.GROUP:
        sender = need_group(queries, sender.text).party
    entries = [*map(shown, entries_found(queries, sender))]
    if not entries:
        raise RefusedError(f"{sender} is not blocked; see: policyd sender list")
    return entries


def _with_addresses(mailbox: Mailbox, addresses: Iterable[str]) -> Shown:
    return {**shown(mailbox), "addresses": [*addresses]}
