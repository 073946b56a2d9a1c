"""A browser at the other end of a connection in memory, with a clock that is turned by hand."""

import re
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from policyd.audit import AuditLog
from policyd.settings import AuditSettings
from policyd.web.access import Access
from policyd.web.http import Site
from tests.support.kept_lines import KeptLines

LOOPBACK = IPv4Address("TCP", "127.0.0.1", 50000)
UNIX = UNIXAddress(None)
_ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


class Answer:
    """An answer as a browser takes it."""

    def __init__(self, head: re.Match[bytes], body: bytes) -> None:
        self.status = int(head[1])
        lines = [line.partition(b":") for line in head[2].splitlines()]
        self.headers = {name.decode().lower(): value.strip().decode() for name, _, value in lines}
        assert len(self.headers) == len(lines), f"a header twice: {head[2]!r}"
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()


class World:
    """A site with *root*, its log, and its clock."""

    def __init__(self, root: Resource | None = None, access: Access | None = None) -> None:
        self.log = KeptLines()
        self.lines = self.log.lines
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.site = Site(
            root or Resource(), access or Access(), AuditLog(AuditSettings(), self.log), self.clock, self.clock.seconds
        )

    def connect(self, address: IAddress = LOOPBACK) -> "Peer":
        """A new connection."""
        return Peer(self, address)


class Transport(StringTransport):
    """As a real one: what comes after the end is not read, and an abort ends it at once."""

    aborted = False

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close at once."""
        self.aborted = self.disconnecting = True


class Peer:
    """One connection."""

    transport_class: type[Transport] = Transport

    def __init__(self, world: World, address: IAddress = LOOPBACK) -> None:
        self._transport = self.transport_class(peerAddress=address)
        self.protocol: Any = world.site.buildProtocol(address)
        self._is_told = False
        self.protocol.makeConnection(self._transport)

    def send(self, raw: bytes, size: int = 0) -> None:
        """Send *raw*, in pieces of *size* bytes, as long as anybody reads it."""
        step = size or len(raw) or 1
        for start in range(0, len(raw), step):
            if self._transport.disconnecting:
                break
            self.protocol.dataReceived(raw[start : start + step])
        self._see_end()

    @property
    def is_closed(self) -> bool:
        """Whether the site has closed it."""
        self._see_end()
        return self._transport.disconnecting

    @property
    def is_aborted(self) -> bool:
        """Whether it was closed without waiting for anything."""
        return self._transport.aborted

    @property
    def raw(self) -> bytes:
        """All that has come."""
        return bytes(self._transport.value())

    def answers(self, *, to_head: bool = False) -> list[Answer]:
        """The answers that have come since; those *to_head* requests have no body."""
        raw = self._transport.value()
        self._transport.clear()
        found = []
        while raw:
            head = _ANSWER.match(raw)
            assert head, f"no answer: {raw!r}"
            answer = Answer(head, b"")
            length = 0 if to_head else int(answer.headers.get("content-length", "0"))
            raw = raw[head.end() :]
            answer.body, raw = raw[:length], raw[length:]
            assert len(answer.body) == length
            found.append(answer)
        return found

    def ask(self, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        """The one answer to a request."""
        given = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body:
            given = {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(body)), **given}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        (answer,) = self.answers(to_head=method == "HEAD")
        return answer

    def leave(self) -> None:
        """Close it, as the peer does."""
        self._transport.disconnecting = True
        self._see_end()

    def _see_end(self) -> None:
        """Tell the protocol that the connection is gone, as the reactor does."""
        if self._transport.disconnecting and not self._is_told:
            self._is_told = True
            reason = ConnectionAborted() if self._transport.aborted else ConnectionDone()
            self.protocol.connectionLost(Failure(reason))
