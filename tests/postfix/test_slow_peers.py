"""A thousand connections that hold policyd's socket beside Postfix, and send next to nothing."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.drills import drill
from tests.support.fake_smtpd import request

from .conftest import Connect
from .daemon import Daemon
from .instance import Postfix
from .replies import ACCEPTED, refused

pytestmark = [pytest.mark.postfix, pytest.mark.full]

COUNT = 1000
REFUSED = refused("unlisted-recipient", "nosuch@example.com")


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def slow_peers(request: pytest.FixtureRequest, daemon: Daemon) -> Iterator[None]:
    """Half of them are silent, half send a byte of a request now and then."""
    daemon.stop()
    daemon.write_settings(workers=request.param, max_connections=2 * COUNT)
    daemon.start()
    if "hugo" not in daemon.command("mailbox", "list"):
        daemon.command("mailbox", "add", "hugo", "hugo@example.com")
    ended = threading.Event()
    with ExitStack() as stack:
        peers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(COUNT)]
        for peer in peers:
            peer.connect(str(daemon.endpoint))
        trickling = threading.Thread(target=trickle, args=(peers[::2], ended))
        trickling.start()
        try:
            yield
        finally:
            ended.set()
            trickling.join(10)


def trickle(peers: list[socket.socket], ended: threading.Event) -> None:
    """Send each of *peers* a byte, and again, until it has *ended*."""
    for byte in request_bytes():
        for peer in peers:
            with contextlib.suppress(OSError):  # hung up on, as it may be
                peer.send(byte)
        if ended.wait(0.05):
            return


def request_bytes() -> Iterator[bytes]:
    """A request without its end, byte by byte."""
    for byte in request()[:-1]:
        yield bytes([byte])


@drill(
    "1 000 slow-loris connections beside a real Postfix",
    made="1 000 sockets on the socket that Postfix uses, a thread trickles bytes",
    client="mail accepted, refused and delivered within half a second",
    log="each decision",
)
@pytest.mark.usefixtures("slow_peers")
def test_thousand_slow_peers_beside_a_working_postfix(connect: Connect, postfix: Postfix) -> None:
    """Mail is accepted, refused and delivered as ever, on sessions from before and new ones."""
    ids = []
    for _ in range(10):
        session = connect()
        for recipient, expected in (("nosuch@example.com", REFUSED), ("hugo@example.com", ACCEPTED)):
            assert session.ask(recipient) == expected
        ids.append(session.data())
    assert [postfix.deliveries(each) for each in ids] == [["hugo@example.com"]] * len(ids)
