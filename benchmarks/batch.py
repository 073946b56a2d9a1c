"""How long `policyd batch` takes for many lines, and how much memory, beside one command by itself.

Run it as `python benchmarks/batch.py [LINES]...`, from a checkout whose environment has policyd; 1 000 and 100 000
lines by default. Each figure comes from this one run; CPU seconds say more than those of a busy machine's clock.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def lines(count: int) -> Iterator[str]:
    """A domain, then mailboxes with an address each, every second of them restricted, and blocked senders."""
    yield "domain add example.com"
    for number in range(1, count):
        match number % 4:
            case 0 | 2:
                yield f"mailbox add user{number} user{number}@example.com"
            case 1 if number > 1:
                yield f"mailbox restrict user{number - 1} --reason 'internal mailbox'"
            case _:
                yield f"sender block s{number}@spam.example --reason spam"


def run(words: list[str], database: Path) -> str:
    """What `policyd` with these *words* took, in words."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "policyd", "--database", str(database), *words]
    process = subprocess.Popen(command, env={**os.environ, "POLICYD_CONFIG": str(database.with_suffix(".toml"))})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return f"{time.perf_counter() - started:.2f} s, {cpu:.2f} s of CPU time, {usage.ru_maxrss / 1024:.0f} MB"


def main() -> None:
    """Measure one command, then batches."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in map(int, sys.argv[1:] or ("1000", "100000")):
            database = folder / f"{count}.db"
            database.with_suffix(".toml").write_text('[audit]\nsyslog = "none"\n')
            file = folder / f"{count}.txt"
            file.write_text("".join(f"{line}\n" for line in lines(count)))
            print(f"one command:  {run(['domain', 'add', 'example.net'], database)}")
            print(f"{count} lines: {run(['batch', str(file)], database)}", flush=True)


main()
