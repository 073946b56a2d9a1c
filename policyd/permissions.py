"""Who could write a file besides those who should: what everybody can write decides nothing about mail."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from policyd.errors import SettingsError, StoreError


def check_settings_file(path: Path) -> None:
    """Raises SettingsError if everybody can write the settings file at *path*, or put another one there.

    What is no file, as a pipe, isn't looked at.
    """
    if stat.S_ISREG(_mode(path)):
        for problem in _openings(path):
            raise SettingsError(f"{path}: {problem}")


def check_database(path: Path) -> None:
    """Raises StoreError if everybody can write the database at *path*, or what SQLite keeps beside it."""
    for each in (path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal"))):
        for problem in _openings(each):
            raise StoreError(f"{each}: {problem}")


def open_folder(path: Path) -> str:
    """What lets everybody replace the file at *path*, and what to do about it, or ""."""
    return "".join([*_open_folders(path)][:1])


def _openings(path: Path) -> Iterator[str]:
    mode = _mode(path)
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        yield f"everybody can write it (mode {stat.S_IMODE(mode):04o}); see who has, and type: chmod o-w {path}"
    yield from _open_folders(path)


def _open_folders(path: Path) -> Iterator[str]:
    """The folder of *path*, and that of the file it leads to; where the sticky bit is set, files are their owners'."""
    for folder in dict.fromkeys((path.parent, Path(os.path.realpath(path)).parent)):
        mode = _mode(folder)
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield f"everybody can write in its folder (mode {stat.S_IMODE(mode):04o}); type: chmod o-w {folder}"


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0  # whoever opens it will tell
