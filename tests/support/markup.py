"""A page as a browser reads it: its elements, and what is wrong with them for who reads it by ear or keyboard."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

from policyd.web.style import STYLE

_VOID = frozenset({"input", "meta", "link", "br", "path"})
_TYPED_INTO = frozenset({"input", "select", "textarea"})


@dataclass
class Element:
    """An element: its name, its attributes, and the text in it."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    inside: tuple[str, ...] = ()


@dataclass
class Markup(HTMLParser):
    """The elements of a page, in their order; raises AssertionError where one is not closed where it should be."""

    source: str
    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.source)
        self.close()
        assert self._open == [], f"never closed: {[each.name for each in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        element = Element(tag, {key: value or "" for key, value in attrs}, inside=tuple(e.name for e in self._open))
        assert len(element.attributes) == len(attrs), f"an attribute twice: {attrs}"
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element that ends at once, as in SVG."""
        self.elements.append(Element(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """The innermost element ends, which must be this one."""
        assert self._open, f"</{tag}> of nothing"
        assert self._open.pop().name == tag

    def handle_data(self, data: str) -> None:
        """Text, which is in every element around it."""
        for element in self._open:
            element.text += data

    def all(self, name: str) -> list[Element]:
        """The elements of this name."""
        return [each for each in self.elements if each.name == name]

    def text(self, name: str) -> str:
        """The text of the first element of this name, with single blanks."""
        return " ".join(self.all(name)[0].text.split())

    def faults(self) -> Iterator[str]:
        """What is wrong, a line each."""
        yield from self._structure()
        yield from self._labels()
        yield from self._policy()
        yield from self._waiting()

    def _structure(self) -> Iterator[str]:
        if self.all("html")[0].attributes.get("lang") != "en":
            yield "the language is not said"
        for name in ("h1", "main", "title"):
            count = sum("svg" not in each.inside for each in self.all(name))
            if count != 1:
                yield f"{count} of {name}"
        levels = [int(each.name[1]) for each in self.elements if each.name in ("h1", "h2", "h3", "h4")]
        if any(later > before + 1 for before, later in pairwise(levels)):
            yield f"headings skip a level: {levels}"
        ids = Counter(each.attributes["id"] for each in self.elements if "id" in each.attributes)
        yield from (f"id {each} is there {count} times" for each, count in ids.items() if count > 1)
        tables = self.all("table")
        if len(tables) != len(self.all("caption")):
            yield "a table has no caption"
        yield from (
            f"a heading of a table without scope: {each.text}"
            for each in self.all("th")
            if "scope" not in each.attributes
        )

    def _labels(self) -> Iterator[str]:
        ids = {each.attributes["id"] for each in self.elements if "id" in each.attributes}
        labelled = {each.attributes["for"] for each in self.all("label") if "for" in each.attributes}
        for each in self.elements:
            named = each.attributes.get("id") in labelled or "label" in each.inside
            if each.name in _TYPED_INTO and not named:
                yield f"nothing names the field {each.attributes}"
            for key in ("aria-labelledby", "aria-describedby", "form"):
                if each.attributes.get(key, next(iter(ids), "")) not in ids:
                    yield f"{each.name}: {key} is nothing: {each.attributes[key]}"
            if each.name == "button" and not each.text.strip():
                yield "a button without a text"

    def _policy(self) -> Iterator[str]:
        for each in self.elements:
            for key, value in each.attributes.items():
                if key == "style" or key.startswith("on"):
                    yield f"{each.name} has {key}"
                if key in ("href", "src", "action", "formaction") and (":" in value or value.startswith("/")):
                    yield f"{each.name} leads elsewhere: {value}"
        for script in self.all("script"):
            if script.text.strip():
                yield "a script within the page"
        if [each.text for each in self.all("style")] != [STYLE]:
            yield "another style than the one that the policy allows"

    def _waiting(self) -> Iterator[str]:
        for script in self.all("script"):
            if "defer" not in script.attributes:
                yield "nothing is seen before a script is there"
        if any(each.attributes.get("rel") == "stylesheet" for each in self.all("link")):
            yield "nothing is seen before another file is there"
