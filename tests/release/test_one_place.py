"""The version and the project's places: each is written once, and what repeats it follows."""

import re
from urllib.parse import urlsplit

from policyd import __version__
from tests.support.requirements import ROOT


def test_changes_begin_with_this_version() -> None:
    """Who upgrades looks for the version that `policyd --version` told, and finds whether it is released."""
    titles = re.findall(r"^(\d\S*) \((.+)\)\n-+$", (ROOT / "CHANGES.rst").read_text(), re.MULTILINE)
    version, when = titles[0]
    assert version == __version__
    assert re.fullmatch(r"unreleased|\d{4}-\d{2}-\d{2}", when)


def test_the_place_of_the_project_is_the_same_everywhere() -> None:
    """`systemctl status` and a package's page lead where the index leads, also after the project has moved."""
    setup = (ROOT / "setup.py").read_text()
    (home,) = re.findall(r'^HOME = "(https://.+[^/])"$', setup, re.MULTILINE)
    repeated = [*ROOT.glob("contrib/systemd/*"), *ROOT.glob("debian/*"), *ROOT.glob("docs/*.rst")]
    named = {
        place
        for path in repeated
        if path.is_file()
        for place in re.findall(r"https?://[\w.-]+/policyd\b", path.read_text())
    }
    assert named == {home}
    (contact,) = re.findall(r"write to \S+@(\S+),", (ROOT / "SECURITY.rst").read_text())
    assert contact == urlsplit(home).hostname
