"""Makes tables anew, where ALTER TABLE can't change them: the old ones are set aside, copied from and dropped."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from alembic import op
from sqlalchemy import MetaData, Table, insert

_SET_ASIDE = "set_aside_"  # in front of the old tables' names


def rebuild(
    old: Iterable[Table], new: MetaData, contents: Callable[[dict[str, Table]], Iterator[tuple[Table, Any]]]
) -> None:
    """Make the tables of *new* in place of the *old* ones, those that are referred to first.

    *contents* gets the old tables by their names, under which they are not to be found any more, and gives each table
    to be filled, with the statement for its rows.
    """
    # The names of indexes are those of the whole database: the new tables need them.
    changed, aside = [*old], MetaData()
    by_name = {each.name: each.to_metadata(aside, name=f"{_SET_ASIDE}{each.name}") for each in changed}
    for each in changed:
        for index in sorted(each.indexes, key=lambda index: str(index.name)):
            op.drop_index(str(index.name), each.name)
        op.rename_table(each.name, by_name[each.name].name)
    new.create_all(op.get_bind(), checkfirst=False)

    # What was in the old tables.
    for filled, rows in contents(by_name):
        op.execute(insert(filled).from_select([each.name for each in rows.selected_columns], rows))
    for each in reversed(changed):
        op.drop_table(by_name[each.name].name)
