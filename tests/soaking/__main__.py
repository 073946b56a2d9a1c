"""`tests/soak --minutes N`: mixed load, administration and faults at the same time, and every answer checked."""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.soaking.run import soak
from tests.support.command_line import MEMORY

_SHOWN = 20


def main() -> None:
    """Soak policyd: load, administration, restarts and faults at random. The status is 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="tests/soak", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--seed", help="choose the same operations again (default: another each time)")
    parser.add_argument("--smtpds", type=int, default=40, help="how many connections ask (default: 40)")
    typed = parser.parse_args()
    if typed.minutes <= 0 or typed.smtpds < 1:
        parser.error("--minutes must be more than 0, and --smtpds 1 at least")
    seed = typed.seed or secrets.token_hex(4)
    say(f"soaking for {typed.minutes:g} minutes, --seed {seed}")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        record = soak(Path(folder), typed.minutes * 60, seed, typed.smtpds, say)
    for name, count in sorted(record.counts.items()):
        say(f"{count:10} {name}")
    for difference in record.differences[:_SHOWN]:
        say(f"DIFFERS: {difference}")
    if record.differences:
        sys.exit(f"tests/soak: {len(record.differences)} differences; again with: tests/soak --seed {seed}")
    say("all as it must be")


def say(line: str) -> None:
    """Tell who watches."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("tests/soak: stopped")
