"""Reads lines of text in any encoding: each is bounded, and bytes that can't be decoded are not lost."""

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

LINE_LIMIT = 1024 * 1024  # characters of one line, or of one record over several lines

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UTF16 = re.compile(rb"(?P<little>[!-~]\0)|\0[!-~]")  # its first character, where there is no mark
_CHUNK_BYTES = 1024 * 1024  # read at a time


class Line(NamedTuple):  # a file has millions: creating one takes a third of a dataclass's time
    """A line and its number, from 1, without its line break; of one that is too long only the beginning."""

    number: int
    text: str
    is_too_long: bool = False


def find_encoding(stream: BinaryIO) -> str:
    """The encoding of all of *stream*, which is left at its start: by its BOM, else UTF-8, else Windows-1252.

    UTF-16 without a mark is known by the NUL beside the first character, which in all our formats is one of ASCII.

    Source: Q261112.
    """
    stream.seek(0)
    start = stream.read(3)
    encoding = next((encoding for bom, encoding in _BOMS if start.startswith(bom)), "")
    if not encoding and (unmarked := _UTF16.match(start)):
        encoding = "utf-16-le" if unmarked["little"] else "utf-16-be"
    if not encoding:
        stream.seek(0)
        encoding = "utf-8" if _is_utf8(stream) else "cp1252"
    stream.seek(0)
    return encoding


def read_lines(stream: BinaryIO, encoding: str) -> Iterator[Line]:
    """The lines of *stream* from its start, ended by LF, CR LF or CR. Bytes that don't decode stand as surrogates."""
    stream.seek(0)
    errors = "replace" if encoding.startswith("utf-16") else "surrogateescape"
    text = io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline=None)
    try:
        number = 0
        while chunk := text.readline(LINE_LIMIT):
            number += 1
            is_too_long = len(chunk) == LINE_LIMIT and not chunk.endswith("\n")
            yield Line(number, chunk.removesuffix("\n"), is_too_long)

            # The rest of a line that is too long is read and dropped.
            while is_too_long and chunk and not chunk.endswith("\n"):
                chunk = text.readline(LINE_LIMIT)
    finally:
        if not stream.closed:  # it may be, where the caller stops before the end
            text.detach()


def _is_utf8(stream: BinaryIO) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
