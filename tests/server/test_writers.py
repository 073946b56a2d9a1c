"""Many commands at once on a server: none is lost, and the journal is one chain without a gap."""

import multiprocessing
import shlex

import pytest

from policyd.cli import main
from tests.support.command_line import CommandLine
from tests.support.few import few
from tests.support.waiting import LIMIT_SECONDS


@pytest.mark.parametrize("writers", few([4, 16], 4))
def test_numbers_have_no_gap_and_the_chain_is_whole(policyd, monkeypatch, writers):
    """Each process types ten commands, some of which are refused, and so give their number back."""
    for name, value in policyd.environment.items():
        monkeypatch.setenv(name, value)
    CommandLine(policyd.folder).run("database stats --help")  # what they need is loaded before they part
    fork = multiprocessing.get_context("fork")
    started = [fork.Process(target=type_commands, args=(number,)) for number in range(writers)]
    for process in started:
        process.start()
    for process in started:
        process.join(LIMIT_SECONDS)
    assert [process.exitcode for process in started] == [0] * writers
    ids = [number for (number,) in policyd.rows("SELECT id FROM change ORDER BY id")]
    assert ids == [*range(1, len(ids) + 1)]
    assert len(policyd.json("mailbox list")) == 5 * writers
    assert len({each for (each,) in policyd.rows("SELECT id FROM mailbox")}) == 5 * writers
    assert policyd.run("database check") == ""


def type_commands(number: int) -> None:
    """Add mailboxes, and try to add what somebody else has."""
    for each in range(5):
        for line in (f"mailbox add m{number}x{each} m{number}x{each}@example.com", "domain add example.com"):
            with pytest.raises(SystemExit) as ended:
                main(shlex.split(line))
            assert ended.value.code in (0, 1)
