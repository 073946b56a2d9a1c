"""The files of contrib/postfix do what they say, each at its own door of the same Postfix."""

import re
import subprocess

import pytest

from tests.support.waiting import LIMIT_SECONDS

from .audit import Audit
from .conftest import Connect
from .daemon import Daemon
from .instance import CONTRIB, Postfix, find_program
from .replies import ACCEPTED, refused
from .smtp import OUTSIDE

pytestmark = pytest.mark.postfix

SETTINGS = {"insider_networks": ["127.0.0.0/8"], "insider_contexts": ["submission"]}
OUTSIDE_REFUSED = refused("blocked-sender", "x@other.example", "left the company")
RESTRICTED = refused("restricted-recipient", "lena@example.com", "inside only")


@pytest.fixture(scope="module", autouse=True)
def mailboxes(daemon: Daemon) -> None:
    """kurt may not write to the outside; lena takes mail from insiders only."""
    daemon.command("mailbox", "add", "kurt", "kurt@example.com")
    daemon.command("mailbox", "add", "lena", "lena@example.com")
    daemon.command("sender", "block", "kurt", "--reason", "left the company")
    daemon.command("mailbox", "restrict", "lena", "--reason", "inside only")


def test_postfix_finds_nothing_to_complain_of(postfix: Postfix) -> None:
    """A misspelt parameter would do nothing, and Postfix says so only here."""
    assert postfix.check() == ""


@pytest.mark.parametrize(("door", "tls"), [("submission", "starttls"), ("submissions", "wrapped")])
def test_submission_asks_about_who_logged_in(connect: Connect, audit: Audit, door: str, tls: str) -> None:
    """Outgoing mail of a blocked user is refused on the ports that mail programs use."""
    session = connect(door=door, tls=tls)
    session.log_in("kurt@example.com")
    assert session.ask("x@other.example", "someone@else.example") == OUTSIDE_REFUSED
    fields = audit.decision(recipient="<x@other.example>")
    assert (fields["context"], fields["login"]) == ("submission", "kurt@example.com")
    assert session.ask("lena@example.com", "kurt@example.com") == ACCEPTED


def test_submission_lets_others_send(connect: Connect, postfix: Postfix) -> None:
    """The check names who may not; everybody else who logged in may, and their mail leaves."""
    session = connect(door="submission", tls="starttls")
    session.log_in("lena@example.com")
    session.mail("lena@example.com")
    assert session.rcpt("x@other.example") == ACCEPTED
    assert postfix.deliveries(session.data()) == ["x@other.example"]


def test_submission_stays_closed_without_a_login(connect: Connect) -> None:
    """policyd's "no objection" opens nothing that was closed."""
    session = connect(door="submission", tls="starttls")
    assert session.ask("lena@example.com") == "554 5.7.1 <lena@example.com>: Recipient address rejected: Access denied"


def test_policy_context_makes_an_insider(connect: Connect) -> None:
    """A server that neither logs in nor is in insider_networks is known by the door it came through."""
    office = {"address": "10.1.2.3"}
    assert connect(**office, door="mx").ask("lena@example.com") == RESTRICTED
    assert connect(**office, door="relay").ask("lena@example.com") == ACCEPTED


def test_relay_refuses_a_blocked_sender_and_strangers(connect: Connect) -> None:
    """main.cf.submission: an outgoing relay for the office."""
    assert connect(address="10.1.2.3", door="relay").ask("x@other.example", "kurt@example.com") == OUTSIDE_REFUSED
    assert connect(address="10.1.2.3", door="relay").ask("x@other.example", "lena@example.com") == ACCEPTED
    assert not connect(address=OUTSIDE, door="relay").accepts("lena@example.com")


@pytest.mark.usefixtures("spawned")
def test_spawned_policyd_answers_as_the_daemon_does(
    connect: Connect, daemon: Daemon, audit: Audit, postfix: Postfix
) -> None:
    """Without a daemon: Postfix starts policyd, as another user than root, who maintains the database."""
    session = connect(door="spawn")
    session.mail("carol@outside.example")
    assert session.rcpt("lena@example.com") == RESTRICTED
    assert session.rcpt("kurt@example.com") == ACCEPTED
    assert session.rcpt("nosuch@example.com") == refused("unlisted-recipient", "nosuch@example.com")
    daemon.command("mailbox", "add", "mona", "mona@example.com")
    assert session.rcpt("mona@example.com") == ACCEPTED
    assert postfix.deliveries(session.data()) == ["kurt@example.com", "mona@example.com"]
    assert audit.decision(recipient="<nosuch@example.com>")["rule"] == "unlisted-recipient"
    complaints = [line for line in postfix.read_log().splitlines() if re.search(r"spawn|private/policyd", line)]
    assert complaints == []


def test_spawned_policyd_keeps_its_warnings_from_postfix(daemon: Daemon) -> None:
    """spawn(8) gives it one socket for all three: a word on stderr, of a missing syslog, would be a reply."""
    daemon.write_settings(audit={"syslog": f"unix:{daemon.folder / 'nosuch'}"})
    try:
        answer = daemon.converse_on_one_socket(b"request=smtpd_access_policy\nrecipient=kurt@example.com\n\n" * 2)
    finally:
        daemon.write_settings()
    assert answer == b"action=DUNNO\n\n" * 2


def test_swaks_shows_the_refusal(postfix: Postfix, daemon: Daemon) -> None:
    """The line in contrib/postfix/README.rst for seeing what Postfix says, without sending anything."""
    assert "swaks --server mx.example.com --to alice@example.com" in (CONTRIB / "README.rst").read_text()
    done = subprocess.run(
        [
            find_program("swaks"),
            "--server",
            "127.0.0.1",
            "--port",
            str(postfix.port["mx"]),
            "--to",
            "lena@example.com",
            "--from",
            "you@example.net",
            "--quit-after",
            "RCPT",
            "--xclient",
            f"ADDR={OUTSIDE} NAME=mx.example.net",
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        stdin=subprocess.DEVNULL,
    )
    assert f"<** {RESTRICTED}\n" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 24  # swaks: no recipient was accepted
