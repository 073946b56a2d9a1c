"""The daemon under drill, and its only administrator: commands, each of which moves the timeline."""

import json
import shlex
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from random import Random

from tests.oracle import commands as model_commands
from tests.soaking import commands
from tests.soaking.expected import World
from tests.soaking.load import Probe
from tests.soaking.questions import FIRST_TABLES, SETTINGS
from tests.soaking.record import Record
from tests.soaking.timeline import Timeline
from tests.support import preloaded
from tests.support.processes import is_alive, tree
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until

_PROBES = 8


class Drill:
    """A daemon in *folder* with the first tables, what is expected of it, and what came of it."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.record = Record()
        self.workers = 1
        self.timeline = Timeline(World(SETTINGS))
        self.probe = Probe(str(daemon.socket), self.timeline, self.record, _PROBES)
        self.backup: tuple[Path, World] | None = None
        self._undoable: tuple[int, World] | None = None  # the last command's changeset, and the world before it
        for line in FIRST_TABLES:
            daemon.command(*shlex.split(line))
            model_commands.run(self.timeline.world, line)

    @property
    def pid(self) -> int:
        """The daemon's."""
        return self.daemon.pid

    def read_log(self) -> None:
        """Take what the audit has said since."""
        self.record.read(self.daemon.syslog.take())

    def write_settings(self) -> None:
        """Write them as the world and the number of workers want them."""
        mode = "monitor" if self.timeline.world.is_monitor else "enforce"
        named = {name: getattr(SETTINGS, name) for name in ("insider_contexts", "login_realms")}
        lines = [
            f"workers = {self.workers}",
            f'mode = "{mode}"',
            *(f"{name} = {value}" for name, value in named.items()),
        ]
        self.daemon.write_settings(*lines, origin=None)  # a recipient without a domain is neither managed nor outside

    def start(self) -> None:
        """Start the daemon; return when every worker is ready."""
        self.read_log()
        self.daemon.start()
        until(lambda: len(self.daemon.syslog.matching("event=started")) >= self.workers, "all workers")

    def kill(self) -> None:
        """kill -9; return when nothing is left of it."""
        family = tree(self.pid)
        assert self.daemon.process is not None
        self.daemon.process.kill()
        self.daemon.process.communicate()
        self.daemon.process = None
        until(lambda: not any(map(is_alive, family)), "its workers to end")

    def stop(self) -> None:
        """SIGTERM; it must end well."""
        status, told = self.daemon.stop()
        self.record.read(told.splitlines())
        if status or any("dropped" not in line for line in told.splitlines()):
            self.record.differ(f"SIGTERM ended with {status}: {told}")

    def settle(self, last: int, *, was_killed: bool) -> None:
        """What was asked up to number *last* must be on record by now, where nobody *was_killed*."""

        def is_whole() -> bool:
            self.read_log()
            return self.record.lacks(last) <= 0

        if not was_killed:
            until(is_whole, "the lines of all answers")
        self.read_log()
        self.record.settle(last, was_killed=was_killed)

    def command(self, random: Random) -> None:
        """Have one command done, and ask about it as soon as it returns; now and then undo it at once."""
        if self._undoable and random.random() < 0.15:
            changeset, world = self._undoable
            world = world.copy()
            world.is_monitor = self.timeline.world.is_monitor
            typed = commands.Typed(["undo", str(changeset)], world)
        else:
            typed = commands.choose(random, self.timeline.world, self.daemon.folder / "rows.jsonl")
        before, about = self.timeline.world, typed.about
        self.probe.begin(random, about)
        with self.timeline.changing(typed.world, " ".join(typed.words)):
            out = self._run_process(typed.words) if random.random() < 0.05 else self._run(typed.words)
        self.probe.end(random, about)
        changeset = json.loads(out)["changeset"]
        self._undoable = (changeset, before) if changeset else None
        self.record.count("commands")

    def begin_command(self, random: Random) -> tuple[commands.Typed, "subprocess.Popen[str]"]:
        """Start a command as a process, whose world is not told to the timeline here."""
        typed = commands.choose(random, self.timeline.world, self.daemon.folder / "rows.jsonl")
        self._undoable = None
        self.record.count("commands")
        words = self.daemon.arguments("--json", *typed.words)
        pipe = subprocess.PIPE
        return typed, preloaded.start(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def end_command(self, process: "subprocess.Popen[str]") -> None:
        """Wait for it; it must have been done."""
        _, told = process.communicate(timeout=LIMIT_SECONDS)
        if process.returncode:
            self.record.differ(f"{process.args!r} ended with {process.returncode}: {told}")

    def last_change(self) -> int:
        """The number of the last row in the journal."""
        with closing(sqlite3.connect(self.daemon.database)) as connection:
            ((number,),) = connection.execute("SELECT max(id) FROM change")
        return int(number)

    def forget_undo(self) -> None:
        """The last changeset is another database's."""
        self._undoable = None

    def _run(self, words: list[str]) -> str:
        return self.daemon.command("--json", *words)

    def _run_process(self, words: list[str]) -> str:
        done = preloaded.run(self.daemon.arguments("--json", *words), text=True)
        assert done.returncode == 0, f"policyd {words}: {done.stderr}"
        return str(done.stdout)
