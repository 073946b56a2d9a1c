"""What every test shares: one profile for the randomised ones, the same on every machine, and the option --full."""

import gc
import os
import sys
import tempfile
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.places import OPEN_PLACE

# Hundreds of processes run the program: each would compile it anew where the environment forbids to keep that.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A database is synced some ten thousand times, and a disk may be busy with something else.
if "TMPDIR" not in os.environ:
    os.environ["TMPDIR"] = tempfile.tempdir = OPEN_PLACE

settings.register_profile(
    "usual",
    derandomize=True,  # the same examples in each run: what fails here fails everywhere
    print_blob=True,  # and a line to play a failure again
    deadline=None,  # a busy machine is no defect
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=60,
)
settings.register_profile("full", settings.get_profile("usual"), max_examples=100)
settings.load_profile("usual")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --full."""
    parser.addoption("--full", action="store_true", help="run the drills that take minutes, too")


def pytest_configure(config: pytest.Config) -> None:
    """Have the randomised tests know of --full before they are read (tests/support/randomised.py)."""
    if config.getoption("--full"):
        settings.load_profile("full")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` is: one more than there are processors, which would be idle while a test waits for something."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among the thousands of tests: they stay, and each look would go through all of them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked `full`, unless they are asked for, and on a server those that are about files."""
    left_out = [] if config.getoption("--full") else ["full"]
    if os.environ.get("POLICYD_TEST_ENGINE") == "postgresql":
        left_out.append("file_only")
    out = [item for item in items if any(item.get_closest_marker(each) for each in left_out)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]
