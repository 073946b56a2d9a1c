"""What is left to chance: from which seed, and of how many random examples, few in `./test`, many with `--full`."""

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from tests.support.engine import IS_SERVER


def a_seed() -> int:
    """Another one each time, printed, which pytest shows where a test fails; `POLICYD_SEED` plays it again."""
    seed = int(os.environ.get("POLICYD_SEED") or random.randrange(2**32))
    print(f"POLICYD_SEED={seed}")  # noqa: T201 - to play a failure again
    return seed


def count(usual: int) -> int:
    """*usual*; a fifth of it where each transaction has a connection to a server."""
    return max(1, usual // 5) if IS_SERVER else usual


def examples(few: int, many: int, **others: Any) -> Callable[..., Any]:
    """*few* examples; with `--full` *many*, and the test is one of those marked `full`. *others* are settings, too."""
    if settings.get_current_profile_name() != "full":
        return settings(max_examples=count(few), **others)
    return lambda test: pytest.mark.full(settings(max_examples=count(many), **others)(test))
