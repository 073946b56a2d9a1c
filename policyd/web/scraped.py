"""Fetches /metrics from the running daemon, as Prometheus does, and looks up in them."""

import http.client
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from policyd.admin.asking import connected, reaching
from policyd.endpoint import Endpoint
from policyd.errors import DaemonError, SettingsError
from policyd.settings import HttpSettings
from policyd.web.access import read_token

_SECONDS = 10
_BYTES = 4 << 20  # far above what the daemon sends


class _Connection(http.client.HTTPConnection):
    """A connection to *endpoint*, whichever kind it is."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__("localhost")
        self._endpoint = endpoint

    def connect(self) -> None:
        """Connect. Raises OSError."""
        self.sock = connected(self._endpoint, _SECONDS)


@dataclass(frozen=True, slots=True)
class Scraped:
    """The metrics at one moment: the series of each name, each with its labels."""

    series: Mapping[str, tuple[tuple[Mapping[str, str], float], ...]]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series of that *name* with these *labels*; 0 where there is none."""
        return sum(value for has, value in self.series.get(name, ()) if labels.items() <= has.items())

    def labels(self, name: str, *wanted: str) -> list[tuple[str, ...]]:
        """What the labels *wanted* of a *name* are, together, each once, in the order of the daemon."""
        found: Iterable[tuple[str, ...]] = (
            tuple(has.get(each, "") for each in wanted) for has, _ in self.series.get(name, ())
        )
        return [*dict.fromkeys(found)]


def fetch_metrics(settings: HttpSettings, user: str) -> Scraped:
    """The metrics of the daemon that serves them by *settings*, asked for by *user*.

    Raises SettingsError where they name no place, and DaemonError where nobody answers there.
    """
    if not settings.listen:
        raise SettingsError(
            "http.listen: is not set; if systemd opened the socket, name it, as in policyd top --at "
            'unix:/run/policyd-http/http.sock; else write [http] and listen = "tcp:10041:interface=127.0.0.1" into the '
            "settings, and restart the daemon"
        )
    endpoint = settings.listen[0]
    try:
        scraped = read_metrics(_get(endpoint, _headers(settings, endpoint, user)))
    except ValueError as error:
        raise _not_policyd(endpoint) from error
    if "policyd_build_info" not in scraped.series:
        raise _not_policyd(endpoint)
    return scraped


def read_metrics(text: str) -> Scraped:
    """The metrics in *text*, as Prometheus reads it. Raises ValueError."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Scraped({name: tuple(series) for name, series in found.items()})


def _headers(settings: HttpSettings, endpoint: Endpoint, user: str) -> dict[str, str]:
    """Who asks: with the token, or over a unix socket as a proxy would say it."""
    headers = {}
    if settings.token_file is not None:
        headers["Authorization"] = f"Bearer {read_token(settings.token_file)}"
    if settings.user_header and endpoint.path:
        headers[settings.user_header] = user
    return headers


def _get(endpoint: Endpoint, headers: Mapping[str, str]) -> str:
    connection = _Connection(endpoint)
    try:
        with reaching(endpoint, "shows metrics", "http.listen"), closing(connection):
            connection.request("GET", "/metrics", headers=dict(headers))
            with closing(http.client.HTTPResponse(connection.sock, method="GET")) as answer:
                answer.begin()
                body = answer.read(_BYTES + 1)
    except http.client.HTTPException as error:
        raise _not_policyd(endpoint) from error
    if answer.status in (401, 403):
        raise DaemonError(f"the daemon on {endpoint.text} shows no metrics to you: {_line(body)}")
    if answer.status != 200 or len(body) > _BYTES:
        raise _not_policyd(endpoint)
    return body.decode("utf-8", "replace")


def _line(body: bytes) -> str:
    return " ".join(body[:500].decode("utf-8", "replace").split())


def _not_policyd(endpoint: Endpoint) -> DaemonError:
    return DaemonError(
        f"what listens on {endpoint.text} is no policyd that shows metrics; set http.listen to where it is"
    )
