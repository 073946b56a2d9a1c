"""The policy delegation protocol, without any I/O: bytes -> Request, Action -> bytes.

A request is lines `name=value`, then an empty line; a reply is one `action=` line, then an empty line.
Source: SMTPD_POLICY_README.
"""

import re
from functools import lru_cache

from policyd.errors import ProtocolError
from policyd.model import Action, Request, new_tuple

REQUEST_LIMIT = 64 * 1024  # bytes of one request, its empty line included
ATTRIBUTES_LIMIT = 100  # of one request; Postfix sends some thirty

_END = b"\n\n"
_KIND = "smtpd_access_policy"
_NAMES = Request._fields
_LAYOUTS_LIMIT = 16  # a Postfix has one, each version another
_NAME_LIMIT = 64  # characters of a name in a layout

# Compiling a layout takes 2 µs for each character of its names, and what it saves is about a sixth of that per request.
# So it is compiled when it would have paid for itself: a peer that makes up layouts at most doubles what it costs.
_CHARACTERS_EARNED = 12  # by each request
_TOO_MANY = f"a request of more than {ATTRIBUTES_LIMIT} attributes"
_WORDLESS = {action: f"action={action}\n\n".encode("ascii") for action in Action}

_KEPT_REFUSALS = 1024  # of 200 characters at most
_REJECT = Action.REJECT  # looked for in the enumeration once: Python 3.11 takes as long as for a call
_NO_LAYOUT = re.compile("(?!)")  # matches nothing


class Layouts:
    """The orders in which peers send their attributes, learned from what they send; the last used are kept.

    Postfix sends all that it knows in each request, in the same order: one match reads such a request, and makes sure
    that it is one, in a tenth of the time that thirty splits take.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], re.Pattern[str]] = {}  # the last used stands last

    def find(self, names: tuple[str, ...], times: int) -> re.Pattern[str]:
        """What matches sound requests with these *names* in their lines, which one peer sent *times* times in a row.

        Its groups are the attributes of `Request`. It matches nothing where the layout has not earned its keep yet.
        """
        layout = self._known.pop(names, None)
        if layout is None:
            if times * _CHARACTERS_EARNED < sum(map(len, names)):
                return _NO_LAYOUT
            layout = _compile(names)
            if len(self._known) >= _LAYOUTS_LIMIT:
                del self._known[next(iter(self._known))]
        self._known[names] = layout
        return layout


class RequestReader:
    """The requests of one connection, however the bytes arrive.

    `feed` takes what was received and never raises; taking the next request raises ProtocolError
    where the peer broke the protocol, and from then on always. *layouts* are those of all connections.
    """

    def __init__(self, layouts: Layouts) -> None:
        self._piece = b""  # the last that was received, if nothing waited before it: mostly one whole request
        self._buffer = bytearray()  # else all that waits
        self._searched = 0  # no request ends before this
        self._lines = 0  # that end before it
        self._layouts = layouts
        self._layout = _NO_LAYOUT  # of the last request
        self._is_ordered = False  # its attributes come in the order of `Request`
        self._names: tuple[str, ...] = ()  # of the last request, as long as they may become a layout
        self._times = 0  # that they came in a row

    def feed(self, received: bytes) -> None:
        """Take *received*, any piece of the stream."""
        if self._piece or self._buffer:
            self._buffer += self._piece + received
            self._piece = b""
        else:
            self._piece = received

    @property
    def is_mid_request(self) -> bool:
        """Whether a part of a request has come, and not its end."""
        return bool(self._piece or self._buffer)

    def next_request(self) -> Request | None:
        """The next whole request, or None until more is fed."""
        # Postfix sends a request in one piece: mostly that is all there is.
        piece = self._piece
        if piece:
            self._piece = b""
            request = self._match(piece.decode("utf-8", "surrogateescape")) if len(piece) <= REQUEST_LIMIT else None
            if request is not None:
                return request
            self._buffer += piece

        # Look for the end of the request, from where the last search ended.
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[0] == _END[0]:
            raise ProtocolError("an empty request")
        end = buffer.find(_END, self._searched, REQUEST_LIMIT)
        if end < 0:
            self._look_at_part()
            return None

        # Which of its lines is what; what comes after it may be the next request.
        text = buffer[: end + len(_END)].decode("utf-8", "surrogateescape")
        request = self._match(text)
        if request is None:
            if buffer.count(b"\n", 0, end) >= ATTRIBUTES_LIMIT:  # before thousands of lines are split
                raise ProtocolError(_TOO_MANY)
            request = self._parse(text[: -len(_END)])
        del buffer[: end + len(_END)]
        self._searched = self._lines = 0
        return request

    def _match(self, text: str) -> Request | None:
        """The request that *text* is, if it has the attributes of the last one in the same order, and nothing else.

        So Postfix sends them: one match finds them all.
        """
        match = self._layout.fullmatch(text)
        if match is None or "\0" in text:
            return None
        return new_tuple(Request, match.groups() if self._is_ordered else match.group(*_NAMES))

    def _look_at_part(self) -> None:
        """Remember how much of the buffer is no whole request. Raises ProtocolError where none can come of it."""
        searched = max(0, min(len(self._buffer), REQUEST_LIMIT) - 1)  # the last byte may begin the end
        self._lines += self._buffer.count(b"\n", self._searched, searched)
        self._searched = searched
        if self._lines + self._buffer.endswith(b"\n") > ATTRIBUTES_LIMIT:
            raise ProtocolError(_TOO_MANY)
        if len(self._buffer) >= REQUEST_LIMIT:
            raise ProtocolError(f"a request of more than {REQUEST_LIMIT} octets")

    def _parse(self, text: str) -> Request:
        """The request with the lines *text*, which has another layout than the last one, or one that is not known."""
        attributes = parse_attributes(text)
        names = tuple([line.partition("=")[0] for line in text.split("\n")])
        self._layout = _NO_LAYOUT
        if max(map(len, names)) <= _NAME_LIMIT:
            self._times = self._times + 1 if names == self._names else 1
            self._layout = self._layouts.find(names, self._times)
            self._is_ordered = tuple(self._layout.groupindex) == _NAMES
            self._names = names if self._layout is _NO_LAYOUT else ()
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
    """A reply: *action*, and with a refusal its *text*, which is printable ASCII on one line."""
    return _refusal(text) if text and action is _REJECT else _WORDLESS[action]


@lru_cache(_KEPT_REFUSALS)
def _refusal(text: str) -> bytes:
    return f"action={_REJECT} {text}\n\n".encode("ascii")


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
    return re.compile("\n".join(lines) + "".join(absent) + "\n\n")


def _shown(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    return ascii(raw[:60].decode("latin-1")) + ("…" if len(raw) > 60 else "")
