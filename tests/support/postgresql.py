"""A PostgreSQL server of the tests' own: on a unix socket and a port of this machine, and gone with the tests."""

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from policyd.store.connection import Database
from policyd.store.database import create_database
from policyd.store.schema import VERSION, first_head, journal_head, metadata
from tests.support.places import OPEN_PLACE
from tests.support.required import give_up

_START_SECONDS = 60
_NUMBERS = count(1)
_TEMPLATE = "with_tables"
_ANOTHER_HISTORY = "UPDATE journal_head SET history = md5(random()::text)"
_FIRST_HEAD = ", ".join(f"{name} = {value}" for name, value in first_head().items() if isinstance(value, int))
_EMPTYING = [
    "SET lock_timeout = 2000",
    *(f'DELETE FROM "{table.name}"' for table in reversed(metadata.sorted_tables) if table is not journal_head),
    f"UPDATE journal_head SET {_FIRST_HEAD}, digest = ''",
]


def programs() -> Path:
    """The folder of PostgreSQL's server programs; without them tests are skipped, or fail where they are required."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: int(each.parts[-3]))
    if not found:
        give_up("POSTGRESQL", "not installed: PostgreSQL's server (Debian: apt-get install postgresql)")
    return found[-1].parent


class Cluster:
    """A server with its data in a new folder. It runs as another user where the tests are root's."""

    def __init__(self, *, settings: Sequence[str] = ()) -> None:
        self._programs = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir=OPEN_PLACE))
        self.data = self.folder / "data"
        self.port = _free_port()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._free: list[str] = []
        self._account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._account:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        self.folder.chmod(0o755)

    def initialize(self, *words: str) -> None:
        """Make its files: new ones with these *words* of `initdb`'s, else a copy of those that it has made once."""
        if not words:
            subprocess.run(["cp", "--archive", _initialized().data, self.data], check=True)
            return
        where = ["-D", str(self.data), "-U", "owner", "-A", "trust"]
        self.program("initdb", *where, "--locale=C", "-E", "UTF8", "--no-sync", *words)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options: Any = self._as_owner()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data, *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **options,
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends its connections first, SIGQUIT leaves all as a crash does."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_SECONDS)
            self._process = None

    def freeze(self, how: signal.Signals = signal.SIGSTOP) -> None:
        """Have no process of it run any more; SIGCONT has them go on."""
        assert self._process is not None
        for pid in (self._process.pid, *_children(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, how)

    def remove(self) -> None:
        """Stop it and remove its files."""
        if self._process is not None:
            self.freeze(signal.SIGCONT)
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def make_standby(self) -> "Cluster":
        """A server that follows this one, and is started."""
        standby = Cluster()
        source = f"host={self.folder} port={self.port} user=owner"
        self.program("pg_basebackup", "-D", str(standby.data), "-d", source, "-R", "-X", "stream", "-c", "fast")
        standby.start()
        return standby

    def promote(self) -> None:
        """Make a standby a primary."""
        self.execute("SELECT pg_promote()")

    def url(self, name: str, *, over_tcp: bool = False) -> str:
        """The URL of the database *name*, over the socket or over TCP."""
        if over_tcp:
            return f"postgresql://owner@127.0.0.1:{self.port}/{name}"
        return f"postgresql://owner@/{name}?host={self.folder}&port={self.port}"

    def make_empty(self) -> str:
        """A new database without tables; returns its name."""
        name = f"test{next(_NUMBERS)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
        return name

    def make(self) -> str:
        """A database with policyd's empty tables; returns its name."""
        if self._free:
            return self._free.pop()
        name = f"test{next(_NUMBERS)}"
        self.make_template()
        self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        self.execute(_ANOTHER_HISTORY, name)
        return name

    def make_template(self) -> None:
        """Make the database that others are copies of, where there is none."""
        if not self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{_TEMPLATE}'"):
            self.execute(f"CREATE DATABASE {_TEMPLATE} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
            create_database(Database(self.url(_TEMPLATE)))

    def take_back(self, name: str) -> None:
        """Have the database *name*, which nobody uses any more, for another test: emptying costs less than making."""
        try:
            if self.execute("SELECT schema FROM journal_head", name) != [(VERSION,)]:  # it has been upgraded
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")
                return
            self.execute("; ".join([*_EMPTYING, _ANOTHER_HISTORY]), name)
            self._free.append(name)
        except psycopg.Error:  # a test has taken it to pieces, or still holds something in it
            self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def content(self, name: str) -> str:
        """The statements that fill empty tables with what the database *name* holds."""
        statements = ["DELETE FROM journal_head"]
        with psycopg.connect(self.url(name)) as connection:
            for table in metadata.sorted_tables:
                columns = ", ".join(f'"{column.name}"' for column in table.columns)
                found = connection.execute(f'SELECT {columns} FROM "{table.name}"'.encode()).fetchall()
                rows = [sql.SQL(", ").join(map(sql.Literal, row)).as_string(connection) for row in found]
                statements += [f'INSERT INTO "{table.name}" ({columns}) VALUES ({row})' for row in rows]
        return "; ".join([*statements, _ANOTHER_HISTORY])

    def execute(self, statement: str, name: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of one statement, as the owner of everything."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def program(self, name: str, *words: str) -> str:
        """What one of PostgreSQL's programs prints; it must succeed."""
        options: Any = self._as_owner()
        ended = subprocess.run(
            [self._programs / name, *words], capture_output=True, text=True, cwd=self.folder, **options
        )
        assert ended.returncode == 0, ended.stderr
        return str(ended.stdout)

    def _options(self) -> list[str]:
        settings = ["fsync=off", f"port={self.port}", "listen_addresses=127.0.0.1", "max_connections=200"]
        settings += [f"unix_socket_directories={self.folder}", "shared_buffers=32MB", "max_wal_size=1GB"]
        settings += self._settings
        return [word for each in settings for word in ("-c", each)]

    def _as_owner(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


@cache
def _initialized() -> Cluster:
    """One that is stopped, whose files others begin with; a database in it has policyd's empty tables."""
    cluster = Cluster()
    atexit.register(cluster.remove)
    cluster.initialize("--wal-segsize=1")
    cluster.start()
    cluster.make_template()
    cluster.stop()
    return cluster


@cache
def the_cluster() -> Cluster:
    """The one server of this process's tests, started when it is first asked for."""
    cluster = Cluster()
    atexit.register(cluster.remove)
    cluster.initialize()
    cluster.start()
    return cluster


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in children.split()]
