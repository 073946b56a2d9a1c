"""A resource whose replies are made in a thread, since they read the tables: everything but metrics and health."""

from collections.abc import Mapping
from typing import Protocol

from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from policyd.web.context import BusyError, Threads
from policyd.web.http import Request
from policyd.web.pages.page import Reply


class Pages(Protocol):
    """What makes the replies."""

    def answer(self, path: str, form: Mapping[str, str]) -> Reply:
        """The reply to a request for *path*; the *form* is empty but for POST. It may take long."""


class ThreadedPages(Resource):
    """Replies with what *pages* answers."""

    isLeaf = True

    def __init__(self, pages: Pages, threads: Threads) -> None:
        super().__init__()
        self._pages = pages
        self._threads = threads

    def render_GET(self, request: Request) -> int:
        """A page."""
        return self._answer(request, {})

    def render_POST(self, request: Request) -> int:
        """A page that was searched for."""
        fields = request.args.items()
        return self._answer(
            request, {name.decode("utf-8", "replace"): values[-1].decode("utf-8", "replace") for name, values in fields}
        )

    def _answer(self, request: Request, form: Mapping[str, str]) -> int:
        path = request.path.decode("utf-8", "replace")
        called = self._threads.call(self._pages.answer, path, form)
        called.addCallback(_send, request).addErrback(_fail, request)
        return NOT_DONE_YET


def _send(made: Reply, request: Request) -> None:
    request.setResponseCode(made.status)
    request.setHeader(b"content-type", made.media_type.encode("ascii"))
    request.setHeader(b"content-length", b"%d" % len(made.body))
    for name, value in made.headers.items():
        request.setHeader(name.encode("ascii"), value.encode("ascii"))
    if request.method != b"HEAD":
        request.write(made.body)
    request.finish()


def _fail(failure: Failure, request: Request) -> None:
    if failure.check(BusyError):
        request.answer(503, "Too many ask at once. Try again in a moment.")
    else:
        request.processingFailed(failure)
