"""The fuzz target without a fuzzer: its seeds, and inputs made by rules. `python -m tests.fuzz` looks further."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.model import Action, Decision, Request, Rule
from tests.fuzz.oracles import must_be_audit_line, must_be_replies, must_be_warning
from tests.fuzz.seeds import seeds
from tests.fuzz.target import run

SEEDS = seeds()
KIND = b"request=smtpd_access_policy\n"
DUNNO = Decision(Action.DUNNO, Rule.DEFAULT)

names = st.sampled_from([name.encode() for name in (*Request._fields, "request", "x", "")])
locals_ = st.sampled_from(["alice", "bob", "carol", "dave", "erin", "a=b=c", "p", "Müller+x", "IMCEAEX-_CN=bob", ""])
domains = st.sampled_from(["@example.com", "@EXAMPLE.com.", "@b.example", "@bad.example", "@[192.0.2.1]", "@", ""])
addresses = st.builds("{}{}{}".format, locals_, st.sampled_from(["", "+x", "-", "="]), domains).map(str.encode)
nasty = st.sampled_from([b"\x01", b"\0", b"\xff", b'", action="DUNNO', b"\xe2\x80\xae", b", ", b"\r", b"{0}%s"])
values = st.one_of(addresses, nasty, st.binary(max_size=30), st.sampled_from([b"RCPT", b"VRFY", b"10.0.0.1", b"::1"]))
lines = st.builds(lambda name, value: name + b"=" + value + b"\n", names, values)
requests = st.lists(lines, max_size=9).map(lambda written: KIND + b"".join(written) + b"\n")
pieces_of_streams = st.one_of(requests, requests, st.binary(max_size=20), nasty, st.just(b"\n"))
heads = st.builds(lambda first, sizes: bytes([first, len(sizes)]) + sizes, st.integers(0, 31), st.binary(max_size=5))
inputs = st.builds(lambda head, parts: head + b"".join(parts), heads, st.lists(pieces_of_streams, max_size=6))


@pytest.mark.parametrize("name", SEEDS)
def test_seed_harms_nothing(name):
    """What Postfix says, what was found once, and what is known to be hostile ends in an answer or a hang-up."""
    run(SEEDS[name])


@given(inputs)
@settings(max_examples=500)
def test_no_conversation_harms_anything(raw):
    """Neither the peer's words nor the administrator's own texts forge a reply or a line, however they arrive."""
    run(raw)


@given(st.binary(max_size=300))
def test_no_bytes_harm_anything(raw):
    """Nor does what is no conversation at all."""
    run(raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"action=DUNNO\n\naction=DUNNO\n\n", id="two"),
        pytest.param(b"", id="none"),
        pytest.param(b"action=DUNNO\n", id="half a one"),
        pytest.param(b"action=OK\n\n", id="another action"),
        pytest.param(b"action=REJECT 5.7.1 no\n\n", id="another decision's"),
    ],
)
def test_wrong_reply_does_not_pass(raw):
    """A target that accepts everything finds nothing."""
    with pytest.raises(AssertionError):
        must_be_replies(raw, [DUNNO])


RIGHT = (
    "action=DUNNO, rule=default, entry=, state=, queue_id=, instance=, client=[], sender=<a>, recipient=<>, "
    "login=, context=, reason=, text=, ms=0.1, mailbox=, by="
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("login=", "login=root", id="another value"),
        pytest.param("login=", "login=, login=", id="a field twice"),
        pytest.param("login=, ", "", id="a field missing"),
        pytest.param("<a>", "<a>\x1b[2J", id="a terminal sequence"),
        pytest.param("<a>", "<a>\nx", id="two lines"),
        pytest.param("by=", "by=, ", id="a field begun"),
        pytest.param("<a>", '"<a>, login=root"', id="what a careless reader takes for a field"),
    ],
)
def test_wrong_line_does_not_pass(old, new):
    """Nor does one that believes any line."""
    request = Request(sender="a")
    must_be_audit_line(RIGHT, request, DUNNO)
    with pytest.raises(AssertionError):
        must_be_audit_line(RIGHT.replace(old, new, 1), request, DUNNO)


def test_defect_of_ours_does_not_pass():
    """The server lives on after one, so that only its warning tells."""
    with pytest.raises(AssertionError):
        must_be_warning("warning=\"hung up: internal error: KeyError('x'); please report it\", peer=unix", "")
