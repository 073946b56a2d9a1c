"""The pages are well formed, and what they and the code refer to is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docutils import nodes  # type: ignore[import-untyped]

from tests.docs.pages import DOCUMENTS, PAGES, ROOT, page, parse, titles

REFERRING = ("policyd", "contrib", "tests", "tools", "benchmarks", "docs")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_is_well_formed(document: str) -> None:
    """What docutils only warns of shows as rubbish on a page."""
    parse(document)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_row_of_a_table_begins_in_the_middle_of_a_sentence(document: str) -> None:
    """In a simple table, a second line in the first column is a row of its own, without a warning."""
    for row in parse(document).findall(nodes.row):
        first = row[0].astext()
        assert not re.search(r"^\(|(,| and| or)$", first), first


def test_the_first_page_is_one_that_is_read() -> None:
    """A README of 1358 lines was read by nobody."""
    assert len((ROOT / "README.rst").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_is_in_the_contents_once() -> None:
    """A page that nothing leads to is not found."""
    listed = [
        f"docs/{name}.rst"
        for each in page("index").findall(nodes.comment)
        if "toctree" in each["classes"]
        for name in each.astext().split()
    ]
    assert sorted([*listed, "docs/index.rst"]) == PAGES


def test_the_readme_leads_to_every_page() -> None:
    """Many read on GitHub, without Sphinx; the page of bulk files leads to those of each format."""
    linked = {each["refuri"] for each in parse("README.rst").findall(nodes.reference)}
    told = {f"docs/{each['title']}.rst" for each in page("import").findall(nodes.inline) if "doc" in each["classes"]}
    assert {*PAGES} - {"docs/index.rst"} <= linked | told


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_within_the_checkout_lead_somewhere(document: str) -> None:
    """A file is moved, and the links to it are forgotten."""
    for each in parse(document).findall(nodes.reference):
        if "refuri" in each and ":" not in each["refuri"]:
            assert (ROOT / document).parent.joinpath(each["refuri"]).is_file(), each["refuri"]
    for each in parse(document).findall(nodes.inline):
        if "doc" in each["classes"]:
            assert f"docs/{each['title']}.rst" in PAGES, each["title"]


def test_every_file_that_the_architecture_names_is_there() -> None:
    """A stranger finds the place of a change by this page."""
    named = {each.astext() for each in page("architecture").findall(nodes.literal) if each.astext().endswith(".py")}
    assert {name for name in named if not any((ROOT / at / name).is_file() for at in ("", "policyd"))} == set()


@pytest.mark.parametrize("document", ["tests/README.rst", "benchmarks/NOTES.rst", "benchmarks/README.rst"])
def test_every_python_file_of_ours_that_a_note_names_is_there(document: str) -> None:
    """A file is moved, and a note leads to where it was."""
    text = (ROOT / document).read_text(encoding="utf-8")
    assert [name for name in re.findall(r"\b(?:policyd|tests)/[\w/]+\.py\b", text) if not (ROOT / name).is_file()] == []


def references() -> Iterator[tuple[str, str, str]]:
    """Each page, and section of it, that a file speaks of: the file, the page, the title of the section or ""."""
    for folder in REFERRING:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".rst", ".service", ".conf", ".cf", "") and file.is_file() and _is_ours(file):
                text = re.sub(r"\s+(# )?", " ", file.read_text(encoding="utf-8", errors="replace"))
                for title, name in re.findall(r"\*([^*`]+)\* in :doc:`(?:[^`<]+<)?/?([\w/]+)>?`", text):
                    yield str(file.relative_to(ROOT)), f"docs/{name}.rst", title
                for name, title in re.findall(r"\b(docs/[\w/]+\.rst)(?:, \*([^*]+)\*)?", text):
                    yield str(file.relative_to(ROOT)), name, title


def _is_ours(file: Path) -> bool:
    return not {"__pycache__", "_build"} & {*file.parts} and file != Path(__file__)


def test_each_page_and_section_that_is_spoken_of_is_there() -> None:
    """Who follows a comment or a message to the documents finds what it speaks of."""
    spoken_of = sorted(set(references()))
    assert [(file, name) for file, name, _ in spoken_of if name not in PAGES] == []
    assert [each for each in spoken_of if each[2] and each[2] not in titles(parse(each[1]))] == []
