"""Files that appear whole under their name, or not at all, even where the command is killed half-way."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SUFFIX = ".policyd-draft"
_FILE_MODE = 0o640
_BESIDE = ("", "-journal", "-wal", "-shm")  # what SQLite has beside a file


@contextmanager
def drafting(path: Path) -> Iterator[Path]:
    """An empty file for the block to fill; where that ends well, it is durable and has the name *path*.

    Raises OSError where it can't; FileExistsError also where there is something by that name at the end.
    """
    with scratch(path) as draft:
        yield draft
        sync(draft)
        os.link(draft, path)
        sync(path.parent)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """An empty file beside *path*, which is gone after the block, or later if that is killed. Raises OSError."""
    _clear_drafts(path.parent)
    draft, descriptor = _open_draft(path)
    try:
        os.fchmod(descriptor, _FILE_MODE)
        yield draft
    finally:
        os.close(descriptor)
        _remove(draft)


def sync(path: Path) -> None:
    """Have the disk know what is in the file, or which names are in the folder, at *path*."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_draft(path: Path) -> tuple[Path, int]:
    """A new draft, and the descriptor that holds its lock: as long as that is open, the draft is somebody's."""
    while True:
        descriptor, name = tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # else it was taken for nobody's before it was locked
            return Path(name), descriptor
        os.close(descriptor)


def _clear_drafts(folder: Path) -> None:
    """Remove the drafts that killed commands left in *folder*; those of others stay."""
    for draft in folder.glob(f".*{_SUFFIX}"):
        with suppress(OSError), draft.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(draft)


def _remove(draft: Path) -> None:
    for suffix in _BESIDE:
        Path(f"{draft}{suffix}").unlink(missing_ok=True)
