"""Where tests keep their files: in memory where there is room for all of them, as no commit waits for a disk there."""

import os

_ROOM = 1 << 30  # bytes: many times what a run has at one time


def _is_as_good_as_a_disk(folder: str) -> bool:
    """Whether whatever a test does in /tmp goes there, too: it runs programs, and makes devices."""
    try:
        held = os.statvfs(folder)
    except OSError:
        return False
    forbids = held.f_flag & (os.ST_RDONLY | os.ST_NOEXEC | os.ST_NODEV)
    return not forbids and held.f_bavail * held.f_frsize >= _ROOM and os.access(folder, os.W_OK | os.X_OK)


# Every user gets in there, and its name is short enough for unix sockets below it.
OPEN_PLACE = "/dev/shm" if _is_as_good_as_a_disk("/dev/shm") else "/tmp"
