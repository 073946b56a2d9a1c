"""All that the tables say about one domain: who may write to it, its mailboxes, what blocks it, and who said so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from policyd.address import normal_domain, patterns_of_domain
from policyd.admin.about import ENTRIES, entries_shown
from policyd.admin.journal_pages import changes_of_domain
from policyd.admin.mailbox_pages import Count, MailboxPage, count_in_domains, page_of_mailboxes
from policyd.admin.session import Session
from policyd.admin.showing import domain_facts
from policyd.admin.typed_commands import Offer, offers, typed_command
from policyd.errors import RefusedError
from policyd.model import Change, Domain
from policyd.store.edit import need_domain
from policyd.store.queries import Queries


@dataclass(slots=True)
class AboutDomain:
    """What the tables say about the domain `name`.

    `domain` is as `show_domain` has it, but for its mailboxes; it is None where that is not managed, as `remark` says
    then. The mailboxes are those that its restriction is about: of an alias domain, its target's. `blocked` are the
    entries that match every sender in it, or in all its subdomains, `blocked_to_it` those to every recipient there, and
    `changes` those of all that. `offers` would change it.
    """

    name: str
    domain: Mapping[str, Any] | None = None
    remark: str = ""
    count: Count | None = None
    mailboxes: MailboxPage | None = None
    blocked: list[Mapping[str, Any]] = field(default_factory=list)
    blocked_to_it: list[Mapping[str, Any]] = field(default_factory=list)
    offers: list[Offer] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def about_domain(
    session: Session, text: str, now: int, *, after: str, limit_seconds: float, rows: int, changes: int
) -> AboutDomain:
    """What the tables say at *now*, in Unix seconds, about a domain, *text*, which may have an `@` in front.

    With so many *rows* at most, the mailboxes behind the address *after*, and so many *changes*, the last ones. Raises
    AddressError where it is no domain, and StoreError.
    """
    with session.reading(limit_seconds=limit_seconds) as queries:
        found = AboutDomain(normal_domain(text.removeprefix("@")))
        try:
            domain = need_domain(queries, found.name)
        except RefusedError as error:
            found.remark = str(error)
            command = typed_command("domain", "add", found.name, options=("--unlisted", "accept"))
            found.offers = [Offer("Manage it, and refuse nothing yet", command)]
        else:
            _add_facts(found, queries, domain, after, now, rows)

        # The entries about all of it, or of its subdomains, and what was changed.
        names = dict.fromkeys((found.name, (found.domain or {}).get("alias_of") or found.name))
        patterns = dict.fromkeys((f"@.{found.name}", *(each for name in names for each in patterns_of_domain(name))))
        blocked, blocked_to_it = queries.entries_with([*patterns], ENTRIES)
        found.blocked, found.blocked_to_it = entries_shown(blocked, now), entries_shown(blocked_to_it, now)
        found.changes = [*islice(changes_of_domain(queries, found.name, [*blocked, *blocked_to_it]), changes)]
        return found


def _add_facts(found: AboutDomain, queries: Queries, domain: Domain, after: str, now: int, rows: int) -> None:
    """Add to what is *found* what a managed *domain* has."""
    target = need_domain(queries, domain.alias_of) if domain.alias_of else domain
    names = [target.name, *queries.aliases_of(target.name)]
    found.domain = domain_facts(queries, domain, now)
    found.offers = offers(domain, now)
    found.count = count_in_domains(queries, names)
    found.mailboxes = page_of_mailboxes(queries, target, names, after, now, most=rows)
