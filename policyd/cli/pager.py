"""Shows long output on a terminal through a pager: that of `PAGER`, else less or more."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, cast

_AT_ONCE = 1_000  # lines in a write


@dataclass(frozen=True, slots=True)
class Pager:
    """A program that shows its stdin page by page; whether it takes bold letters for what they are."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    shows_bold: bool


def find_pager(environ: Mapping[str, str]) -> Pager | None:
    """The pager for the terminal of these variables; None where there is none, or none is wanted.

    Whoever may run policyd by sudo or doas, and perhaps nothing else, gets no shell of root's from it: that is less,
    which can be told to run nothing. Source: less(1), LESSSECURE.
    """
    is_borrowed = any(name in environ for name in ("SUDO_UID", "SUDO_USER", "DOAS_USER"))
    if environ.get("TERM", "dumb") == "dumb":
        return None
    if "PAGER" in environ and not is_borrowed:
        try:
            wanted = [shlex.split(environ["PAGER"])]
        except ValueError:  # a quote that is never closed
            return None
    else:
        wanted = [["less"]] if is_borrowed else [["less"], ["more"]]
    for words in wanted:
        program = words and words[0] != "cat" and shutil.which(words[0])
        if program:
            options = environ.get("LESS", "FRX")
            secure = {"LESSSECURE": "1"} if is_borrowed else {}
            shows_bold = os.path.basename(program) == "less" and "r" in options.lower()
            return Pager((program, *words[1:]), {**environ, "LESS": options, **secure}, shows_bold)
    return None


def show_lines(lines: Iterable[str], pager: Pager | None) -> None:
    """Print *lines* on the terminal, by *pager* where there are more than fit on it."""
    remaining = iter(lines)
    height = shutil.get_terminal_size().lines
    first = [*islice(remaining, height)]
    if pager is None or len(first) < height:
        _write(sys.stdout, chain(first, remaining))
        return

    # Ctrl-C is for the pager alone, which knows what to do: it must not be left without us, and we not without it. A
    # handler of ours is not inherited, as an ignored signal would be.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        try:
            process = subprocess.Popen(
                pager.command,
                env=pager.environment,
                stdin=subprocess.PIPE,
                encoding=sys.stdout.encoding,
                errors="backslashreplace",
            )
        except OSError:  # it is no program after all
            _write(sys.stdout, chain(first, remaining))
            return
        # Who quits before the end has seen enough.
        with suppress(BrokenPipeError), cast(IO[str], process.stdin) as stream:
            _write(stream, chain(first, remaining))
        process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _write(stream: IO[str], lines: Iterable[str]) -> None:
    remaining = iter(lines)
    while some := [*islice(remaining, _AT_ONCE)]:
        stream.write("\n".join([*some, ""]))
