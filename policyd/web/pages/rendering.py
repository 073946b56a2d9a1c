"""Renders pages from templates: whatever a value is, it can neither become markup nor turn the text around it."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from policyd.address import NULL_SENDER, quote_local_part
from policyd.changes import describe
from policyd.printable import count_of, printable
from policyd.timestamps import show_local
from policyd.web.pages.page import field_of_request

STATIC = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))  # of which two or more are said in them


def render(template: str, **values: Any) -> bytes:
    """The page that *template* makes of *values*, in UTF-8."""
    return _TEMPLATES.get_template(template).render(**values).encode("utf-8")


def weight(*texts: str) -> int:
    """How many bytes *texts* take on a page."""
    return sum(len(str(escape(printable(text))).encode("utf-8")) for text in texts)


def load_static() -> dict[str, bytes]:
    """The files beside the pages, by name."""
    folder = files("policyd.web") / "static"
    return {name: (folder / name).read_bytes() for name in STATIC}


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
    """A time, in local time as everywhere."""
    return Markup("<time>{}</time>").format(show_local(int(seconds)))


def _unchanged(text: str) -> Markup:
    """A name of our own in the value of a button, as it is sent back: names have no character that doesn't print."""
    return escape(text)


def _load(name: str) -> str:
    return (files("policyd.web") / "templates" / name).read_text(encoding="utf-8")


def _environment(load: Callable[[str], str]) -> Environment:
    environment = Environment(
        loader=FunctionLoader(load),
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
        "describe": describe,
        "count_of": count_of,
        "span": shown_span,
        "time": _time,
        "unchanged": _unchanged,
    }
    return environment


_TEMPLATES = _environment(_load)
