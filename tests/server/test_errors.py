"""What can be wrong with a server: a line that says what and what to do, status 69 or 78, and nothing half done."""

import os
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from policyd.store import postgresql
from tests.server.cutting import cutting
from tests.support import preloaded
from tests.support.command_line import CommandLine
from tests.support.disks import fill_up, small_disk
from tests.support.drills import drill
from tests.support.postgresql import Cluster
from tests.support.required import as_root
from tests.support.waiting import LIMIT_SECONDS, until

READS, CHANGES = "domain list", "domain add other.example"
SECRET = "hunter2-is-a-secret"


def refused(policyd: CommandLine, url: str, line: str = READS, status: int = 69) -> str:
    """The one line that the command ends with on the database with this *url*; there is no secret in it."""
    ended = policyd.ends(line, POLICYD_DATABASE=url)
    assert (ended.status, ended.out, len(ended.err.splitlines())) == (status, "", 1), ended
    assert SECRET not in ended.err
    assert "Traceback" not in ended.err
    return ended.err.strip()


@pytest.mark.parametrize("line", [READS, CHANGES, "database check", "database stats", "history", "export"])
def test_server_that_can_not_be_reached_is_one_line(policyd, server, line):
    """Whatever the reason: nobody there, no such host, no such socket, no such database, nobody of that name."""
    for url, reason in {
        f"postgresql://owner:{SECRET}@127.0.0.1:1/x": "onnection refused",
        f"postgresql://owner:{SECRET}@localhost.invalid/x?sslmode=verify-full": "localhost.invalid",
        f"postgresql://owner:{SECRET}@/x?host=/nonexistent": "No such file or directory",
        f"postgresql://owner:{SECRET}@127.0.0.1:{server.port}/nothing": 'database "nothing" does not exist',
        f"postgresql://nobody:{SECRET}@127.0.0.1:{server.port}/{policyd.name}": 'role "nobody" does not exist',
    }.items():
        message = refused(policyd, url, line)
        assert message.startswith("policyd: postgresql://")
        assert reason in message


@pytest.fixture
def with_password(own: CommandLine, own_server: Cluster) -> str:
    """The URL of the database for a user who needs a password, which is `SECRET`."""
    own_server.execute(f"CREATE ROLE careful LOGIN SUPERUSER PASSWORD '{SECRET}'")
    rules = own_server.data / "pg_hba.conf"
    rules.write_text(f"local all careful scram-sha-256\nhost all careful all scram-sha-256\n{rules.read_text()}")
    own_server.execute("SELECT pg_reload_conf()")
    url = f"postgresql://careful@127.0.0.1:{own_server.port}/{own.name}"
    until(lambda: "password" in own.ends(READS, POLICYD_DATABASE=url).err, "the server to ask for a password")
    return url


def set_password(policyd: CommandLine, content: str, mode: int = 0o600) -> Path:
    """Have the settings name a file with the password."""
    file = policyd.folder / "password"
    file.write_text(content)
    file.chmod(mode)
    policyd.settings.write_text(f'password_file = "{file}"\n[audit]\nsyslog = "none"\n')
    return file


def test_password_comes_from_a_file_and_a_wrong_one_is_told(own, with_password, monkeypatch):
    """Of a missing one, too; the file is whoever's that runs it, and what is wrong with it is said."""
    assert "see the setting password_file" in refused(own, with_password)
    set_password(own, "wrong")
    message = refused(own, with_password)
    assert 'password authentication failed for user "careful"; see the setting password_file' in message
    file = set_password(own, f"{SECRET}\n")
    assert own.ends(READS, POLICYD_DATABASE=with_password).out == "example.com\treject\n"
    file.unlink()
    assert refused(own, with_password, status=78).endswith(f"password_file: {file}: No such file or directory")
    file.write_bytes(b"\xff")
    assert refused(own, with_password, status=78).endswith(f"password_file: {file}: it is not UTF-8 text")

    # systemd's credential, without a setting.
    own.settings.write_text('[audit]\nsyslog = "none"\n')
    (own.folder / "database-password").write_text(SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(own.folder))
    assert own.ends(READS, POLICYD_DATABASE=with_password).status == 0


def test_remote_server_must_prove_that_it_is_the_one(policyd):
    """Else somebody in the network says who may send; only who asks for that in so many words does without."""
    url = "postgresql://db.invalid/policyd"
    for without in ("", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=prefer", "?service=x"):
        message = refused(policyd, url + without, status=78)
        assert message == (
            "policyd: database: postgresql://db.invalid/policyd is on another machine, and nothing proves that it is "
            "the one: add sslmode=verify-full to the URL, behind a question mark, or say allow_insecure_database = "
            "true in the settings file"
        )
    assert "can't be reached" in refused(policyd, f"{url}?sslmode=verify-full")
    policyd.settings.write_text('allow_insecure_database = true\n[audit]\nsyslog = "none"\n')
    assert "can't be reached" in refused(policyd, url)


def test_certificate_of_another_name_is_refused(own, own_server):
    """verify-full takes the right one and no other, over a real TLS connection."""
    data = own_server.data
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(
        [*command.split(), "-keyout", data / "server.key", "-out", data / "server.crt"], check=True, capture_output=True
    )
    owner = data.stat()
    os.chown(data / "server.key", owner.st_uid, owner.st_gid)
    (data / "server.key").chmod(0o600)
    (data / "server.crt").chmod(0o644)
    certificate = own.folder / "server.crt"
    certificate.write_bytes((data / "server.crt").read_bytes())
    own_server.execute("ALTER SYSTEM SET ssl = on")
    own_server.execute("SELECT pg_reload_conf()")
    query = f"sslmode=verify-full&sslrootcert={certificate}"
    right = f"postgresql://owner@localhost:{own_server.port}/{own.name}?{query}"
    until(lambda: own.ends(READS, POLICYD_DATABASE=right).status == 0, "the server to have TLS")
    assert 'does not match host name "127.0.0.1"' in refused(own, right.replace("localhost", "127.0.0.1"))
    (certificate).write_text("")
    assert "certificate" in refused(own, right)


def test_standby_is_read_and_not_changed(own, own_server):
    """Reading goes on while the primary is away; a change says which server it wants."""
    standby = own_server.make_standby()
    try:
        url = standby.url(own.name)
        until(lambda: own.ends(READS, POLICYD_DATABASE=url).out == "example.com\treject\n", "the standby to have it")
        for line in (CHANGES, "undo 1"):
            message = refused(own, url, line)
            assert message == (
                f"policyd: postgresql://owner@/{own.name}: the server is a standby, or allows no changes; "
                "name the primary one"
            )
        assert own.ends("database check", POLICYD_DATABASE=url).status == 0
        both = f"postgresql://owner@/{own.name}?host={standby.folder},{own_server.folder}"
        both += f"&port={standby.port},{own_server.port}"
        assert own.ends(CHANGES, POLICYD_DATABASE=both).status == 0, "of several, a change takes the one that allows it"
    finally:
        standby.remove()


def test_command_that_does_not_end_is_told_after_a_while(policyd, monkeypatch):
    """Whoever types waits for others, but not for ever; who reads doesn't wait at all."""
    monkeypatch.setattr(postgresql, "_QUIET_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(postgresql, "_WRITER_WAIT_SECONDS", 0.1)
    with psycopg.connect(policyd.url) as other:
        other.execute("SELECT * FROM journal_head FOR UPDATE")
        for line in (CHANGES, "undo 1"):
            ended = policyd.ends(line)
            assert ended.status == 69
            assert ended.err.splitlines()[-1] == (
                f"policyd: {policyd.store}: another command is changing the tables and does not end; try again"
            )
        assert policyd.run(READS) == "example.com\treject\n"
    policyd.run(CHANGES)


def test_wait_for_another_command_is_said_once(policyd):
    """Else whoever typed it believes that it hangs, and ends it."""
    with psycopg.connect(policyd.url) as other:
        other.execute("SELECT * FROM journal_head FOR UPDATE")
        with policyd.start(["domain", "add", "other.example"]) as command:
            assert command.stderr is not None
            assert "waiting for another command" in command.stderr.readline()
            other.rollback()
            assert command.stderr.read() == ""
    assert command.returncode == 0


def test_frozen_command_is_got_rid_of(policyd, monkeypatch):
    """A stopped process must not hold the company's tables for ever; what it had begun is gone."""
    monkeypatch.setattr(postgresql, "_IDLE_SECONDS", 0.5)
    pid = os.fork()
    if pid == 0:
        try:
            with postgresql.changing(policyd.store) as connection:
                connection.driver.execute("UPDATE domain SET comment = 'half'")
                os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    try:
        policyd.run(CHANGES)
        assert policyd.journal() == [("domain.add", "example.com"), ("domain.add", "other.example")]
        assert policyd.rows("SELECT DISTINCT comment FROM domain") == [("",)]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_limit_of_the_server_s_own_is_told(policyd):
    """An operator may bound a statement."""
    with psycopg.connect(policyd.url) as other:
        other.execute("SELECT * FROM journal_head FOR UPDATE")
        message = policyd.ends(CHANGES, POLICYD_DATABASE=f"{policyd.url}&options=-cstatement_timeout%3D100").err
    assert "nothing was changed: the server gave up: canceling statement due to statement timeout" in message
    assert message.count("\n") == 1


def test_role_that_may_only_read_is_told(policyd, server):
    """With a line that says whose fault that is."""
    server.execute("DO $$ BEGIN CREATE ROLE looker LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker", policyd.name)
    url = policyd.url.replace("owner@", "looker@")
    assert policyd.ends(READS, POLICYD_DATABASE=url).status == 0
    assert policyd.ends("database check", POLICYD_DATABASE=url).status == 0
    message = refused(policyd, url, CHANGES)
    assert (
        "nothing was changed: the server says: permission denied for table journal_head; be a role that may" in message
    )


WORDS = ["mailbox", "add", "alice", "alice@example.com"]
WAITS = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND now() - query_start > interval '%s ms'"
IMPATIENT = """
import sys
from policyd.store import postgresql
postgresql._CALL_SECONDS = 5.0
from policyd.cli import main
main(sys.argv[1:])
"""


@contextmanager
def in_the_middle(own: CommandLine, own_server: Cluster, code: str = "", milliseconds: int = 0) -> Iterator[Any]:
    """A command that has the lock and waits in the middle, for a table that somebody else has for so long at least."""
    with psycopg.connect(own.url) as other:
        other.execute("LOCK TABLE address IN EXCLUSIVE MODE")
        with preloaded.start(
            [*([sys.executable, "-c", code] if code else preloaded.PROGRAM), *WORDS],
            env={**os.environ, **own.environment},
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            try:
                until(lambda: own_server.execute(WAITS % milliseconds), "the command to wait")
                yield other, command
            finally:
                command.kill()
                other.close()


def must_have_changed_nothing(own: CommandLine) -> None:
    """And it can be done again."""
    assert own.run("mailbox list") == ""
    assert len(own.journal()) == 1
    own.run(shlex.join(WORDS))


def test_table_that_somebody_has_locked_is_waited_for(own, own_server):
    """An index that is made anew takes longer than the second after which a wait for another command is told."""
    with in_the_middle(own, own_server, milliseconds=1500) as (other, command):
        other.rollback()
        assert (command.communicate(timeout=LIMIT_SECONDS)[1], command.returncode) == ("", 0)
    assert own.run("mailbox list").startswith("alice")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "killed"])
def test_server_that_goes_in_the_middle_of_a_command_leaves_nothing_half_done(own, own_server, how):
    """Whoever typed it can do it again."""
    with in_the_middle(own, own_server) as (_, command):
        own_server.stop(how)
        _, message = command.communicate(timeout=LIMIT_SECONDS)
    own_server.start()
    assert "the connection was lost, and nothing was changed" in message
    assert (command.returncode, message.count("\n")) == (69, 1), message
    must_have_changed_nothing(own)


def test_server_that_freezes_in_the_middle_of_a_command_leaves_nothing_half_done(own, own_server):
    """It has the connection, its kernel answers, and it says nothing: no setting of libpq's bounds that."""
    with in_the_middle(own, own_server, IMPATIENT) as (_, command):
        own_server.freeze()
        try:
            _, message = command.communicate(timeout=LIMIT_SECONDS)
        finally:
            own_server.freeze(signal.SIGCONT)
    assert "the server does not answer, and nothing was changed; try again" in message
    assert (command.returncode, message.count("\n")) == (69, 1), message
    must_have_changed_nothing(own)


@pytest.mark.parametrize(("arrives", "stays"), [(True, True), (False, True), (True, False)])
def test_connection_lost_at_the_commit_says_what_became_of_it(policyd, server, monkeypatch, arrives, stays):
    """Kept, it is a success; not kept, it says so; and where nobody can tell, that: it is never done twice."""
    monkeypatch.setattr(postgresql, "_TRIES", 2)
    with cutting(server.port, b"COMMIT", arrives=arrives, stays=stays) as cutter:
        ended = policyd.ends(CHANGES, POLICYD_DATABASE=f"postgresql://owner@127.0.0.1:{cutter.port}/{policyd.name}")
    assert cutter.has_cut
    is_kept = ("domain.add", "other.example") in policyd.journal()
    assert is_kept is arrives
    if stays:
        assert ended.status == (0 if arrives else 74), ended
    else:
        assert ended.status == 69
        assert "it is not known whether change 2 was kept; see policyd history" in ended.err
    assert len(ended.err.splitlines()) == (0 if arrives and stays else 1), ended


@as_root
@drill(
    "the disk with the PostgreSQL server's log of changes is full",
    made="its WAL on a small tmpfs: the server crashes, and does not come up before there is room",
    client="nothing: hosts answer from their replicas",
    log="nothing; the command: one line, status 69",
    lost="nothing: what was being changed is not changed",
)
def test_full_disk_that_brings_the_server_down_leaves_nothing_half_done(tmp_path):
    """PostgreSQL ends itself where it can't write its log; that a table's disk is full, it only says."""
    cluster = Cluster(settings=["min_wal_size=2MB", "max_wal_size=2MB"])
    try:
        with small_disk(cluster.folder / "log-of-changes", 24 * 1024) as disk:
            cluster.initialize("--wal-segsize=1", f"--waldir={disk}/wal")
            cluster.start()
            commands = CommandLine(tmp_path)
            commands.be_on(cluster)
            commands.run("domain add example.com")
            cluster.execute("CHECKPOINT")
            ballast = fill_up(disk)
            file = tmp_path / "many.csv"
            chance = random.Random(1)
            rows = (f"m{each},{chance.randbytes(900).hex()}\n" for each in range(1200))  # which can't be compressed
            file.write_text("name,comment\n" + "".join(rows))
            message = refused(commands, commands.url, f"import {file}")
            assert "the connection was lost" in message
            ballast.unlink()
            cluster.stop(signal.SIGQUIT)
            cluster.start()
            assert len(commands.journal()) == 1
            assert commands.run("mailbox list") == ""
            commands.run(CHANGES)
            assert commands.run("database check") == ""
            cluster.stop()
    finally:
        cluster.remove()


# --- What there is, is something else ---


def test_database_without_tables_says_how_to_make_them(policyd, server):
    """As for a file."""
    name = server.make_empty()
    for line in (READS, CHANGES, "database check", "database upgrade --yes"):
        message = refused(policyd, server.url(name), line)
        assert message.endswith(f"{name}: has no tables of policyd; make them with: policyd database create"), line
    policyd.ends("database create", POLICYD_DATABASE=server.url(name))
    assert policyd.ends(READS, POLICYD_DATABASE=server.url(name)).status == 0
    assert "it has the tables already" in refused(policyd, server.url(name), "database create", 73)


def test_somebody_else_s_database_is_left_alone(policyd, server):
    """Its tables are not ours, whatever they are called."""
    name = server.make_empty()
    server.execute("CREATE TABLE orders (id INTEGER)", name)
    assert refused(policyd, server.url(name), "database create", 73).endswith(
        f"{name}: it has a table orders; it was left as it is"
    )
    server.execute("CREATE TABLE journal_head (id INTEGER)", name)
    for line in (READS, CHANGES):
        assert refused(policyd, server.url(name), line).startswith("policyd: postgresql://owner@/")


@pytest.mark.parametrize(("version", "advice"), [(1, "type: policyd database upgrade"), (99, "install that policyd")])
def test_tables_of_another_version_are_not_touched(policyd, version, advice):
    """Older ones are upgraded by a command; newer ones need the newer policyd."""
    policyd.rows(f"UPDATE journal_head SET schema = {version}")
    for line in (READS, CHANGES, "database check"):
        assert policyd.refuses(line, 69).endswith(advice)


@pytest.mark.parametrize(
    ("other", "how"), [("ascii", "ENCODING 'SQL_ASCII' LOCALE 'C'"), ("locale", "ENCODING 'UTF8' LOCALE 'C.UTF-8'")]
)
def test_database_of_another_locale_is_refused_with_the_command_that_makes_one(policyd, server, other, how):
    """Texts there would be in another order than on the hosts."""
    name = f"of_another_{other}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE template0 {how}")
    message = refused(policyd, server.url(name), "database create", 73)
    assert message.endswith("make another database with: createdb --template=template0 --encoding=UTF8 --locale=C NAME")


@pytest.mark.parametrize("text", ["a\\x00b", "\\udcff"])
def test_text_that_postgresql_can_not_hold_is_refused_where_it_comes_in(policyd, text):
    """Not by the driver, in the middle of it."""
    value = text.encode().decode("unicode_escape")
    ended = policyd.ends(f"mailbox add alice alice@example.com --comment '{value}'")
    assert ended.status in (1, 2)
    assert len(ended.err.splitlines()) == 1
    file = policyd.folder / "people.jsonl"
    said = text.replace("\\x00", "\\u0000")
    file.write_text(f'{{"kind": "mailbox", "name": "bob", "comment": "{said}"}}\n')
    ended = policyd.ends(f"import {file}")
    assert ended.status == 65, ended
    assert policyd.run("mailbox list") == ""
