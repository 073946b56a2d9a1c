"""Twisted's epoll reactor, without the logging context that it puts around each event: an eighth of an answer's cost.

What policyd logs names the peer itself.
"""

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor


class Reactor(EPollReactor):
    """Sees to events itself; all else is Twisted's, errors in what is called included."""

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, *timeout* seconds at most, and see to each."""
        events = self._poller.poll(-1 if timeout is None else timeout, max(1, len(self._selectables)))
        for descriptor, event in events:
            selectable = self._selectables.get(descriptor)
            if selectable is not None:  # it may have been closed by one of the others
                self._doReadOrWrite(selectable, descriptor, event)

    doIteration = doPoll  # noqa: N815 - Twisted's name


def install() -> None:
    """Make it the reactor of this process."""
    installReactor(Reactor())
