"""What tests need of a machine: without it they are skipped, but where it is required they fail."""

import os
from typing import NoReturn

import pytest


def give_up(what: str, reason: str) -> NoReturn:
    """Skip for *reason*, or fail where `POLICYD_REQUIRE_<what>=1` says that it must not happen, as in .ci/run."""
    variable = f"POLICYD_REQUIRE_{what}"
    if os.environ.get(variable) == "1":
        pytest.fail(f"{variable}=1, but {reason}", pytrace=False)
    pytest.skip(reason)
