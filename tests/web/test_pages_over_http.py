"""The pages of a running daemon: what it refused a moment ago stands there, while it goes on answering."""

import json
import time
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.support.fake_smtpd import request
from tests.support.markup import Markup
from tests.support.web_daemon import EXAMPLE, SCRIPT, WebDaemon

PAGE_BYTES = 60_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """A daemon that has refused what is usual and what is hostile, and of which doctor found something."""
    folder = tmp_path_factory.mktemp("pages")
    doctor = folder / "doctor.json"
    daemon = WebDaemon(folder, f'doctor_file = "{doctor}"')
    with daemon:
        daemon.fill(
            f'{EXAMPLE}mailbox add "{SCRIPT}" script@example.com\nmailbox restrict "{SCRIPT}" --reason \'<b>\'\n'
        )
        finding = {"code": "origin", "severity": "warning", "about": "", "finding": "origin is not set", "effect": "x"}
        doctor.write_text(json.dumps({"at": int(time.time()), "findings": [finding]}))
        daemon.start()
        daemon.refuse_some()
        daemon.refuse_hostile()
        yield daemon


def page(daemon, path="", **form):
    """The page, which must be as every page is."""
    with urlopen(daemon.pages + path, urlencode(form).encode() if form else None, timeout=30) as answer:
        text = answer.read().decode()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
    assert len(text.encode()) < PAGE_BYTES
    markup = Markup(text)
    assert [*markup.faults()] == []
    return markup


def body(markup):
    """Its text, with single blanks."""
    return " ".join(markup.all("main")[0].text.split())


def test_what_was_refused_a_moment_ago_can_be_asked_about(daemon):
    """The partner is on the telephone while the help desk looks."""
    asked = page(daemon, about="4XyZ0B000003")
    assert "REJECT: " in asked.text("h2")
    assert "What was refused of this mail" in body(asked)
    told = page(daemon, about="Payroll", other="invoice@shop.example").text("h2")
    assert told.startswith("REJECT: Payroll takes mail from insiders only: internal mailbox; until ")
    assert "; set by root on " in told


def test_a_change_is_on_the_page_when_the_command_returns(daemon):
    """What an administrator changes while he talks to the help desk is what the help desk sees."""
    daemon.command("mailbox", "accept", "Payroll", "new@partner.example")
    assert page(daemon, about="Payroll", other="new@partner.example").text("h2").startswith("DUNNO: Payroll takes")
    assert 'accept @bank.example -> "@bank.example new@partner.example"' in body(
        page(daemon, "journal", object="payroll")
    )
    assert "new@partner.example" in body(page(daemon, "mailbox", name="payroll"))


def test_refusals_of_all_workers_are_there(daemon):
    """And as csv, for who counts them."""
    assert "newsletter@shop.example" not in body(page(daemon, "refusals", sender="-newsletter -offer"))
    with urlopen(f"{daemon.pages}refusals.csv", urlencode({"recipient": "payroll"}).encode(), timeout=30) as answer:
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert b"invoice@shop.example" in answer.read()


def test_health_says_what_is_not_well(daemon):
    """The first line is the answer."""
    text = body(page(daemon, "health"))
    assert "Not well: doctor found 1 warning" in text
    assert "restricted-recipient" in text


@pytest.mark.parametrize("path", ["refusals", "journal", "health", "mailbox", ""])
def test_hostile_names_stay_names(daemon, path):
    """Whatever somebody calls himself in MAIL FROM, or an administrator a mailbox: it is text."""
    markup = page(daemon, path)
    assert len(markup.all("script")) == 1
    assert not markup.all("img")


def test_daemon_answers_while_pages_are_asked_for(daemon):
    """A page is made in another process; and it is told what it is by its path alone."""
    for _ in range(5):
        page(daemon, "journal")
        assert daemon.ask(request(recipient="payroll@example.com", sender="x@y.example")).startswith("REJECT")
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{daemon.pages}nothing", timeout=30)
