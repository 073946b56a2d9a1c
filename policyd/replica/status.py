"""How a replica is, in a small file beside it: who follows writes it, and whoever asks reads it."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from policyd.errors import StoreError, reason_of
from policyd.files import replacing


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How far a replica has come: `id` and `digest` of its last change, of this `history`.

    `current_at` is when it last had all that the database had, in Unix seconds, 0 for never; `behind` how many changes
    were missing when that was last seen. `problem` is what keeps it from following, "" where nothing does.
    """

    history: str = ""
    id: int = 0
    digest: str = ""
    current_at: int = 0
    behind: int = 0
    problem: str = ""
    source: str = ""

    def age(self, now: int) -> int:
        """For how many seconds it may have missed changes."""
        return max(0, now - self.current_at)

    def told(self, now: int) -> str:
        """The same in a few words."""
        if self.problem:
            return f"the replica is at change {self.id}, as of {self.age(now)} s ago: {self.problem}"
        return f"the replica is at change {self.id}"


def status_file(replica: Path) -> Path:
    """The file beside the *replica*."""
    return Path(f"{replica}.status")


def write_status(replica: Path, status: ReplicaStatus) -> None:
    """Write how the *replica* is. A disk that takes nothing is no reason to stop following."""
    with suppress(OSError), replacing(status_file(replica), is_shared=True) as file:
        file.write(json.dumps(asdict(status)).encode())


def read_status(replica: Path) -> ReplicaStatus:
    """How the *replica* is. Raises StoreError where nobody has followed yet."""
    file = status_file(replica)
    try:
        read = json.loads(file.read_bytes())
        return replace(ReplicaStatus(), **read)
    except FileNotFoundError as error:
        raise StoreError(f"{replica}: nothing has followed the database yet; start policyd serve") from error
    except OSError as error:
        raise StoreError(f"{file}: {reason_of(error)}") from error
    except (ValueError, TypeError) as error:
        raise StoreError(f"{file}: not a replica's status; policyd serve writes it anew") from error
