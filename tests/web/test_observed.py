"""What is seen of the tables: read seldom, by one thread, however many ask."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from twisted.internet.defer import Deferred

from policyd.cli import main
from policyd.settings import Settings
from policyd.watching import WatchedProcesses
from policyd.web.context import BusyError, Threads, WebContext
from policyd.web.observed import Observer, Seen


class HeldCalls:
    """Threads whose calls wait until `run`; *is_full*, they take none."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.is_full = False

    def call(self, function: Callable[[], Any]) -> "Deferred[Any]":
        called: Deferred[Any] = Deferred()
        if self.is_full:
            called.errback(BusyError())
        else:
            self.waiting.append((function, called))
        return called

    def run(self) -> None:
        function, called = self.waiting.pop(0)
        called.callback(function())


class Watching:
    """An observer of the tables in *folder*, with a clock that is turned by hand."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "policyd.db"
        self.type("domain", "add", "example.com")
        settings = Settings(database=f"sqlite:///{self.database}")
        self.threads, self.now = HeldCalls(), 1000.0
        context = WebContext(settings, WatchedProcesses(settings), cast(Threads, self.threads))
        self.observer = Observer(context, lambda: self.now)

    def type(self, *words: str) -> None:
        assert CliRunner().invoke(main, ["--database", str(self.database), *words]).exit_code == 0

    def ask(self) -> list[Seen]:
        """Where the answer comes, once it does."""
        answers: list[Seen] = []
        self.observer.observe().addCallback(answers.append)
        return answers


@pytest.fixture
def watching(tmp_path: Path) -> Watching:
    return Watching(tmp_path)


def test_tables_are_read_once_for_all_who_ask(watching):
    """Two who scrape, and a balancer that asks each second, cost no more than one."""
    asked = [watching.ask() for _ in range(3)]
    assert len(watching.threads.waiting) == 1
    watching.threads.run()
    assert [[(seen.problem, seen.change) for seen in each] for each in asked] == [[("", 1)]] * 3
    watching.now += 4
    assert watching.ask() == asked[0]
    watching.now += 2
    watching.type("mailbox", "add", "bob")
    later = watching.ask()
    watching.threads.run()
    assert [seen.change for seen in later] == [2]
    assert later[0].entries["mailbox"] == (0, 0)  # rows are counted once a minute
    watching.now += 61
    last = watching.ask()
    watching.threads.run()
    assert last[0].entries["mailbox"] == (1, 0)


def test_tables_that_are_away_leave_what_was_seen(watching):
    """A graph that falls to 0 would look like rows that were deleted."""
    watching.ask()
    watching.threads.run()
    watching.database.unlink()
    watching.now += 6
    (asked,) = [watching.ask()]
    watching.threads.run()
    assert (asked[0].problem != "", asked[0].change, asked[0].entries["domain"]) == (True, 1, (1, 0))


def test_where_too_many_wait_there_is_the_former_answer(watching):
    """Metrics come in any case: whoever looks at them wants to know why it is slow."""
    watching.ask()
    watching.threads.run()
    watching.now += 6
    watching.threads.is_full = True
    assert [seen.change for seen in watching.ask()] == [1]
