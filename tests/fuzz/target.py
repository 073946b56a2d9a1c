"""What a hostile peer sends, and all that must hold whatever it was: from the bytes to the reply and the audit line.

An input is a head and a stream. The head's first byte chooses the settings (the lowest two bits) and the request at
which the database fails (the next three, 0 for none); the second is how many bytes follow that say the sizes of the
pieces in which the stream arrives. The first byte 0x01 of a stream stands for `RUN`, so that short inputs reach the
limit of a request.
"""

from collections.abc import Iterator
from ipaddress import ip_network
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.task import Clock

from policyd.audit import AuditLog
from policyd.daemon.server import PolicyFactory
from policyd.decide import Decider
from policyd.errors import StoreError
from policyd.model import Action, Decision, Mode, Receive, Request, Rule
from policyd.settings import AuditSettings, LineFormat, Settings
from policyd.store.connection import Database
from policyd.store.database import create_database
from policyd.wire import REQUEST_LIMIT
from tests.fuzz.oracles import must_be_audit_line, must_be_replies, must_be_warning, requests_in
from tests.support.kept_lines import KeptLines
from tests.support.strict_transport import Connection
from tests.support.tables import WatchedTables

RUN = b"x" * (REQUEST_LIMIT - 200)
DAMAGE = "/var/lib/policyd/policyd.db: damaged, action=DUNNO"
HOSTILE_REASON = 'left", action="DUNNO\r\naction=DUNNO\n\n\u202e\0ẞ{sender} 4.7.1'
Asked = tuple[Request, Decision | None]  # None where the database failed


def _hostile_tables() -> WatchedTables:
    """Every rule can be met, and the administrator's own texts are no safer than the peer's."""
    path = Path(FOLDER.name) / "policyd.db"
    create_database(Database.at(path))
    tables = WatchedTables(path)
    tables.manage("example.com")
    for name in ("alice", "bob", "carol", "dave", "erin"):
        tables.add_mailbox(name, f"{name}@example.com")
    tables.add_address("alice", "a=b=c@example.com")
    tables.add_address("bob", "müller+x@example.com")
    tables.restrict("carol", Receive.INSIDERS, HOSTILE_REASON, accepted=("p@b.example",))
    tables.restrict("dave", Receive.NOBODY, "ö" * 5000)
    tables.block("alice", reason=HOSTILE_REASON, allowed=("friend@b.example",))
    tables.block("bob", to="carol", reason="")
    tables.block("erin", to="anyone", until=1)
    tables.block("@bad.example", to="anyone", reason="\\")
    tables.block("<>", to="dave", reason=HOSTILE_REASON)
    return tables


FOLDER = TemporaryDirectory()  # it goes with the process
TABLES = _hostile_tables()
PLAIN = Settings(origin="example.com")
OPEN_TEXTS = Settings(
    recipient_delimiter="+-=",
    insider_networks=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
    insider_contexts=frozenset({"submission"}),
    reply={
        Rule.BLOCKED_SENDER: "{sender}{reason}{recipient}",
        Rule.UNLISTED_RECIPIENT: "5.7.27 {recipient}",
        Rule.RESTRICTED_RECIPIENT: "{reason} {mailbox} {sender}",
    },
)
SETTINGS = [PLAIN, Settings(mode=Mode.MONITOR), OPEN_TEXTS, Settings(recipient_delimiter="", origin="bad.example")]


class Server:
    """The daemon without its reactor. It keeps what was asked, what was replied, and the lines of its audit."""

    def __init__(self, settings: Settings, format_: LineFormat, trouble_at: int) -> None:
        log = KeptLines()
        self.lines = log.lines
        self.asked: list[Asked] = []
        self._trouble_at = trouble_at
        self._decider = Decider(settings, TABLES)
        self._clock = Clock()
        self._factory = PolicyFactory(self, AuditLog(AuditSettings(format=format_), log), self._clock)

    def decide(self, request: Request, now: int) -> Decision:
        """Decide, or fail as a damaged database does."""
        self.asked.append((request, None))
        if len(self.asked) == self._trouble_at:
            TABLES.break_with(StoreError(DAMAGE))
        try:
            decision = self._decider.decide(request, now)
        finally:
            TABLES.repair()
        self.asked[-1] = (request, decision)
        return decision

    def end(self) -> None:
        """Look at the tables anew."""
        self._decider.end()

    def converse(self, pieces: Iterator[bytes]) -> bytes:
        """The replies to a stream that arrives in *pieces*."""
        connection = Connection(self._factory, self._clock)
        for piece in pieces:
            if connection.is_closed:
                break
            connection.protocol.dataReceived(piece)
            must_be_bounded(connection, len(piece))
            self._clock.advance(0)
        replies: bytes = connection.transport.value()
        connection.end()
        return replies


def must_be_bounded(connection: Connection, received: int) -> None:
    """A connection keeps one request at most, beside what it has just read."""
    kept = vars(connection.protocol.reader).values()  # whatever it keeps, and under whatever name
    size = sum(len(each) for each in kept if isinstance(each, bytes | bytearray | memoryview | str | list))
    assert size <= REQUEST_LIMIT + received, f"{size} bytes are kept"


def cut(stream: bytes, sizes: bytes) -> Iterator[bytes]:
    """*stream* in pieces of these sizes, over and over, but at most some 1 000; without any in one."""
    least = len(stream) // 1000 + 1
    steps = cycle([max(size * size // 4, least) for size in sizes] or [len(stream) or 1])
    start = 0
    while start < len(stream):
        end = start + next(steps)
        yield stream[start:end]
        start = end


def run(raw: bytes) -> None:
    """Play *raw* against the server. Raises AssertionError, or whatever a defect raises."""
    head, count, rest = raw[:1] or b"\0", (raw[1:2] or b"\0")[0] % 16, raw[2:]
    settings, trouble_at = SETTINGS[head[0] & 3], head[0] >> 2 & 7
    sizes, stream = rest[:count], rest[count:].replace(b"\x01", RUN, 1)
    text, whole = Server(settings, LineFormat.TEXT, trouble_at), Server(settings, LineFormat.JSON, trouble_at)
    TABLES.reads.clear()
    replies = text.converse(cut(stream, sizes))
    assert whole.converse(cut(stream, b"")) == replies, "how it is cut decides what is answered"
    assert whole.asked == text.asked
    check(stream, replies, text)
    check(stream, replies, whole)
    for request, decision in text.asked:
        must_be_explained(settings, request, decision)


def check(stream: bytes, replies: bytes, server: Server) -> None:
    """What came of *stream* is of the protocol, and on record."""
    expected, is_broken = requests_in(stream)
    failed = bool(server.asked) and server.asked[-1][1] is None
    assert [request for request, _ in server.asked] == expected[: len(server.asked)]
    assert failed or len(server.asked) == len(expected), "a whole request was not answered"
    answered = [(request, decision) for request, decision in server.asked if decision is not None]
    must_be_replies(replies, [decision for _, decision in answered])
    lines = server.lines
    assert len(lines) == len(answered) + (failed or is_broken), lines
    for line, (request, decision) in zip(lines, answered, strict=False):
        must_be_audit_line(line, request, decision)
    if failed or is_broken:
        must_be_warning(lines[-1], f"hung up: {DAMAGE}" if failed else "")


def must_be_explained(settings: Settings, request: Request, decision: Decision | None) -> None:
    """`check` says the same as the daemon, and no value from outside breaks its explanation."""
    steps: list[str] = []

    def note(template: str, *values: object) -> None:
        steps.append(template.format(*values))

    explained = Decider(settings, TABLES).decide(request, 1_700_000_000, note)
    TABLES.end()
    assert decision is None or explained == decision, "an answer from the cache is another"
    assert steps
    assert explained.is_refused or explained.action == Action.DUNNO
