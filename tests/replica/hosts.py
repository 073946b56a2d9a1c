"""A mail host: the daemon with its replica, and the database that it follows."""

import os
import select
import signal
import socket
import sqlite3
import struct
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from policyd.audit import AuditLog
from policyd.replica.follower import Follower, prepare
from policyd.replica.status import ReplicaStatus, read_status
from policyd.settings import AuditSettings
from policyd.store.connection import Database
from policyd.store.schema import REPLICATED
from tests.support.fake_smtpd import request
from tests.support.kept_lines import KeptLines
from tests.support.running_daemon import Daemon
from tests.support.waiting import until


class Host(Daemon):
    """The daemon on a mail host, which follows the database with this *url*."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self.url = url
        self.replica = folder / "replica.db"
        self.write_settings(f'replica = "{self.replica}"')

    def answer(self, recipient: str, sender: str = "joe@partner.example") -> str:
        """What Postfix is told, without the text."""
        return self.ask(request(recipient=recipient, sender=sender)).split()[0]

    def wait_for(self, recipient: str, action: str, sender: str = "joe@partner.example") -> None:
        """Wait until that is the answer."""
        until(lambda: self.answer(recipient, sender) == action, f"{action} for {recipient}")

    @property
    def status(self) -> ReplicaStatus:
        """How the replica is."""
        return read_status(self.replica)

    @property
    def follower(self) -> int:
        """The process that follows."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        usual = os.getpriority(os.PRIO_PROCESS, self.pid)
        niced = [int(pid) for pid in children if os.getpriority(os.PRIO_PROCESS, int(pid)) > usual]
        assert len(niced) <= 1
        return niced[0] if niced else 0

    def kill_follower(self) -> None:
        """End it as a crash does."""
        pid = until(lambda: self.follower, "the process that follows")
        os.kill(pid, signal.SIGKILL)

    def rows(self) -> dict[str, list[Any]]:
        """Every row of the replica, by table, and the change that it is at."""
        return rows_of_replica(self.replica)

    def is_equal(self) -> bool:
        """Whether the replica has what the database has, row by row."""
        return self.rows() == rows_of_truth(self.url)

    def wait_to_be_equal(self) -> None:
        """Wait until the replica has what the database has."""
        until(self.is_equal, "the replica to be equal")


MakeHost = Callable[..., Host]  # of a database's URL, and a name


def started(make_host: MakeHost, url: str, name: str = "host") -> Host:
    """A host whose daemon answers."""
    host = make_host(url, name)
    host.start()
    return host


class Following:
    """Who follows the database with this *url* for a replica in *folder*, in a thread and without a daemon.

    Where the whole database must be copied again, that begins at once: a daemon waits up to half a minute.
    """

    def __init__(self, folder: Path, url: str, password_file: Path | None = None) -> None:
        self.url = url
        self.replica = folder / "followed.db"
        self._database = Database(url, password_file)
        self._log = KeptLines()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> "Following":
        prepare(self._database, self.replica)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Follow no more."""
        self._is_over.set()
        self._thread.join()

    @property
    def status(self) -> ReplicaStatus:
        """How the replica is."""
        return read_status(self.replica)

    @property
    def lines(self) -> list[str]:
        """What was logged."""
        return list(self._log.lines)

    def wait_for(self, part: str) -> str:
        """The first line of the log that holds *part*."""
        return until(lambda: [line for line in self.lines if part in line], f"a line with {part!r}")[0]

    def rows(self) -> dict[str, list[Any]]:
        """Every row of the replica, by table, and the change that it is at."""
        return rows_of_replica(self.replica)

    def wait_to_be_equal(self, url: str = "") -> set[str]:
        """Wait until the replica has what the database has; every state that it was seen in until then."""
        seen: set[str] = set()

        def is_equal() -> bool:
            rows = self.rows()
            seen.add(repr(rows))
            return rows == rows_of_truth(url or self.url)

        until(is_equal, "the replica to be equal")
        return seen

    def _follow(self) -> None:
        audit = AuditLog(AuditSettings(), self._log)
        Follower(self._database, self.replica, audit, lambda told: not self._is_over.is_set(), spread_seconds=0).run()


Follow = Callable[..., Following]  # of a database by its URL, with a password file, in a folder


class Proxy:
    """Stands before a server on a port of this machine, and resets a connection that has brought more than *most*."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.most: int | None = None  # bytes from the server, of one connection
        self.cuts = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        brought = 0
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as server:
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for each in readable:
                    if not (content := each.recv(16384)):
                        return
                    (server if each is client else client).sendall(content)
                    brought += len(content) if each is server else 0
                if self.most is not None and brought > self.most:
                    self.cuts += 1
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return


def rows_of_replica(path: Path) -> dict[str, list[Any]]:
    """Every row of the replica at *path*, by table, and the change that it is at."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as replica:
        replica.execute("BEGIN")
        tables = {
            table.name: sorted(replica.execute(f'SELECT * FROM "{table.name}"'), key=repr) for table in REPLICATED
        }
        return {**tables, "at": replica.execute("SELECT history, id, digest FROM replica").fetchall()}


def rows_of_truth(url: str) -> dict[str, list[Any]]:
    """Every row of the database, by table, and its last change."""
    with psycopg.connect(url, autocommit=True) as truth:
        truth.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        tables = {
            table.name: sorted(truth.execute(f'SELECT * FROM "{table.name}"'.encode()).fetchall(), key=repr)
            for table in REPLICATED
        }
        return {**tables, "at": truth.execute("SELECT history, id, digest FROM journal_head").fetchall()}
