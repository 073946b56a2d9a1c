"""`policyd database upgrade` to the tables of the next version, on a server and on a file, and what follows it.

There is no such version yet: the tests bring a revision of their own (tests/support/next_version.py).
"""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from policyd.store.schema import VERSION
from tests.replica.hosts import Host
from tests.support.command_line import CommandLine, Ended
from tests.support.few import few
from tests.support.next_version import COMMAND, NextVersion
from tests.support.waiting import LIMIT_SECONDS, until


@pytest.fixture(scope="module")
def next_version():
    """A process of the next version."""
    with NextVersion() as version:
        yield version


@pytest.fixture
def newer(next_version):
    """How the command of the next version ends."""

    def newer(commands, line):
        ended = Ended(*next_version.ends(line, commands.environment))
        assert ended.status != 70, ended
        return ended

    return newer


@pytest.fixture(params=few(["file", "server"], "server"))
def either(request, tmp_path, server):
    """Commands on either engine."""
    commands = CommandLine(tmp_path)
    if request.param == "server":
        commands.be_on(server)
    commands.run("domain add example.com")
    commands.run("mailbox add alice alice@example.com")
    yield commands
    if commands.server:
        server.execute(f"DROP DATABASE {commands.name} WITH (FORCE)")


def versions(commands):
    """What the head of the journal says, and whether the index is there."""
    ((version,),) = commands.rows("SELECT schema FROM journal_head")
    catalog = "pg_indexes WHERE indexname" if commands.server else "sqlite_schema WHERE name"
    return version, bool(commands.rows(f"SELECT 1 FROM {catalog} = 'mailbox_until'"))


def test_tables_are_upgraded_whole_and_the_journal_says_so(either, newer):
    """By the newer policyd only, which then works; the older one says what to do, and does nothing."""
    assert newer(either, "domain list").err.strip().endswith("type: policyd database upgrade")
    ended = newer(either, "database upgrade --yes")
    assert ended.status == 0, ended
    assert versions(either) == (VERSION + 1, True)
    assert either.journal()[-1][0] == "database.upgrade"
    assert newer(either, "database check").status == 0
    assert newer(either, "domain add other.example").status == 0
    newer_one = f"made by a newer policyd (tables version {VERSION + 1}, this one knows {VERSION})"
    assert newer_one in either.refuses("domain list", 69)
    again = newer(either, "-v database upgrade")
    assert (again.status, "is up to date already" in again.err) == (0, True)


def test_upgrade_of_a_server_asks_for_a_backup(policyd, newer):
    """There is no file beside it with what it was."""
    ended = newer(policyd, "database upgrade")
    assert ended.status == 2
    assert "make a backup first with: pg_dump --format=custom. Add --yes." in ended.err
    assert versions(policyd) == (VERSION, False)


def test_statements_are_printed_and_nothing_is_changed(either, newer):
    """For a person who wants to see them first."""
    ended = newer(either, "database upgrade --sql")
    assert ended.status == 0
    assert "CREATE INDEX mailbox_until ON mailbox (until)" in ended.out
    assert "database.upgrade" in ended.out
    assert versions(either) == (VERSION, False)


def test_killed_half_way_it_has_not_begun(either, newer):
    """And the next one does it."""
    file = either.folder / "waits"
    with subprocess.Popen(
        [*COMMAND, "database", "upgrade", "--yes"],
        env={**os.environ, **either.environment, "POLICYD_TEST_WAIT": str(file)},
        stdin=subprocess.DEVNULL,
    ) as upgrade:
        until(file.exists, "the revision to run")
        upgrade.send_signal(signal.SIGKILL)
    assert versions(either) == (VERSION, False)
    either.run("domain add other.example")
    assert newer(either, "database upgrade --yes").status == 0
    assert versions(either) == (VERSION + 1, True)


def test_of_two_at_once_one_does_it(either):
    """The other one finds that it is done."""
    command = [*COMMAND, "database", "upgrade", "--yes"]
    environment = {**os.environ, **either.environment}
    both = [subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) for _ in range(2)]
    assert [each.wait(LIMIT_SECONDS) for each in both] == [0, 0]
    assert [operation for operation, _ in either.journal()].count("database.upgrade") == 1
    assert versions(either) == (VERSION + 1, True)


def test_host_stops_at_the_upgrade_serves_on_and_goes_on_as_the_newer_policyd(policyd, newer, tmp_path):
    """First the database, then the hosts: no question is left without an answer."""
    folder = tmp_path / "host"
    folder.mkdir()
    host = Host(folder, policyd.url)
    with host:
        policyd.run("mailbox add alice alice@example.com")
        host.start()
        host.wait_for("alice@example.com", "DUNNO")
        policyd.run("mailbox restrict alice")
        assert newer(policyd, "database upgrade --yes").status == 0
        assert newer(policyd, "mailbox lift alice").status == 0
        ((upgrade,),) = policyd.rows("SELECT id FROM change WHERE operation = 'database.upgrade'")
        upgraded = f"was upgraded at change {upgrade}, to tables of version {VERSION + 1}; this policyd knows"
        until(lambda: upgraded in host.status.problem, "to stop there")
        assert host.status.id == upgrade - 1
        assert host.answer("alice@example.com") == "REJECT"
        host.stop()

        # The newer policyd has its tables in place, before it reaches any database.
        code = "import sys; from tests.support.next_version import become; become(); from pathlib import Path;"
        code += "from policyd.replica.follower import prepare; from policyd.store.connection import Database;"
        code += "prepare(Database('postgresql://owner@/x?host=/nonexistent'), Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(host.replica)], check=True)
        with closing(sqlite3.connect(host.replica)) as replica:
            tables = {name for (name,) in replica.execute("SELECT name FROM sqlite_schema")}
            assert replica.execute("PRAGMA user_version").fetchall() == [(VERSION + 1,)]
        assert "mailbox_until" in tables
        assert not {"change", "journal_head", "alembic_version"} & tables

        # And goes on behind the upgrade.
        code = "import sys; from tests.support.next_version import become; become(); from pathlib import Path;"
        code += "from policyd.replica.follower import Follower; from policyd.store.connection import Database;"
        code += "from policyd.audit import AuditLog; from policyd.settings import AuditSettings;"
        code += "from policyd.syslog import open_sink; from policyd.model import Change\n"
        code += "settings = AuditSettings(syslog='none'); beats = iter(range(20))\n"
        code += "log = AuditLog(settings, open_sink(settings))\n"
        code += "Follower(Database(sys.argv[2]), Path(sys.argv[1]), log, lambda told: next(beats) < 10).run()"
        subprocess.run([sys.executable, "-c", code, str(host.replica), policyd.url], check=True)
        with closing(sqlite3.connect(host.replica)) as replica:
            assert replica.execute("SELECT receive FROM mailbox").fetchall() == [("inherit",)]
            assert replica.execute("SELECT id FROM replica").fetchall() == policyd.rows("SELECT id FROM journal_head")
