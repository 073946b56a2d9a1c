"""TCP ports on loopback for servers that are about to start."""

import os
import socket
from itertools import cycle, islice

# Below those that the kernel gives to clients (ip_local_port_range), one of which could take it meanwhile.
_FIRST, _COUNT = 12_000, 20_000
# Each process of the tests begins elsewhere, and gives no port twice in a row.
_PORTS = islice(cycle(range(_FIRST, _FIRST + _COUNT)), os.getpid() * 211 % _COUNT, None)


def free_port() -> int:
    """A port where nobody listens."""
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("the ports never end")


def free_ports(count: int) -> list[int]:
    """*count* different ones."""
    return [free_port() for _ in range(count)]
