"""A connection that gives way to a new one costs a real Postfix no mail: it connects again and asks once more."""

import socket
import time
from contextlib import ExitStack

import pytest

from tests.support.drills import drill

from .audit import Audit
from .conftest import Connect
from .daemon import Daemon
from .replies import refused
from .smtp import Session

pytestmark = pytest.mark.postfix

PLACES = 4
REFUSED = refused("unlisted-recipient", "nosuch@example.com")


@drill(
    "all places taken by a local user while smtpd's connection is idle",
    made="twice as many silent connections as ``max_connections``, beside a real Postfix, with one worker and two",
    client="its answer, never 451: smtpd connects again",
    log="a warning that idle connections give way",
)
@pytest.mark.full
@pytest.mark.parametrize("workers", [1, 2])
def test_postfix_whose_idle_connection_gave_way_gets_its_answers(
    daemon: Daemon, connect: Connect, audit: Audit, workers: int
) -> None:
    """A local user takes all places while smtpd holds an idle connection; no RCPT is answered with 451."""
    daemon.stop()
    daemon.write_settings(workers=workers, max_connections=PLACES)
    daemon.start()
    session: Session = connect()
    assert session.ask("nosuch@example.com") == REFUSED
    with ExitStack() as stack:
        for _ in range(3):
            time.sleep(2.5)  # idleness is counted in seconds
            for _ in range(2 * PLACES):
                peer = stack.enter_context(socket.socket(socket.AF_UNIX))
                peer.connect(str(daemon.endpoint))
            assert audit.wait_for("idle ones give way")
            assert session.ask("nosuch@example.com") == REFUSED
            assert session.ask("postmaster@example.com") == "250 2.1.5 Ok"
