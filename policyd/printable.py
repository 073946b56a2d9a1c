"""Makes text safe to show: characters that a terminal or a log would obey are written as codes."""

import json
import re
from typing import Any


def code(character: str) -> str:
    """How *character* is written where it must not stand itself: `\\xHH`, `\\uHHHH` or `\\UHHHHHHHH`.

    A byte that is not UTF-8, which surrogateescape decodes to a lone surrogate, is `\\xHH`.
    """
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def printable(text: str, *, keep: str = "") -> str:
    """*text* with each character that doesn't print as its `code`, but for those in *keep*.

    Those are control characters, line breaks, what changes the direction of text, and what has no shape of its own.
    """
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() or each in keep else code(each) for each in text])


def to_json(value: Any, *, indent: int | None = None) -> str:
    """*value* as JSON, from which all of it can be read back: letters as they are, what doesn't print as `\\uHHHH`."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text])


def count_of(number: int, noun: str, plural: str = "") -> str:
    """So many of *noun*: `1 entry`, `2 addresses`; *plural* where no rule makes it of the noun."""
    if number == 1:
        return f"1 {noun}"
    if not plural and re.search(r"[^aeiou]y$", noun):
        plural = f"{noun[:-1]}ies"
    return f"{number} {plural or noun + ('es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's')}"
