"""A resource whose replies are made in a thread, since they read the tables: everything but metrics and health."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol
from urllib.parse import parse_qsl

from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from policyd.web.context import BusyError, Threads
from policyd.web.replies import reply

FORM_BYTES = 65536
_FIELDS = 100


class Reply(NamedTuple):
    """What is sent: a status, a media type, a body, and further headers."""

    status: int
    media_type: str
    body: bytes
    headers: Mapping[str, str] = {}


class Pages(Protocol):
    """What makes the replies."""

    def answer(self, path: str, form: Mapping[str, str]) -> Reply:
        """The reply to a request for *path*; the *form* is empty but for POST. It may take long."""


class ThreadedPages(Resource):
    """Replies with what *pages* answers."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self, pages: Pages, threads: Threads) -> None:
        super().__init__()
        self._pages = pages
        self._threads = threads

    def render_GET(self, request: Request) -> int:  # noqa: N802 - Twisted's name
        """A page."""
        return self._answer(request, {})

    def render_POST(self, request: Request) -> int | bytes:  # noqa: N802 - Twisted's name
        """A page that was searched for."""
        body: bytes = request.content.read(FORM_BYTES + 1) if request.content else b""
        if len(body) > FORM_BYTES:
            return reply(request, 413, "the form is too long")
        try:
            fields = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_FIELDS)
        except ValueError:
            return reply(request, 400, "the form can't be read")
        return self._answer(request, dict(fields))

    def _answer(self, request: Request, form: Mapping[str, str]) -> int:
        path = request.path.decode("utf-8", "replace")
        is_gone: list[Failure] = []  # whoever asked has gone before the reply came
        request.notifyFinish().addErrback(is_gone.append)
        send: Callable[[Reply], None] = lambda made: None if is_gone else _send(request, made)  # noqa: E731
        called = self._threads.call(self._pages.answer, path, form)
        called.addCallback(send).addErrback(_fail, request, is_gone)
        return NOT_DONE_YET


def _send(request: Request, made: Reply) -> None:
    request.setResponseCode(made.status)
    request.setHeader(b"content-type", made.media_type.encode("ascii"))
    request.setHeader(b"content-length", b"%d" % len(made.body))
    for name, value in made.headers.items():
        request.setHeader(name.encode("ascii"), value.encode("ascii"))
    if request.method != b"HEAD":
        request.write(made.body)
    request.finish()


def _fail(failure: Failure, request: Request, is_gone: list[Failure]) -> None:
    if is_gone:
        return
    if failure.check(BusyError):
        request.write(reply(request, 503, "too many ask at once; try again in a moment"))
        request.finish()
    else:
        request.processingFailed(failure)
