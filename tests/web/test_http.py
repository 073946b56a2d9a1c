"""What the site makes of requests, good and bad, and what every answer says; in memory, with a clock turned by hand."""

from base64 import b64encode
from hashlib import sha256

import pytest
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from policyd.web.access import SESSION_SECONDS, Access
from policyd.web.http import ANSWER_SECONDS, BODY_BYTES, CONNECTIONS, HEADERS, REQUEST_SECONDS, REQUESTS, Folder
from tests.support.markup import Markup
from tests.web.http_peer import UNIX, World

TOKEN = "0123456789abcdef0123456789abcdef"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Root(Resource):
    """Says what it got; a page waits until it is told to go on, and another one fails."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.waiting = []
        self.asked = 0

    def render_GET(self, request):
        self.asked += 1
        if request.path == b"/defect":
            raise KeyError("bob@example.com")
        if request.path == b"/later":
            deferred: Deferred[None] = Deferred()
            deferred.addErrback(request.processingFailed)
            self.waiting.append((request, deferred))
            return NOT_DONE_YET
        return f"user={request.proxy_user} args={sorted(request.args.items())}".encode()

    render_POST = render_GET


@pytest.fixture
def root():
    return Root()


@pytest.fixture
def world(root):
    return World(root)


# What every answer says


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        pytest.param("/", "GET", {}, 200, id="a page"),
        pytest.param("/", "HEAD", {}, 200, id="its head"),
        pytest.param("/", "GET", {"range": "bytes=0-1"}, 200, id="all of it where a part is asked for"),
        pytest.param("/", "GET", {"upgrade": "h2c", "connection": "upgrade, http2-settings"}, 200, id="no upgrade"),
        pytest.param("/", "PUT", {}, 405, id="a method"),
        pytest.param("/", "OPTIONS", {}, 405, id="another one"),
        pytest.param("/", "GET", {"host": "evil.example"}, 421, id="a name"),
        pytest.param("/", "GET", {"host": ""}, 400, id="no name"),
        pytest.param("/", "POST", {"origin": "https://evil.example"}, 403, id="a cross-site form"),
        pytest.param("/defect", "GET", {}, 500, id="a defect"),
        pytest.param("/login", "GET", {}, 303, id="elsewhere"),
        pytest.param("/", "GET", {"x-forwarded-for": "192.0.2.1"}, 403, id="a proxy"),
        pytest.param("*", "GET", {}, 400, id="no path"),
        pytest.param("http://evil.example/", "GET", {}, 400, id="a proxy's path"),
    ],
)
def test_every_answer_is_a_safe_one(world, path, method, headers, status):
    """No other page may show, read or script it, no browser keep it, and nobody learn what made it."""
    answer = world.connect().ask(path, method, **headers)
    assert answer.status == status
    assert {name: answer.headers.get(name.lower()) for name in HEADERS} == HEADERS
    assert "server" not in answer.headers
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_resource_may_let_a_browser_keep_what_is_the_same_everywhere(root, world):
    """A script is asked for once."""
    root.render_GET = lambda request: request.setHeader(b"Cache-Control", b"max-age=3600") or b""
    assert world.connect().ask().headers["cache-control"] == "max-age=3600"


def test_refusal_is_a_page_for_people_and_a_line_for_programs(world):
    """Each with what to do."""
    page = world.connect().ask("/", host="evil.example")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Misdirected Request</h1>" in page.text
    line = world.connect().ask("/metrics", host="evil.example")
    assert line.headers["content-type"] == "text/plain; charset=utf-8"
    assert line.text.startswith("Without a token, this is only for localhost")


def test_page_has_its_own_style_in_it_and_may_have_no_other(world):
    """It is seen with what comes at once; a style that somebody got into a page is none."""
    page = world.connect().ask("/", host="evil.example")
    (style,) = Markup(page.text).all("style")
    digest = b64encode(sha256(style.text.encode()).digest()).decode()
    assert f"; style-src 'sha256-{digest}'; " in page.headers["content-security-policy"]


def test_nothing_of_the_request_is_shown_or_logged(world):
    """A refused search has an address in it, or a script."""
    peer = world.connect()
    for path in ("/<script>", "/bob@example.com", "/defect?bob@example.com"):
        answer = peer.ask(path, host="evil.example", x_remote_user="<script>")
        assert "script" not in answer.text.replace("javascript", "")
        assert "bob" not in answer.text
    assert [line for line in world.lines if "bob" in line or "script" in line] == []


# A defect of ours


def test_defect_is_a_plain_page_and_one_line_in_the_log(world):
    """With the place where it is, and without the message, which may have an address in it."""
    peer = world.connect()
    for _ in range(3):
        answer = peer.ask("/defect")
        assert answer.status == 500
        assert "KeyError" not in answer.text
        assert "Traceback" not in answer.text
    (line,) = world.lines
    assert "a page could not be made: KeyError" in line
    assert "test_http.py:" in line
    assert "bob" not in line
    world.clock.advance(60)
    world.connect().ask("/defect")
    assert len(world.lines) == 2


def test_defect_behind_a_thread_is_the_same(root, world):
    """An answer that is found elsewhere fails there."""
    peer = world.connect()
    peer.send(b"GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
    root.waiting[0][1].errback(KeyError("x"))
    (answer,) = peer.answers()
    assert answer.status == 500
    assert "could not be made: KeyError" in world.lines[0]


def test_defect_in_the_middle_of_an_answer_cuts_it(root, world):
    """A page that looks whole would be believed."""
    peer = world.connect()
    peer.send(b"GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
    request, deferred = root.waiting[0]
    request.write(b"half a page")
    deferred.errback(KeyError("x"))
    assert peer.is_aborted
    assert not peer.raw.endswith(b"0\r\n\r\n")


def test_defect_after_the_peer_has_gone_is_only_logged(root, world):
    """There is nobody to tell."""
    peer = world.connect()
    peer.send(b"GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
    peer.leave()
    request, deferred = root.waiting[0]
    assert request.is_gone
    deferred.errback(KeyError("x"))
    assert len(world.lines) == 1


# Who gets in


def test_refusals_are_logged_once_a_minute_for_each_peer(world):
    """A page that is open in a forgotten browser would fill the log."""
    peer = world.connect()
    for _ in range(5):
        peer.ask(host="evil.example")
    world.connect(UNIX).ask(host="evil.example")
    assert world.lines == [
        'warning="access to the pages was refused", why="asked for under another name", peer=127.0.0.1',
        'warning="access to the pages was refused", why="asked for under another name", peer=unix',
    ]
    world.clock.advance(60)
    world.connect().ask(host="evil.example")
    assert len(world.lines) == 3


def test_resource_is_not_asked_before_it_is_known_who_asks(root, world):
    """A page that checks for itself would be forgotten once."""
    for headers in ({"host": "evil.example"}, {"x_forwarded_for": "192.0.2.1"}):
        world.connect().ask(**headers)
    assert root.asked == 0


def test_resource_knows_the_user_that_the_proxy_names(root):
    """To say on the page as whom one is there."""
    answer = World(root, Access(user_header="X-Remote-User")).connect(UNIX).ask(x_remote_user="ann")
    assert answer.text == "user=ann args=[]"


def test_token_is_typed_once_and_gets_in_until_the_session_is_over(root):
    """The whole way of somebody at the help desk."""
    world = World(root, Access(TOKEN))
    peer = world.connect()
    page = peer.ask("/")
    assert page.status == 401
    assert '<form method="post" action="./login">' in page.text
    assert page.headers["www-authenticate"] == 'Bearer realm="policyd"'
    wrong = peer.ask("/login", "POST", b"token=guess")
    assert (wrong.status, "set-cookie" in wrong.headers) == (401, False)
    right = peer.ask("/login", "POST", b"token=" + TOKEN.encode(), sec_fetch_site="same-origin", origin="null")
    assert (right.status, right.headers["location"]) == (303, "./")
    cookie = right.headers["set-cookie"].partition(";")[0]
    assert peer.ask("/", cookie=cookie).status == 200
    assert peer.ask("/refusals", "POST", b"to=bob", cookie=cookie).text == "user= args=[(b'to', [b'bob'])]"
    out = peer.ask("/logout", "POST", cookie=cookie)
    assert out.headers["set-cookie"].startswith("policyd-session=; ")
    world.clock.advance(SESSION_SECONDS)
    assert world.connect().ask("/", cookie=cookie).status == 401
    assert len(world.lines) == 1  # of the guess


def test_session_is_begun_by_a_form_only(root):
    """A link, or an image on some page, neither begins nor ends one."""
    peer = World(root, Access(TOKEN)).connect()
    for path in ("/login", f"/login?token={TOKEN}"):
        assert "set-cookie" not in peer.ask(path).headers
    refused = peer.ask("/logout")
    assert (refused.status, "set-cookie" in refused.headers) == (401, False)


def test_program_brings_the_token_with_each_request(root):
    """As Prometheus does, and it is told what to bring."""
    peer = World(root, Access(TOKEN)).connect()
    assert peer.ask("/metrics").text == "A token is needed: Authorization: Bearer TOKEN.\n"
    assert peer.ask("/metrics", authorization=f"Bearer {TOKEN}").status == 200
    for _ in range(10):
        assert peer.ask("/metrics", authorization="Bearer x").status == 401
    stopped = peer.ask("/metrics", authorization=f"Bearer {TOKEN}")
    assert (stopped.status, stopped.headers["retry-after"]) == (429, "60")


# Forms


def test_form_is_read_from_the_body_alone(world):
    """What stands in the URL as well would be kept in somebody's log."""
    answer = world.connect().ask("/?q=url", "POST", b"q=b%C3%B6b%00&q=&x")
    assert answer.text == "user= args=[(b'q', [b'b\\xc3\\xb6b\\x00', b''])]"


def test_form_may_be_so_long_and_no_longer(world):
    """And whoever sent more reads why, and may go on."""
    peer = world.connect()
    assert peer.ask("/", "POST", b"q=".ljust(BODY_BYTES, b"x")).status == 200
    assert peer.ask("/", "POST", b"q=".ljust(BODY_BYTES + 1, b"x")).status == 413
    assert peer.ask("/", "POST", b"q=".ljust(500_000, b"x")).status == 413
    assert peer.ask("/").status == 200


def test_body_without_a_length_has_the_same_limit(world):
    """In chunks it can be as long."""
    peer = world.connect()
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    for chunks, status in ((16, 200), (17, 413)):
        peer.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * chunks + b"0\r\n\r\n")
        assert [answer.status for answer in peer.answers()] == [status]


def test_body_without_an_end_is_not_read_to_it(world):
    """A terabyte takes no memory, and ends."""
    peer = world.connect()
    peer.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")
    for _ in range(100):
        peer.send(b"x" * 65536)
    assert peer.is_aborted


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/x-www-form-urlencoded", 200),
        ("Application/X-WWW-Form-URLencoded; charset=UTF-8", 200),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain", 415),
        ("application/json", 415),
        ("", 415),
    ],
)
def test_form_is_of_one_kind(world, content_type, status):
    """Each further kind is a reader more to break."""
    assert world.connect().ask("/", "POST", b"q=1", content_type=content_type).status == status


def test_form_has_so_many_fields(world):
    """A page has ten."""
    assert world.connect().ask("/", "POST", b"&".join([b"q=1"] * 64)).status == 200
    assert world.connect().ask("/", "POST", b"&".join([b"q=1"] * 65)).status == 400


# Requests that are none


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n", id="no colon"),
        pytest.param(b"GET / HTTP/1.1\r\n: x\r\n\r\n", id="no name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", id="a blank before the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", id="a null byte"),
        pytest.param(b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a blank in the path"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", id="another version"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", id="less than no length"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", id="a sign"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", id="two lengths"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", id="a number without end"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", id="one length and another"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1",
            id="a length and chunks",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="another encoding"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", id="chunks of chunks"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", id="a chunk of less than nothing"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n", id="a chunk in C"),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 20_000 + b"\r\nx\r\n0\r\n\r\n",
            id="a chunk of which much is said",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
            id="trailers without end",
        ),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 65 + b"\r\n", id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n", id="a long path"),
        pytest.param(b"y" * 100_000, id="no line"),
    ],
)
def test_what_is_no_request_ends_the_connection(root, world, raw, size):
    """And nothing behind it is taken for another request: a proxy may have seen none."""
    peer = world.connect()
    peer.send(raw + GET, size and max(size, len(raw) // 500))
    assert peer.is_closed
    assert root.asked == 0
    assert peer.raw in (
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    )
    assert world.lines == []
    assert world.site.connections == {}


@pytest.mark.parametrize(
    "path", ["/static/../metrics", "/static/%2e%2e/metrics", "/%2e%2e/%2e%2e/etc/passwd", "/..;/", "//"]
)
def test_path_leads_nowhere_else(path):
    """What is open to everybody has no way to the rest."""
    root, static = Folder(), Folder()
    static.putChild(b"page.js", Root())
    root.putChild(b"static", static)
    root.putChild(b"metrics", Root())
    peer = World(root, Access(TOKEN)).connect()
    assert peer.ask("/static/page.js").status == 200
    answer = peer.ask(path)
    assert answer.status == 404 if path.startswith("/static/") else 401


def test_what_is_not_there_is_a_plain_page(world):
    """With the same headers as all others."""
    world = World(Folder())
    for path in ("/", "/bob", "/a/b/c?d"):
        answer = world.connect().ask(path)
        assert answer.status == 404
        assert "There is no such page." in answer.text
        assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("size", [0, 1, 5])
def test_requests_in_a_row_are_answered_in_their_order(world, size):
    """Browsers don't send the next before the answer, some proxies do."""
    peer = world.connect()
    peer.send(b"".join(b"GET /?q=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number for number in range(10)), size)
    assert [answer.text for answer in peer.answers()] == [f"user= args=[(b'q', [b'{n}'])]" for n in range(10)]


# Time, and numbers


def test_request_has_to_come_in_time(world):
    """A byte now and then keeps no connection: twenty seconds are for a whole request."""
    peer = world.connect()
    for byte in GET[:-1]:
        peer.send(bytes([byte]))
        world.clock.advance(1)
        if peer.is_closed:
            break
    assert peer.is_aborted
    assert world.clock.seconds() == 1_800_000_000 + REQUEST_SECONDS
    assert world.site.connections == {}


def test_connection_on_which_nothing_comes_is_closed(world):
    """After an answer, too."""
    peers = [world.connect(), world.connect()]
    peers[0].ask()
    world.clock.advance(REQUEST_SECONDS)
    assert [peer.is_closed for peer in peers] == [True, True]


def test_answer_has_to_be_found_and_read_in_time(root, world):
    """A peer that reads nothing, and a query that does not end, keep no connection for ever."""
    peer = world.connect()
    peer.send(b"GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
    world.clock.advance(ANSWER_SECONDS - 1)
    assert not peer.is_closed
    world.clock.advance(1)
    assert peer.is_aborted


def test_connection_ends_after_so_many_requests(world):
    """So each process gets its share again, and nothing is kept for ever."""
    peer = world.connect()
    answers = [peer.ask() for _ in range(REQUESTS)]
    assert {answer.headers.get("connection") for answer in answers[:-1]} == {None}
    assert answers[-1].headers["connection"] == "close"
    assert peer.is_closed


def test_idle_connection_gives_way_to_a_new_one(world):
    """Who opens connections and says nothing keeps nobody out."""
    peers = [world.connect() for _ in range(CONNECTIONS)]
    peers[0].ask()  # so the second has been idle for longest
    assert world.site.make_room()
    assert world.connect().ask().status == 200
    assert [peer.is_closed for peer in peers[:3]] == [False, True, False]
    assert len(world.site.connections) == CONNECTIONS


def test_where_all_wait_for_answers_there_is_no_room_for_more(root, world):
    """Those who wait are served first, and then there is room again."""
    peers = [world.connect() for _ in range(CONNECTIONS)]
    for peer in peers:
        peer.send(b"GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert not world.site.make_room()
    root.waiting[0][0].write(b"done")
    root.waiting[0][0].finish()
    assert world.site.make_room()
    assert world.connect().ask().status == 200
    assert len(world.site.connections) == CONNECTIONS


def test_nothing_is_left_of_connections_that_are_gone(world):
    """No timer, no entry."""
    for _ in range(3):
        peer = world.connect()
        peer.ask()
        peer.leave()
    assert world.site.connections == {}
    assert world.clock.getDelayedCalls() == []
