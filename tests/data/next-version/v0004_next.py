"""A revision for tests: an index more. It waits to be killed where the environment names a file, which it makes."""

import os
import signal
from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the index."""
    op.create_index("mailbox_until", "mailbox", ["until"])
    if file := os.environ.get("POLICYD_TEST_WAIT"):
        Path(file).touch()
        signal.pause()
