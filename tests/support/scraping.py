"""Asks the daemon over HTTP as Prometheus does, and reads what it says with Prometheus's own library."""

import http.client
import socket
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Address = Path | tuple[str, int]  # of a unix socket, or host and port
Series = tuple[str, frozenset[tuple[str, str]]]  # a name, and its labels


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: Address) -> None:
        super().__init__("localhost", timeout=60)
        self._address = address

    def connect(self) -> None:
        """Connect to a unix socket, or over TCP."""
        is_file = isinstance(self._address, Path)
        self.sock = socket.socket(socket.AF_UNIX if is_file else socket.AF_INET)
        self.sock.settimeout(60)
        self.sock.connect(str(self._address) if isinstance(self._address, Path) else self._address)


def fetch(address: Address, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """The status of the answer, its media type, and the body."""
    connection = _Connection(address)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def scrape(address: Address, headers: Mapping[str, str] | None = None) -> dict[Series, float]:
    """Every series with its value; none may be there twice."""
    status, media_type, body = fetch(address, "/metrics", headers)
    assert (status, media_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples = [sample for family in text_string_to_metric_families(body) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def value(scraped: Mapping[Series, float], name: str, **labels: str) -> float:
    """The sum of the series of that *name* which have these *labels*; there must be one."""
    found = [each for (other, has), each in scraped.items() if other == name and labels.items() <= has]
    assert found, f"there is no {name} with {labels}"
    return sum(found)
