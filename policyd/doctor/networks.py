"""Networks as Postfix's mynetworks lists them, and which of them others cover. Pure."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from policyd.doctor.words import split_words

Network = IPv4Network | IPv6Network
_MAPPED_BITS = 96
_NETWORK = re.compile(r"!*(\d[\d.]*/\S*|\[?[0-9a-f]*:[0-9a-f:.]*\]?(/\S*)?)", re.IGNORECASE)


def networks_in(value: str) -> tuple[list[Network], list[str]]:
    """The networks that *value* lists, and the words that can't be compared: exceptions, files and tables.

    Source: postconf(5), mynetworks.
    """
    networks: list[Network] = []
    others: list[str] = []
    for word in split_words(value):
        try:
            network = ip_network(word.replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            others.append(word)
            continue
        mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
        if mapped is not None and network.prefixlen >= _MAPPED_BITS:
            network = ip_network((mapped, network.prefixlen - _MAPPED_BITS), strict=False)
        networks.append(network)
    return networks, others


def refused_networks(value: str) -> list[str]:
    """The words of *value* that Postfix takes for a network and can't use, as one with bits behind its length.

    It puts off what comes from whoever is in none of the networks before. Source: match_hostaddr() in match_ops.c.
    """
    return [word for word in split_words(value) if _NETWORK.fullmatch(word) and not _is_exact(word)]


def _is_exact(word: str) -> bool:
    """Whether *word* is a network as Postfix writes it: with a length, and of IPv6 the address in brackets."""
    address, bracket, bits = word.lstrip("!").removeprefix("[").partition("]")
    if not bracket and ":" in address:  # that is a table to Postfix
        return False
    try:
        ip_network(address + bits)
    except ValueError:
        return False
    return re.fullmatch(r"(/\d+)?", bits) is not None if bracket else address.rpartition("/")[2].isdecimal()


def is_covered(network: Network, others: Iterable[Network]) -> bool:
    """Whether every address of *network* is in one of *others*, or in several together."""
    return not _left(network, [each for each in others if each.version == network.version])


def _left(network: Network, others: list[Network]) -> bool:
    """Whether something of *network* is in none of *others*."""
    touching = [each for each in others if each.overlaps(network)]
    if any(network.subnet_of(each) for each in touching):  # type: ignore[arg-type]  # they are of one version
        return False
    if not touching:
        return True
    return any(_left(half, touching) for half in network.subnets())
