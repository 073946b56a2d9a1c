"""The benchmarks still run: nobody starts them for months, and then needs a figure."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.required import give_up

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("POLICYD_")}


def answers(*words: str) -> str:
    """What `benchmarks/run` prints, without making an environment first."""
    command = [sys.executable, "benchmarks/answers.py", *words]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_part_and_option_of_the_benchmarks_is_in_their_readme() -> None:
    """And every file that they import is there."""
    told = answers("--help")
    (parts,) = re.findall(r"PART +of (.*?); if none", told)
    readme = (ROOT / "benchmarks" / "README.rst").read_text(encoding="utf-8")
    assert [part for part in parts.split(", ") if f"\n``{part}``\n" not in readme] == []
    options = {*re.findall(r"--[a-z]+", told)} - {"--help"}
    assert [option for option in sorted(options) if f"[{option}" not in readme] == []


@pytest.mark.full
def test_every_part_of_the_benchmarks_runs() -> None:
    """On small tables, beside itself: that an older revision can be built is for whoever has a network."""
    if not shutil.which("gcc"):
        give_up("BENCHMARKS", "gcc is not installed (Debian: apt-get install gcc libc6-dev)")
    told = answers("--quick", "load", "workers", "watching", "start", "change", "commands", "bulk")
    assert "a site's mixture" in told
    assert "undo" in told
