"""The daemon is restarted under systemd's socket while a real Postfix takes mail from eight clients at once."""

import shutil
import threading
from pathlib import Path

import pytest

from tests.support.activated import held
from tests.support.drills import drill
from tests.support.waiting import until

from .audit import Audit
from .daemon import Daemon
from .instance import Postfix
from .replies import ACCEPTED, refused
from .smtp import OUTSIDE, Session

pytestmark = [pytest.mark.postfix, pytest.mark.full]

CLIENTS, RESTARTS, MAILS_BETWEEN = 8, 5, 3
LISTED, UNLISTED = "hugo@example.com", "nosuch@example.com"


class Sender(threading.Thread):
    """A mail server on the Internet: mail after mail, each to somebody and to nobody."""

    def __init__(self, port: int, stop: threading.Event) -> None:
        super().__init__()
        self.accepted: list[str] = []  # queue ids
        self.surprises: list[str] = []
        self._port = port
        self._stop_sending = stop

    def run(self) -> None:
        """Send until told to stop; what Postfix should not say is noted."""
        try:
            with Session(self._port) as session:
                session.pretend(OUTSIDE, "mx.outside.example")
                while not self._stop_sending.is_set():
                    self._send(session)
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
            self.surprises.append(repr(error))

    def _send(self, session: Session) -> None:
        session.mail("carol@outside.example")
        for recipient, wanted in ((UNLISTED, refused("unlisted-recipient", UNLISTED)), (LISTED, ACCEPTED)):
            if (reply := session.rcpt(recipient)) != wanted:
                self.surprises.append(reply)
        self.accepted.append(session.data())


def wait_for_mails(senders: list[Sender]) -> None:
    """Return when each sender has got some more mails in."""
    enough = [len(each.accepted) + MAILS_BETWEEN for each in senders]
    until(
        lambda: all(len(each.accepted) >= count or each.surprises for each, count in zip(senders, enough, strict=True)),
        "mail from everybody",
        seconds=60,
    )


@pytest.fixture
def stopped(postfix: Postfix, site: Path, syslog: Audit) -> Daemon:
    """policyd, not running, with a new database."""
    syslog.take()
    for left in site.glob("policyd.*"):
        left.unlink()
    daemon = Daemon(site, postfix.queue / "policyd" / "policyd.sock", {})
    daemon.command("domain", "add", "example.com")
    daemon.command("mailbox", "add", "hugo", LISTED)
    return daemon


@drill(
    "the daemon is restarted five times, under a real Postfix and 8 SMTP clients",
    made="SIGTERM and start on the held socket",
    client="no 4xx or 5xx but policyd's own",
    log="``event=stopped``, ``event=started``",
    lost="nothing: each accepted mail is delivered exactly once",
)
def test_restart_costs_no_client_an_answer_and_no_mail(stopped: Daemon, postfix: Postfix, syslog: Audit) -> None:
    """Nobody is told to try again, nobody slips in, and each mail that was taken is delivered once."""
    daemon, stop = stopped, threading.Event()
    with held(daemon.endpoint) as listening:
        shutil.chown(daemon.endpoint, group="postfix")
        daemon.endpoint.chmod(0o660)
        daemon.start(listening)
        senders = [Sender(postfix.port["patient"], stop) for _ in range(CLIENTS)]
        try:
            for each in senders:
                each.start()
            for _ in range(RESTARTS):
                wait_for_mails(senders)
                daemon.stop()
                daemon.start(listening)
            wait_for_mails(senders)
        finally:
            stop.set()
            for each in senders:
                each.join()
            daemon.stop()
            daemon.endpoint.unlink()
    assert [each.surprises for each in senders if each.surprises] == []
    accepted = [queue_id for each in senders for queue_id in each.accepted]
    assert len(accepted) == len({*accepted}) >= CLIENTS * RESTARTS * MAILS_BETWEEN
    for queue_id in accepted:
        assert postfix.deliveries(queue_id) == [LISTED]
