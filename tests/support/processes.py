"""The processes of a running daemon, and what they use: processor, memory and descriptors."""

import os
import re
from pathlib import Path


def workers(pid: int) -> list[int]:
    """The processes that *pid* has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def tree(pid: int) -> list[int]:
    """The process *pid* and its workers."""
    return [pid, *workers(pid)]


def is_alive(pid: int) -> bool:
    """Whether there is a process *pid* that has not ended."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def cpu_seconds(pid: int) -> float:
    """What the process and its workers have used so far."""
    stats = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in tree(pid)]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def kibibytes(pid: int) -> int:
    """The memory of the process and its workers that is no file's."""
    found = [re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{each}/status").read_text()) for each in tree(pid)]
    return sum(int(each[1]) for each in found if each)


def descriptors(pid: int) -> int:
    """How many are open in the process and its workers."""
    return sum(len([*Path(f"/proc/{each}/fd").iterdir()]) for each in tree(pid))
