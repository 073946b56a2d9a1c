"""How quick answers are while the server is away: `python -m benchmarks.away [--mailboxes N]`.

A host with a replica is asked on one connection, as Postfix does, for what is known and what is not; Debian's
postgresql must be installed. It prints the 99th percentile of an answer's time, and the daemon's processor time for
one, before and while something is wrong. The answers must be right all along.
"""

import argparse
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.replica import a_server
from policyd.replica.follower import prepare
from policyd.store.connection import Database
from tests.replica.commands import forge_history, run
from tests.replica.hosts import Host
from tests.support.fake_smtpd import FakeSmtpd, request
from tests.support.postgresql import Cluster
from tests.support.waiting import until

_QUESTIONS, _BLOCKS = 500, 24  # in a block; the lower quartile of the blocks leaves out what others do on the machine


def measure(mailboxes: int) -> None:
    """Measure all of it, and print a line for each figure."""
    with a_server(mailboxes) as (cluster, url, folder), Host(folder, url) as host:
        run(url, "domain set example.com --comment first")
        prepare(Database(url), host.replica)
        host.start()
        for fault in (frozen, frozen_backends, stopped, killed, copied_again):
            before = asked(host, mailboxes)
            with fault(cluster, host):
                meanwhile = asked(host, mailboxes)
            told = (fault.__doc__ or "").rstrip(".")
            for what, one, other in zip(("p99", "processor"), before, meanwhile, strict=True):
                print(f"{told}: {what} {other:.3f} ms, {one:.3f} ms before: {other / one:.2f} times")


def asked(host: Host, mailboxes: int) -> tuple[float, float]:
    """The 99th percentile of an answer's time, and the processor time of one, in ms."""
    found, used = [], used_by_worker(host)
    with FakeSmtpd(os.fspath(host.socket)) as smtpd:
        for _ in range(_BLOCKS):
            took = []
            for _ in range(_QUESTIONS):
                number = random.randrange(2 * mailboxes) + 1
                question = request(recipient=f"m{number}@example.com")
                began = time.perf_counter()
                answer = smtpd.ask(question)
                took.append(time.perf_counter() - began)
                assert answer.split()[0] == ("DUNNO" if number <= mailboxes else "REJECT"), (number, answer)
            found.append(sorted(took)[_QUESTIONS * 99 // 100])
    spent = used_by_worker(host) - used
    return 1000 * sorted(found)[_BLOCKS // 4], 1000 * spent / (_BLOCKS * _QUESTIONS)


def used_by_worker(host: Host) -> float:
    """The seconds of processor time that the process which answers has used."""
    children = Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()
    (worker,) = {int(pid) for pid in children} - {host.follower}
    return int(Path(f"/proc/{worker}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def followed_after(host: Host) -> Iterator[None]:
    """A block in which the host notices that something is wrong, and goes on measuring; then all is well again."""
    host.syslog.take()
    yield
    host.syslog.wait_for("event=replica-followed")


@contextmanager
def frozen(cluster: Cluster, host: Host) -> Iterator[None]:
    """All processes of the server are frozen."""
    with followed_after(host):
        cluster.freeze()
        host.syslog.wait_for("the replica is not followed")
        try:
            yield
        finally:
            cluster.freeze(signal.SIGCONT)


@contextmanager
def frozen_backends(cluster: Cluster, host: Host) -> Iterator[None]:
    """The two that the host asks are frozen, and it takes others."""
    pids = [pid for (pid,) in cluster.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'policyd'")]
    with followed_after(host):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def stopped(cluster: Cluster, host: Host) -> Iterator[None]:
    """The server is stopped."""
    with followed_after(host):
        cluster.stop()
        host.syslog.wait_for("the replica is not followed")
        try:
            yield
        finally:
            cluster.start()


@contextmanager
def killed(cluster: Cluster, host: Host) -> Iterator[None]:
    """The server is killed, and recovers."""
    with followed_after(host):
        cluster.stop(signal.SIGQUIT)
        cluster.start()
        yield


@contextmanager
def copied_again(_cluster: Cluster, host: Host) -> Iterator[None]:
    """The journal is another one, and the whole database is copied again."""
    with followed_after(host):
        forge_history(host.url)
        until(lambda: [*host.folder.glob("*policyd-draft*")], "the copy to begin")
        yield


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mailboxes", type=int, default=1_000_000)
    measure(parser.parse_args().mailboxes)


if __name__ == "__main__":
    main()
