"""Long work, shown: a bar on a terminal, a line each 100 000 rows otherwise."""

import os
import sys
import time
from types import TracebackType
from typing import Any, BinaryIO

import click

_LINE_EACH = 100_000
_BAR_EACH = 1_000


class Progress:
    """How far reading *stream* is, with the rate; on stderr. Without a stream, only rows are counted."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream
        self._rows = 0
        self._started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                BarColumn(),
                TextColumn("{task.fields[rows]} rows, {task.fields[rate]}/s"),
                TimeRemainingColumn(),
            )
            console = Console(stderr=True, no_color="NO_COLOR" in os.environ)
            self._bar = Progress(*columns, console=console, transient=True)
            total = os.fstat(self._stream.fileno()).st_size if self._stream else None
            self._task = self._bar.add_task("", total=total, rows=0, rate=0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One more row is done."""
        self._rows += 1
        if self._bar is not None and self._rows % _BAR_EACH == 0:
            # the descriptor's own position: the stream is in a reader's hands
            done = os.lseek(self._stream.fileno(), 0, os.SEEK_CUR) if self._stream else self._rows
            self._bar.update(self._task, completed=done, rows=self._rows, rate=self._rate())
        elif self._bar is None and self._rows % _LINE_EACH == 0:
            click.echo(f"policyd: {self._rows} rows, {self._rate()}/s", err=True)

    def _rate(self) -> int:
        return round(self._rows / max(time.monotonic() - self._started, 0.001))
