"""Of many values that differ little, `./test` takes a few; the others are for `--full`."""

from collections.abc import Iterable
from typing import Any

import pytest


def few(values: Iterable[Any], *taken: Any) -> list[Any]:
    """What to parametrize with: *values*, of which all but those *taken* are marked `full`."""
    values = list(values)
    assert set(taken) <= set(values), "one is taken that is not there"
    return [each if each in taken else pytest.param(each, marks=pytest.mark.full) for each in values]
