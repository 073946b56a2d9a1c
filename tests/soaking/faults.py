"""Faults, each with what it allows: a hang-up where the daemon dies or has no database, never a wrong answer."""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from random import Random

from tests.soaking.drill import Drill
from tests.support.fake_smtpd import request
from tests.support.processes import is_alive, tree
from tests.support.running_daemon import Syslog
from tests.support.waiting import LIMIT_SECONDS, until

_LOCK = """
import sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
writer.execute("BEGIN IMMEDIATE")
writer.execute("UPDATE mailbox SET receive = 'nobody', reason = 'never committed'")
print("locked", flush=True)
sys.stdin.read()
writer.execute("ROLLBACK")
"""


def kill(drill: Drill, random: Random) -> None:
    """kill -9 of the daemon, and another in its place."""
    _restart(drill, random, was_killed=True)


def terminate(drill: Drill, random: Random) -> None:
    """SIGTERM, and a start."""
    _restart(drill, random, was_killed=False)


def _restart(drill: Drill, random: Random, *, was_killed: bool) -> None:
    """At rest with another number of workers, or in the middle of a command."""
    if random.random() < 0.5:
        drill.workers = random.choice([1, 2])
        drill.write_settings()
        end_and_start(drill, was_killed=was_killed)
        return
    typed, process = drill.begin_command(random)
    with drill.timeline.changing(typed.world, " ".join(typed.words)):
        end_and_start(drill, was_killed=was_killed)
        drill.end_command(process)
    drill.probe.end(random, typed.about)


def end_and_start(drill: Drill, *, was_killed: bool) -> None:
    """End the daemon and start it again; all that it answered is on record."""
    with drill.timeline.trouble():
        if was_killed:
            drill.kill()
        else:
            drill.stop()
        last = drill.record.last
        drill.start()
    drill.settle(last, was_killed=was_killed)


def kill_worker(drill: Drill, random: Random) -> None:
    """kill -9 of one of two workers."""
    _, *workers = tree(drill.pid)
    if not workers:
        return
    victim = random.choice(sorted(workers))
    started = len(drill.daemon.syslog.matching("event=started"))
    with drill.timeline.trouble():
        os.kill(victim, signal.SIGKILL)
        until(lambda: not is_alive(victim), "its end")
        last = drill.record.last
        until(lambda: len(drill.daemon.syslog.matching("event=started")) > started, "the new worker")
    drill.settle(last, was_killed=True)


def reload(drill: Drill, random: Random) -> None:
    """SIGHUP, half of the times to monitor mode, and back after a command. Nobody may notice, but for the mode."""
    if random.random() < 0.5:
        _reload_in_mode(drill, random, is_monitor=True)
        drill.command(random)
    _reload_in_mode(drill, random, is_monitor=False)


def _reload_in_mode(drill: Drill, random: Random, *, is_monitor: bool) -> None:
    world = drill.timeline.world.copy()
    world.is_monitor = is_monitor
    drill.read_log()
    drill.probe.begin(random, "")
    with drill.timeline.changing(world, f"SIGHUP, monitor {is_monitor}"):
        drill.write_settings()
        drill.daemon.tell(signal.SIGHUP)
        until(lambda: len(drill.daemon.syslog.matching("event=reloaded")) >= drill.workers, "all to reload")
    drill.probe.end(random, "")


def back_up(drill: Drill, _random: Random) -> None:
    """A copy of the database, for `restore`."""
    file = drill.daemon.folder / "backup.db"
    file.unlink(missing_ok=True)
    drill.daemon.command("database", "backup", file)
    drill.backup = (file, drill.timeline.world.copy())


def restore(drill: Drill, random: Random) -> None:
    """The backup, restored while everything goes on; of what was replaced, nothing is kept."""
    if drill.backup is None:
        back_up(drill, random)
    assert drill.backup is not None
    file, world = drill.backup[0], drill.backup[1].copy()
    world.is_monitor = drill.timeline.world.is_monitor
    drill.probe.begin(random, "")
    with drill.timeline.changing(world, "database restore"):
        drill.daemon.command("database", "restore", file, "--yes")
    drill.probe.end(random, "")
    drill.forget_undo()
    for kept in drill.daemon.folder.glob("policyd.db.before-*"):
        kept.unlink()


def remove_log(drill: Drill, random: Random) -> None:
    """rm of -wal and -shm, which hold nothing that is not in the file: no command runs."""
    log, index = (drill.daemon.folder / f"policyd.db{suffix}" for suffix in ("-wal", "-shm"))
    if log.exists() and log.stat().st_size:
        drill.record.count("logs not empty before rm")
        return
    drill.probe.begin(random, "")
    log.unlink(missing_ok=True)
    index.unlink(missing_ok=True)
    drill.probe.end(random, "")


def move_away(drill: Drill, random: Random) -> None:
    """No database for a moment: hang-ups, and nothing else."""
    away = drill.daemon.folder / "away.db"
    drill.probe.begin(random, "")
    with drill.timeline.changing(drill.timeline.world.copy(is_away=True), "mv of the database away"):
        drill.daemon.database.rename(away)
    drill.probe.end(random, "")
    drill.probe.begin(random, "")
    world = drill.timeline.world.copy()
    with drill.timeline.changing(world, "mv of the database back"):
        away.rename(drill.daemon.database)
    drill.probe.end(random, "")


def lock(drill: Drill, random: Random) -> None:
    """A writer that doesn't end, with a command that waits for it; then it takes all back."""
    arguments = [sys.executable, "-c", _LOCK, str(drill.daemon.database)]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "locked\n"
        drill.probe.end(random, "")
        typed, process = drill.begin_command(random)
        with drill.timeline.changing(typed.world, " ".join(typed.words)):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)  # it can't end
                drill.record.differ(f"{typed.words} did not wait for another writer")
            drill.probe.end(random, "")
            writer.communicate(timeout=LIMIT_SECONDS)
            drill.end_command(process)
        drill.probe.end(random, typed.about)


def kill_command(drill: Drill, random: Random) -> None:
    """kill -9 of a command at any moment: all of it is in force, or nothing ever was."""
    before = drill.last_change()
    typed, process = drill.begin_command(random)
    with drill.timeline.changing(typed.world, f"{' '.join(typed.words)} (killed)"):
        with suppress(subprocess.TimeoutExpired):
            process.wait(random.random() * 2)
        process.kill()
        process.communicate()
        is_done = drill.last_change() > before
        if not is_done and not drill.timeline.withdraw():
            drill.record.differ(f"{typed.words} was killed, is not in the journal, and was in force")
    drill.record.count("commands killed after" if is_done else "commands killed before their end")
    drill.probe.end(random, typed.about)


def stall_syslog(drill: Drill, random: Random) -> None:
    """A syslog that reads nothing during some commands."""
    drill.daemon.syslog.stall()
    for _ in range(random.randint(1, 3)):
        drill.command(random)
    drill.daemon.syslog.resume()


def recreate_syslog(drill: Drill, random: Random) -> None:
    """A syslog that ends, and starts again after a command."""
    drill.daemon.syslog.close()
    drill.read_log()
    (drill.daemon.folder / "log").unlink()
    drill.command(random)
    drill.daemon.syslog = Syslog(drill.daemon.folder / "log")


def send_nonsense(drill: Drill, random: Random) -> None:
    """Garbage, halves of requests that are held while commands run, resets, and answers that nobody reads."""
    whole = request(instance="x")
    held = []
    for _ in range(10):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(LIMIT_SECONDS)
        held.append(peer)
        with suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
            peer.connect(str(drill.daemon.socket))
            peer.sendall(_nonsense(random, whole))
    drill.command(random)
    for peer in held:
        if random.random() < 0.5:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()


def _nonsense(random: Random, whole: bytes) -> bytes:
    return random.choice(
        [
            random.randbytes(random.randrange(1, 5000)) + b"\n\n",
            whole[: random.randrange(len(whole))],
            whole * random.randrange(200) + whole[:10],
            b"x" * 70_000,
            b"",
        ]
    )


Fault = Callable[[Drill, Random], None]
RESTARTS: list[Fault] = [kill, terminate, kill_worker]  # after which the daemon's memory is another's
FAULTS: list[Fault] = [
    *RESTARTS,
    *(
        reload,
        back_up,
        restore,
        remove_log,
        move_away,
        lock,
        kill_command,
        stall_syslog,
        recreate_syslog,
        send_nonsense,
    ),
]
