"""The settings in the pages are those of the code."""

import re
import tomllib
from enum import StrEnum
from typing import Any

import attrs
import pytest

from policyd import reply
from policyd.settings import FACILITIES, AuditSettings, Settings
from tests.docs.pages import LAST, Row, names, table
from tests.docs.test_documented_examples import toml_blocks


def in_toml(value: object) -> str:
    """*value* as it would be written in the settings file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | frozenset):
        return f"[{', '.join(in_toml(str(each)) for each in sorted(value, key=str))}]"
    raise AssertionError(value)


def settings_fields() -> "dict[str, attrs.Attribute[Any]]":
    """Every setting as the page names it, but for the texts under `reply`."""
    top = {field.name: field for field in attrs.fields(Settings) if field.name not in ("audit", "reply")}
    return top | {f"audit.{field.name}": field for field in attrs.fields(AuditSettings)}


def settings_rows() -> dict[str, Row]:
    """The table of settings, by key."""
    return {key: rest for key, *rest in table("settings", "Key")}


def test_every_setting_is_in_the_table() -> None:
    """In the order in which the code has them, the reply texts last."""
    assert [*settings_rows()] == [*settings_fields(), "reply.RULE"]


@pytest.mark.parametrize("key", settings_fields())
def test_default_is_the_one_in_the_table(key: str) -> None:
    """What holds where the file says nothing; where to listen depends on the machine."""
    field, (default, allowed) = settings_fields()[key], settings_rows()[key]
    if key == "listen":
        assert "tcp:10040:interface=127.0.0.1" in default
        return
    assert default == in_toml(field.default)
    kinds = {bool: "true or false", int: "number", str: "text", tuple: "list of texts", frozenset: "list of texts"}
    assert allowed.startswith(next(word for kind, word in kinds.items() if isinstance(field.default, kind)))
    if isinstance(field.default, StrEnum):
        assert names(allowed.partition(":")[2]) == [*type(field.default)]


def test_facilities_are_those_of_the_table() -> None:
    """local1 to local6 hide behind a word."""
    allowed = settings_rows()["audit.facility"][LAST].partition(":")[2]
    assert names(allowed.replace("local0 to local7", ", ".join(f"local{n}" for n in range(8)))) == [*FACILITIES]


def test_reply_fields_are_those_of_the_table() -> None:
    """What a text of one's own may hold."""
    assert re.findall(r"\{(\w+)\}", settings_rows()["reply.RULE"][LAST]) == [*reply.FIELDS]


def test_dotted_keys_are_tables_in_the_file() -> None:
    """`audit.decisions` is the key decisions of the table audit."""
    assert {"audit", "reply"} <= set(tomllib.loads(toml_blocks()[-1]))
