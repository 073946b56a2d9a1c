"""What the journey on a bare Debian types stands in the documents; walked it is by `python -m tests.journey`."""

import pytest

from tests.journey.routes import ROUTES
from tests.journey.steps import Edit, Step


@pytest.mark.parametrize("name", ROUTES)
def test_each_command_of_the_journey_stands_in_the_documents(name: str) -> None:
    """Who changes a command in the documents changes the journey's too, or it would walk another way."""
    route = ROUTES[name]
    for step in (step for chapter in (route.given, *route.chapters) for step in chapter.steps):
        match step:
            case Step():
                assert step.line().startswith(step.command)
            case Edit():
                assert step.text().startswith(step.begins)
