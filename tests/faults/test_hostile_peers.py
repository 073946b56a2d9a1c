"""Peers that mean harm, or are broken, at the sockets of a real daemon: the others get their answers all the same."""

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from policyd.wire import REQUEST_LIMIT
from tests.support.drills import drill
from tests.support.fake_smtpd import Address, FakeSmtpd, request
from tests.support.ports import free_port
from tests.support.processes import cpu_seconds, descriptors, kibibytes
from tests.support.randomised import a_seed
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until

MEGABYTE = 2**20
MANY = "max_connections = 2000"
ALICE, JOE = request(recipient="alice@example.com"), request(recipient="joe@example.com")
UNLISTED = "REJECT 5.1.1 This address does not receive mail"
SLOW = 1000
FULL = "policyd: warning: syslog takes no lines; they are dropped and counted"  # its queue holds ten
SMALL, ENDLESS = 4096, 100 * MEGABYTE  # bytes


@pytest.fixture(
    params=[pytest.param(1, id="one worker"), pytest.param(2, id="two workers", marks=pytest.mark.full)], scope="module"
)
def daemon(request, tmp_path_factory) -> Iterator[Daemon]:
    """A daemon that all of these peers meet, one after the other; at the end it must stop as if nothing had been."""
    with Daemon(tmp_path_factory.mktemp("h")) as daemon:
        daemon.port = free_port()
        endpoints = [f"unix:{daemon.socket}", f"tcp:{daemon.port}:interface=127.0.0.1"]
        daemon.write_settings(f"workers = {request.param}", MANY, listen=endpoints, decisions="none")
        daemon.make_tables("alice")
        daemon.start()
        until(lambda: len(daemon.syslog.matching("event=started")) == request.param, "all workers")
        yield daemon
        status, told = daemon.stop()
        assert (status, {*told.splitlines()} - {FULL}) == (0, set())
        assert daemon.syslog.matching("internal error") == []
        assert daemon.syslog.matching("a worker ended") == []


@pytest.fixture(params=["unix", "tcp"])
def address(request, daemon) -> Address:
    """Where the daemon listens, in either way."""
    return str(daemon.socket) if request.param == "unix" else ("127.0.0.1", daemon.port)


@pytest.fixture(autouse=True)
def others(daemon) -> Iterator[list[FakeSmtpd]]:
    """Postfix's own connections: before, meanwhile and afterwards they get their answers, and nothing else."""
    with ExitStack() as stack:
        smtpds = [stack.enter_context(FakeSmtpd(str(daemon.socket))) for _ in range(4)]
        ask_all(smtpds)
        yield smtpds
        ask_all(smtpds)


def ask_all(smtpds: list[FakeSmtpd]) -> None:
    """Each of *smtpds* gets its answers."""
    for smtpd in smtpds:
        assert (smtpd.ask(ALICE), smtpd.ask(JOE)) == ("DUNNO", UNLISTED)


def connect(address: Address, buffer: int = 0) -> socket.socket:
    """A connection without manners; *buffer* is how much the kernel shall keep of what it does not read."""
    peer = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    if buffer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    # Python's own timeout makes a unix socket give up at once where the backlog is full
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", LIMIT_SECONDS, 0))
    peer.connect(address)
    peer.settimeout(LIMIT_SECONDS)
    return peer


def send_until_full(peer: socket.socket) -> int:
    """How many bytes of requests *peer* gets rid of until the daemon reads no more of them."""
    peer.settimeout(0.3)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < ENDLESS:
            sent += peer.send(JOE * 200)
    return sent


def reset(peer: socket.socket) -> None:
    """Close so that the daemon gets ECONNRESET instead of an end, on TCP."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def all_that_comes(peer: socket.socket) -> bytes:
    """What the daemon sends until it hangs up."""
    came = b""
    with contextlib.suppress(ConnectionResetError):  # it closed without having read all that was sent
        while received := peer.recv(65536):
            came += received
    return came


def lines_said(daemon: Daemon) -> int:
    """How many lines the daemon has written until now, all of which have been read."""
    mark = f"mark {time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.sendto(mark.encode(), str(daemon.folder / "log"))  # it comes after all that was sent before
    daemon.syslog.wait_for(mark)
    return len([line for line in daemon.syslog.lines() if not line.startswith("mark ")])


def hang_ups(daemon: Daemon) -> int:
    """How many warnings of hang-ups are in the log."""
    return len(daemon.syslog.matching("hung up: "))


def accounted(daemon: Daemon) -> int:
    """How many of those the log tells, or counts as lines that syslog did not take."""
    dropped = [int(line.rpartition("=")[2]) for line in daemon.syslog.matching("dropped=")]
    return hang_ups(daemon) + sum(dropped)


@drill(
    "1 000 slow-loris connections, silent or a byte now and then",
    made="1 000 sockets on unix and TCP, 1 and 2 workers",
    client="answers as ever, none later than a second",
    log="nothing for them",
)
def test_thousand_silent_and_trickling_peers(daemon, address, others):
    """Each holds a connection and sends a byte now and then: the answers to Postfix come no later for it."""
    ask_all(others)
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(address)) for _ in range(SLOW)]
        for byte in ALICE[:8]:
            for number, peer in enumerate(slow):
                if number % 2:
                    peer.send(bytes([byte]))
            ask_all(others)
        ask_all(others)
        with FakeSmtpd(address) as newcomer:
            assert newcomer.ask(JOE) == UNLISTED
        for peer in slow[1::2]:
            peer.sendall(ALICE[8:])
        assert {peer.recv(65536) for peer in slow[1::2]} == {b"action=DUNNO\n\n"}


@drill(
    "a peer shuts its sending side down",
    made="SHUT_WR after two requests",
    lost="nothing: both answers come, then the end",
)
def test_half_closed_by_the_peer_that_sends_no_more(address):
    """`printf … | nc` shuts its side down and waits: it gets all its answers, then the end."""
    with connect(address) as peer:
        peer.sendall(ALICE + JOE)
        peer.shutdown(socket.SHUT_WR)
        assert all_that_comes(peer) == f"action=DUNNO\n\naction={UNLISTED}\n\n".encode()


@drill(
    "a peer shuts its sending side down in mid-request",
    made="SHUT_WR one byte before the end",
    lost="nothing: no answer to half a request, the descriptor is freed",
)
def test_half_closed_in_mid_request(daemon, address):
    """Half a question has no answer; the connection does not stay."""
    before = descriptors(daemon.pid)
    with connect(address) as peer:
        peer.sendall(ALICE + JOE[:-1])
        peer.shutdown(socket.SHUT_WR)
        assert all_that_comes(peer) == b"action=DUNNO\n\n"
    until(lambda: descriptors(daemon.pid) <= before, "the connection to go")


@drill(
    "a peer reads no more",
    made="SHUT_RD, then 100 requests",
    lost="nothing, the descriptor is freed",
)
def test_half_closed_by_the_peer_that_reads_no_more(daemon, address):
    """Its answers go nowhere; the daemon lets the connection go with its end."""
    before = descriptors(daemon.pid)
    with connect(address) as peer:
        peer.shutdown(socket.SHUT_RD)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                peer.sendall(JOE)
    until(lambda: descriptors(daemon.pid) <= before, "the connection to go")


@drill(
    "200 peers crash in mid-request",
    made="SO_LINGER 0 after each prefix of a request",
    lost="nothing, descriptors are freed",
)
def test_reset_in_mid_request(daemon, address):
    """A peer that crashed, or wants to look like it, two hundred times: nothing is left of it, and nothing is said."""
    before, said = descriptors(daemon.pid), lines_said(daemon)
    for cut in range(200):
        peer = connect(address)
        peer.sendall(ALICE[: cut % len(ALICE)])
        reset(peer)
    until(lambda: descriptors(daemon.pid) <= before, "the connections to go")
    assert lines_said(daemon) == said


@drill(
    "peers crash with answers on their way",
    made="SO_LINGER 0 after 1 to 2 000 requests, unread",
    log="each decision",
    lost="nothing, descriptors are freed",
)
def test_reset_in_mid_reply(daemon, address):
    """The answers are on their way, or in the daemon's buffer, when their reader is gone."""
    before = descriptors(daemon.pid)
    for count in (1, 2, 50, 2000):
        for _ in range(10):
            peer = connect(address)
            peer.settimeout(0.2)
            with contextlib.suppress(TimeoutError):  # as much as goes without reading
                peer.sendall(JOE * count)
            reset(peer)
    until(lambda: descriptors(daemon.pid) <= before, "the connections to go")


@drill(
    "peers that send and never read",
    made="two peers with small buffers send until the daemon reads no more",
    client="answers as ever",
    log="each decision",
    lost="nothing; less than 16 MiB of memory",
)
@pytest.mark.full
def test_peer_that_sends_without_reading(daemon, address, others):
    """However much it has to say: the daemon reads no more of it than it can answer."""
    before = kibibytes(daemon.pid)
    with ExitStack() as stack:
        deaf = [stack.enter_context(connect(address, SMALL)) for _ in range(2)]
        sent = [send_until_full(peer) for peer in deaf]
        ask_all(others)
        assert max(sent) < ENDLESS, "it never stopped reading"
        assert kibibytes(daemon.pid) - before < 16 * 1024
        ask_all(others)


GARBAGE = {
    "the hello of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\n\n",
    "a question in HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n\n\n",
    "a greeting in SMTP": b"EHLO mail.example.com\n\nMAIL FROM:<a@b.example>\n\n",
    "NULs": bytes(1000) + b"\n\n",
    "empty lines": b"\n" * 1000,
    "equals signs": b"=" * 1000 + b"\n\n",
    "a question of 64 KiB and a byte": b"request=smtpd_access_policy\nsender=" + b"a" * REQUEST_LIMIT,
    "lines without an end": b"a=b\n" * REQUEST_LIMIT,
    "eleven thousand attributes": b"request=smtpd_access_policy\n" + b"a=b\n" * 11_000 + b"\n",
    "a hundred and one attributes": b"request=smtpd_access_policy\n" + b"a=b\n" * 100 + b"\n",
    "terminal sequences": b"\x1b]0;x\x07\x1b[2J\n\n",
    "a forged line": b'x", peer=unix\nNov 23 00:00:00 mx policyd[1]: event=stopped\n\n',
}


@drill(
    "TLS, HTTP, SMTP, NULs, 64 KiB and more, forged lines on the socket",
    made="each sent whole on a connection of its own",
    client="answers as ever",
    log="one line ``hung up: …``, printable and short",
)
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage(daemon, address, garbage):
    """It gets no answer but a hang-up, and the log one line that says why, which no byte of it can break."""
    lines_said(daemon)  # those of earlier tests
    before = hang_ups(daemon)
    with connect(address) as peer:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(garbage)
        assert all_that_comes(peer) == b""
    until(lambda: hang_ups(daemon) > before, "a warning")
    (line,) = daemon.syslog.matching("hung up: ")[before:]
    assert line.isprintable()
    assert len(line) < 400


@drill(
    "random bytes",
    made="100 connections, by a printed seed",
    client="answers as ever",
    log="a line each where it broke the protocol",
)
def test_random_bytes(daemon, address):
    """Whatever they are: no answer, and never a defect of ours."""
    chance = random.Random(a_seed())
    for _ in range(100):
        with connect(address) as peer:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(chance.randbytes(chance.randrange(1, 2000)))
                peer.shutdown(socket.SHUT_WR)
            assert all_that_comes(peer) == b""
    assert daemon.syslog.matching("internal error") == []


@drill(
    "a gigabyte without a line break",
    made="sent until hung up on",
    client="answers as ever",
    log="``hung up: a request of more than 65536 octets``",
    lost="nothing; less than 8 MiB of memory",
)
def test_line_without_an_end(daemon, address):
    """Somebody would send a gigabyte: the daemon hangs up at 64 KiB, and keeps no more than that of it."""
    lines_said(daemon)  # those of earlier tests
    before, said, sent = kibibytes(daemon.pid), hang_ups(daemon), 0
    with connect(address) as peer:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 1024 * MEGABYTE:
                sent += peer.send(b"a" * 8192)
        assert all_that_comes(peer) == b""
    assert sent < 8 * MEGABYTE, "as much as the sockets' own buffers hold, and no more"
    assert kibibytes(daemon.pid) - before < 8 * 1024
    until(lambda: hang_ups(daemon) > said, "a warning")
    assert "a request of more than 65536 octets" in daemon.syslog.matching("hung up: ")[-1]


@drill(
    "3 000 connections that say nothing",
    made="connect and close, or reset",
    client="answers as ever",
    lost="nothing: no descriptor, no memory, no line",
)
def test_connections_without_a_word(daemon, address, others):
    """Port scanners and health checks: thousands cost neither a line in the log, nor a descriptor, nor memory."""
    before, said, kept = descriptors(daemon.pid), lines_said(daemon), kibibytes(daemon.pid)
    for number in range(3000):
        peer = connect(address)
        if number % 2:
            reset(peer)
        else:
            peer.close()
        if number % 500 == 0:
            ask_all(others)
    until(lambda: descriptors(daemon.pid) <= before, "the connections to go")
    assert lines_said(daemon) == said
    assert kibibytes(daemon.pid) - kept < 8 * 1024


@drill(
    "1 000 connections with garbage, one after the other",
    made="``junk`` and an empty line",
    client="answers as ever",
    log="a line each; those that syslog does not take are counted",
    lost="nothing but lines about garbage, which are counted",
)
def test_flood_of_garbage(daemon, address, others):
    """A line in the log for each that syslog takes, the others counted: no answer waits for it, and memory stays."""
    kept, open_before, sent = kibibytes(daemon.pid), descriptors(daemon.pid), accounted(daemon)

    def send_garbage() -> None:
        nonlocal sent
        with connect(address) as peer, connect(address) as twin:  # two at once: one for each worker
            for each in (peer, twin):
                sent += 1
                each.sendall(b"junk\n\n")
            assert all_that_comes(peer) + all_that_comes(twin) == b""

    def is_accounted() -> bool:
        if accounted(daemon) >= sent:  # what earlier tests left uncounted may come, too
            return True
        send_garbage()  # a worker counts with its next line what was dropped before
        return False

    for _ in range(500):
        send_garbage()
    ask_all(others)
    until(is_accounted, "a line or a count for each")
    until(lambda: descriptors(daemon.pid) <= open_before, "the connections to go")
    assert kibibytes(daemon.pid) - kept < 8 * 1024


@drill(
    "one peer with ever more requests",
    made="100 at once, 20 times",
    client="answers as ever",
    log="each decision",
)
def test_peer_that_asks_without_pause(address, others):
    """One connection with ever more questions takes its turn with the others."""
    with FakeSmtpd(address) as greedy:
        for _ in range(20):
            greedy.send(JOE * 100)
            ask_all(others)
            assert {greedy.read_reply() for _ in range(100)} == {UNLISTED}


@drill(
    "200 peers with 11 000 attributes each",
    made="one after the other, on unix and TCP, 1 and 2 workers",
    client="answers as ever",
    log="``hung up: a request of more than 100 attributes``, a line each; those that syslog does not take are counted",
    lost="nothing; less than 5 ms of CPU time each",
)
def test_peers_with_thousands_of_attributes(daemon, address):
    """200 of them, one after the other: each costs less than reading what it sends attribute by attribute."""
    used = cpu_seconds(daemon.pid)
    for _ in range(200):
        with connect(address) as peer:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(b"request=smtpd_access_policy\n" + b"a=b\n" * 11_000 + b"\n")
            assert all_that_comes(peer) == b""
    assert cpu_seconds(daemon.pid) - used < 200 * 0.005


@drill(
    "a peer that never sends the same attributes twice in a row, or names of 60 000 bytes",
    made="20 layouts of 94 names in turns, 1 000 times; names of 60 000 bytes",
    client="answers as ever",
    log="each decision",
    lost="nothing; less than 2 ms of CPU time each",
)
def test_peer_with_ever_new_layouts(daemon, address, others):
    """Each is answered, and costs no more than to read it: none of them is worth compiling."""
    used = cpu_seconds(daemon.pid)
    with FakeSmtpd(address) as peer:
        for number in range(1000):
            more = {f"{number % 20}{each:062d}": "x" for each in range(80)}
            assert peer.ask(request(recipient="joe@example.com", **more)) == UNLISTED
        for number in range(20):
            more = {f"{number}{'y' * 60_000}": "x"}
            assert peer.ask(request(recipient="joe@example.com", **more)) == UNLISTED
        ask_all(others)
    assert cpu_seconds(daemon.pid) - used < 2
