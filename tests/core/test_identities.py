"""Who somebody is: logins as servers send them, alias domains, BATV, groups, and what each question costs."""

from functools import partial

import pytest

from policyd.decide import Decider
from policyd.model import Receive, Request, Rule, Unlisted
from policyd.settings import Settings
from tests.support.asking import OUTSIDE, ask, decide, rule, trace

REALMS = Settings(origin="example.com", login_realms=frozenset({"example", "example.local", "example.com"}))
CLOSED = "bob@example.com"


@pytest.fixture
def tables(tables):
    """The company of `test_decide`, with bob closed to all but alice, and an alias domain."""
    tables.restrict("bob", Receive.NOBODY)
    tables.accept("bob", "alice")
    tables.manage("alias.example", alias_of="example.com")
    return tables


def is_let_in(tables, settings=REALMS, **fields):
    """Whether alice's being accepted lets this in."""
    return rule(tables, settings, **{"recipient": CLOSED, "sender": "x@y.example", **fields}) is Rule.ACCEPTED_SENDER


# --- Logins


@pytest.mark.parametrize(
    ("login", "how"),
    [
        pytest.param("alice", "name", id="the mailbox's name"),
        pytest.param("ALICE", "name", id="in any case"),
        pytest.param("alice@", "name", id="with an empty domain"),
        pytest.param("alice.old", "origin", id="a local part of the origin"),
        pytest.param("alice.old+x", "origin, extension", id="a local part with an extension"),
        pytest.param("alice.old@", "origin", id="a local part with an empty domain"),
        pytest.param("alice@example.com", "exact", id="an address"),
        pytest.param("alice+x@example.com", "extension", id="an address with an extension"),
        pytest.param("alice@alias.example", "alias domain", id="an address in an alias domain"),
        pytest.param("EXAMPLE\\alice", "realm, name", id="a domain of Windows"),
        pytest.param("example\\alice.old", "realm, origin", id="the same in another case, and a local part"),
        pytest.param("EXAMPLE\\alice@example.com", "realm, exact", id="a realm before an address"),
        pytest.param("alice@EXAMPLE.LOCAL", "realm, name", id="a realm behind"),
        pytest.param("EXAMPLE\\alice@EXAMPLE.LOCAL", "realm, realm, name", id="both"),
        pytest.param("prvs=x=alice@example.com", "BATV", id="signed with BATV"),
    ],
)
def test_login_is_found_as_servers_send_it(tables, login, how):
    """A list for alice lets her in, and a block keeps her out, however her server spells the login."""
    assert is_let_in(tables, sasl_username=login)
    steps = trace(tables, REALMS, sasl_username=login, sender="x@y.example", recipient=CLOSED)
    assert steps[0] == f"login {login}: mailbox alice ({how.replace('realm, exact', 'realm')})"
    assert "proven: mailbox alice, by the login" in steps
    tables.block("alice", "anyone")
    assert rule(tables, REALMS, sasl_username=login, sender="x@y.example", recipient=OUTSIDE) is Rule.BLOCKED_SENDER


@pytest.mark.parametrize(
    "login",
    [
        pytest.param("OTHER\\alice", id="a realm that is not set"),
        pytest.param("alice@other.local", id="a domain that is not set"),
        pytest.param("EXAMPLE\\", id="a realm and nothing else"),
        pytest.param("@EXAMPLE.LOCAL", id="nothing and a realm"),
        pytest.param("alice+x", id="a name with an extension, which is no name"),
        pytest.param("EXAMPLE/alice", id="another sign between"),
        pytest.param("alice@example.local@other.local", id="a realm inside"),
        pytest.param("\udcff", id="not UTF-8"),
        pytest.param("@", id="nothing at all"),
    ],
)
def test_login_that_is_nobodys_is_not_guessed(tables, login):
    """A near miss proves nothing."""
    tables.remove_address("alice@example.com")
    assert not is_let_in(tables, sasl_username=login)
    tables.block("alice", "anyone")
    assert rule(tables, REALMS, sasl_username=login, sender="x@y.example", recipient=OUTSIDE) is Rule.DEFAULT


def test_address_in_a_managed_realm_is_its_mailboxs_before_the_realm_is_taken_off(tables):
    """Where the realm is a managed domain, too, carol@example.com is who has that address, not who is named carol."""
    tables.add_mailbox("carol", "c.smith@example.com")
    tables.add_mailbox("other", "carol@example.com")
    tables.accept("bob", "carol")
    assert not is_let_in(tables, sasl_username="carol@example.com")
    assert is_let_in(tables, sasl_username="carol")
    tables.remove_address("carol@example.com")
    assert is_let_in(tables, sasl_username="carol@example.com")


def test_bare_login_is_the_mailbox_of_that_name_before_the_address_at_the_origin(tables):
    """And another mailbox's address proves nothing to whoever has its local part as a name; a block of it counts."""
    tables.add_mailbox("info", "irene@example.com")
    tables.add_mailbox("shop", "info@example.com")
    tables.restrict("JDoe", Receive.NOBODY, accepted=frozenset({"info@example.com"}))
    asked = partial(rule, tables, REALMS, sasl_username="info", sender="x@y.example")
    assert asked(recipient="jdoe@example.com") is Rule.RESTRICTED_RECIPIENT
    tables.block("info@example.com")
    assert asked(recipient=OUTSIDE) is Rule.BLOCKED_SENDER


def test_bare_login_of_no_mailbox_is_an_address_at_the_origin(tables):
    """A scanner that logs in is caught by the pattern of the domain, and may be on a list."""
    tables.accept("bob", "scanner@example.com")
    assert is_let_in(tables, sasl_username="scanner")
    assert not is_let_in(tables, Settings(), sasl_username="scanner")
    tables.block("@example.com")
    assert rule(tables, REALMS, sasl_username="scanner", sender="x@y.example", recipient=OUTSIDE) is Rule.BLOCKED_SENDER


@pytest.mark.parametrize("login", ["alice", "EXAMPLE\\alice", "alice@EXAMPLE.LOCAL", "alice.old"])
@pytest.mark.parametrize("settings", [REALMS, Settings(login_realms=REALMS.login_realms)], ids=["origin", "no origin"])
def test_block_of_a_domain_catches_a_bare_login(tables, login, settings):
    """`sender block @example.com --to outside` means everybody here, whatever they write into MAIL FROM."""
    tables.block("@example.com")
    expected = Rule.DEFAULT if login == "alice.old" and not settings.origin else Rule.BLOCKED_SENDER
    assert rule(tables, settings, sasl_username=login, sender="x@y.example", recipient=OUTSIDE) is expected


def test_block_by_the_realm_holds_though_the_rest_has_a_mailbox(tables):
    """For a block it is enough who it might be; for a list, the login is what is left without the realm."""
    asked = partial(rule, tables, REALMS, sasl_username="alice@EXAMPLE.LOCAL", sender="x@y.example")
    tables.restrict("JDoe", Receive.NOBODY, accepted=frozenset({"@example.local"}))
    assert asked(recipient="jdoe@example.com") is Rule.RESTRICTED_RECIPIENT
    tables.block("@example.local")
    assert asked(recipient=OUTSIDE) is Rule.BLOCKED_SENDER


@pytest.mark.parametrize("identity", [{"sender": "alice.old@example.com"}, {"sasl_username": "alice"}])
def test_pattern_matches_the_primary_address_of_a_mailbox(tables, identity):
    """Whoever is blocked by the address that people know is blocked by each of theirs."""
    tables.block("alice@example.com")
    assert rule(tables, Settings(), recipient=OUTSIDE, **{"sender": "x@y.example", **identity}) is Rule.BLOCKED_SENDER
    tables.block("alice.old@example.com", "anyone")
    assert rule(tables, sender="alice@example.com", recipient="jdoe@example.com") is Rule.DEFAULT, "but not the reverse"


# --- Who it certainly is


def test_list_for_the_boss_is_open_to_the_boss_alone(tables):
    """Neither the Internet with a forged MAIL FROM, nor a colleague as somebody else; but the boss from any alias."""
    assert not is_let_in(tables, sender="alice@example.com"), "a forged envelope sender"
    assert not is_let_in(tables, sender="alice@example.com", sasl_username="jdoe@example.com"), "somebody else's login"
    assert is_let_in(tables, sender="alice.old@example.com", sasl_username="alice"), "her alias"
    assert is_let_in(tables, sender="", sasl_username="alice@example.com"), "a receipt of hers"


def test_web_mailer_without_a_login_is_believed_in_the_insider_networks(tables):
    """There the envelope sender is all that there is."""
    asked = {"sender": "alice.old+x@alias.example", "client_address": "127.0.0.1"}
    assert is_let_in(tables, **asked)
    assert "proven: mailbox alice, by the envelope sender of an insider" in trace(
        tables, REALMS, recipient=CLOSED, **asked
    )
    assert not is_let_in(tables, sender="", client_address="127.0.0.1")


@pytest.mark.parametrize(
    ("pattern", "sender", "is_accepted"),
    [
        pytest.param("joe@partner.example", "joe@partner.example", True, id="as written"),
        pytest.param("joe@partner.example", "prvs=123=joe@partner.example", True, id="signed with BATV"),
        pytest.param("prvs=123=joe@partner.example", "prvs=123=joe@partner.example", True, id="one signature"),
        pytest.param("ann@partner.example", "joe@partner.example", False, id="another"),
        pytest.param("@example.com", "alice@example.com", False, id="managed"),
        pytest.param("@alias.example", "alice@alias.example", False, id="an alias domain"),
        pytest.param("@example.com", "prvs=1=alice@example.com", False, id="managed and signed"),
        pytest.param("@example.com", "joe%partner.example@example.com", False, id="managed around a foreign one"),
    ],
)
def test_foreign_sender_counts_as_written_and_no_other(tables, pattern, sender, is_accepted):
    """Whatever is written in a domain of ours must be proven; a partner's address can't be."""
    tables.accept("bob", pattern)
    assert is_let_in(tables, sender=sender) is is_accepted
    assert is_let_in(tables, sender=sender, sasl_username="kim@other.example") is is_accepted


# --- Alias domains


@pytest.mark.parametrize(
    ("recipient", "mailbox"),
    [
        pytest.param("bob@alias.example", "bob", id="an address"),
        pytest.param("BOB+x@Alias.Example.", "bob", id="in any spelling"),
        pytest.param("bob+list@alias.example", "bob", id="one listed with its extension"),
        pytest.param("imceaex-_cn=bob@alias.example", "bob", id="an Exchange name"),
        pytest.param("IMCEASMTP-bob+40alias+2Eexample@example.com", "bob", id="encapsulated in the target"),
        pytest.param("IMCEASMTP-bob+40example+2Ecom@alias.example", "bob", id="encapsulated in the alias"),
        pytest.param("bob%alias.example@example.com", "bob", id="inside of an address"),
        pytest.param("bob@example.com@alias.example", "bob", id="around an address"),
        pytest.param("prvs=1=bob@alias.example", "bob", id="signed with BATV"),
        pytest.param("own@alias.example", "JDoe", id="one of the alias domain's own"),
        pytest.param("own+x@alias.example", "JDoe", id="the same with an extension"),
    ],
)
def test_address_in_an_alias_domain_is_the_one_in_its_target(tables, recipient, mailbox):
    """A second domain needs no second list of addresses; one that is its own is looked for first."""
    tables.add_address("JDoe", "own@alias.example")
    tables.add_mailbox("target", "own@example.com")
    assert ask(tables, recipient=recipient).mailbox == mailbox


def test_alias_domain_is_judged_by_its_target(tables):
    """It has no restriction and no `unlisted` of its own."""
    tables.restrict_domain("example.com", Receive.INSIDERS)
    found = ask(tables, recipient="jdoe@alias.example", sender="x@y.example")
    assert (found.rule, found.by) == (Rule.RESTRICTED_RECIPIENT, "domain")
    assert rule(tables, recipient="nobody@alias.example") is Rule.UNLISTED_RECIPIENT
    tables.manage("example.com", Unlisted.ACCEPT)
    assert rule(tables, recipient="nobody@alias.example", sender="x@y.example") is Rule.RESTRICTED_RECIPIENT


def test_alias_domain_and_its_target_are_one_to_a_pattern(tables):
    """As who, as to whom, and as an exception; each spelling may be named by itself, too."""
    tables.block("@example.com", "anyone", allowed=frozenset({"jdoe@example.com"}))
    tables.block("@y.example", "jdoe@example.com")
    blocked = partial(rule, tables, sender="nobody@alias.example")
    assert blocked(recipient=OUTSIDE) is Rule.BLOCKED_SENDER
    assert blocked(recipient="jdoe@alias.example") is Rule.DEFAULT
    assert rule(tables, sender="x@y.example", recipient="jdoe+a@alias.example") is Rule.BLOCKED_SENDER
    assert rule(tables, sender="x@y.example", recipient="imceaex-_cn=jdoe@example.com") is Rule.DEFAULT


# --- BATV


@pytest.mark.parametrize(
    "recipient",
    [
        "prvs=0123abcdef=bob@example.com",
        "PRVS=x=BOB+any@Example.com",
        "prvs=x=imceaex-_cn=bob@example.com",
        "prvs=x=bob%example.com@example.com",
        "prvs=x=example.com!bob@example.com",
        "IMCEASMTP-prvs=x=bob+40example+2Ecom@example.com",
    ],
)
def test_bounce_to_a_signed_address_is_to_the_address(tables, recipient):
    """A restriction has no back door through a tag, and no bounce is refused as to an unknown user."""
    assert ask(tables, sender="", recipient=recipient).mailbox == "bob"


def test_signed_postmaster_is_postmaster(tables):
    """Nobody may be kept from writing there."""
    tables.block("<>", "anyone")
    assert rule(tables, sender="", recipient="prvs=x=postmaster@example.com") is Rule.ALWAYS_ACCEPTED


def test_signed_sender_is_blocked_as_the_address_and_as_it_stands(tables):
    """A tag hides nobody."""
    tables.block("eve@partner.example", "anyone")
    tables.block("alice", "anyone")
    for sender in ("prvs=x=eve@partner.example", "prvs=x=alice@example.com", "prvs=x=alice+a@alias.example"):
        assert rule(tables, sender=sender, recipient="jdoe@example.com") is Rule.BLOCKED_SENDER


def test_mailbox_that_has_an_address_with_a_tag_is_found_first(tables):
    """What the administrator entered stands before what it could mean."""
    tables.add_mailbox("odd", "prvs=x=bob@example.com")
    assert ask(tables, recipient="prvs=x=bob@example.com").mailbox == "odd"
    assert ask(tables, recipient="prvs=y=bob@example.com").mailbox == "bob"


# --- Groups


def test_block_of_a_group_is_of_all_who_are_in_it(tables):
    """Directly or not, by their login or their envelope sender."""
    tables.add_group("trainees", "JDoe")
    tables.add_group("staff", "alice", "group:trainees")
    tables.block("group:staff", "outside", reason="not yet")
    for identity in ({"sasl_username": "JDoe"}, {"sender": "alice.old@example.com"}):
        found = ask(tables, recipient=OUTSIDE, **{"sender": "x@y.example", **identity})
        assert (found.rule, found.reason) == (Rule.BLOCKED_SENDER, "not yet")
    assert rule(tables, recipient=OUTSIDE, sasl_username="bob") is Rule.DEFAULT


def test_groups_in_a_circle_are_harmless(tables):
    """However it came about, an answer comes, and it is that of all groups in the circle."""
    tables.add_group("a", "JDoe")
    tables.add_group("b", "group:a")
    tables.join("a", "group:b")
    tables.restrict_group("b", Receive.NOBODY)
    found = ask(tables, recipient="jdoe@example.com")
    assert (found.rule, found.by) == (Rule.RESTRICTED_RECIPIENT, "group:b")


def test_restriction_of_a_group_is_each_members(tables):
    """Unless the mailbox says something itself; its list of accepted senders may be the group."""
    tables.add_group("directors", "alice", "JDoe")
    tables.restrict_group("directors", Receive.NOBODY, accepted=frozenset({"group:directors"}), reason="ask first")
    found = ask(tables, recipient="jdoe@example.com", sasl_username="bob")
    assert (found.rule, found.by, found.reason) == (Rule.RESTRICTED_RECIPIENT, "group:directors", "ask first")
    assert rule(tables, recipient="jdoe@example.com", sasl_username="alice") is Rule.ACCEPTED_SENDER
    assert rule(tables, recipient="jdoe@example.com", sender="alice@example.com") is Rule.RESTRICTED_RECIPIENT
    tables.open("JDoe")
    assert ask(tables, recipient="jdoe@example.com", sasl_username="bob").by == ""


# --- Everybody, and whom they may not write to


def test_nobody_writes_to_a_competitor(tables):
    """Whoever it is, from wherever, and by whatever way it leads there."""
    tables.block("anyone", "@competitor.example", allowed=frozenset({"sales@competitor.example"}))
    for identity in ({"sender": "x@y.example"}, {"sasl_username": "alice"}, {"sender": ""}):
        assert rule(tables, recipient="joe@competitor.example", **identity) is Rule.BLOCKED_SENDER
        assert rule(tables, recipient="joe%competitor.example@example.com", **identity) is Rule.BLOCKED_SENDER
        assert rule(tables, recipient="sales@competitor.example", **identity) is Rule.DEFAULT
        assert rule(tables, recipient=OUTSIDE, **identity) is Rule.DEFAULT


@pytest.mark.parametrize(
    ("to", "recipient"),
    [("outside", OUTSIDE), ("JDoe", "jdoe@example.com"), ("group:staff", "jdoe@alias.example"), ("jdoe@", "jdoe@z")],
)
def test_block_of_anyone_is_found_by_its_recipient(tables, to, recipient):
    """For each kind of recipient; a block of ten thousand addresses is not walked through."""
    tables.add_group("staff", "JDoe")
    tables.block("anyone", to)
    assert rule(tables, recipient=recipient, sender="x@y.example") is Rule.BLOCKED_SENDER
    assert rule(tables, recipient="alice@example.com", sender="x@y.example") is Rule.DEFAULT


def test_block_of_anyone_to_anyone_holds_before_there_is_a_recipient(tables):
    """At CONNECT already; one with exceptions by sender waits for MAIL."""
    tables.block("anyone", "anyone", allowed_senders=frozenset({"alice"}))
    assert rule(tables, state="CONNECT") is Rule.DEFAULT
    assert rule(tables, state="MAIL", sender="x@y.example") is Rule.BLOCKED_SENDER
    assert rule(tables, state="MAIL", sender="x@y.example", sasl_username="alice") is Rule.DEFAULT
    tables.block("anyone", "anyone", allowed_senders=frozenset())
    assert rule(tables, state="CONNECT") is Rule.BLOCKED_SENDER


# --- Several customers


def test_one_customers_people_are_no_colleagues_of_anothers(tables):
    """They have logged in at the same server; `receive = domain` tells them apart."""
    tables.manage("customer.example")
    tables.manage("brand.example", alias_of="customer.example")
    tables.add_mailbox("ann", "ann@customer.example")
    tables.add_mailbox("kim", "kim@customer.example")
    tables.restrict_domain("customer.example", Receive.DOMAIN)
    asked = partial(ask, tables, REALMS, recipient="ann@brand.example", sender="kim@customer.example")
    assert (asked(sasl_username="kim").rule, asked(sasl_username="kim").by) == (Rule.DEFAULT, "domain")
    assert asked(sasl_username="kim@brand.example").rule is Rule.DEFAULT
    assert asked(sasl_username="JDoe").rule is Rule.RESTRICTED_RECIPIENT
    assert asked().rule is Rule.RESTRICTED_RECIPIENT
    assert asked(client_address="127.0.0.1").rule is Rule.DEFAULT, "an insider's envelope sender is proven"


def test_imcea_address_passes_by_no_domain(tables):
    """It can be written in a domain without a restriction, and leads to a mailbox in one that has one."""
    tables.restrict_domain("example.com", Receive.NOBODY)
    tables.add_mailbox("empty")
    for recipient in ("imceaex-_cn=alice@xn--bcher-kva.example", "IMCEASMTP-alice+40example+2Ecom@bücher.example"):
        assert ask(tables, recipient=recipient).by == "domain"
    assert rule(tables, recipient="imceaex-_cn=empty@xn--bcher-kva.example") is Rule.DEFAULT
    assert rule(tables, recipient="imceaex-_cn=empty@example.com") is Rule.RESTRICTED_RECIPIENT


# --- What it costs


def reads(tables, decider, **fields):
    """What a request has the tables asked."""
    before = len(tables.reads)
    decide(decider, Request("RCPT", **fields))
    return tables.reads[before:]


@pytest.mark.parametrize(
    ("fields", "statements"),
    [
        # That a domain is not managed is known before, and who an address is that is the login, too.
        pytest.param({"sender": "x@y.example", "recipient": "jdoe@example.com"}, 2, id="a letter from outside"),
        pytest.param(
            {"sasl_username": "jdoe@example.com", "sender": "jdoe@example.com", "recipient": OUTSIDE},
            2,
            id="a letter to the outside",
        ),
        pytest.param(
            {"sasl_username": "JDoe", "sender": "jdoe@example.com", "recipient": OUTSIDE}, 3, id="a bare login"
        ),
        pytest.param({"sender": "", "recipient": "jdoe+x@example.com"}, 3, id="a bounce to an extension"),
        pytest.param(
            {"sender": "x@y.example", "recipient": "imceaex-_cn=jdoe@example.com"}, 3, id="to an Exchange name"
        ),
    ],
)
@pytest.mark.parametrize("has_groups", [False, True])
def test_request_without_groups_and_restrictions_costs_what_it_did(tables, fields, statements, has_groups):
    """Somebody else's group and restriction make no statement more; asked again, there is none at all."""
    if has_groups:
        tables.add_group("staff", "bob")
        tables.restrict_group("staff", Receive.NOBODY)
        tables.restrict_domain("xn--bcher-kva.example", Receive.NOBODY)
    tables.settle()
    decider = Decider(Settings(), tables)
    request = Request("RCPT", **fields)
    with tables.count_statements() as first:
        decide(decider, request)
    assert first.count == statements
    with tables.count_statements() as second:
        decide(decider, request)
    assert second.count == 0


def test_what_is_asked_of_groups_and_lists_is_asked_once(tables):
    """The next recipient's mail asks nothing that is known: groups, accepted senders, addresses, domains."""
    tables.add_group("staff", "JDoe")
    tables.restrict_group("staff", Receive.DOMAIN, accepted=frozenset({"@partner.example"}))
    tables.settle()
    decider = Decider(Settings(), tables)
    asked = {"sasl_username": "alice.old@example.com", "sender": "x@y.example", "recipient": "jdoe@bücher.example"}
    first = reads(tables, decider, **asked)
    assert [each for each in first if each.split()[0] in ("groups", "addresses", "accepted", "primary")] == [
        "primary of 1",
        "groups of 3",
        "addresses of 1",
        "addresses of 3",
    ]
    assert reads(tables, decider, **asked) == []
    stranger = {"sender": "x@y.example", "recipient": "jdoe@bücher.example"}
    assert reads(tables, decider, **stranger)[-1] == "accepted by 3 group 1"
    assert reads(tables, decider, **stranger) == []


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        pytest.param(
            {"recipient": "jdoe@example.com"}, lambda tables: tables.restrict_group("staff", Receive.NOBODY), id="group"
        ),
        pytest.param(
            {"recipient": "alice@example.com"}, lambda tables: tables.join("closed", "alice"), id="a membership"
        ),
        pytest.param(
            {"recipient": "alice@example.com"},
            lambda tables: tables.restrict_domain("example.com", Receive.NOBODY),
            id="domain",
        ),
        pytest.param({"recipient": OUTSIDE}, lambda tables: tables.block("anyone", "outside"), id="anyone"),
        pytest.param(
            {"recipient": "x@new.example"},
            lambda tables: tables.manage("new.example", alias_of="example.com"),
            id="an alias domain",
        ),
    ],
)
def test_next_request_sees_a_change(tables, fields, change):
    """What a command did is in force when it returns, though everything was cached."""
    tables.add_group("staff", "JDoe")
    tables.add_group("closed")
    tables.restrict_group("closed", Receive.NOBODY)
    decider = Decider(Settings(), tables)
    request = Request("RCPT", sender="x@y.example", **fields)
    assert [decide(decider, request).is_refused for _ in range(2)] == [False, False]
    change(tables)
    assert [decide(decider, request).is_refused for _ in range(2)] == [True, True]
