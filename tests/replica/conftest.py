"""A database on a real PostgreSQL server, and mail hosts that follow it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.replica.hosts import Follow, Following, Host, MakeHost
from tests.support.postgresql import Cluster, the_cluster


@pytest.fixture
def server() -> Cluster:
    """The server that all tests share; none of them may stop it."""
    return the_cluster()


@pytest.fixture
def own_server() -> Iterator[Cluster]:
    """A server for one test, which may do with it as it likes."""
    cluster = Cluster()
    cluster.initialize()
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[MakeHost]:
    """Makes a mail host whose daemon follows the database with this URL."""
    with ExitStack() as stack:

        def make(url: str, name: str = "host") -> Host:
            folder = tmp_path / name
            folder.mkdir()
            host = Host(folder, url)
            stack.enter_context(host)
            return host

        yield make


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    """Follows the database with this URL."""
    with ExitStack() as stack:

        def begin(url: str, password_file: Path | None = None, folder: Path = tmp_path) -> Following:
            return stack.enter_context(Following(folder, url, password_file))

        yield begin
