"""What holds in any world, in the model and in policyd, and that policyd answers there as the model does."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.oracle.answerers import the_model
from tests.oracle.edited import the_edited_product
from tests.oracle.properties import PROPERTIES, policyd_answers_as_the_model
from tests.support.randomised import examples

CLAIMS = [pytest.param(each, id=each.__name__.replace("_", " ")) for each in PROPERTIES]
UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.mark.parametrize("claim", CLAIMS)
@examples(few=8, many=40, suppress_health_check=UNHURRIED)
@given(data=st.data())
def test_in_the_model(claim, data):
    """A model that broke one of them would be no measure for policyd."""
    claim(the_model, data)


@pytest.mark.parametrize("claim", CLAIMS)
@examples(few=3, many=20, suppress_health_check=UNHURRIED)
@given(data=st.data())
def test_in_policyd(claim, data):
    """Each a promise that administrators rely on without having read it."""
    claim(the_edited_product, data)


@examples(few=15, many=100, suppress_health_check=UNHURRIED)
@given(data=st.data())
def test_policyd_answers_as_the_model(data):
    """Two readings of the rules that share no line agree on every answer, its rule, its entry and its origin."""
    policyd_answers_as_the_model(the_edited_product, data)
