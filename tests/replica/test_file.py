"""Whatever happens to the replica's file, it is followed again, or one line says what is in the way."""

import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from policyd.audit import AuditLog, open_audit
from policyd.errors import ReplicaSpoiledError, SettingsError, StoreError, StoreWriteError
from policyd.replica import follower
from policyd.replica.follower import Follower, prepare
from policyd.settings import AuditSettings
from policyd.store.connection import Database
from policyd.store.database import postgresql
from policyd.store.replica import Replica
from policyd.syslog import NoSink
from tests.replica.commands import add_many, forge_history, run, with_tables
from tests.replica.hosts import Follow, Host, MakeHost, rows_of_replica, rows_of_truth, started
from tests.support.disks import fill_up, small_disk
from tests.support.drills import drill
from tests.support.fake_smtpd import OutOfStepError
from tests.support.postgresql import Cluster
from tests.support.required import as_root


def damage(path: Path, first: int = 4096) -> None:
    """What a broken disk leaves: pages of nonsense, from the *first* byte of them on."""
    with path.open("r+b") as file:
        file.seek(first)
        file.write(b"\xa5" * (path.stat().st_size - first))


@drill(
    "the replica's file is damaged",
    made="all pages but the first overwritten; the host starts",
    client="nothing: it is copied again before it answers",
    lost="nothing: the database has all of it",
)
def test_damaged_replica_is_made_again_at_the_start(server: Cluster, make_host: MakeHost) -> None:
    """It holds nothing of its own."""
    url = with_tables(server)
    host = started(make_host, url)
    run(url, "mailbox restrict bob")
    host.wait_for("bob@example.com", "REJECT")
    assert host.stop()[0] == 0
    damage(host.replica)
    host.start()
    assert host.answer("bob@example.com") == "REJECT"
    host.wait_to_be_equal()


@drill(
    "the replica's file is damaged while the daemon runs",
    made="all pages overwritten, and all but the first",
    client="451 until it is copied again, a second later",
    log="`hung up: …`, a warning, `event=replica-copied`, `event=replica-followed`",
    lost="nothing: the database has all of it",
)
@pytest.mark.parametrize(("workers", "first"), [(1, 4096), (2, 0)], ids=["all pages but the first", "all pages"])
def test_damage_is_noticed_by_who_cant_answer_and_healed(
    server: Cluster, make_host: MakeHost, workers: int, first: int
) -> None:
    """The one that follows may not read those pages for years."""
    url = with_tables(server)
    run(url, "mailbox restrict bob")
    host = make_host(url)
    host.write_settings(f'replica = "{host.replica}"', f"workers = {workers}")
    host.start()
    host.wait_to_be_equal()
    damage(host.replica, first)
    with pytest.raises(OutOfStepError):
        host.answer("bob@example.com")
    host.syslog.wait_for("event=replica-followed")
    assert host.answer("bob@example.com") == "REJECT"
    host.wait_to_be_equal()
    assert len(host.syslog.matching("the replica is not followed")) == 1
    assert len(host.syslog.matching("event=replica-copied")) == 1


def test_damage_before_it_is_followed_is_healed(server: Cluster, tmp_path: Path) -> None:
    """What began as a replica when the daemon started is nobody else's file a moment later."""
    url = with_tables(server)
    path = tmp_path / "replica.db"
    prepared = prepare(Database(url), path)
    damage(path, 0)

    def beat(_told: str) -> bool:
        return path.read_bytes().startswith(b"\xa5")  # until it is copied again

    Follower(Database(url), path, open_audit(AuditSettings(syslog="none")), beat, prepared).run()
    assert rows_of_replica(path) == rows_of_truth(url)


def test_copy_that_is_damaged_before_it_is_followed_is_healed(
    server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made a file knows what it was."""
    monkeypatch.setattr(follower, "_COPIES_SECONDS", 0.0)
    url = with_tables(server)
    path = tmp_path / "replica.db"
    copied: list[str] = []

    class Log(AuditLog):
        def noticed(self, event: str, details: Any = None, /, **fields: Any) -> None:
            copied.append(event)
            if copied == ["replica-copied"]:
                damage(path, 0)

    prepared = prepare(Database(url), path)
    damage(path, 0)
    beats = iter([True] * 100)  # or it has been refused for long

    def beat(_told: str) -> bool:
        return len(copied) < 2 and next(beats, False)

    Follower(Database(url), path, Log(AuditSettings(), NoSink()), beat, prepared).run()
    assert copied[:2] == ["replica-copied", "replica-copied"]
    assert rows_of_replica(path) == rows_of_truth(url)


def test_file_that_was_never_a_replica_is_left_alone(server: Cluster, tmp_path: Path) -> None:
    """Somebody may have moved something there since."""
    url = with_tables(server)
    path = tmp_path / "replica.db"
    prepared = prepare(Database(url), path)
    letter = tmp_path / "letter"
    letter.write_bytes(b"Dear Bob,")
    letter.rename(path)
    beats = iter([True, True, False])
    Follower(Database(url), path, open_audit(AuditSettings(syslog="none")), lambda _: next(beats), prepared).run()
    assert path.read_bytes() == b"Dear Bob,"


def test_damage_is_noticed_by_who_applies_changes(server: Cluster, tmp_path: Path) -> None:
    """Not each error is one that waiting helps against: this one says that another copy is needed."""
    url = with_tables(server)
    path = tmp_path / "replica.db"
    prepare(Database(url), path)
    run(url, "mailbox restrict bob")
    with closing(Replica(path)) as replica, postgresql().following(Database(url)) as truth:
        changes = truth.changes_from(replica.position.id + 1, 10)
        damage(path)
        with pytest.raises(ReplicaSpoiledError, match="damaged"), replica.changing():
            replica.apply(changes)


@drill(
    "another database's log is beside the replica's file",
    made="the `-wal` of another replica, left where a file was put back; the host starts",
    client="nothing: it is copied again before it answers",
)
def test_log_of_another_file_is_not_mixed_into_the_replica(server: Cluster, tmp_path: Path) -> None:
    """SQLite knows the log by its name alone, and would take pages of one database into the other."""
    urls = [with_tables(server) for _ in range(2)]
    paths = [tmp_path / name / "replica.db" for name in ("one", "other")]
    for url, path in zip(urls, paths, strict=True):
        path.parent.mkdir()
        prepare(Database(url), path)
    with closing(Replica(paths[1])) as other:
        with other.changing():
            other.position = other.position._replace(id=other.position.id + 1)
        shutil.copy(f"{paths[1]}-wal", f"{paths[0]}-wal")
    with pytest.raises(ReplicaSpoiledError, match="is another database's"):
        Replica(paths[0])
    prepare(Database(urls[0]), paths[0])
    assert rows_of_replica(paths[0]) == rows_of_truth(urls[0])


@drill(
    "the replica's file, or the log beside it, is removed while it is followed",
    made="`rm`",
    client="451 until it is copied again, a second later",
    log="a warning, then `event=replica-followed`",
)
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_replica_that_is_lost_while_it_is_followed_is_made_again(server: Cluster, follow: Follow, suffix: str) -> None:
    """Nobody has to come and type."""
    url = with_tables(server)
    following = follow(url)
    following.wait_to_be_equal()
    Path(f"{following.replica}{suffix}").unlink()
    following.wait_for("the replica is not followed")
    following.wait_for("event=replica-followed")
    run(url, "mailbox restrict bob")
    following.wait_to_be_equal()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_link_that_somebody_planted_is_not_followed(server: Cluster, tmp_path: Path, suffix: str) -> None:
    """Who may write in the folder could have root's file written."""
    url = with_tables(server)
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    folder = tmp_path / "host"
    folder.mkdir()
    path = folder / "replica.db"
    if suffix:
        prepare(Database(url), path)
    Path(f"{path}{suffix}").symlink_to(victim)
    with pytest.raises(StoreError):
        prepare(Database(url), path)
    assert victim.read_text() == "as it was"


def test_what_is_no_replica_is_left_as_it_is(server: Cluster, tmp_path: Path) -> None:
    """The database from the time before the server may well be where a hasty setting points."""
    url = with_tables(server)
    for name, content in (("text", b"not a database"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
    run(f"sqlite:///{tmp_path}/policyd.db", "domain add example.com")
    for path in (tmp_path / "text", tmp_path / "empty", tmp_path / "policyd.db"):
        before = path.read_bytes()
        with pytest.raises(StoreError, match="it is no replica; name another file"):
            prepare(Database(url), path)
        assert path.read_bytes() == before


def test_two_that_follow_for_one_file_do_not_mix_states(server: Cluster, tmp_path: Path) -> None:
    """The second one says so instead of going back to where it was."""
    url = with_tables(server)
    path = tmp_path / "replica.db"
    prepare(Database(url), path)
    with closing(Replica(path)) as one, closing(Replica(path)) as other:
        one_position = one.position
        with one.changing():
            one.position = one_position._replace(id=one_position.id + 1)
        with pytest.raises(StoreWriteError, match="somebody else changes it, too"), other.changing():
            raise AssertionError("not reached")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        pytest.param({"password_file": Path("/nonexistent/password")}, "password_file: ", id="no password file"),
        pytest.param({"url": "postgresql://db.example.com/policyd"}, "sslmode=verify-full", id="unproven server"),
    ],
)
def test_settings_that_cant_be_used_are_refused_also_where_there_is_a_replica(
    server: Cluster, tmp_path: Path, settings: dict[str, object], problem: str
) -> None:
    """Not a day later, in a log."""
    url = with_tables(server)
    path = tmp_path / "replica.db"
    prepare(Database(url), path)
    with pytest.raises(SettingsError, match=problem):
        prepare(Database(**{"url": url, **settings}), path)  # type: ignore[arg-type]


# --- Disks ---


def host_on(disk: Path, make_host: MakeHost, url: str) -> Host:
    """A host whose replica is on that disk."""
    host = make_host(url)
    host.replica = disk / "replica.db"
    host.write_settings(f'replica = "{host.replica}"')
    return host


@as_root
@drill(
    "the disk of a mail host is full",
    made="tmpfs, filled while the daemon runs",
    client="nothing: the answer comes from the host's replica as it is",
    log="one warning, and `event=replica-followed` when there is room",
    lost="nothing: what was changed comes when there is room",
)
def test_host_answers_on_while_its_disk_is_full(server: Cluster, make_host: MakeHost, tmp_path: Path) -> None:
    """A log that grew too large must not stop the mail, too."""
    url = with_tables(server)
    with small_disk(tmp_path / "disk", 1024) as disk:
        host = host_on(disk, make_host, url)
        host.start()
        host.wait_to_be_equal()
        before = host.rows()

        # Nothing fits any more: neither a change nor the status.
        ballast = fill_up(disk)
        run(url, "mailbox restrict bob")
        add_many(url, tmp_path, 300)
        told = host.syslog.wait_for("the replica is not followed")
        assert "make room on the disk" in told
        assert (host.answer("bob@example.com"), host.answer("m1@example.com")) == ("DUNNO", "REJECT")
        assert host.rows() == before

        # There is room.
        ballast.unlink()
        host.syslog.wait_for("event=replica-followed")
        host.wait_for("bob@example.com", "REJECT")
        host.wait_to_be_equal()
        assert host.syslog.matching("warning=") == [told]
        assert host.stop()[0] == 0


@as_root
@drill(
    "the disk of a new mail host is full",
    made="tmpfs, with room for nothing, for a part of the copy, and for all of it",
    client="nothing: a host without a replica does not start",
    log="one line, status 74",
)
def test_first_copy_on_a_full_disk_leaves_nothing(server: Cluster, tmp_path: Path) -> None:
    """Wherever it gets full, until there is room enough."""
    url = with_tables(server)
    with small_disk(tmp_path / "disk", 512) as disk:
        path = disk / "replica.db"
        ballast = fill_up(disk)
        ends = 0
        while not path.exists():
            told = ""
            try:
                prepare(Database(url), path)
            except StoreWriteError as error:
                told = str(error)
            if told:
                ends += 1
                assert "there is no replica yet, and it can't be made" in told
                assert "make room" in told
                assert [*disk.iterdir()] == [ballast]
                os.truncate(ballast, ballast.stat().st_size - 16384)
        assert ends > 3
        ballast.unlink()  # SQLite needs room to read, too
        assert rows_of_replica(path) == rows_of_truth(url)


@as_root
def test_copy_that_heals_is_tried_until_it_fits(server: Cluster, follow: Follow, tmp_path: Path) -> None:
    """Meanwhile the replica is as it was."""
    url = with_tables(server)
    with small_disk(tmp_path / "disk", 1024) as disk:
        following = follow(url, folder=disk)
        following.wait_to_be_equal()
        before = following.rows()
        ballast = fill_up(disk)
        forge_history(url)
        following.wait_for("another one than the replica has followed")
        following.wait_for("make room on the disk")
        os.truncate(ballast, ballast.stat().st_size - 65536)  # SQLite needs room to read, too
        assert following.rows() == before
        ballast.unlink()
        following.wait_for("event=replica-copied")
        following.wait_to_be_equal()
        following.end()


@as_root
@drill(
    "the disk of a mail host is read-only",
    made="tmpfs, remounted read-only; the daemon starts there",
    client="nothing: the answer comes from the host's replica as it is",
    log="one warning, and `event=replica-followed` when it can be written",
)
def test_host_answers_from_a_disk_that_is_read_only(server: Cluster, make_host: MakeHost, tmp_path: Path) -> None:
    """Linux does that to a disk that fails, and then somebody restarts the machine."""
    url = with_tables(server)
    with small_disk(tmp_path / "disk", 1024) as disk:
        host = host_on(disk, make_host, url)
        prepare(Database(url), host.replica)
        run(url, "mailbox restrict bob")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        host.start()
        assert "its disk is read-only" in host.syslog.wait_for("the replica is not followed")
        assert host.answer("bob@example.com") == "DUNNO"
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        host.syslog.wait_for("event=replica-followed")
        host.wait_for("bob@example.com", "REJECT")
        assert len(host.syslog.matching("warning=")) == 1
        assert host.stop()[0] == 0


# --- Where a replica can't be ---


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        pytest.param("folder", 69, "it is a folder, and no file; name another one", id="a folder"),
        pytest.param("pipe", 69, "it is a pipe, and no file; name another one", id="a pipe"),
        pytest.param("text", 69, "it is no replica; name another file for it", id="another file"),
        pytest.param("dangling", 73, "it is a link to nothing; type: rm ", id="a link to nothing"),
        pytest.param("no/replica.db", 73, "there is no folder {folder}/no; make it with: install -d", id="no folder"),
    ],
)
def test_replica_in_a_wrong_place_is_refused(
    server: Cluster, tmp_path: Path, name: str, status: int, told: str
) -> None:
    """One line that says what is there, and nothing is left behind."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("some text")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError) as refused:
        prepare(Database(with_tables(server)), tmp_path / name)
    assert refused.value.exit_status == status
    assert told.format(folder=tmp_path) in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


@as_root
def test_replica_in_a_folder_of_another_user_is_refused_before_it_is_copied(
    server: Cluster, make_host: MakeHost
) -> None:
    """A file of root's there would be in the way of the right settings."""
    host = make_host(with_tables(server))
    folder = host.folder / "foreign"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    host.write_settings(f'replica = "{folder}/replica.db"')
    status, told = host.refuse()
    assert (status, told.count("\n")) == (78, 1)
    assert "as root, policyd does not serve" in told
    assert [*folder.iterdir()] == []
