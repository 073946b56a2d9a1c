"""The table of drills says what is drilled, no more and no less."""

import re
from pathlib import Path

from docutils.core import publish_doctree  # type: ignore[import-untyped]  # it has no annotations

HERE = Path(__file__).parent
README = (HERE / "README.rst").read_text(encoding="utf-8")


def drills(folder: Path, pattern: str) -> set[str]:
    """The names of the tests in those files."""
    return {
        name for file in folder.glob(pattern) for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def test_table_has_a_row_for_each_drill_and_no_other():
    """Who reads that a fault is drilled must find the drill, and who writes one must say what it shows."""
    told = set(re.findall(r"``(test_\w+)``", README))
    here = drills(HERE, "test_*.py") - {name for name in globals() if name.startswith("test_")}
    assert here - told == set()
    assert told - here <= drills(HERE.parent, "*.py") | drills(HERE.parent / "postfix", "*.py")


def test_table_is_well_formed():
    """It is read in a browser, too."""
    doctree = publish_doctree(README, settings_overrides={"report_level": 2, "halt_level": 2})
    assert len(list(doctree.findall(lambda node: node.tagname == "row"))) > 60
