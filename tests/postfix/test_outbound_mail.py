"""Mail to the Internet by senders who may not."""

import json

import pytest

from .audit import Audit
from .conftest import Connect
from .daemon import Daemon
from .instance import Postfix
from .replies import ACCEPTED, refused
from .smtp import Session

pytestmark = pytest.mark.postfix

GONE = "left the company"
REFUSED = refused("blocked-sender", "x@other.example", GONE)


@pytest.fixture(scope="module", autouse=True)
def blocked_senders(daemon: Daemon) -> None:
    """alice may not write to the outside, but to the partner; abel to nobody; mallory is a stranger."""
    daemon.command("mailbox", "add", "alice", "alice@example.com", "sales@example.com")
    daemon.command("mailbox", "add", "abel", "abel@example.com")
    daemon.command("mailbox", "add", "dora", "dora@example.com")
    daemon.command("sender", "block", "alice", "--reason", GONE, "--except", "@partner.example")
    daemon.command("sender", "block", "abel", "--to", "anyone", "--reason", "compromised")
    daemon.command("sender", "block", "@spam.example", "--reason", "blocked by the mail office")


@pytest.fixture
def alice(connect: Connect) -> Session:
    """A session in which alice has logged in, from the office."""
    return connect(address="10.1.2.3", login="alice@example.com")


@pytest.mark.parametrize(
    "login",
    [
        pytest.param("alice@example.com", id="her address"),
        pytest.param("alice", id="her mailbox"),
        pytest.param("ALICE@EXAMPLE.COM", id="in upper case"),
        pytest.param("sales@example.com", id="another address of hers"),
    ],
)
def test_blocked_mailbox_cannot_send_outside(connect: Connect, login: str) -> None:
    """The point of the outbound restriction, whatever the login looks like."""
    session = connect(address="10.1.2.3", login=login)
    assert session.ask("x@other.example", "alice@example.com") == REFUSED


@pytest.mark.parametrize(
    "sender",
    [
        pytest.param("dora@example.com", id="a colleague"),
        pytest.param("alice@freemail.example", id="an outside address"),
        pytest.param("", id="null sender"),
    ],
)
def test_blocked_login_cannot_hide_behind_another_sender(alice: Session, sender: str) -> None:
    """MAIL FROM is a free choice; the login is not."""
    assert alice.ask("x@other.example", sender) == REFUSED


@pytest.mark.parametrize("sender", ["alice@example.com", "Alice+x@Example.com", "sales@example.com"])
def test_blocked_sender_address_is_refused_without_a_login_too(connect: Connect, sender: str) -> None:
    """A program or a server in the office that sends in her name doesn't log in."""
    assert connect(address="10.1.2.3").ask("x@other.example", sender) == REFUSED


def test_blocked_login_still_writes_to_colleagues(alice: Session) -> None:
    """Without --to the block is for the outside: internal mail goes on."""
    assert alice.ask("dora@example.com", "alice@example.com") == ACCEPTED


def test_block_to_anyone_holds_inside_too(connect: Connect) -> None:
    """For an account that was broken into."""
    session = connect(address="10.1.2.3", login="abel@example.com")
    for recipient in ("dora@example.com", "x@other.example"):
        assert session.ask(recipient, "abel@example.com") == refused("blocked-sender", recipient, "compromised")


def test_blocked_login_writes_to_an_excepted_partner(alice: Session) -> None:
    """An exception is for that domain alone."""
    assert alice.ask("y@partner.example", "alice@example.com") == ACCEPTED
    assert not alice.accepts("y@sub.partner.example", "alice@example.com")


def test_blocked_login_reaches_the_postmaster(connect: Connect) -> None:
    """Also who may write to nobody can ask why."""
    assert connect(address="10.1.2.3", login="abel@example.com").ask("postmaster@example.com") == ACCEPTED


@pytest.mark.parametrize(
    "recipient",
    [
        "x%other.example",
        "x%other.example@example.com",
        "x%other.example@mx.example.com",
        "other.example!x",
        "other.example!x@example.com",
        '"x@other.example"',
        '"x@other.example"@example.com',
        "@example.com:x@other.example",
    ],
)
def test_outside_address_inside_a_local_part_gets_no_mail_out(alice: Session, postfix: Postfix, recipient: str) -> None:
    """Postfix, left to its defaults, sends these outside, and policyd sees a recipient inside."""
    alice.mail("alice@example.com")
    alice.rcpt("dora@example.com")
    alice.rcpt(recipient)
    assert "x@other.example" not in postfix.deliveries(alice.data())


def test_others_send_outside_as_before(connect: Connect) -> None:
    """Whom nobody blocked notices nothing, also when the null sender is theirs."""
    session = connect(address="10.1.2.3", login="dora@example.com")
    assert session.ask("x@other.example", "dora@example.com") == ACCEPTED
    assert session.ask("x@other.example", "") == ACCEPTED


def test_pattern_blocks_strangers_on_their_way_in(outsider: Session) -> None:
    """A block of an outside domain protects the mailboxes, of that domain exactly."""
    reply = outsider.ask("dora@example.com", "mallory@spam.example")
    assert reply == refused("blocked-sender", "dora@example.com", "blocked by the mail office")
    assert outsider.ask("dora@example.com", "mallory@notspam.example") == ACCEPTED


def test_refused_outside_recipient_does_not_cost_the_colleague_the_message(alice: Session, postfix: Postfix) -> None:
    """One message to a colleague and to the outside: the colleague gets it."""
    alice.mail("alice@example.com")
    assert alice.rcpt("dora@example.com") == ACCEPTED
    assert alice.rcpt("x@other.example") == REFUSED
    assert postfix.deliveries(alice.data()) == ["dora@example.com"]


def test_audit_line_of_a_refused_mail_names_rule_and_entry(alice: Session, daemon: Daemon, audit: Audit) -> None:
    """The number leads from the mail log to the entry; `check` says beforehand what Postfix will say."""
    reply = alice.ask("x@other.example", "dora@example.com")
    fields = audit.decision(recipient="<x@other.example>")
    assert fields["action"] == "REJECT"
    assert fields["rule"] == "blocked-sender"
    assert fields["login"] == "alice@example.com"
    assert fields["sender"] == "<dora@example.com>"
    assert fields["reason"] == GONE
    words = ("--recipient", "x@other.example", "--sender", "dora@example.com", "--login", "alice@example.com")
    foreseen = json.loads(daemon.command("check", *words, "--client-address", "10.1.2.3", "--json", status=1))
    assert str(foreseen["entry"]) == fields["entry"]
    assert (foreseen["action"], foreseen["rule"], foreseen["text"]) == (
        "REJECT",
        "blocked-sender",
        fields["text"],
    )
    assert reply == f"554 {fields['text'][:5]} <x@other.example>: Recipient address rejected: {fields['text'][6:]}"
