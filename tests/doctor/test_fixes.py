"""What doctor says is typed, and a real Postfix does what its administrator meant."""

import pytest

from .running import Run, mails
from .sites import CONFIGURATIONS, NAMES, counted

ON_LOOPBACK = {"amavis-reinjection"}  # a port of a test is on loopback, where nothing is wrong with it
FIXED = [name for name in NAMES if (CONFIGURATIONS / name / "fix.json").exists() and name not in ON_LOOPBACK]


@pytest.mark.full
@pytest.mark.postfix
@pytest.mark.parametrize("name", FIXED)
def test_lines_that_are_printed_put_it_right(run: Run, name: str) -> None:
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
