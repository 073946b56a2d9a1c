"""Commands on a real PostgreSQL server, one that all tests share or one for a test that does harm to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.postgresql import Cluster, the_cluster


@pytest.fixture
def server() -> Cluster:
    """The server that all tests share; none of them may stop it."""
    return the_cluster()


@pytest.fixture
def policyd(tmp_path: Path, server: Cluster) -> Iterator[CommandLine]:
    """Commands on a database with empty tables, with a domain."""
    commands = CommandLine(tmp_path)
    commands.be_on(server)
    commands.run("domain add example.com")
    yield commands
    server.take_back(commands.name)


@pytest.fixture
def own_server() -> Iterator[Cluster]:
    """A server for one test, which may do with it as it likes."""
    cluster = Cluster()
    cluster.initialize()
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def own(tmp_path: Path, own_server: Cluster) -> CommandLine:
    """Commands on a database of `own_server`, with a domain."""
    commands = CommandLine(tmp_path)
    commands.be_on(own_server)
    commands.run("domain add example.com")
    return commands
