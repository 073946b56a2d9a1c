"""The private names of Twisted's that answers take: a Twisted that has renamed them must stop no mail."""

import re
import shutil
from pathlib import Path

import pytest
import twisted

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
