"""A client that behaves as Postfix's smtpd does, and fails where Postfix would lose a second or a mail.

Before it sends on a connection that it kept, Postfix looks whether there is anything to read: a second reply, a
stray line or an end of file makes it drop the connection, sleep for a second, and connect again.
Source: attr_clnt.c and smtpd_check.c of Postfix.
"""

import select
import socket
import struct
from types import TracebackType

LIMIT_SECONDS = 60
Address = str | tuple[str, int]  # the path of a unix socket, or host and port


class OutOfStepError(AssertionError):
    """The server did what makes Postfix drop the connection."""


class HungUpError(OutOfStepError):
    """The server closed the connection, and sent nothing that it should not have sent."""


class FakeSmtpd:
    """One smtpd process and its connection to the policy server at *address*."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        # Python's own timeout makes a unix socket give up at once where the queue of those who wait is full.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", LIMIT_SECONDS, 0))
        try:
            self._socket.connect(address)
            self._socket.settimeout(LIMIT_SECONDS)
        except OSError:
            self._socket.close()
            raise
        if not isinstance(address, str):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> "FakeSmtpd":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, request: bytes) -> str:
        """The action that answers *request*: exactly one reply to exactly one request."""
        self.send(request)
        action = self.read_reply()
        self.must_be_quiet()
        return action

    def send(self, content: bytes, piece: int = 0) -> None:
        """Send on a quiet connection, in pieces of that many bytes; stops where the server has hung up."""
        self.must_be_quiet()
        try:
            for start in range(0, len(content), piece or len(content) or 1):
                self._socket.sendall(content[start : start + (piece or len(content))])
        except (BrokenPipeError, ConnectionResetError):
            pass  # what was answered before can still be read

    def end_sending(self) -> None:
        """Tell the server that no more requests will come."""
        self._socket.shutdown(socket.SHUT_WR)

    def must_be_quiet(self) -> None:
        """Raise if there is anything to read, as Postfix would drop this connection."""
        if self.has_answer():
            received = self._received + (self._receive() if self._is_readable() else b"")
            raise (OutOfStepError if received else HungUpError)(f"between requests there came {received!r}")

    def has_answer(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._received) or self._is_readable()

    def read_reply(self) -> str:
        """The action of the next reply; what follows it stays unread."""
        while b"\n\n" not in self._received:
            received = self._receive()
            if not received:
                raise HungUpError(f"the server hung up after {self._received!r}")
            self._received += received
        reply, self._received = self._received.split(b"\n\n", 1)
        name, equals, action = reply.partition(b"=")
        if name != b"action" or not equals or b"\n" in action:
            raise OutOfStepError(f"not a reply: {reply!r}")
        return action.decode("utf-8")

    def must_hang_up(self) -> None:
        """Raise unless the server closes the connection, and sends nothing before."""
        left = self._received + self._receive()
        if left:
            raise OutOfStepError(f"instead of hanging up, the server sent {left!r}")

    def _is_readable(self) -> bool:
        poll = select.poll()  # select.select knows no descriptor above 1023
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:  # it closed without having read all that we sent
            return b""


def request(**attributes: str) -> bytes:
    """A request at RCPT with *attributes*, and with those that Postfix sends besides."""
    sent = {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "client_address": "192.0.2.7",
        "client_name": "mx.example.net",
        "helo_name": "mx.example.net",
        "sender": "joe@example.net",
        "recipient": "alice@example.com",
        "recipient_count": "0",
        "queue_id": "",
        "instance": "1d2f.6560a1b2.9c.0",
        "size": "4711",
        "etrn_domain": "",
        "stress": "",
        **attributes,
    }
    lines = "".join(f"{name}={value}\n" for name, value in sent.items())
    return f"{lines}\n".encode("utf-8", "surrogateescape")
