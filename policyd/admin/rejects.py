"""The rows that an import rejected, as a file that can be corrected and imported."""

import codecs
import re
from contextlib import ExitStack, suppress
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from policyd.files import has_folder, replacing
from policyd.records import Record
from policyd.transfer.delimited import is_preface, read_records
from policyd.transfer.formats import Format, ReadOptions
from policyd.transfer.text import find_encoding, read_lines

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_LINE_END = re.compile(r"\r\n|\r|\n")
_START_BYTES = 1024 * 1024
_ERRORS = "surrogateescape"  # bytes that are no text of the encoding are written as they came


class FileShape(NamedTuple):
    """How a file is written: its encoding, its byte order mark, its line ends, and its header with what is above it."""

    encoding: str = "utf-8"
    mark: bytes = b""
    line_end: str = "\n"
    header: str = ""


def read_shape(stream: BinaryIO, chosen: Format, options: ReadOptions) -> FileShape:
    """The shape of the file in *stream*, of the format *chosen*. Leaves *stream* at its start."""
    # The encoding is the one that the reader takes.
    encoding = find_encoding(stream)
    start = stream.read(_START_BYTES)
    stream.seek(0)
    mark = next((mark for mark in _MARKS if start.startswith(mark)), b"")
    codec = _MARKS.get(mark, "utf-8" if chosen.is_utf8 else encoding)

    # The first line end counts for all.
    found = _LINE_END.search(start.removeprefix(mark).decode(codec, "replace"))
    line_end = found[0] if found else "\n"
    if not chosen.has_header:
        return FileShape(codec, mark, line_end)

    # The header may be a record of several lines.
    lines = read_lines(stream, encoding)
    above: list[str] = []
    for line in lines:
        if not is_preface(line.text):
            records = read_records(chain((line,), lines), options.column_separator, options.quote)
            header = next((record.source for record in records), "")
            stream.seek(0)
            return FileShape(codec, mark, line_end, "".join(f"{each}\n" for each in (*above, header)))
        above.append(line.text)
    stream.seek(0)
    return FileShape(codec, mark, line_end)


class Rejects:
    """Collects rejected records of *file*, and leaves them in `path` at the end, if there are any, in the same *shape*.

    *record_end* is what follows each. Nothing is written where *is_kept* is false, or where the folder can't be
    written; `is_written` says whether it was.
    """

    def __init__(self, file: Path, shape: FileShape, *, is_kept: bool, record_end: str = "\n") -> None:
        self.file = file
        # What has no folder of its own (-, a pipe, /dev/stdin) gets it where the person is, and not in /dev.
        is_beside = str(file) != "-" and has_folder(file)
        self.path = file.with_name(f"{file.name}.err") if is_beside else Path("stdin.err")
        self.is_written = False
        self._shape = shape
        self._is_kept = is_kept
        self._record_end = record_end
        self._heading = ""  # the comment under which the next record would stand
        self._draft: TextIOWrapper | None = None
        self._opened = ExitStack()

    def __enter__(self) -> "Rejects":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draft is None:
            return
        with suppress(OSError):  # what is imported is kept by now, and every wrong row was reported
            if error is None:
                self._draft.flush()
            self._draft.detach()
            self._opened.__exit__(kind, error, trace)
            self.is_written = error is None

    def keep(self, record: Record) -> None:
        """Add the source of *record*, if it was short enough to be kept."""
        if self._is_kept and record.source and self._draft is None:
            self._draft = self._begin()
        if self._draft is not None and record.source:
            if record.heading != self._heading:
                self._draft.write(f"{record.heading}\n")
                self._heading = record.heading
            self._draft.write(f"{record.source}{self._record_end}")

    def _begin(self) -> TextIOWrapper | None:
        """The draft, with the header; None where it can't be written, which is tried once."""
        try:
            stream = self._opened.enter_context(replacing(self.path))
        except OSError:
            self._is_kept = False
            return None
        stream.write(self._shape.mark)
        line_end = self._shape.line_end
        draft = TextIOWrapper(stream, encoding=self._shape.encoding, errors=_ERRORS, newline=line_end)
        draft.write(self._shape.header)
        return draft
