"""The rows that an import rejected, as a file that can be corrected and imported."""

from contextlib import ExitStack, suppress
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from policyd.files import has_folder, replacing
from policyd.records import Record
from policyd.transfer.delimited import read_records
from policyd.transfer.formats import ReadOptions
from policyd.transfer.text import find_encoding, read_lines


def read_header(stream: BinaryIO, options: ReadOptions) -> str:
    """The header of the file, with its line break. Leaves *stream* at its start."""
    lines = read_lines(stream, find_encoding(stream))
    records = read_records(lines, options.column_separator, options.quote)
    header = next((f"{record.source}\n" for record in records), "")
    stream.seek(0)
    return header


class Rejects:
    """Collects rejected records of *file* below *header*, and leaves them in `path` at the end, if there are any.

    *record_end* is what follows each. Nothing is written where *is_kept* is false, or where the folder can't be
    written; `is_written` says whether it was.
    """

    def __init__(self, file: Path, header: str, *, is_kept: bool, record_end: str = "\n") -> None:
        self.file = file
        # What has no folder of its own (-, a pipe, /dev/stdin) gets it where the person is, and not in /dev.
        is_beside = str(file) != "-" and has_folder(file)
        self.path = file.with_name(f"{file.name}.err") if is_beside else Path("stdin.err")
        self.is_written = False
        self._header = header
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
        draft = TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape")
        draft.write(self._header)
        return draft
