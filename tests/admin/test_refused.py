"""Refusals are narrowed by what the help desk knows of a mail, and turned page by page without losing one."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.admin.refused import COLUMNS, NARROWED, SPOKEN, WOULD, as_csv, page_of, texts_in, wanted
from policyd.audit import AuditLog, Watched
from policyd.audit_lines import LoggedDecision
from policyd.model import Action, Decision, Request, Rule
from policyd.refusals import RefusalRing, Refused
from policyd.settings import AuditSettings, LineFormat
from tests.core.test_audit import requests
from tests.support.kept_lines import KeptLines

HOSTILE = "<script>\u202e\n=1+1"


def refused(at=1.0, sender="eve@a.example", recipient="bob@example.com", would=False, **others):
    """A refusal at that time."""
    request = Request("RCPT", "192.0.2.1", "mx.a.example", sender, recipient, "4XyZ", "1a.2b.0")
    given = {"reason": "internal", "text": "5.7.1 internal", "mailbox": "bob", "by": "mailbox", **others}
    return Refused(
        at, LoggedDecision(request, "DUNNO" if would else "REJECT", would, "restricted-recipient", None, **given)
    )


FOUND = [
    refused(4.0, "eve@a.example"),
    refused(3.0, "EVE@b.example", "carol@example.com"),
    refused(2.0, "news@a.example", would=True),
    refused(1.0, ""),
]


def senders(*, spoken="", since=None, until=None, **words):
    """The senders of those that are wanted."""
    return [
        each.decision.request.sender for each in FOUND if wanted(words, since=since, until=until, spoken=spoken)(each)
    ]


def test_words_narrow_and_minus_excludes():
    """Of ten thousand refusals the one is wanted that a person talks about, without those that everybody knows."""
    assert senders(sender="eve") == ["eve@a.example", "EVE@b.example"]
    assert senders(sender="eve -b.example") == ["eve@a.example"]
    assert senders(sender="*@a.example", recipient="BOB") == ["eve@a.example", "news@a.example"]
    assert senders(sender="-a.example") == ["EVE@b.example", ""]
    assert senders(sender="<>") == [""]
    assert senders(sender="-") == [each.decision.request.sender for each in FOUND]
    assert senders(queue_id="nothing like it") == []


def test_what_was_only_logged_can_be_told_from_what_was_spoken():
    """In a week of monitor mode, what would be refused is the question; afterwards it is noise."""
    assert senders(spoken=WOULD) == ["news@a.example"]
    assert senders(spoken=SPOKEN) == ["eve@a.example", "EVE@b.example", ""]
    assert senders(since=2.0, until=3.0) == ["EVE@b.example", "news@a.example"]


def keep(ring, request, *, reason="internal", format_=LineFormat.TEXT):
    """Have *request* refused, and kept in *ring* as the daemon keeps it."""
    decision = Decision(Action.REJECT, Rule.BLOCKED_SENDER, "5.7.1 no", reason, mailbox="Müller", is_refused=True)
    watched = Watched(refusals=ring.at(0))
    AuditLog(AuditSettings(format=format_), KeptLines(), watched=watched).decided(request, decision, 0.1)


@pytest.mark.parametrize("format_", LineFormat)
@given(
    request=requests | st.builds(Request, sender=st.text("kKe\u212a\u0301\u017fßﬁ\u0338Ḱ,-", max_size=8)),
    reason=st.sampled_from(["internal", "in Kürze, später", 'a \\ b "c"', "…"]),
    data=st.data(),
)
def test_what_is_looked_for_first_leaves_out_nothing_that_is_wanted(format_, request, reason, data):
    """Most lines are passed over unread: never one that a person asks for, however it is written in the line."""
    ring = RefusalRing(1, 1)
    keep(ring, request, reason=reason, format_=format_)
    for refused in ring.newest():
        name = data.draw(st.sampled_from(NARROWED))
        value = COLUMNS[name](refused)
        begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(value))] * 2)))
        words = {name: data.draw(st.sampled_from(["", "*"])) + value[begin:end].swapcase()}
        is_wanted = wanted(words)
        assert [*filter(is_wanted, ring.newest(texts_in(words)))] == [*filter(is_wanted, [refused])]


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("sender", ["\u212aarl@a.example", "ﬁ\udcfff@a.example", "MÜLLER, karl@a.example"])
def test_character_that_folds_to_plain_ones_is_found_in_a_line(format_, sender):
    """In JSON, it stands there as a code."""
    ring = RefusalRing(1, 1)
    keep(ring, Request(sender=sender), format_=format_)
    text = "fi" if sender.startswith("ﬁ") else "karl"
    assert [each.decision.request.sender for each in ring.newest([text])] == [sender]


def test_most_lines_are_passed_over_unread():
    """Ten thousand would take half a second to read."""
    ring = RefusalRing(1, 10)
    for name in ("eve", "EVE", "joe"):
        keep(ring, Request(sender=f"{name}@a.example"))
    found = ring.newest(texts_in({"sender": "*eve@?.example -b.example"}))
    assert [each.decision.request.sender for each in found] == ["EVE@a.example", "eve@a.example"]


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
@pytest.mark.parametrize("room", [1, 25, 10_000])
def test_pages_lose_none_and_repeat_none(limit, room):
    """Also where several were refused at the same moment, and where the values of one fill a page."""
    times = [9.0, 9.0, 9.0, 7.0, 5.0, 5.0, 1.0]
    newest = [refused(at, f"user{number}@a.example") for number, at in enumerate(times)]
    turned, behind = [], None
    while True:
        page = page_of(newest, lambda _: True, behind, limit=limit, room=room, weigh=lambda _: 10)
        assert page.refusals
        assert len(page.refusals) <= min(limit, max(1, room // 10))
        turned += page.refusals
        behind = page.next
        if behind is None or len(turned) == len(newest):
            break
    assert turned == newest


def test_page_behind_the_last_is_empty():
    """What came meanwhile does not move the pages: each begins behind what was shown."""
    page = page_of(FOUND, lambda _: True, None, limit=2, room=1000, weigh=lambda _: 1)
    newer = [refused(5.0, "late@a.example"), *FOUND]
    assert page_of(newer, lambda _: True, page.next, limit=9, room=99, weigh=lambda _: 1).refusals == FOUND[2:]


def test_csv_runs_nothing_and_forges_no_row():
    """A sender who calls himself a formula, or has a line break in his name, is a text in one cell."""
    text = b"".join(as_csv([refused(sender=HOSTILE, reason="=HYPERLINK(1)")], lambda _: True)).decode("utf-8-sig")
    header, row = csv.reader(text.splitlines())
    assert header == [*COLUMNS]
    cells = dict(zip(header, row, strict=True))
    assert cells["sender"] == "<script>\\u202e\\x0a=1+1"
    assert cells["reason"] == "'=HYPERLINK(1)"
    assert cells["action"] == "REJECT"
