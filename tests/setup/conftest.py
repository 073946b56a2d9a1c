"""Hosts in a place that every user can reach."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.postfix.instance import missing_for_postfix
from tests.support.places import OPEN_PLACE
from tests.support.required import give_up

from .hosts import Host

MakeHost = Callable[[str], Host]


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Makes a host of a kind; it is not started."""
    if reason := missing_for_postfix():
        give_up("POSTFIX", reason)
    made: list[Host] = []
    folders: list[str] = []

    def make(kind: str) -> Host:
        folders.append(tempfile.mkdtemp(prefix="policyd-", dir=OPEN_PLACE))
        folder = Path(folders[-1])
        folder.chmod(0o755)
        made.append(Host(folder, kind))
        return made[-1]

    try:
        yield make
    finally:
        for host in made:
            host.stop()
        for each in folders:
            shutil.rmtree(each, ignore_errors=True)
