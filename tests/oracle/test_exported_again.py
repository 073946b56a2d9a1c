"""What administrators have typed, in whatever order, is the same after an export and its import."""

from itertools import chain

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from policyd.store.connection import Database
from policyd.store.database import create_database
from tests.cli.test_export import contents
from tests.oracle.edited import the_edited_product
from tests.oracle.worlds import later_commands, tables
from tests.support.randomised import examples

UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
@examples(few=4, many=300, suppress_health_check=UNHURRIED)
@given(tables(), st.lists(later_commands, min_size=3, max_size=3))
def test_whatever_was_typed_comes_back_as_it_stands(format_, made, later):
    """What a command would refuse by now may have been of use when it was typed."""
    with the_edited_product(made.settings) as product:
        product.run_all([*made.commands, *chain.from_iterable(later)])
        policyd = product.commands
        file, other = policyd.folder / "out", policyd.folder / "other.db"
        policyd.run(f"export --format {format_} -o {file}")
        create_database(Database.at(other))
        ended = policyd.ends(f"import --strict --format {format_} {file} --database {other}")
        assert ended.status == 0, (ended, file.read_text())
        assert contents(Database.at(other)) == contents(policyd.store)
