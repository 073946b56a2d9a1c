"""Who may write to whom once an administrator has typed so: the scenarios of `scenarios/`, and their answers."""

import pytest

from tests.oracle.answerers import the_model
from tests.oracle.product import the_product
from tests.oracle.scenarios import all_scenarios

SCENARIOS = [pytest.param(each, id=f"{each.place.removesuffix('.txt')}: {each.name}") for each in all_scenarios()]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_model_answers_as_people_expect(scenario):
    """What random worlds are compared with is itself held to what people have asked for."""
    scenario.play(the_model)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_policyd_answers_as_people_expect(scenario):
    """Each command as it is typed, each question to what the daemon decides with, at once after the commands before."""
    scenario.play(the_product)


def test_each_scenario_says_why_and_asks_something():
    """A scenario without a reason is a riddle, and one without a question holds nothing."""
    for scenario in all_scenarios():
        place = f"{scenario.place}: {scenario.name}"
        assert scenario.why, f"{place}: why?"
        assert any(step.startswith("?") for _, step in scenario.steps), f"{place} asks nothing"
    names = [scenario.name for scenario in all_scenarios()]
    assert len({*names}) == len(names), "two have one name"
