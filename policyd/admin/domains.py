"""What an administrator must know of a managed domain: the other one for which Postfix takes it."""

from collections.abc import Iterable
from shlex import quote

from policyd.address import domain_for_postfix, unicode_domain
from policyd.store.queries import Queries


def spelling_advice(queries: Queries, names: Iterable[str]) -> list[str]:
    """A line for each of the managed domains *names* that Postfix takes for another domain, with what to type."""
    lines = []
    for name in names:
        other = domain_for_postfix(unicode_domain(name))
        if other not in ("", name):
            is_managed = queries.domain(other) is not None
            advice = (
                "which is managed, too" if is_managed else f"so manage that, too: policyd domain add {quote(other)}"
            )
            lines.append(f"Postfix takes {unicode_domain(name)} for {other}, {advice}")
    return lines
