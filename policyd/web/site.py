"""What is served where: one resource for each path."""

from twisted.internet.interfaces import IReactorTime

from policyd.audit import AuditLog
from policyd.web.access import Access
from policyd.web.context import WebContext
from policyd.web.health import Healthz, Readyz
from policyd.web.http import Folder, Site
from policyd.web.metrics import Metrics
from policyd.web.observed import Observer
from policyd.web.pages.desk import PATHS, Desk
from policyd.web.pages.sources import Sources
from policyd.web.threaded import ThreadedPages


def make_desk(context: WebContext) -> Desk:
    """The pages for the help desk."""
    processes = context.processes
    return Desk(Sources(context.settings, processes.counters, processes.refusals, processes.minutes, context.file_lock))


def make_site(context: WebContext, desk: Desk, access: Access, audit: AuditLog, reactor: IReactorTime) -> Site:
    """The site of the web process, with the pages of *desk*, for whom *access* lets in."""
    root, observer, pages = Folder(), Observer(context), ThreadedPages(desk, context.threads)
    for path in (*PATHS, "/static"):
        root.putChild(path.removeprefix("/").encode(), pages)
    root.putChild(b"metrics", Metrics(context, observer))
    root.putChild(b"healthz", Healthz(context))
    root.putChild(b"readyz", Readyz(context, observer))
    return Site(root, access, audit, reactor)
