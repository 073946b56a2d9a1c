"""`/healthz` and `/readyz`: whether the daemon lives, and whether it can answer, for whoever restarts it or asks it."""

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from policyd.counters import Cell
from policyd.web.context import WebContext
from policyd.web.observed import Observer
from policyd.web.replies import reply


class Healthz(Resource):
    """200 while there is a worker: a daemon without one is to be started again."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self, context: WebContext) -> None:
        super().__init__()
        self._counters = context.processes.counters

    def render_GET(self, request: Request) -> bytes:  # noqa: N802 - Twisted's name
        """Whether it lives."""
        workers = self._counters.total(Cell.WORKERS)
        return reply(request, 200 if workers else 503, "ok" if workers else "no worker")


class Readyz(Resource):
    """200 while questions are answered: there is a worker, and the tables can be read."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self, context: WebContext, observer: Observer) -> None:
        super().__init__()
        self._counters = context.processes.counters
        self._observer = observer

    def render_GET(self, request: Request) -> int:  # noqa: N802 - Twisted's name
        """Whether it answers."""
        observed: Deferred[None] = self._observer.observe().addCallback(lambda seen: self._reply(request, seen.problem))
        observed.addErrback(request.processingFailed)
        return NOT_DONE_YET

    def _reply(self, request: Request, problem: str) -> None:
        if not self._counters.total(Cell.WORKERS):
            problem = "no worker"
        request.write(reply(request, 503 if problem else 200, problem or "ok"))
        request.finish()
