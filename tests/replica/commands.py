"""What administrators type, on whichever host, where the tables are in a database on a server."""

import shlex
from pathlib import Path

import psycopg
from click.testing import CliRunner, Result

from policyd.cli import main
from tests.support.postgresql import Cluster

QUIET = Path(__file__).with_name("quiet.toml")  # settings that log nowhere


def with_tables(server: Cluster) -> str:
    """The URL of a new database with a domain and two mailboxes."""
    url = server.url(server.make())
    for line in ("domain add example.com", "mailbox add bob bob@example.com", "mailbox add ann ann@example.com"):
        run(url, line)
    return url


def run(url: str, line: str) -> None:
    """A command, as an administrator types it on any host; it must succeed."""
    ended = command(url, line)
    assert ended.exit_code == 0, ended.stderr


def command(url: str, line: str) -> Result:
    """How a command ends."""
    return CliRunner(env={"POLICYD_DATABASE": url, "POLICYD_CONFIG": str(QUIET)}).invoke(main, shlex.split(line))


def add_many(url: str, folder: Path, count: int = 3000) -> None:
    """Import so many mailboxes."""
    file = folder / "many.csv"
    file.write_text("name,addresses\n" + "".join(f"m{number},m{number}@example.com\n" for number in range(count)))
    run(url, f"import {file} --format csv")


def name_of(url: str) -> str:
    """The database's name."""
    return url.partition("@/")[2].partition("?")[0]


def forge_history(url: str) -> None:
    """Have the last change be another one, as after a failover, and the tables what that left."""
    with psycopg.connect(url) as truth:
        truth.execute("UPDATE change SET digest = 'x' || digest WHERE id = (SELECT max(id) FROM change)")
        truth.execute("UPDATE journal_head SET digest = 'x' || digest")
        truth.execute("UPDATE mailbox SET comment = 'another'")
