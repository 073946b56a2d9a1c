"""The daemon as a process: what it does with sockets, signals, settings, and a database that others change."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from policyd import __version__
from policyd.store.schema import VERSION
from tests.support import preloaded
from tests.support.fake_smtpd import FakeSmtpd, request
from tests.support.ports import free_port
from tests.support.required import give_up
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until

UNLISTED = "REJECT 5.1.1 This address does not receive mail"
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def daemon(tmp_path) -> Iterator[Daemon]:
    """A daemon that is not started yet, with a folder and a syslog of its own."""
    with Daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def serving(daemon: Daemon) -> Daemon:
    """A daemon that runs, and knows alice@example.com."""
    daemon.make_tables("alice")
    daemon.start()
    return daemon


def ask_for(name: str) -> bytes:
    """Whether *name* in example.com may receive."""
    return request(recipient=f"{name}@example.com")


def test_several_endpoints_are_served_at_once_and_sockets_have_their_mode(daemon):
    """One for Postfix in its chroot, one for another host's tunnel: each with the permissions that were asked for."""
    port, other = free_port(), daemon.folder / "other.sock"
    endpoints = [f"unix:{daemon.socket}", f"unix:{other}:mode=600", f"tcp:{port}:interface=127.0.0.1"]
    daemon.write_settings(listen=endpoints)
    daemon.make_tables("alice")
    daemon.start()
    for address in (str(daemon.socket), str(other), ("127.0.0.1", port)):
        with FakeSmtpd(address) as smtpd:
            assert smtpd.ask(ask_for("alice")) == "DUNNO"
            assert smtpd.ask(ask_for("joe")) == UNLISTED
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert daemon.syslog.matching("event=listening") == [f"event=listening, on={each}" for each in endpoints]
    assert daemon.stop() == (0, "")
    assert not daemon.socket.exists()
    assert not other.exists()
    assert daemon.syslog.lines()[-1].startswith("event=stopped, pid=")


def test_effective_settings_are_logged_once_at_the_start(daemon):
    """What is in force is what was merged from four places; the log says what that is."""
    daemon.make_tables()
    daemon.write_settings('mode = "monitor"', 'insider_networks = ["10.0.0.0/8"]')
    daemon.start()
    (line,) = daemon.syslog.matching("event=started")
    for part in (
        f"version={__version__}",
        f"database=sqlite:///{daemon.database}",
        "mode=monitor",
        "insider_networks=10.0.0.0/8",
        "recipient_delimiter=+",
        "always_accept=postmaster",
        "allow_remote=false",
        "audit.decisions=all",
        "audit.facility=mail",
        'reply.unlisted-recipient="This address does not receive mail"',
    ):
        assert part in line


def test_stale_socket_is_replaced(daemon):
    """After a crash or a power cut the daemon must come back by itself."""
    daemon.make_tables("alice")
    with closing(socket.socket(socket.AF_UNIX)) as crashed:
        crashed.bind(str(daemon.socket))
    assert daemon.socket.is_socket()
    daemon.start()
    assert daemon.ask(ask_for("alice")) == "DUNNO"


def test_second_daemon_leaves_the_first_one_alone(serving):
    """Two starts in a row must not leave a daemon that nobody can reach."""
    assert serving.refuse() == (
        69,
        f"policyd: can't listen on {serving.socket}: a server is listening there already; stop it first\n",
    )
    assert serving.ask(ask_for("alice")) == "DUNNO"


def test_file_in_the_way_is_not_removed(daemon):
    """A mistyped path must not cost a file."""
    daemon.make_tables()
    daemon.socket.write_text("precious")
    assert daemon.refuse() == (
        69,
        f"policyd: can't listen on {daemon.socket}: there is a file by that name that is no socket; remove it\n",
    )
    assert daemon.socket.read_text() == "precious"


def test_missing_folder_of_the_socket_is_told_and_nothing_is_left_listening(daemon):
    """Postfix's queue directory without our folder is the commonest mistake of all."""
    daemon.make_tables()
    endpoint = f"unix:{daemon.folder}/none/policy.sock"
    daemon.write_settings(listen=[f"unix:{daemon.socket}", endpoint])
    assert daemon.refuse() == (
        69,
        f"policyd: can't listen on {endpoint}: No such file or directory; see the setting listen\n",
    )
    assert not daemon.socket.exists()


def test_taken_port_is_told(daemon):
    """A daemon that only logs it and goes on serves nobody."""
    daemon.make_tables()
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        endpoint = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        assert daemon.refuse("--listen", endpoint) == (
            69,
            f"policyd: can't listen on {endpoint}: Address already in use; see the setting listen\n",
        )


def test_missing_database_is_not_made_and_nothing_listens(daemon):
    """A mistyped path must not become a daemon that has no objection to anything."""
    assert daemon.refuse() == (
        69,
        f"policyd: {daemon.database}: there is no database; make it with: policyd database create\n",
    )
    assert not daemon.database.exists()
    assert not daemon.socket.exists()


def test_bad_settings_end_the_start_with_one_line(daemon):
    """Half-started is worse than not started."""
    daemon.make_tables()
    daemon.write_settings('mode = "moniter"')
    status, told = daemon.refuse()
    assert status == 78
    assert told.startswith(f"policyd: {daemon.config}: mode: ")
    assert told.count("\n") == 1
    assert not daemon.socket.exists()


def test_sigterm_answers_what_is_on_its_way_and_closes_the_idle(serving):
    """A restart must not cost a mail."""
    with FakeSmtpd(str(serving.socket)) as idle, FakeSmtpd(str(serving.socket)) as asking:
        assert idle.ask(ask_for("alice")) == "DUNNO"
        asked = ask_for("joe")
        asking.send(asked[:-10])
        assert idle.ask(ask_for("alice")) == "DUNNO"  # by now the half request has been read, too
        serving.tell(signal.SIGTERM)
        idle.must_hang_up()
        until(lambda: not serving.socket.exists(), "the socket file to go")
        asking.send(asked[-10:])
        assert asking.read_reply() == UNLISTED
        asking.must_hang_up()
    assert serving.ended() == (0, "")


def test_sighup_reads_the_settings_again_on_standing_connections(serving):
    """Postfix keeps its connections for 1000 s: the new settings count on them at once."""
    with FakeSmtpd(str(serving.socket)) as smtpd:
        assert smtpd.ask(ask_for("joe")) == UNLISTED
        serving.write_settings('mode = "monitor"')
        assert "mode=monitor" in serving.reload()
        assert smtpd.ask(ask_for("joe")) == "DUNNO"
    assert "would=REJECT" in serving.syslog.wait_for("action=DUNNO")


def test_bad_new_settings_keep_the_old_ones_and_say_why(serving):
    """A typing error at noon must not stop the mail."""
    for bad in ('mode = "moniter"', "nonsense = 1", "= broken", 'database = "sqlite:////nowhere/policyd.db"'):
        kept = serving.config.read_text()
        serving.config.write_text(f"{bad}\n" if "database" in bad else f"{bad}\n{kept}")
        line = serving.reload("warning=")
        assert line.startswith('warning="the settings stay as they were: ')
        assert ("/nowhere/policyd.db" if "database" in bad else str(serving.config)) in line
        assert serving.ask(ask_for("joe")) == UNLISTED
        serving.config.write_text(kept)
    assert serving.stop() == (0, "")


def test_sighup_can_lead_to_another_database(serving):
    """The path of the database is a setting like any other."""
    other = serving.folder / "other.db"
    serving.command("domain", "add", "example.com", database=other)
    serving.command("mailbox", "add", "joe", "joe@example.com", database=other)
    serving.database = other
    serving.write_settings()
    serving.reload()
    assert [serving.ask(ask_for(name)) for name in ("alice", "joe")] == [UNLISTED, "DUNNO"]


def test_change_is_in_force_at_the_next_request_on_a_standing_connection(serving):
    """The promise of the whole thing: when the command returns, the next answer knows of it."""
    with FakeSmtpd(str(serving.socket)) as smtpd:
        for number in range(3):
            assert smtpd.ask(ask_for(f"m{number}")) == UNLISTED
            serving.command("mailbox", "add", f"m{number}", f"m{number}@example.com")
            assert smtpd.ask(ask_for(f"m{number}")) == "DUNNO"
        serving.command("mailbox", "restrict", "alice", "--reason", "internal")
        assert smtpd.ask(ask_for("alice")).endswith(": internal")


def integrity(database: Path) -> list[tuple[str]]:
    """SQLite's own opinion of the file."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall()


def write_backup(daemon: Daemon, target: Path, mailboxes: int) -> None:
    """A database with joe, without alice, and with that many other mailboxes, as one file."""
    daemon.command("domain", "add", "example.com", database=target)
    daemon.command("mailbox", "add", "joe", "joe@example.com", database=target)
    names = [(f"other {number}", f"other {number}") for number in range(mailboxes)]
    with closing(sqlite3.connect(target)) as connection:
        connection.executemany(
            "INSERT INTO mailbox (name, folded_name, receive, reason, comment) VALUES (?, ?, 'inherit', '', '')", names
        )
        connection.execute("UPDATE journal_head SET next_mailbox = (SELECT max(id) + 1 FROM mailbox)")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not Path(f"{target}-wal").exists()


SIZES = {"bigger": (0, 3000), "a page bigger": (0, 60), "as big": (0, 0), "smaller": (3000, 0)}


@pytest.mark.parametrize(("before", "after"), SIZES.values(), ids=SIZES)
def test_database_that_is_moved_into_place_is_noticed_at_the_next_request(daemon, before, after):
    """`mv` of a restored backup is how databases are put back, and nobody remembers a restart at that hour."""
    restored = daemon.folder / "restored.db"
    write_backup(daemon, daemon.database, before)
    daemon.command("address", "remove", "joe@example.com")
    write_backup(daemon, restored, after)
    daemon.start()
    with FakeSmtpd(str(daemon.socket)) as smtpd:
        assert smtpd.ask(ask_for("joe")) == UNLISTED
        restored.rename(daemon.database)
        assert smtpd.ask(ask_for("joe")) == "DUNNO"
    assert integrity(daemon.database) == [("ok",)]


@pytest.mark.parametrize(("before", "after"), SIZES.values(), ids=SIZES)
def test_change_between_the_move_and_the_next_request_harms_nothing(daemon, before, after):
    """The daemon still holds the old file then, and SQLite's index of the log beside it describes the old one."""
    daemon.make_tables("alice")
    write_backup(daemon, daemon.folder / "0.db", before)
    write_backup(daemon, daemon.folder / "1.db", after)
    daemon.start()
    with FakeSmtpd(str(daemon.socket)) as smtpd:
        for number in (0, 1, 0):
            assert smtpd.ask(ask_for("alice")) in ("DUNNO", UNLISTED)
            daemon.command("mailbox", "add", f"late {number}", "late@example.com")  # fills the index
            shutil.copy(daemon.folder / f"{number}.db", daemon.folder / "restored.db")
            (daemon.folder / "restored.db").rename(daemon.database)
            daemon.command("mailbox", "add", "new", "new@example.com")
            answers = [smtpd.ask(ask_for(name)) for name in ("new", "joe", "alice", "late")]
            assert answers == ["DUNNO", "DUNNO", UNLISTED, UNLISTED]
            assert integrity(daemon.database) == [("ok",)]
    assert daemon.syslog.matching("warning=") == []


def test_moved_database_with_another_daemon_still_on_the_old_one(daemon):
    """spawn(8) starts a daemon a connection: one that sleeps on the old file must not spoil the new one."""
    daemon.make_tables("alice")
    restored = daemon.folder / "restored.db"
    write_backup(daemon, restored, 3000)
    daemon.start()
    sleeping, child = socket.socketpair()
    with (
        sleeping,
        child,
        preloaded.start(daemon.arguments("serve", "--stdio"), stdin=child.fileno(), stdout=child.fileno()) as second,
    ):
        child.close()
        sleeping.settimeout(LIMIT_SECONDS)
        sleeping.sendall(ask_for("alice"))
        assert sleeping.recv(4096) == b"action=DUNNO\n\n"
        daemon.command("mailbox", "add", "late", "late@example.com")
        restored.rename(daemon.database)
        assert daemon.ask(ask_for("joe")) == "DUNNO"
        daemon.command("mailbox", "add", "new", "new@example.com")
        assert daemon.ask(ask_for("new")) == "DUNNO"
        sleeping.sendall(ask_for("new"))
        assert sleeping.recv(4096) == b"action=DUNNO\n\n"
        sleeping.close()
        assert second.wait(LIMIT_SECONDS) == 0
    assert integrity(daemon.database) == [("ok",)]


def remove(database: Path) -> None:
    database.unlink()


def move_garbage(database: Path) -> None:
    garbage = database.with_name("garbage")
    garbage.write_bytes(os.urandom(20_000))
    garbage.rename(database)


def write_garbage(database: Path) -> None:
    database.write_bytes(os.urandom(20_000))


def make_it_another_programs(database: Path) -> None:
    other = database.with_name("other")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE domain (name TEXT)")
    other.rename(database)


def make_it_newer(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


TROUBLE = {
    "deleted": (remove, "there is no database; make it with: policyd database create"),
    "garbage moved into place": (move_garbage, "not a policyd database, or damaged"),
    "garbage written over it": (write_garbage, "not a policyd database, or damaged"),
    "another program's": (make_it_another_programs, "not a policyd database; say where yours is with --database"),
    "from a newer policyd": (make_it_newer, f"made by a newer policyd (tables version {VERSION + 1}, this one knows"),
}


@pytest.mark.parametrize(("spoil", "reason"), TROUBLE.values(), ids=TROUBLE)
def test_unreadable_database_gives_no_answers_until_it_is_repaired(serving, spoil, reason):
    """DUNNO would open every mailbox, REJECT would bounce good mail: Postfix decides, as its default_action says."""
    backup = serving.folder / "backup.db"
    shutil.copy(serving.database, backup)
    with FakeSmtpd(str(serving.socket)) as smtpd:
        assert smtpd.ask(ask_for("alice")) == "DUNNO"
        spoil(serving.database)
        smtpd.send(ask_for("alice"))
        smtpd.must_hang_up()
    line = serving.syslog.wait_for("warning=")
    assert line.replace("\\x2c ", ", ").startswith(f'warning="hung up: {serving.database}: {reason}')
    assert line.endswith(", peer=unix")
    for _ in range(2):
        with FakeSmtpd(str(serving.socket)) as smtpd:
            smtpd.send(ask_for("joe"))
            smtpd.must_hang_up()
    backup.rename(serving.database)
    assert [serving.ask(ask_for(name)) for name in ("alice", "joe")] == ["DUNNO", UNLISTED]
    assert serving.stop() == (0, "")


def spawned(daemon: Daemon, raw: bytes, *options: str) -> tuple[int, bytes]:
    """What comes back over the one socket that spawn(8) makes of stdin, stdout and stderr."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        arguments = daemon.arguments("serve", "--stdio", *options)
        with preloaded.start(
            arguments, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=theirs.fileno()
        ) as process:
            theirs.close()
            ours.settimeout(LIMIT_SECONDS)
            ours.sendall(raw)
            ours.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(ConnectionResetError):  # it ended without reading what was sent
                while more := ours.recv(4096):
                    received += more
            return process.wait(LIMIT_SECONDS), received


def test_spawned_daemon_answers_and_ends_at_the_end_of_input(daemon):
    """Nothing but replies may be on the wire, and every request that came before the end gets its own."""
    daemon.make_tables("alice")
    expected = f"action=DUNNO\n\naction={UNLISTED}\n\n".encode()
    for _ in range(2):
        assert spawned(daemon, ask_for("alice") + ask_for("joe")) == (0, expected)
    assert daemon.syslog.matching("warning=") == []


def test_spawned_daemon_that_nobody_asks_ends_without_a_word(daemon):
    """smtpd may connect and go away."""
    daemon.make_tables()
    assert spawned(daemon, b"") == (0, b"")


def test_spawned_daemon_says_nothing_on_the_wire_when_it_is_asked_junk(daemon):
    """The warning goes to the log."""
    daemon.make_tables("alice")
    assert spawned(daemon, ask_for("alice") + b"junk\n\n") == (0, b"action=DUNNO\n\n")
    assert daemon.syslog.wait_for("warning=") == "warning=\"hung up: a line without '=': 'junk'\", peer=unix"


def test_spawned_daemon_with_a_mistyped_option_says_nothing_on_the_wire(daemon):
    """A slip in master.cf must not put usage text where Postfix expects an answer."""
    daemon.make_tables("alice")
    assert spawned(daemon, ask_for("alice"), "--workes", "2") == (2, b"")


def test_spawned_daemon_without_a_database_says_nothing_on_the_wire(daemon):
    """Postfix would take the line for an answer that it does not understand, and say so instead of the cause."""
    status, received = spawned(daemon, ask_for("alice"))
    assert (status, received) == (69, b"")
    assert "there is no database" in daemon.syslog.wait_for("warning=")


@pytest.mark.parametrize("settings", ['mode = "moniter"', "= not TOML", "unknown = 1"])
def test_spawned_daemon_with_bad_settings_says_nothing_on_the_wire(daemon, settings):
    """Where the settings can't be read, there is the default syslog to tell."""
    daemon.make_tables()
    daemon.config.write_text(settings)
    assert spawned(daemon, ask_for("alice")) == (78, b"")


@pytest.mark.full
def test_spawned_daemon_stops_at_sigterm_in_the_middle_of_a_request(daemon):
    """Postfix's time limit ends it so; a process that stays would hold the connection and its memory."""
    daemon.make_tables("alice")
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        preloaded.start(daemon.arguments("serve", "--stdio"), stdin=theirs.fileno(), stdout=theirs.fileno()) as process,
    ):
        theirs.close()
        ours.settimeout(LIMIT_SECONDS)
        ours.sendall(ask_for("alice"))
        assert ours.recv(4096) == b"action=DUNNO\n\n"
        ours.sendall(b"request=smtpd_ac")
        process.terminate()
        try:
            assert process.wait(LIMIT_SECONDS) == 0
        finally:
            process.kill()
        assert ours.recv(4096) == b""


def test_piped_request_gets_its_answer(daemon):
    """`printf … | policyd serve --stdio` is how an administrator tries it."""
    daemon.make_tables("alice")
    tried = preloaded.run(daemon.arguments("serve", "--stdio"), given=ask_for("joe"))
    assert (tried.returncode, tried.stdout, tried.stderr) == (0, f"action={UNLISTED}\n\n".encode(), b"")


def test_half_closed_connection_still_gets_its_answers(serving):
    """So it is with `printf … | nc -N`."""
    with FakeSmtpd(str(serving.socket)) as smtpd:
        smtpd.send(ask_for("alice") + ask_for("joe"))
        smtpd.end_sending()
        assert [smtpd.read_reply(), smtpd.read_reply()] == ["DUNNO", UNLISTED]
        smtpd.must_hang_up()


def test_peer_that_reads_late_gets_every_answer_once_and_in_order(serving):
    """What its socket doesn't take at once must neither get lost nor overtake."""
    names = ["alice", "joe", "joe"] * 5000
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(serving.socket))
        peer.settimeout(LIMIT_SECONDS)
        sender = threading.Thread(target=peer.sendall, args=(b"".join(map(ask_for, names)),))
        sender.start()
        sender.join(1)  # by then nobody reads, and the socket is full
        expected = b"".join(f"action={'DUNNO' if name == 'alice' else UNLISTED}\n\n".encode() for name in names)
        received = b""
        while len(received) < len(expected) and (more := peer.recv(65536)):
            received += more
        sender.join(LIMIT_SECONDS)
    assert received == expected


def test_each_answer_is_on_record(serving):
    """The trail is complete when the answer is out."""
    serving.ask(ask_for("joe"))
    line = serving.syslog.wait_for("action=")
    assert line.startswith("action=REJECT, rule=unlisted-recipient, entry=, state=RCPT, queue_id=, ")


def test_syslog_that_nobody_reads_stops_no_answer(daemon):
    """The audit never blocks an answer."""
    deaf = daemon.folder / "deaf"
    daemon.make_tables("alice")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as log:
        log.bind(str(deaf))
        daemon.start()
        daemon.config.write_text(daemon.config.read_text().replace(f"unix:{daemon.folder / 'log'}", f"unix:{deaf}"))
        daemon.tell(signal.SIGHUP)
        until(lambda: b"event=reloaded" in log.recv(65536), "the new log")
        with FakeSmtpd(str(daemon.socket)) as smtpd:
            for _ in range(1000):
                assert smtpd.ask(ask_for("alice")) == "DUNNO"
        status, told = daemon.stop()
    assert status == 0
    assert told.startswith("policyd: warning: syslog took no lines to the end, dropped=9")


def test_daemon_of_another_user_and_commands_of_root_share_the_database(tmp_path):
    """The daemon runs as its own user, the administrator types as root: neither may lock the other out."""
    if not IS_ROOT:
        give_up("ROOT", "only root can start a daemon as another user")
    user = pwd.getpwnam("nobody")
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())  # one that others can reach
    try:
        os.chown(folder, user.pw_uid, user.pw_gid)
        with Daemon(folder, user.pw_name) as daemon:
            daemon.make_tables("alice")
            assert (daemon.database.stat().st_uid, stat.S_IMODE(daemon.database.stat().st_mode)) == (user.pw_uid, 0o640)
            daemon.start()
            with FakeSmtpd(str(daemon.socket)) as smtpd:
                for number in range(3):
                    assert smtpd.ask(ask_for("alice")) == "DUNNO"
                    daemon.command("mailbox", "add", f"m{number}", f"m{number}@example.com")
                    assert smtpd.ask(ask_for(f"m{number}")) == "DUNNO"
                    beside = [Path(f"{daemon.database}{suffix}") for suffix in ("", "-wal", "-shm")]
                    assert {each.stat().st_uid for each in beside if each.exists()} == {user.pw_uid}
            status, told = daemon.stop()
            assert (status, told) == (0, "")
            daemon.command("mailbox", "remove", "alice")
            owners = {each.name: each.stat().st_uid for each in folder.glob("policyd.db*")}
            assert set(owners.values()) == {user.pw_uid}
            assert json.loads(daemon.command("--json", "database", "stats"))["mailbox"] == 3
    finally:
        shutil.rmtree(folder)
