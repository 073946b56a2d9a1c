"""An export: one state of the tables -> a file, in any of the formats that can be imported."""

import importlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from policyd.admin.session import Session
from policyd.errors import StoreWriteError
from policyd.transfer.guess import FORMATS


def export_tables(session: Session, format_: str, target: Path | BinaryIO) -> Counter[str]:
    """Write all tables to *target*, a stream or a file; return what the format can't carry, counted.

    A file appears whole, readable by its owner only. Raises StoreError where the tables can't be read, or the file
    can't be written.
    """
    lost: Counter[str] = Counter()
    with session.reading() as queries:
        chunks = importlib.import_module(f"policyd.transfer.{FORMATS[format_]}").write(queries, lost)
        if isinstance(target, Path):
            _write_whole(target, chunks)
        else:
            _write_to(target, chunks)
    return lost


def _write_whole(output: Path, chunks: Iterable[str]) -> None:
    """Write *chunks* to *output*: the whole file appears at once, readable by its owner only.

    A device or pipe that is there already is written to as it is.
    """
    draft = output.parent / f".{output.name}.{os.getpid()}.new"
    try:
        if output.exists() and not output.is_file():
            with output.open("wb") as file:
                _write_to(file, chunks)
            return
        try:
            with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                _write_to(file, chunks)
            draft.replace(output)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StoreWriteError(f"{output}: can't be written: {error.strerror}") from error


def _write_to(file: BinaryIO, chunks: Iterable[str]) -> None:
    """Write *chunks* in UTF-8, whatever the locale says."""
    file.writelines(chunk.encode("utf-8") for chunk in chunks)
    file.flush()
