"""A short soak: what `tests/soak` does for an hour, for as long as a test may take; and that it would see a defect.

What it has logged then is what `policyd report` is tried on.
"""

import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from policyd.audit import shown_as_json
from policyd.report.counting import Counts
from policyd.report.log_files import Log
from tests.core.test_audit import parse
from tests.oracle.commands import COMMANDS
from tests.oracle.model import Domain, Request
from tests.soaking import run
from tests.soaking.expected import HANG_UP, UNLISTED, World
from tests.soaking.record import Record
from tests.soaking.run import soak
from tests.soaking.timeline import Timeline
from tests.support.drills import drill
from tests.support.log_formats import FORMATS

NOBODY = Request("joe@example.net", "nobody@example.com")
MANAGED = World(domains={"example.com": Domain()})


class KeptRecord(Record):
    """A record that keeps the lines it is given, each with when it came."""

    def __init__(self) -> None:
        super().__init__()
        self.timed: list[tuple[float, str]] = []

    def read(self, lines: list[str]) -> None:
        """Lines of the audit; of those about questions, the ones that are numbered, and so counted."""
        kept = [line for line in lines if not line.startswith("action=") or ", instance=n" in line]
        self.timed += [(time.time(), line) for line in kept]
        super().read(lines)


@pytest.fixture(scope="module", params=[1, pytest.param(40, marks=pytest.mark.full)], ids="{} s".format)
def soaked(request, tmp_path_factory) -> KeptRecord:
    """What came of a soak of some seconds."""
    seconds = request.param
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.soaking.drill.Record", KeptRecord)
        record = soak(tmp_path_factory.mktemp("soak"), seconds, f"{seconds} seconds", 20, lambda line: None)
    assert isinstance(record, KeptRecord)
    return record


@drill(
    "all kinds of faults at random, under load and administration",
    made="``tests/soak --minutes N`` prints its seed; a model of the tables follows each command and fault",
    client=(
        "the right answer of that moment, or a hang-up while the daemon is down, a worker dies or the database is away"
    ),
    log="a line for each answer, or ``dropped``",
    lost="nothing; at ``kill -9`` the lines that still waited for syslog",
)
def test_every_answer_is_of_its_moment(soaked):
    """Commands, restarts and faults under load: no wrong answer, and no hang-up but where a fault allows it."""
    assert soaked.differences == []
    assert soaked.counts["answers"] > 0
    assert soaked.counts["commands"] > 0


def as_json(line: str) -> str:
    """A line of text as `format = "json"` has it."""
    fields = {name: shown_as_json(value, len(value)) for name, value in parse(line)}
    if "action" in fields:
        fields |= {"entry": int(fields["entry"]) if fields["entry"] else None, "ms": float(fields["ms"])}
    return json.dumps(fields)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("name", FORMATS)
def test_report_has_the_numbers_of_the_soak(soaked, name, form, tmp_path):
    """In each form of a log: every answer that the soak has seen a line of, by its rule and its kind, and no other."""
    timed = [(at, as_json(line)) for at, line in soaked.timed] if form == "json" else soaked.timed
    file = Path(tmp_path / "mail.log")
    file.write_bytes(FORMATS[name](timed))
    log, counts = Log([file]), Counts()
    for logged in log:
        counts.take(logged)

    assert counts.decisions == soaked.counts["lines"]
    assert (counts.not_understood, counts.asked_twice, log.reading.problems) == (0, 0, [])
    kinds: Counter[tuple[str, str]] = Counter()
    for _, line in soaked.timed:
        fields = dict(parse(line))
        if "action" in fields:
            kind = (
                "refused" if fields["action"] == "REJECT" else "would_be_refused" if "would" in fields else "permitted"
            )
            kinds[fields["rule"], kind] += 1
    told = {(rule, kind): count for rule, each in counts.rules.items() for kind, count in asdict(each).items() if count}
    assert told == kinds


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
