"""CONTRIBUTING.rst gives every dependency its reason."""

import re

from tests.docs.pages import Row, parse, tables
from tests.support.requirements import extras, required

# Each extra of setup.py, and the first heading of the table that says why.
EXTRAS = {
    "postgresql": "For PostgreSQL",
    "web": "For the web",
    "test": "For tests",
    "docs": "For the pages",
    "browser": "For a browser",
    "build": "For a build",
    "release": "For a release",
    "fuzz": "For fuzzing",
}


def rows(heading: str) -> list[Row]:
    """The rows of a table of CONTRIBUTING.rst, by its first heading."""
    (found,) = tables(parse("CONTRIBUTING.rst"), heading)
    return found


def test_every_dependency_has_its_reason() -> None:
    """What is needed is said in setup.py; why, in CONTRIBUTING.rst."""
    asked = {"Package": required(), **{EXTRAS[extra]: needed for extra, needed in extras().items()}}
    for heading, needed in asked.items():
        names = sorted(re.split(r"[<>=~[]", requirement)[0] for requirement in needed)
        assert sorted(name for name, _ in rows(heading)) == names, heading
