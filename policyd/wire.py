"""The policy delegation protocol, without any I/O: bytes -> Request, Action -> bytes.

A request is lines `name=value`, then an empty line; a reply is one `action=` line, then an empty line.
Source: SMTPD_POLICY_README.
"""

import re

from policyd.errors import ProtocolError
from policyd.model import Action, Request

REQUEST_LIMIT = 64 * 1024  # octets of one request, its empty line included

_END = b"\n\n"
_KIND = "smtpd_access_policy"
_NAMES = Request._fields
_LAYOUTS_LIMIT = 16  # a Postfix has one; a peer that makes up others must not cost more than they are worth
_LAYOUT_NAMES_LIMIT = 100
_WORDLESS = {action: f"action={action}\n\n".encode("ascii") for action in Action}

_NO_LAYOUT = re.compile("(?!)")  # matches nothing


class Layouts:
    """The orders in which peers send their attributes, learned from what they send.

    Postfix sends all that it knows in each request, in the same order: one match reads such a request, and makes sure
    that it is one, in a tenth of the time that thirty splits take.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], re.Pattern[str]] = {}

    def learn(self, text: str) -> re.Pattern[str]:
        """What matches those requests that have the same names in the same lines as *text*, a sound request.

        Its groups are the attributes of `Request`. It matches nothing where there are enough layouts already.
        """
        names = tuple([line.partition("=")[0] for line in text.split("\n")])
        if names not in self._known and len(self._known) < _LAYOUTS_LIMIT and len(names) <= _LAYOUT_NAMES_LIMIT:
            self._known[names] = _compile(names)
        return self._known.get(names, _NO_LAYOUT)


class RequestReader:
    """The requests of one connection, however the bytes arrive.

    `feed` takes what was received and never raises; taking the next request raises ProtocolError
    where the peer broke the protocol, and from then on always. *layouts* are those of all connections.
    """

    def __init__(self, layouts: Layouts) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no request ends before this
        self._layouts = layouts
        self._layout = _NO_LAYOUT  # of the last request

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
        if not buffer:
            return None
        if buffer[0] == _END[0]:
            raise ProtocolError("an empty request")
        end = buffer.find(_END, self._searched, REQUEST_LIMIT)
        if end < 0:
            if len(buffer) >= REQUEST_LIMIT:
                raise ProtocolError(f"a request of more than {REQUEST_LIMIT} octets")
            self._searched = max(0, len(buffer) - 1)
            return None
        text = buffer[:end].decode("utf-8", "surrogateescape")
        request = self._parse(text)
        del buffer[: end + len(_END)]
        self._searched = 0
        return request

    def _parse(self, text: str) -> Request:
        """The request with the lines *text*, by the layout of the last one if it has that."""
        match = self._layout.fullmatch(text)
        if match is not None and "\0" not in text:
            return Request._make(match.group(*_NAMES))
        attributes = parse_attributes(text)
        self._layout = self._layouts.learn(text)
        return Request._make([attributes.get(name, "") for name in _NAMES])


def parse_attributes(text: str) -> dict[str, str]:
    """The attributes of the request with the lines *text*, without the empty line at the end.

    Of an attribute sent twice the last counts. Raises ProtocolError for what Postfix never sends.
    """
    if "\0" in text:
        raise ProtocolError("a NUL octet in a request")
    lines = text.split("\n")
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
    return attributes


def render_action(action: Action, text: str = "") -> bytes:
    """A reply: *action*, with the text of a refusal, which is printable ASCII on one line."""
    return f"action={action} {text}\n\n".encode("ascii") if text else _WORDLESS[action]


def render_request(request: Request) -> bytes:
    """*request* as Postfix would send it, without the attributes that policyd doesn't read."""
    lines = ["request=smtpd_access_policy"]
    for name in _NAMES:
        value = getattr(request, name)
        if "\n" in value or "\0" in value:
            raise ProtocolError(f"{name} can't hold a line break or a NUL octet")
        lines.append(f"{name}={value}")
    return "\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def _compile(names: tuple[str, ...]) -> re.Pattern[str]:
    lines = [f"{re.escape(name)}=.*+" for name in names]
    last = {name: number for number, name in enumerate(names)}  # of an attribute sent twice the last counts
    for name in _NAMES:
        if name in last:
            lines[last[name]] = f"{name}=(?P<{name}>.*+)"
    lines[last["request"]] = f"request={_KIND}"
    absent = [f"(?P<{name}>)" for name in _NAMES if name not in last]
    return re.compile("\n".join(lines) + "".join(absent))


def _shown(text: str) -> str:
    octets = text.encode("utf-8", "surrogateescape")
    return ascii(octets[:60].decode("latin-1")) + ("…" if len(octets) > 60 else "")
