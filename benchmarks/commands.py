"""What a command costs in processor time, and a TAB, beside a Python that does nothing, which is its floor."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count

from editions import Edition, RefusedError
from report import Figure, in_turn
from servers import SMALL, Bench, Effort, free_port

ROUNDS = 5  # to each run of the others: a command is short, and seldom the same
ONE, MANY = 1, 200_000  # mailboxes
# What is called, by its words, and on how many mailboxes; N is another number each time.
CALLED = {
    "--version": ONE,
    "--help": ONE,
    "mailbox --help": ONE,
    "check --recipient u0@example.com": ONE,
    "mailbox list": ONE,
    "sender block joeN@example.net": ONE,
    "completion zsh -- ma": MANY,
    "completion zsh -- mailbox ": MANY,
    "completion zsh -- mailbox show u1": MANY,
    "completion zsh -- address find u1": MANY,
    "completion zsh -- sender block group:": MANY,
}


def measure(bench: Bench, effort: Effort) -> Iterator[Figure]:
    """Each command of each edition, and a Python that does nothing, in turn."""
    numbers = count()
    for line, mailboxes in CALLED.items():
        rows = mailboxes if effort.sizes[-1] > SMALL else ONE

        def prepare(edition: Edition, line: str = line, rows: int = rows) -> partial[float]:
            database = bench.make_tables(rows, edition)
            bench.write_settings(database, "rejects", free_port())
            call = partial(
                cpu_of_command, edition, {"POLICYD_CONFIG": str(database.with_suffix(".toml"))}, line, numbers
            )
            call()  # refused, or compiled for the next ones
            return call

        nothing = partial(cpu_of, [sys.executable, "-I", "-c", "pass"], {})
        found = in_turn(effort.runs * ROUNDS, [nothing, *bench.of_each_edition(prepare)])
        yield Figure(f"`policyd {line.strip()}`: CPU ms", *found)


def cpu_of_command(edition: Edition, environment: dict[str, str], line: str, numbers: Iterator[int]) -> float:
    """The processor time of a command of *edition*. Raises RefusedError where it fails."""
    words = line.replace("N@", f"{next(numbers)}@").split(" ")
    try:
        return cpu_of(edition.command(*words), environment)
    except subprocess.CalledProcessError as error:
        raise RefusedError(f"{edition.name}, `policyd {line}`: status {error.returncode}") from error


def cpu_of(command: list[str], environment: dict[str, str]) -> float:
    """The processor time of a process, its own and the kernel's for it, in milliseconds; it must succeed."""
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdin=nowhere, stdout=nowhere, stderr=nowhere
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return 1000 * (usage.ru_utime + usage.ru_stime)
