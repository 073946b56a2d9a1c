"""What following costs: `python -m benchmarks.replica [--mailboxes N] [--hosts N]`, with Debian's postgresql installed.

It prints the first copy's seconds and memory, how far a replica is behind at 1 000 changes a second, what a follower
costs the server, and how long a change takes to all hosts. docs/scaling.rst has what it printed.
"""

import argparse
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from policyd.model import Mailbox
from policyd.store.connection import Database
from policyd.store.database import postgresql
from policyd.store.journal import Journal
from policyd.store.writer import Writer
from tests.replica.commands import command
from tests.replica.hosts import Host
from tests.support.postgresql import Cluster
from tests.support.waiting import until

_A_SECOND, _IN_A_COMMAND = 1000, 250  # changes
_TO_CATCH_UP = 20_000
_COPY = """
import resource, sys, time
from pathlib import Path
from policyd.replica.follower import prepare
from policyd.store.connection import Database
began = time.monotonic()
prepare(Database(sys.argv[1]), Path(sys.argv[2]))
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"{time.monotonic() - began:.1f} {used.ru_utime + used.ru_stime:.1f} {used.ru_maxrss / 1024:.0f}")
"""
_FILL = """
INSERT INTO domain (name, unlisted, receive, reason, comment) VALUES ('example.com', 'reject', 'anyone', '', '');
INSERT INTO mailbox (id, name, folded_name, receive, reason, comment)
  SELECT n, 'm' || n, 'm' || n, 'inherit', '', '' FROM generate_series(1, {0}) n;
INSERT INTO address (address, mailbox_id, is_primary)
  SELECT 'm' || n || '@example.com', n, 1 FROM generate_series(1, {0}) n;
UPDATE journal_head SET next_mailbox = {0} + 1;
"""


def measure(mailboxes: int, hosts: int, seconds: int) -> None:
    """Measure all of it, and print a line for each figure."""
    with a_server(mailboxes) as (cluster, url, folder):
        # The first copy.
        words = [sys.executable, "-c", _COPY, url, str(folder / "first.db")]
        took, cpu, rss = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
        size = (folder / "first.db").stat().st_size / 1e6
        print(f"first copy of {mailboxes} mailboxes: {took} s, {cpu} s of CPU, {rss} MB; file {size:.0f} MB")

        follow(cluster, url, folder, seconds)
        in_force(cluster, hosts, folder)


@contextmanager
def a_server(mailboxes: int) -> Iterator[tuple[Cluster, str, Path]]:
    """A server, the URL of its database with so many mailboxes, and a folder for hosts; what else holds is printed."""
    print(f"load of the machine: {os.getloadavg()[0]:.1f}; processors: {os.cpu_count()}; mailboxes: {mailboxes}")
    cluster = Cluster(settings=["shared_buffers=256MB", "max_wal_size=4GB"])
    cluster.initialize()
    cluster.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            yield cluster, filled(cluster, mailboxes), folder
        finally:
            cluster.remove()


def filled(cluster: Cluster, mailboxes: int) -> str:
    """A database with so many mailboxes, m1@example.com and so on."""
    url = cluster.url(cluster.make())
    with psycopg.connect(url, autocommit=True) as truth:
        for statement in _FILL.format(mailboxes).strip().split(";\n"):
            truth.execute(statement.encode())
    return url


def follow(cluster: Cluster, url: str, folder: Path, seconds: int) -> None:
    """A host follows 1 000 changes a second, 250 in a command; then as many as it can."""
    with Host(_made(folder / "follower"), url) as host:
        os.link(folder / "first.db", host.replica)
        host.start()
        until(Path(f"{host.replica}.status").exists, "the host to follow")
        fork = multiprocessing.get_context("fork")
        written = fork.Value("q", 0)
        writer = fork.Process(target=write, args=(url, written, seconds * _A_SECOND))
        backend, mine, behind, began = _cpu_of_followers(cluster), _cpu(host.follower), 0, time.monotonic()
        writer.start()
        while writer.is_alive():
            behind = max(behind, written.value - _reached(host.replica))
            time.sleep(0.01)
        took = time.monotonic() - began
        while _reached(host.replica) < written.value:
            time.sleep(0.005)
        late = time.monotonic() - began - took
        print(f"{written.value} changes in {took:.1f} s ({written.value / took:.0f}/s): at most {behind} behind, the "
              f"last one in force after {late * 1000:.0f} ms; the follower used "
              f"{(_cpu(host.follower) - mine) / took:.1%} of a processor, its backends "
              f"{(_cpu_of_followers(cluster) - backend) / took:.1%}")  # fmt: skip

        # As a host that comes back, from the first change that it gets: before that it looks at its file.
        assert host.stop()[0] == 0
        write(url, written, written.value + _TO_CATCH_UP)
        before = _reached(host.replica)
        host.start()
        while (reached := _reached(host.replica)) == before:
            time.sleep(0.01)
        began, mine = time.monotonic(), _cpu(host.follower)
        while _reached(host.replica) < written.value:
            time.sleep(0.01)
        took, used, count = time.monotonic() - began, _cpu(host.follower) - mine, written.value - reached
        print(f"caught up with {count} changes in {took:.2f} s ({count / took:.0f}/s), {used:.2f} s of CPU")


def write(url: str, written: Any, count: int) -> None:
    """Bring what is *written* up to *count*, so many changes in a command, and no faster than 1 000 a second."""
    began, first = time.monotonic(), written.value
    while written.value < count:
        time.sleep(max(0, began + (written.value - first) / _A_SECOND - time.monotonic()))
        change(url, written.value, _IN_A_COMMAND)
        written.value += _IN_A_COMMAND


def change(url: str, first: int, count: int) -> None:
    """Change so many mailboxes in one command."""
    with postgresql().changing(Database(url)) as connection:
        gathered: Any = _Gathered(connection)  # which has of a connection what these two ask of it
        writer = Writer(gathered, Journal(gathered, "benchmark", int(time.time())))
        for number in range(first, first + count):
            before = Mailbox(f"m{number + 1}", id=number + 1)
            writer.put("mailbox.set", before, Mailbox(before.name, id=before.id, comment="changed"))
        gathered.flush()


class _Gathered:
    """A connection that sends what is written in one go, with statements that the server prepares once.

    One round trip for each row, and a plan for each, would measure the writer: half a millisecond for a change.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.fetch, self.before_commit = connection.fetch, connection.before_commit
        self._rows: dict[Any, list[tuple[Any, ...]]] = {}
        self._is_flushed = False

    def run(self, statement: Any, *values: Any) -> None:
        """Keep it for `flush`; what comes after that, at the end of the transaction, is run at once."""
        if self._is_flushed:
            self._connection.run(statement, *values)
        else:
            self._rows.setdefault(statement, []).append(values)

    def flush(self) -> None:
        """Send it."""
        self._connection.driver.prepare_threshold = 0
        for statement, rows in self._rows.items():
            self._connection.run_each(statement, rows)
        self._is_flushed = True


def in_force(cluster: Cluster, hosts: int, folder: Path) -> None:
    """From the end of a command to the answer on every host, for 200 changes."""
    url = cluster.url(cluster.make())
    for line in ("domain add example.com", "mailbox add bob bob@example.com"):
        assert command(url, line).exit_code == 0
    started = [Host(_made(folder / f"host{number}"), url) for number in range(hosts)]
    try:
        for host in started:
            host.start()
        took = []
        for number in range(200):
            assert command(url, f"mailbox {'lift' if number % 2 else 'restrict'} bob").exit_code == 0
            began = time.monotonic()
            for host in started:
                while host.answer("bob@example.com") != ("DUNNO" if number % 2 else "REJECT"):
                    pass
            took.append(time.monotonic() - began)
        took.sort()
        print(f"in force on {hosts} hosts after a command's return: median {took[99] * 1000:.0f} ms, p99 "
              f"{took[197] * 1000:.0f} ms, at most {took[-1] * 1000:.0f} ms")  # fmt: skip
    finally:
        for host in started:
            host.__exit__(None, None, None)


def _reached(replica: Path) -> int:
    """The last change that is in the replica."""
    with closing(sqlite3.connect(f"file:{replica}?mode=ro", uri=True)) as opened:
        return int(opened.execute("SELECT id FROM replica").fetchone()[0])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _cpu(pid: int) -> float:
    """The seconds of processor that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_of_followers(cluster: Cluster) -> float:
    pids = cluster.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'policyd'")
    return sum(_cpu(pid) for (pid,) in pids if Path(f"/proc/{pid}").exists())


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mailboxes", type=int, default=1_000_000)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    measure(options.mailboxes, options.hosts, options.seconds)


if __name__ == "__main__":
    main()
