"""Bulk import against plain sqlite3: how many times as long, how much memory, and what the daemon notices.

Then, of the tables that came of it: how soon lists of all begin, and what one change of so many costs.
"""

import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from editions import TODAY, Edition, RefusedError
from report import Figure, in_turn
from servers import MILLION, Bench, Effort, Server, free_port

TABLES = ("domain", "mailbox", "address", "change")
QUIET_SECONDS = 5
CALLS = 5  # to each run of the others: a command is short
REQUEST = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.1\nsender=joe@example.net\n"
    b"recipient=probe@example.com\n\n"
)
BEGUN = ("mailbox list", "address list", "sender list", "history", "export --format csv", "export --format jsonl")


class Import(NamedTuple):
    """What an import took: seconds, MB at most, and the daemon's slowest answer before and meanwhile, in ms."""

    seconds: float
    memory: float
    quiet: float
    busy: float


def measure(bench: Bench, effort: Effort) -> Iterator[Figure]:
    """Each format: imported by each edition, and inserted by sqlite3, in turn. Then what is asked of the tables."""
    file = bench.folder / "bulk.txt"
    for name, write in {"csv": write_csv, "exchange-csv": write_exchange}.items():
        write(file, min(effort.sizes[-1], MILLION))
        imports = [partial(load, bench, edition, name, file) for edition in bench.editions]
        plain = partial(baseline, database_of(bench, TODAY), bench.folder / "bulk-plain.db")
        *found, least = in_turn(effort.runs, [*imports, plain])
        seconds, memory, _, busy = ([[each[field] for each in one] for one in found] for field in range(4))
        quiet = [each.quiet for each in found[0]]
        yield Figure(f"{name}: s of import, beside sqlite3 alone", least, *seconds)
        yield Figure(f"{name}: MB of memory at most", [], *memory)
        yield Figure(f"{name}: ms of slowest answer, beside before", quiet, *busy)
    yield from measure_asking(bench, effort)


def measure_asking(bench: Bench, effort: Effort) -> Iterator[Figure]:
    """How long the first line of a list takes, and the history and the undo of one change; beside an idle Python."""
    numbers = count()
    nothing = partial(first_line_ms, [sys.executable, "-I", "-c", "print()"])
    calls = {f"`policyd {line} | head -1`": partial(begin, line=line) for line in BEGUN}
    calls["`policyd history --object` of one"] = partial(begin, line="history --object user5")
    calls["`policyd undo` of one change"] = partial(undo_one, numbers=numbers)
    for what, call in calls.items():
        editions = bench.of_each_edition(lambda edition, call=call: called_once(partial(call, bench, edition)))
        yield Figure(f"{what}: ms", *in_turn(effort.runs * CALLS, [nothing, *editions]))


def database_of(bench: Bench, edition: Edition) -> Path:
    """Where what *edition* imports goes."""
    return bench.folder / f"bulk-{edition.name}.db"


def load(bench: Bench, edition: Edition, format_: str, file: Path) -> Import:
    """Import *file* into a new database, beside a daemon on it that is asked 200 times a second."""
    database, port = database_of(bench, edition), free_port()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    edition.run("--database", database, "domain", "add", "example.com")
    settings = bench.write_settings(database, "rejects", port)
    daemon = bench.start_other(edition.command("--config", settings, "serve"), port)
    try:
        with Prober(daemon) as before:
            time.sleep(QUIET_SECONDS)
        with Prober(daemon) as meanwhile:
            seconds, memory = run(edition.command("--config", settings, "import", file, "--format", format_))
    finally:
        daemon.stop()
    return Import(seconds, memory, before.slowest, meanwhile.slowest)


def run(command: list[str]) -> tuple[float, float]:
    """The seconds that *command* took, and the most memory it had, in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RefusedError(f"{command} ended with {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def called_once(call: "partial[float]") -> "partial[float]":
    """*call*, which an edition that can't do it has refused by now."""
    call()
    return call


def begin(bench: Bench, edition: Edition, line: str) -> float:
    """How long a command takes to its first line, in milliseconds."""
    settings = database_of(bench, edition).with_suffix(".toml")
    return first_line_ms(edition.command("--config", settings, *line.split()))


def first_line_ms(command: list[str]) -> float:
    """The milliseconds until *command* has printed a line and, as nobody reads on, has ended."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        process.wait()
    if process.returncode not in (0, 141):  # done, or as SIGPIPE ends
        raise RefusedError(f"{command} ended with {process.returncode}")
    return (time.perf_counter() - started) * 1000


def undo_one(bench: Bench, edition: Edition, numbers: Iterator[int]) -> float:
    """How long it takes to undo the last change, in milliseconds."""
    settings = database_of(bench, edition).with_suffix(".toml")
    edition.run("--config", settings, "mailbox", "restrict", f"user{next(numbers)}")
    (last,) = json.loads(edition.run("--config", settings, "history", "--limit", "1", "--json"))
    started = time.perf_counter()
    edition.run("--config", settings, "undo", str(last["changeset"]))
    return (time.perf_counter() - started) * 1000


def write_csv(path: Path, rows: int) -> None:
    """Mailboxes with an address each, in no order, as policyd's own csv."""
    with path.open("w") as file:
        file.write("name,addresses\n")
        for number in shuffled(rows):
            file.write(f"user{number},user{number}@example.com\n")


def write_exchange(path: Path, rows: int) -> None:
    """The same as Exchange's directory export has them."""
    with path.open("w", newline="") as file:
        file.write("Obj-Class,Mode,Directory Name,E-mail Addresses\r\n")
        for number in shuffled(rows):
            file.write(f"Mailbox,,user{number},SMTP:user{number}@example.com%MS:ORG/SITE/USER{number}\r\n")


def shuffled(rows: int) -> list[int]:
    """The numbers below *rows*, always in the same disorder."""
    numbers = list(range(rows))
    random.Random(1).shuffle(numbers)
    return numbers


def baseline(source: Path, target: Path) -> float:
    """The seconds in which sqlite3 inserts the rows of *source*, prepared, into the same tables of *target*.

    In a process of its own: the rows in memory would count as the memory of whatever is started next.
    """
    target.unlink(missing_ok=True)
    TODAY.run("--database", target, "database", "create")
    command = [sys.executable, __file__, str(source), str(target)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def insert_prepared(source: Path, target: Path) -> float:
    """The work of `baseline`; seconds."""
    reader = sqlite3.connect(source)
    prepared = {table: reader.execute(f'SELECT * FROM "{table}"').fetchall() for table in TABLES}
    reader.close()
    prepared["address"].sort(key=lambda row: row[1])  # as they came: by mailbox
    writer = sqlite3.connect(target, isolation_level=None)
    for pragma in ("foreign_keys = ON", "synchronous = FULL", "cache_size = -65536"):
        writer.execute(f"PRAGMA {pragma}")
    started = time.perf_counter()
    writer.execute("BEGIN IMMEDIATE")
    for table in TABLES:
        places = ", ".join("?" * len(prepared[table][0]))
        writer.executemany(f'INSERT INTO "{table}" VALUES ({places})', prepared[table])
    writer.execute("COMMIT")
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    writer.close()
    return time.perf_counter() - started


class Prober(threading.Thread):
    """Asks a daemon every few milliseconds for as long as the block takes; then `slowest` is known, in ms."""

    def __init__(self, daemon: Server) -> None:
        super().__init__()
        self.slowest = 0.0
        self._daemon = daemon
        self._is_over = threading.Event()

    def __enter__(self) -> "Prober":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()

    def run(self) -> None:
        """Ask."""
        host, port = self._daemon.address.removeprefix("inet:").split(":")
        with socket.create_connection((host, int(port))) as connection:
            while not self._is_over.wait(0.005):
                started = time.perf_counter()
                connection.sendall(REQUEST)
                reply = connection.recv(4096)
                self.slowest = max(self.slowest, (time.perf_counter() - started) * 1000)
                if not reply.endswith(b"\n\n"):
                    raise SystemExit("the daemon hung up")


if __name__ == "__main__":
    print(insert_prepared(Path(sys.argv[1]), Path(sys.argv[2])))
