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
from twisted.internet.main import installReactor
from twisted.internet.posixbase import PosixReactorBase

if hasattr(select, "epoll"):
    from twisted.internet.epollreactor import EPollReactor as _PublicReactor
else:
    from twisted.internet.pollreactor import PollReactor as _PublicReactor  # type: ignore[assignment]  # a reactor, too

_REACTOR_NAMES = ("_poller", "_selectables", "_doReadOrWrite")
_TRANSPORT_NAMES = ("dataBuffer", "_tempDataBuffer")


class _FastReactor(_PublicReactor):
    """Twisted's, without the logging context that it puts around each event: an eighth of an answer's cost.

    What policyd logs names the peer itself. All else is Twisted's, and so is what becomes of errors in what is called.
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
            if selectable is not None:  # it may have been closed by one of the others
                self._doReadOrWrite(selectable, descriptor, event)
        for _ in range(len(self._calls_at_end)):
            self._calls_at_end.popleft()()

    def call_at_end(self, call: Callable[[], None]) -> None:
        """Call *call* once, when all events of this turn are dispatched; from outside of one, in the next."""
        self._calls_at_end.append(call)

    doIteration = doPoll


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


def _write_now(transport: Any, raw: bytes) -> None:
    """Write *raw* in this turn of the reactor; what the socket doesn't take waits for it as usual.

    Twisted's own write registers with epoll, and again to stop: a tenth of what an answer costs.
    """
    send_now = getattr(transport, "writeSomeData", None)  # sockets have it, stdio hasn't
    if send_now is not None and not (transport.dataBuffer or transport._tempDataBuffer):
        sent = send_now(raw)
        if sent == len(raw):
            return
        if isinstance(sent, int):  # else the connection is lost, which a write finds out for itself
            raw = raw[sent:]
    transport.write(raw)


def _write_in_turn(transport: Any, raw: bytes) -> None:
    """Write *raw* once the reactor finds the socket ready for it, as Twisted always does."""
    transport.write(raw)


def _missing(owner: object, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if not hasattr(owner, name)]


# A descriptor makes a reactor of its own unless it is given something that is true.
_NO_REACTOR: Any = object()
write = _write_in_turn if _missing(FileDescriptor(_NO_REACTOR), _TRANSPORT_NAMES) else _write_now
