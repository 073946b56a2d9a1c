"""The names in the tables of this host, for completion: quick, and without a word where there are none."""

import re
import tomllib
from pathlib import Path

from policyd.store.names import stored_names

DEFAULT_SETTINGS, DEFAULT_DATABASE = Path("/etc/policyd/policyd.toml"), "/var/lib/policyd/policyd.db"
_SERVER = re.compile(r"postgres(?:ql)?:")


def find_names(table: str, beginning: str, *, settings_file: Path | None, database: str | None) -> list[str]:
    """The names in *table* that begin with *beginning*, which is folded.

    *settings_file* and *database* are what the command line or the environment names. Of a database on a server, they
    come from the replica on this host, and without one there are none.
    """
    # Which file it is, say two settings: to read and check all of them takes longer than anybody waits.
    settings = _read(settings_file or DEFAULT_SETTINGS)
    place = database or settings.get("database") or DEFAULT_DATABASE
    if isinstance(place, str) and _SERVER.match(place):
        place = settings.get("replica")
    if not isinstance(place, str) or not place:
        return []
    return stored_names(Path(place.removeprefix("sqlite:///")), table, beginning)


def _read(file: Path) -> dict[str, object]:
    """The settings in *file* as they stand there; none where it can't be read, or is no file."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, ValueError):
        return {}
