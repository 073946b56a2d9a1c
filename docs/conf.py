"""How Sphinx makes the pages; `docs/build` calls it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from policyd import __version__

project, release = "policyd", __version__

# No extension: the pages read the same on a screen without Sphinx, and what stands in them of the program's own
# texts is written by docs/generate.py.
extensions: list[str] = []
exclude_patterns = ["_build", "manual"]  # the manual pages have a conf.py of their own
nitpicky = True
highlight_language = "none"  # a block that is to be coloured says its language
smartquotes = False  # what a reader copies from a page must be what was written

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["policyd.css"]
html_title = f"policyd {release}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
