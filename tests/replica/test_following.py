"""A change on the database's host is in force on every mail host, whatever the network and the server do."""

import random
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policyd.cli import main
from tests.replica.hosts import Host, rows_of_truth
from tests.support.drills import drill
from tests.support.postgresql import Cluster
from tests.support.waiting import until

QUIET = Path(__file__).with_name("quiet.toml")  # settings that log nowhere

MakeHost = Callable[..., Host]


def started(make_host: MakeHost, url: str, name: str = "host") -> Host:
    """A host whose daemon answers."""
    host = make_host(url, name)
    host.start()
    return host


def with_tables(server: Cluster) -> str:
    """The URL of a new database with a domain and two mailboxes."""
    url = server.url(server.make())
    for line in ("domain add example.com", "mailbox add bob bob@example.com", "mailbox add ann ann@example.com"):
        run(url, line)
    return url


def run(url: str, line: str) -> None:
    """A command, as an administrator types it on any host; it must succeed."""
    ended = command(url, line)
    assert ended.exit_code == 0, ended.stderr


def command(url: str, line: str) -> Result:
    """How a command ends."""
    return CliRunner(env={"POLICYD_DATABASE": url, "POLICYD_CONFIG": str(QUIET)}).invoke(main, shlex.split(line))


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
    """A changeset of thousands is never seen half done."""
    url = with_tables(server)
    host = started(make_host, url)
    file = tmp_path / "many.csv"
    file.write_text("name,addresses\n" + "".join(f"m{number},m{number}@example.com\n" for number in range(1500)))
    run(url, f"import {file} --format csv")
    seen: set[int] = set()

    def has_all() -> bool:
        seen.add(len(host.rows()["mailbox"]))
        return 1502 in seen

    until(has_all, "the import")
    assert seen <= {2, 1502}
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
@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.full)])
def test_killed_follower_leaves_a_state_that_the_database_has_had(
    server: Cluster, make_host: MakeHost, kills: int
) -> None:
    """Never half of a change."""
    url = with_tables(server)
    host = started(make_host, url)
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - to play it again
    chance = random.Random(seed)
    states = {repr(rows_of_truth(url))}
    for number in range(kills):
        run(url, f"mailbox add m{number} m{number}@example.com n{number}@example.com")
        states.add(repr(rows_of_truth(url)))
        if chance.random() < 0.7:
            host.kill_follower()
        assert repr(host.rows()) in states
    host.wait_to_be_equal()


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
