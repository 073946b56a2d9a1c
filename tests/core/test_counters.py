"""The counters: what is counted under which names, and that no process's count is lost."""

import os
from collections import Counter
from itertools import product

import pytest

from policyd.counters import (
    CONTEXTS_LIMIT,
    INSIDER_BY,
    OUTCOMES,
    SECONDS,
    Cell,
    CounterPage,
    Durations,
    Outcome,
)
from policyd.model import Action, Decision, Request, Rule

LET_THROUGH = Decision(Action.DUNNO, Rule.DEFAULT)
REFUSED = Decision(Action.REJECT, Rule.UNLISTED_RECIPIENT, is_refused=True)
WOULD_BE = Decision(Action.DUNNO, Rule.UNLISTED_RECIPIENT, is_refused=True)


def counted(page: CounterPage) -> dict[tuple[Outcome, str], int]:
    """What is not 0."""
    return {key: count for key, count in page.decisions().items() if count}


def test_everything_is_there_from_the_start():
    """A series that appears with its first event has lost that one: a rate over it sees no change."""
    page = CounterPage(3, ["submission"])
    contexts = ["other", "inbound", "submission"]
    assert page.decisions() == dict.fromkeys(product(OUTCOMES, contexts), 0)
    assert {outcome.rule for outcome in OUTCOMES} == {*Rule}
    assert page.insiders() == dict.fromkeys(product(INSIDER_BY, contexts), 0)
    assert page.durations() == Durations((0,) * (len(SECONDS) + 1), 0.0)
    assert [page.total(cell) for cell in Cell] == [0] * len(Cell)


@pytest.mark.parametrize(
    ("decision", "outcome"),
    [
        (LET_THROUGH, Outcome(Rule.DEFAULT, Action.DUNNO, "")),
        (REFUSED, Outcome(Rule.UNLISTED_RECIPIENT, Action.REJECT, "")),
        (WOULD_BE, Outcome(Rule.UNLISTED_RECIPIENT, Action.DUNNO, "reject")),
    ],
    ids=["let through", "refused", "monitored"],
)
@pytest.mark.parametrize(
    ("context", "shown"),
    [("inbound", "inbound"), ("submission", "submission"), ("", "other"), ("anything a peer says", "other")],
)
def test_decision_is_counted_once_by_rule_and_context(decision, outcome, context, shown):
    """What a peer makes up is no name of a series: there would be as many as he likes."""
    page = CounterPage(2, ["submission"])
    page.at(1, ["submission"]).decided(Request(policy_context=context), decision, 0.0)
    assert counted(page) == {(outcome, shown): 1}
    assert not any(page.insiders().values())


def test_trial_is_not_counted():
    """Doctor's timer asks each hour: an alert that nobody asks would never come."""
    page = CounterPage(1)
    page.at(0).decided(Request(instance="policyd-doctor", policy_context="inbound"), REFUSED, 0.0)
    assert not counted(page)
    assert page.durations() == CounterPage(1).durations()


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (Request(sasl_username="ann", policy_context="submission"), ("login", "submission")),
        (Request(policy_context="submission"), ("context", "submission")),
        (Request(policy_context="inbound"), ("network", "inbound")),
        (Request(), ("network", "other")),
    ],
    ids=["by login", "by context", "by network", "without a context"],
)
def test_insider_is_counted_by_what_made_him_one(request_, key):
    """A gateway that makes everybody an insider shows as network in the context of strangers."""
    page = CounterPage(1, ["submission"])
    page.at(0, ["submission"]).decided(request_, LET_THROUGH._replace(is_insider=True), 0.0)
    assert {each: count for each, count in page.insiders().items() if count} == {key: 1}
    assert sum(page.decisions().values()) == 1


def test_durations_are_counted_up_to_their_bounds():
    """As Prometheus has it: a bound belongs to what is below it."""
    page = CounterPage(2)
    taken = [0.0, SECONDS[0], SECONDS[0] * 1.01, 0.04, 5.0]
    for place, seconds in enumerate(taken):
        page.at(place % 2).decided(Request(), LET_THROUGH, seconds)
    durations = page.durations()
    assert {bound: count for bound, count in zip([*SECONDS, None], durations.counts, strict=True) if count} == {
        SECONDS[0]: 2,
        SECONDS[1]: 1,
        0.05: 1,
        None: 1,
    }
    assert durations.sum_seconds == pytest.approx(sum(taken))


def test_counts_outlive_the_process_that_made_them():
    """A worker that dies takes nothing with it, and the next one at its place goes on."""
    page = CounterPage(2)
    for _ in range(2):
        pid = os.fork()
        if not pid:
            counters = page.at(1)
            for _ in range(1000):
                counters.decided(Request(), REFUSED, 0.0)
                counters.add(Cell.HUNG_UP_DATABASE)
            os._exit(0)
        os.waitpid(pid, 0)
    page.at(0).decided(Request(), REFUSED, 0.0)
    assert counted(page) == {(Outcome(Rule.UNLISTED_RECIPIENT, Action.REJECT, ""), "other"): 2001}
    assert page.total(Cell.HUNG_UP_DATABASE) == 2000


def test_contexts_that_come_later_are_counted_by_name_from_then_on():
    """A setting that is read again needs no restart; what was counted before stays as it is."""
    page = CounterPage(1)
    counters = page.at(0)
    counters.decided(Request(policy_context="mua"), LET_THROUGH, 0.0)
    page.add_contexts(["mua"])
    counters.take_contexts(["mua"])
    counters.decided(Request(policy_context="mua"), LET_THROUGH, 0.0)
    assert Counter({context: count for (_, context), count in counted(page).items()}) == {"other": 1, "mua": 1}


def test_contexts_for_which_there_is_no_room_are_others():
    """Memory is bounded, and no request is left out."""
    page = CounterPage(1, [*(f"context {number:03}" for number in range(200)), "x" * 500, "ü\udcff"])
    assert len(page.contexts()) == CONTEXTS_LIMIT
    assert page.contexts()[:3] == ["other", "inbound", "context 000"]
    page.at(0).decided(Request(policy_context="x" * 500), LET_THROUGH, 0.0)
    assert [context for _, context in counted(page)] == ["other"]
    assert CounterPage(1, ["ü\udcff"]).contexts() == ["other", "inbound", "ü\udcff"]


def test_gauge_is_what_was_set_last():
    """Of all processes together."""
    page = CounterPage(2)
    for place, value in ((0, 7), (1, 5), (0, 2)):
        page.at(place).set(Cell.LINES_WAITING, value)
    assert page.total(Cell.LINES_WAITING) == 7
