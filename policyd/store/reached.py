"""Which mailbox an address leads to, as the daemon finds it, in the transaction of whoever asks."""

from typing import cast

from policyd.address import unicode_domain
from policyd.identities import FactLookup, Identities
from policyd.model import Domain, Holder, Mailbox
from policyd.settings import Settings
from policyd.store.queries import Queries


class _Places:
    """What `Identities` needs of the tables to find a recipient's mailbox, and nothing of what is judged by it."""

    has_anyone_entries = False

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self.primary_address = queries.primary_address

    def domain(self, name: str) -> Domain | None:
        return self._queries.find_domain(name)

    def holder_of(self, address: str) -> Holder | None:
        return self._queries.holder_of(address, has_groups=False)

    def mailbox_called(self, folded_name: str) -> Holder | None:
        return self._queries.holder_called(folded_name, has_groups=False)


def mailbox_reached(queries: Queries, address: str) -> Mailbox | None:
    """The mailbox that *address*, in normal form, leads to: listed, or by its extension, alias domain, BATV or IMCEA.

    None where it leads to none, or is a pattern of several addresses.
    """
    listed = queries.mailbox_with(address)
    local, _, domain = address.rpartition("@")
    if listed is not None or not local or not domain:
        return listed

    # Postfix folds a domain as people write it, of which the normal form may be another.
    settings = Settings(recipient_delimiter=queries.recipient_delimiter)
    identities = Identities(settings, cast("FactLookup", _Places(queries)))
    found = identities.recipient(f"{local}@{unicode_domain(domain)}").mailbox
    return queries.mailbox_numbered(found.id) if found is not None else None
