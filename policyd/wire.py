"""The policy delegation protocol, without any I/O: bytes -> Request, Action -> bytes.

A request is lines `name=value`, then an empty line; a reply is one `action=` line, then an empty line.
Source: SMTPD_POLICY_README.
"""

from policyd.errors import ProtocolError
from policyd.model import Action, Request

REQUEST_LIMIT = 64 * 1024  # octets of one request, its empty line included

_END = b"\n\n"
_KIND = "smtpd_access_policy"
_NAMES = tuple(Request.__dataclass_fields__)


class RequestReader:
    """The requests of one connection, however the bytes arrive.

    `feed` takes what was received and never raises; taking the next request raises ProtocolError
    where the peer broke the protocol, and from then on always.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no request ends before this

    def feed(self, received: bytes) -> None:
        """Take *received*, any piece of the stream."""
        self._buffer += received

    @property
    def is_mid_request(self) -> bool:
        """Whether a part of a request has come, and not its end."""
        return bool(self._buffer)

    def next_request(self) -> Request | None:
        """The next whole request, or None until more is fed."""
        buffer = self._buffer
        if buffer[:1] == b"\n":
            raise ProtocolError("an empty request")
        end = buffer.find(_END, self._searched, REQUEST_LIMIT)
        if end < 0:
            if len(buffer) >= REQUEST_LIMIT:
                raise ProtocolError(f"a request of more than {REQUEST_LIMIT} octets")
            self._searched = max(0, len(buffer) - 1)
            return None
        block = bytes(buffer[:end])
        request = parse_request(block)
        del buffer[: end + len(_END)]
        self._searched = 0
        return request


def parse_request(block: bytes) -> Request:
    """The request whose lines are *block*, without the empty line at the end.

    Of an attribute sent twice the last counts; attributes with unknown names are ignored.
    Raises ProtocolError for what Postfix never sends.
    """
    if b"\0" in block:
        raise ProtocolError("a NUL octet in a request")
    lines = block.decode("utf-8", "surrogateescape").split("\n")
    try:
        attributes = dict([line.split("=", 1) for line in lines])
    except ValueError:
        broken = next(line for line in lines if "=" not in line)
        raise ProtocolError(f"a line without '=': {_shown(broken)}") from None
    if "" in attributes:
        raise ProtocolError(f"a line without a name: {_shown('=' + attributes[''])}")
    kind = attributes.get("request")
    if kind != _KIND:
        raise ProtocolError("no request=smtpd_access_policy" if kind is None else f"request={_shown(kind)}")
    return Request(*[attributes.get(name, "") for name in _NAMES])


def render_action(action: Action, text: str = "") -> bytes:
    """A reply: *action*, with the text of a refusal, which is printable ASCII on one line."""
    return f"action={action} {text}\n\n".encode("ascii") if text else f"action={action}\n\n".encode("ascii")


def render_request(request: Request) -> bytes:
    """*request* as Postfix would send it, without the attributes that policyd doesn't read."""
    lines = ["request=smtpd_access_policy"]
    for name in _NAMES:
        value = getattr(request, name)
        if "\n" in value or "\0" in value:
            raise ProtocolError(f"{name} can't hold a line break or a NUL octet")
        lines.append(f"{name}={value}")
    return "\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def _shown(text: str) -> str:
    octets = text.encode("utf-8", "surrogateescape")
    return ascii(octets[:60].decode("latin-1")) + ("…" if len(octets) > 60 else "")
