"""Counting takes no more memory for a longer log, its totals are exact, and no line makes it fail."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policyd.admin.reviewing import reviewing
from policyd.admin.session import open_session
from policyd.audit_lines import read_decision
from policyd.model import Action, Decision, Request, Rule
from policyd.report import counting
from policyd.report.counting import Counts, Frequent, Recent, Seen
from policyd.report.log_lines import Logged
from policyd.report.summary import listed
from policyd.settings import load_settings
from tests.core.test_audit import PERMITTED, line_of, requests, values
from tests.support.command_line import command_line

UNLISTED = Decision(Action.REJECT, Rule.UNLISTED_RECIPIENT, "5.1.1 no", is_refused=True)
RESTRICTED = Decision(Action.REJECT, Rule.RESTRICTED_RECIPIENT, "5.7.1 no", "why", mailbox="bob", is_refused=True)


def test_the_most_frequent_are_kept_and_the_rest_is_counted():
    """What everybody sends once must not push out what one sends a hundred times, nor the other way round the total."""
    frequent = Frequent(Seen, 10)
    for number in range(1000):
        frequent.of("often").see(1.0)
        frequent.of(f"once {number}").see(2.0)
    assert frequent.ranked(1) == [("often", Seen(1000, 1.0, 1.0))]
    assert len(frequent) <= 10
    assert frequent.others + sum(each.count for _, each in frequent.ranked()) == 2000


def test_what_was_there_lately_is_remembered():
    """For the last so many at least, and not for ever."""
    recent = Recent(100)
    for number in range(1000):
        recent.add("from", str(number))
    assert all(recent.has("from", str(number)) for number in range(900, 1000))
    assert not recent.has("from", "700")


def test_memory_does_not_grow_with_senders_recipients_and_clients(monkeypatch):
    """Whoever sends spam from a thousand addresses to a thousand others."""
    monkeypatch.setattr(counting, "_KEPT", 50)
    monkeypatch.setattr(counting, "_RECENT", 50)
    counts = Counts(is_inside=lambda client: client.startswith("10."))
    for kept in (counts.refused, counts.unlisted, counts.guessing, counts.by_network):
        kept._limit = 50
    for number in range(200):
        each = Request("RCPT", f"10.0.{number}", "x", f"s{number}@x.example", f"r{number}@e.example", "", f"i{number}")
        for decision in (UNLISTED, RESTRICTED, PERMITTED):
            request = each._replace(instance=f"{each.instance} {decision.rule}")
            counts.take(Logged(float(number), line_of(request, decision)))
    assert counts.decisions == 600
    assert counts.rules[Rule.UNLISTED_RECIPIENT].refused == 200
    for kept in (counts.refused, counts.unlisted, counts.guessing, counts.by_network):
        assert len(kept) <= 50
    assert len(counts._asked) <= 50
    assert counts.unlisted.others + sum(each.count for _, each in counts.unlisted.ranked()) == 200


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
)


@given(
    st.sampled_from(["action=", "event=", "warning=", "change=", '{"action": ', '{"event": ', '{"warning": ', ""]),
    values | st.builds(json.dumps, JSON),
)
def test_any_line_is_counted_or_not_understood(beginning, rest):
    """Nothing that anybody has got into a log ends the report."""
    counts = Counts()
    counts.take(Logged(None, f"{beginning}{rest}"))
    assert counts.period.count == 1


@pytest.fixture(scope="module")
def policyd():
    """A company that has restricted bob, and blocked carol."""
    with command_line() as policyd:
        for line in [
            "domain add example.com",
            "mailbox add bob bob@example.com",
            "mailbox restrict bob",
            "mailbox add carol carol@example.com",
            "sender block carol --to outside",
            "sender block joe@example.net --to anyone",
        ]:
            policyd.run(line)
        yield policyd


@given(
    requests,
    st.sampled_from(["{}@example.com", "bob+{}@example.com", "bob@example.com", "{}"]),
    st.sampled_from(["{}@example.net", "{}@example.com", "joe@example.net", "{}"]),
    st.sampled_from(["", "carol", "carol@example.com", "{}"]),
)
@settings(max_examples=40)
def test_whatever_was_refused_is_reported_and_explained(policyd, request_, recipient, sender, login):
    """Each address that somebody thinks of is looked up again, and may be none at all."""
    asked = request_._replace(
        protocol_state="RCPT",
        recipient=recipient.format(request_.recipient),
        sender=sender.format(request_.sender),
        sasl_username=login.format(request_.sasl_username),
    )
    assume("[" not in asked.client_name + asked.client_address)
    ours = load_settings(policyd.settings, database=policyd.url)
    counts = Counts()
    with reviewing(open_session(ours), ours, 1_800_000_000) as review:
        decision, _ = review.explain(asked)
        line = line_of(asked, decision)
        counts.take(Logged(1_800_000_000.0, line))
        lists = listed(counts, review, 10)
        review.cause(read_decision(line), 1_800_000_000.0)
    assert counts.not_understood == 0
    assert len(lists["refused"] + lists["unlisted"]) == decision.is_refused
