"""Bulk import against plain sqlite3: how many times as long, how much memory, and what the daemon notices.

Run it as `python benchmarks/bulk.py [ROWS]`, from a checkout whose environment has policyd; a million rows by
default, which takes a few minutes. Each figure comes from this one run; compare the ratios, not the seconds.
"""

import os
import pwd
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TABLES = ("domain", "mailbox", "address", "change")
REQUEST = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.1\nsender=joe@example.net\n"
    b"recipient=probe@example.com\n\n"
)


def policyd(*words: str, database: Path) -> list[str]:
    """The command line of a policyd command on *database*."""
    return [sys.executable, "-m", "policyd", "--database", str(database), *words]


def run(command: list[str]) -> tuple[float, float]:
    """The seconds that *command* took, and the most memory it had, in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


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
    subprocess.run(policyd("database", "create", database=target), check=True)
    command = [sys.executable, __file__, "--baseline", str(source), str(target)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def insert_prepared(source: Path, target: Path) -> float:
    """The work of `baseline`."""
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
    """Asks the daemon on *path* every few milliseconds, and keeps how long each answer took, in milliseconds."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._path = path
        self._is_over = threading.Event()

    def run(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._path))
            while not self._is_over.wait(0.005):
                started = time.perf_counter()
                connection.sendall(REQUEST)
                reply = connection.recv(4096)
                self.waits.append((time.perf_counter() - started) * 1000)
                if not reply.endswith(b"\n\n"):
                    raise SystemExit("the daemon hung up")

    def stop(self) -> str:
        """End, and say how long answers took."""
        self._is_over.set()
        self.join()
        waits = sorted(self.waits)
        return f"{len(waits)} answers, median {waits[len(waits) // 2]:.2f} ms, slowest {waits[-1]:.1f} ms"


def start_daemon(database: Path, path: Path) -> "subprocess.Popen[bytes]":
    """A daemon on a unix socket at *path*, ready."""
    settings = database.with_suffix(".toml")
    settings.write_text(
        f'user = "{pwd.getpwuid(os.geteuid()).pw_name}"\nlisten = ["unix:{path}"]\n[audit]\nsyslog = "none"\n'
    )
    daemon = subprocess.Popen(policyd("--config", str(settings), "serve", database=database), stderr=subprocess.DEVNULL)
    for _ in range(200):
        if path.exists():
            break
        time.sleep(0.05)
    return daemon


def measure(folder: Path, name: str, file: Path, rows: int) -> None:
    """Import *file* beside a running daemon, then insert the same with sqlite3, and print a line of each."""
    database, plain = folder / f"{name}.db", folder / f"{name}-plain.db"
    subprocess.run(policyd("domain", "add", "example.com", database=database), check=True)
    daemon = start_daemon(database, folder / f"{name}.sock")
    try:
        idle = Prober(folder / f"{name}.sock")
        idle.start()
        time.sleep(5)
        quiet = idle.stop()
        prober = Prober(folder / f"{name}.sock")
        prober.start()
        seconds, memory = run(policyd("import", str(file), "--format", name, database=database))
        busy = prober.stop()
    finally:
        daemon.terminate()
        daemon.wait(20)
    least = baseline(database, plain)
    print(f"{name}: {rows} mailboxes in {seconds:.1f} s, sqlite3 alone {least:.1f} s, ratio {seconds / least:.2f}")
    print(f"  peak memory:          {memory:.0f} MB")
    print(f"  daemon, idle machine: {quiet}")
    print(f"  daemon, meanwhile:    {busy}", flush=True)


def main() -> None:
    """Measure both formats."""
    if sys.argv[1:2] == ["--baseline"]:
        print(insert_prepared(Path(sys.argv[2]), Path(sys.argv[3])))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for format_, write in (("csv", write_csv), ("exchange-csv", write_exchange)):
            file = folder / f"{format_}.txt"
            write(file, rows)
            measure(folder, format_, file, rows)


main()
