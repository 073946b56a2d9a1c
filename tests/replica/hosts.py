"""A mail host: the daemon with its replica, and the database that it follows."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from policyd.replica.status import ReplicaStatus, read_status
from policyd.store.schema import REPLICATED
from tests.support.fake_smtpd import request
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
        niced = [int(pid) for pid in children if os.getpriority(os.PRIO_PROCESS, int(pid)) == 10]
        assert len(niced) <= 1
        return niced[0] if niced else 0

    def kill_follower(self) -> None:
        """End it as a crash does."""
        pid = until(lambda: self.follower, "the process that follows")
        os.kill(pid, signal.SIGKILL)

    def rows(self) -> dict[str, list[Any]]:
        """Every row of the replica, by table, and the change that it is at."""
        with closing(sqlite3.connect(f"file:{self.replica}?mode=ro", uri=True, isolation_level=None)) as replica:
            replica.execute("BEGIN")
            tables = {
                table.name: sorted(replica.execute(f'SELECT * FROM "{table.name}"'), key=repr) for table in REPLICATED
            }
            return {**tables, "at": replica.execute("SELECT history, id, digest FROM replica").fetchall()}

    def is_equal(self) -> bool:
        """Whether the replica has what the database has, row by row."""
        return self.rows() == rows_of_truth(self.url)

    def wait_to_be_equal(self) -> None:
        """Wait until the replica has what the database has."""
        until(self.is_equal, "the replica to be equal")


def rows_of_truth(url: str) -> dict[str, list[Any]]:
    """Every row of the database, by table, and its last change."""
    with psycopg.connect(url, autocommit=True) as truth:
        truth.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        tables = {
            table.name: sorted(truth.execute(f'SELECT * FROM "{table.name}"'.encode()).fetchall(), key=repr)
            for table in REPLICATED
        }
        return {**tables, "at": truth.execute("SELECT history, id, digest FROM journal_head").fetchall()}
