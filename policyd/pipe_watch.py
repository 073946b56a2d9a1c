"""Root doesn't wait for ever where SQLite opens by name what somebody may have swapped for a pipe.

SQLite opens without O_NONBLOCK, and goes on after a signal; so who looks on, in a thread, can only end the process.
A process that works, or waits for a disk or a lock, wakes up now and then; who waits for a pipe's other end doesn't.
"""

import os
import re
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
            looks = looks + 1 if asleep and asleep[1] == woken else 0
            woken = asleep[1] if asleep else b""
            if looks == _LOOKS:
                _end(path)


def _end(path: Path) -> None:
    problem = f"{path}: it, or what is beside it, was swapped for a pipe; see who does that; nothing was changed"
    with suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"policyd: {printable(problem)}\n".encode())
    os._exit(StoreError.exit_status)
