"""Inputs over HTTP to start from: what browsers, Prometheus, proxies and attackers send."""

from pathlib import Path

FOUND = Path(__file__).with_name("found_http")  # inputs on which the target once failed, each by a name that says why
HOST = b"Host: localhost\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
PAGES = [b"/", b"/refusals", b"/refusals.csv", b"/mailbox", b"/journal", b"/health", b"/static/page.js", b"/login"]
PIECES = [b"\x00", b"\x03\x01\x05\x28"]  # in one piece, and in many


def _post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n" % (path, HOST + FORM, len(body))
    return head + b"".join(headers) + b"\r\n" + body


STREAMS = {
    **{path.decode(): b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n" for path in PAGES},
    "health": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.0\r\nHost: x\r\n\r\n",
    "metrics": b"GET /metrics HTTP/1.1\r\n" + HOST + b"Authorization: Bearer x\r\n\r\n",
    "a proxy": b"GET / HTTP/1.1\r\nHost: policyd.example\r\nX-Remote-User: ann\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
    "a session": b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: policyd-session=1800000001.00\r\n\r\n",
    "a login": _post(b"/login", b"token=guess", b"Origin: null\r\n"),
    "a logout": _post(b"/logout", b""),
    "a question": _post(b"/", b"about=bob%40example.com&other=joe%40a.example&direction=to&login=&client=192.0.2.1"),
    "a queue id": _post(b"/", b"about=4XyZ0B1cJ2z9"),
    "a filter": _post(b"/refusals", b"sender=-a.example&recipient=bob&since=-1d&page=2"),
    "a mailbox": _post(b"/mailbox", b"about=%3Cscript%3E%00%FF"),
    "a page of the journal": _post(b"/journal", b"before=999999999999999999999&object=bob"),
    "another site": _post(b"/", b"about=bob", b"Sec-Fetch-Site: cross-site\r\n"),
    "two requests": b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "chunks": POST + FORM + CHUNKED + b"\r\n5;x=y\r\nabout\r\n4\r\n=bob\r\n0\r\nX: y\r\n\r\n",
    "a length and chunks": POST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "expecting": POST + FORM + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    "too long a form": POST + FORM + b"Content-Length: 17000\r\n\r\n\x01",
    "too long a path": b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "too long a number": POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
    "another kind": POST + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3\r\n\r\n--x",
    "folded": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
}


def seeds() -> dict[str, bytes]:
    """Every seed by its name."""
    made = {
        f"{name}, {head}, {number}": bytes([head]) + sizes + stream
        for name, stream in STREAMS.items()
        for head in (0, 3, 6)
        for number, sizes in enumerate(PIECES)
    }
    return made | {path.name: path.read_bytes() for path in sorted(FOUND.glob("*"))}


def words() -> list[bytes]:
    """What a fuzzer should not have to find out byte by byte."""
    headers = (
        *(b"Host", b"Content-Length", b"Transfer-Encoding", b"Content-Type", b"Connection", b"Expect", b"Cookie"),
        *(b"Authorization", b"Origin", b"Sec-Fetch-Site", b"X-Remote-User", b"X-Forwarded-For", b"Upgrade", b"Range"),
    )
    fields = (b"about=", b"&other=", b"&direction=from", b"&login=", b"&client=", b"&page=", b"&since=", b"&before=")
    ends = (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n\r\n")
    values = (b"chunked", b"close", b"keep-alive", b"100-continue", b"localhost", b"%00", b"%FF", b"..%2f")
    return [b"GET ", b"POST ", b"HEAD ", *(name + b": " for name in headers), *fields, *ends, *values, *PAGES]
