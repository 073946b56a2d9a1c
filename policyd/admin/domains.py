"""What an administrator must know of a managed domain: the other one for which Postfix takes it."""

from collections.abc import Iterable

from policyd.store.edit import postfix_spelling
from policyd.store.queries import Queries


def spelling_advice(queries: Queries, names: Iterable[str]) -> list[str]:
    """A line for each of the managed domains *names* that Postfix takes for another domain, with what to type."""
    return [line for line in (postfix_spelling(queries, name) for name in names) if line]
