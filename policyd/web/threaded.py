"""A resource whose replies are made in a thread, since they read the tables: everything but metrics and health."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from policyd.web.context import BusyError, Threads
from policyd.web.http import Request
from policyd.web.pages.page import Reply, Streamed


class Pages(Protocol):
    """What makes the replies."""

    def answer(self, path: str, form: Mapping[str, str]) -> Reply | Streamed:
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
        called.addCallback(self._send, request).addErrback(_fail, request)
        return NOT_DONE_YET

    def _send(self, made: Reply | Streamed, request: Request) -> None:
        request.setHeader(b"content-type", made.media_type.encode("ascii"))
        for name, value in made.headers.items():
            request.setHeader(name.encode("ascii"), value.encode("ascii"))
        if isinstance(made, Reply):
            request.setResponseCode(made.status)
            request.setHeader(b"content-length", b"%d" % len(made.body))
            if request.method != b"HEAD":
                request.write(made.body)
        elif request.method != b"HEAD" and not request.is_gone:
            _Pieces(made.pieces, request, self._threads).begin()
            return
        request.finish()


@implementer(IPushProducer)
class _Pieces:
    """Answers *request* with *pieces*: the next one is made, by *threads*, when the peer has read those before."""

    def __init__(self, pieces: Iterator[bytes], request: Request, threads: Threads) -> None:
        self._pieces = pieces
        self._request = request
        self._threads = threads
        self._is_paused = True
        self._is_making = False

    def begin(self) -> None:
        """Send the first one."""
        self._request.registerProducer(self, streaming=True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """The peer has read what was written."""
        self._is_paused = False
        if not self._is_making and not self._request.is_gone:
            self._make()

    def pauseProducing(self) -> None:
        """The peer has not read so much yet."""
        self._is_paused = True

    def stopProducing(self) -> None:
        """The peer has gone."""
        self._is_paused = True

    def _make(self) -> None:
        self._is_making = True
        called = self._threads.call(next, self._pieces, None)
        called.addCallback(self._write).addErrback(self._break_off)

    def _write(self, piece: bytes | None) -> None:
        self._is_making = False
        if self._request.is_gone:
            return
        if piece is None:
            self._request.unregisterProducer()
            self._request.finish()
            return
        self._request.channel.have_read()
        self._request.write(piece)
        if not self._is_paused:
            self._make()

    def _break_off(self, failure: Failure) -> None:
        if not self._request.is_gone:
            self._request.unregisterProducer()
        _fail(failure, self._request)


def _fail(failure: Failure, request: Request) -> None:
    if not failure.check(BusyError):
        request.processingFailed(failure)
    elif not request.startedWriting:
        request.answer(503, "Too many ask at once. Try again in a moment.")
    elif not request.is_gone:  # too late for another status: a cut answer tells that it is no whole one
        request.channel.abort()
