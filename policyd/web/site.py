"""What is served where: one resource for each path."""

from typing import cast

from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from policyd.web.context import WebContext
from policyd.web.health import Healthz, Readyz
from policyd.web.metrics import Metrics
from policyd.web.observed import Observer

_IDLE_SECONDS = 60  # for a connection on which nothing happens


class CountedRequest(Request):
    """A request that its site knows of until it is answered."""

    def process(self) -> None:
        """Answer it."""
        pending = cast(QuietSite, self.channel.factory).pending
        pending.add(self)
        self.notifyFinish().addBoth(lambda _: pending.discard(self))
        super().process()


class QuietSite(Site):
    """A site that logs no request: there may be addresses in it. `pending` are the requests that are being answered."""

    def __init__(self, root: Resource) -> None:
        super().__init__(root, requestFactory=CountedRequest, timeout=_IDLE_SECONDS)
        self.displayTracebacks = False
        self.noisy = False
        self.pending: set[Request] = set()

    def log(self, request: HTTPRequest) -> None:
        """Log nothing."""


def make_site(context: WebContext) -> QuietSite:
    """The site of the web process."""
    root, observer = Resource(), Observer(context)
    root.putChild(b"metrics", Metrics(context, observer))
    root.putChild(b"healthz", Healthz(context))
    root.putChild(b"readyz", Readyz(context, observer))
    return QuietSite(root)
