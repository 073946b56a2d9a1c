"""Messages a second through a real Postfix: with no check, with its own maps, and with policy servers.

It is one Postfix, with an smtpd for each way on a port of its own, that delivers nothing anywhere.
"""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

from others import installed
from report import in_turn, print_rows, ratio, shown
from servers import Bench, Server

from tests.postfix.instance import Postfix, find_program

MESSAGES = 2000  # of a run
SESSIONS = 10  # at the same time
LIMIT_SECONDS = 300
SQLITE_MAP = "dbpath = {database}\nquery = SELECT 'DUNNO' FROM address WHERE address = '%s'\n"


def measure(bench: Bench, runs: int, rows: int) -> None:
    """Print a table of *runs* runs of each way, in turn; the maps and policyd know *rows* addresses."""
    missing = [name for name in ("postfix", "smtp-source", "postmap") if not find_program(name)]
    if missing or os.geteuid() != 0:
        print(f"no Postfix: {' '.join(missing) or 'root'} is needed", file=sys.stderr)
        return
    servers = {"floor": bench.start_floor()}
    started = bench.of_each_edition(lambda edition: bench.start_policyd(rows, edition=edition))
    servers |= zip(("policyd", "policyd before"), started, strict=False)
    servers |= {name: start() for name, start in installed(bench).items()}
    checks = {"no check": "", **native_maps(bench, rows)}
    checks |= {name: f"check_policy_service {server.address}," for name, server in servers.items()}
    instance = make_postfix(bench.folder / "postfix", checks)
    instance.start()
    try:
        send(instance, "no check")  # its processes start, and do not count
        found = in_turn(runs, [partial(send, instance, name) for name in checks])
    finally:
        instance.stop()
        stop(servers)
    print_rows(
        (f"Postfix with ({rows:,} addresses)", "messages/s", "of floor's", "native"),
        compared(dict(zip(checks, found, strict=True))),
    )


def compared(rates: dict[str, list[float]]) -> Iterator[tuple[str, ...]]:
    """The rows: each beside the floor's, and beside the first of Postfix's own maps."""
    native = next(rate for name, rate in rates.items() if ":" in name)
    for name, found in rates.items():
        yield name, shown(median(found)), *(shown(ratio(found, each)) for each in (rates["floor"], native))


def native_maps(bench: Bench, rows: int) -> dict[str, str]:
    """Restrictions with the addresses in maps that this Postfix can read, those made by postmap(1) first."""
    folder = bench.folder / "maps"
    folder.mkdir()
    (folder / "main.cf").write_text("compatibility_level = 3.6\n")
    (folder / "master.cf").touch()
    offered = output("postconf", "-c", folder, "-m").split()
    source = folder / "recipients"
    source.write_text("".join(f"u{number}@example.com DUNNO\n" for number in range(rows)))
    kind = "lmdb" if "lmdb" in offered else "hash"
    output("postmap", "-c", folder, f"{kind}:{source}")
    maps = {f"native {kind}:": f"{kind}:{source}"}
    if "sqlite" in offered:
        database = folder / "native.db"
        with closing(sqlite3.connect(bench.make_tables(rows))) as connection:
            # A copy, not in WAL mode: nobody can read that who may not write beside it.
            connection.execute("VACUUM INTO ?", (str(database),))
        (folder / "sqlite.cf").write_text(SQLITE_MAP.format(database=database))
        maps["native sqlite:"] = f"sqlite:{folder / 'sqlite.cf'}"
    else:
        print("postfix-sqlite is not installed: left out", file=sys.stderr)
    return {name: f"check_recipient_access {each}," for name, each in maps.items()}


def make_postfix(folder: Path, checks: dict[str, str]) -> Postfix:
    """A Postfix that has an smtpd for each of *checks*, which are its first restriction."""
    folder.mkdir()
    made = Postfix(folder, [*checks])
    restrict = "smtpd_recipient_restrictions = {} permit_mynetworks, reject"
    made.write_main()
    made.write_master(*(made.service(name, "n", restrict.format(check)) for name, check in checks.items()))
    return made


def send(instance: Postfix, door: str) -> float:
    """How many messages a second *door* takes; waits until Postfix is rid of them."""
    address = f"127.0.0.1:{instance.port[door]}"
    words = ["-s", SESSIONS, "-m", MESSAGES, "-l", 1000, "-f", "joe@example.net", "-t", "u1@example.com", address]
    begun = time.perf_counter()
    output("smtp-source", *words)
    rate = MESSAGES / (time.perf_counter() - begun)
    while any(file.is_file() for name in ("incoming", "active") for file in (instance.queue / name).rglob("*")):
        if time.perf_counter() - begun > LIMIT_SECONDS:
            raise SystemExit("Postfix does not get rid of its messages")
        time.sleep(0.1)
    return rate


def stop(servers: dict[str, Server]) -> None:
    """Stop them all."""
    for server in servers.values():
        server.stop()


def output(program: str, *words: object) -> str:
    """What one of Postfix's programs prints; it must succeed."""
    command = [find_program(program), *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_SECONDS).stdout
