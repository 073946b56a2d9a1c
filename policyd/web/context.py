"""What all that is served over HTTP is made from: the settings, what is watched, and threads to read tables in."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from policyd.settings import Settings
from policyd.watching import WatchedProcesses

_THREADS = 4
_WAITING = 64  # calls; more would be answered later than anybody waits

T = TypeVar("T")


class BusyError(Exception):
    """So many calls wait that one more is not taken."""


class Threads:
    """Runs what may take long, so that the reactor goes on; a few at a time."""

    def __init__(self, reactor: IReactorThreads) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, _THREADS, "web")
        self._pending = 0

    def start(self) -> None:
        """Take calls from now on."""
        self._pool.start()

    def call(self, function: Callable[..., T], *values: object) -> "Deferred[T]":
        """What *function* returns for *values*. Fails with BusyError where too many wait."""
        if self._pending >= _WAITING:
            busy: Deferred[T] = fail(BusyError())
            return busy
        self._pending += 1
        called: Deferred[T] = deferToThreadPool(self._reactor, self._pool, function, *values)
        return called.addBoth(self._end)

    def _end(self, result: T) -> T:
        self._pending -= 1
        return result


@dataclass(frozen=True)
class WebContext:
    """The *settings*, what is watched of all *processes*, and *threads*.

    Whoever reads a database that is a file holds `file_lock` meanwhile: a thread that closes any descriptor of the file
    takes away the locks of the others.
    """

    settings: Settings
    processes: WatchedProcesses
    threads: Threads
    file_lock: threading.Lock = field(default_factory=threading.Lock)
