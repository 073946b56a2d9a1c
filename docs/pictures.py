"""Takes a picture of each page for the help desk, on example tables; `docs/pictures` calls it."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.browser import chromium
from tests.support.web_daemon import EXAMPLE, WebDaemon

FOLDER = Path(__file__).resolve().parent / "_static"
DESKTOP = {"viewport": {"width": 900, "height": 700}, "color_scheme": "light"}
TELEPHONE = {"viewport": {"width": 360, "height": 700}, "color_scheme": "dark"}

# Each picture: how the page is looked at, which it is, and what is typed where.
PICTURES: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "ask": (DESKTOP, "", {"#about": "bob@example.com", "#other": "joe@partner.example"}),
    "refusals": (DESKTOP, "refusals", {"#sender": "-bulk"}),
    "mailbox": (DESKTOP, "mailbox", {"main input": "ann@example.com"}),
    "domain": (DESKTOP, "domain", {"main input": "example.com"}),
    "group": (DESKTOP, "group", {"main input": "Office"}),
    "journal": (DESKTOP, "journal", {}),
    "health": (DESKTOP, "health", {}),
    "telephone": (TELEPHONE, "", {"#about": "payroll@example.com", "#other": "invoice@shop.example"}),
}


def main() -> None:
    """Take all of them, and print how large each is."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    with tempfile.TemporaryDirectory() as name, WebDaemon(Path(name)) as daemon, chromium() as browser:
        daemon.fill(EXAMPLE)
        daemon.start()
        daemon.refuse_some()
        for name, (options, path, typed) in PICTURES.items():
            page = browser.new_context(**options).new_page()
            page.goto(daemon.pages + path)
            for field, text in typed.items():
                page.fill(field, text)
            if typed:
                with page.expect_navigation():
                    page.press(field, "Enter")
                page.evaluate("document.activeElement.blur()")
            file = folder / f"{name}.png"
            page.screenshot(path=file)
            page.context.close()
            print(f"{file}: {file.stat().st_size // 1000} kB")  # noqa: T201 - whoever runs it sees what it made
        daemon.stop()


if __name__ == "__main__":
    main()
