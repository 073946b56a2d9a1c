"""Parties, for tests, as people write them."""

from policyd.address import parse_party
from policyd.model import Party, PartyKind


def party(text: str, number: int = 0) -> Party:
    """Whom *text* means, be it a reserved word; with its number, if that is given."""
    return parse_party(text, PartyKind.ANYONE, PartyKind.OUTSIDE)._replace(number=number)


def parties(*texts: str) -> tuple[Party, ...]:
    """The same of several."""
    return tuple(map(party, texts))


def party_set(*texts: str) -> frozenset[Party]:
    """The same of a list, as objects have them."""
    return frozenset(map(party, texts))
