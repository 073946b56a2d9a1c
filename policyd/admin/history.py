"""What the journal holds, and what narrows any list: a text or glob, and a domain."""

import re
from collections.abc import Callable, Iterator

from policyd.address import fold
from policyd.changes import whom_it_is_to
from policyd.model import Change
from policyd.store.queries import Queries


def list_changes(
    queries: Queries, of_object: str, since: int, text: str, domain: str, limit: int | None
) -> Iterator[Change]:
    """The journal's rows, the oldest first; *text* may be in whom a blocked sender may not write to, too.

    Those about *of_object*, since *since* in Unix seconds, to *domain* or what is in it; of all these the last *limit*.
    """
    is_named = name_filter(text)

    def is_wanted(change: Change) -> bool:
        names = (change.object, whom_it_is_to(change))
        return is_named(*names) and (not domain or any(is_in(each, domain) for each in names))

    return queries.changes(of_object=of_object, since=since, limit=limit, is_wanted=is_wanted)


def name_filter(text: str) -> Callable[..., bool]:
    """Whether one of some names is as *text* says."""
    wanted = fold(text)
    if not re.search(r"[*?]", wanted):
        return lambda *names: any(wanted in fold(name) for name in names)
    glob = _glob(wanted)
    return lambda *names: any(glob.fullmatch(fold(name)) for name in names)


def _glob(text: str) -> re.Pattern[str]:
    """What matches names that are wholly as *text*, in which `*` stands for any characters and `?` for one.

    A piece between two stars is taken where it stands first, and for good: to try every other place, too, would take
    for ever with some ten stars, and finds nothing more.
    """
    first, *pieces = [re.escape(piece).replace(r"\?", ".") for piece in text.split("*")]
    if not pieces:
        return re.compile(first, re.DOTALL)
    return re.compile(f"{first}{''.join(f'(?>.*?{piece})' for piece in pieces[:-1])}.*{pieces[-1]}", re.DOTALL)


def is_in(name: str, domain: str) -> bool:
    """Whether *name* is *domain*, or an address or a pattern in it."""
    return name == domain or name.endswith((f"@{domain}", f"@.{domain}"))
