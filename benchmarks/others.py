"""The policy servers that Debian has, where they are installed: postgrey, and postfwd2 with a list of recipients."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial

from report import Figure, in_turn
from servers import Bench, Effort, Load, Server, free_port

LISTED = 1000  # recipients in postfwd2's rules; it has no tables
# postfwd2 always goes into the background: this starts it, stays, and takes it along.
IN_FOREGROUND = """
    pid_file=$1; shift
    "$@"
    trap 'kill "$(cat "$pid_file")" $!; exit' TERM
    sleep infinity & wait
"""


def measure(bench: Bench, effort: Effort) -> Iterator[Figure]:
    """Speed of each under the same load as policyd's row `connections 10`."""
    load = Load(connections=10, seconds=effort.seconds)
    floor = bench.start_floor()
    for name, start in installed(bench).items():
        server = start()
        found = in_turn(effort.runs, [partial(bench.load, each, load) for each in (floor, server)])
        for what, field in (("requests/s", "rps"), ("CPU µs", "cpu")):
            measured = [[each[field] for each in answers] for answers in found]
            yield Figure(f"{name}, 10 connections: {what}", *measured)
        server.stop()
    floor.stop()


def installed(bench: Bench) -> dict[str, Callable[[], Server]]:
    """How to start each of those that are here."""
    return {name: partial(start, bench) for name, start in KNOWN.items() if path(name)}


def missing() -> list[str]:
    """Those that are not here."""
    return [name for name in KNOWN if not path(name)]


def start_postgrey(bench: Bench) -> Server:
    """postgrey, that refuses nobody: what it costs is wanted."""
    folder = bench.folder / "postgrey"
    folder.mkdir(exist_ok=True)
    port = free_port()
    options = [f"--inet=127.0.0.1:{port}", f"--dbdir={folder}", f"--pidfile={folder / 'pid'}"]
    refuse_nobody = ["--user=root", "--group=root", "--greylist-action=DUNNO", "--auto-whitelist-clients=0"]
    return bench.start_other([path("postgrey"), *options, *refuse_nobody], port)


def start_postfwd(bench: Bench) -> Server:
    """postfwd2, whose rules are a list of recipients; without its cache, that would answer in place of them."""
    rules = bench.folder / "postfwd.cf"
    listed = (f"id=R{number}; recipient==u{number}@example.com; action=DUNNO\n" for number in range(LISTED))
    rules.write_text("".join(listed))
    port, cache_port = free_port(), free_port()
    pid_file = bench.folder / "postfwd.pid"
    options = f"--file {rules} --interface 127.0.0.1 --port {port} --cache_port {cache_port} --pidfile {pid_file}"
    words = f"{options} --cache 0 --nodns --user root --group root".split()
    return bench.start_other(["sh", "-c", IN_FOREGROUND, "sh", pid_file, path("postfwd2"), *words], port, pid_file)


def path(name: str) -> str:
    """Where the program *name* is, or ""."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin") or ""


KNOWN = {"postgrey": start_postgrey, "postfwd2": start_postfwd}
