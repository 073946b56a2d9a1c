"""CONTRIBUTING.rst gives every dependency its reason."""

import ast
import re

import pytest

from tests.docs.pages import ROOT, Row, parse, tables


def rows(heading: str) -> list[Row]:
    """The rows of a table of CONTRIBUTING.rst, by its first heading."""
    (found,) = tables(parse("CONTRIBUTING.rst"), heading)
    return found


def requirements() -> dict[str, list[str]]:
    """What setup.py asks for, under the heading of the table that says why."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    extras = ast.literal_eval(given["extras_require"])
    return {
        "Package": ast.literal_eval(given["install_requires"]),
        "For PostgreSQL": extras["postgresql"],
        "For the web": extras["web"],
        "For tests": extras["test"],
        "For the pages": extras["docs"],
        "For fuzzing": extras["fuzz"],
    }


@pytest.mark.parametrize(
    "heading", ["Package", "For PostgreSQL", "For the web", "For tests", "For the pages", "For fuzzing"]
)
def test_every_dependency_has_its_reason(heading: str) -> None:
    """What is needed is said in setup.py; why, in CONTRIBUTING.rst."""
    needed = sorted(re.split(r"[<>=~[]", requirement)[0] for requirement in requirements()[heading])
    assert sorted(name for name, _ in rows(heading)) == needed
