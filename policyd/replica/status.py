"""How a replica is, in a small file beside it: who follows writes it, and whoever asks reads it."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from policyd.errors import StoreError, reason_of
from policyd.files import open_to_read, replacing
from policyd.printable import count_of
from policyd.timestamps import END_OF_TIME

_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"))  # of which two or more are said in them
_BYTES = 65536  # of the file, more than any has
_STALE_SECONDS = 60  # without a word from who follows


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How far a replica has come: `id` and `digest` of its last change, of this `history`.

    `current_at` is when it last had all that the database had, in Unix seconds, 0 for never; `behind` how many changes
    were missing when that was last seen. `problem` is what keeps it from following, "" where nothing does. `told_at` is
    when all this was written.
    """

    history: str = ""
    id: int = 0
    digest: str = ""
    current_at: int = 0
    behind: int = 0
    problem: str = ""
    source: str = ""
    told_at: int = 0

    def age(self, now: int) -> int:
        """For how many seconds it may have missed changes."""
        return max(0, now - self.current_at)

    def age_in_words(self, now: int) -> str:
        """The same for a person."""
        if not self.current_at:
            return "an unknown time"
        age = self.age(now)
        for seconds, name in _SPANS:
            if age >= 2 * seconds:
                return f"{age // seconds} {name}s"
        return count_of(age, "second")

    def problem_at(self, now: int) -> str:
        """What keeps it from following, also where nobody is left who would say that; "" where nothing does."""
        if max(self.current_at, self.told_at) > now + _STALE_SECONDS:
            return "the clock was set back since it was followed last"
        if now - self.told_at > _STALE_SECONDS:
            return "nobody follows the database; start policyd serve, or see its log"
        if not self.problem and self.age(now) > _STALE_SECONDS:
            missing = f"; {count_of(self.behind, 'change')} missing when it looked last" if self.behind else ""
            return f"it is catching up{missing}"
        return self.problem

    def told(self) -> str:
        """The same in a few words."""
        if not self.problem:
            return f"the replica is at change {self.id}"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.current_at)) if self.current_at else "ever"
        return f"the replica is at change {self.id}, not followed since {since}: {self.problem}"


def status_file(replica: Path) -> Path:
    """The file beside the *replica*."""
    return Path(f"{replica}.status")


def write_status(replica: Path, status: ReplicaStatus) -> None:
    """Write how the *replica* is. A disk that takes nothing is no reason to stop following."""
    written = {**asdict(status), "told_at": int(time.time())}
    with suppress(OSError), replacing(status_file(replica), is_shared=True) as file:
        file.write(json.dumps(written).encode())


def read_status(replica: Path) -> ReplicaStatus:
    """How the *replica* is. Raises StoreError where nobody has followed yet, or the file says something else."""
    file = status_file(replica)
    try:
        with open_to_read(file) as opened:
            return _status(json.loads(opened.read(_BYTES)))
    except FileNotFoundError as error:
        raise StoreError(f"{replica}: nothing has followed the database yet; start policyd serve") from error
    except OSError as error:
        raise StoreError(f"{file}: {reason_of(error)}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"{file}: not a replica's status; policyd serve writes it anew") from error


def why_outdated(replica: Path, now: int) -> str:
    """Why answers from the *replica* may be out of date, and for how long; "" where it is followed."""
    try:
        status = read_status(replica)
    except StoreError as error:
        return str(error)
    problem = status.problem_at(now)
    return f"{replica}: may have missed changes for {status.age_in_words(now)}: {problem}" if problem else ""


def _status(read: Any) -> ReplicaStatus:
    """The status that was *read*. Raises ValueError or TypeError where that is none."""
    status = ReplicaStatus(**read)
    for each in fields(status):
        value = getattr(status, each.name)
        if type(value) is not type(each.default) or (isinstance(value, int) and not 0 <= value < END_OF_TIME):
            raise ValueError(each.name)
    return status
