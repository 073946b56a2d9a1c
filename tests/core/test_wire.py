"""The protocol: whatever the network does to the bytes, Postfix's questions come out whole and in order."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd import wire
from policyd.errors import ProtocolError
from policyd.model import Action, Request
from policyd.wire import REQUEST_LIMIT, Layouts, RequestReader, render_action, render_request

KIND = b"request=smtpd_access_policy\n"
FIRST = KIND + b"protocol_state=RCPT\nsender=alice@example.com\nrecipient=bob=x@example.net\nqueue_id=\n\n"
SECOND = KIND + b"sasl_username=alice\nunknown_attribute=some=value\nrecipient=\xff\xc3\xbc@example.net\n\n"
EXPECTED = [
    Request(protocol_state="RCPT", sender="alice@example.com", recipient="bob=x@example.net"),
    Request(sasl_username="alice", recipient="\udcffü@example.net"),
]
STREAM = FIRST + SECOND
TOO_LONG = "a request of more than 65536 octets"
TOO_MANY = "a request of more than 100 attributes"
OFTEN = 20  # times that a layout of few names must come in a row before it is learned

values = st.binary(max_size=20).map(lambda raw: raw.translate(None, b"\0\n").decode("utf-8", "surrogateescape"))
requests = st.builds(Request, **dict.fromkeys(Request._fields, values))


def read_all(reader):
    """Every request that is whole."""
    return list(iter(reader.next_request, None))


def parse_request(lines):
    """The request with *lines*, read as the first of its layout and once it is learned; nothing may tell them apart."""
    reader = RequestReader(Layouts())
    reader.feed(OFTEN * (lines + b"\n\n"))
    first, *others = read_all(reader)
    assert others == [first] * (OFTEN - 1)
    reader.feed(lines + b"\n\n")  # in a piece by itself
    assert read_all(reader) == [first]
    return first


def error_of(raw):
    """What the reader says of a stream that breaks the protocol."""
    reader = RequestReader(Layouts())
    reader.feed(raw)
    with pytest.raises(ProtocolError) as caught:
        read_all(reader)
    return str(caught.value)


def request_of(size):
    """A whole request of *size* bytes."""
    return KIND + b"sender=" + b"a" * (size - len(KIND) - len(b"sender=\n\n")) + b"\n\n"


def test_requests_survive_any_chunking():
    """TCP may cut a question anywhere: no answer may come early, late or twice."""
    for size in range(1, len(STREAM) + 1):
        reader, found = RequestReader(Layouts()), []
        for start in range(0, len(STREAM), size):
            reader.feed(STREAM[start : start + size])
            found += read_all(reader)
        assert found == EXPECTED, size
        assert not reader.is_mid_request, size


def test_a_request_is_there_with_its_last_byte_and_what_trails_is_kept():
    """An answer waits for the whole question, and never for the next one."""
    for cut in range(len(STREAM) + 1):
        reader = RequestReader(Layouts())
        reader.feed(STREAM[:cut])
        early = read_all(reader)
        assert early == EXPECTED[: (cut >= len(FIRST)) + (cut >= len(STREAM))], cut
        assert reader.is_mid_request is (cut not in (0, len(FIRST), len(STREAM))), cut
        reader.feed(STREAM[cut:])
        assert early + read_all(reader) == EXPECTED, cut


@given(st.lists(requests, max_size=5), st.data())
def test_any_requests_in_any_pieces_come_out_as_they_went_in(sent, data):
    """What one client sends never leaks into the question of another on the same connection."""
    stream = b"".join(map(render_request, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, found = RequestReader(Layouts()), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        found += read_all(reader)
    assert found == sent


@given(requests, st.randoms(use_true_random=False), st.sampled_from([*Request._fields, ""]))
def test_attributes_in_any_order_are_read_alike(request, random, absent):
    """Another version of Postfix, or another program, sends them otherwise, and more or fewer of them."""
    lines = [*render_request(request).removesuffix(b"\n\n").split(b"\n"), b"size=12345", b"helo_name=mx"]
    random.shuffle(lines)
    sent = [line for line in lines if not line.startswith(f"{absent}=".encode())]
    assert parse_request(b"\n".join(sent)) == (request._replace(**{absent: ""}) if absent else request)


@given(requests)
def test_what_is_rendered_is_parsed_again(request):
    """`check --daemon` asks what was typed, and nothing else."""
    assert parse_request(render_request(request).removesuffix(b"\n\n")) == request


def test_request_is_rendered_under_the_names_that_postfix_uses():
    """The names are Postfix's, so that the question can be pasted from its documentation."""
    request = Request("RCPT", "192.0.2.7", "mx.example.net", "", "bücher@x", "3F1A", "1d2f.65", "alice", "submission")
    assert (
        render_request(request)
        == (
            "request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.7\n"
            "client_name=mx.example.net\nsender=\nrecipient=bücher@x\nqueue_id=3F1A\ninstance=1d2f.65\n"
            "sasl_username=alice\npolicy_context=submission\n\n"
        ).encode()
    )
    assert parse_request(render_request(request).removesuffix(b"\n\n")) == request


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("a\nsasl_username=admin", id="a line break that would forge an attribute"),
        pytest.param("a\0b", id="a NUL byte"),
    ],
)
def test_request_with_an_unspeakable_value_is_not_rendered(value):
    """A recipient on the command line can't smuggle in an attribute."""
    with pytest.raises(ProtocolError) as caught:
        render_request(Request(recipient=value))
    assert str(caught.value) == "recipient can't hold a line break or a NUL octet"


def test_no_state_survives_from_one_request_to_the_next():
    """The login of one mail's sender must not stand for the next client on the connection."""
    reader = RequestReader(Layouts())
    reader.feed(KIND + b"sasl_username=alice\n\n" + KIND + b"\n")
    assert read_all(reader) == [Request(sasl_username="alice"), Request()]


@pytest.mark.parametrize(
    ("lines", "request_"),
    [
        pytest.param(b"sender=prvs=12=a@b\n", Request(sender="prvs=12=a@b"), id="a value holds equals signs"),
        pytest.param(b"sender=a\nsender=b\n", Request(sender="b"), id="of duplicates the last counts"),
        pytest.param(b"sender=\n", Request(), id="an empty value is an absent one"),
        pytest.param(b"tls_sni=x\nxyzzy=\n", Request(), id="unknown names are ignored"),
        pytest.param(b"SENDER=a\n", Request(), id="names are compared with their case"),
        pytest.param(b"sender= a \n", Request(sender=" a "), id="blanks belong to the value"),
        pytest.param(b"sender=a\rb\n", Request(sender="a\rb"), id="a carriage return ends no line"),
        pytest.param(b"__class__=x\n", Request(), id="no attribute reaches the object's own names"),
        pytest.param(b"sender=\xe2\x82\xac\n", Request(sender="€"), id="UTF-8 is text"),
        pytest.param(b"sender=\xe2\x82\n", Request(sender="\udce2\udc82"), id="other bytes are kept as they are"),
    ],
)
def test_attributes_are_read_as_postfix_means_them(lines, request_):
    """VERP and SRS senders, later versions of Postfix and odd bytes are no reason to hang up."""
    assert parse_request((lines + KIND).removesuffix(b"\n")) == request_
    assert parse_request((KIND + lines).removesuffix(b"\n")) == request_


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        pytest.param(b"\n", "an empty request", id="an empty line"),
        pytest.param(b"\n" + FIRST, "an empty request", id="a stray newline before a request"),
        pytest.param(FIRST + b"\n", "an empty request", id="a stray newline after a request"),
        pytest.param(b"sender=a\n\n", "no request=smtpd_access_policy", id="no kind"),
        pytest.param(b"request=\n\n", "request=''", id="an empty kind"),
        pytest.param(b"request=junk_filter\n\n", "request='junk_filter'", id="another kind"),
        pytest.param(KIND + b"request=x\n\n", "request='x'", id="another kind after the right one"),
        pytest.param(KIND[:-1] + b"\r\n\r\n\n", r"a line without '=': '\r'", id="lines that end in CR LF"),
        pytest.param(b"GET / HTTP/1.1\n\n", "a line without '=': 'GET / HTTP/1.1'", id="another protocol"),
        pytest.param(KIND + b"=value\n\n", "a line without a name: '=value'", id="an empty name"),
        pytest.param(KIND + b"=\n\n", "a line without a name: '='", id="an empty name and value"),
        pytest.param(KIND + b"sender=a\0b\n\n", "a NUL octet in a request", id="a NUL byte in a value"),
        pytest.param(KIND + b"\0=b\n\n", "a NUL octet in a request", id="a NUL byte in a name"),
        pytest.param(
            b"\x1b[31m\xff" + b"x" * 90 + b"\n\n",
            "a line without '=': '\\x1b[31m\\xff" + "x" * 54 + "'…",
            id="a long line with terminal escapes",
        ),
        pytest.param(b"a" * REQUEST_LIMIT, TOO_LONG, id="a line without an end"),
        pytest.param(b"a=b\n" * REQUEST_LIMIT, TOO_MANY, id="lines without an end"),
        pytest.param(KIND + b"a=b\n" * 100 + b"\n", TOO_MANY, id="one attribute too many"),
        pytest.param(KIND + b"a=b\n" * 101, TOO_MANY, id="one attribute too many, and no end"),
        pytest.param(b"a=\n" * 11_000 + KIND + b"\n", TOO_MANY, id="eleven thousand attributes"),
        pytest.param(b"=\n" * 20_000 + b"\n", TOO_MANY, id="twenty thousand lines without a name"),
        pytest.param(b"\0\n" * 101 + b"\n", TOO_MANY, id="lines of NULs"),
    ],
)
def test_what_postfix_never_sends_is_named_in_one_line(raw, problem):
    """The administrator reads in the log what is wrong, and the line can't hurt the terminal."""
    assert error_of(raw) == problem
    assert problem.isprintable()


@pytest.mark.parametrize("piece", [1, 7, 400, 10_000], ids=lambda size: f"pieces of {size}")
@pytest.mark.parametrize("count", [100, 101])
def test_number_of_attributes_is_bounded_however_they_arrive(count, piece):
    """Postfix sends some thirty: a hundred are read, and thousands cost the others nothing."""
    raw = KIND + b"sender=a\n" + b"".join(b"a%d=\n" % number for number in range(count - 2)) + b"\n"
    reader, found, problem = RequestReader(Layouts()), [], ""
    for start in range(0, len(raw), piece):
        reader.feed(raw[start : start + piece])
        try:
            found += read_all(reader)
        except ProtocolError as error:
            problem = str(error)
    assert (found, problem) == (([Request(sender="a")], "") if count == 100 else ([], TOO_MANY))


def test_good_requests_before_a_broken_one_are_answered():
    """A request that came whole has its answer before policyd hangs up."""
    reader = RequestReader(Layouts())
    reader.feed(STREAM + b"\n" + FIRST)
    assert [reader.next_request(), reader.next_request()] == EXPECTED
    with pytest.raises(ProtocolError):
        reader.next_request()


@pytest.mark.parametrize("broken", [b"\n", b"junk\n\n", b"a" * REQUEST_LIMIT], ids=["empty", "junk", "endless"])
def test_a_broken_stream_stays_broken(broken):
    """After a broken request nobody knows where the next begins: no answer may be given to a guess."""
    reader = RequestReader(Layouts())
    reader.feed(broken)
    problems = []
    for _ in range(3):
        with pytest.raises(ProtocolError) as caught:
            reader.next_request()
        problems.append(str(caught.value))
        reader.feed(b"\n\n" + FIRST)
    assert len(set(problems)) == 1


@pytest.mark.parametrize("piece", [1021, REQUEST_LIMIT - 1, REQUEST_LIMIT], ids=lambda size: f"pieces of {size}")
def test_a_request_of_exactly_the_limit_passes(piece):
    """The bound is the one that is documented, however the request arrives."""
    raw = request_of(REQUEST_LIMIT)
    assert len(raw) == 64 * 1024
    reader, found = RequestReader(Layouts()), []
    for start in range(0, len(raw), piece):
        reader.feed(raw[start : start + piece])
        found += read_all(reader)
    assert [len(request.sender) for request in found] == [REQUEST_LIMIT - len(KIND) - len(b"sender=\n\n")]


@pytest.mark.parametrize("piece", [1021, REQUEST_LIMIT - 1, REQUEST_LIMIT, REQUEST_LIMIT + 1])
def test_a_request_of_one_byte_more_is_refused(piece):
    """Memory is bounded: nobody can make the daemon collect a request without an end."""
    raw = request_of(REQUEST_LIMIT + 1)
    reader, found = RequestReader(Layouts()), []

    def read_in_pieces():
        for start in range(0, len(raw), piece):
            reader.feed(raw[start : start + piece])
            found.extend(read_all(reader))

    with pytest.raises(ProtocolError) as caught:
        read_in_pieces()
    assert (str(caught.value), found) == (TOO_LONG, [])


def test_the_limit_is_of_one_request_and_not_of_what_arrives_at_once():
    """Two long questions in one segment are two questions."""
    reader = RequestReader(Layouts())
    reader.feed(request_of(REQUEST_LIMIT) + request_of(REQUEST_LIMIT) + FIRST)
    assert len(read_all(reader)) == 3


@given(st.lists(st.binary(max_size=40) | st.sampled_from([KIND, b"\n", b"\n\n", b"=", b"a=b\n"]), max_size=12))
def test_no_bytes_raise_anything_but_the_protocol_error(pieces):
    """A hostile peer can end its own connection, and nothing else."""
    reader, problem = RequestReader(Layouts()), ""
    for piece in pieces:
        reader.feed(piece)
        try:
            found = read_all(reader)
        except ProtocolError as error:
            problem, found = str(error), []
        assert [parse_request(render_request(request).removesuffix(b"\n\n")) for request in found] == found
    assert problem == "" or problem.isprintable()


class CountingBuffer(bytearray):
    """Counts the bytes that were searched through."""

    searched = 0

    def find(self, sub, start=0, end=None):
        self.searched += max(0, min(len(self), len(self) if end is None else end) - start)
        return super().find(sub, start, end)


def bytes_searched(size):
    """How many bytes the reader looks at while *size* bytes of an endless request dribble in."""
    reader, buffer = RequestReader(Layouts()), CountingBuffer()
    reader._buffer = buffer  # the work itself is counted: time would depend on the machine
    for _ in range(size):
        reader.feed(b"a")
        assert reader.next_request() is None
    return buffer.searched


def test_a_request_that_dribbles_in_costs_as_much_as_it_is_long():
    """A peer that sends byte by byte can't keep the daemon from its other connections."""
    assert 0 < bytes_searched(16_000) <= 2 * bytes_searched(8_000) + 2


def seconds_for(count):
    """The least of some CPU times to read *count* requests that came at once."""
    times = []
    for _ in range(5):
        reader = RequestReader(Layouts())
        reader.feed(FIRST * count)
        started = time.process_time()
        assert len(read_all(reader)) == count
        times.append(time.process_time() - started)
    return min(times)


def test_requests_that_come_at_once_cost_as_much_as_they_are_many():
    """A long backlog is worked off at the pace of a short one; with quadratic work it would be at a sixteenth."""
    assert seconds_for(3_200) < 16 * 4 * seconds_for(200)


def layout_of(number, names=30, length=12):
    """A request with attributes that nobody else sends, so that it has a layout of its own."""
    lines = b"".join(b"%0*d=\n" % (length, number * 1000 + each) for each in range(names - 1))
    return KIND + lines + b"\n"


def compilations(monkeypatch, requests):
    """How many layouts are compiled for *requests*, and the requests that each connection of a list sends."""
    compiled = []
    original = wire._compile

    def compile_counted(names):
        compiled.append(names)
        return original(names)

    monkeypatch.setattr("policyd.wire._compile", compile_counted)
    layouts = Layouts()
    for stream in requests:
        reader = RequestReader(layouts)
        for raw in stream:
            reader.feed(raw)
            assert reader.next_request() is not None
    return len(compiled)


def test_layout_is_compiled_once_for_all_connections(monkeypatch):
    """Postfix opens hundreds of them, and sends the same on each."""
    assert compilations(monkeypatch, [[layout_of(0)] * 200] * 50) == 1


def test_layout_that_does_not_come_again_and_again_is_not_compiled(monkeypatch):
    """Each compilation takes as long as fifty answers: a peer with ever new layouts must not have them made."""
    assert compilations(monkeypatch, [[layout_of(number) for number in range(1000)]]) == 0
    assert compilations(monkeypatch, [[layout_of(number % 17) for number in range(1000)]]) == 0, "in turns"
    assert compilations(monkeypatch, [[layout_of(number)] * 2 for number in range(500)]) == 0, "twice on a connection"


def test_names_beyond_any_that_postfix_has_are_read_and_not_learned(monkeypatch):
    """A layout of 60 KiB would take a fifth of a second."""
    assert compilations(monkeypatch, [[layout_of(0, 10, 65)] * 1000]) == 0
    assert compilations(monkeypatch, [[layout_of(0, 3, 30_000)] * 100]) == 0


def test_peer_with_many_layouts_takes_no_connection_its_own(monkeypatch):
    """Postfix's connections keep what they have, and a new one finds its layout as long as it is used."""
    postfix = [layout_of(0)] * 100
    others = [[layout_of(number)] * 100 for number in range(1, 41)]
    assert compilations(monkeypatch, [postfix, *(each for other in others for each in (other, postfix[:1]))]) == 41
    assert compilations(monkeypatch, [postfix, *others, postfix]) == 42, "the least used makes room"


def test_layouts_that_peers_make_up_cost_at_most_as_much_as_reading_without_any():
    """Measured in CPU time of this process; one compilation a request would be fifty times as much."""

    def seconds(stream):
        times = []
        for _ in range(3):
            reader = RequestReader(Layouts())
            reader.feed(b"".join(stream))
            started = time.process_time()
            assert len(read_all(reader)) == len(stream)
            times.append(time.process_time() - started)
        return min(times)

    slowly = seconds([layout_of(number % 17, 100, 64) for number in range(2000)])
    learned = seconds([layout_of(number // 600, 100, 64) for number in range(2000)])
    assert learned < 4 * slowly


@pytest.mark.parametrize(
    ("action", "text", "raw"),
    [
        pytest.param(Action.DUNNO, "", b"action=DUNNO\n\n", id="no objection"),
        pytest.param(Action.REJECT, "5.7.1 No", b"action=REJECT 5.7.1 No\n\n", id="a refusal with its text"),
        pytest.param(Action.REJECT, "", b"action=REJECT\n\n", id="a refusal without a text"),
    ],
)
def test_reply_is_one_line_and_an_empty_line(action, text, raw):
    """A stray byte in a reply costs Postfix a second for every recipient."""
    assert render_action(action, text) == raw
