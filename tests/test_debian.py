"""The Debian package's own files agree with what they are about: settings, log lines, units and libraries."""

import re
import subprocess
from pathlib import Path

import pytest

from policyd.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = ROOT / "debian"
_LINES = [
    "Nov 26 09:48:12 mx policyd[4242]: action=DUNNO, rule=default, entry=, state=RCPT",
    "2026-11-26T09:48:12.123456+00:00 mx policyd[4242]: action=REJECT, rule=restricted-recipient, entry=",
    "Nov  6 09:48:12 mx policyd[4242]: change=1, actor=root, operation=mailbox.add, object=bob",
    "Nov 26 09:48:12 mx policyd[4242]: event=started, version=0.1.0, pid=4242",
    "Nov 26 09:48:12 mx policyd[4242]: event=recovered",
]
_TOLD = [
    'Nov 26 09:48:12 mx policyd[4242]: warning="too many connections; idle ones give way", limit=1000',
    "Nov 26 09:48:12 mx postfix/smtpd[4243]: action=DUNNO, rule=default",
    'Nov 26 09:48:12 mx policyd[4242]: warning="x, action=DUNNO, rule=default"',
]


def test_settings_of_the_package_are_the_defaults() -> None:
    """`policyd setup` adds what Postfix says; what stood there already it would leave alone."""
    assert load_settings(DEBIAN / "policyd.toml") == Settings()


@pytest.mark.parametrize(("lines", "left"), [(_LINES, []), (_TOLD, _TOLD)])
def test_logcheck_leaves_out_what_is_usual_and_nothing_else(lines: list[str], left: list[str]) -> None:
    """A mail each hour about every decision would hide the warning among them."""
    filtered = ["grep", "--extended-regexp", "--invert-match", f"--file={DEBIAN / 'policyd.logcheck.ignore.server'}"]
    done = subprocess.run(filtered, input="\n".join(lines), capture_output=True, text=True)
    assert done.stdout.splitlines() == left


def test_each_unit_of_contrib_is_in_the_package() -> None:
    """A unit that the documents name and the package lacks would have to be copied by hand."""
    units = {each.name for each in (ROOT / "contrib/systemd").glob("policyd*.*")} - {"policyd.sysusers"}
    listed = re.search(r"^UNITS = (.*)$", (DEBIAN / "rules").read_text(), re.MULTILINE)
    assert listed is not None
    assert {*listed[1].split()} == units


def test_licence_of_each_library_is_named() -> None:
    """Who distributes the package must pass on each licence; pip's names differ from those of the folders."""
    files = (DEBIAN / "copyright").read_text().replace("_", "-").lower()
    others = {"attrs": "attr", "markdown-it-py": "markdown-it", "zope-interface": "zope", "sqlalchemy": "sqlalchemy"}
    names = re.findall(r"^([\w-]+)==\S+((?: ;.*)?)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    wanted = {others.get(name, name) for name, marker in names if "win32" not in marker and "'nt'" not in marker}
    assert {name for name in wanted if not re.search(rf"\blib/{re.escape(name)}(/\*|\.py)", files)} == set()


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm", "rtupdate"])
def test_maintainer_scripts_are_ones_that_sh_reads(script: str) -> None:
    """One that fails leaves the package half installed."""
    subprocess.run(["sh", "-n", DEBIAN / f"policyd.{script}"], check=True)
    assert "\nset -e\n" in (DEBIAN / f"policyd.{script}").read_text()
