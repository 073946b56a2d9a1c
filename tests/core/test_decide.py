"""From Postfix's question to the answer: who somebody is, what the tables say, and that they say it now."""

import dataclasses
from contextlib import closing
from functools import partial
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.address import normal_domain
from policyd.decide import Decider
from policyd.errors import StoreError, TablesMovedError
from policyd.model import Action, Decision, Domain, Mode, Receive, Request, Rule, Unlisted
from policyd.settings import Settings
from policyd.store.connection import Database
from policyd.store.database import create_database
from tests.support.asking import NOW, OUTSIDE, ask, decide, rule, trace
from tests.support.drills import drill
from tests.support.tables import WatchedTables

PERMITTED = Decision(Action.DUNNO, Rule.DEFAULT)
BLOCKED_TEXT = "5.7.1 This sender may not write to this recipient"
UNLISTED_TEXT = "5.1.1 This address does not receive mail"
RESTRICTED_TEXT = "5.7.1 This mailbox does not take mail from this sender"


# --- Identities: the login and the envelope sender


@pytest.mark.parametrize(
    "identity",
    [
        pytest.param({"sasl_username": "alice"}, id="the mailbox's name as login"),
        pytest.param({"sasl_username": "ALICE"}, id="the name in upper case"),
        pytest.param({"sasl_username": "alice@example.com"}, id="the address as login"),
        pytest.param({"sasl_username": "Alice.Old+x@Example.COM"}, id="another address, case and extension as login"),
        pytest.param({"sender": "alice@example.com"}, id="the address as sender"),
        pytest.param({"sender": "ALICE.old@EXAMPLE.com."}, id="another address in upper case"),
        pytest.param({"sender": "alice+news@example.com"}, id="the address with an extension"),
        pytest.param({"sender": "IMCEASMTP-alice+40example+2Ecom@example.com"}, id="the address encapsulated"),
        pytest.param({"sender": "IMCEAEX-_O=ORG_CN=RECIPIENTS_CN=ALICE@example.com"}, id="the Exchange name"),
        pytest.param({"sasl_username": "alice", "sender": ""}, id="a login with the null sender"),
        pytest.param({"sasl_username": "alice", "sender": "bob@example.com"}, id="a login as somebody else"),
        pytest.param({"sasl_username": "bob", "sender": "alice@example.com"}, id="a sender under another login"),
    ],
)
def test_blocked_mailbox_cannot_hide_behind_another_identity(tables, identity):
    """Whatever a blocked colleague writes into MAIL FROM, the block holds."""
    entry = tables.block("alice", reason="left the company")
    assert ask(tables, recipient=OUTSIDE, **identity) == Decision(
        Action.REJECT,
        Rule.BLOCKED_SENDER,
        f"{BLOCKED_TEXT}: left the company",
        "left the company",
        entry.id,
        is_insider="sasl_username" in identity,
        is_refused=True,
    )
    assert rule(tables, recipient="bob@example.com", **identity) is Rule.DEFAULT


@pytest.mark.parametrize(
    "identity",
    [
        pytest.param({"sasl_username": "bob", "sender": "bob@example.com"}, id="another mailbox"),
        pytest.param({"sasl_username": "alice.old"}, id="a local part as login"),
        pytest.param({"sender": "alice@elsewhere.example"}, id="the local part in another domain"),
        pytest.param({"sender": "alice"}, id="a sender without a domain"),
        pytest.param({"sender": "xalice@example.com"}, id="another local part that ends so"),
        pytest.param({"sender": "IMCEASMTP-alice+40example+2Ecom@elsewhere.example"}, id="encapsulated elsewhere"),
        pytest.param({"sender": "IMCEAEX-_CN=alice@elsewhere.example"}, id="the Exchange name elsewhere"),
        pytest.param({"sender": "", "sasl_username": ""}, id="nobody"),
        pytest.param({"sasl_username": "\udcffalice"}, id="a login that is not UTF-8"),
        pytest.param({"sasl_username": "ali ce"}, id="a login with a blank"),
    ],
)
def test_block_holds_for_nobody_else(tables, identity):
    """A near miss in the name must not cost a colleague their mail."""
    tables.block("alice", "anyone")
    assert rule(tables, recipient=OUTSIDE, **identity) is Rule.DEFAULT


@pytest.mark.parametrize(
    ("pattern", "identity", "is_blocked"),
    [
        pytest.param("eve@x.example", {"sender": "Eve+a@X.example"}, True, id="an address"),
        pytest.param("eve@x.example", {"sasl_username": "eve@x.example", "sender": "a@b.example"}, True, id="a login"),
        pytest.param("eve@", {"sender": "eve@any.example"}, True, id="a local part"),
        pytest.param("eve@", {"sasl_username": "eve"}, False, id="a local part is not a login without a domain"),
        pytest.param("eve@", {"sender": "eve"}, False, id="a local part is not a sender without a domain"),
        pytest.param("@x.example", {"sender": "\udcff@x.example"}, True, id="a domain, from a sender not in UTF-8"),
        pytest.param("@x.example", {"sender": "@x.example"}, True, id="a domain, from a sender without a local part"),
        pytest.param("@x.example", {"sender": "eve@sub.x.example"}, False, id="a domain is not its subdomains"),
        pytest.param("@.x.example", {"sender": "eve@a.sub.x.example"}, True, id="subdomains"),
        pytest.param("@xn--bcher-kva.de", {"sender": "eve@BÜCHER.de"}, True, id="a domain, as a U-label"),
        pytest.param("<>", {"sender": ""}, True, id="the null sender"),
        pytest.param("<>", {"sender": "", "sasl_username": "bob"}, True, id="the null sender under a login"),
        pytest.param("<>", {"sender": "<>"}, False, id="the null sender is not two signs"),
        pytest.param("alice@example.com", {"sasl_username": "alice"}, True, id="the primary address of a mailbox"),
        pytest.param("alice.old@example.com", {"sasl_username": "alice"}, False, id="not another one of its addresses"),
    ],
)
def test_pattern_matches_login_and_sender(tables, pattern, identity, is_blocked):
    """A pattern means what the table in docs/rules.rst says, for both identities."""
    tables.block(pattern, "anyone")
    expected = Rule.BLOCKED_SENDER if is_blocked else Rule.DEFAULT
    assert rule(tables, recipient="bob@example.com", **identity) is expected


@pytest.mark.parametrize(
    ("state", "recipient", "is_blocked"),
    [
        pytest.param("CONNECT", "", False, id="not at CONNECT"),
        pytest.param("HELO", "", False, id="not at HELO"),
        pytest.param("EHLO", "", False, id="not at EHLO"),
        pytest.param("", "", False, id="not in a state that isn't told"),
        pytest.param("MAIL", "", True, id="from MAIL on"),
        pytest.param("RCPT", "bob@example.com", True, id="at RCPT"),
        pytest.param("DATA", "", True, id="at DATA for several recipients"),
        pytest.param("END-OF-MESSAGE", "", True, id="at the end of the message"),
        pytest.param("", "bob@example.com", True, id="with a recipient, though no state is told"),
    ],
)
def test_an_empty_sender_is_the_null_sender_once_mail_was_said(tables, state, recipient, is_blocked):
    """A block of bounces must not refuse connections before anybody said MAIL FROM."""
    tables.block("<>", "anyone")
    expected = Rule.BLOCKED_SENDER if is_blocked else Rule.DEFAULT
    assert rule(tables, state=state, recipient=recipient) is expected


def test_entry_that_both_identities_match_is_looked_at_once(tables):
    """The trace lists each entry once."""
    tables.block("alice")
    steps = trace(tables, sasl_username="alice", sender="alice@example.com", recipient=OUTSIDE)
    assert steps == [
        "login alice: mailbox alice (name)",
        "sender alice@example.com: mailbox alice (exact)",
        "client not given: an insider",
        "recipient joe@partner.example: outside, its domain is not managed",
        "entry 1: alice may not send to outside: applies",
        "rule: blocked-sender",
    ]


def test_of_entries_for_login_and_sender_the_most_specific_is_named(tables):
    """The reason that is read is the one that means this person."""
    wide = tables.block("@example.com", reason="the company")
    narrow = tables.block("bob", reason="bob")
    asked = {"sender": "alice@example.com", "recipient": OUTSIDE}
    assert ask(tables, **asked).entry == wide.id
    assert ask(tables, sasl_username="bob", **asked).entry == narrow.id


# --- Without a recipient


@pytest.mark.parametrize("state", ["MAIL", "DATA"])
@pytest.mark.parametrize(
    ("to", "allowed", "is_refused"),
    [
        pytest.param("anyone", (), True, id="a block to anyone refuses"),
        pytest.param("anyone", ("@x.example",), False, id="one with exceptions waits"),
        pytest.param("outside", (), False, id="one to outside waits"),
        pytest.param("bob", (), False, id="one to a mailbox waits"),
    ],
)
def test_without_a_recipient(tables, state, to, allowed, is_refused):
    """A message to several recipients is refused at DATA only if none of them could have it."""
    entry = tables.block("alice", to, allowed=frozenset(allowed))
    found = ask(tables, state=state, sender="alice@example.com")
    assert (found.is_refused, found.entry) == ((True, entry.id) if is_refused else (False, None))


@pytest.mark.parametrize("state", ["VRFY", "ETRN"])
def test_questions_that_are_no_mail_are_not_judged(tables, state):
    """A block of senders says nothing of VRFY and ETRN, and the tables aren't even asked."""
    tables.block("alice", "anyone")
    tables.break_with(StoreError("gone"))
    assert ask(tables, state=state, sasl_username="alice", recipient="nobody@example.com") == PERMITTED
    assert trace(tables, protocol_state=state) == [f"state {state}: not judged"]


# --- Insiders


@pytest.mark.parametrize(
    ("fields", "is_insider"),
    [
        pytest.param({"sasl_username": "anything"}, True, id="whoever has logged in"),
        pytest.param({"client_address": "10.1.2.3"}, True, id="a client in the networks"),
        pytest.param({"client_address": "2001:db8::7"}, True, id="a client in the IPv6 networks"),
        pytest.param({"client_address": "::ffff:10.1.2.3"}, True, id="an IPv4 client as IPv6 has it"),
        pytest.param({"policy_context": "submission"}, True, id="a service in the contexts"),
        pytest.param({"sender": "alice@example.com"}, False, id="not who writes our domain into MAIL FROM"),
        pytest.param({"client_address": "10.2.0.0"}, False, id="not a client beside the networks"),
        pytest.param({"client_address": ""}, False, id="not a client without an address"),
        pytest.param({"client_address": "unknown"}, False, id="not a client with an unknown address"),
        pytest.param({"client_address": "10.1.2.3.4"}, False, id="not a malformed address"),
        pytest.param({"policy_context": ""}, False, id="not a service without a context"),
        pytest.param({"policy_context": "Submission"}, False, id="not a context in another case"),
    ],
)
def test_insider_is_whom_the_client_cannot_choose_to_be(tables, fields, is_insider):
    """A restriction to insiders is worth nothing if MAIL FROM could fake one."""
    settings = Settings(
        insider_networks=(ip_network("10.1.0.0/16"), ip_network("2001:db8::/32")),
        insider_contexts=frozenset({"submission"}),
    )
    tables.restrict("bob", Receive.INSIDERS)
    found = ask(tables, settings, recipient="bob@example.com", **{"sender": "x@y.example", **fields})
    assert found.is_insider is is_insider
    assert found.rule is (Rule.DEFAULT if is_insider else Rule.RESTRICTED_RECIPIENT)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1"])
def test_this_machine_is_an_insider_by_default(tables, address):
    """A web mailer on the same host works without a setting."""
    assert ask(tables, client_address=address, recipient="nobody@example.com").rule is Rule.DEFAULT


# --- Recipients


@pytest.mark.parametrize(
    ("recipient", "mailbox"),
    [
        pytest.param("bob@example.com", "bob", id="an address"),
        pytest.param("BOB@Example.Com.", "bob", id="an address in upper case with a trailing dot"),
        pytest.param("bob+any+thing@example.com", "bob", id="an address with an extension"),
        pytest.param("john doe@example.com", "bob", id="an address with a blank"),
        pytest.param("jdoe@bücher.example", "JDoe", id="a U-label"),
        pytest.param("jdoe@XN--BCHER-KVA.example", "JDoe", id="an A-label"),
        pytest.param("IMCEAEX-_O=ORG_OU=SITE_CN=RECIPIENTS_CN=JDOE@example.com", "JDoe", id="an Exchange name"),
        pytest.param("imceaex-_cn=jdoe@BÜCHER.example", "JDoe", id="an Exchange name in any case and managed domain"),
        pytest.param("IMCEASMTP-bob+40example+2Ecom@example.com", "bob", id="an encapsulated address"),
        pytest.param("IMCEASMTP-bob+2Bx+40example+2Ecom@example.com", "bob", id="an encapsulated extension"),
        pytest.param("IMCEASMTP-jdoe+40b+C3+BCcher+2Eexample@example.com", "JDoe", id="an encapsulated U-label"),
    ],
)
def test_recipient_leads_to_its_mailbox_and_the_mailbox_rule(tables, recipient, mailbox):
    """A restriction has no back door through another spelling."""
    tables.restrict(mailbox, Receive.INSIDERS, reason="only für uns")
    assert ask(tables, sender="x@y.example", recipient=recipient) == Decision(
        Action.REJECT,
        Rule.RESTRICTED_RECIPIENT,
        f"{RESTRICTED_TEXT}: only fuer uns",
        "only für uns",
        mailbox=mailbox,
        is_refused=True,
        by="mailbox",
    )
    let_in = PERMITTED._replace(mailbox=mailbox, is_insider=True, by="mailbox")
    assert ask(tables, sasl_username="x", recipient=recipient) == let_in


@pytest.mark.parametrize(
    "recipient",
    [
        pytest.param("nobody@example.com", id="an address of nobody"),
        pytest.param("bob@xn--bcher-kva.example", id="a local part of another domain"),
        pytest.param("@example.com", id="no local part"),
        pytest.param("\udcff@example.com", id="a local part that is not UTF-8"),
        pytest.param("+bob@example.com", id="a delimiter in front"),
        pytest.param("IMCEAEX-_O=ORG_CN=NOBODY@example.com", id="an Exchange name of nobody"),
        pytest.param("IMCEAEX-_CN=JDOE_CN=@example.com", id="an Exchange name with an empty last CN"),
        pytest.param("IMCEAEX-_O=ORG@example.com", id="an Exchange name without a CN"),
        pytest.param("IMCEAEX-_CN=J+DOE@example.com", id="a malformed Exchange name"),
        pytest.param("IMCEASMTP-nobody+40example+2Ecom@example.com", id="an encapsulated address of nobody"),
        pytest.param("IMCEASMTP-bob+40elsewhere+2Eexample@example.com", id="an encapsulated address elsewhere"),
        pytest.param("IMCEASMTP-bob@example.com", id="an encapsulated address without a domain"),
        pytest.param(
            "IMCEASMTP-+40relay+2Eexample+3Abob+40example+2Ecom@example.com", id="an encapsulated source route"
        ),
        pytest.param(
            "IMCEASMTP-bob+25example+2Ecom+40elsewhere+2Eexample@example.com", id="an encapsulated route elsewhere"
        ),
        pytest.param(
            "IMCEASMTP-elsewhere+2Eexample+21bob+40elsewhere+2Eexample@example.com", id="an encapsulated path elsewhere"
        ),
        pytest.param("IMCEASMTP-bob+4@example.com", id="a malformed encapsulated address"),
        pytest.param("IMCEASMTP-IMCEAEX-_CN=JDOE+40example+2Ecom@example.com", id="an encapsulation in another"),
        pytest.param("IMCEAX400-bob@example.com", id="another form of encapsulation"),
        pytest.param("IMCEAFAX-+2B49@example.com", id="a fax number"),
    ],
)
def test_address_of_nobody_is_refused_from_outside_only(tables, recipient):
    """To take an address away is the inbound restriction, by whatever name it is reached."""
    assert ask(tables, recipient=recipient) == Decision(
        Action.REJECT, Rule.UNLISTED_RECIPIENT, UNLISTED_TEXT, is_refused=True
    )
    assert ask(tables, sasl_username="x", recipient=recipient) == PERMITTED._replace(is_insider=True)
    tables.manage("example.com", Unlisted.ACCEPT)
    tables.manage("xn--bcher-kva.example", Unlisted.ACCEPT)
    assert ask(tables, recipient=recipient) == PERMITTED


@pytest.mark.parametrize(
    "recipient",
    [OUTSIDE, "bob@sub.example.com", "bob@[192.0.2.1]", "IMCEAEX-_CN=JDOE@partner.example", "bob@-bad-", "bob", "bob@"],
)
def test_no_opinion_on_what_is_not_managed(tables, recipient):
    """Mail to other domains passes, in their spelling and Exchange's."""
    tables.restrict("JDoe", Receive.NOBODY)
    tables.restrict("bob", Receive.NOBODY)
    assert ask(tables, recipient=recipient) == PERMITTED


def test_an_address_listed_with_its_extension_goes_first(tables):
    """bob+list may belong to somebody else than bob."""
    tables.remove_address("bob+list@example.com")
    tables.add_mailbox("list", "bob+list@example.com")
    assert ask(tables, recipient="bob+list@example.com").mailbox == "list"
    assert ask(tables, recipient="bob+x@example.com").mailbox == "bob"


def test_a_listed_address_that_looks_encapsulated_is_that_address(tables):
    """What the administrator entered stands before what the name could mean."""
    tables.add_mailbox("old", "imceaex-_cn=jdoe@example.com")
    assert ask(tables, recipient="IMCEAEX-_CN=JDOE@example.com").mailbox == "old"


@pytest.mark.parametrize(
    ("delimiters", "recipient", "mailbox"),
    [
        pytest.param("", "bob+x@example.com", "", id="none is set"),
        pytest.param("-", "bob-x@example.com", "bob", id="another is set"),
        pytest.param("+-", "bob-x+y@example.com", "bob", id="the first of a set"),
        pytest.param("-", "owner-bob@example.com", "", id="a list's owner is not owner"),
    ],
)
def test_recipient_delimiter_is_the_one_of_the_settings(tables, delimiters, recipient, mailbox):
    """policyd splits where Postfix splits."""
    tables.add_mailbox("owner", "owner@example.com")
    assert ask(tables, Settings(recipient_delimiter=delimiters), recipient=recipient).mailbox == mailbox


def test_origin_is_the_domain_of_an_address_without_one(tables):
    """Mail to `bob` is mail to bob@example.com where Postfix appends that."""
    settings = Settings(origin="example.com")
    tables.block("bob@example.com", "anyone")
    assert ask(tables, settings, recipient="bob").mailbox == "bob"
    assert rule(tables, settings, recipient="nobody") is Rule.UNLISTED_RECIPIENT
    assert rule(tables, settings, sender="bob", recipient="jdoe") is Rule.BLOCKED_SENDER
    assert rule(tables, Settings(origin="other.example"), recipient="nobody") is Rule.DEFAULT


def test_login_without_a_domain_is_a_name_first_and_else_an_address_at_the_origin(tables):
    """Both are how servers send a login; a pattern of the domain means it either way."""
    settings = Settings(origin="example.com")
    asked = {"sender": "x@y.example", "recipient": OUTSIDE}
    tables.block("@example.com", "anyone")
    assert rule(tables, settings, sasl_username="stranger", **asked) is Rule.BLOCKED_SENDER
    assert rule(tables, sasl_username="stranger", **asked) is Rule.DEFAULT
    tables.block("bob", "anyone", reason="bob")
    for login in ("bob", "john doe"):
        assert ask(tables, settings, sasl_username=login, **asked).reason == "bob"


def test_always_accepted_recipients_are_those_of_the_settings(tables):
    """abuse can be kept open too; the settings' case doesn't matter."""
    tables.block("@y.example", "anyone")
    settings = Settings(always_accept=frozenset({"Abuse"}))
    asked = {"sender": "x@y.example", "recipient": "ABUSE+x@example.com"}
    assert ask(tables, settings, **asked) == Decision(Action.DUNNO, Rule.ALWAYS_ACCEPTED)
    assert rule(tables, **asked) is Rule.BLOCKED_SENDER


def test_bare_postmaster_is_accepted_whatever_domain_is_added_to_it(tables):
    """The origin completes addresses for the lookup; it must not take the postmaster away from anybody."""
    tables.block("<>", to="anyone")
    settings = Settings(origin="elsewhere.example")
    assert rule(tables, settings, recipient="postmaster") == Rule.ALWAYS_ACCEPTED
    assert rule(tables, settings, recipient="postmaster@elsewhere.example") == Rule.BLOCKED_SENDER


@pytest.mark.parametrize(
    ("base", "is_blocked"),
    [
        pytest.param("joe", True, id="an extension of any length"),
        pytest.param("joe".ljust(2049, "\u0301"), False, id="a name longer than a line of SMTP is nobody's"),
    ],
)
def test_a_local_part_that_smtp_cannot_carry_is_nobody(tables, base, is_blocked):
    """Comparing text takes longer than its length: a hostile local process must not buy time with 60 KB of accents."""
    tables.block("joe@partner.example", to="anyone")
    sender = f"{base}+".ljust(60_000, "\u0301") + "@partner.example"
    assert (rule(tables, sender=sender, recipient=OUTSIDE) == Rule.BLOCKED_SENDER) is is_blocked


# --- What Postfix takes for the same address


@pytest.fixture
def street(tables):
    """bob, at strasse.example and at two literals, is closed to all; ♥.example and σίσυφοσ.example are his, too."""
    domains = ["strasse.example", "[127.0.0.1]", "[ipv6:::1]", "xn--g6h.example", normal_domain("σίσυφοσ.example")]
    with tables.edit() as editor:
        for domain in domains:
            editor.add_domain(Domain(domain, Unlisted.ACCEPT))
            editor.add_address("bob", f"bob@{domain}")
        editor.set_domain("example.com", Unlisted.ACCEPT)
    tables.restrict("bob", Receive.NOBODY)
    return tables


SPELLINGS = [
    "bob@straße.example",
    "Bob@STRAẞE.EXAMPLE.",
    "bob+x@ſtraße.example",
    'bob@"strasse.example"',
    "bob@strasse .example",
    "bob@stra\\sse.example",
    "bob@σίσυφος.example",
    "bob@ΣΊΣΥΦΟΣ.example",
    "bob@♥.example",
    "bob@[127.0.0.1].",
    "bob@[127.000.000.001]",
    "bob@[0177.0.0.1]",
    "bob@127.0.0.1",
    "bob@[IPv6:0::1]",
    "bob@[ipv6:0:0:0:0:0:0:0:1]",
    "bob@[IPv6:::ffff:127.0.0.1]",
    "bob+\udcff@strasse.example",
    "bob+\udcff\udcfe@example.com",
    "bob+" + "x" * 3000 + "@example.com",
    "bob+" + "é" * 30_000 + "@straße.example",
    "IMCEASMTP-bob+40stra+C3+9Fe+2Eexample@example.com",
    "IMCEASMTP-bob+2B+FF+40example+2Ecom@example.com",
    "IMCEASMTP-bob+40+5B127+2E000+2E0+2E1+5D@example.com",
]


@drill(
    "an address literal in another spelling",
    made="zeros, case, a trailing dot, hexadecimal, IPv4 in IPv6",
    client="the restriction of the mailbox there",
    log="the decision",
)
@pytest.mark.parametrize("recipient", SPELLINGS)
def test_restriction_holds_for_what_postfix_takes_for_the_address(street, recipient):
    """Postfix delivers each of these to bob, so his restriction is asked."""
    assert rule(street, recipient=recipient, sender="x@y.example") is Rule.RESTRICTED_RECIPIENT


@pytest.mark.parametrize("sender", SPELLINGS)
def test_blocked_mailbox_cannot_hide_behind_what_postfix_takes_for_its_address(street, sender):
    """As a login or as an envelope sender."""
    street.block("bob", "anyone")
    assert rule(street, recipient=OUTSIDE, sender=sender) is Rule.BLOCKED_SENDER
    assert rule(street, recipient=OUTSIDE, sender="x@y.example", sasl_username=sender) is Rule.BLOCKED_SENDER


@pytest.mark.parametrize(
    ("pattern", "address"),
    [
        pytest.param("eve@partner.example", "eve+\udcff@partner.example", id="an extension that is not UTF-8"),
        pytest.param("eve@", "eve+\udcff@partner.example", id="the same for a local part"),
        pytest.param("eve@strasse.net", "eve@straße.net", id="sharp s in a foreign domain"),
        pytest.param("@strasse.net", "eve@STRAẞE.net", id="a capital sharp s in a foreign domain"),
        pytest.param("@.strasse.net", "eve@mx.straße.net", id="in a domain above"),
        pytest.param("@xn--strae-oqa.net", "eve@straße.net", id="the domain as it is written"),
        pytest.param("@xn--strae-oqa.example", "eve@straße.example", id="the same where Postfix takes it for ours"),
        pytest.param("@[192.0.2.1]", "eve@[192.000.002.001].", id="a literal"),
        pytest.param("@partner.example", 'eve@"partner.example"', id="a quoted domain"),
    ],
)
def test_pattern_matches_what_postfix_takes_for_the_address(street, pattern, address):
    """Nobody who is blocked hides behind a letter."""
    street.block(pattern, "anyone")
    assert rule(street, recipient="jdoe@example.com", sender=address) is Rule.BLOCKED_SENDER
    assert rule(street, recipient="jdoe@example.com", sender="", sasl_username=address) is Rule.BLOCKED_SENDER


def test_only_who_is_certainly_meant_is_let_in(street):
    """In a foreign domain, straße.net and strasse.net are two owners: one's mail is not accepted as the other's."""
    street.restrict(
        "bob", Receive.NOBODY, accepted=frozenset({"@strasse.net", "eve@xn--strae-oqa.example", "@jdoe.example"})
    )
    asked = {"recipient": "bob@example.com"}
    assert rule(street, sender="eve@strasse.net", **asked) is Rule.ACCEPTED_SENDER
    assert rule(street, sender="eve@straße.net", **asked) is Rule.RESTRICTED_RECIPIENT
    assert rule(street, sender="eve@straße.example", **asked) is Rule.ACCEPTED_SENDER
    assert rule(street, sender="eve@strasse.example", **asked) is Rule.RESTRICTED_RECIPIENT


def test_managed_domain_is_looked_up_as_it_is_written_first(street):
    """Where both are managed, an address is its mailbox's; one that is nobody's is what Postfix takes it for."""
    street.manage("xn--strae-oqa.example")
    street.add_mailbox("info", "info@xn--strae-oqa.example")
    assert ask(street, recipient="info@straße.example").mailbox == "info"
    assert ask(street, recipient="bob@straße.example").mailbox == "bob"
    assert rule(street, recipient="nobody@straße.example") is Rule.UNLISTED_RECIPIENT
    assert rule(street, recipient="bob@xn--strae-oqa.example") is Rule.UNLISTED_RECIPIENT


def test_a_label_is_not_what_postfix_takes_its_u_label_for(street):
    """xn--strae-oqa.example is somebody else's domain: Postfix sends mail there away, and a block to outside holds."""
    street.block("@y.example", "outside")
    found = ask(street, recipient="bob@xn--strae-oqa.example", sender="x@y.example")
    assert found.rule is Rule.BLOCKED_SENDER
    assert ask(street, recipient="bob@xn--strae-oqa.example", sender="x@z.example") == PERMITTED


@pytest.mark.parametrize("extension", ["\udcff", "x" * 3000, "é\udc80"])
def test_an_odd_extension_is_no_reason_to_refuse(tables, extension):
    """kim without a restriction gets what Postfix would deliver to kim, and not a false 5.1.1."""
    assert ask(tables, recipient=f"bob+{extension}@example.com") == PERMITTED._replace(mailbox="bob")
    assert rule(tables, recipient=f"postmaster+{extension}@example.com") is Rule.ALWAYS_ACCEPTED
    assert rule(tables, recipient=f"\udcffbob+{extension}@example.com") is Rule.UNLISTED_RECIPIENT


def test_origin_is_a_domain_that_postfix_reads(street):
    """Bare names are completed with straße.example, and so go to strasse.example."""
    settings = Settings(origin="straße.example")
    for recipient in ("bob", "bob@", "bob+\udcff", 'bob@"" '):
        assert rule(street, settings, recipient=recipient, sender="x@y.example") is Rule.RESTRICTED_RECIPIENT


def test_accepted_sender_of_ours_is_the_login_whatever_is_written(tables):
    """A colleague on the list gets through, and nobody by the colleague's address in MAIL FROM."""
    tables.restrict("bob", Receive.NOBODY, accepted=frozenset({"alice@example.com"}))
    asked = {"recipient": "bob@example.com"}
    for login in ("alice@example.com", "alice"):
        assert rule(tables, sender="x@y.example", sasl_username=login, **asked) is Rule.ACCEPTED_SENDER
    assert rule(tables, sender="alice@example.com", **asked) is Rule.RESTRICTED_RECIPIENT
    assert rule(tables, sender="alice@example.com", sasl_username="JDoe", **asked) is Rule.RESTRICTED_RECIPIENT


@pytest.mark.parametrize(
    ("fields", "party"),
    [
        ({"sasl_username": "alice", "sender": "x@y.example"}, "alice"),
        ({"sasl_username": "nobody@example.com", "sender": "x@y.example"}, "nobody@example.com"),
        ({"sender": "joe+list@partner.example"}, "joe+list@partner.example"),
        ({"sender": ""}, "<>"),
        ({"sender": "alice@example.com"}, ""),
    ],
    ids=[
        "a login of a mailbox",
        "a login of nobody",
        "an outsider",
        "the null sender",
        "one of ours, who proves nothing",
    ],
)
def test_who_is_to_be_accepted_to_let_a_mail_through_is_told(tables, fields, party):
    """The report prints the command: it must name what counts, and nothing where none would."""
    tables.restrict("bob", Receive.NOBODY)
    request = Request(protocol_state="RCPT", recipient="bob@example.com", client_address="192.0.2.7", **fields)
    decider = Decider(Settings(), tables)
    found = decider.accepted_as(request)
    decider.end()
    assert ("" if found is None else str(found)) == party
    tables.restrict("bob", Receive.NOBODY, accepted=frozenset({party} - {""}))
    assert ask(tables, **dict(fields, recipient="bob@example.com")).is_refused is not bool(party)


# --- Time, modes and texts


def test_expiry_passes_while_the_daemon_runs(tables):
    """Nothing has to be reloaded when a block or a restriction ends."""
    tables.block("alice", until=NOW)
    tables.restrict("bob", Receive.NOBODY, until=NOW)
    decider = Decider(Settings(), tables)
    outbound = Request("RCPT", sender="alice@example.com", recipient=OUTSIDE)
    inbound = Request("RCPT", sender="x@y.example", recipient="bob@example.com")
    found = [decider.decide(each, now).is_refused for now in (NOW - 1, NOW) for each in (outbound, inbound)]
    assert found == [True, True, False, False]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"sender": "alice@example.com", "recipient": OUTSIDE}, id="a blocked sender"),
        pytest.param({"sender": "x@y.example", "recipient": "bob@example.com"}, id="a restricted recipient"),
        pytest.param({"sender": "x@y.example", "recipient": "nobody@example.com"}, id="an unlisted recipient"),
    ],
)
def test_monitor_mode_refuses_nothing_and_tells_what_it_would(tables, fields):
    """An administrator can try the tables on real mail."""
    tables.block("alice", reason="left")
    tables.restrict("bob", Receive.NOBODY)
    enforced, watched = ask(tables, **fields), ask(tables, Settings(mode=Mode.MONITOR), **fields)
    assert enforced.action is Action.REJECT
    assert watched == enforced._replace(action=Action.DUNNO)
    assert "mode monitor: would be REJECT" in trace(tables, Settings(mode=Mode.MONITOR), **fields)


def test_monitor_mode_changes_nothing_for_mail_that_is_permitted(tables):
    """Only refusals are withheld."""
    assert ask(tables, Settings(mode=Mode.MONITOR), recipient=OUTSIDE) == PERMITTED


def test_reply_text_is_the_one_of_the_settings(tables):
    """The sender reads the administrator's words, with who and whom."""
    texts = dict.fromkeys(Settings().reply, "{sender} to {recipient}, {mailbox}: {reason}")
    tables.restrict("bob", Receive.NOBODY, reason="closed")
    tables.block("alice", reason="left")
    settings = dataclasses.replace(Settings(), reply=texts)
    found = [
        ask(tables, settings, sender=sender, recipient=recipient).text
        for sender, recipient in [("X@y", "Bob+a@example.com"), ("alice@example.com", OUTSIDE), ("", "no@example.com")]
    ]
    assert found == [
        "5.7.1 X@y to Bob+a@example.com, bob: closed",
        "5.7.1 alice@example.com to joe@partner.example, : left",
        "5.1.1 to no@example.com",
    ]


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("text", ["no: {reason}", "{mailbox} takes no mail", "{sender} is refused", "no {recipient}"])
def test_refusal_is_told_to_nobody_who_gets_another_one(tables, text, mode):
    """What one request is told says whom another one was about, if they are mixed up."""
    tables.restrict("alice", Receive.NOBODY, reason="closed")
    tables.restrict("bob", Receive.NOBODY, reason="closed")
    for who in ("@x.example", "@y.example"):
        tables.block(who, OUTSIDE, reason="closed")
    settings = Settings(mode=mode, reply=dict.fromkeys(Settings().reply, text))
    requests = [
        Request("RCPT", sender=sender, recipient=recipient, sasl_username=login)
        for sender in ("a@x.example", "b@x.example", "a@y.example", "")
        for recipient in ("alice@example.com", "bob@example.com", "no@example.com", "none@example.com", OUTSIDE)
        for login in ("", "carol")
    ]
    alone = [decide(Decider(settings, tables), request) for request in requests]
    assert len({decision for decision in alone if decision.is_refused}) > 4
    decider = Decider(settings, tables)
    for _ in range(2):
        assert [decide(decider, request) for request in requests] == alone
    for request, decision in zip(requests, alone, strict=True):
        told = text.format(mailbox=decision.mailbox, reason=decision.reason, **request._asdict()).strip(" :")
        assert decision.text.endswith(told) or not decision.is_refused


def test_a_restricted_mailbox_lends_its_reason_to_no_other_rule(tables):
    """Why a mailbox is closed is not why a sender is blocked."""
    tables.restrict("bob", Receive.NOBODY, reason="closed")
    tables.block("@y.example", "bob")
    found = ask(tables, sender="x@y.example", recipient="bob@example.com")
    assert (found.rule, found.reason, found.text, found.mailbox) == (Rule.BLOCKED_SENDER, "", BLOCKED_TEXT, "bob")


# --- The trace of `check`


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        pytest.param(
            {"sasl_username": "x@y.example", "recipient": "bob+a@example.com", "client_address": "192.0.2.7"},
            [
                "login x@y.example: no mailbox",
                "sender: the null sender <>",
                "client 192.0.2.7: an insider",
                "recipient bob+a@example.com: mailbox bob (extension)",
                "mailbox bob: receives from anyone",
                "rule: default",
            ],
            id="found by extension",
        ),
        pytest.param(
            {"sender": "{x}@y.example", "recipient": "IMCEAEX-_CN=JDOE@example.com"},
            [
                "sender {x}@y.example: no mailbox",
                "client not given: not an insider",
                "recipient IMCEAEX-_CN=JDOE@example.com: mailbox JDoe (IMCEA)",
                "mailbox JDoe: receives from anyone",
                "rule: default",
            ],
            id="found by encapsulation",
        ),
        pytest.param(
            {"sender": "x@y.example", "recipient": "no@example.com"},
            [
                "sender x@y.example: no mailbox",
                "client not given: not an insider",
                "recipient no@example.com: unlisted in example.com",
                "recipient: unlisted, which example.com rejects",
                "rule: unlisted-recipient",
            ],
            id="not found",
        ),
        pytest.param(
            {"sender": "x@y.example", "recipient": "bob"},
            [
                "sender x@y.example: no mailbox",
                "client not given: not an insider",
                "recipient bob: no domain, neither managed nor outside",
                "rule: default",
            ],
            id="without a domain",
        ),
        pytest.param(
            {"protocol_state": "EHLO"},
            ["sender: none yet", "client not given: not an insider", "recipient: none yet", "rule: default"],
            id="before MAIL",
        ),
    ],
)
def test_trace_tells_who_asks_about_whom(tables, fields, steps):
    """`check` shows how policyd understood a request, step by step."""
    assert trace(tables, **fields) == steps


def test_recipient_is_found_for_other_commands_as_for_the_daemon(tables):
    """`address find` answers from the same code."""
    decider = Decider(Settings(), tables)
    tables.begin()
    found = decider.find_recipient("BOB+x@example.com")
    assert (found.domain, found.how) == (Domain("example.com"), "extension")
    assert found.mailbox is not None
    assert found.mailbox.name == "bob"


@pytest.mark.parametrize(
    ("find", "text"),
    [
        pytest.param(Decider.find_sender, "bob@example.com", id="an envelope sender"),
        pytest.param(Decider.find_login, "bob", id="a login"),
    ],
)
def test_sender_is_found_for_other_commands_as_for_the_daemon(tables, find, text):
    """A page and `sender show` tell who a sender is, and to whom it is blocked, from the same code."""
    tables.block("bob@example.com")
    decider = Decider(Settings(), tables)
    tables.begin()
    found = find(decider, text)
    assert found.mailbox is not None
    assert found.mailbox.name == "bob"
    assert [str(to) for to in found.entries] == ["outside"]


def test_each_step_is_explained_once(tables):
    """What is proven matters to a restriction and to its list of accepted senders, and is one fact."""
    tables.restrict("bob", Receive.DOMAIN, accepted=frozenset({"@partner.example"}))
    request = Request("RCPT", sasl_username="kim@other.example", sender=OUTSIDE, recipient="bob@example.com")
    decision, steps = Decider(Settings(), tables).explain(request, NOW)
    assert (decision.rule, decision.by) == (Rule.ACCEPTED_SENDER, "mailbox")
    assert steps[-4:] == [
        "mailbox bob: receives from its own domains",
        "proven: kim@other.example, by the login",
        "mailbox bob: accepts @partner.example",
        "rule: accepted-sender",
    ]


# --- Tables that move


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        pytest.param({"sender": "alice@example.com"}, lambda tables: tables.block("alice"), id="the sender is blocked"),
        pytest.param({"sasl_username": "alice"}, lambda tables: tables.block("alice"), id="the login is blocked"),
        pytest.param({"sender": ""}, lambda tables: tables.block("<>"), id="the null sender is blocked"),
        pytest.param(
            {"recipient": "bob@example.com"},
            lambda tables: tables.restrict("bob", Receive.NOBODY),
            id="the recipient is restricted",
        ),
        pytest.param(
            {"recipient": "bob@example.com"},
            lambda tables: tables.remove_address("bob@example.com"),
            id="the recipient's address is removed",
        ),
        pytest.param({}, lambda tables: tables.manage("partner.example"), id="the recipient's domain is managed"),
        pytest.param(
            {"recipient": "bob@example.com"},
            lambda tables: tables.restrict_domain("example.com", Receive.NOBODY),
            id="the recipient's domain is restricted",
        ),
    ],
)
def test_next_request_sees_a_change(tables, fields, change):
    """What a command did is in force when it returns, though everything was cached."""
    decider = Decider(Settings(), tables)
    request = Request("RCPT", **{"sender": "x@y.example", "recipient": OUTSIDE, **fields})
    assert [decide(decider, request).is_refused for _ in range(2)] == [False, False]
    change(tables)
    assert [decide(decider, request).is_refused for _ in range(2)] == [True, True]


def test_change_back_is_seen_too(tables):
    """To unblock somebody works as fast as to block them."""
    entry = tables.block("alice")
    decider = Decider(Settings(), tables)
    request = Request("RCPT", sender="alice@example.com", recipient=OUTSIDE)
    assert decide(decider, request).is_refused
    tables.unblock(entry)
    assert not decide(decider, request).is_refused


def test_nothing_is_read_twice_while_the_tables_stand_still(tables):
    """A message to a hundred recipients looks its sender up once."""
    decider = Decider(Settings(), tables)
    request = Request("RCPT", sasl_username="alice", sender="", recipient="bob@example.com")
    decide(decider, request)
    first = list(tables.reads)
    assert first == [
        "name alice",
        "domain example.com",
        "entries of 1 alice@example.com alice@ @example.com @.com",
        "address bob@example.com",
        "entries of <>",
    ]
    decide(decider, request)
    assert tables.reads == first
    decide(decider, request._replace(sender="x@y.example"))
    assert tables.reads[len(first) :] == ["domain y.example", "entries of x@y.example x@ @y.example @.example"]


def test_a_long_address_is_not_kept(tables):
    """Hostile clients can't fill the daemon's memory with addresses."""
    decider = Decider(Settings(), tables)
    request = Request("RCPT", sender=f"{'x' * 400}@y.example", recipient="bob@example.com")
    for _ in range(2):
        decide(decider, request)
    assert [read[:13] for read in tables.reads].count("entries of xx") == 2


@pytest.mark.parametrize("reads", range(1, 6))
def test_answer_never_mixes_two_states_of_the_tables(tables, reads):
    """While one block is put in the place of another, no mail slips through between them."""
    entry = tables.block("<>", "anyone")
    decider = Decider(Settings(), tables)

    def swap():
        tables.unblock(entry)
        tables.block("bob", "anyone")

    tables.meanwhile(*[lambda: None] * (reads - 1), swap)
    request = Request("RCPT", sasl_username="bob", sender="", recipient="jdoe@example.com")
    assert decide(decider, request).entry == entry.id
    assert decide(decider, request).entry not in (None, entry.id)


def test_requests_that_come_together_are_decided_on_one_state_of_the_tables(tables):
    """So the state is looked up once for all of them; what changes meanwhile is for those that come later."""
    decider = Decider(Settings(), tables)
    request = Request("RCPT", sender="alice@example.com", recipient=OUTSIDE)
    assert not decider.decide(request, NOW).is_refused
    tables.block("alice")
    assert not decider.decide(request, NOW).is_refused
    decider.end()
    assert decide(decider, request).is_refused


# --- Tables in trouble


def test_unreadable_tables_give_no_answer(tables):
    """policyd never invents an answer: Postfix gets its default_action."""
    decider = Decider(Settings(), tables)
    trouble = StoreError("/var/lib/policyd/policyd.db: the database can't be read: disk I/O error")
    request = Request("RCPT", sender="alice@example.com", recipient=OUTSIDE)
    assert not decide(decider, request).is_refused
    tables.break_with(trouble)
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            decide(decider, request)
        assert caught.value is trouble
    tables.repair()
    tables.block("alice")
    assert decide(decider, request).is_refused


@pytest.mark.parametrize("reads", range(1, 5))
def test_trouble_in_the_middle_of_a_question_leaves_nothing_behind(tables, reads):
    """What was read before an error is not trusted after it."""
    decider = Decider(Settings(), tables)
    trouble = StoreError("the database can't be read")
    tables.meanwhile(*[lambda: None] * (reads - 1), partial(tables.break_with, trouble))
    request = Request("RCPT", sasl_username="alice", sender="", recipient="bob@example.com")
    with pytest.raises(StoreError) as caught:
        decide(decider, request)
    assert caught.value is trouble
    tables.repair()
    tables.block("alice", "anyone")
    tables.restrict("bob", Receive.NOBODY)
    assert decide(decider, request).rule is Rule.BLOCKED_SENDER


# --- What holds for every request


addresses = st.one_of(
    st.sampled_from(
        ["", "@", "bob@example.com", "alice", OUTSIDE, "IMCEAEX-_CN=JDOE@example.com", "\udcff@example.com"]
    ),
    st.text(max_size=20),
    st.binary(max_size=20).map(lambda each: each.decode("utf-8", "surrogateescape")),
    st.text(max_size=10).map("{}@example.com".format),
    st.text("_+=4fcnegsmtp-", max_size=20).map("IMCEASMTP-{}@example.com".format),
)


@pytest.fixture(scope="module")
def closed_tables(tmp_path_factory):
    """Tables with a mailbox that is closed and blocked; nobody changes them."""
    path = tmp_path_factory.mktemp("closed") / "policyd.db"
    create_database(Database.at(path))
    with closing(WatchedTables(path)) as found:
        found.manage("example.com")
        found.add_mailbox("JDoe", "bob@example.com")
        found.restrict("JDoe", Receive.INSIDERS, "für uns")
        found.block("JDoe", reason="weg")
        found.block("<>", "JDoe")
        yield found


@given(
    st.builds(
        Request,
        protocol_state=st.sampled_from(["", "CONNECT", "MAIL", "RCPT", "DATA", "VRFY", "nonsense"]),
        sender=addresses,
        recipient=addresses,
        sasl_username=addresses,
        client_address=st.sampled_from(["", "127.0.0.1", "192.0.2.7"]) | st.text(max_size=10),
    )
)
def test_every_request_has_an_answer_that_postfix_understands(closed_tables, request):
    """No address that anybody can send ends a connection or makes another answer than DUNNO and REJECT."""
    decider = Decider(Settings(), closed_tables)
    steps = []
    found = decider.decide(request, NOW, lambda step, *values: steps.append(step.format(*values)))
    assert found.action in ("DUNNO", "REJECT")
    assert found.is_refused is (found.action == "REJECT") is bool(found.text)
    assert decide(decider, request) == found
    assert steps[-1] == f"rule: {found.rule}" or request.protocol_state == "VRFY"


# --- Addresses inside of addresses

ROUTES = [
    "bob%example.com@example.com",
    "BOB+x%Example.com.@bücher.example",
    "example.com!bob@example.com",
    "xn--bcher-kva.example!example.com!bob@example.com",
    "bob@example.com@bücher.example",
    "bob%example.com%bücher.example@example.com",
    "bob%example.com%example.com%example.com@example.com",
    "@example.com:bob@example.com@example.com",
    'example.com!"bob"@example.com',
    "bob%example.com",
    "example.com!bob",
    "bob@example.com@",
]


@pytest.mark.parametrize("recipient", ROUTES)
def test_restriction_holds_for_an_address_inside_of_another(tables, recipient):
    """Postfix delivers each to bob, for insiders and strangers alike, also where unlisted recipients are accepted."""
    for domain in ("example.com", "xn--bcher-kva.example"):
        tables.manage(domain, Unlisted.ACCEPT)
    tables.restrict("bob", Receive.NOBODY)
    settings = Settings(origin="example.com")
    for login in ("", "alice"):
        decision = ask(tables, settings, sender=OUTSIDE, recipient=recipient, sasl_username=login)
        assert (decision.rule, decision.mailbox) == (Rule.RESTRICTED_RECIPIENT, "bob")
    assert "route" in " ".join(trace(tables, settings, recipient=recipient))


@pytest.mark.parametrize(
    "recipient",
    [
        *("joe%gmail.example@example.com", "gmail.example!joe", "joe@gmail.example@example.com", "joe%gmail.example"),
        pytest.param("IMCEASMTP-joe+40gmail+2Eexample@example.com", id="encapsulated"),
        pytest.param("prvs=1=imceasmtp-joe+2Bx+40gmail+2Eexample@example.com", id="encapsulated and signed"),
        pytest.param(
            "IMCEASMTP-IMCEASMTP-joe+2B40gmail+2B2Eexample+40example+2Ecom@example.com", id="encapsulated twice"
        ),
        pytest.param("IMCEASMTP-joe+40gmail+2Eexample%example.com@example.com", id="encapsulated in a route"),
    ],
)
@pytest.mark.parametrize("origin", ["", "example.com"])
def test_blocked_to_outside_cannot_write_there_through_our_own_domain(tables, recipient, origin):
    """For an insider Postfix relays each to gmail.example, or an Exchange behind it.

    Exceptions count for the address inside.
    """
    tables.block("alice", to="outside", allowed=frozenset({"@partner.example"}))
    settings = Settings(origin=origin)
    ask_as = partial(ask, tables, settings, sasl_username="alice")
    assert ask_as(recipient=recipient).rule is Rule.BLOCKED_SENDER
    assert ask_as(recipient=recipient.replace("gmail", "partner")).rule is Rule.DEFAULT
    assert ask_as(recipient="bob%example.com@example.com").rule is Rule.DEFAULT


def test_strangers_learn_and_reach_nothing_through_our_own_domain(tables):
    """What leads outside stays an unlisted recipient; what is in no domain of ours is nobody's but its own."""
    tables.restrict("bob", Receive.NOBODY)
    assert rule(tables, recipient="joe%gmail.example@example.com") is Rule.UNLISTED_RECIPIENT
    assert rule(tables, recipient="nobody%example.com@example.com") is Rule.UNLISTED_RECIPIENT
    assert rule(tables, recipient="bob%example.com@gmail.example") is Rule.DEFAULT
    assert rule(tables, recipient="postmaster%gmail.example@example.com") is Rule.UNLISTED_RECIPIENT
    assert rule(tables, recipient="IMCEASMTP-postmaster+40gmail+2Eexample@example.com") is Rule.UNLISTED_RECIPIENT
    assert rule(tables, recipient="postmaster%example.com@example.com") is not Rule.ALWAYS_ACCEPTED


def test_address_with_a_percent_sign_of_its_own_is_a_mailboxs(tables):
    """Where a mailbox has the address as it stands, nothing is looked for inside of it."""
    tables.add_mailbox("sale", "50%off@example.com")
    assert ask(tables, recipient="50%off@example.com").mailbox == "sale"


@pytest.mark.parametrize("extension", ["x", "x=1", "20", "\udcff"])
def test_address_that_only_looks_encapsulated_has_its_extensions_like_others(tables, extension):
    """Old Exchange addresses are kept so that replies arrive: Postfix delivers each of these to bob."""
    tables.add_address("bob", "imceaex-_o=org_cn=robert@example.com")
    tables.restrict("bob", Receive.NOBODY)
    asked = {"sasl_username": "alice", "sender": "alice@example.com"}
    assert ask(tables, recipient=f"IMCEAEX-_O=ORG_CN=ROBERT+{extension}@example.com", **asked).mailbox == "bob"


def test_blocked_sender_cannot_hide_inside_of_an_address_nor_pass_for_an_accepted_one(tables):
    """Blocking looks at both, letting through at the address as it stands."""
    tables.restrict("bob", Receive.NOBODY, accepted=frozenset({"alice@example.com"}))
    tables.block("eve@example.com", to="anyone")
    for sender in ("eve%example.com@example.com", "example.com!eve@bücher.example"):
        assert rule(tables, sender=sender, recipient="alice@example.com") is Rule.BLOCKED_SENDER
    assert (
        rule(tables, sender="alice%example.com@example.com", recipient="bob@example.com") is Rule.RESTRICTED_RECIPIENT
    )
    tables.block("alice", to="anyone")
    assert rule(tables, sender="alice%example.com@example.com", recipient="jdoe@example.com") is Rule.BLOCKED_SENDER


@pytest.mark.parametrize("state", ["VRFY", "ETRN"])
def test_explanation_says_where_nothing_is_judged(tables, state):
    """Who asks about such a request must not take the missing steps for a defect; the tables are not even asked."""
    decider = Decider(Settings(), tables)
    tables.reads.clear()
    assert decider.explain(Request(state, recipient="nobody@example.com"), NOW) == (
        PERMITTED,
        [f"state {state}: not judged"],
    )
    assert not tables.reads


class MovingTables:
    """Tables that *change* changes when a mailbox is looked up, once; whoever reads them then is told to read again."""

    def __init__(self, tables, change) -> None:
        self._tables = tables
        self._change = change

    def __getattr__(self, name):
        return getattr(self._tables, name)

    def holder_of(self, address):
        if self._change is not None:
            change, self._change = self._change, None
            change()
            self._tables.end()
            self._tables.begin()
            raise TablesMovedError
        return self._tables.holder_of(address)


def test_tables_that_move_while_they_are_read_are_read_again(tables):
    """A command may commit between two reads: the answer is from one state, the newer one."""
    moving = MovingTables(tables, lambda: tables.restrict("alice", Receive.NOBODY))
    decision = Decider(Settings(), moving).decide(Request("RCPT", recipient="alice@example.com"), NOW)
    tables.end()
    assert decision.rule is Rule.RESTRICTED_RECIPIENT
