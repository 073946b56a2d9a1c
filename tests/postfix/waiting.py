"""Waiting for another process: ask again, for so long and no longer."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def until(probe: Callable[[], Answer], what: str, seconds: float = 60) -> Answer:
    """The first true answer of *probe*; after *seconds* an AssertionError that says *what* was awaited."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)
    return answer
