"""A database of the first edition, made by its own code: `tests/data/first-edition/make.py` says what is in it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from policyd.store.wal import new_cookie

DATA = Path(__file__).resolve().parents[1] / "data" / "first-edition"
SETTINGS = 'recipient_delimiter = "+"\ninsider_networks = ["192.0.2.0/24"]\n[audit]\nsyslog = "none"\n'


def make_first_edition(path: Path, *statements: str) -> None:
    """Make it at *path*; *statements* then change it, past policyd."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((DATA / "database.sql").read_text(encoding="utf-8"))
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA schema_version = {new_cookie()}")
        connection.execute("PRAGMA journal_mode = WAL")
    path.chmod(0o640)


def first_edition_answers() -> list[dict[str, Any]]:
    """What it answered: attributes as Postfix sends them, and beside these what `check --json` told."""
    return [json.loads(line) for line in (DATA / "answers.jsonl").read_text(encoding="utf-8").splitlines()]


def content_of(path: Path) -> list[str]:
    """Everything in the database at *path*, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return [*connection.iterdump()]
