"""A connection in memory that refuses what a real one, or Postfix at its other end, would not forgive."""

import re

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from policyd.daemon.connection import PolicyConnection
from policyd.daemon.server import PolicyFactory

REPLIES = re.compile(rb"(action=[ -~]+\n\n)+")


class StrictTransport(StringTransport):
    """Takes whole replies only, and nothing after the end; tells what the peer has got, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.is_full = False  # the peer does not read: what is written now stays here

    def write(self, data: bytes) -> None:
        """Take one reply or several."""
        assert self.connected, "written to a connection that is gone"
        assert not self.disconnecting, "written after the connection was closed"
        assert REPLIES.fullmatch(data), f"no replies: {data!r}"
        super().write(data)

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        """Forget the producer; a real transport does not mind if there is none."""
        self.producer = None

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close at once."""
        self.aborted = True
        self.loseConnection()


class Connection:
    """A peer of *factory*'s, in memory; *clock* is the factory's."""

    def __init__(self, factory: PolicyFactory, clock: Clock, address: object = None) -> None:
        self._clock = clock
        self.transport = StrictTransport()
        self.protocol: PolicyConnection = factory.buildProtocol(address)  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)

    def receive(self, received: bytes) -> list[str]:
        """The replies to *received*, which arrive in one piece, without their `action=`."""
        self.protocol.dataReceived(received)
        return self.replies()

    def end_sending(self) -> None:
        """Send no more, and go on reading."""
        self.protocol.readConnectionLost()
        self._clock.advance(0)

    def replies(self) -> list[str]:
        """The replies that have come since this was last asked, at the end of this turn of the reactor."""
        self._clock.advance(0)
        written = self.transport.value().decode("ascii")
        self.transport.clear()
        return [reply.removeprefix("action=") for reply in written.split("\n\n")[:-1]]

    @property
    def is_closed(self) -> bool:
        """Whether the daemon has closed it."""
        return self.transport.disconnecting

    def end(self) -> None:
        """Let the protocol know that it is gone, as the reactor does."""
        self.transport.connected = False
        reason = ConnectionAborted() if self.transport.aborted else ConnectionDone()
        self.protocol.connectionLost(Failure(reason))
