"""Waiting for another process: ask again, for so long and no longer."""

import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_SECONDS = 180  # a disk that other suites keep busy syncs slowly
Answer = TypeVar("Answer")


def until(probe: Callable[[], Answer], what: str, seconds: float = LIMIT_SECONDS) -> Answer:
    """The first true answer of *probe*; after *seconds* an AssertionError that says *what* was awaited."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(pause)
        pause = min(1.1 * pause, 0.1)  # on a busy machine the asking itself would keep the others waiting
    return answer
