"""The page Health: charts that tell no tales, and findings that nobody can turn against whoever reads them."""

import json

import pytest

from policyd.counters import Cell
from policyd.minutes import MINUTE
from policyd.model import Mode
from policyd.web.pages.charts import bars
from policyd.web.pages.findings import read_findings
from policyd.web.pages.fitting import some
from tests.support.help_desk import NOW, PERMITTED, REFUSED, Place, mail, make_place
from tests.support.markup import Markup

FINDING = {
    "severity": "error",
    "code": "x",
    "about": "smtp/inet",
    "finding": "nobody asks",
    "commands": ["postfix reload"],
}


def body(place: Place) -> str:
    """The text of the page, with single blanks."""
    return " ".join(Markup(place.text("/health")).all("main")[0].text.split())


# Charts


@pytest.mark.parametrize("counts", [[], [0] * 60, [1], [0, 2**40, 1], [*range(48)]])
def test_chart_is_markup_for_whatever_counts(counts):
    """It is as high as its highest bar, and none is left out that is not nothing."""
    chart = str(bars(counts, 'a "label" <b>'))
    assert chart.count("M") == sum(count > 0 for count in counts) + 1
    assert "<b>" not in chart
    assert "style" not in chart


def test_charts_are_told_in_words_too(tmp_path):
    """Who doesn't see a chart reads how many there were."""
    place = make_place(tmp_path)
    for number in range(10):
        place.now = NOW + MINUTE * number
        place.desk.sample()
        place.decide(mail("x@y.example", "dora@example.com"), PERMITTED, place.now)
        place.decide(mail("x@y.example", "bob@example.com"), REFUSED, place.now)
    place.now = NOW + MINUTE * 10
    page = Markup(place.text("/health"))
    titles = [each.text for each in page.all("title") if "svg" in each.inside]
    assert "restricted-recipient, REJECT: 10 in the last hour, at most 1 in a minute" in titles
    assert "default, DUNNO: 10 in the last day, at most 10 in half an hour" in titles


# Whether all is well


def test_all_is_well_or_it_is_said_what_is_not(tmp_path):
    """One line, which nobody has to interpret."""
    place = make_place(tmp_path)
    assert "Nothing wrong is known, but what doctor found is not known" in body(place)

    (tmp_path / "doctor.json").write_text(json.dumps({"at": NOW, "findings": []}))
    assert "All well Decisions" in body(place)
    assert "Postfix asks policyd wherever it should" in body(place)

    (tmp_path / "doctor.json").write_text(json.dumps({"at": NOW - 86400, "findings": [FINDING]}))
    place.counters.at(0).set(Cell.WORKERS, 0)
    place.counters.at(0).add(Cell.LINES_DROPPED, 3)
    text = body(place)
    assert "Not well: no worker answers Postfix" in text
    for told in ("doctor found 1 error", "3 lines of the audit were dropped", "doctor has not run for hours"):
        assert told in text
    assert "postfix reload" in text
    assert "Found 24 hours ago" in text


def test_replica_says_how_old_it_is(tmp_path):
    """On a host that answers from its own copy, that is the age that counts."""
    place = make_place(tmp_path)
    replica = tmp_path / "replica.db"
    place = Place(tmp_path, replica=replica)
    assert "nothing has followed the database yet" in body(place)
    (tmp_path / "replica.db.status").write_text(json.dumps({"id": 7, "current_at": NOW - 120, "told_at": NOW}))
    text = body(place)
    assert "had all changes 2 minutes ago; it is at change 7" in text
    assert "may have missed changes for 2 minutes" in text


def test_monitor_mode_is_said(tmp_path):
    """A month later nobody remembers that nothing is refused yet."""
    assert "the mode is monitor" in body(make_place(tmp_path, mode=Mode.MONITOR))


# Other people's file


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"at": "now", "findings": []}',
        '{"at": 99999999999999999999, "findings": []}',
        f'{{"at": {NOW}, "findings": 5}}',
        f'{{"at": {NOW}, "findings": [1]}}',
        f'{{"at": {NOW}, "findings": [{{"severity": "fatal", "finding": "x"}}]}}',
        f'{{"at": {NOW}, "findings": [], "proof": 7}}',
        "[" * 100_000,
        " " * 1_000_001,
        "\udcff",
    ],
)
def test_a_file_that_doctor_did_not_write_is_told_as_one(tmp_path, text):
    """The file belongs to another user: it can be anything, and the page is still a page."""
    place = make_place(tmp_path)
    file = tmp_path / "doctor.json"
    file.write_text(text, errors="surrogateescape")
    assert str(file) in read_findings(file).problem
    assert "Nothing wrong is known" in body(place)


def test_findings_are_bounded():
    """However many there are, and however long: the first are shown, and the rest is counted."""
    assert read_findings(None).problem
    assert some(["x" * 500] * 10, 2000).shown == ["x" * 500] * 3
    assert some(["x" * 500] * 10, 2000).more == 7
    assert some(["x" * 500_000, "y"], 100).shown == ["x" * 500_000]
    assert some(["x"] * 100, 10**6).more == 70


def test_a_file_that_is_none_keeps_nobody_waiting(tmp_path):
    """A folder or a device in its place is told, too."""
    (tmp_path / "doctor.json").mkdir()
    assert "directory" in read_findings(tmp_path / "doctor.json").problem


def test_too_many_pages_at_once_are_told_so(tmp_path, monkeypatch):
    """Who waits too long for the tables is asked to come again, rather than to wait for ever."""
    monkeypatch.setattr("policyd.web.pages.sources._WAIT_SECONDS", 0.01)
    place = make_place(tmp_path)
    with place.lock:
        reply = place.post("/journal")
        assert reply.status == 503
        assert "too many pages" in reply.body.decode()
    assert place.post("/journal").status == 200
