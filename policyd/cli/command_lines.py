"""Splits a file of commands into lines, and each line into words, as a shell does that expands nothing."""

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

from policyd.errors import TransferError

_BLANKS = re.compile(r"[ \t]*")
_PART = re.compile(
    r"""
    (?P<plain>[^ \t'"\\]+)
    | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | \\(?P<escaped>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r'\\(["\\$`])')  # in double quotes a backslash stands for itself before anything else
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class CommandLine(NamedTuple):
    """A command: the number of its line, from 1, the line as it stands in the file, and its words."""

    number: int
    text: str
    words: list[str]


def read_commands(content: bytes, name: str) -> Iterator[CommandLine]:
    """The commands in *content*, one a line, without blank lines and comments; *name* is what messages call the file.

    It is UTF-8, with or without a BOM; a line ends with LF or CR LF. Raises TransferError at the first line that can't
    be read.
    """
    if content.startswith(_UTF_16):
        raise TransferError(f"{name}:1: is UTF-16, and must be UTF-8; nothing was changed")
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            text = line.removesuffix(b"\r").decode()
            words = split_words(text)
        except UnicodeDecodeError as error:
            raise TransferError(f"{name}:{number}: is not UTF-8; nothing was changed") from error
        except ValueError as error:
            raise TransferError(f"{name}:{number}: {error}; nothing was changed") from error
        if words:
            yield CommandLine(number, text.strip(), words)


def split_words(text: str) -> list[str]:
    r"""The words of one line; none of a blank line, and none from a word on that begins with `#`.

    Blanks and tabs separate words. In single quotes everything stands for itself; in double quotes `\` takes the
    meaning from `"`, `\`, `$` and a backquote; outside of quotes, from any character. Nothing else has a meaning.
    Raises ValueError where a quote is not closed, or nothing follows a backslash.
    Source: POSIX.1-2017, Shell Command Language, 2.2 Quoting.
    """
    words = []
    position = _end(_BLANKS.match(text))
    while position < len(text) and text[position] != "#":
        word = ""
        while position < len(text) and text[position] not in " \t":
            found = _PART.match(text, position)
            if found is None:
                if text[position] == "\\":
                    raise ValueError("a backslash at the end of the line; a command stands on one line")
                raise ValueError(f"the quote {text[position]} is not closed; a command stands on one line")
            part = found[found.lastgroup or 0]
            word += _ESCAPED.sub(r"\1", part) if found.lastgroup == "double" else part
            position = found.end()
        words.append(word)
        position = _end(_BLANKS.match(text, position))
    return words


def _end(found: re.Match[str] | None) -> int:
    return found.end() if found else 0
