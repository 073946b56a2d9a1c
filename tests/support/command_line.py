"""The command line for tests: in this process, or as a process of its own, each on a database of its own."""

import json
import os
import shlex
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from policyd.cli import main
from policyd.store.connection import Database
from tests.support import preloaded
from tests.support.engine import server_for_tests
from tests.support.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    from tests.support.postgresql import Cluster

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where a durable commit doesn't wait for a disk


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str


class CommandLine:
    """Commands as an administrator types them, on a database in *folder*, with settings that log nowhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "policyd.toml"
        self.settings.write_text('[audit]\nsyslog = "none"\n')
        self.database = folder / "policyd.db"
        self.server: Cluster | None = None  # where the tables are on one
        self.name = ""  # of the database there
        self.behind = ""  # the URL of that, where something is between

    def be_on(self, server: "Cluster") -> None:
        """Have the tables in a new database on *server*."""
        self.server, self.name = server, server.make()

    def have_no_tables(self) -> None:
        """Have none where the tables are going to be, as before the first command."""
        if self.server:
            self.server.take_back(self.name)
            self.name = self.server.make_empty()

    @property
    def url(self) -> str:
        """What --database takes."""
        return self.behind or (self.server.url(self.name) if self.server else str(self.database))

    @property
    def store(self) -> Database:
        """The database, for what is asked past the command line."""
        return Database(self.url) if self.server else Database.at(self.database)

    @property
    def environment(self) -> dict[str, str]:
        """What tells a command which settings and database are meant."""
        return {"POLICYD_CONFIG": str(self.settings), "POLICYD_DATABASE": self.url}

    def begin_with(self, *lines: str) -> None:
        """Type *lines*, or have what they left where this process has typed them before, which is quicker."""
        if lines in _LEFT:
            self.content = _LEFT[lines]
        else:
            for line in lines:
                self.run(line)
            _LEFT[lines] = self.content

    @property
    def content(self) -> str | bytes:
        """Everything in the tables, for another one: the statements that fill them on a server, or the file."""
        return self.server.content(self.name) if self.server else self.database.read_bytes()

    @content.setter
    def content(self, content: str | bytes) -> None:
        if self.server:
            assert isinstance(content, str)
            self.server.execute(content, self.name)
        else:
            assert isinstance(content, bytes)
            self.database.touch(0o640)
            self.database.write_bytes(content)

    def ends(self, line: str, *, stdin: str | bytes | None = None, **environment: str | None) -> Ended:
        """How the command ends, with whatever status; never with one that means a defect of ours."""
        runner = CliRunner(env={**self.environment, **environment})
        result = runner.invoke(main, shlex.split(line), input=stdin)
        assert result.exit_code != 70, result.stderr
        assert isinstance(result.exception, SystemExit | None)
        return Ended(result.exit_code, result.stdout, result.stderr)

    def run(self, line: str) -> str:
        """What the command prints on stdout; it must succeed."""
        ended = self.ends(line)
        assert ended.status == 0, ended
        return ended.out

    def says(self, line: str) -> list[str]:
        """The lines that the command tells a person; it must succeed."""
        ended = self.ends(f"-v {line}")
        assert (ended.status, ended.out) == (0, ""), ended
        return ended.err.splitlines()

    def warns(self, line: str) -> str:
        """The one line that the command tells scripts, too, beside its success."""
        ended = self.ends(line)
        assert (ended.status, ended.out) == (0, ""), ended
        (message,) = ended.err.splitlines()
        return message

    def refuses(self, line: str, status: int = 1) -> str:
        """The one line on stderr that the command ends with, with *status*."""
        ended = self.ends(line)
        assert (ended.status, ended.out) == (status, ""), ended
        (message,) = ended.err.splitlines()
        return message

    def json(self, line: str) -> Any:
        """What the command prints with --json."""
        return json.loads(self.run(f"--json {line}"))

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of one SQL statement, past everything of ours."""
        if self.server:
            return self.server.execute(statement, self.name)
        connection = sqlite3.connect(self.database, isolation_level=None)
        found = connection.execute(statement).fetchall()
        connection.close()
        return found

    def journal(self) -> list[tuple[str, str]]:
        """Operation and object of each change so far."""
        return self.rows("SELECT operation, object FROM change ORDER BY id")

    def start(self, words: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
        """The command as a process, with pipes where *options* don't say otherwise."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        environment = {**os.environ, **self.environment, **options.pop("environment", {})}
        return preloaded.start([*preloaded.STRICT, *words], env=environment, text=True, **options)

    def process(self, line: str, **options: Any) -> Ended:
        """How the command ends as a process."""
        with self.start(shlex.split(line), **options) as started:
            out, err = started.communicate(timeout=LIMIT_SECONDS)
        return Ended(started.returncode, out or "", err or "")


_LEFT: dict[tuple[str, ...], str | bytes] = {}  # what lines have left, on the one engine


@contextmanager
def command_line(*lines: str) -> Iterator[CommandLine]:
    """Commands in a new folder, which goes with everything in it; *lines* have been typed."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        commands = CommandLine(Path(folder))
        if server := server_for_tests():
            commands.be_on(server)
        if lines:
            commands.begin_with(*lines)
        yield commands
        if commands.server:
            commands.server.take_back(commands.name)
