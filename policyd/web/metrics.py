"""`/metrics`: what is counted and seen, as Prometheus reads it. No label holds an address, a client or a mailbox."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from policyd import __version__
from policyd.counters import SECONDS, Cell, CounterPage
from policyd.web.context import WebContext
from policyd.web.observed import Observer, Seen

_REASONS = {
    "malformed": Cell.HUNG_UP_MALFORMED,
    "database": Cell.HUNG_UP_DATABASE,
    "timeout": Cell.HUNG_UP_TIMEOUT,
    "limit": Cell.HUNG_UP_LIMIT,
    "defect": Cell.HUNG_UP_DEFECT,
}


class Metrics(Resource):
    """The metrics of all processes."""

    isLeaf = True

    def __init__(self, context: WebContext, observer: Observer) -> None:
        super().__init__()
        self._counters = context.processes.counters
        self._observer = observer

    def render_GET(self, request: Request) -> int:
        """All metrics."""
        self._observer.observe().addCallback(self._reply, request).addErrback(request.processingFailed)
        return NOT_DONE_YET

    def _reply(self, seen: Seen, request: Request) -> None:
        # In OpenMetrics, no gauge and counter may have one name, as the connections have.
        request.setHeader(b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode("ascii"))
        request.setHeader(b"cache-control", b"no-store")
        request.write(render(self._counters, seen))
        request.finish()


def render(counters: CounterPage, seen: Seen) -> bytes:
    """All metrics, as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(counters, seen))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, counters: CounterPage, seen: Seen) -> None:
        self._counters = counters
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        """Every family."""
        return families(self._counters, self._seen)


def families(counters: CounterPage, seen: Seen) -> Iterator[Metric]:
    """Every metric that there is, each with all its series, also those at 0."""
    build = GaugeMetricFamily("policyd_build_info", "The version that runs; always 1", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
    yield from _of_requests(counters)
    yield from _of_connections(counters)
    yield from _of_processes(counters)
    yield from _of_tables(seen)


def _of_requests(counters: CounterPage) -> Iterator[Metric]:
    decisions = CounterMetricFamily(
        "policyd_decisions",
        "Requests that were decided; with would=reject a refusal that was only logged",
        labels=["rule", "action", "context", "would"],
    )
    for (outcome, context), count in counters.decisions().items():
        decisions.add_metric([outcome.rule, outcome.action, context, outcome.would], count)
    yield decisions

    insiders = CounterMetricFamily(
        "policyd_insider_requests",
        "Requests of insiders, by what made them one",
        labels=["by", "context"],
    )
    for (by, context), count in counters.insiders().items():
        insiders.add_metric([by, context], count)
    yield insiders

    durations = counters.durations()
    buckets, below = [], 0
    for bound, count in zip([*map(str, SECONDS), "+Inf"], durations.counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    spent = HistogramMetricFamily("policyd_decision_duration_seconds", "Time that a decision took")
    spent.add_metric([], buckets, durations.sum_seconds)
    yield spent


def _of_connections(counters: CounterPage) -> Iterator[Metric]:
    yield GaugeMetricFamily("policyd_connections", "Open connections", counters.total(Cell.CONNECTIONS))
    yield GaugeMetricFamily(
        "policyd_connections_limit", "Connections that there may be", counters.total(Cell.CONNECTIONS_LIMIT)
    )
    yield CounterMetricFamily(
        "policyd_connections", "Connections that were accepted", counters.total(Cell.CONNECTIONS_ACCEPTED)
    )
    yield CounterMetricFamily(
        "policyd_connections_refused",
        "Times when no connection could be accepted, for lack of descriptors or memory",
        counters.total(Cell.CONNECTIONS_REFUSED),
    )
    hangups = CounterMetricFamily(
        "policyd_hangups", "Connections that were closed without an answer", labels=["reason"]
    )
    for reason, cell in _REASONS.items():
        hangups.add_metric([reason], counters.total(cell))
    yield hangups


def _of_processes(counters: CounterPage) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "policyd_audit_lines_dropped", "Lines of the audit that syslog did not take", counters.total(Cell.LINES_DROPPED)
    )
    yield GaugeMetricFamily(
        "policyd_audit_backlog_lines", "Lines of the audit that wait for syslog", counters.total(Cell.LINES_WAITING)
    )
    yield GaugeMetricFamily("policyd_workers", "Workers that run", counters.total(Cell.WORKERS))
    yield CounterMetricFamily(
        "policyd_worker_restarts", "Workers that ended and were replaced", counters.total(Cell.WORKER_RESTARTS)
    )
    yield GaugeMetricFamily(
        "policyd_settings_loaded_timestamp_seconds",
        "When the settings were read that are in force",
        counters.total(Cell.SETTINGS_LOADED),
    )
    yield GaugeMetricFamily(
        "policyd_mode_enforcing", "1 where refusals are sent, 0 in monitor mode", counters.total(Cell.IS_ENFORCING)
    )


def _of_tables(seen: Seen) -> Iterator[Metric]:
    yield GaugeMetricFamily("policyd_database_readable", "1 where the tables can be read", not seen.problem)
    yield GaugeMetricFamily("policyd_database_change", "The number of the last change of the tables", seen.change)
    yield GaugeMetricFamily(
        "policyd_database_changed_timestamp_seconds", "When the tables were changed last", seen.changed_at
    )
    yield GaugeMetricFamily(
        "policyd_replica_lag_seconds", "For how long the replica may have missed changes", seen.lag_seconds
    )
    yield GaugeMetricFamily(
        "policyd_replica_changes_behind", "Changes that the replica is known to miss", seen.changes_behind
    )
    entries = GaugeMetricFamily("policyd_entries", "Rows of the tables", labels=["table", "state"])
    for table, (in_force, ended) in seen.entries.items():
        entries.add_metric([table, "in_force"], in_force)
        entries.add_metric([table, "expired"], ended)
    yield entries
