"""The pages as docutils reads them, and what the tests ask of them: sections, tables, blocks."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

from docutils import nodes  # type: ignore[import-untyped]  # docutils says nothing of its types
from docutils.core import publish_doctree  # type: ignore[import-untyped]
from docutils.parsers.rst import Directive, directives, roles  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
MANUAL = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "docs/manual").glob("*.rst"))
PAGES = sorted(
    str(file.relative_to(ROOT))
    for file in (ROOT / "docs").rglob("*.rst")
    if not {"_build", "manual"} & {*file.relative_to(ROOT).parts}
)
DOCUMENTS = [
    "README.rst",
    "CHANGES.rst",
    "CONTRIBUTING.rst",
    "SECURITY.rst",
    *PAGES,
    *MANUAL,
    *(f"contrib/{each}/README.rst" for each in ("postfix", "systemd", "fail2ban", "nginx")),
]
FIRST, LAST = 0, -1  # columns of a row

Row = list[str]


class _Toctree(Directive):  # type: ignore[misc]  # docutils has no annotations
    """Sphinx's, of which docutils keeps the names of the pages."""

    has_content = True
    option_spec: ClassVar = {"caption": directives.unchanged, "maxdepth": directives.nonnegative_int}

    def run(self) -> list[nodes.Node]:
        """A comment, which no reader sees."""
        return [nodes.comment("\n".join(self.content), "\n".join(self.content), classes=["toctree"])]


class _Manual(Directive):  # type: ignore[misc]  # docutils has no annotations
    """One of docs/manual_pages.py's, of which nothing is kept: its text is that of other pages."""

    optional_arguments = 2
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Nothing."""
        return []


def _doc(_role: str, _rawtext: str, text: str, *_more: object) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """Sphinx's role `doc`: a page by its name, or `other words <name>`; `title` is the name, seen from docs/."""
    shown, _, name = text.rstrip(">").rpartition("<")
    return [nodes.inline(text, shown.strip() or name, classes=["doc"], title=name.removeprefix("/"))], []


directives.register_directive("toctree", _Toctree)
directives.register_directive("commands", _Manual)
directives.register_directive("section-of", _Manual)
roles.register_local_role("doc", _doc)
roles.register_generic_role("manpage", nodes.emphasis)


@cache
def parse(document: str) -> nodes.document:
    """The tree of *document*; a warning of docutils is an error."""
    strict = {"report_level": 2, "halt_level": 2, "syntax_highlight": "none"}
    tree: nodes.document = publish_doctree((ROOT / document).read_text(encoding="utf-8"), settings_overrides=strict)
    return tree


def page(name: str) -> nodes.document:
    """The tree of a page in docs/."""
    return parse(f"docs/{name}.rst")


def section(parent: nodes.Element, title: str) -> nodes.section:
    """The section in *parent* whose title begins so."""
    return next(each for each in parent.findall(nodes.section) if each[0].astext().startswith(title))


def titles(document: nodes.document) -> list[str]:
    """The titles of a document and its sections, in order."""
    return [each.astext() for each in document.findall(nodes.title)]


def table(name: str, *headings: str, position: int = 0) -> list[Row]:
    """The rows of the table of a page whose first headings are these; of several, the one at *position*."""
    return tables(page(name), *headings)[position]


def tables(document: nodes.document, *headings: str) -> list[list[Row]]:
    """The rows of each table of a document whose first headings are these."""
    found = []
    for each in document.findall(nodes.table):
        head, *rows = [[words(cell) for cell in row] for row in each.findall(nodes.row)]
        if head[: len(headings)] == [*headings]:
            found.append(rows)
    return found


def words(node: nodes.Node) -> str:
    """The text of a node on one line."""
    return " ".join(node.astext().split())


def names(cell: str) -> list[str]:
    """The words of a cell that lists names."""
    return [name for each in cell.split(",") if (name := each.strip())]


def blocks(parent: nodes.Element) -> list[str]:
    """The literal blocks of a document, or of one of its sections."""
    return [block.astext() for block in parent.findall(nodes.literal_block)]


def commands(parent: nodes.Element, prompt: str = "#") -> Iterator[tuple[str, str]]:
    """The commands of the blocks in *parent* that are typed at *prompt*, each with the output shown under it."""
    for block in blocks(parent):
        if block.startswith(f"{prompt} "):
            for step in re.split(rf"^{re.escape(prompt)} ", block, flags=re.MULTILINE)[1:]:
                command = re.match(r"(?:.*\\\n)*.*", step)
                assert command
                yield command[0], step[command.end() :].strip("\n")


def steps(parent: nodes.Element) -> Iterator[tuple[str, str]]:
    """The files and the commands that are shown, in order: a name or a command line, and the text under it."""
    for block in parent.findall(nodes.literal_block):
        if "console" in block["classes"]:
            for step in re.split(r"^# ", block.astext(), flags=re.MULTILINE)[1:]:
                line, _, output = step.partition("\n")
                yield line, output.strip("\n")
        elif not block.astext().startswith("$ "):
            paragraph = block.parent[block.parent.index(block) - 1]
            if shown := [*paragraph.findall(nodes.literal)]:
                yield shown[-1].astext(), block.astext() + "\n"
