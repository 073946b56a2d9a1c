"""What doctor says is typed, and a real Postfix does what its administrator meant."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.postfix.instance import missing_for_postfix
from tests.support.places import OPEN_PLACE

from .running import RunningSite, mails
from .sites import CONFIGURATIONS, NAMES, counted

FIXED = [name for name in NAMES if (CONFIGURATIONS / name / "fix.json").exists()]
SAMPLE = {"submission-template-debian12"}  # the others take as long


@pytest.fixture
def run() -> Iterator[Callable[[str], RunningSite]]:
    """Starts the site of a configuration, in a place that every user can reach."""
    if reason := missing_for_postfix():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="policyd-", dir=OPEN_PLACE))
    sites = []

    def start(name: str) -> RunningSite:
        sites.append(RunningSite(name, folder))
        sites[-1].start()
        return sites[-1]

    try:
        yield start
    finally:
        for site in sites:
            site.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.postfix
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.full) for name in FIXED]
)
def test_lines_that_are_printed_put_it_right(run: Callable[[str], RunningSite], name: str) -> None:
    """They are typed as they are printed, by somebody who knows no better; afterwards doctor has nothing to say."""
    site = run(name)
    site.do_what_is_said(site.doctor())
    site.restart()
    so_far = site.asked(0)
    for mail, got, asked in mails(name, "after_fix"):
        told = site.told(mail)
        so_far += asked
        assert told == got or (mail.startswith("e") and told[0][0] == got[0][0]), mail
        assert site.asked(so_far) == so_far, mail
    assert [each for each in counted(site.doctor()) if each["severity"] != "info"] == []
