"""What is released: everything that somebody needs who has no checkout."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What setuptools takes by itself, and what is of use in a checkout only.
_BY_ITSELF = {"LICENSE", "README.rst", "policyd", "pyproject.toml", "setup.py", "MANIFEST.in"}
_OF_A_CHECKOUT = {".gitignore"}


def test_an_sdist_has_everything_of_the_checkout() -> None:
    """Its tests run, and its pages can be built: distributions do both before they package it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    on_top = {name.partition("/")[0] for name in listed.stdout.splitlines()}
    rules = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines() if line and line[0] != "#"]
    taken = {name for rule, *names in rules if rule in ("include", "graft", "recursive-include") for name in names}
    assert on_top - _BY_ITSELF - _OF_A_CHECKOUT <= taken


def test_the_package_says_that_it_has_types() -> None:
    """Without this file a type checker takes nothing of it."""
    assert (ROOT / "policyd/py.typed").is_file()
    assert '"policyd": ["py.typed"]' in (ROOT / "setup.py").read_text()
