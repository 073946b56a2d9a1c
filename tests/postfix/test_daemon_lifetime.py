"""The daemon stops, starts and reads its settings again, while Postfix runs on."""

from collections.abc import Iterator

import pytest

from tests.support.waiting import until

from .audit import Audit
from .daemon import Daemon
from .replies import ACCEPTED, refused, unavailable
from .smtp import Session

pytestmark = pytest.mark.postfix

REFUSED = refused("unlisted-recipient", "nosuch@example.com")


@pytest.fixture(scope="module", autouse=True)
def mailbox(daemon: Daemon) -> None:
    """hugo takes mail from anyone."""
    daemon.command("mailbox", "add", "hugo", "hugo@example.com")


@pytest.fixture(autouse=True)
def running(daemon: Daemon) -> Iterator[None]:
    """However a test leaves the daemon, the next finds it running with its first settings."""
    yield
    daemon.stop()
    daemon.write_settings()
    daemon.start()


def test_stopped_daemon_leaves_the_answer_to_default_action(outsider: Session, daemon: Daemon) -> None:
    """The administrator chose it in main.cf: "try again later", so that no mail is lost and none slips in."""
    assert outsider.ask("hugo@example.com") == ACCEPTED
    daemon.stop()
    assert outsider.ask("hugo@example.com") == unavailable("hugo@example.com")


def test_restarted_daemon_answers_again_in_the_same_session(outsider: Session, daemon: Daemon) -> None:
    """Nobody needs to reload Postfix, and a client that was told to try again gets its answer."""
    daemon.stop()
    assert outsider.ask("nosuch@example.com") == unavailable("nosuch@example.com")
    daemon.start()
    assert outsider.ask("nosuch@example.com") == REFUSED
    assert outsider.ask("hugo@example.com") == ACCEPTED


def test_restart_between_two_recipients_costs_no_answer(outsider: Session, daemon: Daemon) -> None:
    """Postfix keeps its connection to the old daemon; that it is gone must not become a reply."""
    assert outsider.ask("nosuch@example.com") == REFUSED
    daemon.stop()
    daemon.start()
    assert outsider.ask("nosuch@example.com") == REFUSED


def test_sighup_puts_new_settings_in_force(outsider: Session, daemon: Daemon, audit: Audit) -> None:
    """Monitor mode on and off without a restart, for connections that are open too."""
    assert outsider.ask("nosuch@example.com") == REFUSED
    daemon.write_settings(mode="monitor")
    daemon.reload()
    until(lambda: outsider.accepts("nosuch@example.com"), "monitor mode")
    assert audit.decision(would="REJECT")["action"] == "DUNNO"
    daemon.write_settings()
    daemon.reload()
    until(lambda: outsider.ask("nosuch@example.com") == REFUSED, "the end of monitor mode")


def test_sighup_with_wrong_settings_changes_nothing(outsider: Session, daemon: Daemon, audit: Audit) -> None:
    """A slip of the editor doesn't take the mail down with it, and the mail log says what was wrong."""
    daemon.write_settings(mode="monitro")
    daemon.reload()
    assert str(daemon.config) in audit.wait_for("monitro")
    assert outsider.ask("nosuch@example.com") == REFUSED


def test_crashed_daemon_starts_again_over_its_own_socket(outsider: Session, daemon: Daemon) -> None:
    """After a power cut or the OOM killer the socket file is still there."""
    daemon.crash()
    assert daemon.endpoint.exists()
    daemon.start()
    assert outsider.ask("nosuch@example.com") == REFUSED
