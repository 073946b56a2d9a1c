"""A connection in memory that refuses what a real one, or Postfix at its other end, would not forgive."""

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from policyd.server import PolicyFactory, PolicyProtocol


class StrictTransport(StringTransport):
    """Takes whole replies only, and nothing after the end; tells what the peer has got, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.is_full = False  # the peer does not read: what is written now stays here

    def write(self, data: bytes) -> None:
        """Take one reply."""
        assert self.connected, "written to a connection that is gone"
        assert not self.disconnecting, "written after the connection was closed"
        assert data.startswith(b"action="), f"no reply: {data!r}"
        assert data.endswith(b"\n\n"), f"no reply: {data!r}"
        assert data.count(b"\n") == 2, f"not one reply: {data!r}"
        assert data.isascii()
        super().write(data)

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        """Forget the producer; a real transport does not mind if there is none."""
        self.producer = None

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close at once."""
        self.aborted = True
        self.loseConnection()


class Connection:
    """A peer of *factory*'s, in memory."""

    def __init__(self, factory: PolicyFactory, address: object = None) -> None:
        self.transport = StrictTransport()
        self.protocol: PolicyProtocol = factory.buildProtocol(address)  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)

    def receive(self, octets: bytes) -> list[str]:
        """The replies to *octets*, which arrive in one piece, without their `action=`."""
        self.protocol.dataReceived(octets)
        return self.replies()

    def replies(self) -> list[str]:
        """The replies that have come since this was last asked."""
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
