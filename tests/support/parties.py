"""Parties, for tests, as people write them."""

from policyd.address import parse_party, quote_local_part
from policyd.model import Party, PartyKind


def party(text: str, number: int = 0) -> Party:
    """Whom *text* means, a pattern in normal form or a reserved word, too; with its number, if that is given."""
    return parse_party(quote_local_part(text), PartyKind.ANYONE, PartyKind.OUTSIDE)._replace(number=number)


def parties(*texts: str) -> tuple[Party, ...]:
    """The same of several."""
    return tuple(map(party, texts))


def party_set(*texts: str) -> frozenset[Party]:
    """The same of a list, as objects have them."""
    return frozenset(map(party, texts))
