"""Files that Postfix's parameters name, and that somebody else has made so that root waits for ever."""

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.doctor.agreement import diagnose_agreement, domains_in
from policyd.doctor.examination import Examination
from policyd.doctor.maps import permitting_row
from policyd.doctor.postconf import Instance
from policyd.errors import SetupError
from policyd.settings import Settings
from policyd.setup.wanted import settings_for
from tests.support.places import OPEN_PLACE
from tests.support.required import as_root

pytestmark = as_root


@pytest.fixture
def pipe() -> Iterator[Path]:
    """A pipe of another user's, into which nobody writes."""
    with tempfile.TemporaryDirectory(dir=OPEN_PLACE) as folder:
        path = Path(folder, "pipe")
        os.mkfifo(path)
        os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
        yield path


def instance(**values: str) -> Instance:
    """A Postfix with these parameters."""
    return Instance(Path("/nowhere"), values, values, (), ())


def test_doctor_does_not_wait_for_somebody_elses_pipe(pipe: Path) -> None:
    """The origin, a list of domains, a table of patterns: what can't be read is said, and the rest is looked at."""
    examined = Examination(instance(myorigin=str(pipe), mydestination=str(pipe)), Settings(), ())
    assert "delimiter-differs" in {each.code for each in diagnose_agreement(examined)}
    assert domains_in(examined, "mydestination") == []
    assert [each.partition(f": {pipe}: ")[0] for each in examined.unseen] == ["myorigin", "mydestination"]
    assert all("pipe" in each.rpartition(": ")[2] for each in examined.unseen), examined.unseen
    assert permitting_row(f"pcre:{pipe}", "") == ""  # nobody knows


def test_setup_does_not_wait_for_somebody_elses_pipe(pipe: Path) -> None:
    """It ends before anything is changed."""
    with pytest.raises(SetupError, match=f"myorigin: {pipe}: "):
        settings_for(instance(myorigin=str(pipe)), Settings(), "", is_here=False, is_watching=False)
