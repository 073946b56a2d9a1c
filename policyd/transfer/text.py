"""Reads lines of text in any encoding: each is bounded, and bytes that can't be decoded are not lost."""

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from policyd.errors import TransferError

LINE_LIMIT = 1024 * 1024  # characters of one line, or of one record over several lines

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNPACK = "; import what comes out of it: {} -dc FILE | policyd import -"
_SAVE = "; save the sheet as CSV, and import that"
_INDEXED = "an indexed map of Postfix's; import the text that it was made of"
# What begins like this, at that byte, is no text, whatever a format would make of it.
_NO_TEXT = (
    (0, b"\x1f\x8b", "compressed by gzip" + _UNPACK.format("gzip")),
    (0, b"\xfd7zXZ\0", "compressed by xz" + _UNPACK.format("xz")),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd" + _UNPACK.format("zstd")),
    (0, b"BZh", "compressed by bzip2" + _UNPACK.format("bzip2")),
    (0, b"PK\3\4", "a workbook, or another zip archive" + _SAVE),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a workbook of an old Excel" + _SAVE),
    (0, b"SQLite format 3\0", "a database; import what this prints: policyd --database FILE export --format jsonl"),
    (0, codecs.BOM_UTF32_LE, "UTF-32; save it as UTF-8"),
    (0, codecs.BOM_UTF32_BE, "UTF-32; save it as UTF-8"),
    (12, b"\x61\x15\x06\0", _INDEXED),  # Berkeley DB, hash:
    (12, b"\x62\x31\x05\0", _INDEXED),  # and btree:
    (16, b"\xde\xc0\xef\xbe", _INDEXED),  # lmdb:
    (0, bytes(3), "no text: it begins with zeros"),  # a device that has them without end, too
)
_NO_TEXT_BYTES = 32
_UTF16 = re.compile(rb"(?P<little>[!-~]\0)|\0[!-~]")  # its first character, where there is no mark
_CHUNK_BYTES = 1024 * 1024  # read at a time


class Line(NamedTuple):  # a file has millions: creating one takes a third of a dataclass's time
    """A line and its number, from 1, without its line break; of one that is too long only the beginning."""

    number: int
    text: str
    is_too_long: bool = False


def need_text(stream: BinaryIO) -> None:
    """Raises TransferError where *stream*, which is left at its start, is a file of some other kind."""
    stream.seek(0)
    start = stream.read(_NO_TEXT_BYTES)
    stream.seek(0)
    for position, beginning, kind in _NO_TEXT:
        if start[position:].startswith(beginning):
            raise TransferError(f"the file is {kind}")


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
