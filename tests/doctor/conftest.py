"""Two daemons for all configurations: one that enforces, at an open and a closed socket, and one in monitor mode."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postfix.daemon import USER, Daemon
from tests.postfix.instance import missing_for_postfix
from tests.support.places import OPEN_PLACE
from tests.support.ports import free_port
from tests.support.required import give_up

from .running import Run, RunningSite
from .sites import MakeSite, Site


class Daemons:
    """Daemons with the tables that all configurations have in common, and the queues in which they listen."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.queues = {name: folder / name for name in ("open", "closed", "monitor")}
        for queue in self.queues.values():
            socket_folder = queue / "policyd"
            socket_folder.mkdir(parents=True)
            shutil.chown(socket_folder, USER, "postfix")
            socket_folder.chmod(0o2750)
        listen = [
            f"unix:{self.queues[name]}/policyd/policyd.sock:mode={mode}"
            for name, mode in (("open", 660), ("closed", 600))
        ]
        self._started = [
            self._start(folder / "enforcing", "open", listen=[*listen, f"tcp:{self.port}:interface=127.0.0.1"]),
            self._start(folder / "monitoring", "monitor", mode="monitor"),
        ]

    def _start(self, folder: Path, queue: str, **settings: object) -> Daemon:
        folder.mkdir()
        shutil.chown(folder, USER)
        own = {"insider_networks": ["127.0.0.0/8", "::1/128"], **settings}
        daemon = Daemon(folder, self.queues[queue] / "policyd" / "policyd.sock", own)
        daemon.command("domain", "add", "example.com")
        daemon.command("mailbox", "add", "bob", "bob@example.com")
        daemon.command("mailbox", "restrict", "bob", "--reason", "internal mailbox")
        daemon.start()
        return daemon

    def stop(self) -> None:
        """Stop them all."""
        for daemon in self._started:
            daemon.stop()


@pytest.fixture(scope="session")
def daemons() -> Iterator[Daemons]:
    """The running daemons."""
    if reason := missing_for_postfix():
        give_up("POSTFIX", reason)
    folder = Path(tempfile.mkdtemp(prefix="policyd-", dir=OPEN_PLACE))
    folder.chmod(0o755)
    made = Daemons(folder)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_site(daemons: Daemons, tmp_path: Path) -> MakeSite:
    """Makes the site of a configuration, with the daemon that its settings ask for."""
    queues = {"socket-denied": "closed", "monitor-and-soft-bounce": "monitor"}

    def make(name: str) -> Site:
        queue = daemons.queues[queues.get(name, "open")]
        return Site(name, tmp_path, queue, **{"10040": str(daemons.port)})

    return make


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts the site of a configuration, in a place that every user can reach."""
    if reason := missing_for_postfix():
        give_up("POSTFIX", reason)
    folder = Path(tempfile.mkdtemp(prefix="policyd-", dir=OPEN_PLACE))
    sites = []

    def start(name: str, **settings: object) -> RunningSite:
        sites.append(RunningSite(name, folder, settings))
        sites[-1].start()
        return sites[-1]

    try:
        yield start
    finally:
        for site in sites:
            site.stop()
        shutil.rmtree(folder, ignore_errors=True)
