"""The daemon as a real process, with the syslog it writes to, in a folder of its own."""

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from click.testing import CliRunner

from policyd.cli import main
from tests.support import preloaded
from tests.support.fake_smtpd import FakeSmtpd
from tests.support.waiting import LIMIT_SECONDS, until

_HEADER = re.compile(r"<\d+>\w{3} [ \d]\d \d\d:\d\d:\d\d policyd\[\d+\]: ")
_QUESTION = b"?"  # our own: whether all before it is read
IS_ROOT = os.geteuid() == 0


class Syslog:
    """A syslog socket that keeps every line, as it comes: the kernel's queue is short."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self._asking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._asking.connect(str(path))
        self._answered = threading.Event()
        self._lines: list[str] = []
        self.header = ""  # what the last line began with
        self.headers: dict[str, str] = {}  # what each line began with
        self._may_read = threading.Event()
        self._may_read.set()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def lines(self) -> list[str]:
        """All lines so far, without what every syslog line begins with."""
        self._catch_up()
        return list(self._lines)

    def take(self) -> list[str]:
        """All lines so far, which are then forgotten."""
        self._catch_up()
        count = len(self._lines)
        taken = self._lines[:count]
        del self._lines[:count]
        return taken

    def matching(self, part: str) -> list[str]:
        """The lines so far that hold *part*."""
        return [line for line in self.lines() if part in line]

    def wait_for(self, part: str) -> str:
        """The first line that holds *part*."""
        return until(lambda: self.matching(part), f"a line with {part!r}")[0]

    def stall(self) -> None:
        """Read one more line at most, until `resume`."""
        self._may_read.clear()

    def resume(self) -> None:
        """Read again."""
        self._may_read.set()

    def close(self) -> None:
        """Close the socket."""
        self.resume()
        self._asking.close()
        self._socket.shutdown(socket.SHUT_RD)
        self._reader.join()
        self._socket.close()

    def _catch_up(self) -> None:
        """Wait until all that was sent before is read, however busy the machine is; nothing is, while it is stalled."""
        if not self._may_read.is_set() or self._asking.fileno() < 0:
            return
        self._answered.clear()
        self._asking.send(_QUESTION)
        assert self._answered.wait(60), "the lines are not read"

    def _read(self) -> None:
        while datagram := self._socket.recv(65536):
            if datagram == _QUESTION:
                self._answered.set()
                continue
            text = datagram.decode()
            header = _HEADER.match(text)
            self.header = header[0] if header else ""
            line = text.removeprefix(self.header)
            self.headers[line] = self.header
            self._lines.append(line)
            self._may_read.wait()


class Daemon:
    """policyd in *folder*: settings, database, unix socket and syslog are there. Stopped at the end of its block.

    Root may have it become *user*; nobody else may reach the folders that pytest makes.
    """

    def __init__(self, folder: Path, user: str = "root") -> None:
        self.user = user
        self.folder = folder
        self.socket = folder / "policy.sock"
        self.web = folder / "web.sock"  # where metrics and the pages are, if the settings say so
        self.config = folder / "policyd.toml"
        self.database = folder / "policyd.db"
        self.url = ""  # where the tables are on a server
        self.syslog = Syslog(folder / "log")
        self.port = 0  # for those who listen on TCP, too
        self.process: subprocess.Popen[bytes] | None = None
        self.write_settings()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stderr is not None:
                self.process.stderr.close()
        self.syslog.close()

    @property
    def pid(self) -> int:
        """The process that was started: the daemon, or the parent of its workers."""
        assert self.process is not None
        return self.process.pid

    def write_settings(
        self,
        *lines: str,
        listen: Sequence[str] = (),
        decisions: str = "all",
        origin: str | None = "mx.example.net",
        http: Sequence[str] = (),
    ) -> None:
        """Write the settings file: *lines* at the top level, what is logged, and where everything is.

        Without an *origin*, None, the daemon warns at its start. *http* are the lines of that table.
        """
        endpoints = ", ".join(f'"{each}"' for each in listen or [f"unix:{self.socket}"])
        text = [f'database = "{self.url or f"sqlite:///{self.database}"}"', f"listen = [{endpoints}]", *lines]
        text += [f'user = "{self.user}"'] if IS_ROOT else []
        text += [f'origin = "{origin}"'] if origin is not None else []
        text += ["[audit]", f'decisions = "{decisions}"', f'syslog = "unix:{self.folder / "log"}"']
        text += ["[http]", *http, ""] if http else [""]
        self.config.write_text("\n".join(text))

    def arguments(self, *words: str | Path) -> list[str | Path]:
        """The command line of `policyd` with *words*."""
        return [*preloaded.PROGRAM, "--config", self.config, *words]

    def command(self, *words: str | Path, database: Path | None = None) -> str:
        """What `policyd` prints, called in this process, which is quicker; it must succeed."""
        others: list[str | Path] = ["--database", database] if database else []
        called = CliRunner().invoke(main, list(map(str, ["--config", self.config, *others, *words])))
        assert called.exit_code == 0, f"policyd {words}: {called.output}"
        return called.stdout

    def make_tables(self, *mailboxes: str) -> None:
        """Make the database, with *mailboxes* in example.com."""
        self.command("domain", "add", "example.com")
        for name in mailboxes:
            self.command("mailbox", "add", name, f"{name}@example.com")

    def start(
        self,
        command: Sequence[str | Path] = (),
        descriptors: Sequence[int] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start the daemon; return when it is ready.

        *command* is another way to start it; it inherits *descriptors*, and gets *variables* in its environment.
        """
        started = len(self.syslog.matching("event=started"))
        options: Any = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "pass_fds": descriptors}
        options["env"] = os.environ | (variables or {})
        self.process = preloaded.start(command or self.arguments("serve"), **options)
        until(lambda: self._is_ready(started), "the daemon")

    def refuse(self, *words: str) -> tuple[int, str]:
        """Start the daemon where it must end by itself: its exit status, and what it says."""
        done = preloaded.run(self.arguments("serve", *words), text=True)
        assert done.stdout == ""
        return done.returncode, done.stderr

    def tell(self, number: int) -> None:
        """Send the daemon a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def reload(self, outcome: str = "event=reloaded") -> str:
        """Send SIGHUP; the line about what came of it."""
        before = len(self.syslog.matching(outcome))
        self.tell(signal.SIGHUP)
        return until(lambda: self.syslog.matching(outcome)[before:], outcome)[0]

    def stop(self) -> tuple[int, str]:
        """Stop the daemon as an administrator does: its exit status, and all that it wrote on stderr."""
        self.tell(signal.SIGTERM)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """The exit status of the daemon, which must be ending, and all that it wrote on stderr."""
        assert self.process is not None
        process, self.process = self.process, None
        try:
            _, told = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return process.returncode, told.decode()

    def ask(self, request: bytes) -> str:
        """The answer on a connection of its own."""
        with FakeSmtpd(os.fspath(self.socket)) as smtpd:
            return smtpd.ask(request)

    def _is_ready(self, started: int) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended: {self.ended()}"
        return len(self.syslog.matching("event=started")) > started
