"""How much room values take on a page, and for how many of them it has room: no page gets long. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import escape

from policyd.changes import describe
from policyd.model import Change
from policyd.printable import printable
from policyd.web.pages.findings import Finding

VALUE_LIMIT = 2000  # characters of one value
_MARKUP = 150  # bytes around a row of a list


class Some(NamedTuple):
    """The first of some things, `shown`, and how many `more` there are."""

    shown: Sequence[Any]
    more: int


def some(things: Sequence[Any], room: int, most: int = 30, times: int = 1) -> Some:
    """The first of *things* that have *room*, in bytes, on a page, *most* of them; but always the first one.

    Each of their texts stands there so many *times*: a name that leads to its page does twice.
    """
    for count, thing in enumerate(things[:most]):
        room -= _MARKUP + times * weight(*_texts(thing))
        if room < 0 and count:
            return Some(things[:count], len(things) - count)
    return Some(things[:most], max(0, len(things) - most))


def weight(*texts: str) -> int:
    """How many bytes *texts* take on a page."""
    return sum(len(str(escape(printable(text[:VALUE_LIMIT]))).encode("utf-8", "replace")) for text in texts)


def _texts(thing: Any) -> Iterator[str]:
    """All texts that are shown of a thing."""
    match thing:
        case str():
            yield thing
        case Change():
            yield from (thing.actor, describe(thing))
        case Mapping():
            for value in thing.values():
                yield from _texts(value)
        case list() | tuple():
            for value in thing:
                yield from _texts(value)
        case Finding():
            yield from (thing.code, thing.about, thing.finding, thing.effect, thing.advice)
            yield from (*thing.commands, *thing.settings)
        case _:
            yield str(thing)
