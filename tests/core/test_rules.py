"""The rules, one claim at a time: facts and a time in, a verdict out."""

import inspect
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.address import normal_pattern, split_address
from policyd.model import (
    ANYONE,
    OUTSIDE,
    Address,
    BlockedSender,
    Domain,
    Group,
    Holder,
    Party,
    PartyKind,
    Receive,
    Rule,
    Unlisted,
    pattern_party,
)
from policyd.rules import (
    Identity,
    Policy,
    Question,
    Restriction,
    Verdict,
    judge,
    patterns_of,
    restriction_of,
    silent,
    why_not_applicable,
)

NOW = 1_700_000_000
POLICY = Policy(frozenset({"postmaster"}))
OURS = Domain("example.com")
LENIENT = Domain("example.com", Unlisted.ACCEPT)
BOB = Holder("bob", id=1)
CAROL = Holder("carol", id=2)
ALICE = Holder("alice", id=3)
ENTRY = BlockedSender(ALICE.party, ANYONE, created_at=5, id=10)

PERMITTED = Verdict(False, Rule.DEFAULT)
UNLISTED = Verdict(True, Rule.UNLISTED_RECIPIENT)


@dataclass(frozen=True)
class FixedFacts:
    """What the rules ask, in dictionaries; they are `policyd.rules.Facts`. Addresses by the ids of mailboxes."""

    accepted: dict[str, frozenset[Party]] = field(default_factory=dict)  # by where it is said
    addresses: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def accepted_by(self, restriction: Restriction, mailbox: Holder | None) -> frozenset[Party]:
        """Those of the mailbox, of the groups, by their numbers, and of the domain."""
        places = ["mailbox"] if mailbox else []
        places += [f"group {number}" for number in restriction.group_ids]
        places += [restriction.domain]
        return frozenset().union(*(self.accepted.get(place, frozenset()) for place in places))

    def patterns_of_mailbox(self, mailbox: Holder) -> frozenset[Party]:
        """All patterns of its addresses."""
        return patterns_of(map(split_address, self.addresses.get(mailbox.id, ())))

    def domains_of_mailbox(self, mailbox: Holder) -> frozenset[str]:
        """The domains of its addresses; there are no alias domains here."""
        return frozenset(each.rpartition("@")[2] for each in self.addresses.get(mailbox.id, ()))


NO_FACTS = FixedFacts()


def parties(*texts):
    """What may stand in a list of senders or recipients: patterns."""
    return frozenset(map(pattern_party, texts))


def somebody(text, mailbox=None, domain=OURS, groups=()):
    """Somebody at *text*; in example.com it is *domain* that is managed."""
    address = split_address(text, delimiters="+")
    is_ours = address.domain == "example.com"
    return Identity(
        text,
        (address,),
        domain=domain if is_ours else None,
        mailbox=mailbox,
        groups=groups,
        foreign=() if is_ours else (address,),
    )


TO_BOB = somebody("bob@example.com", BOB)
TO_NOBODY = somebody("nobody@example.com")
TO_JOE = somebody("joe@example.net")
NOWHERE = somebody("bob")  # no domain, and no origin is set


def question(recipient, sender="eve@example.org", *entries, login=None, is_insider=False, is_null=False):
    """A question by *sender*, "" for none, or a party; a login makes an insider."""
    found: dict[Party, tuple[BlockedSender, ...]] = {}
    for entry in entries:
        found[entry.to] = (*found.get(entry.to, ()), entry)
    who = somebody(sender) if isinstance(sender, str) and sender else sender or None
    return Question(recipient, who, login, is_null, is_insider or login is not None, (found,) if found else ())


def verdict(*arguments, facts=NO_FACTS, **options):
    """What the rules say to such a question."""
    return judge(question(*arguments, **options), POLICY, facts, NOW)


def rule(*arguments, **options):
    """The rule that decides it."""
    return verdict(*arguments, **options).rule


def blocked_by(entry):
    """A refusal that names *entry*."""
    return Verdict(True, Rule.BLOCKED_SENDER, entry)


# --- 1. Always accepted


@pytest.mark.parametrize(
    ("recipient", "rule_"),
    [
        pytest.param("postmaster@example.com", Rule.ALWAYS_ACCEPTED, id="in a managed domain"),
        pytest.param("PostMaster@example.com", Rule.ALWAYS_ACCEPTED, id="in any case"),
        pytest.param("postmaster+x@example.com", Rule.ALWAYS_ACCEPTED, id="with an extension"),
        pytest.param("postmaster", Rule.ALWAYS_ACCEPTED, id="without a domain"),
        pytest.param("postmaster@example.net", Rule.BLOCKED_SENDER, id="not in another domain"),
        pytest.param("postmasters@example.com", Rule.BLOCKED_SENDER, id="not another name"),
        pytest.param("x+postmaster@example.com", Rule.BLOCKED_SENDER, id="not as an extension"),
        pytest.param("@example.com", Rule.BLOCKED_SENDER, id="not without a local part"),
    ],
)
def test_nobody_is_kept_from_writing_to_postmaster(recipient, rule_):
    """Who was refused can ask why: RFC 5321 demands it, and a block of everything must not prevent it."""
    assert verdict(somebody(recipient), "eve@example.org", ENTRY).rule is rule_


def test_postmaster_is_accepted_without_a_mailbox_and_in_spite_of_a_restriction():
    """The rule stands before all others."""
    closed = BOB._replace(receive=Receive.NOBODY)
    assert verdict(somebody("postmaster@example.com")) == Verdict(False, Rule.ALWAYS_ACCEPTED)
    assert verdict(somebody("postmaster@example.com", closed)) == Verdict(False, Rule.ALWAYS_ACCEPTED)


def test_always_accept_is_what_the_settings_say():
    """An administrator may add abuse, or take postmaster away."""
    abuse = Policy(frozenset({"abuse"}))
    assert judge(question(somebody("abuse@example.com")), abuse, NO_FACTS, NOW).rule is Rule.ALWAYS_ACCEPTED
    assert judge(question(somebody("postmaster@example.com")), abuse, NO_FACTS, NOW) == UNLISTED


def test_a_login_as_recipient_is_never_always_accepted():
    """Only an address can be postmaster's."""
    assert verdict(Identity("postmaster")) == PERMITTED


# --- 2. Blocked senders: to whom


STAFF = Group("Staff", id=7)
SALES = Group("Sales", id=8)


@pytest.mark.parametrize(
    ("to", "recipient", "applies"),
    [
        pytest.param(ANYONE, TO_JOE, True, id="anyone covers outside"),
        pytest.param(ANYONE, TO_BOB, True, id="anyone covers a mailbox"),
        pytest.param(ANYONE, TO_NOBODY, True, id="anyone covers an unlisted address"),
        pytest.param(ANYONE, NOWHERE, True, id="anyone covers an address without a domain"),
        pytest.param(ANYONE, None, True, id="anyone holds without a recipient"),
        pytest.param(OUTSIDE, TO_JOE, True, id="outside covers a domain that is not managed"),
        pytest.param(OUTSIDE, somebody("joe@[192.0.2.1]"), True, id="outside covers an address literal"),
        pytest.param(OUTSIDE, TO_NOBODY._replace(leads_outside=True), True, id="outside covers what leads there"),
        pytest.param(OUTSIDE, somebody("joe@-bad-"), True, id="outside covers a domain that can't be"),
        pytest.param(OUTSIDE, TO_BOB, False, id="outside does not cover a mailbox"),
        pytest.param(OUTSIDE, TO_NOBODY, False, id="outside does not cover an unlisted address"),
        pytest.param(OUTSIDE, NOWHERE, False, id="outside does not cover an address without a domain"),
        pytest.param(OUTSIDE, None, False, id="outside waits for a recipient"),
        pytest.param(BOB.party, TO_BOB, True, id="a mailbox covers itself"),
        pytest.param(BOB.party, somebody("x@example.com", BOB), True, id="a mailbox covers each of its addresses"),
        pytest.param(BOB.party, somebody("c@example.com", CAROL), False, id="a mailbox does not cover another"),
        pytest.param(BOB.party, TO_NOBODY, False, id="a mailbox does not cover an unlisted address"),
        pytest.param(BOB.party, TO_JOE, False, id="a mailbox does not cover outside"),
        pytest.param(BOB.party, None, False, id="a mailbox waits for a recipient"),
        pytest.param(STAFF.party, TO_BOB._replace(groups=(SALES, STAFF)), True, id="a group covers who is in it"),
        pytest.param(STAFF.party, TO_BOB._replace(groups=(SALES,)), False, id="a group covers nobody else"),
        pytest.param(STAFF.party, TO_JOE, False, id="a group does not cover outside"),
        pytest.param(STAFF.party, None, False, id="a group waits for a recipient"),
        pytest.param(pattern_party("@example.net"), TO_JOE, True, id="a pattern covers what matches it"),
        pytest.param(pattern_party("joe@"), TO_JOE, True, id="a local part covers it in any domain"),
        pytest.param(pattern_party("bob@example.com"), TO_BOB, True, id="a pattern covers an address of ours"),
        pytest.param(pattern_party("@.example.net"), TO_JOE, False, id="a pattern covers nothing else"),
        pytest.param(pattern_party("@example.net"), None, False, id="a pattern waits for a recipient"),
    ],
)
def test_entry_applies_to_whom_it_says(to, recipient, applies):
    """A sender blocked to one place can write to every other."""
    entry = replace(ENTRY, to=to)
    found = verdict(recipient, "alice@example.com", entry, is_insider=True)
    assert found == (blocked_by(entry) if applies else PERMITTED)


def test_entry_to_a_pattern_covers_what_postfix_takes_for_a_match():
    """For a block it is enough that it might be the one."""
    street = Identity("joe@straße.net", (split_address("joe@straße.net"),), (split_address("joe@strasse.net"),))
    assert rule(street, "x@y.example", replace(ENTRY, to=pattern_party("@strasse.net"))) is Rule.BLOCKED_SENDER
    excepted = replace(ENTRY, to=OUTSIDE, allowed=parties("@strasse.net"))
    assert rule(street, "x@y.example", excepted) is Rule.BLOCKED_SENDER


@pytest.mark.parametrize("is_insider", [True, False], ids=["an insider", "an outsider"])
def test_entry_holds_for_insiders_and_outsiders(is_insider):
    """The outbound restriction is about our own people, above all."""
    assert verdict(TO_JOE, "alice@example.com", ENTRY, is_insider=is_insider) == blocked_by(ENTRY)


def test_block_stands_before_the_rules_of_the_recipient():
    """Neither an accepting mailbox nor an accept list lets a blocked sender in."""
    restricted = somebody("bob@example.com", BOB._replace(receive=Receive.INSIDERS))
    facts = FixedFacts({"mailbox": parties("@example.org")})
    assert rule(restricted, "eve@example.org", facts=facts) is Rule.ACCEPTED_SENDER
    assert verdict(restricted, "eve@example.org", ENTRY, facts=facts) == blocked_by(ENTRY)
    assert verdict(TO_NOBODY, "eve@example.org", ENTRY) == blocked_by(ENTRY)


@pytest.mark.parametrize(
    ("until", "applies"),
    [
        pytest.param(None, True, id="without an end"),
        pytest.param(NOW + 1, True, id="one second before its end"),
        pytest.param(NOW, False, id="at its end"),
        pytest.param(NOW - 1, False, id="one second after its end"),
        pytest.param(0, False, id="an end at the beginning of time"),
    ],
)
def test_entry_ends_at_its_second(until, applies):
    """A block until Monday, 9 o'clock, is gone on Monday at 9 o'clock."""
    entry = replace(ENTRY, until=until)
    assert verdict(TO_JOE, "alice@example.com", entry) == (blocked_by(entry) if applies else PERMITTED)


# --- Exceptions


@pytest.mark.parametrize(
    ("excepted", "recipient", "is_excepted"),
    [
        pytest.param(pattern_party("joe@example.net"), TO_JOE, True, id="an address"),
        pytest.param(pattern_party("joe@example.net"), somebody("JOE+x@Example.NET"), True, id="one with an extension"),
        pytest.param(pattern_party("@example.net"), TO_JOE, True, id="a domain"),
        pytest.param(pattern_party("@.net"), TO_JOE, True, id="the subdomains of a domain"),
        pytest.param(pattern_party("joe@"), TO_JOE, True, id="a local part"),
        pytest.param(BOB.party, TO_BOB, True, id="a mailbox"),
        pytest.param(STAFF.party, TO_BOB._replace(groups=(STAFF,)), True, id="a group"),
        pytest.param(pattern_party("ann@example.net"), TO_JOE, False, id="another address"),
        pytest.param(pattern_party("@.example.net"), TO_JOE, False, id="subdomains only"),
        pytest.param(pattern_party("bob@"), NOWHERE, False, id="an address without a domain matches no pattern"),
        pytest.param(pattern_party("<>"), TO_JOE, False, id="the null sender is no recipient"),
        pytest.param(CAROL.party, TO_BOB, False, id="another mailbox"),
        pytest.param(SALES.party, TO_BOB._replace(groups=(STAFF,)), False, id="another group"),
    ],
)
def test_entry_leaves_its_exceptions_alone(excepted, recipient, is_excepted):
    """A blocked sender may still write to the partner that was excepted."""
    entry = replace(ENTRY, allowed=frozenset({excepted, pattern_party("x@y.example")}))
    expected = PERMITTED if is_excepted else blocked_by(entry)
    assert verdict(recipient, "alice@example.com", entry) == expected


def test_entry_with_exceptions_waits_for_the_recipient():
    """At MAIL nobody can say that the recipient won't be the excepted partner."""
    entry = replace(ENTRY, allowed=parties("@partner.example"))
    assert verdict(None, "alice@example.com", entry) == PERMITTED
    assert verdict(TO_JOE, "alice@example.com", entry) == blocked_by(entry)


def test_entry_with_exceptions_by_sender_waits_for_mail():
    """Before MAIL nobody can say that the sender won't be the excepted one."""
    entry = replace(ENTRY, allowed_senders=parties("eve@example.org"))
    assert verdict(None, "", entry) == PERMITTED
    assert verdict(None, "", entry, is_null=True) == blocked_by(entry)
    assert verdict(None, "x@y.example", entry) == blocked_by(entry)
    assert verdict(TO_JOE, "eve@example.org", entry) == PERMITTED


def test_exception_by_sender_is_for_who_is_certainly_excepted():
    """`@example.com` is blocked except the boss: who writes the boss's address into MAIL FROM is not the boss."""
    entry = replace(ENTRY, who=pattern_party("@example.com"), allowed_senders=frozenset({ALICE.party}))
    alice = somebody("alice@example.com", ALICE)
    assert rule(TO_JOE, alice, entry) is Rule.BLOCKED_SENDER
    assert rule(TO_JOE, alice, entry, login=somebody("bob@example.com", BOB)) is Rule.BLOCKED_SENDER
    assert rule(TO_JOE, alice, entry, login=alice) is Rule.DEFAULT
    assert rule(TO_JOE, alice, entry, is_insider=True) is Rule.DEFAULT


def test_exception_to_one_entry_is_none_to_another():
    """Two orders of the administrator stand side by side: any one that applies refuses."""
    mild = replace(ENTRY, to=OUTSIDE, allowed=parties("@example.net"))
    strict = BlockedSender(pattern_party("@example.com"), OUTSIDE, id=11)
    assert verdict(TO_JOE, "alice@example.com", mild, strict) == blocked_by(strict)


# --- Which entry is named

BY_SPECIFICITY = [
    ("a mailbox", ALICE.party),
    ("a group", STAFF.party),
    ("an address", pattern_party("alice@mail.example.com")),
    ("a local part", pattern_party("alice@")),
    ("a domain", pattern_party("@mail.example.com")),
    ("subdomains of a long domain", pattern_party("@.mail.example.com")),
    ("subdomains of a shorter domain", pattern_party("@.example.com")),
    ("subdomains of a top-level domain", pattern_party("@.com")),
    ("anyone", ANYONE),
]


@pytest.mark.parametrize(
    ("narrower", "wider"),
    [
        pytest.param(narrower, wider, id=f"{one} before {other}")
        for (one, narrower), (other, wider) in pairwise(BY_SPECIFICITY)
    ],
)
def test_refusal_names_the_more_specific_entry(narrower, wider):
    """The sender reads the reason that is meant for them, though a wider entry is older."""
    newer = BlockedSender(narrower, ANYONE, created_at=9, id=9)
    older = BlockedSender(wider, ANYONE, created_at=1, id=1)
    assert verdict(TO_BOB, "x@y.example", newer, older) == blocked_by(newer)
    assert verdict(TO_BOB, "x@y.example", older, newer) == blocked_by(newer)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((1, 9), (2, 8), id="by when it was made"),
        pytest.param((1, 8), (1, 9), id="of the same second by its number"),
    ],
)
def test_of_equals_the_oldest_is_named(first, second):
    """The same sender reads the same reason from one day to the next, to whomever the entries are."""
    old, new = (replace(ENTRY, created_at=at, id=number) for at, number in (first, second))
    new = replace(new, to=BOB.party)
    assert verdict(TO_BOB, "x@y.example", new, old) == verdict(TO_BOB, "x@y.example", old, new) == blocked_by(old)


def test_the_null_sender_ranks_as_an_address():
    """It is as narrow as an entry can be without a mailbox or group."""
    null = BlockedSender(pattern_party("<>"), ANYONE, created_at=2, id=2)
    local = BlockedSender(pattern_party("alice@"), ANYONE, created_at=1, id=1)
    assert verdict(TO_BOB, "", local, null, is_null=True) == blocked_by(null)
    assert verdict(TO_BOB, "", ENTRY, null, is_null=True) == blocked_by(ENTRY)


def test_an_entry_that_does_not_apply_hides_none_that_does():
    """A narrow entry that has expired is not the answer."""
    expired = replace(ENTRY, until=NOW)
    wide = BlockedSender(pattern_party("@.com"), ANYONE, id=12)
    assert verdict(TO_BOB, "alice@example.com", expired, wide) == blocked_by(wide)


def test_entry_that_login_and_sender_match_counts_once():
    """It is one entry, and one line of the trace."""
    asked = question(TO_BOB, "alice@example.com", ENTRY)
    twice = asked._replace(entries=asked.entries * 2)
    assert trace_of(twice) == trace_of(asked) == ["entry 10: alice may not send to anyone: applies"]
    assert judge(twice, POLICY, NO_FACTS, NOW) == blocked_by(ENTRY)


# --- 3. Recipients in a managed domain


@pytest.mark.parametrize(
    ("domain", "is_insider", "expected"),
    [
        pytest.param(OURS, False, UNLISTED, id="refused from outside"),
        pytest.param(OURS, True, PERMITTED, id="left to Postfix from an insider"),
        pytest.param(LENIENT, False, PERMITTED, id="left to Postfix where the domain accepts"),
        pytest.param(LENIENT, True, PERMITTED, id="left to Postfix where both hold"),
    ],
)
def test_address_of_no_mailbox_is(domain, is_insider, expected):
    """To take an address from the table is the inbound restriction; insiders may still use it."""
    assert verdict(somebody("nobody@example.com", domain=domain), is_insider=is_insider) == expected


BY_MAILBOX = {receive: Restriction(receive, "mailbox") for receive in Receive}
PARTNER = {"mailbox": parties("eve@example.org")}


@pytest.mark.parametrize(
    ("receive", "accepted", "is_insider", "rule_", "by"),
    [
        pytest.param(Receive.INHERIT, {}, False, Rule.DEFAULT, "", id="nothing is said, from outside"),
        pytest.param(Receive.ANYONE, {}, False, Rule.DEFAULT, "", id="anyone, from outside"),
        pytest.param(Receive.ANYONE, {}, True, Rule.DEFAULT, "", id="anyone, from an insider"),
        pytest.param(Receive.ANYONE, PARTNER, False, Rule.DEFAULT, "", id="anyone, with an idle accept list"),
        pytest.param(Receive.INSIDERS, {}, True, Rule.DEFAULT, "mailbox", id="insiders, from an insider"),
        pytest.param(Receive.INSIDERS, {}, False, Rule.RESTRICTED_RECIPIENT, "mailbox", id="insiders, from outside"),
        pytest.param(Receive.INSIDERS, PARTNER, False, Rule.ACCEPTED_SENDER, "mailbox", id="insiders, accepted"),
        pytest.param(Receive.INSIDERS, PARTNER, True, Rule.DEFAULT, "mailbox", id="insiders, an accepted insider"),
        pytest.param(Receive.NOBODY, {}, True, Rule.RESTRICTED_RECIPIENT, "mailbox", id="nobody, from an insider"),
        pytest.param(Receive.NOBODY, {}, False, Rule.RESTRICTED_RECIPIENT, "mailbox", id="nobody, from outside"),
        pytest.param(Receive.NOBODY, PARTNER, True, Rule.ACCEPTED_SENDER, "mailbox", id="nobody, an accepted insider"),
        pytest.param(Receive.NOBODY, PARTNER, False, Rule.ACCEPTED_SENDER, "mailbox", id="nobody, accepted"),
        pytest.param(Receive.DOMAIN, {}, True, Rule.RESTRICTED_RECIPIENT, "mailbox", id="domain, another insider"),
        pytest.param(Receive.DOMAIN, PARTNER, False, Rule.ACCEPTED_SENDER, "mailbox", id="domain, accepted"),
    ],
)
def test_mailbox_receives_from(receive, accepted, is_insider, rule_, by):
    """The restriction says who may write; its accept list who may all the same."""
    found = verdict(
        somebody("bob@example.com", BOB._replace(receive=receive)), is_insider=is_insider, facts=FixedFacts(accepted)
    )
    assert (found.rule, found.restriction.by) == (rule_, by)
    assert found.is_refused is (rule_ is Rule.RESTRICTED_RECIPIENT)


@pytest.mark.parametrize("receive", [Receive.INSIDERS, Receive.DOMAIN, Receive.NOBODY])
@pytest.mark.parametrize(
    ("until", "expected"),
    [
        pytest.param(NOW + 1, Rule.RESTRICTED_RECIPIENT, id="one second before its end"),
        pytest.param(NOW, Rule.DEFAULT, id="at its end"),
        pytest.param(NOW - 1, Rule.DEFAULT, id="after its end"),
    ],
)
def test_restriction_ends_at_its_second(receive, until, expected):
    """A mailbox restricted for the holidays is open after them, without anybody's doing; so are groups and domains."""
    terms = {"receive": receive, "until": until}
    assert rule(somebody("bob@example.com", BOB._replace(**terms))) is expected
    assert rule(somebody("bob@example.com", BOB, groups=(replace(STAFF, **terms),))) is expected
    assert rule(somebody("bob@example.com", BOB, replace(OURS, **terms))) is expected


# --- Whose restriction it is


NOBODY, DOMAIN, INSIDERS = Receive.NOBODY, Receive.DOMAIN, Receive.INSIDERS


def group(name, receive=Receive.ANYONE, **terms):
    """A group, with a number of its own for each name."""
    return Group(name, receive, **terms, id=sum(name.encode()))


@pytest.mark.parametrize(
    ("own", "groups", "domain", "expected"),
    [
        pytest.param({}, [], {}, ("anyone", ""), id="of nobody"),
        pytest.param(
            {"receive": INSIDERS}, [group("a", NOBODY)], {"receive": NOBODY}, ("insiders", "mailbox"), id="own"
        ),
        pytest.param(
            {"receive": Receive.ANYONE}, [group("a", NOBODY)], {"receive": NOBODY}, ("anyone", ""), id="opened"
        ),
        pytest.param({}, [group("a", INSIDERS)], {"receive": NOBODY}, ("insiders", "group:a"), id="a group's"),
        pytest.param({}, [group("a")], {"receive": NOBODY}, ("nobody", "domain"), id="the domain's: a group has none"),
        pytest.param({}, [], {"receive": DOMAIN}, ("domain", "domain"), id="the domain's"),
        pytest.param(
            {},
            [group("a", INSIDERS), group("b", NOBODY), group("c", DOMAIN)],
            {},
            ("nobody", "group:b"),
            id="strictest",
        ),
        pytest.param(
            {}, [group("a", INSIDERS), group("b", DOMAIN)], {}, ("domain", "group:b"), id="domain is stricter"
        ),
        pytest.param(
            {}, [group("b", NOBODY), group("A", NOBODY)], {}, ("nobody", "group:A"), id="first by folded name"
        ),
        pytest.param({}, [group("a", NOBODY), group("Ä", NOBODY)], {}, ("nobody", "group:a"), id="in code points"),
        pytest.param(
            {},
            [group("a", NOBODY, until=NOW), group("b", INSIDERS)],
            {},
            ("insiders", "group:b"),
            id="an ended group's",
        ),
        pytest.param(
            {"receive": NOBODY, "until": NOW}, [group("a", INSIDERS)], {}, ("insiders", "group:a"), id="the own is over"
        ),
        pytest.param(
            {"receive": Receive.ANYONE, "until": NOW}, [], {"receive": NOBODY}, ("nobody", "domain"), id="opened once"
        ),
        pytest.param(
            {},
            [group("a", NOBODY, until=NOW)],
            {"receive": INSIDERS},
            ("insiders", "domain"),
            id="all groups' are over",
        ),
        pytest.param({}, [], {"receive": NOBODY, "until": NOW}, ("anyone", ""), id="the domain's is over"),
    ],
)
def test_restriction_is_that_of(own, groups, domain, expected):
    """What is said of the mailbox itself stands before its groups, and those before the domain."""
    recipient = somebody("bob@example.com", BOB._replace(**own), replace(OURS, **domain), tuple(groups))
    found = restriction_of(recipient, NOW)
    assert (found.receive, found.by) == expected
    again = restriction_of(recipient._replace(groups=tuple(reversed(groups))), NOW)
    assert again == found


def test_groups_that_are_equally_strict_count_together():
    """Two lists of who may write: who is on either may; but not who is on that of a laxer group."""
    facts = FixedFacts(
        {
            "mailbox": parties("own@x.example"),
            "group 97": parties("a@x.example"),
            "group 98": parties("b@x.example"),
            "group 99": parties("c@x.example"),
            "example.com": parties("domain@x.example"),
        }
    )
    groups = (group("a", NOBODY, reason="the first"), group("b", NOBODY, reason="the second"), group("c", INSIDERS))
    recipient = somebody("bob@example.com", BOB, replace(OURS, receive=NOBODY), groups)
    asked = {sender: verdict(recipient, f"{sender}@x.example", facts=facts) for sender in ("own", *"abc", "domain")}
    assert {sender for sender, found in asked.items() if found.rule is Rule.ACCEPTED_SENDER} == {"own", "a", "b"}
    assert asked["c"].restriction.reason == "the first"


def test_accepted_senders_of_the_mailbox_count_whosever_restriction_it_is():
    """The assistant of one manager writes to her, though the managers' list is closed to all but the board."""
    facts = FixedFacts({"mailbox": parties("eve@example.org"), "example.com": parties("ann@example.org")})
    recipient = somebody("bob@example.com", BOB, replace(OURS, receive=NOBODY))
    for sender in ("eve@example.org", "ann@example.org"):
        found = verdict(recipient, sender, facts=facts)
        assert (found.rule, found.restriction.by) == (Rule.ACCEPTED_SENDER, "domain")


@pytest.mark.parametrize("is_insider", [True, False])
def test_unlisted_recipients_of_an_accepting_domain_are_judged_by_it(is_insider):
    """A catch-all is behind the domain's restriction, as its mailboxes are."""
    closed = replace(LENIENT, receive=NOBODY, reason="closed")
    facts = FixedFacts({"example.com": parties("eve@example.org")})
    found = verdict(somebody("x@example.com", domain=closed), "ann@example.org", is_insider=is_insider, facts=facts)
    assert (found.rule, found.restriction.by, found.restriction.reason) == (
        Rule.RESTRICTED_RECIPIENT,
        "domain",
        "closed",
    )
    assert rule(somebody("x@example.com", domain=closed), facts=facts) is Rule.ACCEPTED_SENDER
    insiders = somebody("x@example.com", domain=replace(LENIENT, receive=INSIDERS))
    expected = Rule.DEFAULT if is_insider else Rule.RESTRICTED_RECIPIENT
    assert rule(insiders, is_insider=is_insider) is expected


def test_unlisted_recipients_of_a_rejecting_domain_are_not_judged_by_it():
    """They get 5.1.1 from outside, whatever the domain says of its mailboxes; insiders may try."""
    closed = somebody("x@example.com", domain=replace(OURS, receive=NOBODY))
    assert rule(closed) is Rule.UNLISTED_RECIPIENT
    assert verdict(closed, is_insider=True) == PERMITTED


# --- receive = domain


@pytest.mark.parametrize(
    ("client", "is_let_in"),
    [
        pytest.param({"login": somebody("alice@example.com", ALICE)}, True, id="a mailbox with an address in it"),
        pytest.param({"login": Identity("alice", mailbox=ALICE)}, True, id="found by its name"),
        pytest.param(
            {"login": somebody("carol@example.com", CAROL)}, False, id="a mailbox with none, wherever it wrote"
        ),
        pytest.param({"login": somebody("svc@example.com")}, True, id="a login in it that is no mailbox"),
        pytest.param({"login": somebody("svc@example.net")}, False, id="a login elsewhere"),
        pytest.param({"login": Identity("svc")}, False, id="a login without a domain"),
        pytest.param(
            {"sender": somebody("alice@example.com", ALICE), "is_insider": True}, True, id="an insider's sender"
        ),
        pytest.param({"sender": somebody("alice@example.com", ALICE)}, False, id="an outsider's sender"),
        pytest.param({"sender": "", "is_null": True, "is_insider": True}, False, id="an insider's null sender"),
    ],
)
def test_mailbox_receives_from_its_own_domains(client, is_let_in):
    """Where several customers share a server, one's people are insiders to another, but not colleagues."""
    facts = FixedFacts(addresses={1: ("bob@example.com",), 2: ("carol@other.example",), 3: ("alice@example.com",)})
    options = {"sender": "eve@example.org", **client}
    for recipient in (
        somebody("bob@example.com", BOB._replace(receive=DOMAIN)),
        somebody("x@example.com", domain=replace(LENIENT, receive=DOMAIN)),
    ):
        found = rule(recipient, options["sender"], **{k: v for k, v in options.items() if k != "sender"}, facts=facts)
        assert found is (Rule.DEFAULT if is_let_in else Rule.RESTRICTED_RECIPIENT)


# --- Accepted senders


@pytest.mark.parametrize("receive", [Receive.INSIDERS, Receive.NOBODY])
@pytest.mark.parametrize(
    ("pattern", "sender", "is_accepted"),
    [
        pytest.param("eve@example.org", "Eve+x@Example.Org", True, id="an address in any case, with an extension"),
        pytest.param("@example.org", "ann@example.org", True, id="a domain"),
        pytest.param("@.example.org", "ann@a.example.org", True, id="subdomains"),
        pytest.param("eve@", "eve@any.example", True, id="a local part"),
        pytest.param("<>", "", True, id="the null sender"),
        pytest.param("@example.org", "\udcff@example.org", True, id="a domain, from a local part not in UTF-8"),
        pytest.param("@example.org", "ann@a.example.org", False, id="not subdomains for a domain"),
        pytest.param("@.example.org", "ann@example.org", False, id="not the domain for its subdomains"),
        pytest.param("eve@example.org", "", False, id="not the null sender for an address"),
        pytest.param("<>", "eve@example.org", False, id="not an address for the null sender"),
        pytest.param("eve@", "eve", False, id="not a sender without a domain"),
        pytest.param("@example.com", "ann@example.com", False, id="not a domain of ours that nobody proves"),
    ],
)
def test_foreign_sender_is_accepted_as_it_is_written(receive, pattern, sender, is_accepted):
    """A partner on the list gets through, and only the partner."""
    assert normal_pattern(pattern) == pattern
    facts = FixedFacts({"mailbox": parties(pattern, "x@y.example")})
    mailbox = BOB._replace(receive=receive)
    expected = Rule.ACCEPTED_SENDER if is_accepted else Rule.RESTRICTED_RECIPIENT
    assert rule(somebody("bob@example.com", mailbox), sender, is_null=not sender, facts=facts) is expected


AS_ALICE = somebody("alice@example.com", ALICE, groups=(STAFF,))
AS_BOB = somebody("bob@example.com", CAROL)


@pytest.mark.parametrize(
    ("accepted", "client", "is_accepted"),
    [
        pytest.param(ALICE.party, {"login": AS_ALICE}, True, id="a mailbox: its login"),
        pytest.param(
            ALICE.party, {"login": AS_ALICE, "sender": "x@y.example"}, True, id="its login, whatever is written"
        ),
        pytest.param(ALICE.party, {"login": AS_ALICE, "sender": "", "is_null": True}, True, id="its login, as <>"),
        pytest.param(ALICE.party, {"sender": AS_ALICE, "is_insider": True}, True, id="an insider's sender"),
        pytest.param(ALICE.party, {"sender": AS_ALICE}, False, id="not an outsider's sender"),
        pytest.param(ALICE.party, {"sender": AS_ALICE, "login": AS_BOB}, False, id="not the sender of another login"),
        pytest.param(STAFF.party, {"login": AS_ALICE}, True, id="a group: the login of who is in it"),
        pytest.param(STAFF.party, {"sender": AS_ALICE}, False, id="a group: not an outsider's sender"),
        pytest.param(SALES.party, {"login": AS_ALICE}, False, id="a group: not who isn't in it"),
        pytest.param(pattern_party("alice@example.com"), {"login": AS_ALICE}, True, id="an address: its login"),
        pytest.param(
            pattern_party("alice@example.com"), {"sender": AS_ALICE}, False, id="not an outsider's sender there"
        ),
        pytest.param(pattern_party("boss@example.com"), {"login": AS_ALICE}, True, id="another address of the mailbox"),
        pytest.param(
            pattern_party("@example.org"), {"login": AS_BOB, "sender": "eve@example.org"}, True, id="a foreign sender"
        ),
        pytest.param(
            pattern_party("alice+x@example.com"),
            {"login": AS_ALICE, "sender": somebody("alice+x@example.com", ALICE)},
            True,
            id="what the proven mailbox wrote",
        ),
        pytest.param(
            pattern_party("alice+x@example.com"),
            {"login": AS_BOB, "sender": somebody("alice+x@example.com", ALICE)},
            False,
            id="not what another wrote",
        ),
        pytest.param(
            pattern_party("svc@example.com"), {"login": somebody("svc@example.com")}, True, id="no mailbox's login"
        ),
    ],
)
def test_accepted_is_who_certainly_is_on_the_list(accepted, client, is_accepted):
    """An accepted colleague is let in by what is proven; whoever writes their address into MAIL FROM is not."""
    facts = FixedFacts({"mailbox": frozenset({accepted})}, {3: ("alice@example.com", "boss@example.com")})
    options = {"sender": "x@y.example", **client}
    sender = options.pop("sender")
    expected = Rule.ACCEPTED_SENDER if is_accepted else Rule.RESTRICTED_RECIPIENT
    assert rule(somebody("b@example.com", BOB._replace(receive=NOBODY)), sender, **options, facts=facts) is expected


def test_a_recipient_without_a_sender_yet_is_not_accepted():
    """Before MAIL there is no null sender to accept."""
    facts = FixedFacts({"mailbox": parties("<>")})
    assert rule(somebody("bob@example.com", BOB._replace(receive=NOBODY)), "", facts=facts) is Rule.RESTRICTED_RECIPIENT


# --- 4. Default


@pytest.mark.parametrize(
    "recipient", [TO_JOE, NOWHERE, None], ids=["outside", "an address without a domain", "no recipient yet"]
)
def test_without_an_entry_there_is_no_opinion_outside_managed_domains(recipient):
    """policyd never stands in the way of what it doesn't manage."""
    assert verdict(recipient) == PERMITTED
    assert verdict(recipient, "", is_null=True) == PERMITTED


# --- The trace


def trace_of(asked, facts=NO_FACTS, now=NOW):
    """What `check` prints of the rules."""
    steps = []
    judge(asked, POLICY, facts, now, lambda step, *values: steps.append(step.format(*values)))
    return steps


BOB_CLOSED = somebody("bob@example.com", BOB._replace(receive=INSIDERS))
NOT_PROVEN = "proven: nobody; an envelope sender counts only in a domain that is not managed"


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        pytest.param(
            question(somebody("postmaster@example.com"), "", ENTRY),
            ["recipient: postmaster@example.com is always accepted"],
            id="always accepted",
        ),
        pytest.param(question(TO_JOE), [], id="nothing to say"),
        pytest.param(
            question(TO_NOBODY), ["recipient: unlisted, which example.com rejects"], id="an unlisted recipient"
        ),
        pytest.param(
            question(TO_NOBODY, is_insider=True),
            ["recipient: unlisted, which an insider may try"],
            id="an unlisted recipient from an insider",
        ),
        pytest.param(
            question(somebody("x@example.com", domain=LENIENT)),
            ["recipient: unlisted, which example.com accepts"],
            id="an unlisted recipient where that is accepted",
        ),
        pytest.param(
            question(somebody("x@example.com", domain=replace(LENIENT, receive=NOBODY))),
            [
                "recipient: unlisted, which example.com accepts",
                "domain example.com: receives from nobody",
                NOT_PROVEN,
                "domain example.com: accepts @example.org",
            ],
            id="an unlisted recipient where that is accepted from some",
        ),
        pytest.param(question(TO_BOB), ["mailbox bob: receives from anyone"], id="a mailbox that inherits nothing"),
        pytest.param(
            question(somebody("bob@example.com", BOB._replace(receive=Receive.ANYONE))),
            ["mailbox bob: receives from anyone"],
            id="an open mailbox",
        ),
        pytest.param(
            question(somebody("bob@example.com", BOB._replace(receive=NOBODY, until=NOW))),
            ["mailbox bob: receives from anyone: the restriction has expired"],
            id="an expired restriction",
        ),
        pytest.param(
            question(BOB_CLOSED),
            ["mailbox bob: receives from insiders", NOT_PROVEN, "mailbox bob: accepts @example.org"],
            id="an accepted sender",
        ),
        pytest.param(
            question(BOB_CLOSED, is_insider=True), ["mailbox bob: receives from insiders"], id="an insider let in"
        ),
        pytest.param(
            question(
                somebody("bob@example.com", BOB, replace(OURS, receive=DOMAIN), (replace(STAFF, receive=NOBODY),)),
                login=AS_ALICE,
            ),
            [
                "mailbox bob: receives from nobody, as group:Staff says",
                "proven: mailbox alice, by the login",
                "mailbox bob: accepts group:Staff",
            ],
            id="an inherited restriction",
        ),
        pytest.param(
            question(
                somebody(
                    "bob@example.com", BOB, replace(OURS, receive=DOMAIN), (replace(STAFF, receive=NOBODY, until=1),)
                ),
                somebody("svc@example.com"),
                is_insider=True,
            ),
            [
                "group:Staff: the restriction has expired",
                "mailbox bob: receives from its own domains, as domain example.com says",
                "proven: svc@example.com, by the envelope sender of an insider",
                "mailbox bob: is in example.com, too",
            ],
            id="a shared domain",
        ),
        pytest.param(
            question(somebody("bob@example.com", BOB, replace(OURS, receive=NOBODY, until=NOW))),
            ["domain example.com: the restriction has expired", "mailbox bob: receives from anyone"],
            id="an expired restriction of the domain",
        ),
    ],
)
def test_trace_tells_what_decided(asked, steps):
    """The administrator sees why a rule has no effect, where a restriction comes from, and what proved the sender."""
    everywhere = parties("@example.org") | {STAFF.party}
    facts = FixedFacts({"mailbox": everywhere, "example.com": everywhere}, {1: ("bob@example.com",)})
    assert trace_of(asked, facts) == steps


@pytest.mark.parametrize(
    ("place", "says"),
    [
        pytest.param("mailbox", "", id="the mailbox's own"),
        pytest.param(f"group {STAFF.id}", ", as group:Staff says", id="the group's"),
        pytest.param("example.com", ", as domain example.com says", id="the domain's"),
    ],
)
def test_trace_says_whose_list_lets_the_sender_in(place, says):
    """Who is to be taken off must be taken off there: a mailbox's own list may be empty."""
    groups = (
        ()
        if place == "example.com"
        else (replace(STAFF, id=8, name="Aaa", receive=DOMAIN), replace(STAFF, receive=NOBODY))
    )
    asked = question(somebody("bob@example.com", BOB, replace(OURS, receive=NOBODY), groups), sender="eve@example.org")
    steps = trace_of(asked, FixedFacts({place: parties("@example.org")}))
    assert steps[-1] == f"mailbox bob: accepts @example.org{says}"


@pytest.mark.parametrize("receive", [NOBODY, Receive.ANYONE])
@pytest.mark.parametrize("groups", [(), True])
def test_trace_says_that_what_the_mailbox_said_is_over(receive, groups):
    """`mailbox show` has a restriction: the trace says why another one counts."""
    bob = BOB._replace(receive=receive, until=NOW)
    asked = question(
        somebody(
            "bob@example.com", bob, replace(OURS, receive=NOBODY), (replace(STAFF, receive=NOBODY),) if groups else ()
        )
    )
    by = "group:Staff" if groups else "domain example.com"
    assert f"mailbox bob: receives from nobody, as {by} says; what it said itself has expired" in trace_of(asked)


@pytest.mark.parametrize(
    ("change", "recipient", "reason"),
    [
        pytest.param({}, TO_JOE, "applies", id="applies"),
        pytest.param({"until": NOW}, TO_JOE, "expired", id="expired"),
        pytest.param({"to": OUTSIDE}, TO_BOB, "the recipient is not outside", id="not outside"),
        pytest.param({"to": OUTSIDE}, None, "there is no recipient yet", id="no recipient"),
        pytest.param({"to": CAROL.party}, TO_BOB, "the recipient is another", id="another"),
        pytest.param({"to": STAFF.party}, TO_BOB, "the recipient is another", id="not in the group"),
        pytest.param({"allowed": parties("joe@example.net", "@.net")}, TO_JOE, "except joe@example.net", id="except"),
        pytest.param(
            {"allowed": parties("@x.example")},
            None,
            "it has exceptions, and there is no recipient yet",
            id="exceptions and no recipient",
        ),
        pytest.param(
            {"allowed_senders": parties("eve@example.org", "@.org")}, TO_JOE, "except from eve@example.org", id="from"
        ),
    ],
)
def test_trace_tells_of_each_entry_why_it_does_not_apply(change, recipient, reason):
    """Nobody has to guess which condition an entry failed."""
    entry = replace(ENTRY, **change)
    asked = question(recipient, "eve@example.org", entry)
    assert f"entry 10: alice may not send to {entry.to}: {reason}" in trace_of(asked)
    assert why_not_applicable(entry, asked, NO_FACTS, NOW) == ("" if reason == "applies" else reason)


def test_trace_tells_that_an_entry_waits_for_mail():
    """A question at CONNECT is no answer to what MAIL FROM will be."""
    entry = replace(ENTRY, allowed_senders=parties("eve@example.org"))
    assert trace_of(question(None, "", entry)) == [
        "entry 10: alice may not send to anyone: it has exceptions by sender, and there is no sender yet"
    ]


def test_trace_counts_entries_to_others_beyond_the_first_twenty():
    """A list of five thousand forbidden addresses is no explanation."""
    many = [replace(ENTRY, to=pattern_party(f"x{number}@y.example"), id=number) for number in range(100, 150)]
    steps = trace_of(question(TO_BOB, "alice@example.com", *many, replace(ENTRY, to=BOB.party, id=999)))
    assert steps[0] == "30 more entries are to other recipients"
    assert len(steps) == 22
    assert steps[-1] == "entry 999: alice may not send to bob: applies"


# --- What holds for every question


texts = st.sampled_from(["<>", "@example.org", "eve@", "eve@example.org", "@.org", "@example.net", "@.com"])
listed = st.frozensets(
    texts.map(pattern_party) | st.sampled_from([BOB.party, CAROL.party, ALICE.party, STAFF.party, SALES.party]),
    max_size=2,
)
untils = st.sampled_from([None, NOW - 1, NOW, NOW + 1])
domains = st.builds(
    Domain,
    st.just("example.com"),
    st.sampled_from(Unlisted),
    receive=st.sampled_from([each for each in Receive if each is not Receive.INHERIT]),
    until=untils,
)
mailboxes = st.builds(
    Holder._replace,
    st.sampled_from([BOB, CAROL, ALICE]),
    receive=st.sampled_from(Receive),
    until=untils,
)
groups_ = st.lists(
    st.builds(replace, st.sampled_from([STAFF, SALES]), receive=st.sampled_from(Receive), until=untils),
    max_size=2,
    unique_by=lambda each: each.id,
).map(tuple)
recipients = st.none() | st.builds(
    somebody,
    st.sampled_from(["bob@example.com", "joe@example.net", "postmaster@example.com", "bob"]),
    st.none() | mailboxes,
    domains,
    groups_,
)
clients = st.none() | st.builds(
    somebody,
    st.sampled_from(["eve@example.org", "eve", "\udcff@example.org", "alice@example.com"]),
    st.none() | mailboxes,
    domains,
    groups_,
)
entries = st.builds(
    BlockedSender,
    who=texts.map(pattern_party) | st.sampled_from([ALICE.party, STAFF.party, ANYONE]),
    to=st.sampled_from([ANYONE, OUTSIDE, BOB.party, STAFF.party, pattern_party("@example.net")]),
    until=untils,
    allowed=listed,
    allowed_senders=listed,
    created_at=st.integers(0, 3),
    id=st.integers(1, 9),
)
questions = st.builds(
    lambda recipient, sender, login, is_null, is_insider, found: question(
        recipient, sender, *found, login=login, is_null=is_null, is_insider=is_insider
    ),
    recipients,
    clients,
    clients,
    st.booleans(),
    st.booleans(),
    st.lists(entries, max_size=4, unique_by=lambda entry: entry.id),
)
facts_ = st.builds(
    FixedFacts,
    st.dictionaries(st.sampled_from(["mailbox", "group 7", "group 8", "example.com"]), listed),
    st.dictionaries(st.integers(1, 3), st.sampled_from([("bob@example.com",), ("x@other.example", "eve@y.example")])),
)


@given(questions, facts_)
def test_refusals_come_from_the_three_refusing_rules_only(asked, facts):
    """Whatever the tables hold: each answer has one of the documented rules, and only its refusals refuse."""
    found = judge(asked, POLICY, facts, NOW)
    refusing = {Rule.BLOCKED_SENDER, Rule.UNLISTED_RECIPIENT, Rule.RESTRICTED_RECIPIENT}
    assert found.is_refused is (found.rule in refusing)
    assert (found.entry is not None) is (found.rule is Rule.BLOCKED_SENDER)
    assert bool(found.restriction.by) >= (found.rule in (Rule.RESTRICTED_RECIPIENT, Rule.ACCEPTED_SENDER))
    assert judge(asked, POLICY, facts, NOW, silent) == found
    assert judge(asked, POLICY, facts, NOW, lambda *_: None) == found, "who is told more decides no other way"


@given(questions, facts_)
def test_without_a_recipient_only_a_block_to_anyone_refuses(asked, facts):
    """Before RCPT policyd refuses nothing that a recipient could still make right."""
    found = judge(asked._replace(recipient=None), POLICY, facts, NOW)
    if found.is_refused:
        assert found.entry is not None
        assert found.entry.to == ANYONE
        assert not found.entry.allowed


@given(questions, facts_, entries)
def test_one_more_entry_opens_nothing(asked, facts, entry):
    """To block somebody can't open a door."""
    if judge(asked, POLICY, facts, NOW).is_refused:
        more = (*asked.entries, {entry.to: (replace(entry, id=10),)})
        assert judge(asked._replace(entries=more), POLICY, facts, NOW).is_refused


@given(questions, facts_, listed, st.sampled_from(["mailbox", "group 7", "group 8", "example.com"]))
def test_one_more_accepted_sender_closes_nothing(asked, facts, more, place):
    """Nor does it stand in the way of anybody to let somebody in."""
    opened = replace(facts, accepted={**facts.accepted, place: facts.accepted.get(place, frozenset()) | more})
    if not judge(asked, POLICY, facts, NOW).is_refused:
        assert not judge(asked, POLICY, opened, NOW).is_refused


@given(questions, facts_)
def test_what_has_expired_answers_as_if_it_were_not_there(asked, facts):
    """An ended block, or an ended restriction of a mailbox, a group or the domain, changes no answer."""
    kept = tuple(
        {to: tuple(each for each in found if each.until is None or each.until > NOW) for to, found in entries.items()}
        for entries in asked.entries
    )
    recipient = asked.recipient
    if recipient is not None:
        recipient = recipient._replace(
            mailbox=recipient.mailbox and _in_force(recipient.mailbox, Receive.INHERIT),
            groups=tuple(_in_force(each, Receive.ANYONE) for each in recipient.groups),
            domain=recipient.domain and _in_force(recipient.domain, Receive.ANYONE),
        )
    without = asked._replace(recipient=recipient, entries=kept)
    assert judge(without, POLICY, facts, NOW) == judge(asked, POLICY, facts, NOW)


def _in_force(thing, default):
    is_over = thing.until is not None and thing.until <= NOW
    if isinstance(thing, Holder):
        return thing._replace(receive=default, until=None) if is_over else thing
    return replace(thing, receive=default, until=None) if is_over else thing


# --- The data


@pytest.mark.parametrize("kind", PartyKind)
def test_every_kind_of_party_has_a_rank(kind):
    """What may stand in a list can be compared with all else there."""
    entry = BlockedSender(Party(kind, "@x.example"), OUTSIDE, id=1)
    assert verdict(TO_JOE, "x@y.example", entry) == blocked_by(entry)


def test_data_cant_be_changed_in_place():
    """Cached facts stay what the tables said."""
    for thing in (OURS, BOB, ENTRY, Address("a@b", "bob"), TO_BOB, POLICY, PERMITTED):
        with pytest.raises(AttributeError):
            setattr(thing, next(iter(inspect.signature(type(thing)).parameters)), "changed")
