"""Where there is more about what is named on a page: which page that is, and what its field holds there. Pure."""

from typing import NamedTuple

from policyd.address import is_group, is_pattern, quote_local_part
from policyd.model import RESERVED_WORDS, Change, Domain, Group, Mailbox

_LONGEST = 400  # characters of what may be the name of something
_NOUNS = ("mailbox", "group", "address", "sender")  # of changes of what is called as a party is


class Lead(NamedTuple):
    """A page, by its name in a form, and what is typed there."""

    page: str
    name: str


def lead_to(text: str) -> Lead | None:
    """Where there is more about *text*, a party or an address as it stands in the tables; None for what has no page.

    That is `<>`, a local part in any domain, a reserved word, and what no browser would send unchanged.
    """
    if not text.isprintable() or not 0 < len(text) <= _LONGEST or text in RESERVED_WORDS:
        return None
    if is_group(text):
        return Lead(Group.noun, text)
    if not is_pattern(text):
        return Lead(Mailbox.noun, text)
    local, _, where = text.rpartition("@")
    if local and where:
        return Lead(Mailbox.noun, quote_local_part(text))
    return Lead(Domain.noun, where.removeprefix(".")) if where else None


def lead_to_changed(change: Change) -> Lead | None:
    """Where there is more about what was changed."""
    noun = change.operation.partition(".")[0]
    if noun == Domain.noun:
        return lead_to(f"@{change.object}")
    return lead_to(change.object) if noun in _NOUNS else None
