"""The ring of refusals: what it keeps, how far back it reaches, and what is seen while it is written."""

import os
import struct

import pytest

from policyd.audit import AuditLog, Watched
from policyd.model import Action, Decision, Request, Rule
from policyd.refusals import Reach, RefusalRing
from policyd.settings import AuditSettings, Decisions, LineFormat
from tests.support.kept_lines import KeptLines

REFUSED = Decision(Action.REJECT, Rule.UNLISTED_RECIPIENT, "5.1.1 no such address", is_refused=True)
WOULD_BE = REFUSED._replace(action=Action.DUNNO)


def line(recipient: str) -> bytes:
    """The audit's line about a refusal."""
    kept = KeptLines()
    AuditLog(AuditSettings(), kept).decided(Request(recipient=recipient), REFUSED, 0.1)
    return kept.lines[0].encode()


def recipients(ring: RefusalRing) -> list[str]:
    """Whom the refusals are about, the newest first."""
    return [each.decision.request.recipient for each in ring.newest()]


def test_newest_of_all_places_comes_first():
    """Whoever looks does not know which worker it was."""
    ring = RefusalRing(3, 30)
    for number in range(9):
        ring.at(number % 3).add(1000.0 + number, line(f"r{number}@example.com"))
    assert recipients(ring) == [f"r{number}@example.com" for number in reversed(range(9))]
    assert [each.at for each in ring.newest()][:2] == [1008.0, 1007.0]
    assert ring.reach() == Reach(1000.0, 9, 30, 0)


def test_oldest_make_room_for_new_ones():
    """However many come, memory is bounded; and it is said from when on all are there."""
    ring = RefusalRing(2, 8)
    ring.at(1).add(1.0, line("early@example.com"))
    for number in range(10):
        ring.at(0).add(100.0 + number, line(f"r{number}@example.com"))
    assert recipients(ring) == ["r9@example.com", *(f"r{n}@example.com" for n in (8, 7, 6)), "early@example.com"]
    assert ring.reach() == Reach(106.0, 5, 8, 6)


def test_nothing_reaches_back_to_nowhere():
    """Before the first refusal."""
    ring = RefusalRing(4, 2)
    assert recipients(ring) == []
    assert ring.reach() == Reach(None, 0, 4, 0)  # one for each place


def test_refusals_outlive_the_process_that_wrote_them():
    """The one that takes a dead worker's place goes on behind them."""
    ring = RefusalRing(1, 10)
    for name in ("first", "second"):
        pid = os.fork()
        if not pid:
            ring.at(0).add(1.0, line(f"{name}@example.com"))
            os._exit(0)
        os.waitpid(pid, 0)
    assert recipients(ring) == ["second@example.com", "first@example.com"]


def test_refusal_that_is_written_over_meanwhile_is_left_out():
    """Half of one and half of another would be a mail that never was."""
    ring = RefusalRing(1, 3)
    place = ring.at(0)
    for name in "abc":
        place.add(1.0, line(f"{name}@example.com"))
    seen = ring.newest()
    assert next(seen).decision.request.recipient == "c@example.com"
    for name in "de":  # in the places of a and b
        place.add(2.0, line(f"{name}@example.com"))
    assert [each.decision.request.recipient for each in seen] == []


@pytest.mark.parametrize("left", [0, 10, 100], ids=["nothing", "the beginning", "most"])
def test_line_that_a_killed_worker_left_half_written_is_not_shown(left):
    """It was killed in the middle of it: the slot has no number yet, and the next refusal takes it."""
    ring = RefusalRing(1, 3)
    place = ring.at(0)
    place.add(1.0, line("whole@example.com"))
    second = 8 + 2048
    struct.pack_into("=QdQ", ring._memory, second, 0, 2.0, 200)
    ring._memory[second + 24 : second + 24 + left] = line("half@example.com")[:left]
    assert recipients(ring) == ["whole@example.com"]
    place.add(3.0, line("next@example.com"))
    assert recipients(ring) == ["next@example.com", "whole@example.com"]


# What the audit keeps


def test_trial_is_logged_and_not_kept():
    """Doctor looks for its line in the log; on the page, people would look for who has sent that."""
    ring, kept = RefusalRing(1, 10), KeptLines()
    AuditLog(AuditSettings(), kept, watched=Watched(refusals=ring.at(0))).decided(
        Request(instance="policyd-doctor", recipient="bob@example.com"), REFUSED, 0.1
    )
    assert len(kept.lines) == 1
    assert recipients(ring) == []


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("decisions", Decisions)
@pytest.mark.parametrize("decision", [REFUSED, WOULD_BE], ids=["refused", "would be"])
def test_refusals_are_kept_whatever_is_logged(decisions, format_, decision):
    """Who logs none, or JSON, finds them on the page all the same; what was let through is not there."""
    ring, kept = RefusalRing(1, 10), KeptLines()
    settings = AuditSettings(decisions=decisions, format=format_)
    audit = AuditLog(settings, kept, watched=Watched(refusals=ring.at(0)))
    audit.decided(Request(recipient="bob@example.com", sender="ä\udcff, x=<y>@example.net"), decision, 0.1)
    audit.decided(Request(recipient="alice@example.com"), Decision(Action.DUNNO, Rule.DEFAULT), 0.1)
    assert len(kept.lines) == {Decisions.ALL: 2, Decisions.REJECTS: 1, Decisions.NONE: 0}[decisions]
    (refused,) = ring.newest()
    assert refused.decision.request.recipient == "bob@example.com"
    assert refused.decision.request.sender == "ä\udcff, x=<y>@example.net"
    assert (refused.decision.rule, refused.decision.would) == ("unlisted-recipient", decision is WOULD_BE)


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("character", ["a", "ü", "\udcff", "😀", '"', "\u202e"])
def test_endless_values_are_cut_to_fit(character, format_):
    """A slot has its bytes; what is left of each value says that it was cut."""
    ring = RefusalRing(1, 10)
    audit = AuditLog(AuditSettings(format=format_), KeptLines(), watched=Watched(refusals=ring.at(0)))
    audit.decided(Request(recipient=character * 2000, sender=character * 2000, instance="i"), REFUSED, 0.1)
    (refused,) = ring.newest()
    assert refused.decision.request.instance == "i"
    assert {"sender", "recipient"} <= refused.decision.cut
    assert refused.decision.request.recipient.startswith(character * 4)
