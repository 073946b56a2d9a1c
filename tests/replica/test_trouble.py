"""Whatever happens to the server or the network, the replica is a state that the database has had."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from policyd.errors import StoreError
from policyd.replica import follower
from policyd.replica.follower import prepare
from policyd.store import postgresql
from policyd.store.connection import Database
from policyd.store.replica import Replica
from tests.replica.commands import QUIET, add_many, command, forge_history, name_of, run, with_tables
from tests.replica.hosts import Follow, Proxy, rows_of_replica, rows_of_truth
from tests.support import preloaded
from tests.support.disks import fill_up, small_disk
from tests.support.drills import drill
from tests.support.pgbouncer import pooled
from tests.support.postgresql import Cluster
from tests.support.processes import is_alive
from tests.support.randomised import a_seed
from tests.support.required import as_root
from tests.support.waiting import until

# --- The journal is not the one that was followed ---


@drill(
    "the database is restored from an older backup, and its numbers are given again",
    made="`pg_dump`, changes, the dump put back, other changes",
    client="nothing: the answer comes from the host's replica, which has what was lost until it is copied again",
    log="a warning with both digests, then `event=replica-copied`",
    lost="the changes that the backup has not",
)
def test_restored_database_is_noticed_and_copied_again(own_server: Cluster, follow: Follow) -> None:
    """The numbers alone look as if nothing had happened: the digests tell."""
    url = with_tables(own_server)
    following = follow(url)
    dump = own_server.program("pg_dump", "--clean", "--inserts", url)
    run(url, "mailbox restrict bob")
    run(url, "mailbox restrict ann")
    following.wait_to_be_equal()
    had = {repr(rows_of_truth(url))}

    # Back to the dump, and on with other changes under the same numbers: it goes from one state to another.
    with psycopg.connect(url) as truth:
        truth.execute(dump.replace("\\restrict", "--").replace("\\unrestrict", "--").encode())
        truth.execute("SET search_path TO public")
    had.add(repr(rows_of_truth(url)))
    for line in ("mailbox add eve eve@example.com", "mailbox restrict eve"):
        run(url, line)
        had.add(repr(rows_of_truth(url)))
    assert following.wait_to_be_equal() <= had
    told = following.wait_for("the replica is not followed")
    assert len([word for word in told.split() if len(word.strip(",;")) == 64]) >= 1
    following.wait_for("event=replica-copied")
    following.wait_for("event=replica-followed")


@drill(
    "a standby takes over that lacks the last changes, and their numbers are given again",
    made="a real primary and standby; the primary is killed, the standby promoted",
    client="nothing: the answer comes from the host's replica, which has what was lost until it is copied again",
    log="a warning with both digests, then `event=replica-copied`",
    lost="what the standby had not got: an asynchronous failover loses it, on every host",
)
def test_failover_that_lost_changes_is_noticed_and_copied_again(own_server: Cluster, follow: Follow) -> None:
    """The new primary's journal is longer than what was followed: only the digests tell."""
    url = with_tables(own_server)
    standby = own_server.make_standby()
    try:
        both = f"postgresql://owner@/{name_of(url)}"
        both += f"?host={own_server.folder},{standby.folder}&port={own_server.port},{standby.port}"
        both += "&target_session_attrs=read-write"
        following = follow(both)
        standby.stop()
        for name in ("bob", "ann"):
            run(url, f"mailbox restrict {name}")
        following.wait_to_be_equal()
        own_server.stop(signal.SIGQUIT)
        standby.start()
        standby.promote()
        for number in range(5):
            run(standby.url(name_of(url)), f"mailbox add m{number}")
        following.wait_for("another one than the replica has followed")
        following.wait_to_be_equal()
        following.wait_for("event=replica-followed")
    finally:
        following.end()
        standby.remove()


def test_journal_that_says_what_cant_be_is_not_followed_half_way(server: Cluster, follow: Follow) -> None:
    """Somebody who may write there must not bring down every mail host: the copy after it is at fault no more."""
    url = with_tables(server)
    following = follow(url)
    with psycopg.connect(url) as truth:
        truth.execute("UPDATE change SET after = '[[[' WHERE id = 3")
        truth.execute(
            "INSERT INTO change SELECT id + 1, at, actor, id + 1, operation, object, NULL, '[]', digest FROM change "
            "ORDER BY id DESC LIMIT 1"
        )
        truth.execute("UPDATE journal_head SET id = id + 1")
        truth.execute("SELECT pg_notify('policyd', '')")
    assert "the database's journal is not whole" in following.wait_for("the replica is not followed")
    following.wait_for("event=replica-copied")
    assert "bob" in repr(following.rows())


# --- The server ---


@drill(
    "the PostgreSQL server is frozen, or of its processes only those that a host asks",
    made="SIGSTOP to these backends alone; then to all processes",
    client="nothing: the answer comes from the host's replica",
    log="a warning that the server does not answer, and `event=replica-followed` over another connection",
)
def test_frozen_server_is_given_up_and_followed_again(
    own_server: Cluster, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCP is well, and the postmaster may still take connections: the wait has an end of its own."""
    monkeypatch.setattr(postgresql, "_FOLLOWER_SECONDS", 2.0)
    url = with_tables(own_server)
    following = follow(url)
    following.wait_to_be_equal()

    def the_two() -> list[tuple[int]]:
        """Of the commands before, no process is left: one waits for notifications, the other asks."""
        found = own_server.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'policyd'")
        return found if len(found) == 2 else []

    # Those two alone: over other ones it goes on while they are frozen.
    pids = until(the_two, "the two processes that the host has")
    for (pid,) in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        following.wait_for("the server does not answer")
        following.wait_for("event=replica-followed")
        run(url, "mailbox restrict bob")
        following.wait_to_be_equal()
    finally:
        for (pid,) in pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGCONT)

    # All of them.
    before = len(following.lines)
    own_server.freeze()
    try:
        until(lambda: "is not followed" in "".join(following.lines[before:]), "the warning")
    finally:
        own_server.freeze(signal.SIGCONT)
    run(url, "mailbox lift bob")
    following.wait_to_be_equal()


@drill(
    "the first copy is cut off in the middle",
    made="a proxy that resets the connection after 100 kB",
    client="nothing: a host without a replica does not start",
    log="one line, status 69",
)
def test_first_copy_that_is_cut_off_leaves_nothing(server: Cluster, tmp_path: Path) -> None:
    """Half of the tables would open half of the mailboxes."""
    url = with_tables(server)
    add_many(url, tmp_path)
    proxy = Proxy(server.port)
    database = Database(f"postgresql://owner@127.0.0.1:{proxy.port}/{name_of(url)}")
    folder = tmp_path / "host"
    folder.mkdir()
    try:
        proxy.most = 100_000
        with pytest.raises(StoreError, match=r"there is no replica yet, and it can't be made: .*connection was lost"):
            prepare(database, folder / "replica.db")
        assert proxy.cuts == 1
        assert [*folder.iterdir()] == []
        proxy.most = None
        prepare(database, folder / "replica.db")
        assert rows_of_replica(folder / "replica.db") == rows_of_truth(url)
    finally:
        proxy.close()


@drill(
    "the copy that heals a replica is cut off in the middle",
    made="a proxy that resets the connection after 100 kB",
    client="nothing: the answer comes from the replica as it was",
    log="a warning, then `event=replica-copied`",
)
def test_healing_copy_that_is_cut_off_changes_nothing_and_is_tried_again(
    server: Cluster, follow: Follow, tmp_path: Path
) -> None:
    """What is served is the old state until the new one is whole."""
    url = with_tables(server)
    add_many(url, tmp_path)
    proxy = Proxy(server.port)
    try:
        following = follow(f"postgresql://owner@127.0.0.1:{proxy.port}/{name_of(url)}")
        following.wait_to_be_equal(url)
        before = repr(following.rows())
        proxy.most = 100_000
        forge_history(url)
        until(lambda: proxy.cuts >= 2, "two cuts")
        assert repr(following.rows()) == before
        proxy.most = None
        following.wait_for("event=replica-copied")
        assert following.wait_to_be_equal(url) <= {before, repr(rows_of_truth(url))}
    finally:
        following.end()
        proxy.close()


@as_root
@drill(
    "the PostgreSQL server's disk is full",
    made="the database in a tablespace on a small tmpfs",
    client="nothing: the answer comes from the host's replica",
    log="nothing; the command: one line, status 74",
    lost="nothing: what does not fit is not changed",
)
def test_full_disk_of_the_server_ends_a_command_with_74(own_server: Cluster, follow: Follow, tmp_path: Path) -> None:
    """All of the change or nothing, there and here."""
    with small_disk(own_server.folder / "small", 12288) as disk:
        own_server.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        own_server.execute("CREATE DATABASE narrow TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' TABLESPACE small")
        url = own_server.url("narrow")
        run(url, "database create")
        run(url, "domain add example.com")
        following = follow(url)
        ballast = fill_up(disk)
        before = rows_of_truth(url)
        (tmp_path / "many.csv").write_text(
            "name,addresses\n" + "".join(f"m{number},m{number}@example.com\n" for number in range(1500))
        )
        ended = command(url, f"import {tmp_path / 'many.csv'} --format csv")
        assert (ended.exit_code, ended.stderr.count("\n")) == (74, 1), ended.stderr
        assert "make room there" in ended.stderr
        assert rows_of_truth(url) == before
        ballast.unlink()
        run(url, f"import {tmp_path / 'many.csv'} --format csv")
        following.wait_to_be_equal()
        assert following.lines == []
        following.end()
        own_server.stop()


@drill(
    "the password of the role that follows is changed",
    made="`ALTER ROLE`, and its connections ended; then the new one in the file",
    client="nothing: the answer comes from the host's replica",
    log="one warning that names the setting, and `event=replica-followed`",
)
def test_changed_password_is_told_and_the_new_one_is_taken_from_its_file(
    own_server: Cluster, follow: Follow, tmp_path: Path
) -> None:
    """Nothing must be restarted, and no password is in the log."""
    url = with_tables(own_server)
    name = name_of(url)
    own_server.execute("CREATE ROLE reader LOGIN PASSWORD 'first-secret'")
    own_server.execute("ALTER ROLE reader SET default_transaction_read_only = on")  # as contrib/postgresql has it
    own_server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", name)
    access = own_server.data / "pg_hba.conf"
    access.write_text(f"host all reader 127.0.0.1/32 scram-sha-256\n{access.read_text()}")
    own_server.execute("SELECT pg_reload_conf()")
    secret = tmp_path / "password"
    secret.write_text("first-secret\n")
    following = follow(f"postgresql://reader@127.0.0.1:{own_server.port}/{name}?target_session_attrs=primary", secret)
    following.wait_to_be_equal(url)

    own_server.execute("ALTER ROLE reader PASSWORD 'second-secret'")
    own_server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")
    assert "password_file" in following.wait_for("password authentication failed")
    run(url, "mailbox restrict bob")
    secret.unlink()
    following.wait_for("password_file: ")
    secret.write_text("second-secret\n")
    following.wait_for("event=replica-followed")
    following.wait_to_be_equal(url)
    assert "secret" not in "\n".join(following.lines)
    causes = [line.partition("reached: ")[2] for line in following.lines if "password authentication" in line]
    assert len(causes) == len(set(causes)) == 1


@drill(
    "pgbouncer lends its connections for one transaction",
    made="a real pgbouncer in transaction mode, where `LISTEN` hears nothing",
    client="nothing: changes come within half a second",
)
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_pooler_is_followed_through(server: Cluster, follow: Follow, mode: str) -> None:
    """Commands go through it, too."""
    url = with_tables(server)
    with pooled(server, name_of(url), mode) as behind:
        following = follow(behind)
        for line in ("mailbox restrict bob", "group add staff bob ann", "mailbox rename ann anna"):
            run(behind, line)
        following.wait_to_be_equal(url)
        assert following.lines == []
        following.end()


def test_hot_standby_is_followed(own_server: Cluster, follow: Follow) -> None:
    """It tells of no change, and is asked twice a second; a command there is refused."""
    url = with_tables(own_server)
    standby = own_server.make_standby()
    try:
        behind = standby.url(name_of(url))
        following = follow(behind)
        run(url, "mailbox restrict bob")
        following.wait_to_be_equal(url)
        ended = command(behind, "mailbox lift bob")
        assert (ended.exit_code, ended.stderr.count("\n")) == (69, 1)
        assert "standby" in ended.stderr
        assert following.lines == []
    finally:
        following.end()
        standby.remove()


@drill(
    "a command that is changing the tables is frozen",
    made="a transaction that holds the head of the journal and does nothing",
    client="nothing: the answer comes from the host's replica, which is followed",
    log="nothing; another command waits",
)
def test_frozen_command_keeps_only_other_commands_waiting(server: Cluster, follow: Follow) -> None:
    """Who follows needs no lock."""
    url = with_tables(server)
    following = follow(url)
    following.wait_to_be_equal()
    with psycopg.connect(url) as frozen:
        frozen.execute("SELECT id FROM journal_head FOR UPDATE")
        waiting = preloaded.start(
            [*preloaded.PROGRAM, "mailbox", "restrict", "bob"],
            env=os.environ | {"POLICYD_DATABASE": url, "POLICYD_CONFIG": str(QUIET)},
            stderr=subprocess.PIPE,
        )
        until(
            lambda: server.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), "a command to wait"
        )
        seen = following.status.current_at
        until(lambda: following.status.current_at > seen, "another look")
        assert following.status.problem == ""
        frozen.rollback()
    told = waiting.communicate()[1].decode()
    assert (waiting.returncode, told.partition(" for another command")[0]) in ((0, ""), (0, "policyd: waiting"))
    following.wait_to_be_equal()


# --- A batch of changes ---


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_no_batch_ends_inside_a_changeset(
    server: Cluster, follow: Follow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batch: int
) -> None:
    """A changeset that is longer than a batch is one transaction all the same."""
    monkeypatch.setattr(follower, "BATCH", batch)
    seen: list[str] = []

    class NotingReplica(Replica):
        """Notes each state that somebody could read."""

        @contextmanager
        def changing(self) -> Iterator[None]:
            with super().changing():
                yield
            seen.append(repr(rows_of_replica(tmp_path / "followed.db")))

    monkeypatch.setattr(follower, "Replica", NotingReplica)
    url = with_tables(server)
    prepare(Database(url), tmp_path / "followed.db")
    states = []
    for number in range(4):
        names = " ".join(f"a{number}-{each}@example.com" for each in range(2 * number))
        run(url, f"mailbox add m{number} {names}")
        states.append(repr(rows_of_truth(url)))
    follow(url).wait_to_be_equal()
    assert set(seen) <= set(states)
    assert seen[-1] == states[-1]


@pytest.mark.parametrize(
    ("hosts", "edits"), [(2, 12), pytest.param(8, 60, marks=pytest.mark.full, id="eight hosts, many edits")]
)
def test_all_replicas_are_equal_after_four_wrote_at_once(
    server: Cluster, follow: Follow, tmp_path: Path, hosts: int, edits: int
) -> None:
    """Whatever the order, all see the one in which it was committed, and the journal has no gap."""
    url = with_tables(server)
    folders = [tmp_path / f"host{number}" for number in range(hosts)]
    for folder in folders:
        folder.mkdir()
    followings = [follow(url, folder=folder) for folder in folders[:-1]]
    seed = a_seed()
    writers = [
        subprocess.Popen([sys.executable, "-m", "tests.replica.writer", url, str(seed + number), str(edits)])
        for number in range(4)
    ]

    # The last host is new, and copies the tables while they are changed.
    until(lambda: server.execute("SELECT 1 FROM journal_head WHERE id > 10", name_of(url)), "some changes")
    followings.append(follow(url, folder=folders[-1]))
    assert [writer.wait() for writer in writers] == [0] * 4
    slow = ('warning="the replica is not followed', "event=replica-followed")  # a busy machine may cost a connection
    for following in followings:
        following.wait_to_be_equal()
        assert [line for line in following.lines if not line.startswith(slow)] == []
    assert command(url, "database check").exit_code == 0


def test_status_tells_how_the_replica_is(server: Cluster, follow: Follow) -> None:
    """For other programs: the same names for good."""
    url = with_tables(server)
    following = follow(url)
    following.wait_to_be_equal()
    until(Path(f"{following.replica}.status").exists, "the status")
    status = following.status
    ((history, number, digest),) = following.rows()["at"]
    assert (status.history, status.id, status.digest) == (history, number, digest)
    assert (status.behind, status.problem, status.source) == (0, "", str(Database(url)))
    file = Path(f"{following.replica}.status")
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(json.loads(file.read_text())) == sorted(
        ["history", "id", "digest", "current_at", "behind", "problem", "source", "told_at"]
    )
