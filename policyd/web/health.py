"""`/healthz` and `/readyz`: whether the daemon lives, and whether it can answer, for whoever restarts it or asks it."""

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from policyd.counters import Cell
from policyd.web.context import WebContext
from policyd.web.observed import Observer, Seen
from policyd.web.replies import reply


class Healthz(Resource):
    """200 while there is a worker: a daemon without one is to be started again."""

    isLeaf = True

    def __init__(self, context: WebContext) -> None:
        super().__init__()
        self._counters = context.processes.counters

    def render_GET(self, request: Request) -> bytes:
        """Whether it lives."""
        workers = self._counters.total(Cell.WORKERS)
        return reply(request, 200 if workers else 503, "ok" if workers else "no worker")


class Readyz(Resource):
    """200 while questions are answered: there is a worker, and the tables can be read."""

    isLeaf = True

    def __init__(self, context: WebContext, observer: Observer) -> None:
        super().__init__()
        self._counters = context.processes.counters
        self._observer = observer

    def render_GET(self, request: Request) -> int:
        """Whether it answers."""
        observed: Deferred[None] = self._observer.observe().addCallback(self._reply, request)
        observed.addErrback(request.processingFailed)
        return NOT_DONE_YET

    def _reply(self, seen: Seen, request: Request) -> None:
        """Say it in a word: this is for everybody, and why the tables can't be read is in the log."""
        problem = "the tables can't be read" if seen.problem else ""
        if not self._counters.total(Cell.WORKERS):
            problem = "no worker"
        request.write(reply(request, 503 if problem else 200, problem or "ok"))
        request.finish()
