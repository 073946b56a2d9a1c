"""Renders pages from templates: whatever a value is, it can neither become markup nor turn the text around it."""

import re
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from policyd.address import NULL_SENDER, quote_local_part
from policyd.changes import describe, difference, noun_changed, who_moved, whom_it_is_to
from policyd.printable import count_of, printable
from policyd.rules import senders_in_words
from policyd.timestamps import show_local
from policyd.web.pages.fitting import VALUE_LIMIT, some
from policyd.web.pages.leading import lead_to, lead_to_changed
from policyd.web.pages.page import field_of_request
from policyd.web.style import STYLE

MEDIA_TYPES = {"page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_OFFSET = re.compile(r"[+-]\d\d:\d\d(:\d\d)?\Z")
_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))  # of which two or more are said in them


def render(template: str, **values: Any) -> bytes:
    """The page that *template* makes of *values*, in UTF-8."""
    return _TEMPLATES.get_template(template).render(**values).encode("utf-8", "backslashreplace")


def shown_address(text: str) -> str:
    """An address as people type it: the null sender as `<>`."""
    return quote_local_part(text) if text else NULL_SENDER


def shown_span(seconds: float) -> str:
    """A span of time in words: `2 hours`."""
    whole = max(0, int(seconds))
    for length, name in _SPANS:
        if whole >= 2 * length:
            return count_of(whole // length, name)
    return count_of(whole, "second")


def _shown(value: Any) -> Any:
    """What an expression in a template is shown as: a text without what doesn't print."""
    if isinstance(value, Markup):
        return value
    return printable(value) if isinstance(value, str) else value


def _time(seconds: float) -> Markup:
    """A time in local time, as everywhere; programs find the offset beside it."""
    text = show_local(int(seconds))
    return Markup('<time datetime="{}">{}</time>').format(text, _OFFSET.sub("", text))


def _environment() -> Environment:
    """The templates, each compiled: later, the process may not be able to read them."""
    folder = files("policyd.web") / "templates"
    texts = {each.name: each.read_text(encoding="utf-8") for each in folder.iterdir()}
    environment = Environment(
        loader=DictLoader(texts),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "address": shown_address,
        "as_field": field_of_request,
        "count_of": count_of,
        "describe": describe,
        "difference": difference,
        "lead": lead_to,
        "lead_changed": lead_to_changed,
        "noun_changed": noun_changed,
        "senders": senders_in_words,
        "some": some,
        "span": shown_span,
        "time": _time,
        "who_moved": who_moved,
        "whom_it_is_to": whom_it_is_to,
    }
    environment.globals |= {"style": Markup(STYLE), "value_limit": VALUE_LIMIT}
    for name in texts:
        environment.get_template(name)
    return environment


def _read_static() -> dict[str, bytes]:
    folder = files("policyd.web") / "static"
    return {name: (folder / name).read_bytes() for name in MEDIA_TYPES}


_TEMPLATES = _environment()
STATIC = _read_static()  # the files beside the pages, by name
