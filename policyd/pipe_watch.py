"""Root doesn't wait for ever where SQLite opens by name what somebody may have swapped for a pipe.

SQLite opens without O_NONBLOCK, and goes on after a signal; so who looks on, in a thread, can only end the process.
A process that works, or waits for a lock, wakes up now and then; who opens a pipe without another end doesn't. A slow
disk may not wake it either, as may some other wait; so the kernel is asked what it sleeps in, where it tells that.
"""

import os
import re
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from policyd.errors import StoreError
from policyd.printable import printable

_LOOK_SECONDS = 1.0
_LOOKS = 5  # that found it asleep, and not woken up since
_ASLEEP = re.compile(rb"State:\tS.*voluntary_ctxt_switches:\t(\d+)\nnonvol", re.DOTALL)
_IN_OPEN = (b"wait_for_partner", b"fifo_open")  # of Linux's fs/pipe.c; the compiler may make one of both
_UNTOLD = (b"", b"0")


@contextmanager
def watching(path: Path) -> Iterator[None]:
    """The block opens the database at *path*. Where root does so as another user, and it never ends, this process does.

    Nothing is lost by that: a transaction that isn't committed is undone by whoever opens the database next.
    """
    if os.geteuid() == os.getuid():  # nobody but that user himself could put anything there
        yield
        return
    is_over = threading.Event()
    threading.Thread(target=_watch, args=(path, threading.get_native_id(), is_over), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _watch(path: Path, thread: int, is_over: threading.Event) -> None:
    with suppress(OSError), open(f"/proc/self/task/{thread}/status", "rb", buffering=0) as status:
        looks, woken = 0, b""
        while not is_over.wait(_LOOK_SECONDS):
            asleep = _ASLEEP.search(os.pread(status.fileno(), 8192, 0))
            looks = looks + 1 if asleep and asleep[1] == woken and _may_open_pipe(thread) else 0
            woken = asleep[1] if asleep else b""
            if looks == _LOOKS:
                _end(path)


def _may_open_pipe(thread: int) -> bool:
    """Whether *thread*, which sleeps, does so in opening a pipe; True where the kernel doesn't tell."""
    try:
        sleeps_in = Path(f"/proc/self/task/{thread}/wchan").read_bytes().strip()
    except OSError:
        return True
    return sleeps_in in _IN_OPEN or sleeps_in in _UNTOLD


def _end(path: Path) -> None:
    problem = f"{path}: it, or what is beside it, was swapped for a pipe; see who does that; nothing was changed"
    with suppress(OSError):
        stderr = sys.__stderr__.fileno() if sys.__stderr__ else 2
        if select.select([], [stderr], [], _LOOK_SECONDS)[1]:  # a terminal that is held must not hold us, too
            os.write(stderr, f"policyd: {printable(problem)}\n".encode())
    os._exit(StoreError.exit_status)
