"""What is served where: one resource for each path."""

from twisted.internet.interfaces import IReactorTime

from policyd.audit import AuditLog
from policyd.web.access import Access
from policyd.web.context import WebContext
from policyd.web.health import Healthz, Readyz
from policyd.web.http import Folder, Site
from policyd.web.metrics import Metrics
from policyd.web.observed import Observer


def make_site(context: WebContext, access: Access, audit: AuditLog, reactor: IReactorTime) -> Site:
    """The site of the web process, for whom *access* lets in."""
    root, observer = Folder(), Observer(context)
    root.putChild(b"metrics", Metrics(context, observer))
    root.putChild(b"healthz", Healthz(context))
    root.putChild(b"readyz", Readyz(context, observer))
    return Site(root, access, audit, reactor)
