"""What the benchmark starts, in a folder of its own: the tables, policyd, the floor, and the load on them.

All of it listens on loopback or in the folder, and ends with `Bench.close`, or with the benchmark itself.
"""

import contextlib
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from editions import TODAY, Edition, RefusedError

HERE = Path(__file__).resolve().parent
SMALL, MILLION, LARGE = 1_000, 1_000_000, 10_000_000  # mailboxes
LIMIT_SECONDS = 60  # for a server to answer, or to stop
MAILBOXES = """
    WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < ? - 1)
    INSERT INTO mailbox (id, name, folded_name, receive, reason, comment)
    SELECT n + 1, 'u' || n, 'u' || n, 'anyone', '', '' FROM n
"""
ADDRESSES = """
    INSERT INTO address (address, mailbox_id, is_primary)
    SELECT folded_name || '@example.com', id, 1 FROM mailbox ORDER BY 1
"""
BLOCKED = """
    INSERT INTO blocked_sender (pattern, recipients, reason, comment, created_at, created_by)
    SELECT 'b' || id || '@blocked.example', 'anyone', '', '', 0, 'benchmark' FROM mailbox WHERE id % 10 = 0
"""

# The numbers of what is made next, which the first edition's tables do not keep.
NEXT_NUMBERS = """
    UPDATE journal_head SET
    next_mailbox = (SELECT max(id) + 1 FROM mailbox), next_blocked = (SELECT count(*) + 1 FROM blocked_sender)
"""
HAS_NEXT_NUMBERS = "SELECT 1 FROM sqlite_schema WHERE name = 'journal_head'"

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: medians of `runs`, each of `seconds`, on tables of each of `sizes`."""

    runs: int
    seconds: float
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """How a server is asked: as policyload.c's options, which say more."""

    connections: int = 100
    recipients: int = 1000
    senders: int = 10_000
    rejected_percent: int = 0
    rate: int = 0  # requests a second; 0 is as fast as answers come
    seconds: float = 3
    least_connections: int = 0  # how many are open wanders between this and `connections`; 0: all are
    zipf_exponent: float = 0  # how much more often some recipients are asked for than others; 0: all alike
    is_poisson: bool = False  # whether requests come at random, or evenly spaced

    @property
    def options(self) -> list[str]:
        """The command line of policyload."""
        given = {
            "c": self.connections,
            "l": self.least_connections,
            "t": self.seconds,
            "n": self.recipients,
            "z": self.zipf_exponent,
            "s": self.senders,
            "x": self.rejected_percent,
            "r": self.rate,
        }
        return [*(f"-{letter}{value}" for letter, value in given.items()), *(["-p"] if self.is_poisson else [])]


class Server:
    """A started server: where it listens, its process, and in how many seconds it first answered."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", address: str, output: Path, pid_file: Path | None = None
    ) -> None:
        """Wait until *process* answers on *address*; with a *pid_file*, the one named there is the server, too.

        What it says is in the file *output*: where it does not answer, its last line is what is wrong.
        """
        self.process = process
        self.address = address
        self._pid_file = pid_file
        started = time.perf_counter()
        while time.perf_counter() - started < LIMIT_SECONDS:
            with contextlib.suppress(OSError):
                ask(address, "u0@example.com")
                self.start_seconds = time.perf_counter() - started
                return
            if process.poll() is not None:
                break
            time.sleep(0.002)
        self.stop()
        said = (output.read_text(errors="replace").splitlines() or ["it says nothing"])[-1]
        raise RefusedError(f"{process.args!r} does not answer on {address}: {said}")

    def pids(self) -> list[str]:
        """The processes that are the server, descendants and all."""
        found = [str(self.process.pid), *(self._pid_file.read_text().split() if self._pid_file else ())]
        for pid in found:  # grows meanwhile
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += (task / "children").read_text().split()
        return found

    def anonymous_mb(self) -> float:
        """The memory that is its own, in MB: without what the system can read from files again."""
        lines = [line for pid in self.pids() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024

    def stop(self) -> None:
        """Stop it, and wait until it has."""
        self.process.terminate()
        try:
            self.process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bench:
    """The folder *folder*, and what runs there: policyd as it is, and the edition *before*, where one is asked."""

    def __init__(self, folder: Path, before: Edition | None = None) -> None:
        self.folder = folder
        self.editions = (TODAY, before) if before else (TODAY,)
        self._running: list[subprocess.Popen[bytes]] = []
        self._output = folder / "output"
        if shutil.which("gcc") is None:
            raise SystemExit("gcc is not installed (Debian: apt-get install gcc libc6-dev)")
        for name in ("floor", "sink", "policyload"):
            subprocess.run(["gcc", "-O2", "-o", folder / name, HERE / f"{name}.c", "-lm"], check=True)
        self._spawn([folder / "sink", folder / "log"])

    def close(self) -> None:
        """Stop what still runs."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(LIMIT_SECONDS)

    def of_each_edition(self, make: Callable[[Edition], _Made]) -> Iterator[_Made]:
        """What *make* gives for each edition, policyd as it is first; none for an older one that refuses."""
        for edition in self.editions:
            try:
                yield make(edition)
            except RefusedError as error:
                if edition is TODAY:
                    raise
                print(f"can't be asked: {error}", file=sys.stderr)

    def make_tables(self, rows: int, edition: Edition = TODAY) -> Path:
        """A database of *rows* mailboxes with an address each, and a tenth as many blocked senders; made once.

        Raises RefusedError where *edition* has other tables.
        """
        database = self.folder / f"{edition.name}-{rows}.db"
        if database.exists():
            return database
        edition.run("--database", database, "database", "create")
        edition.run("--database", database, "domain", "add", "example.com", "--unlisted", "reject")
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
            for pragma in ("synchronous = OFF", "cache_size = -262144", "temp_store = MEMORY"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(MAILBOXES, (rows,))
                connection.execute(ADDRESSES)
                connection.execute(BLOCKED)
                if connection.execute(HAS_NEXT_NUMBERS).fetchone():
                    connection.execute(NEXT_NUMBERS)
            except sqlite3.Error as error:
                raise RefusedError(f"{edition.name}, its tables: {error}") from error
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return database

    def start_floor(self) -> Server:
        """The floor."""
        address = f"inet:127.0.0.1:{free_port()}"
        return Server(self._spawn([self.folder / "floor", address]), address, self._output)

    def start_policyd(
        self, rows: int, audit: str = "rejects", workers: int = 1, http_port: int = 0, edition: Edition = TODAY
    ) -> Server:
        """policyd on tables of *rows* mailboxes, its audit going into the sink; with *http_port*, also its pages."""
        port = free_port()
        settings = self.write_settings(self.make_tables(rows, edition), audit, port, http_port)
        return self.start_other(edition.command("--config", settings, "serve", "--workers", str(workers)), port)

    def start_other(self, command: Sequence[str | Path], port: int, pid_file: Path | None = None) -> Server:
        """A server that *command* starts on *port* of loopback."""
        return Server(self._spawn(command), f"inet:127.0.0.1:{port}", self._output, pid_file)

    def write_settings(self, database: Path, audit: str, port: int, http_port: int = 0) -> Path:
        """The settings file beside *database*: listen on *port*, and have pages on *http_port*."""
        file = database.with_suffix(".toml")
        file.write_text(
            f'database = "sqlite:///{database}"\n'
            f'user = "{pwd.getpwuid(os.geteuid()).pw_name}"\n'
            f'listen = ["tcp:{port}:interface=127.0.0.1"]\n'
            f'[audit]\ndecisions = "{audit}"\nsyslog = "unix:{self.folder / "log"}"\n'
            + (f'[http]\nlisten = "tcp:{http_port}:interface=127.0.0.1"\n' if http_port else "")
        )
        return file

    def load(self, server: Server, load: Load) -> dict[str, float]:
        """What policyload says of *server* under *load*."""
        command: list[str | Path] = [self.folder / "policyload", *load.options, server.address, *server.pids()]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=load.seconds + LIMIT_SECONDS)
        if asked.returncode:
            raise SystemExit(f"policyload on {server.process.args!r}: {asked.stdout}{asked.stderr}")
        return {name: float(value) for name, _, value in (word.partition("=") for word in asked.stdout.split())}

    def _spawn(self, command: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
        # Whatever becomes of the benchmark, its servers end with it.
        bound = [shutil.which("setpriv") or "setpriv", "--pdeathsig", "TERM", *command]
        with self._output.open("ab") as output:
            self._running.append(subprocess.Popen(bound, stdin=subprocess.DEVNULL, stdout=output, stderr=output))
        return self._running[-1]


def ask(address: str, recipient: str, sender: str = "joe@example.net") -> str:
    """The answer of the server at *address*, without `action=`; OSError where there is none."""
    host, port = address.removeprefix("inet:").split(":")
    request = f"request=smtpd_access_policy\nprotocol_state=RCPT\nsender={sender}\nrecipient={recipient}\n\n"
    with socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS) as connection:
        connection.sendall(request.encode())
        reply = b""
        while not reply.endswith(b"\n\n"):
            if not (received := connection.recv(4096)):
                raise ConnectionError(f"{address} hung up")
            reply += received
    return reply.decode().removeprefix("action=").strip()


def free_port() -> int:
    """A TCP port on loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
