"""What Sphinx needs for the manual pages: two directives that take their text from docs/commands.rst and its like.

``.. commands:: NOUN`` is all of a page but what goes with it: synopsis, description, and the noun's commands.
``.. commands::`` alone is the list of nouns, and ``.. section-of:: PAGE`` a page of docs/, or with a title behind it a
section of one. What the program says of itself is asked for anew, as docs/generate.py asks for it.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import generate
from docutils import nodes  # type: ignore[import-untyped]  # docutils says nothing of its types
from docutils.statemachine import StringList  # type: ignore[import-untyped]  # the same
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from policyd.cli import NOUNS

DOCS = Path(__file__).resolve().parent

_WIDTH = 66  # of a synopsis: a terminal has 80 columns, and a block in a page is set in twice
_HEADING = re.compile(r"^(\S.*)\n(-+|~+)\n", re.MULTILINE)
_PAGE = re.compile(r":doc:`(?:[^`<]+<)?/?([\w/-]+)>?`")
_MANUAL_OF = {"commands": "policyd(8)", "settings": "policyd.toml(5)", "import": "policyd-import(8)"}
_SPACED_HEADING = re.compile(r"^(\.S[HS] .*\n)\.sp\n", re.MULTILINE)


def sections(page: str) -> Iterator[tuple[str, str, str]]:
    """The sections of docs/*page*.rst: what each is underlined with, its title, and the text up to the next one."""
    pieces = _HEADING.split((DOCS / f"{page}.rst").read_text(encoding="utf-8"))
    yield ("=", "", pieces[0].split("\n", 2)[2])
    for title, underline, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        yield (underline[0], title, text)


def _of_manual(text: str) -> str:
    """*text* of a page as a manual has it: links are names, and the synopsis, which is on top, is left out."""
    text = generate.MARKED.sub(lambda mark: "\n".join([*_asked(mark[1]), ""]), text)
    return _PAGE.sub(
        lambda link: f":manpage:`{page}`" if (page := _MANUAL_OF.get(link[1])) else f"``docs/{link[1]}.rst``", text
    )


def _asked(source: str) -> Iterator[str]:
    """What the program says of itself in place of a mark."""
    if source.startswith("click: "):
        yield from generate.explain(source.removeprefix("click: "), with_synopsis=False)
    else:
        yield from generate.written(source)


def _heading(title: str, underline: str) -> str:
    return f"{title}\n{underline * len(title)}\n\n"


def _commands(noun: str) -> str:
    """The page of *noun*: how each of its commands is typed, and what docs/commands.rst says of them."""
    found = [*sections("commands")]
    parts = [(title, text) for underline, title, text in found if underline == "~" and title.split()[0] == noun]
    underline, _, above = found[[title for _, title, _ in found].index(parts[0][0]) - 1]
    typed = "\n".join(generate.synopsis(title, _WIDTH) for title, _ in parts)
    page = _heading("Synopsis", "-") + "::\n\n" + textwrap.indent(typed, "    ") + "\n\n"
    page += _heading("Description", "-")
    if parts[0][0] == noun:
        return page + _of_manual(parts[0][1])
    page += f"{NOUNS[noun][1]}\n\n{_of_manual(above) if underline == '-' else ''}\n\n{_heading('Commands', '-')}"
    return page + "".join(_heading(title, "~") + _of_manual(text) for title, text in parts)


def _as_list(table: nodes.table) -> nodes.definition_list:
    """*table* as a list of its first column, each with the other columns under it: a terminal is narrow."""
    headings, *rows = [[*row.findall(nodes.entry)] for row in table.findall(nodes.row)]
    found = nodes.definition_list()
    for first, *others in rows:
        told = nodes.definition()
        for heading, cell in zip(headings[1:], others, strict=True):
            paragraph = nodes.paragraph()
            if len(others) > 1:
                paragraph += nodes.emphasis("", f"{heading.astext()}: ")
            for each in cell.findall(nodes.paragraph):
                paragraph += each.children
            told += paragraph
        found += nodes.definition_list_item("", nodes.term("", "", *first[0].children), told)
    return found


class _Written(SphinxDirective):
    """A directive whose text stands elsewhere."""

    def parsed(self, text: str) -> list[nodes.Node]:
        """The nodes of *text*, which has its own headings."""
        lines = StringList(text.splitlines(), self.name)
        made = self.parse_text_to_nodes(lines, allow_section_headings=True)
        holder = nodes.Element("", *made)
        for table in [*holder.findall(nodes.table)]:
            table.replace_self(_as_list(table))
        return [*holder.children]


class Commands(_Written):
    """The commands of a noun, or the nouns."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of the page."""
        if self.arguments:
            return self.parsed(_commands(self.arguments[0]))
        return self.parsed(
            "".join(f":manpage:`policyd-{noun}(8)`\n    {told}\n\n" for noun, (_, told) in NOUNS.items())
        )


class SectionOf(_Written):
    """The text of a page, or of one section of it, without its title."""

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The nodes of the text."""
        page, title = [*self.arguments, ""][:2]
        (text,) = [text for _, named, text in sections(page) if named == title]
        return self.parsed(_of_manual(text))


def _tidy(app: Sphinx, _error: Exception | None) -> None:
    """Write the pages so that every groff and mandoc reads them without a word."""
    for page in Path(app.outdir).glob("*.[58]"):
        # An empty line below a heading has no effect, says mandoc.
        text = _SPACED_HEADING.sub(r"\1", page.read_text(encoding="utf-8"))
        # groff by itself takes a page for Latin-1.
        text = re.sub(r"[^\0-\x7f]", lambda letter: f"\\[u{ord(letter[0]):04X}]", text)
        page.write_text(text, encoding="ascii")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("commands", Commands)
    app.add_directive("section-of", SectionOf)
    app.connect("build-finished", _tidy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
