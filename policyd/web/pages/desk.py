"""All pages together: which path is which, and what is sent for it."""

import time
from collections.abc import Callable, Mapping

from policyd.web.pages import about, ask, health, journal, refusals
from policyd.web.pages.page import NOT_FOUND, OK, Form, Page, Reply, Streamed
from policyd.web.pages.rendering import MEDIA_TYPES, STATIC, render
from policyd.web.pages.sources import Sources

HTML = "text/html; charset=utf-8"
_STATIC_SECONDS = 3600

# The pages in the order of the navigation: the path, what it is called there, and what makes it.
PAGES: Mapping[str, tuple[str, Callable[[Sources, Form, int], Page]]] = {
    "/": ("Ask", ask.show),
    "/refusals": ("Refusals", refusals.show),
    "/mailbox": ("Mailbox", about.show_mailbox),
    "/domain": ("Domain", about.show_domain),
    "/group": ("Group", about.show_group),
    "/journal": ("Journal", journal.show),
    "/health": ("Health", health.show),
}
TABLE = "/refusals.csv"
PATHS = (*PAGES, TABLE)
_NAVIGATION = [(f".{path}" if path == "/" else path[1:], path, title) for path, (title, _) in PAGES.items()]


class Desk:
    """The pages for the help desk, made from *sources*; *clock* tells Unix seconds."""

    def __init__(self, sources: Sources, clock: Callable[[], float] = time.time) -> None:
        self._sources = sources
        self._clock = clock

    def answer(self, path: str, form: Form) -> Reply | Streamed:
        """The reply to a request for *path*, with the fields of a *form*. It takes as long as the tables do."""
        if path.startswith("/static/"):
            return self._static(path.removeprefix("/static/"))
        now = int(self._clock())
        if path == TABLE:
            table = refusals.as_file(self._sources, form, now)
            return table if isinstance(table, Streamed) else self._reply("/refusals", table)
        if path not in PAGES:
            return self._reply(path, Page("missing.html", {}, NOT_FOUND))
        _, show = PAGES[path]
        return self._reply(path, show(self._sources, form, now))

    def sample(self) -> None:
        """Remember how many decisions there were; to be called once a minute."""
        self._sources.minutes.sample(int(self._clock()), self._sources.counters.decisions())

    def _reply(self, path: str, page: Page) -> Reply:
        body = render(page.template, **page.values, navigation=_NAVIGATION, path=page.path or path)
        return Reply(page.status, HTML, body, {"Cache-Control": "no-store"})

    def _static(self, name: str) -> Reply:
        if name not in STATIC:
            return self._reply(f"/static/{name}", Page("missing.html", {}, NOT_FOUND))
        return Reply(
            OK, f"{MEDIA_TYPES[name]}; charset=utf-8", STATIC[name], {"Cache-Control": f"max-age={_STATIC_SECONDS}"}
        )
