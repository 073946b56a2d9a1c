"""Mail from the Internet, and from inside, to mailboxes of ours."""

import re

import pytest

from .audit import Audit
from .conftest import Connect
from .daemon import Daemon
from .instance import Postfix
from .replies import ACCEPTED, refused
from .smtp import Session

pytestmark = pytest.mark.postfix

CLOSED = "project closed, write to info@example.com"
INSIDERS = {
    "login": {"login": "dora@example.com"},
    "network": {"address": "10.1.2.3"},
    "loopback": {"address": "127.0.0.1"},
}


@pytest.fixture(scope="module", autouse=True)
def mailboxes(daemon: Daemon) -> None:
    """anna takes mail from anyone, bert from insiders, nora from nobody, rosa's address was removed."""
    daemon.command("domain", "add", "bücher.example")
    daemon.command("mailbox", "add", "anna", "anna@example.com", '"anna smith"@example.com', "ännchen@bücher.example")
    daemon.command("mailbox", "add", "bert", "bert@example.com", '"bert smith"@example.com', "bert@bücher.example")
    daemon.command("mailbox", "add", "nora", "nora@example.com")
    daemon.command("mailbox", "add", "rosa", "rosa@example.com")
    daemon.command("address", "remove", "rosa@example.com")
    daemon.command("mailbox", "restrict", "bert", "--reason", CLOSED, "--accept", "@partner.example")
    daemon.command("mailbox", "restrict", "nora", "--receive", "nobody", "--reason", "für immer geschlossen")


def test_listed_mailbox_takes_mail_from_outside(outsider: Session) -> None:
    """Whom nobody restricted notices nothing of policyd."""
    assert outsider.ask("anna@example.com") == ACCEPTED


def test_unlisted_mailbox_is_refused_to_outsiders(outsider: Session) -> None:
    """The sender learns at once that the address is wrong, with the status code that says so (5.1.1)."""
    assert outsider.ask("nosuch@example.com") == refused("unlisted-recipient", "nosuch@example.com")


def test_removed_address_is_refused_to_outsiders(outsider: Session) -> None:
    """The article's way to restrict a mailbox: take its address away."""
    assert outsider.ask("rosa@example.com") == refused("unlisted-recipient", "rosa@example.com")


def test_restricted_mailbox_is_refused_to_outsiders_with_the_reason(outsider: Session) -> None:
    """The reason is what a sender can act on, so it must be in the bounce."""
    assert outsider.ask("bert@example.com") == refused("restricted-recipient", "bert@example.com", CLOSED)


@pytest.mark.parametrize("who", INSIDERS.values(), ids=INSIDERS.keys())
@pytest.mark.parametrize(
    "recipient", ["anna@example.com", "nosuch@example.com", "rosa@example.com", "bert@example.com"]
)
def test_insider_reaches_every_mailbox(connect: Connect, who: dict[str, str], recipient: str) -> None:
    """Restricting a mailbox to insiders, or removing its address, must not cut it off from colleagues."""
    assert connect(**who).ask(recipient, "dora@example.com") == ACCEPTED


def test_sender_of_our_domain_is_no_insider(outsider: Session) -> None:
    """MAIL FROM can be anything: who writes a colleague's address there is a stranger all the same."""
    reply = outsider.ask("bert@example.com", "anna@example.com")
    assert reply == refused("restricted-recipient", "bert@example.com", CLOSED)


def test_accepted_sender_reaches_a_restricted_mailbox(outsider: Session) -> None:
    """A restriction can leave a partner in, but only the partner."""
    assert outsider.ask("bert@example.com", "maria@partner.example") == ACCEPTED
    assert not outsider.accepts("bert@example.com", "maria@sub.partner.example")


@pytest.mark.parametrize("who", [{}, *INSIDERS.values()], ids=["outsider", *INSIDERS.keys()])
def test_mailbox_that_receives_from_nobody_is_closed_to_all(connect: Connect, who: dict[str, str]) -> None:
    """`receive nobody` means it, insiders included; an umlaut in the reason arrives as ASCII."""
    reply = connect(**who).ask("nora@example.com", "dora@example.com")
    assert reply == refused("restricted-recipient", "nora@example.com", "fuer immer geschlossen")


@pytest.mark.parametrize(
    "recipient",
    [
        pytest.param("bert+lists@example.com", id="with an extension"),
        pytest.param("bert+a+b@example.com", id="with an extension that holds the delimiter"),
        pytest.param("BERT@Example.COM", id="in upper case"),
        pytest.param("Bert+Lists@EXAMPLE.com", id="with an extension in mixed case"),
        pytest.param('"bert smith"@example.com', id="quoted"),
        pytest.param('"BERT smith"@example.com', id="quoted in upper case"),
        pytest.param('"bert"@example.com', id="quoted for no reason"),
        pytest.param("bert", id="without a domain"),
        pytest.param("@relay.example:bert@example.com", id="with a source route"),
        pytest.param("bert@xn--bcher-kva.example", id="in a domain as A-label"),
        pytest.param("IMCEAEX-_O=ORG_OU=SITE_CN=RECIPIENTS_CN=BERT@example.com", id="encapsulated"),
        pytest.param("imceaex-_o=org_ou=site_cn=recipients_cn=bert@example.com", id="encapsulated in lower case"),
        pytest.param("IMCEASMTP-bert+40example+2Ecom@example.com", id="encapsulated SMTP address"),
    ],
)
def test_restriction_holds_for_every_spelling(outsider: Session, recipient: str) -> None:
    """Whoever knows another way to write the address doesn't get around the restriction by it."""
    assert outsider.ask(recipient) == refused("restricted-recipient", _echoed(recipient), CLOSED)


@pytest.mark.parametrize(
    "recipient",
    [
        "bert%example.com",
        "bert%example.com@mx.example.com",
        "bert%example.com@example.com",
        "example.com!bert",
        "example.com!bert@mx.example.com",
        '"bert@example.com"@mx.example.com',
        '"bert@example.com"@example.com',
    ],
)
def test_address_inside_a_local_part_leads_nowhere(outsider: Session, recipient: str) -> None:
    """Postfix, left to its defaults, delivers each of these to bert, and policyd sees another address."""
    assert outsider.ask(recipient).startswith("554 ")


@pytest.mark.parametrize(
    "recipient",
    [
        pytest.param("anna+lists@example.com", id="with an extension"),
        pytest.param("ANNA@EXAMPLE.COM", id="in upper case"),
        pytest.param('"anna smith"@example.com', id="quoted"),
        pytest.param("IMCEAEX-_O=ORG_OU=SITE_CN=RECIPIENTS_CN=ANNA@example.com", id="encapsulated"),
    ],
)
def test_open_mailbox_takes_every_spelling(outsider: Session, recipient: str) -> None:
    """No good mail is lost because somebody writes the address in another way."""
    assert outsider.ask(recipient) == ACCEPTED


def test_encapsulated_address_of_no_mailbox_is_unlisted(outsider: Session) -> None:
    """The article's hole is closed: an X.500 name reaches nobody whom an address doesn't reach."""
    recipient = "IMCEAEX-_O=ORG_OU=SITE_CN=RECIPIENTS_CN=NOSUCH@example.com"
    assert outsider.ask(recipient) == refused("unlisted-recipient", recipient)


@pytest.mark.parametrize(
    "domain",
    [pytest.param("bücher.example", id="U-label"), pytest.param("xn--bcher-kva.example", id="A-label")],
)
def test_internationalised_domain_is_one_domain_in_both_forms(outsider: Session, domain: str) -> None:
    """A client may send either form; the administrator typed one."""
    assert outsider.ask(f"ännchen@{domain}", "carol@outside.example", "SMTPUTF8") == ACCEPTED
    assert outsider.ask(f"ÄNNCHEN+x@{domain}", "carol@outside.example", "SMTPUTF8") == ACCEPTED
    reply = outsider.ask(f"bert@{domain}", "käthe@bäcker.example", "SMTPUTF8")
    assert reply == refused("restricted-recipient", f"bert@{domain}", CLOSED)
    reply = outsider.ask(f"müller@{domain}", "carol@outside.example", "SMTPUTF8")
    assert reply == refused("unlisted-recipient", f"müller@{domain}")


@pytest.mark.parametrize("recipient", ["postmaster@example.com", "Postmaster@Example.com", "postmaster"])
def test_postmaster_always_gets_mail(outsider: Session, recipient: str) -> None:
    """RFC 5321 §4.5.1: whoever is refused must be able to ask why."""
    assert outsider.ask(recipient) == ACCEPTED


def test_refused_recipient_does_not_cost_the_others_the_message(outsider: Session, postfix: Postfix) -> None:
    """One restricted address among the recipients, and the rest still get their mail."""
    outsider.mail("carol@outside.example")
    assert outsider.rcpt("bert@example.com") == refused("restricted-recipient", "bert@example.com", CLOSED)
    assert outsider.rcpt("anna@example.com") == ACCEPTED
    assert postfix.deliveries(outsider.data()) == ["anna@example.com"]


def test_other_domains_are_left_to_postfix(outsider: Session, connect: Connect) -> None:
    """policyd has no opinion on them: relay control decides, as before."""
    assert outsider.ask("x@other.example") == "554 5.7.1 <x@other.example>: Relay access denied"
    assert outsider.ask("x@lists.example.com") == ACCEPTED
    assert connect(address="10.1.2.3").ask("x@other.example") == ACCEPTED


def test_audit_line_of_a_refused_mail_names_the_rule(outsider: Session, audit: Audit) -> None:
    """From the mail log alone an administrator can tell a caller why, and which message it was."""
    outsider.ask("nora@example.com", "carol@outside.example")
    fields = audit.decision(recipient="<nora@example.com>")
    assert fields["action"] == "REJECT"
    assert fields["rule"] == "restricted-recipient"
    assert fields["state"] == "RCPT"
    assert fields["client"] == "mx.outside.example[192.0.2.7]"
    assert fields["sender"] == "<carol@outside.example>"
    assert fields["context"] == "inbound"
    assert fields["reason"] == "für immer geschlossen"
    assert fields["text"].startswith("5.7.1 ")
    assert fields["instance"]


def test_syslog_header_says_mail_and_policyd(outsider: Session, audit: Audit) -> None:
    """The line goes where the mail log goes, under the name that log tools filter by."""
    outsider.ask("bert@example.com")
    audit.wait_for("bert@example.com")
    assert re.fullmatch(r"<(16|18|20|21|22)>.*\bpolicyd\[\d+\]: ", audit.header)


def _echoed(recipient: str) -> str:
    """*recipient* as Postfix repeats it: in its internal form, without quotes and without a route."""
    return recipient.replace('"', "").removeprefix("@relay.example:")
