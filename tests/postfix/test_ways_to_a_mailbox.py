"""The guide's settings and domains leave no way to a restricted mailbox."""

import re
from pathlib import Path

import pytest

from tests.support.drills import drill

from .daemon import CHECKOUT, Daemon
from .instance import Postfix
from .smtp import Session

pytestmark = pytest.mark.postfix

GUIDE = (CHECKOUT / "docs/guide.rst").read_text().partition("\n5. Start it\n")[0]
WAYS = [
    *("bob", '"bob"', "bob+x", "BOB", '"bob+x"'),
    *("bob@localhost", "bob@LOCALHOST.", "bob+x@localhost"),
    *("bob@mx.example.com", '"bob"@mx.example.com', "bob+x@MX.example.com"),
    *("bob@[127.0.0.1]", "bob+x@[127.0.0.1]"),
    *("bob@example.com", "bob+x@example.com"),
]
(ORIGIN,) = re.findall(r'^ +origin = "(.+)"$', GUIDE, re.MULTILINE)
SETTINGS = {"origin": ORIGIN}


@pytest.fixture(scope="module", autouse=True)
def tables(daemon: Daemon) -> None:
    """What the guide has, and bob, who is restricted."""
    for name in re.findall(r"# policyd domain add (\S+)$", GUIDE, re.MULTILINE):
        daemon.command("domain", "add", name.strip("'"))
    daemon.command("mailbox", "add", "bob", "bob@example.com")
    daemon.command("mailbox", "restrict", "bob", "--receive", "nobody")


@drill(
    "a recipient whose domain is missing, or another name of the host",
    made="``RCPT TO`` plain ``bob``, at ``localhost``, at the host's name and at its literal, with a real Postfix",
    client="the refusal of bob's restriction, or 5.1.1",
    log="each decision",
)
@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_past_a_restriction(outsider: Session, way: str) -> None:
    """Postfix delivers each of these to bob: one that policyd lets through makes the restriction worthless."""
    assert re.match("554 5.[17].1 ", outsider.ask(way)), way


def test_each_of_these_is_delivered_where_policyd_has_no_opinion(postfix: Postfix, daemon: Daemon) -> None:
    """Else the test above would show nothing of policyd: Postfix itself takes them all."""
    daemon.write_settings(mode="monitor")
    daemon.stop()
    daemon.start()
    try:
        with Session(postfix.port["mx"], "") as session:
            session.pretend("203.0.113.7", "mx.outside.example")
            assert [way for way in WAYS if not session.accepts(way)] == []
    finally:
        daemon.write_settings()
        daemon.stop()
        daemon.start()


def test_names_that_the_guide_adds_are_those_of_this_postfix(postfix: Postfix) -> None:
    """The guide's words and the harness mean the same host."""
    assert (
        Path(postfix.config / "main.cf").read_text().count("mydestination = mx.example.com, localhost, example.com")
        == 1
    )


@drill(
    "a recipient at a short host name, with ``append_dot_mydomain = yes``",
    made="``RCPT TO:<bob@mx>``, with a real Postfix, before and after ``policyd domain add mx``, and with ``no``",
    client="bob's mail is delivered until ``mx`` is managed; then the refusal",
    log="``recipient=bob@mx``: policyd is asked with what was written",
)
@pytest.mark.full
def test_short_host_name_is_a_way_until_it_is_managed(postfix: Postfix, daemon: Daemon) -> None:
    """The guide says to set `append_dot_mydomain = no`, or to manage the short name, too."""

    def answer(value: str) -> bool:
        main = Path(postfix.config / "main.cf")
        before = main.read_text()
        main.write_text(f"{before}append_dot_mydomain = {value}\n")
        postfix.stop()
        postfix.start()
        try:
            with Session(postfix.port["mx"], "") as session:
                session.pretend("203.0.113.7", "mx.outside.example")
                return session.accepts("bob@mx")
        finally:
            main.write_text(before)

    try:
        assert not answer("no"), "Postfix itself takes it for a foreign domain"
        assert answer("yes")
        daemon.command("domain", "add", "mx")
        assert not answer("yes")
    finally:
        postfix.stop()
        postfix.start()
