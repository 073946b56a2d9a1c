"""Somebody at a browser, Debian's Chromium, who notes everything that should not have happened."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.required import give_up

CHROMIUM = Path("/usr/bin/chromium")
_TABS = 200  # more than any page has stops

# Whether the focus can be seen where it is.
_HAS_RING = """() => {
  const style = getComputedStyle(document.activeElement);
  return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
}"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; where there is none, the test is skipped, or fails where it is required."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        give_up("BROWSER", "not installed: playwright (pip install --editable '.[browser]')")
    if not CHROMIUM.exists():
        give_up("BROWSER", f"not installed: {CHROMIUM} (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        # Root's browser has no sandbox; it sees nothing but our own pages.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """Somebody who visits *pages*; *options* are those of a browser's context.

    `problems` are requests to elsewhere, what the browser's console complains of, errors of scripts, and dialogs.
    """

    def __init__(self, browser: Any, pages: str, **options: Any) -> None:
        self.problems: list[str] = []
        self.bytes = 0  # of all that was sent since `open`
        self._pages = pages
        self._context = browser.new_context(**options)
        self.page = self._context.new_page()
        self.page.on("request", self._see_request)
        self.page.on("response", self._see_response)
        self.page.on("console", lambda said: self._see_problem(said.type in ("error", "warning"), said.text))
        self.page.on("pageerror", lambda error: self._see_problem(True, str(error)))
        self.page.on("dialog", lambda dialog: self._see_problem(True, f"a dialog: {dialog.message}"))

    def close(self) -> None:
        """Go; nothing may have happened that should not."""
        self._context.close()
        assert self.problems == []

    def open(self, path: str = "", status: int | None = 200) -> None:
        """Open a page, which has that *status*, or any."""
        self.bytes = 0
        self._check(self.page.goto(self._pages + path), status)

    def tab_to(self, selector: str) -> None:
        """Go to that element by the Tab key alone, as who has no mouse does, and see where one is all the way."""
        for _ in range(_TABS):
            if self.page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            self.page.keyboard.press("Tab")
            assert self.page.evaluate(_HAS_RING), f"the focus can't be seen on the way to {selector}"
        raise AssertionError(f"the keyboard does not come to {selector}")

    def type_into(self, selector: str, text: str) -> None:
        """Go to a field and type, in place of what is there."""
        self.tab_to(selector)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def press_enter(self, status: int | None = 200) -> None:
        """Send what was typed, or follow where one is; return when the next page is there, with that *status*."""
        with self.page.expect_navigation() as navigated:
            self.page.keyboard.press("Enter")
        self._check(navigated.value, status)

    def read(self, selector: str = "main") -> str:
        """What stands there, as it is shown."""
        return str(self.page.inner_text(selector))

    @property
    def width(self) -> int:
        """How wide the page is, with what has to be scrolled to."""
        return int(self.page.evaluate("document.scrollingElement.scrollWidth"))

    def _check(self, response: Any, status: int | None) -> None:
        """The browser complains of each page that is an error, which is no problem where it was to be one."""
        assert status in (None, response.status), f"{response.url}: {response.status}"
        self.problems = [each for each in self.problems if f"a status of {response.status}" not in each]

    def _see_request(self, request: Any) -> None:
        self._see_problem(not request.url.startswith((self._pages, "data:")), f"a request to {request.url}")

    def _see_response(self, response: Any) -> None:
        if response.status < 300:
            self.bytes += len(response.body())

    def _see_problem(self, is_one: bool, what: str) -> None:
        if is_one:
            self.problems.append(what)
