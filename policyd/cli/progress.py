"""Shows the progress of long work: a bar on a terminal; else, for a stream, a line each 100 000 rows."""

import os
import sys
import time
from types import TracebackType
from typing import Any, BinaryIO

from policyd.cli.terminal import echo
from policyd.printable import printable

_LINE_EACH = 100_000
_BAR_EACH = 1_000


class Progress:
    """How far reading *stream* is, or how many of *total* are done, with the rate; on stderr.

    *unit* is what is counted.
    """

    def __init__(self, stream: BinaryIO | None = None, *, total: int | None = None, unit: str = "rows") -> None:
        self._stream = stream
        self._total = total
        self._unit = unit
        self._count = 0
        self._shown = 0
        self._started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                BarColumn(),
                TextColumn(f"{{task.fields[count]}} {self._unit}, {{task.fields[rate]}}/s"),
                TimeRemainingColumn(),
            )
            console = Console(stderr=True, no_color="NO_COLOR" in os.environ)
            self._bar = Progress(*columns, console=console, transient=True)
            total = os.fstat(self._stream.fileno()).st_size if self._stream else self._total
            self._task = self._bar.add_task("", total=total, count=0, rate=0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def say(self, line: str) -> None:
        """Print one line on stderr; a bar gives way to it, and comes back below."""
        if self._bar is None:
            echo(line, err=True)
        else:
            self._bar.console.out(printable(line), highlight=False)

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()

    def reach(self, count: int, total: int) -> None:
        """Show that *count* of *total* are done."""
        self._count = count
        if self._bar is not None:
            self._bar.update(self._task, completed=count, total=total, count=count, rate=self._rate())

    def advance(self, count: int = 1) -> None:
        """Show that *count* more are done."""
        self._count += count
        if self._bar is not None and self._count - self._shown >= _BAR_EACH:
            # the descriptor's own position, since a reader uses the stream
            done = os.lseek(self._stream.fileno(), 0, os.SEEK_CUR) if self._stream else self._count
            self._bar.update(self._task, completed=done, count=self._count, rate=self._rate())
            self._shown = self._count
        elif self._bar is None and self._stream is not None and self._count % _LINE_EACH == 0:
            echo(f"policyd: {self._count} {self._unit}, {self._rate()}/s", err=True)

    def _rate(self) -> int:
        return round(self._count / max(time.monotonic() - self._started, 0.001))
