"""The settings in the pages are those of the code; docs/generate.py writes most of them."""

import re
import tomllib

import pytest
from docutils import nodes  # type: ignore[import-untyped]

from policyd import endpoint, reply
from policyd.settings import FACILITIES, SETTINGS
from tests.docs.pages import names, page, words
from tests.docs.test_documented_examples import toml_blocks


def explained() -> dict[str, str]:
    """What the page says of each setting."""
    found: dict[str, str] = {}
    for item in page("settings").findall(nodes.definition_list_item):
        term, definition = item
        found |= dict.fromkeys(names(words(term)), words(definition))
    return found


def test_every_setting_is_explained() -> None:
    """In the order in which the code has them."""
    assert [*explained()] == [*SETTINGS]


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_says_what_it_is_for(key: str) -> None:
    """In one line: the pages and the manual are made from it."""
    assert re.fullmatch(r"\S.{9,}[^.\s]", SETTINGS[key].about)


@pytest.mark.parametrize("key", [key for key in SETTINGS if key != "listen"])
def test_default_can_be_typed_as_it_stands(key: str) -> None:
    """A default is copied out of the page, to be changed a little."""
    _, _, default = explained()[key].rpartition(" Default: ")
    if key.startswith("reply."):
        assert default == "the text in rules."
        return
    table, _, name = key.rpartition(".")
    typed = f"[{table}]\n{name} = {default.removesuffix('.')}\n" if table else f"{key} = {default.removesuffix('.')}\n"
    loaded = tomllib.loads(typed)
    assert SETTINGS[key].kind.read((loaded[table] if table else loaded)[name]) == SETTINGS[key].default


def test_where_it_listens_by_default_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It depends on the machine, so that no value can stand in the code."""
    monkeypatch.setattr(endpoint, "_queue_directory", lambda: "/nowhere")
    (default,) = endpoint.default_listen()
    assert f"otherwise on {default.text}." in words(page("settings"))


def test_facilities_are_those_of_the_page() -> None:
    """local1 to local6 hide behind a word."""
    _, _, allowed = explained()["audit.facility"].partition(" Text: ")
    listed = allowed.partition(". Default")[0].replace("local0 to local7", ", ".join(f"local{n}" for n in range(8)))
    assert names(listed) == [*FACILITIES]


def test_reply_fields_are_those_of_the_page() -> None:
    """What a text of one's own may hold."""
    assert re.findall(r"\{(\w+)\}", explained()["reply.blocked-sender"]) == [*reply.FIELDS]


def test_dotted_keys_are_tables_in_the_file() -> None:
    """`audit.decisions` is the key decisions of the table audit."""
    assert any({"audit", "reply"} <= set(tomllib.loads(block)) for block in toml_blocks())
