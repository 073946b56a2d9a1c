"""What a drill is about: the fault, how it is made, what comes of it. `tests/faults/README.rst` is generated from it.

A drill is an ordinary test that makes a fault on purpose, marked with `@drill(...)`. All texts are reStructuredText.
"""

from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True)
class Drill:
    """One row of the table of drills."""

    fault: str
    made: str  # how
    client: str  # what the SMTP client sees
    log: str  # what the log says, or stderr where there is none
    lost: str  # of mail, of answers, of changes and of the log
    case: str  # which of the test's parameters make this fault; "" for all of them


def drill(
    fault: str, *, made: str, client: str = "nothing", log: str = "nothing", lost: str = "nothing", case: str = ""
) -> pytest.MarkDecorator:
    """Mark a test as the drill of *fault*; a test of several faults is marked once for each, with its *case*.

    `pytest -m drill` runs them all.
    """
    return pytest.mark.drill(Drill(fault, made, client, log, lost, case))
