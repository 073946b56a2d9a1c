"""/metrics of real daemons with several workers: nothing is missing, nothing is lost, and nobody is named."""

import os
import random
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from policyd.audit_lines import read_decision
from policyd.cli import main
from policyd.counters import INSIDER_BY, OUTCOMES
from tests.support import processes
from tests.support.activated import activated, held
from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd, request
from tests.support.ports import free_port
from tests.support.randomised import a_seed
from tests.support.running_daemon import Daemon
from tests.support.scraping import Series, fetch, scrape, value
from tests.support.waiting import until

WORKERS = 3
SETTINGS = (f"workers = {WORKERS}", 'insider_contexts = ["submission"]')
UNKNOWN = request(recipient="nobody@example.com")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with three workers and metrics. alice is restricted, and bob may not write to her."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice", "bob")
        daemon.command("mailbox", "restrict", "alice", "--accept", "friend@example.net")
        daemon.command("sender", "block", "bob", "--to", "alice")
        write(daemon)
        yield daemon


def write(daemon: Daemon, *lines: str, http: tuple[str, ...] = ()) -> None:
    """Write the settings."""
    daemon.write_settings(*(lines or SETTINGS), http=[f'listen = "unix:{daemon.web}"', *http])


def start(daemon: Daemon) -> None:
    """Start it; return when all workers and the web process are there."""
    before = len(daemon.syslog.matching("event=started"))
    daemon.start()
    until(lambda: len(daemon.syslog.matching("event=started")) >= before + WORKERS, "all workers")
    assert fetch(daemon.web, "/healthz")[0] == 200  # the socket is open from the start: this waits for who serves it


def workers_of(daemon: Daemon) -> list[int]:
    """The pids of the workers: each has said that it started."""
    started = {
        int(found[1]) for line in daemon.syslog.lines() if (found := re.match(r"event=started.* pid=(\d+)", line))
    }
    return [pid for pid in processes.workers(daemon.pid) if pid in started]


def web_process_of(daemon: Daemon) -> int:
    """The pid of the web process."""
    (pid,) = {*processes.workers(daemon.pid)} - {*workers_of(daemon)}
    return pid


def counted(scraped: dict[Series, float]) -> Counter[tuple[str, ...]]:
    """The decisions that are not 0, by rule, action, would and context."""
    return Counter(
        {
            (labels["rule"], labels["action"], labels["would"], labels["context"]): int(count)
            for (name, has), count in scraped.items()
            if name == "policyd_decisions_total" and (labels := dict(has)) and count
        }
    )


def logged(daemon: Daemon) -> Counter[tuple[str, ...]]:
    """The same by the audit, whose lines are then forgotten."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in daemon.syslog.take():
        if line.startswith("action="):
            told = read_decision(line)
            context = told.request.policy_context
            shown = context if context in ("inbound", "submission") else "other"
            found[told.rule, told.action, "reject" if told.would else "", shown] += 1
    return found


def questions(count: int) -> list[bytes]:
    """Requests of every kind, drawn by chance."""
    chance = random.Random(a_seed())
    senders = ["joe@example.net", "bob@example.com", "friend@example.net", ""]
    recipients = ["alice@example.com", "bob@example.com", "nobody@example.com", "postmaster@example.com", "x@far.test"]
    contexts = ["", "inbound", "submission", "made up"]
    return [
        request(
            sender=chance.choice(senders),
            recipient=chance.choice(recipients),
            sasl_username=chance.choice(["", "", "bob@example.com"]),
            client_address=chance.choice(["192.0.2.7", "127.0.0.1"]),
            policy_context=chance.choice(contexts),
        )
        for _ in range(count)
    ]


# What there is


def test_every_series_is_there_from_the_start(daemon):
    """A series that begins with its first event hides that one from a rate; here each one of the page is compared."""
    start(daemon)
    scraped = scrape(daemon.web)
    contexts = ["inbound", "other", "submission"]
    expected = {
        ("policyd_decisions_total", frozenset({**outcome._asdict(), "context": context}.items()))
        for outcome, context in product(OUTCOMES, contexts)
    }
    expected |= {
        ("policyd_insider_requests_total", frozenset({"by": by, "context": context}.items()))
        for by, context in product(INSIDER_BY, contexts)
    }
    reasons = ("malformed", "database", "timeout", "limit", "defect")
    expected |= {("policyd_hangups_total", frozenset({"reason": each}.items())) for each in reasons}
    at_0 = [
        "policyd_decision_duration_seconds_count",
        "policyd_decision_duration_seconds_sum",
        "policyd_connections",
        "policyd_connections_total",
        "policyd_connections_refused_total",
        "policyd_audit_lines_dropped_total",
        "policyd_audit_backlog_lines",
        "policyd_replica_lag_seconds",
        "policyd_replica_changes_behind",
        "policyd_worker_restarts_total",
    ]
    expected |= {(name, frozenset()) for name in at_0}
    assert {series: scraped.get(series) for series in expected} == dict.fromkeys(expected, 0)
    others = {name for name, _ in scraped.keys() - expected}
    assert others == {
        "policyd_build_info",
        "policyd_connections_limit",
        "policyd_database_change",
        "policyd_database_changed_timestamp_seconds",
        "policyd_database_readable",
        "policyd_decision_duration_seconds_bucket",
        "policyd_entries",
        "policyd_mode_enforcing",
        "policyd_settings_loaded_timestamp_seconds",
        "policyd_workers",
    }
    assert value(scraped, "policyd_workers") == WORKERS
    assert value(scraped, "policyd_connections_limit") == 1000
    assert value(scraped, "policyd_mode_enforcing") == value(scraped, "policyd_database_readable") == 1
    assert value(scraped, "policyd_entries", table="mailbox", state="in_force") == 2
    assert value(scraped, "policyd_entries", table="blocked_sender", state="expired") == 0
    assert value(scraped, "policyd_database_change") == 7
    assert 0 <= time.time() - value(scraped, "policyd_database_changed_timestamp_seconds") < 3600


@pytest.mark.parametrize(
    "count", [1500, pytest.param(100_000, marks=pytest.mark.full)], ids=["1 500 requests", "100 000 requests"]
)
def test_totals_are_those_of_the_audit_when_a_worker_is_killed_in_the_middle(daemon, count):
    """Over all workers, to the last one; and no label says who wrote to whom, whatever a peer sends."""
    start(daemon)
    first, second, _ = workers_of(daemon)
    expected: Counter[tuple[str, ...]] = Counter()
    asked = questions(count)
    for part, victim in ((asked[::3], first), (asked[1::3], second), (asked[2::3], None)):
        # Ask on connections that all workers share.
        with ExitStack() as stack:
            connections = [stack.enter_context(FakeSmtpd(os.fspath(daemon.socket))) for _ in range(9)]
            for number, each in enumerate(part):
                connections[number % 9].ask(each)
            scraped = scrape(daemon.web)
            while expected.total() < counted(scraped).total():  # lines may wait for a busy syslog
                expected += until(lambda: logged(daemon), "the lines of all answers")
            assert counted(scraped) == expected
            assert value(scraped, "policyd_connections") == 9
        until(lambda: not value(scrape(daemon.web), "policyd_connections"), "the connections to end")

        # Lose a worker, and wait for the next one at its place.
        if victim:
            os.kill(victim, signal.SIGKILL)
            daemon.syslog.wait_for("event=started")
    scraped = scrape(daemon.web)
    assert counted(scraped).total() == count
    assert value(scraped, "policyd_decision_duration_seconds_count") == count
    assert value(scraped, "policyd_decision_duration_seconds_bucket", le="+Inf") == count
    assert value(scraped, "policyd_worker_restarts_total") == 2
    assert value(scraped, "policyd_connections_total") == 27
    is_insider = [b"sasl_username=b" in each or b"=127.0.0.1" in each or b"=submission" in each for each in asked]
    assert value(scraped, "policyd_insider_requests_total") == sum(is_insider)
    labels = {label for (_, has) in scraped for name, label in has if name not in ("le", "version")}
    assert {label for label in labels if not re.fullmatch(r"[a-zA-Z_-]*", label)} == set()
    assert "made" not in " ".join(labels)


def test_hangups_are_counted_by_reason(daemon):
    """Each is a mail that Postfix asks for again."""
    start(daemon)
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        smtpd.send(b"no request\n\n")
        smtpd.must_hang_up()
    daemon.database.rename(daemon.folder / "away")
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        smtpd.send(UNKNOWN)
        smtpd.must_hang_up()
    scraped = scrape(daemon.web)
    assert {reason: value(scraped, "policyd_hangups_total", reason=reason) for reason in ("malformed", "database")} == {
        "malformed": 1,
        "database": 1,
    }
    assert value(scraped, "policyd_hangups_total") == 2


# How it lives


@drill(
    "the process that serves metrics and pages is killed",
    made="SIGKILL",
    client="the answer, as ever; the metrics again a moment later, with all that was counted",
)
def test_web_process_that_dies_is_replaced_and_costs_no_answer(daemon):
    """Who decides does not need it, and goes before it; and what was counted is there afterwards."""
    start(daemon)
    with FakeSmtpd(os.fspath(daemon.socket)) as smtpd:
        smtpd.ask(UNKNOWN)
        victim = web_process_of(daemon)
        assert os.sched_getscheduler(victim) == os.SCHED_IDLE
        assert {os.sched_getscheduler(pid) for pid in workers_of(daemon)} == {os.SCHED_OTHER}
        os.kill(victim, signal.SIGKILL)
        assert smtpd.ask(UNKNOWN).startswith("REJECT")
        daemon.syslog.wait_for("the web process ended: SIGKILL")
        assert value(scrape(daemon.web), "policyd_decisions_total", rule="unlisted-recipient") == 2
        assert web_process_of(daemon) != victim
        assert smtpd.ask(UNKNOWN).startswith("REJECT")
    assert daemon.stop() == (0, "")
    assert not daemon.web.exists()


@pytest.mark.full
def test_web_process_that_hangs_is_killed(daemon):
    """Its parent waits for a sign of life as long as systemd waits for one of its own."""
    daemon.start(variables={"NOTIFY_SOCKET": f"{daemon.folder}/nobody", "WATCHDOG_USEC": "2000000"})
    assert fetch(daemon.web, "/healthz")[0] == 200
    until(lambda: len(workers_of(daemon)) == WORKERS, "all workers")
    os.kill(web_process_of(daemon), signal.SIGSTOP)
    daemon.syslog.wait_for("the web process hung and was killed")
    assert fetch(daemon.web, "/healthz")[0] == 200
    assert daemon.syslog.matching("a worker hung") == []


def test_new_settings_are_seen_after_a_reload(daemon):
    """The mode, and contexts, which are counted by name from then on."""
    start(daemon)
    before = len(daemon.syslog.matching("event=reloaded"))
    daemon.ask(request(policy_context="mua"))
    write(daemon, f"workers = {WORKERS}", 'mode = "monitor"', 'insider_contexts = ["submission", "mua"]')
    daemon.reload()
    until(lambda: len(daemon.syslog.matching("event=reloaded")) == before + WORKERS, "all workers")
    daemon.ask(request(policy_context="mua"))
    daemon.ask(UNKNOWN)
    scraped = scrape(daemon.web)
    assert value(scraped, "policyd_mode_enforcing") == 0
    assert value(scraped, "policyd_decisions_total", context="mua") == 1
    assert value(scraped, "policyd_insider_requests_total", context="mua", by="context") == 1
    assert value(scraped, "policyd_decisions_total", rule="unlisted-recipient", action="DUNNO", would="reject") == 1
    assert value(scraped, "policyd_decisions_total") == 3
    assert daemon.syslog.matching("warning=") == []

    # The page of the new process has charted what came before it.
    _, _, page = fetch(daemon.web, "/health")
    assert "restricted-recipient, REJECT: 1 in the last hour" in page


def test_what_only_a_restart_changes_is_told(daemon):
    """The sockets are root's to open, and memory is shared before the workers are there."""
    start(daemon)
    daemon.write_settings(*SETTINGS, http=['listen = "unix:/elsewhere.sock"', "refusals = 5"])
    daemon.reload("http.refusals is as it was")
    assert daemon.syslog.matching("warning=") == [
        'warning="http.listen is as it was; to change it\\x2c restart"',
        'warning="http.refusals is as it was; to change it\\x2c restart"',
    ]
    assert fetch(daemon.web, "/healthz")[0] == 200


def test_it_is_ready_only_while_the_tables_can_be_read(daemon):
    """Whoever balances load sends nothing to a host that can't answer; whoever restarts leaves it alone."""
    start(daemon)
    daemon.database.rename(daemon.folder / "away")
    assert fetch(daemon.web, "/readyz")[::2] == (503, "the tables can't be read\n")
    assert fetch(daemon.web, "/healthz")[::2] == (200, "ok\n")
    assert value(scrape(daemon.web), "policyd_database_readable") == 0


def test_one_worker_and_tcp_on_loopback(daemon):
    """Where there is one worker only, it has a parent all the same."""
    port = free_port()
    daemon.write_settings(http=[f'listen = ["unix:{daemon.web}", "tcp:{port}:interface=127.0.0.1"]'])
    daemon.start()
    daemon.ask(UNKNOWN)
    address = ("127.0.0.1", port)
    assert fetch(address, "/readyz")[::2] == (200, "ok\n")
    assert value(scrape(address), "policyd_decisions_total") == 1
    assert value(scrape(daemon.web), "policyd_workers") == 1
    assert daemon.stop() == (0, "")


def test_nothing_listens_where_nothing_is_set(daemon):
    """Metrics are off by default: then there is not even a parent for one worker."""
    daemon.write_settings()
    daemon.start()
    assert processes.workers(daemon.pid) == []
    assert daemon.syslog.matching("serves=http") == []


def test_socket_of_systemd_is_known_by_its_name(daemon):
    """FileDescriptorName=http; the other one is for Postfix."""
    daemon.write_settings()
    with held(daemon.folder / "given.sock") as policy, held("127.0.0.1") as web:
        told = activated(policy, web, names=("policyd.socket", "http"))
        daemon.start(daemon.arguments("serve"), (policy.fileno(), web.fileno()), told)
        with FakeSmtpd(os.fspath(daemon.folder / "given.sock")) as smtpd:
            assert smtpd.ask(UNKNOWN).startswith("REJECT")
        assert value(scrape(web.getsockname()), "policyd_decisions_total") == 1
        assert [line.partition(", ")[2] for line in daemon.syslog.matching("event=listening")] == [
            f"on=unix:{daemon.folder}/given.sock, from=systemd",
            f"on=tcp:{web.getsockname()[1]}:interface=127.0.0.1, serves=http, from=systemd",
        ]


# What keeps it from starting


def test_library_that_is_missing_is_named_with_what_to_type(daemon, monkeypatch):
    """Metrics are an extra: a host without them has fewer packages to keep up to date."""
    for name in [name for name in sys.modules if name.startswith("policyd.web.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    called = CliRunner().invoke(main, ["--config", str(daemon.config), "serve"])
    told = (
        "policyd: http.listen: metrics and pages need prometheus_client, which is not installed; type: "
        f"{sys.prefix}/bin/pip install 'policyd[web]', or take [http] out of the settings\n"
    )
    assert (called.exit_code, called.stderr) == (78, told)


def test_place_that_is_taken_leaves_nothing_listening(daemon):
    """The socket for Postfix is gone again, too: the next start finds no trace of this one."""
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(str(daemon.web))
        other.listen()
        assert daemon.refuse() == (
            69,
            f"policyd: can't listen on {daemon.web}: a server is listening there already; stop it first\n",
        )
    assert not daemon.socket.exists()


def test_port_that_is_taken_names_its_setting(daemon):
    """Of two, an administrator would look at the wrong one."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        taken = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        daemon.write_settings(http=[f'listen = "{taken}"'])
        told = f"policyd: can't listen on {taken}: Address already in use; see the setting http.listen\n"
        assert daemon.refuse() == (69, told)
