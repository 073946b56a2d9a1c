"""HTTP within limits, by Twisted: each request is judged before a resource sees it, and each answer is a safe one.

Everything a peer can have us keep is bounded: connections, the bytes of a request, the time that it may take to come,
and the time in which its answer has to be read. No address is logged: nothing of what was asked for is.
"""

import time
import traceback
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from io import BytesIO
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource

from policyd.audit import AuditLog
from policyd.endpoint import is_loopback
from policyd.web.access import LOGIN_PATH, Access, Arrival, Refused, Way
from policyd.web.rate_limit import RateLimit
from policyd.web.style import STYLE, STYLE_SOURCE

BODY_BYTES = 16_384  # of a form; the head may have as many, by Twisted's own limit
CONNECTIONS = 64
REQUESTS = 100  # on one connection
REQUEST_SECONDS = 20  # for a whole request to come, counted from the last answer
ANSWER_SECONDS = 120  # for its answer to be found, and read; of one in pieces, for each

_DISCARDED_BYTES = 1_048_576  # of a body that is too long: so much is read yet, so that the peer reads why
_DIGITS = 12  # of a Content-Length
_FORM = "application/x-www-form-urlencoded"
_FIELDS = 64  # of a form
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"  # as Twisted's own, to what is no request
_TOO_LONG = Refused(413, f"A form may have {BODY_BYTES} bytes.")
_NO_FORM = Refused(415, f"A form is sent as {_FORM}.")
_TOO_MANY_FIELDS = Refused(400, f"A form may have {_FIELDS} fields.")
_ERROR = "policyd made a mistake, and has logged which. Please report it."
_LOGOUT_PATH = "/logout"

# What every answer says, unless its resource has said otherwise.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src {STYLE_SOURCE}; script-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} – policyd</title>
<link rel="icon" href="{top}static/icon.svg" type="image/svg+xml">
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
{form}</main>
</body>
</html>
"""
_LOGIN_FORM = """<form method="post" action="{top}login">
<p><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus></p>
<p><button type="submit">Log in</button></p>
</form>
"""


class Connection(http.HTTPChannel):
    """One connection, which is closed where a request does not come, or its answer is not read."""

    site: "Site"
    callLater: Callable[..., IDelayedCall]
    maxHeaders = 64

    def __init__(self) -> None:
        super().__init__()
        self.is_answering = False
        self._requests_left = REQUESTS
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Count it, and wait for the first request."""
        super().connectionMade()
        self.site.connections[self] = None
        self._set_deadline(REQUEST_SECONDS)

    def headerReceived(self, line: bytes) -> bool:
        """Take a header; false where the request ends with it. A number that no body has is not made one of."""
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and len(value.strip()) > _DIGITS:
            assert self.transport is not None
            self.transport.write(_BAD_REQUEST)
            self.loseConnection()
            return False
        return bool(super().headerReceived(line))

    def allContentReceived(self) -> None:
        """Answer the request that is here as a whole."""
        self.is_answering = True
        self._requests_left -= 1
        if self._requests_left == 0:
            self.persistent = False
        self._set_deadline(ANSWER_SECONDS)
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """It is answered: wait for the next one, or for the peer to have read the answer."""
        self.is_answering = False
        if self.persistent:
            self._set_deadline(REQUEST_SECONDS)
            self.site.connections[self] = self.site.connections.pop(self, None)  # the last to give way
        super().requestDone(request)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Write the head of an answer: every one passes here, also those that Twisted makes."""
        if not isinstance(headers, Headers):
            headers = Headers({name: [value] for name, value in headers})
        headers.removeHeader(b"Server")
        for name, value in HEADERS.items():
            if not headers.hasHeader(name):
                headers.addRawHeader(name, value)
        if not self.persistent:
            headers.setRawHeaders(b"Connection", [b"close"])
        super().writeHeaders(version, code, reason, headers)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self.site.connections.pop(self, None)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        super().connectionLost(reason)

    def have_read(self) -> None:
        """A part of a long answer has been read: there is as much time for the next one."""
        self._set_deadline(ANSWER_SECONDS)

    def abort(self) -> None:
        """Close it at once."""
        self.site.connections.pop(self, None)
        cast(TCPConnection, self.transport).abortConnection()

    def _set_deadline(self, seconds: int) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.reset(seconds)
        else:
            self._deadline = self.callLater(seconds, self.abort)


class Request(server.Request):
    """One request. A resource finds in `args` what stands in the form, and in `proxy_user` whom a proxy names."""

    channel: Connection
    site: "Site"

    def __init__(self, channel: Connection, *args: Any, **options: Any) -> None:
        super().__init__(channel, *args, **options)
        self.proxy_user = ""
        self.is_gone = False  # whoever asked, who reads no answer any more
        self._body = BytesIO()
        self._body_bytes = 0

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory, which it fits in; *length* is only what the peer says."""
        self.content = self._body

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body, as far as it is not too long."""
        self._body_bytes += len(data)
        if self._body_bytes <= BODY_BYTES:
            self._body.write(data)
        elif self._body_bytes > _DISCARDED_BYTES:
            self.channel.abort()

    def connectionLost(self, reason: Failure) -> None:
        """The peer has gone, or was too slow."""
        self.is_gone = True
        super().connectionLost(reason)

    def finish(self) -> None:
        """End the answer; where nobody waits for it any more, it has ended."""
        if not self.is_gone:
            super().finish()

    def process(self) -> None:
        """Answer the request: with a refusal, or as the site's resource does."""
        self.site = self.channel.site
        self.setHeader(b"Date", http.datetimeToString())
        try:
            arrival = self._arrival()
            refused = self._refusal(arrival) or self._take_form()
            if refused is not None:
                self._refuse(refused, arrival)
            elif self.path == LOGIN_PATH.encode() or self.path == _LOGOUT_PATH.encode():
                self._answer_session(arrival)
            else:
                super().process()
        except Exception:  # noqa: BLE001 - a defect of ours must not be the peer's to see
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> Failure:
        """Log that there is a defect of ours, and where; the peer sees only that there is one."""
        self.site.log_defect(reason)
        if self.is_gone or self.finished:
            return reason
        if self.startedWriting:  # too late for another status: a cut answer tells that it is no whole one
            self.channel.abort()
        else:
            self.answer(500, _ERROR)
        return reason

    def answer(self, status: int, text: str, *, is_login: bool = False, is_plain: bool = False) -> None:
        """Answer with a page that says *text*, or, for a program, with that only."""
        title = HTTPStatus(status).phrase
        if is_plain:
            body = f"{text}\n"
        else:
            top = "../" * (self.path.count(b"/") - 1) or "./"  # a proxy may have the pages below a path of its own
            form = _LOGIN_FORM.format(top=top) if is_login else ""
            body = _PAGE.format(title=escape(title), text=escape(text), form=form, top=top, style=STYLE)
        raw = body.encode()
        self.setResponseCode(status, title.encode("ascii"))
        self.setHeader(b"Content-Type", b"text/plain; charset=utf-8" if is_plain else b"text/html; charset=utf-8")
        self.setHeader(b"Content-Length", b"%d" % len(raw))
        self.write(raw)
        self.finish()

    def _arrival(self) -> Arrival:
        peer = self.getClientAddress()
        host = peer.host if isinstance(peer, (IPv4Address, IPv6Address)) else ""
        way = Way.UNIX if not host else Way.LOOPBACK if is_loopback(host.partition("%")[0]) else Way.REMOTE
        headers = {
            name.decode("latin-1").lower(): [value.decode("latin-1") for value in values]
            for name, values in self.requestHeaders.getAllRawHeaders()
        }
        return Arrival(way, host, self.method.decode("latin-1"), self.path.decode("latin-1"), headers)

    def _refusal(self, arrival: Arrival) -> Refused | None:
        """Why it is not answered, if so; else `proxy_user` is known."""
        judged = self.site.access.judge(arrival, self.site.now())
        if isinstance(judged, Refused):
            return judged
        self.proxy_user = judged.user
        return None

    def _take_form(self) -> Refused | None:
        """Read the form that was posted into `args`, which has nothing of the URL then; a refusal where it is none."""
        if self._body_bytes > BODY_BYTES:
            return _TOO_LONG
        if self.method != b"POST":
            return None
        content_type = (self.getHeader(b"Content-Type") or b"").partition(b";")[0].strip().lower()
        if self._body_bytes and content_type != _FORM.encode():
            return _NO_FORM
        body = self._body.getvalue()
        if body.count(b"&") >= _FIELDS:
            return _TOO_MANY_FIELDS
        self.args = http.parse_qs(body, keep_blank_values=True)
        return None

    def _refuse(self, refused: Refused, arrival: Arrival) -> None:
        if refused.why:
            self.site.log_refusal(refused.why, arrival)
        if refused.status == 401:
            self.setHeader(b"WWW-Authenticate", b'Bearer realm="policyd"')
        if refused.status == 405:
            self.setHeader(b"Allow", b"GET, HEAD, POST")
        if refused.status == 429:
            self.setHeader(b"Retry-After", b"60")
        self.answer(refused.status, refused.text, is_login=refused.is_login, is_plain=arrival.is_for_program)

    def _answer_session(self, arrival: Arrival) -> None:
        """Begin a session, or end it; both lead back to the first page, which says what is so now."""
        if self.path == LOGIN_PATH.encode() and self.method == b"POST":
            typed = self.args.get(b"token", [b""])[0].decode("utf-8", "replace")
            cookie = self.site.access.log_in(arrival, typed, self.site.now())
        elif self.path == _LOGOUT_PATH.encode() and self.method == b"POST":
            cookie = self.site.access.log_out(arrival)
        else:
            self._see_other()
            return
        if isinstance(cookie, Refused):
            self._refuse(cookie, arrival)
        else:
            self.setHeader(b"Set-Cookie", cookie.encode("ascii"))
            self._see_other()

    def _see_other(self) -> None:
        self.setHeader(b"Location", b"./")
        self.answer(303, "Go on to the first page.")


class Folder(Resource):
    """The resources that were put there with `putChild`; it says of anything else that there is no such page."""

    def getChild(self, path: bytes, request: server.Request) -> Resource:
        """What is not there."""
        return _MISSING

    def render(self, request: Any) -> int:
        """A folder itself is no page."""
        request.answer(404, "There is no such page.")
        return server.NOT_DONE_YET


_MISSING = Folder()


class Site(server.Site):
    """What *root* answers, to whom *access* lets in; *audit* and *access* may be replaced.

    At most `CONNECTIONS` are to be open at a time: for each one more, that gives way which has been idle for longest.
    """

    noisy = False
    displayTracebacks = False
    requestFactory = Request

    def __init__(
        self,
        root: IResource,
        access: Access,
        audit: AuditLog,
        reactor: IReactorTime,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(root, timeout=REQUEST_SECONDS, reactor=reactor, parsePOSTFormSubmission=False)
        self.access = access
        self.audit = audit
        self.connections: dict[Connection, None] = {}  # that which waits for longest first
        self._now = now
        self._told = RateLimit(1, 30, 60)  # refusals, by peer
        self._defects = RateLimit(1, 30, 60)  # by place

    def now(self) -> int:
        """Unix seconds."""
        return int(self._now())

    def startFactory(self) -> None:
        """Nothing to open: there is no log of requests, in which addresses could stand."""

    def stopFactory(self) -> None:
        """Nothing to close."""

    def log(self, request: http.Request) -> None:
        """Nothing."""

    @property
    def is_answering(self) -> bool:
        """Whether anybody waits for an answer."""
        return any(each.is_answering for each in self.connections)

    def make_room(self) -> bool:
        """See to it that there is room for one more connection; false where all are waiting for their answers."""
        if len(self.connections) < CONNECTIONS:
            return True
        idle = next((each for each in self.connections if not each.is_answering), None)
        if idle is None:
            return False
        idle.abort()
        return True

    def protocol(self) -> Connection:  # type: ignore[override]  # Twisted's may speak HTTP/2, too
        """A new connection, of HTTP/1 only."""
        return Connection()

    def log_refusal(self, why: str, arrival: Arrival) -> None:
        """Warn that somebody was refused, once a minute for each peer at most."""
        if self._told.take(arrival.peer_key, self._now()):
            self.audit.warned("access to the pages was refused", why=why, peer=arrival.peer or "unix")

    def log_defect(self, reason: Failure) -> None:
        """Warn of a defect of ours, once a minute for each place at most; its message may have addresses in it."""
        frames = traceback.extract_tb(reason.getTracebackObject())
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        if self._defects.take(where, self._now()):
            what = type(reason.value).__name__
            self.audit.warned(f"please report that a page could not be made: {what}", where=where)
