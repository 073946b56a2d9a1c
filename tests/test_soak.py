"""A short soak: what `tests/soak` does for an hour, for as long as a test may take; and that it would see a defect."""

import pytest

from tests.oracle.commands import COMMANDS
from tests.oracle.model import Domain, Request
from tests.soaking import run
from tests.soaking.expected import HANG_UP, UNLISTED, World
from tests.soaking.run import soak
from tests.soaking.timeline import Timeline
from tests.support.drills import drill

NOBODY = Request("joe@example.net", "nobody@example.com")
MANAGED = World(domains={"example.com": Domain()})


@drill(
    "all kinds of faults at random, under load and administration",
    made="``tests/soak --minutes N`` prints its seed; a model of the tables follows each command and fault",
    client=(
        "the right answer of that moment, or a hang-up while the daemon is down, a worker dies or the database is away"
    ),
    log="a line for each answer, or ``dropped``",
    lost="nothing; at ``kill -9`` the lines that still waited for syslog",
)
@pytest.mark.parametrize("seconds", [1, pytest.param(40, marks=pytest.mark.full)])
def test_every_answer_is_of_its_moment(tmp_path, seconds):
    """Commands, restarts and faults under load: no wrong answer, and no hang-up but where a fault allows it."""
    record = soak(tmp_path, seconds, f"{seconds} seconds", 20, lambda line: None)
    assert record.differences == []
    assert record.counts["answers"] > 0
    assert record.counts["commands"] > 0


@pytest.fixture
def timeline():
    """A domain was added by a command between the tenth and the eleventh second."""
    timeline = Timeline(World())
    with timeline.changing(MANAGED, "domain add example.com"):
        pass
    timeline._spells[1].began, timeline._spells[1].ended = 10.0, 11.0
    return timeline


@pytest.mark.parametrize(
    ("sent", "received", "allowed"),
    [
        pytest.param(8.0, 9.0, {"DUNNO"}, id="answered before the command began"),
        pytest.param(9.0, 10.5, {"DUNNO", UNLISTED}, id="answered while it ran"),
        pytest.param(10.5, 12.0, {"DUNNO", UNLISTED}, id="asked while it ran"),
        pytest.param(11.0, 12.0, {UNLISTED}, id="asked when it had returned"),
    ],
)
@pytest.mark.parametrize("got", ["DUNNO", UNLISTED, HANG_UP, f"{UNLISTED}: why"])
def test_answer_of_another_moment_is_seen(timeline, sent, received, allowed, got):
    """A soak that takes anything for right would find nothing."""
    assert (timeline.differs(NOBODY, got, (sent, sent), (received, received)) == "") == (got in allowed)


def test_nobody_may_meet_what_was_seen_to_be_over(timeline):
    """A change that one client has seen is in force for all, whether its command has returned or not."""
    assert timeline.differs(NOBODY, UNLISTED, (9.0, 9.0), (10.2, 10.2)) == ""
    assert timeline.differs(NOBODY, "DUNNO", (10.1, 10.1), (10.4, 10.4)) == ""
    assert "expected 'REJECT" in timeline.differs(NOBODY, "DUNNO", (10.3, 10.3), (10.4, 10.4))


@pytest.mark.parametrize("got", ["DUNNO", UNLISTED])
def test_command_that_was_killed_must_not_have_been_met(got):
    """What isn't in the journal was never in force."""
    timeline = Timeline(World())
    with timeline.changing(MANAGED, "domain add example.com"):
        assert timeline.differs(NOBODY, got, (0.0, 0.0), (2.0**60, 0.0)) == ""
        assert timeline.withdraw() == (got == "DUNNO")
    assert timeline.world == World()


def test_hang_up_needs_a_fault(timeline):
    """The daemon closes no connection by itself while it is asked."""
    assert not timeline.may_hang_up(0.0, 100.0)
    with timeline.changing(World(is_away=True), "mv"):
        pass
    assert timeline.may_hang_up(0.0, timeline._spells[-1].ended)


def test_soak_fails_where_a_command_does_something_else(tmp_path, monkeypatch):
    """The model and the tables are two, and each answer compares them; here the model knows no blocked senders."""
    monkeypatch.setattr(run, "_FAULT_SHARE", 0.0)
    monkeypatch.setitem(COMMANDS, ("sender", "block"), lambda world, words, given: None)
    record = soak(tmp_path, 20, "1", 10, lambda line: None)
    assert "expected" in record.differences[0]
