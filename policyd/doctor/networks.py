"""Networks as Postfix's mynetworks lists them, and which of them others cover. Pure."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from policyd.doctor.words import split_words

Network = IPv4Network | IPv6Network
_MAPPED_BITS = 96


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
