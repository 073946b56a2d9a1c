"""What the tests of the pages share: a command line with tables of its own."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policyd.cli import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    """Runs a command line on a database of its own, in a folder of its own."""
    settings = tmp_path / "policyd.toml"
    settings.write_text('[audit]\nsyslog = "none"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POLICYD_CONFIG", str(settings))
    monkeypatch.setenv("POLICYD_DATABASE", str(tmp_path / "policyd.db"))
    return lambda line: CliRunner().invoke(main, shlex.split(line))


@pytest.fixture
def filled(run: Callable[[str], Result]) -> Callable[[str], Result]:
    """`run`, on tables with a row each."""
    for line in [
        "domain add example.com",
        "mailbox add alice alice@example.com",
        "mailbox restrict alice --accept @example.net",
        "sender block alice --except @example.net",
        "group add staff alice --comment colleagues",
        "domain set example.com --comment ours",
        "sender block anyone --to @spam.example --except-sender alice",
        "mailbox set alice --comment 'on leave'",
    ]:
        assert run(line).exit_code == 0, line
    return run
