"""A change on the database's host is in force on every mail host, whatever the network and the server do."""

import json
import platform
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policyd.audit import open_audit
from policyd.cli import main
from policyd.replica import follower
from policyd.replica.follower import Follower, prepare
from policyd.replica.status import ReplicaStatus, write_status
from policyd.settings import AuditSettings
from policyd.store.connection import Database
from policyd.store.wal import beside
from tests.replica.commands import QUIET, command, run, with_tables
from tests.replica.hosts import MakeHost, rows_of_replica, rows_of_truth, started
from tests.support.activated import Notified
from tests.support.drills import drill
from tests.support.fake_smtpd import request
from tests.support.postgresql import Cluster
from tests.support.randomised import a_seed
from tests.support.waiting import LIMIT_SECONDS, until


def test_change_on_one_host_is_in_force_on_all(server: Cluster, make_host: MakeHost) -> None:
    """One command instead of one a host."""
    url = with_tables(server)
    hosts = [started(make_host, url, f"host{number}") for number in range(3)]
    assert [host.answer("bob@example.com") for host in hosts] == ["DUNNO"] * 3
    run(url, "mailbox restrict bob")
    for host in hosts:
        host.wait_for("bob@example.com", "REJECT")
    run(url, "undo 6")
    for host in hosts:
        host.wait_for("bob@example.com", "DUNNO")


def test_every_kind_of_change_leaves_the_replica_equal(server: Cluster, make_host: MakeHost) -> None:
    """Row by row, also in the numbers that only the database gives."""
    url = with_tables(server)
    host = started(make_host, url)
    for line in (
        "group add staff bob ann",
        "group add all group:staff",
        "group restrict staff --accept @partner.example --accept bob --reason 'für alle'",
        "domain add example.org --unlisted accept",
        "domain add alias.example --alias-of example.org",
        "domain restrict example.org --accept group:staff --until 2100-01-01",
        "address add bob b@example.org bob@example.org",
        "mailbox restrict ann --receive nobody --accept bob@partner.example --accept group:all",
        "sender block bob --to outside --except @partner.example",
        "sender block anyone --to @competitor.example --except-sender ann",
        "sender block group:staff --to ann --reason x",
        "mailbox rename bob robert",
        "mailbox accept ann robert",
        "mailbox unaccept ann group:all",
        "sender except robert @another.example",
        "group leave staff ann",
        "address remove bob@example.com",
        "sender unblock anyone",
        "mailbox remove ann --yes",
        "domain remove alias.example --yes",
        "group remove all --yes",
        "undo 5",
        "domain set example.org --unlisted reject",
        "mailbox lift robert",
    ):
        command(url, line)  # what is refused changes nothing
    assert len(rows_of_truth(url)["at"]) == 1
    host.wait_to_be_equal()


def test_bulk_import_arrives_as_one_state(server: Cluster, make_host: MakeHost, tmp_path) -> None:
    """A changeset of a thousand rows is never seen half done."""
    url = with_tables(server)
    host = started(make_host, url)
    file = tmp_path / "many.csv"
    file.write_text("name,addresses\n" + "".join(f"m{number},m{number}@example.com\n" for number in range(500)))
    run(url, f"import {file} --format csv")
    seen: set[int] = set()

    def has_all() -> bool:
        seen.add(len(host.rows()["mailbox"]))
        return 502 in seen

    until(has_all, "the import")
    assert seen <= {2, 502}
    host.wait_to_be_equal()


@drill(
    "the PostgreSQL server is stopped",
    made="a real server, stopped and started again",
    client="nothing: the answer comes from the host's replica",
    log="one warning, and `event=replica-followed` when it is followed again",
    lost="nothing: what is changed meanwhile can't be changed",
)
def test_host_answers_on_while_the_server_is_stopped(own_server: Cluster, make_host: MakeHost) -> None:
    """No mail waits for a database."""
    url = with_tables(own_server)
    host = started(make_host, url)
    run(url, "mailbox restrict bob")
    host.wait_for("bob@example.com", "REJECT")

    # It is gone: answers go on, and the status says so.
    own_server.stop()
    host.syslog.wait_for("the replica is not followed")
    assert host.answer("bob@example.com") == "REJECT"
    assert host.answer("ann@example.com") == "DUNNO"
    ended = command(url, "mailbox restrict ann")
    assert (ended.exit_code, ended.stderr.count("\n")) == (69, 1)
    assert until(lambda: host.status.problem, "the problem")

    # It is back.
    own_server.start()
    host.syslog.wait_for("event=replica-followed")
    run(url, "mailbox restrict ann")
    host.wait_for("ann@example.com", "REJECT")
    host.wait_to_be_equal()


@drill(
    "the PostgreSQL server is frozen",
    made="SIGSTOP to all of its processes",
    client="nothing: the answer comes from the host's replica",
    log="a warning that the server does not answer",
)
@pytest.mark.full
def test_host_answers_on_while_the_server_is_frozen(own_server: Cluster, make_host: MakeHost) -> None:
    """Its kernel still answers, so that no setting of TCP's helps: the wait has an end of its own."""
    url = with_tables(own_server)
    host = started(make_host, url)
    own_server.freeze()
    try:
        host.syslog.wait_for("the replica is not followed")
        assert host.answer("bob@example.com") == "DUNNO"
    finally:
        own_server.freeze(signal.SIGCONT)
    run(url, "mailbox restrict bob")
    host.wait_for("bob@example.com", "REJECT")


@drill(
    "the PostgreSQL server is killed",
    made="SIGQUIT to a real server, which then recovers",
    client="nothing: the answer comes from the host's replica",
    log="one warning, and `event=replica-followed` when it is followed again",
)
def test_host_answers_on_while_the_server_recovers(own_server: Cluster, make_host: MakeHost) -> None:
    """A crash of the server is no crash of the mail."""
    url = with_tables(own_server)
    host = started(make_host, url)
    own_server.stop(signal.SIGQUIT)
    assert host.answer("bob@example.com") == "DUNNO"
    own_server.start()
    run(url, "mailbox restrict bob")
    host.wait_for("bob@example.com", "REJECT")


@drill(
    "the process that follows the database is killed again and again",
    made="SIGKILL at random moments while the tables change",
    client="nothing",
    log="a warning for each",
)
@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.full)])
def test_killed_follower_leaves_a_state_that_the_database_has_had(
    server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """Never half of a change."""
    url, replica = with_tables(server), tmp_path / "replica.db"
    prepare(Database(url), replica)
    first = replica.read_bytes()
    states = [repr(rows_of_truth(url))]
    for name in ("carl", "dora", "emil"):
        run(url, f"mailbox add {name} {' '.join(f'{name}{number}@example.com' for number in range(40))}")
        states.append(repr(rows_of_truth(url)))
    monkeypatch.setattr(follower, "BATCH", 41)  # each of these is a transaction of its own
    chance = random.Random(a_seed())
    for _ in range(kills):
        # While it writes, or a moment later.
        with killed_at_the_end(follow_for_ever, url, replica):
            before, deadline = written(replica), time.monotonic() + LIMIT_SECONDS
            while written(replica) == before:
                assert time.monotonic() < deadline, "nothing is written"
            time.sleep(chance.uniform(0, 0.01))
        state = repr(rows_of_replica(replica))
        assert state in states
        if state == states[-1]:
            for each in beside(replica):
                each.unlink(missing_ok=True)
            replica.write_bytes(first)

    # Whoever follows next has no trouble with what it finds.
    with killed_at_the_end(follow_for_ever, url, replica):
        until(lambda: rows_of_replica(replica) == rows_of_truth(url), "the replica to be equal")


@contextmanager
def killed_at_the_end(function: Callable[..., None], *arguments: object) -> Iterator[None]:
    """A process that runs *function*, until SIGKILL at the end of the block."""
    process = get_context("fork").Process(target=function, args=arguments)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def written(replica: Path) -> tuple[int, int]:
    """What changes when something is written to the log."""
    try:
        found = beside(replica)[0].stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def follow_for_ever(url: str, replica: Path) -> None:
    """What the process that follows does."""
    Follower(Database(url), replica, open_audit(AuditSettings(syslog="none")), lambda told: True).run()


def test_host_without_a_replica_refuses_to_start_while_the_server_is_away(
    own_server: Cluster, make_host: MakeHost
) -> None:
    """It knows nothing, and DUNNO to everything would be a lie."""
    url = with_tables(own_server)
    own_server.stop()
    host = make_host(url)
    status, told = host.refuse()
    assert status == 69
    assert told.count("\n") == 1
    assert "there is no replica yet" in told


def test_host_with_a_replica_starts_while_the_server_is_away(own_server: Cluster, make_host: MakeHost) -> None:
    """A machine that comes up after a power cut must not wait for another one."""
    url = with_tables(own_server)
    run(url, "mailbox restrict bob")
    host = started(make_host, url)
    assert host.stop()[0] == 0
    own_server.stop()
    host.start()
    assert host.answer("bob@example.com") == "REJECT"


def test_serve_needs_a_replica(server: Cluster, make_host: MakeHost) -> None:
    """Mail does not wait for a network."""
    host = make_host(with_tables(server))
    host.write_settings()
    status, told = host.refuse()
    assert status == 78
    assert "replica: must name the file" in told


def test_another_database_is_not_followed(server: Cluster, make_host: MakeHost) -> None:
    """An empty one, by a mistyped name, would open every mailbox."""
    url = with_tables(server)
    host = started(make_host, url)
    run(url, "mailbox restrict bob")
    host.wait_for("bob@example.com", "REJECT")
    assert host.stop()[0] == 0
    host.url = with_tables(server)
    host.write_settings(f'replica = "{host.replica}"')
    host.start()
    assert "is another database" in host.syslog.wait_for("the replica is not followed")
    assert host.answer("bob@example.com") == "REJECT"


def test_commands_refuse_a_replica(server: Cluster, make_host: MakeHost) -> None:
    """What is changed there would be gone with the next change of the database."""
    host = started(make_host, with_tables(server))
    ended = command(str(host.replica), "domain add example.net")
    assert ended.exit_code == 69
    assert "a replica, which only follows its database" in ended.stderr


@pytest.mark.parametrize(
    ("hosts", "changes"), [(2, 20), pytest.param(8, 100, marks=pytest.mark.full, id="eight hosts")]
)
def test_change_is_in_force_everywhere_soon_after_the_command_returns(
    server: Cluster, make_host: MakeHost, hosts: int, changes: int
) -> None:
    """How soon is printed; that it comes, and that no host goes back, is what must hold."""
    url = with_tables(server)
    started_hosts = [started(make_host, url, f"host{number}") for number in range(hosts)]
    took = []
    for number in range(changes):
        run(url, f"mailbox {'lift' if number % 2 else 'restrict'} bob")
        began = time.monotonic()
        for host in started_hosts:
            host.wait_for("bob@example.com", "DUNNO" if number % 2 else "REJECT")
        took.append(time.monotonic() - began)
    took.sort()
    print(f"{hosts} hosts: median {took[changes // 2]:.3f} s, p99 {took[changes * 99 // 100]:.3f} s")  # noqa: T201
    assert all(host.status.problem == "" for host in started_hosts)


@pytest.mark.full
def test_answers_are_as_quick_and_as_right_while_the_server_is_frozen(own_server: Cluster, make_host: MakeHost) -> None:
    """How quick is printed: the answer never asks the network."""
    url = with_tables(own_server)
    run(url, "mailbox restrict bob")
    host = started(make_host, url)

    def p99() -> float:
        took = []
        for _ in range(3000):
            began = time.perf_counter()
            assert (host.answer("bob@example.com"), host.answer("ann@example.com")) == ("REJECT", "DUNNO")
            took.append(time.perf_counter() - began)
        return sorted(took)[2970]

    before = p99()
    own_server.freeze()
    try:
        host.syslog.wait_for("the replica is not followed")
        meanwhile = p99()
    finally:
        own_server.freeze(signal.SIGCONT)
    print(f"p99 {before * 1000:.2f} ms, while frozen {meanwhile * 1000:.2f} ms: {meanwhile / before:.2f}")  # noqa: T201


def test_systemd_is_told_how_the_replica_is(own_server: Cluster, make_host: MakeHost) -> None:
    """`systemctl status policyd` says since when changes don't come."""
    url = with_tables(own_server)
    host = make_host(url)
    notified = Notified(str(host.folder / "notify"))
    try:
        host.start(variables=notified.variables)
        until(lambda: [line for line in notified.told() if "the replica is at change 5" in line], "how far it is")
        own_server.stop()
        until(lambda: [line for line in notified.told() if "not followed since" in line], "what is wrong")
        lines = [line for line in notified.told() if "not followed since" in line]
        assert len(lines) == len(set(lines))  # not again with each second
    finally:
        notified.close()


REFUSES_PRIORITIES = """
import ctypes, os, sys
refuse = b"".join(code.to_bytes(2, "little") + bytes(jumps) + value.to_bytes(4, "little") for code, jumps, value in [
    (0x20, (0, 0), 0), (0x15, (0, 1), 141), (0x06, (0, 0), 0x00050001), (0x06, (0, 0), 0x7FFF0000)
])  # the number of the call; of setpriority: EPERM; of any other: go on
held = ctypes.create_string_buffer(refuse)
program = ctypes.create_string_buffer((4).to_bytes(8, "little") + ctypes.addressof(held).to_bytes(8, "little"))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a system call has another number there")
def test_who_may_take_no_lower_priority_follows_all_the_same(server: Cluster, make_host: MakeHost) -> None:
    """The unit refuses the system calls by which a service could take more than its share, and this one with them."""
    url = with_tables(server)
    host = make_host(url)
    words = [sys.executable, "-c", REFUSES_PRIORITIES, *host.arguments("serve")]
    host.start(words)
    assert host.follower == 0
    run(url, "mailbox restrict bob")
    host.wait_for("bob@example.com", "REJECT")


def test_reload_begins_to_follow_anew_without_an_alarm(server: Cluster, make_host: MakeHost) -> None:
    """SIGHUP is no crash, and another replica needs a restart."""
    url = with_tables(server)
    host = started(make_host, url)
    former = until(lambda: host.follower, "the process that follows")
    host.reload()
    until(lambda: host.follower not in (0, former), "another process")
    assert host.syslog.matching("the follower ended") == []
    run(url, "mailbox restrict bob")
    host.wait_for("bob@example.com", "REJECT")
    replica, host.replica = host.replica, host.folder / "other.db"
    host.write_settings(f'replica = "{host.replica}"')
    host.reload("replica is as it was")
    host.replica = replica
    run(url, "mailbox lift bob")
    host.wait_for("bob@example.com", "DUNNO")


def test_status_command_is_for_people_programs_and_monitoring(server: Cluster, make_host: MakeHost) -> None:
    """0 while it is current, 1 when it is too old, 69 where nobody ever followed, 78 where there is none."""
    url = with_tables(server)
    host = make_host(url)

    def status(words: str = "", config: Path = host.config) -> Result:
        line = f"--config {shlex.quote(str(config))} replica status {words}"
        return CliRunner().invoke(main, shlex.split(line))

    assert (status().exit_code, status(config=QUIET).exit_code) == (69, 78)
    host.start()
    until(lambda: status("--max-age 60").exit_code == 0, "the status")
    ended = status()
    assert [line.partition(":")[0] for line in ended.stdout.splitlines()] == [
        *("replica", "source", "history", "change", "behind", "may have missed changes for")
    ]
    found = json.loads(status("--json").stdout)
    assert list(found) == ["replica", "source", "history", "id", "digest", "current_at", "age", "behind", "problem"]
    assert (found["id"], found["behind"], found["problem"]) == (5, 0, None)

    # As it is an hour after the last word, and after one that is still to come.
    assert host.stop()[0] == 0
    file = Path(f"{host.replica}.status")
    written = json.loads(file.read_text())
    for seconds, problem in ((-7200, "for 2 hours: nobody follows"), (7200, "the clock was set back")):
        at = int(time.time()) + seconds
        file.write_text(json.dumps({**written, "current_at": at, "told_at": at}))
        ended = status("--max-age 60")
        assert (ended.exit_code, ended.stderr.count("\n")) == (1, 1)
        assert problem in ended.stderr
        assert "problem: " in ended.stdout

    # What somebody planted there.
    for planted in (
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"id": "x"}',
        '{"current_at": 1e99}',
        '{"other": 1}',
        '{"id": -1}',
    ):
        file.write_text(planted)
        ended = status()
        assert (ended.exit_code, ended.stdout, ended.stderr.count("\n")) == (69, "", 1)
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert status().exit_code == 69


def test_who_answers_from_an_outdated_replica_says_so(server: Cluster, make_host: MakeHost) -> None:
    """`check` on stderr and Postfix's spawn(8) in the log, each with the same answer as ever."""
    url = with_tables(server)
    host = make_host(url)
    prepare(Database(url), host.replica)

    def check() -> tuple[str, str]:
        ended = CliRunner().invoke(main, ["--config", str(host.config), "check", "bob@example.com"])
        return ended.stdout.partition("\n")[0], ended.stderr

    now = int(time.time())
    assert check() == (
        "DUNNO",
        f"policyd: {host.replica}: nothing has followed the database yet; start policyd serve\n",
    )
    write_status(host.replica, ReplicaStatus(current_at=now))
    assert check() == ("DUNNO", "")
    write_status(host.replica, ReplicaStatus(current_at=now - 7300, problem="the server is away"))
    told = f"{host.replica}: may have missed changes for 2 hours: the server is away"
    assert check() == ("DUNNO", f"policyd: {told}\n")
    done = subprocess.run(
        host.arguments("serve", "--stdio"), input=request(recipient="bob@example.com"), capture_output=True, check=True
    )
    assert done.stdout == b"action=DUNNO\n\n"
    host.syslog.wait_for(f'warning="{told}"')
