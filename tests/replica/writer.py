"""An administrator who types at random: `python -m tests.replica.writer URL SEED EDITS`."""

import random
import shlex
import sys
from pathlib import Path

from click.testing import CliRunner

from policyd.cli import main

_QUIET = Path(__file__).with_name("quiet.toml")
_LINES = (
    "mailbox add {name} {address}",
    "mailbox add {name}",
    "mailbox remove {name} --yes",
    "mailbox rename {name} {other}",
    "mailbox restrict {name} --accept {address} --accept {other}",
    "mailbox lift {name}",
    "mailbox set {name} --comment {other}",
    "address add {name} {address}",
    "address remove {address}",
    "group add {group} {name} {other}",
    "group restrict {group} --receive nobody --accept {name}",
    "group join {group} {name}",
    "group leave {group} {other}",
    "group remove {group} --yes",
    "sender block {name} --to {other} --except {address}",
    "sender block {address} --to outside",
    "sender unblock {name}",
    "domain restrict example.com --accept {address}",
    "domain lift example.com",
)


def write(url: str, seed: int, edits: int) -> None:
    """Do so many *edits*; one that is refused changes nothing, any other failure ends this."""
    chance = random.Random(seed)
    runner = CliRunner(env={"POLICYD_DATABASE": url, "POLICYD_CONFIG": str(_QUIET)})
    for _ in range(edits):
        name, other = (f"m{chance.randrange(8)}" for _ in range(2))
        address = f"a{chance.randrange(12)}@example.com"
        line = chance.choice(_LINES).format(name=name, other=other, address=address, group=f"g{chance.randrange(3)}")
        ended = runner.invoke(main, shlex.split(line))
        if ended.exit_code not in (0, 1, 2):
            sys.exit(f"{line}: {ended.stderr}")


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
