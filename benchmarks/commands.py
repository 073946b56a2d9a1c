"""What a command costs in processor time, and a TAB, beside a Python that does nothing.

Run it as `python benchmarks/commands.py [--rounds N] [PYTHON]...`, from a checkout whose environment has policyd. Each
PYTHON is one of another environment, as with the release before, measured in the same run. The commands are called in
turns, so that whatever else the machine does hits all of them; the figures are medians.
"""

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

_MAILBOXES = 200_000
_ONE = ("domain add example.com", "mailbox add alice alice@example.com")
# What is called, by the words of it; a database of one mailbox, or of many.
_FEW = ("--version", "--help", "mailbox --help", "check alice@example.com", "mailbox list", "sender block alice")
_MANY = (
    "completion zsh -- ma",
    "completion zsh -- mailbox ",
    "completion zsh -- mailbox show user1",
    "completion zsh -- address find user1",
    "completion zsh -- sender block group:",
)


def cpu_of(command: list[str], environment: dict[str, str]) -> float:
    """The processor time of a process, its own and the kernel's for it, in milliseconds."""
    process = subprocess.Popen(
        command,
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return 1000 * (usage.ru_utime + usage.ru_stime)


def fill(database: Path) -> None:
    """Put many mailboxes with an address each into *database*, past the program, which would take longer."""
    with closing(sqlite3.connect(database)) as connection, connection:
        numbers = range(1_000, 1_000 + _MAILBOXES)
        connection.executemany(
            "INSERT INTO mailbox (id, name, folded_name, receive, reason, comment) VALUES (?, ?, ?, 'inherit', '', '')",
            ((number, f"user{number}", f"user{number}") for number in numbers),
        )
        connection.executemany(
            "INSERT INTO address (address, mailbox_id, is_primary) VALUES (?, ?, 1)",
            ((f"user{number}@example.com", number) for number in numbers),
        )


def environment_of(python: str, folder: Path, name: str) -> dict[str, str]:
    """What leads the policyd of *python* to a database of its own in *folder*, which has one mailbox."""
    settings = folder / "policyd.toml"
    settings.write_text('[audit]\nsyslog = "none"\n')
    environment = {**os.environ, "POLICYD_CONFIG": str(settings), "POLICYD_DATABASE": str(folder / name)}
    for line in _ONE:
        subprocess.run([python, "-m", "policyd", *line.split()], env=environment, cwd="/", check=True)
    return environment


def measure(pythons: list[str], rounds: int) -> None:
    """Print what each command costs under each of *pythons*, and how many times that of a Python that does nothing."""
    taken: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(number) for number in range(len(pythons))]
        calls = []
        for python, folder in zip(pythons, folders, strict=True):
            folder.mkdir()
            few, many = (environment_of(python, folder, each) for each in ("few.db", "many.db"))
            fill(folder / "many.db")
            calls += [(python, "python -c pass", [python, "-c", "pass"], few)]
            for environment, lines in ((few, _FEW), (many, _MANY if python == sys.executable else ())):
                calls += [(python, line, [python, "-m", "policyd", *line.split(" ")], environment) for line in lines]
        for _ in range(rounds):
            for python, line, command, environment in calls:
                taken.setdefault((python, line), []).append(cpu_of(command, environment))
    for python in pythons:
        print(f"{python}, medians of {rounds}:")
        least = statistics.median(taken[python, "python -c pass"])
        for (whose, line), each in taken.items():
            if whose == python:
                median = statistics.median(each)
                print(f"  {line:40} {median:6.0f} ms  {median / least:5.1f} x")


def main() -> None:
    """Measure this environment's commands, and those of others that are named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("python", nargs="*")
    given = parser.parse_args()
    measure([sys.executable, *given.python], given.rounds)


main()
