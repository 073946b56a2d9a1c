"""Functions for which each engine has words of its own: those over which the tables have indexes."""

from typing import Any

from sqlalchemy import Integer
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class HasOtherThanAscii(FunctionElement[bool]):
    """Whether there is another character in a text than printable ASCII."""

    name = "has_other_than_ascii"  # without a type: of a boolean, SQLAlchemy would ask whether it is 1
    inherit_cache = True


@compiles(HasOtherThanAscii, "sqlite")
def _by_glob(element: HasOtherThanAscii, compiler: Any, **given: Any) -> str:
    return f"{compiler.process(element.clauses, **given)} GLOB '*[^ -~]*'"


@compiles(HasOtherThanAscii, "postgresql")
def _by_regular_expression(element: HasOtherThanAscii, compiler: Any, **given: Any) -> str:
    return f"{compiler.process(element.clauses, **given)} ~ '[^ -~]'"


class PlaceOf(FunctionElement[int]):
    """Where the second text begins in the first one, from 1 on; 0 where it is not in it."""

    name = "place_of"
    type = Integer()
    inherit_cache = True


@compiles(PlaceOf, "sqlite")
def _instr(element: PlaceOf, compiler: Any, **given: Any) -> str:
    return f"instr({compiler.process(element.clauses, **given)})"


@compiles(PlaceOf, "postgresql")
def _strpos(element: PlaceOf, compiler: Any, **given: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **given)})"
