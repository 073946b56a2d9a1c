"""A command on a terminal of its own, of any size: what it shows, and what is typed at it."""

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.command_line import CommandLine
from tests.support.waiting import LIMIT_SECONDS


class Terminal:
    """A terminal on which `process` runs."""

    def __init__(self, ours: int, process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
        self._ours = ours
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.process = process
        self.shown = ""

    def read_until(self, wanted: str) -> None:
        """Read until *wanted* was shown."""
        while wanted not in self.shown:
            text = self._read()
            assert text, f"{wanted!r} was never shown, but: {self.shown[-2000:]}"
            self.shown += text

    def type(self, keys: str) -> None:
        """Type *keys*; `\\x03` is Ctrl-C."""
        os.write(self._ours, keys.encode())

    def read_to_the_end(self) -> str:
        """All that was shown, once the process has ended."""
        while text := self._read():
            self.shown += text
        self.process.wait(LIMIT_SECONDS)
        return self.shown.replace("\r\n", "\n")

    def _read(self) -> str:
        try:
            while True:
                is_ready, _, _ = select.select([self._ours], [], [], LIMIT_SECONDS)
                assert is_ready, f"nothing more is shown, and nobody goes away, after: {self.shown[-2000:]}"
                read = os.read(self._ours, 65536)
                if not read:
                    return ""
                if text := self._decoder.decode(read):
                    return text
        except OSError:  # nobody has the other end any more
            return ""


def type_line(
    words: Sequence[str], environment: Mapping[str, str], *answers: tuple[str, str], folder: Path | None = None
) -> tuple[str, int]:
    """What a terminal of 120 columns shows of the command *words*, in *folder*, and its status.

    Each of *answers* is what is shown that asks for one, and what is then typed.
    """
    ours, theirs = _open_terminal(columns=120, lines=40)
    try:
        with subprocess.Popen(
            words, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        ) as process:
            os.close(theirs)
            terminal = Terminal(ours, process)
            for asked, answer in answers:
                terminal.read_until(asked)
                terminal.type(answer)
            return terminal.read_to_the_end(), process.wait(LIMIT_SECONDS)
    finally:
        os.close(ours)


def _open_terminal(*, columns: int, lines: int) -> tuple[int, int]:
    """A new terminal of that size: our end of it, and a program's."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    return ours, theirs


@contextmanager
def on_terminal(
    policyd: CommandLine, words: Sequence[str], *, columns: int = 80, lines: int = 24, **environment: str
) -> Iterator[Terminal]:
    """`policyd` with *words* on a terminal, which is what Ctrl-C comes from; without a pager where none is named."""
    ours, theirs = _open_terminal(columns=columns, lines=lines)
    wanted = {"TERM": "xterm", "PAGER": "", "NO_COLOR": "1", "COLUMNS": "", "LINES": "", **environment}
    with policyd.start(
        words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        environment=wanted,
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            os.close(ours)


def shown_on_terminal(policyd: CommandLine, line: str, **options: object) -> str:
    """What the command shows on a terminal; it must succeed."""
    with on_terminal(policyd, line.split(), **options) as terminal:  # type: ignore[arg-type]
        shown = terminal.read_to_the_end()
        assert terminal.process.returncode == 0, shown
    return shown
