"""Which engine tests have their tables on: SQLite, or where the environment says so, a real PostgreSQL server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from policyd.store.connection import Database
from policyd.store.database import create_database

if TYPE_CHECKING:
    from tests.support.postgresql import Cluster

IS_SERVER = os.environ.get("POLICYD_TEST_ENGINE") == "postgresql"


def server_for_tests() -> "Cluster | None":
    """The server for tables that are not in a file; None where they are."""
    if not IS_SERVER:
        return None
    from tests.support.postgresql import the_cluster

    return the_cluster()


@contextmanager
def new_database(folder: Path) -> Iterator[Database]:
    """A database with empty tables: a file in *folder*, or one on the server, which gets it back."""
    server = server_for_tests()
    if server is None:
        database = Database.at(folder / "policyd.db")
        create_database(database)
        yield database
        return
    name = server.make()
    yield Database(server.url(name))
    server.take_back(name)
