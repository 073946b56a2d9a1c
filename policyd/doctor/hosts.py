"""What is on this host: the addresses that Postfix takes for its own, and gateways of containers."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from policyd.doctor.postconf import Instance
from policyd.doctor.words import split_words

_LOCAL_V4 = re.compile(r"(\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")
_ROUTE = re.compile(r"^\S+\t00000000\t([0-9A-F]{8})\t", re.MULTILINE)
_LOOPBACK = ("127.0.0.1", "::1")
_BRIDGE = re.compile(r"docker\d*|br-[0-9a-f]+|podman\d*|cni\d*|lxcbr\d*|lxdbr\d*")
_IMAGES_NETWORKS = {
    "192.168.203.0/24": "Mailu",
    "172.22.1.0/24": "mailcow",
}
_DOCKER_POOL = ip_network("172.16.0.0/12")  # of which Docker gives each network a /16, from 172.17.0.0 on
_DOCKER_BITS = (12, 24)


def own_addresses(instance: Instance) -> list[str]:
    """The addresses that Postfix takes for this host: those of inet_interfaces and proxy_interfaces."""
    found: dict[str, None] = {}
    for name in ("inet_interfaces", "proxy_interfaces"):
        for word in split_words(instance.values.get(name, "")):
            if word == "all":
                found.update(dict.fromkeys(_interface_addresses()))
            elif word in ("loopback-only", "localhost"):
                found.update(dict.fromkeys(_LOOPBACK))
            elif re.fullmatch(r"[\[\]0-9a-fA-F.:]+", word):
                found[word.strip("[]")] = None
    versions = {"ipv4": (4,), "ipv6": (6,)}.get(instance.values.get("inet_protocols", "all"), (4, 6))
    return [each for each in found if (6 if ":" in each else 4) in versions]


def gateways_among(networks: tuple[IPv4Network | IPv6Network, ...], *, is_here: bool) -> Iterator[tuple[str, str]]:
    """Networks that have the gateway of containers in them, each with that.

    Where the configuration is that of this host, *is_here*, its own interfaces tell; else only how the network looks.
    """
    is_container = any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv"))
    certain = ({_default_gateway()} if is_container else set(_bridge_addresses())) if is_here else set()
    for network in networks:
        if network.is_loopback:
            continue
        inside = [each for each in certain if each and ip_address(each) in network]
        if inside:
            yield str(network), inside[0]
        elif not (is_here and not is_container and _has_own_interface(network)) and (why := _looks_like(network)):
            yield str(network), why


def _looks_like(network: IPv4Network | IPv6Network) -> str:
    """The gateway that a network has if it is one as Docker and well-known images make them; "" for others."""
    if network.version != 4:
        return ""
    if str(network) in _IMAGES_NETWORKS or (
        network.overlaps(_DOCKER_POOL) and _DOCKER_BITS[0] <= network.prefixlen <= _DOCKER_BITS[1]
    ):
        return str(network[1])
    return ""


def _has_own_interface(network: IPv4Network | IPv6Network) -> bool:
    """Whether this host is itself in *network*, which then is a LAN."""
    return any(ip_address(each) in network for each in _interface_addresses())


def _interface_addresses() -> list[str]:
    """The addresses of this host's interfaces, without those that hold on one link only."""
    found: dict[str, None] = {}
    try:
        found.update(dict.fromkeys(_LOCAL_V4.findall(Path("/proc/net/fib_trie").read_text(encoding="ascii"))))
    except OSError:
        found[_LOOPBACK[0]] = None
    try:
        for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines():
            address = str(ip_address(bytes.fromhex(line.split()[0])))
            if not address.startswith("fe80"):
                found[address] = None
    except (OSError, ValueError):
        pass
    return [*found]


def _default_gateway() -> str:
    try:
        match = _ROUTE.search(Path("/proc/net/route").read_text(encoding="ascii"))
    except OSError:
        return ""
    return str(ip_address(bytes.fromhex(match[1])[::-1])) if match else ""


def _bridge_addresses() -> Iterator[str]:
    """The addresses of the bridges that containers hang on: of each, the first address of its route."""
    try:
        lines = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        name, destination, *_ = line.split("\t")
        if _BRIDGE.fullmatch(name) and destination != "00000000":
            yield str(ip_address(bytes.fromhex(destination)[::-1]) + 1)
