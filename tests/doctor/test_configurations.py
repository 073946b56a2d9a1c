"""What doctor finds in Postfix configurations as people have them."""

import shlex
import socket
import subprocess
from pathlib import Path

import pytest

import policyd.doctor
from policyd.doctor.daemon import diagnose_log
from policyd.doctor.diagnosis import CODES
from policyd.settings import AuditSettings, Settings

from .sites import NAMES, MakeSite, codes, counted


@pytest.mark.postfix
@pytest.mark.parametrize("name", NAMES)
def test_every_mistake_is_found_and_no_other(make_site: MakeSite, name: str) -> None:
    """In most of them mail passes that their administrator believes refused; nothing else tells him."""
    site = make_site(name)
    found = site.doctor()
    assert codes(found) == site.expected(), found


@pytest.mark.postfix
def test_the_port_behind_a_filter_is_closed_by_its_line(make_site: MakeSite) -> None:
    """Whoever reaches it gets past policyd, and the filter needs it from this host alone."""
    site = make_site("amavis-reinjection")
    for each in counted(site.doctor()):
        for line in each["commands"]:
            subprocess.run(shlex.split(line), check=True)
    assert codes(site.doctor()) == set()


def test_every_code_that_is_explained_can_be_found() -> None:
    """A page that tells of a finding which nothing makes would have people wait for it."""
    folder = Path(policyd.doctor.__file__).parent
    text = "".join(file.read_text() for file in folder.glob("*.py") if file.name != "diagnosis.py")
    assert [code for code in CODES if f'"{code}"' not in text] == []


def test_a_log_that_nobody_reads_is_told(tmp_path: Path) -> None:
    """The socket of a syslog that has died is still there; each line that is sent to it is lost."""
    path = tmp_path / "log"
    settings = Settings(audit=AuditSettings(syslog=f"unix:{path}"))
    unseen: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(path))
        assert [*diagnose_log(settings, unseen)] == []
    assert [each.code for each in diagnose_log(settings, unseen)] == ["syslog-gone"]
    path.unlink()
    assert [*diagnose_log(settings, unseen)] == []
    assert unseen == [f"the log: {path}: No such file or directory; without one, decisions are not logged"]
