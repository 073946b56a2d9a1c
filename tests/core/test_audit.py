"""The lines of the audit: their fields, their order, and that nobody outside can forge one."""

import json
import re
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.audit import AuditLog, Watched, escape, open_audit, shown_as_text
from policyd.counters import Cell, CounterPage
from policyd.model import Action, Change, Decision, Request, Rule
from policyd.settings import AuditSettings, Decisions, LineFormat
from policyd.syslog import CHARACTERS, LINE_LIMIT, LINES, STUCK_SECONDS, StderrSink
from tests.support.kept_lines import KeptLines

FIELDS = [
    "action", "rule", "entry", "state", "queue_id", "instance", "client", "sender", "recipient", "login", "context",
    "reason", "text", "ms", "mailbox", "by",
]  # fmt: skip
REQUEST = Request(
    protocol_state="RCPT",
    instance="1d2f.6560a1b2.9c.0",
    client_name="mx.example.net",
    client_address="192.0.2.7",
    sender="alice@example.com",
    recipient="bob@example.net",
    sasl_username="alice",
)
REJECTED = Decision(
    Action.REJECT, Rule.BLOCKED_SENDER, "5.7.1 left the company", "left the company", 17, "Bob Jones", is_refused=True
)
PERMITTED = Decision(Action.DUNNO, Rule.DEFAULT)
MONITORED = Decision(Action.DUNNO, Rule.UNLISTED_RECIPIENT, "5.1.1 This address", is_refused=True)


def line_of(request: Request = REQUEST, decision: Decision = REJECTED, **settings) -> str:
    """The one line about *request*."""
    sink = KeptLines()
    AuditLog(AuditSettings(**settings), sink).decided(request, decision, 0.084)
    (line,) = sink.lines
    return line


CHANGE_FIELDS = ["change", "actor", "operation", "object", "changeset", "before", "after", "changed"]
TOKEN = re.compile(r'([a-z_.-]+)=(?:"((?:[^"\\]|\\.)*)"|([^", ]*))(, |$)')
ESCAPE = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([\\"]))')


def parse(line: str) -> Iterator[tuple[str, str]]:
    """The fields of a line, read as docs/audit.rst describes them and by nothing of policyd's own."""
    position = 0
    while position < len(line):
        token = TOKEN.match(line, position)
        assert token, f"no field at {line[position:]!r}"
        yield token[1], token[3] if token[2] is None else ESCAPE.sub(_unescaped, token[2])
        position = token.end()
    assert not line.endswith(", ")


def _unescaped(escaped: re.Match[str]) -> str:
    byte, short, long, itself = escaped.groups()
    if itself:
        return itself
    number = int(byte or short or long, 16)
    return chr(number + 0xDC00) if byte and number >= 0x80 else chr(number)


def test_line_has_the_fields_in_their_order():
    """Scripts outside this repository cut these lines."""
    assert line_of() == (
        "action=REJECT, rule=blocked-sender, entry=17, state=RCPT, queue_id=, instance=1d2f.6560a1b2.9c.0, "
        "client=mx.example.net[192.0.2.7], sender=<alice@example.com>, recipient=<bob@example.net>, login=alice, "
        'context=, reason="left the company", text="5.7.1 left the company", ms=0.08, '
        'mailbox="Bob Jones", by='
    )


def test_permitted_request_has_the_same_fields():
    """An absent value is an empty one: a column of the log does not move."""
    assert [name for name, _ in parse(line_of(Request(), PERMITTED))] == FIELDS
    assert line_of(Request(), PERMITTED) == (
        "action=DUNNO, rule=default, entry=, state=, queue_id=, instance=, client=[], sender=<>, recipient=<>, "
        "login=, context=, reason=, text=, ms=0.08, mailbox=, by="
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bob", "bob"),
        ("Bob Jones", '"Bob Jones"'),
        ("a, by=group:b", '"a\\x2c by=group:b"'),
        ("Ä", '"Ä"'),
        ("x…", '"x\\u2026"'),
    ],
)
def test_permitted_request_names_the_mailbox_and_where_its_restriction_comes_from(name, shown):
    """A name with a blank costs no more than another, and none makes a field of its own."""
    decision = PERMITTED._replace(mailbox=name, by=f"group:{name}")
    line = line_of(Request(), decision)
    assert f", ms=0.08, mailbox={shown}, by=" in line
    assert dict(parse(line)) == told(Request(), decision)


def test_monitor_mode_tells_what_it_would_have_refused():
    """`grep would=REJECT` is how an administrator tries the rules."""
    assert line_of(decision=MONITORED).startswith("action=DUNNO, would=REJECT, rule=unlisted-recipient, entry=, ")


def test_refusal_in_force_has_no_would():
    """Otherwise the same grep finds what was refused in fact."""
    assert "would=" not in line_of()


HOSTILE = {
    "a field after the sender's": "x>, action=DUNNO, rule=default, login=<root",
    "a closing quote": 'x", action="DUNNO',
    "a backslash before the closing quote": 'x y\\", action=DUNNO, z="\\',
    "a line": "x\nNov 23 00:00:00 mx policyd[1]: action=DUNNO",
    "a carriage return": "x\raction=DUNNO, rule=default",
    "a terminal sequence": "\x1b[2J\x1b]0;title\x07",
    "a C1 terminal sequence": "\x9b2J",
    "a byte that looks like a C1 control": "\udc9b2J",
    "a bidi override": "moc.elpmaxe@\u202eecila",
    "bidi isolates": "\u2066a\u2067b\u2068c\u2069",
    "bidi marks": "\u200e\u200f\u061c",
    "invisible characters": "a\u200b\u2060\ufeffb\u00adc",
    "line separators": "a\u2028b\u2029c\x85d\x0be",
    "bytes that are not UTF-8": "j\udcf6e\udcff",
    "what looks like an escape": "\\x0a\\u000a\\n%s%n{0}",
    "unassigned and private characters": "\ue000\U000e0041\U0010ffff",
    "a comma and a no-break blank": "a,\xa0action=DUNNO",
    "umlauts": "müller@bücher.example",
    "a NUL": "a\0b",
}


@pytest.mark.parametrize("sender", HOSTILE.values(), ids=HOSTILE)
def test_no_sender_can_forge(sender):
    """The log is evidence: whoever writes MAIL FROM may not write in it."""
    line = line_of(Request(sender=sender), PERMITTED)
    assert line.isprintable()
    assert dict(parse(line))["sender"] == f"<{sender}>"
    assert [name for name, _ in parse(line)] == FIELDS
    assert len(line.split(", ")) == len(FIELDS), "a careless reader sees other fields"
    shown = re.search(r"sender=(.*), recipient=<>, login=, ", line)
    assert shown
    assert shown[1] == f"<{sender}>" or shown[1] == escape(f"<{sender}>")


raw = st.binary(max_size=60).map(lambda value: value.decode("utf-8", "surrogateescape"))
tricky = st.text('"\\, =<>x\n\x1b\u202e\xa0\x9b\udc9b', max_size=12)
values = st.one_of(st.text(max_size=60), raw, tricky)
names = st.text(max_size=20) | tricky | st.sampled_from(["", "bob", "Bob Jones", 'a", by="group:b', "Müller"])
requests = st.builds(Request, **dict.fromkeys(Request._fields, values))
decisions = st.builds(
    Decision,
    st.sampled_from(Action),
    st.sampled_from(Rule),
    values,
    values,
    st.none() | st.integers(1, 2**62),
    names,
    is_refused=st.booleans(),
    by=st.sampled_from(["", "mailbox", "domain"]) | names.map("group:{}".format),
)


def told(request: Request, decision: Decision) -> dict[str, str]:
    """What a line about *request* has to tell, in its order."""
    would = {"would": "REJECT"} if decision.is_refused and decision.action != "REJECT" else {}
    return {
        "action": decision.action,
        **would,
        "rule": decision.rule,
        "entry": "" if decision.entry is None else str(decision.entry),
        "state": request.protocol_state,
        "queue_id": request.queue_id,
        "instance": request.instance,
        "client": f"{request.client_name}[{request.client_address}]",
        "sender": f"<{request.sender}>",
        "recipient": f"<{request.recipient}>",
        "login": request.sasl_username,
        "context": request.policy_context,
        "reason": decision.reason,
        "text": decision.text,
        "ms": "0.08",
        "mailbox": decision.mailbox,
        "by": decision.by,
    }


@given(requests, decisions)
def test_reader_gets_back_exactly_what_was_meant(request, decision):
    """Escaping that loses nothing and lets nothing through, whatever the values are."""
    line = line_of(request, decision)
    assert line.isprintable()
    assert [*parse(line)] == [*told(request, decision).items()]


mostly_plain = st.sampled_from(["", "bob", "<bob>", "a@b.example", "x[y]", "%s"]) | st.text(max_size=20) | raw | tricky
asked = st.builds(Request, **dict.fromkeys(Request._fields, mostly_plain))


@given(st.lists(asked, max_size=4), st.lists(decisions, min_size=1, max_size=3), st.floats(0, 1e9))
def test_line_made_in_one_piece_is_that_of_its_fields_one_by_one(requests, decisions, milliseconds):
    """Also where something of it is kept: each line has what belongs to its own request and decision."""
    sink, meant = KeptLines(), []
    audit = AuditLog(AuditSettings(), sink)
    for request in requests:
        for decision in decisions:
            audit.decided(request, decision, milliseconds)
            fields = {**told(request, decision), "ms": round(milliseconds, 2)}
            meant.append(", ".join(f"{name}={shown_as_text(value, 512)}" for name, value in fields.items()))
    short = [number for number, line in enumerate(meant) if len(line.encode()) <= LINE_LIMIT]
    assert [sink.lines[number] for number in short] == [meant[number] for number in short]


@pytest.mark.parametrize("length", [511, 512, 513])
def test_value_is_cut_where_it_has_more_than_512_characters(length):
    """Also where none of them has to be quoted."""
    shown = "a" * length if length <= 512 else '"' + "a" * 512 + '…"'
    assert f", login={shown}, context=" in line_of(Request(sasl_username="a" * length))
    assert f", reason={shown}, text=" in line_of(decision=REJECTED._replace(reason="a" * length))


def test_line_for_udp_is_short_enough_where_only_the_reason_is_long():
    """A receiver counts bytes, of which a letter may have four."""
    reason = "😀" * 250
    line = line_of(Request(), MONITORED._replace(reason=reason), syslog="udp:127.0.0.1:514")
    assert len(line.encode()) <= 1024 - len(socket.gethostname())
    assert dict(parse(line))["reason"] == f"{reason[:128]}…"


@pytest.mark.parametrize("name", Request._fields)
def test_each_character_stands_as_it_is_or_in_quotes_in_every_field(name):
    """What stands as it is holds nothing by which a reader, or a script, finds the end of a value."""
    ours = line_of().count('"')
    as_they_are = set()
    for character in map(chr, range(0x180)):
        request = REQUEST._replace(**{name: f"a{character}b"})
        line = line_of(request)
        assert dict(parse(line)) == told(request, REJECTED)
        if line.count('"') == ours:
            as_they_are.add(character)
    assert as_they_are == {*map(chr, range(0x21, 0x7F))} - {*'"\\,<>'}


@given(requests, decisions)
def test_json_has_the_same_fields_and_is_plain_ascii(request, decision):
    """Strict readers refuse a line with half a surrogate pair in it: a way to stay out of the log."""
    line = line_of(request, decision, format=LineFormat.JSON)
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert [*found] == [*told(request, decision)]
    assert found["entry"] == decision.entry
    assert found["ms"] == 0.08
    meant = told(request, decision)
    for name in ("state", "queue_id", "instance", "client", "sender", "recipient", "login", "context"):
        assert ESCAPE.sub(_unescaped, found[name]) == meant[name]
        found[name].encode()  # no half of a surrogate pair


ALIKE = [
    ("\udcff", "\\xff"),
    ("\udc9b", "\x9b"),
    ("\udcff", "ÿ"),
    ("\\\udcff", "\\\\xff"),
    ("\\", "\\\\"),
    ("\ud800", "\\ud800"),
    ("\u202e", "\\u202e"),
    ("\n", "\\n"),
    ("\n", "\\x0a"),
    (", ", "\\x2c "),
    ('"', '\\"'),
    ("x" * 511 + "…", "x" * 511 + "yz"),
    ("x" * 512, "x" * 513),
    ("…", "\\u2026"),
]


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize(("one", "other"), ALIKE, ids=[ascii(one)[-20:] for one, _ in ALIKE])
def test_no_two_values_read_the_same(format_, one, other):
    """The log is evidence: who looks for the byte FF must not find the four characters that stand for it."""
    assert line_of(Request(sasl_username=one), format=format_) != line_of(Request(sasl_username=other), format=format_)


@pytest.mark.parametrize("before", ["", "a", "\\", "\\x", "\u00ff"])
def test_no_two_bytes_read_the_same_in_json(before):
    """A reader that decodes the line tells every value of a byte, and what stands for it, from every other."""
    bytes_ = [bytes([number]) for number in range(256)]
    written = [f"\\x{number:02x}".encode() for number in range(256)]
    letters = [chr(number).encode() for number in range(0x80, 0x100)]
    read = []
    for value in (*bytes_, *written, *letters):
        text = before + value.decode("utf-8", "surrogateescape")
        line = line_of(Request(sasl_username=text), format=LineFormat.JSON)
        read.append(json.loads(line[line.index("{") :])["login"])
    assert len(set(read)) == 256 + 256 + 128


@given(tricky | values, tricky | values, st.sampled_from(LineFormat))
def test_values_that_differ_are_rendered_differently(one, other, format_):
    """Whatever the two are, as long as they are not cut."""
    lines = [line_of(Request(sasl_username=each), format=format_) for each in (one, other)]
    assert (lines[0] == lines[1]) == (one == other)


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("byte", ["\udcff", "\x1b", "\\", "\u202e"])
def test_long_hostile_values_cost_no_more_than_what_is_shown_of_them(format_, byte):
    """Sixty thousand bytes that are escaped one by one would take as long as a thousand answers."""

    def seconds(size: int) -> float:
        times = []
        for _ in range(5):
            started = time.process_time()
            line_of(Request(sender=byte * size), format=format_)
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(60_000) < 5 * seconds(600) + 0.001


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("character", ["a", "ü", '"', "😀", "\udcff", "\U000e0041", "\\", "…"])
def test_lines_for_udp_are_short_enough_for_every_receiver(format_, character):
    """What a receiver cuts off is the end of the line, and of a JSON object everything. Source: RFC 3164 §4.1."""
    sink = KeptLines()
    settings = AuditSettings(format=format_, syslog="udp:127.0.0.1:514")
    audit = AuditLog(settings, sink)
    for length in (1, 60, 100, 200, 300, 600, 20_000):
        value = character * length
        request = Request(**dict.fromkeys(Request._fields, value))
        audit.decided(request, Decision(Action.DUNNO, Rule.RESTRICTED_RECIPIENT, value, value, is_refused=True), 0.084)
        audit.changed(Change(42, 0, value, 41, "sender.block", value, *[json.dumps({"reason": value})] * 2))
        audit.warned(value, peer=value)
    for line in sink.lines:
        assert len(line.encode()) + len(socket.gethostname()) + 40 <= 1024
        fields = json.loads(line) if format_ is LineFormat.JSON else dict(parse(line))
        change = [name for name in CHANGE_FIELDS if format_ is LineFormat.JSON or name not in ("before", "after")]
        assert [*fields] in ([*told(REQUEST, MONITORED)], change, ["warning", "peer"])
        assert fields.get("rule", "restricted-recipient") == "restricted-recipient"


@pytest.mark.parametrize("format_", LineFormat)
@pytest.mark.parametrize("character", ["a", "ü", " ", "\u202e", "\U000e0041", "😀", "\udcff", '"'])
def test_endless_values_are_cut_and_every_field_is_there(format_, character):
    """A line that its sink cuts loses the fields at its end, and a JSON object all of them."""
    endless = character * 20_000
    request = Request(**dict.fromkeys(Request._fields, endless))
    line = line_of(request, Decision(Action.REJECT, Rule.DEFAULT, endless, endless, is_refused=True), format=format_)
    assert len(line.encode()) <= 3900
    assert "…" in (json.loads(line) if format_ is LineFormat.JSON else dict(parse(line)))["sender"]
    assert [*(json.loads(line) if format_ is LineFormat.JSON else dict(parse(line)))] == FIELDS


@pytest.mark.parametrize(
    ("decisions", "logged"),
    [
        (Decisions.ALL, ["REJECT", "DUNNO", "DUNNO"]),
        (Decisions.REJECTS, ["REJECT", "DUNNO"]),
        (Decisions.NONE, []),
    ],
)
def test_decisions_are_logged_as_the_setting_says(decisions, logged):
    """With `rejects`, what monitor mode would refuse counts as refused."""
    sink = KeptLines()
    audit = AuditLog(AuditSettings(decisions=decisions), sink)
    for decision in (REJECTED, PERMITTED, MONITORED):
        audit.decided(REQUEST, decision, 0)
    assert [dict(parse(line))["action"] for line in sink.lines] == logged
    assert all("would=" in line for line in sink.lines[1:] if "unlisted" in line)


def test_change_is_a_line_for_people_with_what_changed_in_words():
    """Who changed what stands where the mail log stands, too; the objects whole are in the journal."""
    sink = KeptLines()
    before, after = '{"receive": "anyone", "reason": ""}', '{"receive": "insiders", "reason": "internal mailbox"}'
    change = Change(42, 0, "root(sudo:bob)", 41, "mailbox.restrict", "alice", before, after)
    AuditLog(AuditSettings(decisions=Decisions.NONE), sink).changed(change)
    assert sink.lines == [
        (
            "change=42, actor=root(sudo:bob), operation=mailbox.restrict, object=alice, changeset=41, "
            'changed="receive anyone -> insiders\\x2c reason \\"\\" -> \\"internal mailbox\\""'
        )
    ]
    assert dict(parse(sink.lines[0]))["changed"] == 'receive anyone -> insiders, reason "" -> "internal mailbox"'


def test_change_in_json_has_objects_and_words():
    """Who counts restrictions wants no JSON inside of JSON; who reads wants a sentence."""
    sink = KeptLines()
    before, after = '{"receive": "inherit", "reason": ""}', '{"receive": "nobody", "reason": "left"}'
    change = Change(42, 0, "root", 42, "mailbox.restrict", "alice", before, after)
    AuditLog(AuditSettings(format=LineFormat.JSON), sink).changed(change)
    fields = json.loads(sink.lines[0])
    assert (fields["before"], fields["after"]) == (json.loads(before), json.loads(after))
    assert fields["changed"] == 'receive inherit -> nobody, reason \\"\\" -> left'.replace("\\", "")
    AuditLog(AuditSettings(), sink).changed(change)
    assert dict(parse(sink.lines[1]))["changed"] == fields["changed"]


def test_lines_wait_in_order_while_the_sink_takes_none():
    """A burst of mail, or a syslog that restarts, must cost no evidence."""
    sink, alarm = KeptLines(), KeptLines()
    audit = AuditLog(AuditSettings(), sink, alarm)
    sink.takes = False
    for number in range(LINES):
        audit.warned(str(number))
    assert sink.lines == []
    sink.takes = True
    assert audit.close() == 0
    assert sink.lines == [f"warning={number}" for number in range(LINES)]
    assert [line for line in alarm.lines if "dropped" in line] == []  # a slow machine is told that lines wait


def test_long_lines_wait_only_as_far_as_memory_is_bounded():
    """A peer that sends long values must not fill the memory."""
    sink = KeptLines()
    audit = AuditLog(AuditSettings(), sink)
    sink.takes = False
    for _ in range(LINES):
        audit.warned("x" * 511, more="x" * 512, most="x" * 512)
    sink.takes = True
    lost = audit.close()
    (missing,) = (line for line in sink.lines if "dropped=" in line)
    *kept, last = sink.lines
    assert CHARACTERS - len(kept[0]) < sum(map(len, kept)) <= CHARACTERS
    assert (missing, lost) == (last, 0)
    assert last.endswith(f"dropped={LINES - len(kept)}")


def test_dropped_lines_are_counted_with_a_warning_at_each_end():
    """A gap in the evidence must show, where it is, and how long it is."""
    sink, alarm = KeptLines(), KeptLines()
    audit = AuditLog(AuditSettings(), sink, alarm)
    sink.takes = False
    for number in range(LINES + 5):
        audit.warned(str(number))
    dropped = "policyd: warning: syslog takes no lines; they are dropped and counted"
    assert [line for line in alarm.lines if "dropped" in line] == [dropped]  # a slow machine is told earlier, too
    sink.takes = True
    while audit.flush():
        pass
    audit.decided(REQUEST, PERMITTED, 0)
    assert sink.lines[:LINES] == [f"warning={number}" for number in range(LINES)]
    assert sink.lines[LINES] == 'warning="syslog took no lines for a while", dropped=5'
    assert sink.lines[LINES + 1].startswith("action=DUNNO")
    assert len(sink.lines) == LINES + 2
    assert [line for line in alarm.lines if "dropped" in line] == [dropped]


def test_waiting_and_dropped_lines_are_counted_for_who_watches():
    """Whoever looks at a graph sees that evidence is missing, or soon will be."""
    page, sink = CounterPage(1), KeptLines()
    audit = AuditLog(AuditSettings(), sink, KeptLines(), watched=Watched(page.at(0)))
    sink.takes = False
    for number in range(LINES + 5):
        audit.warned(str(number))
    audit.count_waiting()
    assert (page.total(Cell.LINES_WAITING), page.total(Cell.LINES_DROPPED)) == (LINES, 5)
    sink.takes = True
    while audit.flush():
        pass
    audit.decided(REQUEST, PERMITTED, 0)
    audit.count_waiting()
    assert (page.total(Cell.LINES_WAITING), page.total(Cell.LINES_DROPPED)) == (0, 5)


def test_lines_that_wait_for_long_are_told_before_one_is_lost(monkeypatch):
    """An administrator who learns of it only by the gap learns too late; it is told once until lines go again."""
    now = 1000.0
    monkeypatch.setattr("policyd.syslog.time.monotonic", lambda: now)
    sink, alarm = KeptLines(), KeptLines()
    audit = AuditLog(AuditSettings(), sink, alarm)
    for _ in range(2):
        audit.warned("taken")
        sink.takes = False
        audit.warned("waits")
        now += STUCK_SECONDS - 1
        audit.warned("waits, too")
        told = len(alarm.lines)
        now += 1
        for _ in range(3):
            audit.warned("waits for long")
        syslog = AuditSettings().syslog
        assert alarm.lines[told:] == [f"policyd: warning: syslog {syslog} takes no lines; they wait until it does"]
        sink.takes = True
        now += 60
        assert not audit.flush()


def test_full_backlog_takes_lines_again_when_half_of_it_is_gone():
    """With a line of room at a time, each line would bring two warnings."""
    sink, alarm = KeptLines(), KeptLines()
    audit = AuditLog(AuditSettings(), sink, alarm)
    sink.takes = False
    for number in range(LINES + 1):
        audit.warned(str(number))
    sink.takes = True
    audit.flush()
    sink.takes = False
    for number in range(100):
        audit.warned(str(number))
    assert len([line for line in alarm.lines if "dropped" in line]) == 1
    sink.takes = True
    assert audit.close() == 0
    assert sink.lines[LINES:] == ['warning="syslog took no lines for a while", dropped=101']


def test_lines_lost_at_the_end_are_told_where_it_can_be_told():
    """The count must not be lost because the daemon stops; a lost line about lost lines counts as those."""
    sink, alarm = KeptLines(), KeptLines()
    audit = AuditLog(AuditSettings(), sink, alarm)
    sink.takes = False
    for number in range(LINES + 1000):
        audit.warned(str(number))
    sink.takes = True
    while len(sink.lines) < LINES // 2:
        audit.flush()
    sink.takes = False
    audit.warned("one more, behind the count")
    assert audit.close() == LINES + 1001 - len(sink.lines)
    assert alarm.lines[-1] == f"policyd: warning: syslog took no lines to the end, dropped={LINES // 2 + 1001}"


def test_next_audit_goes_on_where_the_last_one_left_off():
    """SIGHUP opens another log, and what waits for the old one must not be lost, nor the count."""
    old, new = KeptLines(), KeptLines()
    former = AuditLog(AuditSettings(), old)
    old.takes = False
    for number in range(LINES + 5):
        former.warned(str(number))
    audit = AuditLog(AuditSettings(), new)
    audit.take_over(former)
    audit.warned("next")
    assert audit.close() == 0
    assert old.lines == []
    assert new.lines[:LINES] == [f"warning={number}" for number in range(LINES)]
    assert new.lines[LINES:] == ['warning="syslog took no lines for a while", dropped=6']


@pytest.mark.parametrize("format_", LineFormat)
def test_line_that_fits_in_no_way_is_sent_as_short_as_it_gets(format_):
    """A hundred fields are too many for UDP, however short their values are: the receiver may cut them, not we."""
    sink = KeptLines()
    audit = AuditLog(AuditSettings(format=format_, syslog="udp:127.0.0.1:514"), sink)
    audit.noticed("started", **{f"a_setting_with_a_long_name_{number}": "x" * 600 for number in range(100)})
    (line,) = sink.lines
    assert len(line) > 1024
    assert "x" * 5 not in line


def test_audit_on_stderr_has_no_second_copy(capfd):
    """Where no syslog is wanted, a terminal or systemd shows each line once."""
    open_audit(AuditSettings(syslog="stderr")).noticed("started")
    assert capfd.readouterr().err.count("event=started") == 1


@pytest.mark.parametrize("syslog", ["none", "unix:/nowhere/log"])
def test_audit_without_a_syslog_tells_of_the_daemon_on_stderr_alone(capfd, syslog):
    """What nobody logs somebody should still see; where there is a syslog, stderr is for a terminal."""
    audit = open_audit(AuditSettings(syslog=syslog))
    audit.noticed("started")
    audit.decided(REQUEST, REJECTED, 0)
    told = capfd.readouterr().err
    assert told.count("event=started") == (syslog == "none")
    assert "action=" not in told


def test_bulk_of_changes_waits_for_a_syslog_that_keeps_up():
    """An import logs thousands of changes at once, more than wait anywhere: none of them may be lost for its haste."""
    sink = KeptLines()
    audit = AuditLog(AuditSettings(), sink)
    sink.takes = False
    audit.warned("first")
    sink.takes = True
    audit.keep_up()
    assert sink.lines == ["warning=first"]

    # One that takes nothing is waited for once, and not again with each change.
    sink.takes = False
    audit.warned("second")
    audit.keep_up()
    sink.takes = True
    audit.keep_up()
    assert sink.lines == ["warning=first"]
    assert audit.close() == 0
    assert sink.lines == ["warning=first", "warning=second"]


def test_person_at_the_terminal_reads_words(capfd):
    """Who starts the daemon by hand wants to know what it says, and what to do about it, not a log's fields."""
    sink = StderrSink()
    audit = AuditLog(AuditSettings(), sink, is_terminal=True)
    audit.noticed("started", {"details": "of no use here"}, version="1.0", reason="", pid=42)
    audit.warned("the disk is full", file="/a\nb", advice="make room")
    assert capfd.readouterr().err.splitlines() == [
        "policyd: started: version 1.0, pid 42",
        "policyd: warning: the disk is full: file /a\\x0ab; make room",
    ]


def test_person_at_the_terminal_reads_words_beside_what_syslog_gets():
    """The log keeps its fields, whoever watches."""
    sink, echo = KeptLines(), KeptLines()
    AuditLog(AuditSettings(), sink, echo=echo, is_terminal=True).warned("the disk is full", advice="make room")
    assert sink.lines == ['warning="the disk is full", advice="make room"']
    assert echo.lines == ["policyd: warning: the disk is full; make room"]
