"""The rules, one claim at a time: facts and a time in, a verdict out."""

import inspect
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.address import normal_pattern, split_address
from policyd.model import ANYONE, Address, BlockedSender, Domain, Mailbox, Receive, Rule, Unlisted
from policyd.model import OUTSIDE as TO_OUTSIDE
from policyd.rules import Identity, Policy, Question, Verdict, judge, silent, why_not_applicable
from tests.support.parties import party, party_set

NOW = 1_700_000_000
POLICY = Policy(frozenset({"postmaster"}))
OURS = Domain("example.com")
LENIENT = Domain("example.com", Unlisted.ACCEPT)
BOB = Mailbox("bob", id=1)
CAROL = Mailbox("carol", id=2)
ALICE = BlockedSender(party("alice", 3), to=ANYONE, created_at=5, id=10)

PERMITTED = Verdict(False, Rule.DEFAULT)
ACCEPTED = Verdict(False, Rule.ACCEPTED_SENDER)
UNLISTED = Verdict(True, Rule.UNLISTED_RECIPIENT)
RESTRICTED = Verdict(True, Rule.RESTRICTED_RECIPIENT)


def somebody(text, mailbox=None, domain=OURS):
    """Somebody at *text*; in example.com it is *domain* that is managed."""
    address = split_address(text, delimiters="+")
    return Identity(text, address, domain if address.domain == "example.com" else None, mailbox)


TO_BOB = somebody("bob@example.com", BOB)
TO_NOBODY = somebody("nobody@example.com")
OUTSIDE = somebody("joe@example.net")
NOWHERE = somebody("bob")  # no domain, and no origin is set


def question(recipient, sender="eve@example.org", *entries, is_insider=False, is_null=False):
    """A question by *sender*, "" for none."""
    return Question(recipient, somebody(sender) if sender else None, is_null, is_insider, entries)


def verdict(*arguments, **options):
    """What the rules say to such a question."""
    return judge(question(*arguments, **options), POLICY, NOW)


def blocked_by(entry):
    """A refusal that names *entry*."""
    return Verdict(True, Rule.BLOCKED_SENDER, entry)


# --- 1. Always accepted


@pytest.mark.parametrize(
    ("recipient", "rule"),
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
def test_nobody_is_kept_from_writing_to_postmaster(recipient, rule):
    """Who was refused can ask why: RFC 5321 demands it, and a block of everything must not prevent it."""
    assert verdict(somebody(recipient), "eve@example.org", ALICE).rule is rule


def test_postmaster_is_accepted_without_a_mailbox_and_in_spite_of_a_restriction():
    """The rule stands before all others."""
    closed = replace(BOB, receive=Receive.NOBODY)
    assert verdict(somebody("postmaster@example.com")) == Verdict(False, Rule.ALWAYS_ACCEPTED)
    assert verdict(somebody("postmaster@example.com", closed)) == Verdict(False, Rule.ALWAYS_ACCEPTED)


def test_always_accept_is_what_the_settings_say():
    """An administrator may add abuse, or take postmaster away."""
    abuse = Policy(frozenset({"abuse"}))
    assert judge(question(somebody("abuse@example.com")), abuse, NOW).rule is Rule.ALWAYS_ACCEPTED
    assert judge(question(somebody("postmaster@example.com")), abuse, NOW) == UNLISTED


def test_a_login_as_recipient_is_never_always_accepted():
    """Only an address can be postmaster's."""
    assert verdict(Identity("postmaster")) == PERMITTED


# --- 2. Blocked senders


@pytest.mark.parametrize(
    ("to", "recipient", "applies"),
    [
        pytest.param("anyone", OUTSIDE, True, id="anyone covers outside"),
        pytest.param("anyone", TO_BOB, True, id="anyone covers a mailbox"),
        pytest.param("anyone", TO_NOBODY, True, id="anyone covers an unlisted address"),
        pytest.param("anyone", NOWHERE, True, id="anyone covers an address without a domain"),
        pytest.param("anyone", None, True, id="anyone holds without a recipient"),
        pytest.param("outside", OUTSIDE, True, id="outside covers a domain that is not managed"),
        pytest.param("outside", somebody("joe@[192.0.2.1]"), True, id="outside covers an address literal"),
        pytest.param("outside", somebody("joe@-bad-"), True, id="outside covers a domain that can't be"),
        pytest.param("outside", TO_BOB, False, id="outside does not cover a mailbox"),
        pytest.param("outside", TO_NOBODY, False, id="outside does not cover an unlisted address"),
        pytest.param("outside", NOWHERE, False, id="outside does not cover an address without a domain"),
        pytest.param("outside", None, False, id="outside waits for a recipient"),
        pytest.param("bob", TO_BOB, True, id="a mailbox covers itself"),
        pytest.param("bob", somebody("other@example.com", BOB), True, id="a mailbox covers each of its addresses"),
        pytest.param("bob", somebody("carol@example.com", CAROL), False, id="a mailbox does not cover another"),
        pytest.param("bob", TO_NOBODY, False, id="a mailbox does not cover an unlisted address"),
        pytest.param("bob", OUTSIDE, False, id="a mailbox does not cover outside"),
        pytest.param("bob", None, False, id="a mailbox waits for a recipient"),
    ],
)
def test_entry_applies_to_whom_it_says(to, recipient, applies):
    """A sender blocked to one place can write to every other."""
    entry = replace(ALICE, to=party(to, BOB.id if to == "bob" else 0))
    found = verdict(recipient, "alice@example.com", entry, is_insider=True)
    assert found == (blocked_by(entry) if applies else PERMITTED)
    assert str(entry.to) == to


@pytest.mark.parametrize("is_insider", [True, False], ids=["an insider", "an outsider"])
def test_entry_holds_for_insiders_and_outsiders(is_insider):
    """The outbound restriction is about our own people, above all."""
    assert verdict(OUTSIDE, "alice@example.com", ALICE, is_insider=is_insider) == blocked_by(ALICE)


def test_block_stands_before_the_rules_of_the_recipient():
    """Neither an accepting mailbox nor an accept list lets a blocked sender in."""
    open_to_all = somebody(
        "bob@example.com", replace(BOB, receive=Receive.INSIDERS, accepted=party_set("@example.org"))
    )
    assert verdict(open_to_all, "eve@example.org", ALICE) == blocked_by(ALICE)
    assert verdict(TO_NOBODY, "eve@example.org", ALICE) == blocked_by(ALICE)


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
    entry = replace(ALICE, until=until)
    assert verdict(OUTSIDE, "alice@example.com", entry) == (blocked_by(entry) if applies else PERMITTED)


@pytest.mark.parametrize(
    ("pattern", "recipient", "is_excepted"),
    [
        pytest.param("joe@example.net", OUTSIDE, True, id="an address"),
        pytest.param("joe@example.net", somebody("JOE+x@Example.NET"), True, id="an address with an extension"),
        pytest.param("@example.net", OUTSIDE, True, id="a domain"),
        pytest.param("@.net", OUTSIDE, True, id="the subdomains of a domain"),
        pytest.param("joe@", OUTSIDE, True, id="a local part"),
        pytest.param("ann@example.net", OUTSIDE, False, id="another address"),
        pytest.param("@.example.net", OUTSIDE, False, id="subdomains only"),
        pytest.param("bob@", NOWHERE, False, id="an address without a domain matches no pattern"),
        pytest.param("<>", OUTSIDE, False, id="the null sender is no recipient"),
    ],
)
def test_entry_leaves_its_exceptions_alone(pattern, recipient, is_excepted):
    """A blocked sender may still write to the partner that was excepted."""
    entry = replace(ALICE, allowed=party_set(pattern, "x@y.example"))
    expected = PERMITTED if is_excepted else blocked_by(entry)
    assert verdict(recipient, "alice@example.com", entry) == expected


def test_entry_with_exceptions_waits_for_the_recipient():
    """At MAIL nobody can say that the recipient won't be the excepted partner."""
    entry = replace(ALICE, allowed=party_set("@partner.example"))
    assert verdict(None, "alice@example.com", entry) == PERMITTED
    assert verdict(OUTSIDE, "alice@example.com", entry) == blocked_by(entry)


def test_exception_to_one_entry_is_none_to_another():
    """Two orders of the administrator stand side by side: any one that applies refuses."""
    mild = replace(ALICE, to=TO_OUTSIDE, allowed=party_set("@example.net"))
    strict = BlockedSender(party("@example.com"), to=TO_OUTSIDE, id=11)
    assert verdict(OUTSIDE, "alice@example.com", mild, strict) == blocked_by(strict)


BY_SPECIFICITY = [
    ("a mailbox", "alice"),
    ("an address", "alice@mail.example.com"),
    ("a local part", "alice@"),
    ("a domain", "@mail.example.com"),
    ("subdomains of a long domain", "@.mail.example.com"),
    ("subdomains of a shorter domain", "@.example.com"),
    ("subdomains of a top-level domain", "@.com"),
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
    newer = BlockedSender(party(narrower), to=ANYONE, created_at=9, id=9)
    older = BlockedSender(party(wider), to=ANYONE, created_at=1, id=1)
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
    """The same sender reads the same reason from one day to the next."""
    old, new = (replace(ALICE, created_at=at, id=number) for at, number in (first, second))
    assert verdict(TO_BOB, "x@y.example", new, old) == verdict(TO_BOB, "x@y.example", old, new) == blocked_by(old)


def test_the_null_sender_ranks_as_an_address():
    """It is as narrow as an entry can be without a mailbox."""
    null = BlockedSender(party("<>"), to=ANYONE, created_at=2, id=2)
    local = BlockedSender(party("alice@"), to=ANYONE, created_at=1, id=1)
    assert verdict(TO_BOB, "", local, null, is_null=True) == blocked_by(null)
    assert verdict(TO_BOB, "", ALICE, null, is_null=True) == blocked_by(ALICE)


def test_an_entry_that_does_not_apply_hides_none_that_does():
    """A narrow entry that has expired is not the answer."""
    expired = replace(ALICE, until=NOW)
    wide = BlockedSender(party("@.com"), to=ANYONE, id=12)
    assert verdict(TO_BOB, "alice@example.com", expired, wide) == blocked_by(wide)


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


OPEN = Receive.ANYONE
ACCEPTING = {"accepted": party_set("eve@example.org")}


@pytest.mark.parametrize(
    ("terms", "is_insider", "expected"),
    [
        pytest.param({"receive": OPEN}, False, PERMITTED, id="anyone, from outside"),
        pytest.param({"receive": OPEN}, True, PERMITTED, id="anyone, from an insider"),
        pytest.param({"receive": OPEN, **ACCEPTING}, False, PERMITTED, id="anyone, with an idle accept list"),
        pytest.param({"receive": Receive.INSIDERS}, True, PERMITTED, id="insiders, from an insider"),
        pytest.param({"receive": Receive.INSIDERS}, False, RESTRICTED, id="insiders, from outside"),
        pytest.param({"receive": Receive.INSIDERS, **ACCEPTING}, False, ACCEPTED, id="insiders, accepted from outside"),
        pytest.param({"receive": Receive.INSIDERS, **ACCEPTING}, True, PERMITTED, id="insiders, an accepted insider"),
        pytest.param({"receive": Receive.NOBODY}, True, RESTRICTED, id="nobody, from an insider"),
        pytest.param({"receive": Receive.NOBODY}, False, RESTRICTED, id="nobody, from outside"),
        pytest.param({"receive": Receive.NOBODY, **ACCEPTING}, True, ACCEPTED, id="nobody, an accepted insider"),
        pytest.param({"receive": Receive.NOBODY, **ACCEPTING}, False, ACCEPTED, id="nobody, accepted from outside"),
    ],
)
def test_mailbox_receives_from(terms, is_insider, expected):
    """The restriction says who may write; its accept list who may all the same."""
    assert verdict(somebody("bob@example.com", replace(BOB, **terms)), is_insider=is_insider) == expected


@pytest.mark.parametrize("receive", [Receive.INSIDERS, Receive.NOBODY])
@pytest.mark.parametrize(
    ("until", "expected"),
    [
        pytest.param(NOW + 1, RESTRICTED, id="one second before its end"),
        pytest.param(NOW, PERMITTED, id="at its end"),
        pytest.param(NOW - 1, PERMITTED, id="after its end"),
    ],
)
def test_restriction_ends_at_its_second(receive, until, expected):
    """A mailbox restricted for the holidays is open after them, without anybody's doing."""
    assert verdict(somebody("bob@example.com", replace(BOB, receive=receive, until=until))) == expected


@pytest.mark.parametrize("receive", [Receive.INSIDERS, Receive.NOBODY])
@pytest.mark.parametrize(
    ("pattern", "sender", "expected"),
    [
        pytest.param("eve@example.org", "Eve+x@Example.Org", ACCEPTED, id="an address in any case, with an extension"),
        pytest.param("@example.org", "ann@example.org", ACCEPTED, id="a domain"),
        pytest.param("@.example.org", "ann@a.example.org", ACCEPTED, id="subdomains"),
        pytest.param("eve@", "eve@any.example", ACCEPTED, id="a local part"),
        pytest.param("<>", "", ACCEPTED, id="the null sender"),
        pytest.param("@example.org", "\udcff@example.org", ACCEPTED, id="a domain, from a local part not in UTF-8"),
        pytest.param("@example.org", "ann@a.example.org", RESTRICTED, id="not subdomains for a domain"),
        pytest.param("@.example.org", "ann@example.org", RESTRICTED, id="not the domain for its subdomains"),
        pytest.param("eve@example.org", "", RESTRICTED, id="not the null sender for an address"),
        pytest.param("<>", "eve@example.org", RESTRICTED, id="not an address for the null sender"),
        pytest.param("eve@", "eve", RESTRICTED, id="not a sender without a domain"),
    ],
)
def test_accept_list_is_matched_with_the_envelope_sender(receive, pattern, sender, expected):
    """A partner on the list gets through, and only the partner."""
    assert normal_pattern(pattern) == pattern
    mailbox = replace(BOB, receive=receive, accepted=party_set(pattern, "x@y.example"))
    assert verdict(somebody("bob@example.com", mailbox), sender, is_null=not sender) == expected


def test_a_recipient_without_a_sender_yet_is_not_accepted():
    """Before MAIL there is no null sender to accept."""
    mailbox = replace(BOB, receive=Receive.INSIDERS, accepted=party_set("<>"))
    assert verdict(somebody("bob@example.com", mailbox), "") == RESTRICTED


# --- 4. Default


@pytest.mark.parametrize(
    "recipient", [OUTSIDE, NOWHERE, None], ids=["outside", "an address without a domain", "no recipient yet"]
)
def test_without_an_entry_there_is_no_opinion_outside_managed_domains(recipient):
    """policyd never stands in the way of what it doesn't manage."""
    assert verdict(recipient) == PERMITTED
    assert verdict(recipient, "", is_null=True) == PERMITTED


# --- The trace


def trace_of(asked, now=NOW):
    """What `check` prints of the rules."""
    steps = []
    judge(asked, POLICY, now, lambda step, *values: steps.append(step.format(*values)))
    return steps


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        pytest.param(
            question(somebody("postmaster@example.com"), "", ALICE),
            ["recipient: postmaster@example.com is always accepted"],
            id="always accepted",
        ),
        pytest.param(question(OUTSIDE), [], id="nothing to say"),
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
        pytest.param(question(TO_BOB), ["mailbox bob: receives from anyone"], id="an open mailbox"),
        pytest.param(
            question(somebody("bob@example.com", replace(BOB, receive=Receive.NOBODY, until=NOW))),
            ["mailbox bob: receives from anyone: the restriction has expired"],
            id="an expired restriction",
        ),
        pytest.param(
            question(
                somebody("bob@example.com", replace(BOB, receive=Receive.INSIDERS, accepted=party_set("@example.org")))
            ),
            ["mailbox bob: receives from insiders", "mailbox bob: accepts @example.org"],
            id="an accepted sender",
        ),
    ],
)
def test_trace_tells_what_decided(asked, steps):
    """The administrator sees why a rule has no effect."""
    assert trace_of(asked) == steps


@pytest.mark.parametrize(
    ("change", "recipient", "reason"),
    [
        pytest.param({}, OUTSIDE, "applies", id="applies"),
        pytest.param({"until": NOW}, OUTSIDE, "expired", id="expired"),
        pytest.param({"to": TO_OUTSIDE}, TO_BOB, "the recipient is not outside", id="not outside"),
        pytest.param({"to": TO_OUTSIDE}, None, "there is no recipient yet", id="no recipient"),
        pytest.param({"to": CAROL.party}, TO_BOB, "the recipient is another", id="another"),
        pytest.param(
            {"allowed": party_set("joe@example.net", "@.net")}, OUTSIDE, "except joe@example.net", id="except"
        ),
        pytest.param(
            {"allowed": party_set("@x.example")},
            None,
            "it has exceptions, and there is no recipient yet",
            id="exceptions and no recipient",
        ),
    ],
)
def test_trace_tells_of_each_entry_why_it_does_not_apply(change, recipient, reason):
    """Nobody has to guess which condition an entry failed."""
    entry = replace(ALICE, **change)
    steps = trace_of(question(recipient, "alice@example.com", entry))
    assert steps[0] == f"entry 10: alice may not send to {entry.to}: {reason}"
    assert why_not_applicable(entry, recipient, NOW) == ("" if reason == "applies" else reason)


# --- What holds for every question


domains = st.sampled_from([OURS, LENIENT])
patterns = st.sampled_from(["<>", "@example.org", "eve@", "eve@example.org", "@.org", "@example.net", "@.com"]).map(
    party
)
untils = st.sampled_from([None, NOW - 1, NOW, NOW + 1])
mailboxes = st.builds(
    Mailbox,
    name=st.sampled_from(["bob", "carol"]),
    receive=st.sampled_from(Receive),
    until=untils,
    accepted=st.frozensets(patterns, max_size=2),
)
recipients = st.one_of(
    st.none(),
    st.builds(
        somebody,
        st.sampled_from(["bob@example.com", "joe@example.net", "postmaster@example.com", "bob"]),
        st.none() | mailboxes,
        domains,
    ),
)
entries = st.builds(
    BlockedSender,
    who=patterns,
    to=st.sampled_from([ANYONE, TO_OUTSIDE, party("bob"), party("carol")]),
    until=untils,
    allowed=st.frozensets(patterns, max_size=2),
    created_at=st.integers(0, 3),
    id=st.integers(1, 9),
)
questions = st.builds(
    Question,
    recipients,
    st.none() | st.builds(somebody, st.sampled_from(["eve@example.org", "eve", "\udcff@example.org"])),
    st.booleans(),
    st.booleans(),
    st.lists(entries, max_size=4).map(tuple),
)


@given(questions)
def test_refusals_come_from_the_three_refusing_rules_only(asked):
    """Whatever the tables hold: each answer has one of the documented rules, and only its refusals refuse."""
    found = judge(asked, POLICY, NOW)
    refusing = {Rule.BLOCKED_SENDER, Rule.UNLISTED_RECIPIENT, Rule.RESTRICTED_RECIPIENT}
    assert found.is_refused is (found.rule in refusing)
    assert (found.entry is not None) is (found.rule is Rule.BLOCKED_SENDER)
    assert judge(asked, POLICY, NOW, silent) == found


@given(questions)
def test_without_a_recipient_only_a_block_to_anyone_refuses(asked):
    """Before RCPT policyd refuses nothing that a recipient could still make right."""
    found = judge(asked._replace(recipient=None), POLICY, NOW)
    if found.is_refused:
        assert found.entry is not None
        assert found.entry.to == ANYONE
        assert not found.entry.allowed


@given(questions, st.randoms(use_true_random=False))
def test_order_of_the_entries_does_not_matter(asked, random):
    """The answer comes from what is stored, not from how the database returns it."""
    shuffled = list(asked.entries)
    random.shuffle(shuffled)
    first = judge(asked, POLICY, NOW).entry
    second = judge(asked._replace(entries=tuple(shuffled)), POLICY, NOW).entry
    assert first == second or (first and second and (first.id, first.created_at) == (second.id, second.created_at))


@given(questions, entries)
def test_one_more_entry_never_lets_more_through(asked, entry):
    """To block somebody can't open a door."""
    if judge(asked, POLICY, NOW).is_refused:
        assert judge(asked._replace(entries=(*asked.entries, entry)), POLICY, NOW).is_refused


# --- The data


@pytest.mark.parametrize(
    ("entry", "sender", "to"),
    [
        pytest.param(BlockedSender(party("alice")), "alice", "outside", id="a mailbox to outside"),
        pytest.param(BlockedSender(party("@x"), to=ANYONE), "@x", "anyone", id="a pattern to anyone"),
        pytest.param(BlockedSender(party("alice"), to=party("bob")), "alice", "bob", id="to one"),
    ],
)
def test_entry_is_called_by_the_words_of_the_command(entry, sender, to):
    """What lists and logs show can be typed as `sender block SENDER --to TO`."""
    assert (str(entry.who), str(entry.to)) == (sender, to)


def test_data_cant_be_changed_in_place():
    """Cached facts stay what the tables said."""
    for thing in (OURS, BOB, ALICE, Address("a@b", "bob"), TO_BOB, POLICY, PERMITTED):
        with pytest.raises(AttributeError):
            setattr(thing, next(iter(inspect.signature(type(thing)).parameters)), "changed")
