"""How Sphinx makes the manual pages; `docs/build` calls it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from policyd import __version__  # noqa: E402 - of this checkout, whatever is installed
from policyd.cli import NOUNS  # noqa: E402 - the same

project, release = "policyd", __version__
copyright = ""  # noqa: A001 - Sphinx's name for it: no page gets a section on that
extensions = ["manual_pages"]
root_doc = "policyd"
suppress_warnings = ["toc.not_included"]  # pages of a manual stand beside each other
nitpicky = True
smartquotes = False  # what a reader copies from a page must be what was written
today_fmt = "%Y-%m-%d"

man_make_section_directory = False
man_pages: list[tuple[str, str, str, list[str], int]] = [
    ("policyd", "policyd", "who may receive mail from the Internet, and send to it, for Postfix", [], 8),
    ("policyd.toml", "policyd.toml", "settings of policyd(8)", [], 5),
    *(
        (f"policyd-{noun}", f"policyd-{noun}", told[0].lower() + told[1:].removesuffix("."), [], 8)
        for noun, (_, told) in NOUNS.items()
    ),
]
