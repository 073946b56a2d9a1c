"""The style of all pages, which stands in each of them: a page is seen with what comes at once."""

import hashlib
from base64 import b64encode
from importlib.resources import files

STYLE = (files("policyd.web") / "style.css").read_text(encoding="utf-8")
# What a Content-Security-Policy calls it: no page has another one, whatever is written into it.
STYLE_SOURCE = f"'sha256-{b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
