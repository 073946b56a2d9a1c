"""The private names of Twisted's that answers take: a Twisted that has renamed them must stop no mail."""

import re
import shutil
from pathlib import Path

import pytest
import twisted

from policyd.daemon import fast_twisted
from tests.support.fake_smtpd import FakeSmtpd, request
from tests.support.few import few
from tests.support.running_daemon import Daemon

RENAMED = {
    "the reactor's": ("_poller", "_selectables", "_doReadOrWrite"),
    "the transport's": ("_tempDataBuffer",),
    "all": ("_poller", "_selectables", "_doReadOrWrite", "_tempDataBuffer"),
}


def rename(folder: Path, names: tuple[str, ...]) -> None:
    """A copy of the installed Twisted in *folder*, in which the private *names* are called otherwise."""
    source = Path(twisted.__file__).parent
    shutil.copytree(source, folder / "twisted", ignore=shutil.ignore_patterns("test", "*.pyc", "newsfragments"))
    word = re.compile(rf"\b({'|'.join(names)})\b")
    for file in (folder / "twisted" / "internet").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        file.write_text(word.sub(lambda found: f"{found[1]}_of_tomorrow", text), encoding="utf-8")


@pytest.mark.parametrize("which", few(RENAMED, "all"))
def test_twisted_that_has_renamed_its_private_names_stops_no_mail(tmp_path, which):
    """It costs some speed, and the log says so; a release of Twisted must not stop a company's mail."""
    names = RENAMED[which]
    rename(tmp_path / "lib", names)
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        daemon.start(variables={"PYTHONPATH": str(tmp_path / "lib")})
        line = daemon.syslog.wait_for("this Twisted is not as policyd knows it")
        told = re.search(r'missing="?([^"]*)"?$', line)
        assert told is not None
        assert told[1].split() == sorted(names)
        with FakeSmtpd(str(daemon.socket)) as smtpd:
            for recipient, action in (("alice@example.com", "DUNNO"), ("nobody@example.com", "REJECT")):
                assert smtpd.ask(request(recipient=recipient)).startswith(action)
            many = [request(recipient="nobody@example.com")] * 500
            smtpd.send(b"".join(many))
            assert [smtpd.read_reply().startswith("REJECT") for _ in many] == [True] * 500
        assert daemon.stop()[0] == 0


def test_installed_twisted_has_the_fast_way(tmp_path):
    """Else each answer would take longer, and nobody would notice but by the log."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        daemon.start()
        assert daemon.ask(request(recipient="alice@example.com")) == "DUNNO"
        assert daemon.syslog.matching("this Twisted") == []


@pytest.fixture
def reactor():
    """A reactor of its own, of which nobody else knows."""
    reactor = fast_twisted._FastReactor()
    yield reactor
    reactor.waker.connectionLost(None)
    reactor._poller.close()


def test_what_is_to_be_called_at_the_end_of_a_turn_waits_for_no_event(reactor):
    """An answer that becomes due outside of a turn, as by a timer, is sent though nothing comes from anybody."""
    called: list[str] = []
    fast_twisted.call_at_end(reactor, lambda: called.append("first"))
    reactor.doPoll(None)
    assert called == ["first"]


def test_call_that_comes_during_another_waits_for_the_next_turn(reactor):
    """Whoever has answers without end keeps nobody else from being read."""
    called: list[int] = []

    def again():
        called.append(len(called))
        fast_twisted.call_at_end(reactor, again)

    fast_twisted.call_at_end(reactor, again)
    reactor.doPoll(None)
    assert called == [0]
    reactor.doPoll(None)
    assert called == [0, 1]


def test_defect_in_one_call_at_the_end_costs_no_other_one(reactor):
    """The reactor logs it, and goes on with its next turn."""
    called: list[str] = []

    def fail():
        raise ZeroDivisionError

    fast_twisted.call_at_end(reactor, fail)
    fast_twisted.call_at_end(reactor, lambda: called.append("other"))
    with pytest.raises(ZeroDivisionError):
        reactor.doPoll(None)
    reactor.doPoll(None)
    assert called == ["other"]
