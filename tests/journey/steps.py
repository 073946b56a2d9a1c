"""What a journey is made of: commands and lines of the documents, each with what must come of it.

Nothing that is typed stands in a journey whole: a step says where its command stands, and how it begins there.
"""

from collections.abc import Callable
from typing import NamedTuple

from tests.docs.pages import blocks, commands, parse, section


class Step(NamedTuple):
    """A command of the documents: where it stands, how it begins, and what must come of it."""

    document: str
    section: str
    command: str
    shows: tuple[str, ...] = ()  # what must be printed
    status: int = 0
    prompt: str = "#"  # "$" is somebody's on another machine
    answers: tuple[tuple[str, str], ...] = ()  # what is shown that asks, and what is typed then
    is_online: bool = False
    keeps: str = ""  # the lines of the output that the transcript keeps; "" is all of them
    also: str = ""  # what is typed behind it
    instead: Callable[[str, str], str] | None = None  # what is typed, from the command and the output before it
    because: str = ""  # why it is not typed as it stands

    def line(self) -> str:
        """The command as it stands in the documents: the one that is just this, or else the only one that begins so."""
        typed = {line for line, _ in commands(section(parse(self.document), self.section), self.prompt)}
        found = {self.command} & typed or {line for line in typed if line.startswith(self.command)}
        assert len(found) == 1, f"{self.document}, {self.section}: {self.command}: {found or 'no such command'}"
        return found.pop()


class Edit(NamedTuple):
    """Lines of the documents that are written into a file, by how they begin; or taken out of it again."""

    document: str
    section: str
    begins: str
    path: str
    is_taken_out: bool = False

    def text(self) -> str:
        """The lines, as they stand there."""
        (found,) = [
            each for each in blocks(section(parse(self.document), self.section)) if each.startswith(self.begins)
        ]
        return found


class Look(NamedTuple):
    """Something that is tried beside the documents, and why."""

    why: str
    command: str
    shows: tuple[str, ...] = ()
    status: int = 0
    keeps: str = ""
    is_online: bool = False


class Chapter(NamedTuple):
    """Steps that belong together."""

    title: str
    steps: tuple[Step | Edit | Look, ...]


class Route(NamedTuple):
    """A way of installing, to the first refused mail and back.

    What differs on the disk after *given* and after the last chapter is what is left, and must be of *left* only. Where
    *keeps_user* says so, the user is left, too.
    """

    name: str
    given: Chapter
    chapters: tuple[Chapter, ...]
    left: tuple[str, ...]
    keeps_user: bool = False
