"""Every private name of Twisted's that policyd uses, each looked for at start; the public way stands beside it.

benchmarks/NOTES.rst says how much time each saves. With a Twisted that has renamed one, answers take that much longer.
"""

import select
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST, installReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger

if hasattr(select, "epoll"):
    from twisted.internet.epollreactor import EPollReactor as _PublicReactor
else:
    from twisted.internet.pollreactor import PollReactor as _PublicReactor  # type: ignore[assignment]  # a reactor, too

_REACTOR_NAMES = (
    *("_poller", "_selectables", "_doReadOrWrite", "_disconnectSelectable"),
    *("_newTimedCalls", "_pendingTimedCalls", "_justStopped"),
)
_TRANSPORT_NAMES = ("dataBuffer", "_tempDataBuffer")


class _FastReactor(_PublicReactor):
    """Twisted's, without the logging context that it puts around each event: an eighth of an answer's cost.

    What policyd logs names the peer itself. Where there is something to read and nothing else, it is read at once. All
    else is Twisted's, and so is what becomes of errors in what is called.
    """

    def __init__(self) -> None:
        self._calls_at_end: deque[Callable[[], None]] = deque()
        super().__init__()

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, *timeout* seconds at most, and dispatch each; then call what is to be called at the end."""
        wait = 0 if self._calls_at_end else -1 if timeout is None else timeout
        events = self._poller.poll(wait, max(1, len(self._selectables)))
        for descriptor, event in events:
            selectable = self._selectables.get(descriptor)
            if selectable is None:  # it was closed by one of the others
                continue
            if event != select.EPOLLIN:
                self._doReadOrWrite(selectable, descriptor, event)
                continue
            try:
                why = selectable.doRead()
            except BaseException as error:  # noqa: BLE001 - a defect of whoever reads: that ends, the others go on
                Logger().failure("reading failed")
                why = error
            if why is not None:
                self._disconnectSelectable(selectable, why, True)
        for _ in range(len(self._calls_at_end)):
            self._calls_at_end.popleft()()

    def call_at_end(self, call: Callable[[], None]) -> None:
        """Call *call* once, when all events of this turn are dispatched; from outside of one, in the next."""
        self._calls_at_end.append(call)

    def doIteration(self, timeout: float | None) -> None:
        """Wait and dispatch again and again, until a timer is new or due, a thread wants something, or all is to stop.

        Twisted looks for these after each turn, whether there is one or not.
        """
        self.doPoll(timeout)
        while self.running and not (self._newTimedCalls or self.threadCallQueue or self._justStopped):
            left = self._pendingTimedCalls[0].time - self.seconds() if self._pendingTimedCalls else None
            if left is not None and left <= 0:
                return
            self.doPoll(left)


def make_reactor() -> PosixReactorBase:
    """The reactor of this process, made now if there is none.

    An import would make it, too, but from files that the daemon's user may not be able to read by now.
    """
    if "twisted.internet.reactor" not in sys.modules:
        reactor = _FastReactor() if hasattr(select, "epoll") else _PublicReactor()
        installReactor(_PublicReactor() if _missing(reactor, _REACTOR_NAMES) else reactor)
    return cast(PosixReactorBase, sys.modules["twisted.internet.reactor"])


def call_at_end(clock: IReactorTime, call: Callable[[], None]) -> None:
    """Have the reactor *clock* call *call* when it has read all that came in this turn.

    Twisted's own way makes an object for it and sorts that among the timers: a twentieth of what a lone answer costs.
    """
    if isinstance(clock, _FastReactor):
        clock.call_at_end(call)
    else:
        clock.callLater(0, call)


def missing_names(reactor: PosixReactorBase) -> list[str]:
    """The private names that this Twisted doesn't have; answers take the public way instead."""
    wanted = _REACTOR_NAMES if hasattr(select, "epoll") else ()
    return _missing(FileDescriptor(cast(IReactorFDSet, reactor)), _TRANSPORT_NAMES) + _missing(reactor, wanted)


def has_unsent(transport: Any) -> bool:
    """Whether *transport* still has bytes that the socket did not take; False where this Twisted can't say."""
    return any(getattr(transport, name, None) for name in _TRANSPORT_NAMES)


def shorten(transport: Any, received: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Have *transport* give what it reads to *received* without a detour; returns what writes to it.

    What the socket takes is written in this turn of the reactor; the rest waits for it as usual. Twisted's own write
    registers with epoll, and again to stop: a tenth of what an answer costs.
    """
    connected = getattr(transport, "socket", None)  # stdio has none
    if connected is None or not _HAS_TRANSPORT_NAMES:
        write: Callable[[bytes], None] = transport.write
        return write
    receive, size, send = connected.recv, transport.bufferSize, connected.send

    def do_read() -> Exception | None:
        try:
            raw = receive(size)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not raw:
            return CONNECTION_DONE
        received(raw)
        return None

    def write_now(raw: bytes) -> None:
        if not (transport.dataBuffer or transport._tempDataBuffer):
            try:
                sent = send(raw)
            except OSError:  # it takes nothing now, or is lost, which a write finds out for itself
                sent = 0
            if sent == len(raw):
                return
            raw = raw[sent:]
        transport.write(raw)

    transport.doRead = do_read
    return write_now


def forget(transport: Any) -> None:
    """Let *transport*, which is gone, hold nothing of who read from it."""
    vars(transport).pop("doRead", None)


def _missing(owner: object, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if not hasattr(owner, name)]


# A descriptor makes a reactor of its own unless it is given something that is true.
_NO_REACTOR: Any = object()
_HAS_TRANSPORT_NAMES = not _missing(FileDescriptor(_NO_REACTOR), _TRANSPORT_NAMES)
