"""The table of drills says what is drilled, no more and no less."""

import re
import subprocess
import sys
from pathlib import Path

from docutils.core import publish_doctree  # type: ignore[import-untyped]  # it has no annotations

from tests.support.waiting import LIMIT_SECONDS

HERE = Path(__file__).parent
README = (HERE / "README.rst").read_text(encoding="utf-8")


def test_table_is_what_the_drills_say():
    """It is written by tests/faults/generate.py, and committed for readers without Python."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.generate", "--check"],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")


def test_every_test_in_this_folder_is_a_drill():
    """Whoever reads that a fault is drilled must find the drill, and whoever writes one must say what it shows."""
    files = [file for file in HERE.glob("test_*.py") if file != Path(__file__)]
    here = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)}
    assert here - set(re.findall(r"``(test_\w+)``", README)) == set()


def test_table_is_well_formed():
    """It is read in a browser, too."""
    doctree = publish_doctree(README, settings_overrides={"report_level": 2, "halt_level": 2})
    assert len(list(doctree.findall(lambda node: node.tagname == "row"))) > 60
