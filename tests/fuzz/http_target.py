"""What somebody hostile sends to the pages over HTTP, and all that must hold whatever it was.

An input is a head and a stream. The head's first byte chooses who lets in (the lowest two bits) and over which way it
comes (the next two); the second is how many bytes follow that say the sizes of the pieces in which the stream arrives.
The first byte 0x01 of a stream stands for `RUN`, so that short inputs reach every limit.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress

from policyd.audit import AuditLog
from policyd.counters import Cell
from policyd.settings import AuditSettings, HttpSettings, Settings
from policyd.store.connection import Database
from policyd.store.database import create_database
from policyd.watching import WatchedProcesses
from policyd.web.access import Access
from policyd.web.context import Threads, WebContext
from policyd.web.http import HEADERS
from policyd.web.site import make_desk, make_site
from tests.fuzz.target import cut
from tests.support.tables import WatchedTables
from tests.web.http_peer import LOOPBACK, UNIX, Peer, World

T = TypeVar("T")

RUN = b"x" * 17_000
TOKEN = "0123456789abcdef0123456789abcdef"  # which no fuzzer finds out
ACCESSES: list[Callable[[], Access]] = [
    Access,
    lambda: Access(TOKEN),
    lambda: Access(user_header="X-Remote-User"),
    lambda: Access(TOKEN, "X-Remote-User"),
]
WAYS: list[IAddress] = [
    LOOPBACK,
    UNIX,
    IPv4Address("TCP", "192.0.2.1", 50000),
    IPv6Address("TCP", "fe80::1%eth0", 50000),
]
FOLDER = TemporaryDirectory()  # it goes with the process
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_LINE = re.compile(r'warning="access to the pages was refused", why="[A-Za-z \']+", peer=\S+')
_OPEN = (b"/healthz", b"/readyz", b"/login", b"/static/")


class _AtOnce(Threads):
    """Threads that are none: what is called is done at once."""

    def __init__(self) -> None:
        """There is nothing to start."""

    def call(self, function: Callable[..., T], *values: object) -> "Deferred[T]":
        """What *function* returns."""
        try:
            return succeed(function(*values))
        except Exception:  # noqa: BLE001 - as a thread has it
            return fail()


def _settings() -> Settings:
    path = Path(FOLDER.name) / "policyd.db"
    create_database(Database.at(path))
    tables = WatchedTables(path)
    tables.manage("example.com")
    tables.add_mailbox("bob", "bob@example.com")
    http = HttpSettings(doctor_file=Path(FOLDER.name) / "doctor.json", refusals=10)
    return replace(Settings(), database=f"sqlite:///{path}", audit=AuditSettings(syslog="none"), http=http)


SETTINGS = _settings()
PROCESSES = WatchedProcesses(SETTINGS)
PROCESSES.counters.at(0).set(Cell.WORKERS, 1)
CONTEXT = WebContext(SETTINGS, PROCESSES, _AtOnce())
DESK = make_desk(CONTEXT)


class FuzzedWorld(World):
    """The real site, without sockets and threads; `shown` are the paths for which its pages were asked."""

    def __init__(self, access: Access) -> None:
        super().__init__(access=access)
        self.site = make_site(CONTEXT, DESK, access, AuditLog(AuditSettings(), self.log), self.clock)
        self.shown: list[bytes] = []
        made = self.site.resource.getChildWithDefault

        def watched(path: bytes, request: Any) -> Any:
            self.shown.append(request.path)
            return made(path, request)

        self.site.resource.getChildWithDefault = watched


def run(raw: bytes) -> None:
    """Play *raw* against the site. Raises AssertionError, or whatever a defect raises."""
    head, count, rest = (raw[:1] or b"\0")[0], (raw[1:2] or b"\0")[0] % 16, raw[2:]
    sizes, stream = rest[:count], rest[count:].replace(b"\x01", RUN, 1)
    statuses = [converse(head, stream, each) for each in (sizes, b"")]
    assert statuses[0] == statuses[1], "how it is cut decides what is answered"


def converse(head: int, stream: bytes, sizes: bytes) -> list[int]:
    """The statuses of the answers to *stream*, of which all is checked."""
    world = FuzzedWorld(ACCESSES[head & 3]())
    peer = Peer(world, WAYS[head >> 2 & 3])
    for piece in cut(stream, sizes):
        if peer.is_closed:
            break
        peer.send(piece)
    assert all(_LINE.fullmatch(line) for line in world.lines), world.lines
    statuses = check(peer.raw)
    check_access(world, head)

    # Whatever it was at, the connection ends by itself, and nothing of it is left.
    world.clock.advance(3600)
    assert peer.is_closed, "a connection is kept for ever"
    assert world.site.connections == {}
    assert world.clock.getDelayedCalls() == []
    return statuses


def check(raw: bytes) -> list[int]:
    """The statuses of the answers in *raw*: each whole, with all that makes it safe."""
    statuses = []
    while raw:
        whole, _, rest = raw.partition(b"\r\n\r\n")
        status = _STATUS.match(whole)
        assert status, f"no answer: {raw!r}"
        statuses.append(int(status[1]))
        if statuses[-1] == 100:
            statuses.pop()
            raw = rest
            continue
        if statuses[-1] == 400 and b"Content-Length" not in whole:  # what was no request
            assert not rest, "an answer after the end"
            return statuses
        assert statuses[-1] < 500, f"{whole!r}"
        assert all(f"{name}: ".encode() in whole for name in HEADERS), f"{whole!r}"
        assert b"\nServer:" not in whole
        assert b"Traceback" not in rest
        raw = _after_body(whole, rest)
    return statuses


def _after_body(head: bytes, rest: bytes) -> bytes:
    """What comes behind the body of an answer; that to HEAD has none, and then the next answer begins at once."""
    if rest.startswith(b"HTTP/1.") or not rest:
        return rest
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    if length:
        assert len(rest) >= int(length[1]), "half an answer"
        return rest[int(length[1]) :]
    if b"chunked" not in head:
        return b""  # it ends with the connection
    while True:
        size, _, rest = rest.partition(b"\r\n")
        rest = rest[int(size, 16) + 2 :]
        if size == b"0":
            return rest


def check_access(world: FuzzedWorld, head: int) -> None:
    """Without a token, a proxy's word or the right place, no page was even asked for."""
    access, way = head & 3, WAYS[head >> 2 & 3]
    may_be_let_in = (access == 0 and way in (LOOPBACK, UNIX)) or (access == 2 and way in (LOOPBACK, UNIX))
    may_be_let_in = may_be_let_in or (access == 3 and way is UNIX)
    assert may_be_let_in or all(path.startswith(_OPEN) for path in world.shown), world.shown
