"""The policyd of the next version, as far as an upgrade goes: run as `python -m tests.support.next_version WORDS...`.

Its tables have an index more, its revision is in `tests/data/next-version`.
"""

import sys
from pathlib import Path

from sqlalchemy import Index

from policyd.store import schema

FOLDER = Path(__file__).parents[1] / "data/next-version"


def become() -> None:
    """Be that version, before anything else of policyd's looks which one it is."""
    schema.VERSION += 1
    Index("mailbox_until", schema.mailbox.c.until)
    from policyd.store import upgrade

    upgrade.VERSIONS.append(FOLDER)


if __name__ == "__main__":
    become()
    from policyd.cli import main

    main(sys.argv[1:], prog_name="policyd")
