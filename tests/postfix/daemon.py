"""The product under test as real processes: the command, the daemon, its settings file and its database."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from policyd.cli import main
from tests.support import preloaded
from tests.support.activated import activated
from tests.support.waiting import LIMIT_SECONDS, until

CHECKOUT = Path(__file__).resolve().parents[2]
USER = "nobody"  # whom the daemon becomes, and spawn(8) runs it as
Settings = dict[str, object]


class Daemon:
    """policyd on the socket that contrib/postfix names, and its command line."""

    def __init__(self, folder: Path, endpoint: Path, settings: Settings) -> None:
        """Keep settings and database in *folder*; listen at the unix socket *endpoint*."""
        self.folder = folder
        self.endpoint = endpoint
        self.config = folder / "policyd.toml"
        self.database = folder / "policyd.db"
        self.output = folder / "policyd.output"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings: Settings = {
            "database": f"sqlite:///{self.database}",
            "listen": [f"unix:{endpoint}:mode=660"],
            "origin": "example.com",
            "insider_networks": ["127.0.0.0/8", "10.0.0.0/8"],
            "user": USER,
            **settings,
            "audit": {"decisions": "all", "syslog": f"unix:{folder / 'log'}"},
        }
        self.write_settings()

    def write_settings(self, **changes: object) -> None:
        """Write the settings file, with *changes* to what the daemon was made with."""
        self.config.write_text(_toml({**self._settings, **changes}))

    def command(self, *words: str | Path, status: int = 0) -> str:
        """What ``policyd`` prints, called in this process, which is quicker; it must end with *status*."""
        done = CliRunner().invoke(main, list(map(str, ["--config", self.config, *words])))
        assert done.exit_code == status, f"policyd {words}: status {done.exit_code}\n{done.output}"
        return done.stdout

    def start(self, *held: socket.socket) -> None:
        """Start the daemon, as systemd would with the sockets *held*, and return when connections are taken."""
        command = [*preloaded.PROGRAM, "--config", str(self.config), "serve"]
        with self.output.open("ab") as output:
            self._process = preloaded.start(
                command,
                env=os.environ | (activated(*held) if held else {}),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[each.fileno() for each in held],
            )
        until(self._takes_connections, "policyd to listen")

    def stop(self) -> None:
        """Stop the daemon as an administrator does; it must say that it ended well."""
        if self._process:
            self._process.terminate()
            try:
                status = self._process.wait(LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise
            finally:
                self._process = None
            assert status == 0, f"policyd ended with status {status}\n{self.read_output()}"

    def converse_on_one_socket(self, requests: bytes) -> bytes:
        """All that ``serve --stdio`` says to *requests* when it is started as spawn(8) does it."""
        ours, theirs = socket.socketpair()
        with ours, theirs, ours.makefile("rb") as replies:
            ours.sendall(requests)
            ours.shutdown(socket.SHUT_WR)
            words = [*preloaded.PROGRAM, "--config", str(self.config), "serve", "--stdio"]
            end = theirs.fileno()
            done = preloaded.run(words, cwd=CHECKOUT, stdin=end, stdout=end, stderr=end)
            theirs.close()
            said = replies.read()
        assert done.returncode == 0, said
        return said

    def crash(self) -> None:
        """End the daemon so that it can't tidy up."""
        assert self._process
        self._process.kill()
        self._process.wait(LIMIT_SECONDS)
        self._process = None

    def reload(self) -> None:
        """Have the daemon read its settings again; returns at once."""
        assert self._process
        self._process.send_signal(signal.SIGHUP)

    def read_output(self) -> str:
        """What the daemon said on stdout and stderr."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def _takes_connections(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"policyd didn't start:\n{self.read_output()}"
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.endpoint))
            except OSError:
                return False
        return True


def _toml(settings: Settings) -> str:
    """*settings* as TOML; of the values a table may hold, JSON's spelling is TOML's."""
    tables = {name: value for name, value in settings.items() if isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if name not in tables]
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def unprivileged_command(user: str, folder: Path) -> list[str]:
    """A command line that runs policyd as *user*, as far as ``serve``; [] where *user* can't be given any.

    A checkout or an environment below a home folder is closed to other users: then a copy in *folder*, with
    whatever Python *user* may run.
    """
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    attempts = [(sys.executable, CHECKOUT)]
    attempts += [
        (found, folder / "lib")
        for found in (
            sys.executable,
            os.path.realpath(sys.executable),
            f"/usr/bin/{python}",
            f"/usr/local/bin/{python}",
        )
    ]
    for executable, path in attempts:
        if path != CHECKOUT and not path.exists():
            _copy_packages(path)
        command = ["/usr/bin/env", f"PYTHONPATH={path}", executable, "-m", "policyd"]
        if _succeeds_as(user, [*command, "--version"]) and _succeeds_as(user, [*command[:3], "-c", "import twisted"]):
            return command
    return []


def _succeeds_as(user: str, command: list[str]) -> bool:
    try:
        return not subprocess.run(
            command,
            user=user,
            group=pwd.getpwnam(user).pw_gid,
            extra_groups=[],
            cwd="/",
            timeout=LIMIT_SECONDS,
            capture_output=True,
        ).returncode
    except OSError:
        return False


def _copy_packages(folder: Path) -> None:
    """The packages that the running Python has, less those that only developers need."""
    developers = shutil.ignore_patterns(
        "mypy*",
        "*ruff*",
        "pip",
        "setuptools",
        "pytest*",
        "_pytest",
        "hypothesis*",
        "coverage*",
        "*__mypyc*",
        "test",
        "tests",
    )
    for packages in (path for path in sys.path if path.endswith("site-packages")):
        shutil.copytree(packages, folder, ignore=developers, dirs_exist_ok=True)
    shutil.copytree(CHECKOUT / "policyd", folder / "policyd", dirs_exist_ok=True)
