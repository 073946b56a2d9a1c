"""What the daemon's processes use: memory and descriptors."""

import re
from pathlib import Path


def tree(pid: int) -> list[int]:
    """The process *pid* and its workers."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def is_alive(pid: int) -> bool:
    """Whether there is a process *pid* that has not ended."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def kibibytes(pid: int) -> int:
    """The memory of the process and its workers that is no file's."""
    found = [re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{each}/status").read_text()) for each in tree(pid)]
    return sum(int(each[1]) for each in found if each)


def descriptors(pid: int) -> int:
    """How many are open in the process and its workers."""
    return sum(len([*Path(f"/proc/{each}/fd").iterdir()]) for each in tree(pid))
