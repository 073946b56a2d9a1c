"""A line of the audit read back as the request that it is about, so that `policyd check -` can ask it again."""

import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policyd.admin.asking import given_request
from policyd.audit import AuditLog
from policyd.audit_lines import asked_line, read_request
from policyd.errors import AuditLineError, ProtocolError
from policyd.model import Action, Change, Decision, Request, Rule
from policyd.settings import AuditSettings, LineFormat
from tests.core.test_audit import HOSTILE, MONITORED, PERMITTED, REJECTED, REQUEST, decisions, line_of, requests, values
from tests.support.kept_lines import KeptLines

PREFIXES = {
    "nothing": "",
    "a file of rsyslog's": "Nov 25 22:34:03 mx policyd[4242]: ",
    "a file with ISO times": "2026-11-25T22:34:03.123456+01:00 mx.example.com policyd[4242]: ",
    "journalctl -o short-full": "Wed 2026-11-25 22:34:03 UTC mx policyd[4242]: ",
    "RFC 3164": "<22>Nov 25 22:34:03 policyd[4242]: ",
    "RFC 5424": "<22>1 2026-11-25T22:34:03Z mx policyd 4242 - - \ufeff",
    "grep": "/var/log/mail.log:17:Nov 25 22:34:03 mx policyd[4242]: ",
}


def is_one_client(request: Request) -> bool:
    """Whether `name[address]` can be read in one way: neither of Postfix's ever holds an opening bracket."""
    return "[" not in request.client_name + request.client_address


@pytest.mark.parametrize("format_", LineFormat)
@given(request=requests, decision=decisions)
def test_what_the_audit_writes_is_read_back_as_the_same_request(format_, request, decision):
    """Whatever the values are, and whatever was decided."""
    assume(is_one_client(request))
    assert read_request(line_of(request, decision, format=format_)) == request


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_values_are_read_back_in_each_field(format_, value):
    """A field of another request in a value stays in that value."""
    request = Request(**dict.fromkeys(Request._fields, value.replace("[", "(")))
    assert read_request(line_of(request, format=format_)) == request


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_what_a_log_puts_before_the_line_is_no_part_of_it(format_, prefix):
    """Nobody cuts a line by hand before he asks."""
    assert read_request(f"{prefix}{line_of(format=format_)}\n") == REQUEST


@given(values)
def test_no_value_can_pass_for_the_beginning_of_a_line(value):
    """The first one counts, and only the log itself writes before it."""
    request = Request(sender=f" action=DUNNO, {value}", sasl_username=f'{{"action": {value}')
    assert read_request(f"Nov 25 22:34:03 mx policyd[1]: {line_of(request)}") == request


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("decision", [REJECTED, PERMITTED, MONITORED], ids=["refused", "permitted", "monitored"])
def test_each_kind_of_decision_is_read(format_, decision):
    """`would=` stands only where nothing was refused in fact."""
    assert read_request(line_of(decision=decision, format=format_)) == REQUEST


@given(request=requests)
def test_line_of_a_report_is_read_back_as_the_same_request(request):
    """What it shows can be asked again, whatever stands in it: alone, as printed, and as with --json."""
    assume(is_one_client(request))
    line = asked_line(request)
    for shown in (line, f"    asked: {line}", f'   "asked": {json.dumps(line)},'):
        assert read_request(shown) == request._replace(queue_id="", instance="")


def test_line_of_the_first_edition_is_read():
    """It had no `mailbox` and no `by`; logs are kept for years."""
    assert read_request(line_of().partition(", mailbox=")[0]) == REQUEST


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("name", ["sender", "recipient", "sasl_username", "policy_context", "client_name"])
def test_cut_value_that_decides_is_told(format_, name):
    """Half an address is another one, and may have another answer."""
    field = {"sasl_username": "login", "policy_context": "context", "client_name": "client"}.get(name, name)
    with pytest.raises(AuditLineError) as refused:
        read_request(line_of(REQUEST._replace(**{name: "x" * 600}), format=format_))
    assert str(refused.value) == (
        f"{field} is cut in this line, which would have been too long; ask with what you know of it:"
        " policyd check --recipient R --sender S"
    )


@pytest.mark.parametrize("format_", LineFormat)
def test_cut_value_that_decides_nothing_is_let_go(format_):
    """No answer depends on a queue id, nor on the reason of an entry."""
    line = line_of(
        REQUEST._replace(queue_id="x" * 600, instance="y" * 600), REJECTED._replace(reason="z" * 600), format=format_
    )
    assert read_request(line) == REQUEST._replace(queue_id="", instance="")


@pytest.mark.parametrize("format_", LineFormat)
@given(request=requests, length=st.integers(600, 5000), data=st.data())
def test_line_that_had_to_be_cut_is_read_whole_or_not_at_all(format_, request, length, data):
    """However long: never as another request."""
    assume(is_one_client(request))
    name = data.draw(st.sampled_from(Request._fields))
    request = request._replace(**{name: data.draw(st.sampled_from('xü"…')) * length})
    line = line_of(request, format=format_)
    if name in ("queue_id", "instance"):
        assert read_request(line) == request._replace(**{name: ""})
    else:
        with pytest.raises(AuditLineError, match="is cut in this line"):
            read_request(line)


@pytest.mark.parametrize("format_", LineFormat)
@given(data=st.data())
def test_line_that_a_log_cut_off_is_refused(format_, data):
    """At whatever character: what is left is about no request."""
    line = line_of(format=format_)
    if format_ is LineFormat.TEXT:  # the end of the last value of the first edition's line is an end
        line = line.partition(", mailbox=")[0].rpartition(", ms=")[0]
    end = data.draw(st.integers(0, len(line) - 1))
    with pytest.raises(AuditLineError):
        read_request(line[:end])


def change_line(**settings) -> str:
    """The line about a change, and in its object what a request's begins with."""
    sink = KeptLines()
    change = Change(42, 0, "root", 41, "sender.block", "x action=DUNNO", None, '{"reason": "action=x"}')
    AuditLog(AuditSettings(**settings), sink).changed(change)
    return sink.lines[0]


def own_line(**settings) -> str:
    """The line about the daemon, which has what a peer sent in it."""
    sink = KeptLines()
    AuditLog(AuditSettings(**settings), sink).warned("hung up: a line without '=': ' action=DUNNO'", peer="unix")
    return sink.lines[0]


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize(
    ("write", "about"),
    [(change_line, "a change of the tables"), (own_line, "the daemon itself")],
    ids=["change", "own"],
)
def test_line_about_no_request_says_so(format_, write, about):
    """All kinds of lines stand beside each other in the log."""
    with pytest.raises(AuditLineError) as refused:
        read_request(f"Nov 25 22:34:03 mx policyd[1]: {write(format=format_)}")
    assert str(refused.value) == (f"this line of the audit is about {about}; one about a request begins with action=")


LINE = line_of()
JSON = line_of(format=LineFormat.JSON)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Nov 25 22:34:03 mx postfix/smtpd[1]: connect from x[192.0.2.7]", "this is no line of the audit: "),
        (LINE.replace("login=", "log_in="), "this line of the audit is not whole: it has not the fields of a decision"),
        (LINE.replace("login=alice, ", ""), "this line of the audit is not whole: it has not the fields of a decision"),
        (
            LINE.replace("login=alice", "login=alice, login=bob"),
            "this line of the audit is not whole: it has not the fields",
        ),
        (LINE.replace("entry=17", "entry=17 "), "this line of the audit is not whole: it can't be read from "),
        (
            JSON.replace('"login"', '"login": "bob", "login"'),
            "this line of the audit is not whole: it has not the fields",
        ),
        (JSON.replace('"entry"', '"\\u001b[2J"'), "this line of the audit is not whole: it has not the fields"),
        (JSON.replace('"entry"', "entry"), "this line of the audit is not whole: it is no JSON"),
        ('{"action": ' + "[" * 100_000, "this line of the audit is not whole: it is no JSON"),
        (LINE.replace("login=alice", 'login="alice"'), "login in this line of the audit is not as policyd writes it"),
        (LINE.replace("login=alice", 'login="\\xe9\\u0041"'), "login in this line of the audit is not as policyd "),
        (LINE.replace("login=alice", 'login="\\n"'), "login in this line of the audit is not as policyd writes it"),
        (LINE.replace("login=alice", 'login="\\Uffffffff"'), "login in this line of the audit is not as policyd "),
        (LINE.replace("login=alice", "login=\udce4"), "login in this line of the audit is not as policyd writes it"),
        (LINE.replace("sender=<", "sender="), "sender in this line of the audit is not as policyd writes it"),
        (LINE.replace("recipient=<bob@example.net>", "recipient="), "recipient in this line of the audit is not "),
        (LINE.replace("client=mx", "client=a[b"), "client in this line of the audit is not as policyd writes it"),
        (LINE.replace("[192.0.2.7]", ""), "client in this line of the audit is not as policyd writes it"),
        (JSON.replace('"login": "alice"', '"login": 1'), "login in this line of the audit is not as policyd writes it"),
        (JSON.replace('"login": "alice"', '"login": "\\\\u0041"'), "login in this line of the audit is not as "),
    ],
)
def test_line_that_policyd_did_not_write_so_is_refused(line, message):
    """A log may spoil a line, and a person may type one: what is asked must be what was asked then."""
    with pytest.raises(AuditLineError) as refused:
        read_request(line)
    assert str(refused.value).startswith(message)
    assert len(str(refused.value)) <= 512


def test_client_that_can_be_read_in_two_ways_is_no_insider_by_it():
    """`client_address=x[127.0.0.1` of a peer that is no Postfix must not come back as an insider's."""
    with pytest.raises(AuditLineError):
        read_request(line_of(Request(client_address="x[127.0.0.1")))


# What is on stdin


RAW = b"request=smtpd_access_policy\nhelo_name= action=DUNNO, rule=default\nsender=a@b\n\n"


def test_raw_request_stays_one_whatever_its_values_look_like():
    """Its own attributes say what it is."""
    assert given_request(RAW) == Request(sender="a@b")


@pytest.mark.parametrize("format_", LineFormat)
def test_lines_of_others_may_stand_around_the_one(format_):
    """journalctl says where a boot begins, and grep -C shows what Postfix said."""
    line = f"Nov 25 22:34:03 mx policyd[1]: {line_of(format=format_)}"
    others = "-- Boot 0123456789abcdef --", "Nov 25 22:34:03 mx postfix/smtpd[1]: connect from x[192.0.2.7]"
    assert given_request("\r\n".join([*others, line, others[1], ""]).encode()) == REQUEST


@pytest.mark.parametrize("format_", LineFormat)
def test_entry_of_the_journal_in_json_is_read(format_):
    """`journalctl -o json` is what scripts use."""
    entry = json.dumps({"__CURSOR": "s=1", "MESSAGE": line_of(format=format_), "SYSLOG_IDENTIFIER": "policyd"})
    assert given_request(entry.encode()) == REQUEST


@pytest.mark.parametrize(
    ("raw", "error", "message"),
    [
        (f"{LINE}\n{LINE}\n", AuditLineError, "stdin has 2 lines of the audit; give one of them"),
        ("hello\n", ProtocolError, "stdin has no line of the audit, and no request with an end; "),
        ("", ProtocolError, "stdin has no line of the audit, and no request with an end; "),
        ("sender=a@b\n\n", ProtocolError, "no request=smtpd_access_policy"),
        ('{"MESSAGE": [1, 2]}\n', ProtocolError, "stdin has no line of the audit, "),
        ('{"MESSAGE"\n', ProtocolError, "stdin has no line of the audit, "),
        ('{"x": "\\"MESSAGE\\""}\n', ProtocolError, "stdin has no line of the audit, "),
    ],
)
def test_what_is_neither_is_told(raw, error, message):
    """Nothing is guessed."""
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        given_request(raw.encode())


def test_every_rule_and_action_is_read():
    """A line says what was decided; it is not believed, but asked again."""
    for rule in Rule:
        for action in Action:
            assert read_request(line_of(decision=Decision(action, rule))) == REQUEST
