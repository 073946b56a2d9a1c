"""A disk that is soon full: as small as a test wants it, and gone with the test. Only root can mount one."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, kibibytes: int = 400) -> Iterator[Path]:
    """A disk of so many KiB at *folder*, for whoever owns the folder around it."""
    folder.mkdir()
    options = f"size={kibibytes}k,mode=755,uid={folder.parent.stat().st_uid}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill_up(disk: Path) -> Path:
    """Leave no room on *disk*; the file that takes it."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as opened:
        while True:
            opened.write(bytes(4096))
    return ballast
