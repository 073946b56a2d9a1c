"""Conversations between Postfix and policyd, each a file in `dialogues/`, played in memory and over real sockets.

The lines of a file:

    # text          a remark; the first ones say what the dialogue shows
    C: line         Postfix sends this line; `C:` alone is the empty line that ends a request
    S: action=…     policyd replies with exactly this, and with the empty line, `S:`
    S closes        policyd closes the connection, and sends nothing before it does

`C:` lines in a row, up to the next `S`, are sent as one segment. In them, `\\xHH`, `\\r` and `\\n` are bytes, and
`{N}` stands for N times the letter x.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from policyd.audit import AuditLog
from policyd.daemon.server import PolicyFactory
from policyd.decide import Decider
from policyd.settings import AuditSettings, Settings
from policyd.store.connection import Database
from policyd.store.lookup import Lookup
from policyd.syslog import NoSink
from tests.support.fake_smtpd import Address, FakeSmtpd
from tests.support.ports import free_port
from tests.support.running_daemon import Daemon
from tests.support.strict_transport import Connection

FILES = sorted((Path(__file__).parents[1] / "dialogues").glob("*.txt"))
LONG = 8192  # bytes; a longer segment is not sent byte by byte but in pieces
PIECE = 4093
TOGETHER = 200


@dataclass(frozen=True)
class Turn:
    """What Postfix sends in one segment, and what must come of it."""

    segment: bytes
    replies: list[str]
    closes: bool


def read_dialogue(text: str) -> list[Turn]:
    """The turns of a dialogue file. Raises AssertionError for a line that is none of the above."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.match(r"C: .|C:$|S: action=.|S:$|S closes$", line) for line in lines)
    spoken = [[*said] for _, said in groupby(lines, key=lambda line: line[0])]
    assert [said[0][0] for said in spoken] == ["C", "S"] * (len(spoken) // 2)
    return [_turn(*pair) for pair in zip(spoken[::2], spoken[1::2], strict=True)]


def _turn(sent: list[str], answered: list[str]) -> Turn:
    closes = answered[-1] == "S closes"
    replies = answered[:-1] if closes else answered
    assert replies[1::2] == ["S:"] * (len(replies) // 2)
    return Turn(
        b"".join(_bytes(line.removeprefix("C:").removeprefix(" ")) + b"\n" for line in sent),
        [line.removeprefix("S: action=") for line in replies[::2]],
        closes,
    )


def _bytes(line: str) -> bytes:
    line = re.sub(r"\{(\d+)\}", lambda count: "x" * int(count[1]), line)
    escapes = {rb"\r": b"\r", rb"\n": b"\n"}
    return re.sub(
        rb"\\x([0-9a-f]{2})|\\[rn]",
        lambda escape: bytes.fromhex(escape[1].decode()) if escape[1] else escapes[escape[0]],
        line.encode(),
    )


DIALOGUES = {file.stem: read_dialogue(file.read_text(encoding="utf-8")) for file in FILES}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory) -> Iterator[Daemon]:
    """The daemon on a unix socket and a TCP port, with the tables that the dialogues speak of."""
    with Daemon(tmp_path_factory.mktemp("d")) as daemon:
        daemon.port = free_port()
        endpoints = [f"unix:{daemon.socket}", f"tcp:{daemon.port}:interface=127.0.0.1"]
        daemon.write_settings(listen=endpoints, decisions="none")  # 200 lines at once are too many for a syslog
        daemon.make_tables("alice", "bob", "carol", "dave")
        daemon.command("domain", "add", "open.example", "--unlisted", "accept")
        daemon.command(
            "mailbox", "restrict", "carol", "--accept", "partner@example.net", "--reason", "internal mailbox"
        )
        daemon.command("mailbox", "restrict", "dave", "--receive", "nobody")
        daemon.command("sender", "block", "alice", "--except", "friend@example.org", "--reason", "left the company")
        daemon.command("sender", "block", "@bad.example")
        daemon.command("address", "add", "alice", "a=b=c@example.com")
        daemon.start()
        yield daemon
        status, told = daemon.stop()
        assert (status, told) == (0, "")


@pytest.fixture(params=["unix", "tcp"])
def address(request, daemon) -> Address:
    """Where the daemon listens, in either way."""
    return str(daemon.socket) if request.param == "unix" else ("127.0.0.1", daemon.port)


@pytest.fixture
def connection(daemon) -> Iterator[Connection]:
    """A connection in memory to the protocol, on the same tables."""
    lookup = Lookup(Database.at(daemon.database))
    clock = Clock()
    factory = PolicyFactory(Decider(Settings(), lookup), AuditLog(AuditSettings(), NoSink()), clock)
    connection = Connection(factory, clock)
    yield connection
    connection.end()
    lookup.close()
    assert clock.getDelayedCalls() == [], "a timer outlived its connection"


def play_in_memory(dialogue: list[Turn], connection: Connection, piece: int = 0) -> None:
    """Play *dialogue*, each segment in pieces of that many bytes; exactly the replies of the file must come."""
    for turn in dialogue:
        replies = []
        size = piece or len(turn.segment)
        for start in range(0, len(turn.segment), size):
            if not connection.is_closed:  # Twisted reads no more then
                replies += connection.receive(turn.segment[start : start + size])
        assert replies == turn.replies
        assert connection.is_closed is turn.closes


def play_over_socket(dialogue: list[Turn], address: Address, piece_of: Callable[[bytes], int]) -> None:
    """Play *dialogue* as Postfix would; exactly the replies of the file must come."""
    with FakeSmtpd(address) as smtpd:
        for turn in dialogue:
            smtpd.send(turn.segment, piece_of(turn.segment))
            assert [smtpd.read_reply() for _ in turn.replies] == turn.replies
            if turn.closes:
                smtpd.must_hang_up()
            else:
                smtpd.must_be_quiet()


def byte_by_byte(segment: bytes) -> int:
    """The size of the smallest sensible piece."""
    return 1 if len(segment) <= LONG else PIECE


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue_goes_as_written_in_memory(name, connection):
    """The protocol alone, without a reactor, keeps to the file."""
    play_in_memory(DIALOGUES[name], connection)


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue_goes_as_written_byte_by_byte_in_memory(name, connection):
    """The network may split a request anywhere."""
    play_in_memory(DIALOGUES[name], connection, max(map(byte_by_byte, (turn.segment for turn in DIALOGUES[name]))))


def test_dialogue_survives_a_cut_at_every_place(daemon):
    """Two pieces, cut at each byte in turn: no place is special, least of all between the two line breaks."""
    (turn,) = DIALOGUES["several_requests_in_one_segment"]
    lookup = Lookup(Database.at(daemon.database))
    clock = Clock()
    factory = PolicyFactory(Decider(Settings(), lookup), AuditLog(AuditSettings(), NoSink()), clock)
    for cut in range(1, len(turn.segment)):
        connection = Connection(factory, clock)
        assert connection.receive(turn.segment[:cut]) + connection.receive(turn.segment[cut:]) == turn.replies
        connection.end()
    lookup.close()


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue_goes_as_written_over_a_socket(name, address):
    """The daemon as it is installed keeps to the file."""
    play_over_socket(DIALOGUES[name], address, len)


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue_goes_as_written_byte_by_byte_over_a_socket(name, address):
    """So it does on the slowest of networks."""
    play_over_socket(DIALOGUES[name], address, byte_by_byte)


def test_two_hundred_smtpds_at_once_each_get_their_own_answers(address):
    """Postfix runs 100 smtpd processes by default, and each keeps a connection: none gets another's answer."""
    asked = [turn for turn in DIALOGUES["each_rule"] if len(turn.replies) == 1]
    smtpds = [FakeSmtpd(address) for _ in range(TOGETHER)]
    for first in range(3):
        turns = [asked[(first + number) % len(asked)] for number in range(TOGETHER)]
        for smtpd, turn in zip(smtpds, turns, strict=True):
            smtpd.send(turn.segment[:40])
        for smtpd, turn in zip(smtpds, turns, strict=True):
            smtpd.send(turn.segment[40:])
        for smtpd, turn in zip(smtpds, turns, strict=True):
            assert [smtpd.read_reply()] == turn.replies
            smtpd.must_be_quiet()
    for smtpd in smtpds:
        smtpd.__exit__(None, None, None)


def test_hang_ups_are_warned_of_with_the_peer_and_the_reason(daemon):
    """An administrator who finds Postfix's default action in the log finds the cause in ours."""
    play_over_socket(DIALOGUES["malformed_nul_byte"], str(daemon.socket), len)
    assert daemon.syslog.wait_for('NUL octet in a request", peer=unix')
    play_over_socket(DIALOGUES["malformed_empty_name"], ("127.0.0.1", daemon.port), len)
    pattern = r'warning="hung up: a line without a name: \'=alice@example\.com\'", peer=127\.0\.0\.1:\d+'
    daemon.syslog.wait_for("peer=127.0.0.1")
    assert any(re.fullmatch(pattern, line) for line in daemon.syslog.matching("peer=127.0.0.1"))
