"""Names that begin in some way, for completion: by sqlite3 alone, since SQLAlchemy takes longer than anybody waits.

The text of the statements is held against the schema by a test. The file is read as it stands: nothing is made beside
it, nobody waits for a lock, and no writer is kept waiting. What is being written meanwhile may so be missing.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

MOST = 200  # names: some screens full
# Of each table: the column with the name as it is shown, and the one by which it is looked up.
COLUMNS = {
    "domain": ("name", "name"),
    "mailbox": ("name", "folded_name"),
    "mailbox_group": ("name", "folded_name"),
    "address": ("address", "address"),
}
_LAST_CHARACTER = "\U0010ffff"


def statement(table: str) -> str:
    """The names in *table*, from one text on and before another one, in their order."""
    shown, compared = COLUMNS[table]
    return f"SELECT {shown} FROM {table} WHERE {compared} >= ? AND {compared} < ? ORDER BY {compared}"


def stored_names(file: Path, table: str, beginning: str) -> list[str]:
    """The names in *table* that begin with *beginning*, which is folded, in their order.

    Of more than `MOST`, the first ones and the last: what all of them begin with, these do. None where *file* is no
    database of this version, or can't be read.
    """
    found = statement(table)
    try:
        if not file.is_file():  # SQLite would wait for the other end of a pipe
            return []
        uri = f"file:{quote(os.fsencode(file.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            limits = (beginning, beginning + _LAST_CHARACTER)
            names = [str(name) for (name,) in connection.execute(f"{found} LIMIT {MOST}", limits)]
            if len(names) == MOST:
                names += [str(name) for (name,) in connection.execute(f"{found} DESC LIMIT 1", limits)]
    except (OSError, ValueError, sqlite3.Error):
        return []
    return names
