"""What is charted: what came when, for a day, whichever process took the samples."""

import os

from policyd.counters import OUTCOMES
from policyd.minutes import MINUTE, Minutes

NOW = 1_790_000_000
ONE, OTHER = OUTCOMES[0], OUTCOMES[1]


def test_minutes_say_what_came_when():
    """Each bar is what came in its span, and all bars together what came in all."""
    minutes = Minutes()
    for number in range(61):
        minutes.sample(NOW + MINUTE * number, {(ONE, "inbound"): number * 2, (ONE, "other"): number, (OTHER, ""): 7})
    counts = {(ONE, ""): 60 * 3, (OTHER, ""): 7}
    series = minutes.per_span(NOW + 60 * MINUTE, counts, MINUTE, 60)
    assert series[ONE] == [3] * 60
    assert series[OTHER] == [0] * 60
    assert minutes.per_span(NOW + 60 * MINUTE, counts, 10 * MINUTE, 6)[ONE] == [30] * 6
    assert minutes.per_span(NOW + 90 * MINUTE, counts, MINUTE, 60)[ONE] == [3] * 30 + [0] * 30

    # What came since the last sample is in the last one.
    assert minutes.per_span(NOW + 60 * MINUTE + 5, counts | {(OTHER, ""): 9}, MINUTE, 60)[OTHER] == [0] * 59 + [2]


def test_minutes_forget_what_is_older_than_a_day_and_a_clock_that_went_back():
    """A process that runs for a year takes no more memory than one that runs for a day."""
    minutes = Minutes()
    for number in range(2000):
        minutes.sample(NOW + MINUTE * number, {(ONE, ""): number})
    assert minutes.since == NOW + MINUTE * (2000 - 1441)
    minutes.sample(NOW, {(ONE, ""): 1})
    assert minutes.since == NOW
    assert minutes.per_span(NOW, {(ONE, ""): 1}, MINUTE, 60)[ONE] == [0] * 60


def test_charts_outlive_the_process_that_took_the_samples():
    """At a reload another one goes on, and does not crowd the day out with samples of its own."""
    minutes = Minutes()
    for number in range(1, 4):
        pid = os.fork()
        if not pid:
            minutes.sample(NOW + MINUTE * number, {(ONE, ""): number})
            minutes.sample(NOW + MINUTE * number + 1, {(ONE, ""): number + 5})
            os._exit(0)
        os.waitpid(pid, 0)
    assert minutes.since == NOW + MINUTE
    assert minutes.per_span(NOW + MINUTE * 4, {(ONE, ""): 9}, MINUTE, 4)[ONE] == [0, 1, 1, 6]
    assert minutes.per_span(NOW + MINUTE * 3 + 20, {(ONE, ""): 9}, 10, 2)[ONE] == [0, 6]
