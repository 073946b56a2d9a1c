"""What was typed on a journey, where it stands in the documents, what was printed, and what was seen in that."""

import os
import re
from pathlib import Path
from typing import TextIO

from tests.journey.debian import THERE
from tests.journey.steps import Chapter, Edit, Look, Route, Step
from tests.support.machine import Machine, State
from tests.support.terminal import type_line

ROOT = Path(__file__).resolve().parents[2]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DOWNLOADED = ("PIP_CERT", "PIP_INDEX_URL", "http_proxy", "https_proxy", "no_proxy")  # of this machine's environment
_LONG = 3  # lines that are kept of what downloads print


class Journey:
    """Types a route on a machine, and writes down what comes of it."""

    def __init__(self, machine: Machine, file: TextIO) -> None:
        self._machine = machine
        self._file = file
        self._shown = ""  # by the last command
        self._files: dict[str, str] = {}  # as they were before an edit
        self._environment = {"PATH": _PATH, "HOME": "/root", "TERM": "dumb", "LANG": "C.UTF-8", "PAGER": "cat"}
        self._environment |= {name: os.environ[name] for name in _DOWNLOADED if name in os.environ}

    def follow(self, route: Route) -> None:
        """Type all of it. Raises AssertionError where something is not as it should be."""
        self._chapter(route.given)
        before = self._machine.state()
        for chapter in route.chapters:
            self._chapter(chapter)
        self._leftovers(route, before)

    def _chapter(self, chapter: Chapter) -> None:
        self._say(f"\n{chapter.title}\n{'-' * len(chapter.title)}")
        for step in chapter.steps:
            match step:
                case Step():
                    self._step(step)
                case Edit():
                    self._edit(step)
                case Look():
                    self._say(f"\nBeside the documents: {step.why}")
                    self._type("#", step.command, step)

    def _step(self, step: Step) -> None:
        line = step.line()
        self._say(f"\n{step.document}, line {_line_number(step, line)}, {step.section}")
        if step.instead:
            self._say(f"    {step.prompt} {line}\n  typed in its place, since {step.because}:")
            line = step.instead(line, self._shown)
        elif step.also:
            line = f"{line} {step.also}"
        self._type(step.prompt, line, step)

    def _edit(self, edit: Edit) -> None:
        """Write the lines into the file, in place of what it said of the same names; or put back what it was."""
        file = self._machine.root / edit.path.removeprefix("/")
        text = edit.text()
        where = f"{edit.document}, line {_line_number(edit, text)}, {edit.section}"
        if edit.is_taken_out:
            file.write_text(self._files[edit.path])
            self._say(f"\n{where}: taken out of {edit.path} again")
            return
        old = self._files[edit.path] = file.read_text() if file.exists() else ""
        names = "|".join(re.findall(r"^(\w+) =", text, re.MULTILINE))
        file.write_text(re.sub(rf"^({names}) =.*\n", "", old, flags=re.MULTILINE) + text + "\n")
        self._say(f"\n{where}: written into {edit.path}\n{_indented(text)}")

    def _type(self, prompt: str, line: str, step: Step | Look) -> None:
        """Type *line*, and see that what it prints and ends with is what *step* says."""
        self._say(_indented(f"{prompt} {line}"))
        before = self._shown.splitlines()
        words = self._machine.command("bash", "-c", f"cd {THERE}\n{line}", is_online=step.is_online)
        answers = step.answers if isinstance(step, Step) else ()
        self._shown, status = type_line(words, self._environment, *answers)
        if self._shown.strip():
            self._say(_indented(_shortened(self._shown, step, before)))
        for each in step.shows:
            assert each in self._shown, f"{line}: {each!r} is not in: {self._shown}"
        assert status == step.status, f"{line}: status {status} in place of {step.status}: {self._shown}"
        seen = [f"status {status}", *(f'"{each}"' for each in step.shows)]
        self._say(f"  seen: {', '.join(seen)}")

    def _leftovers(self, route: Route, before: State) -> None:
        """List what is not as *before*."""
        self._say("\nWhat is left\n------------\n")
        after = self._machine.state()
        accounts = {f"/etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")}
        paths = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        left = sorted(path for path in paths if not path.startswith(THERE))
        for path in left:
            self._say(f"    {path}")
        assert bool(self._machine.output("getent", "passwd", "policyd")) == route.keeps_user
        unknown = {*left} - accounts - {*route.left}
        assert not unknown, f"left, and nobody said so: {sorted(unknown)}"
        user = "the user policyd" if route.keeps_user else "no user policyd"
        self._say(f"  seen: {user}, and no file but these that is not as it was before")

    def _say(self, text: str) -> None:
        self._file.write(f"{text}\n")
        self._file.flush()


def _line_number(step: Step | Edit, text: str) -> int:
    """Where the command or the lines *text* of *step* begin in its document."""
    lines = (ROOT / step.document).read_text(encoding="utf-8").splitlines()
    title = next(number for number, each in enumerate(lines) if each.startswith(step.section))
    first = text.splitlines()[0]
    if isinstance(step, Step):
        first = f"{step.prompt} {first}"
    return next(number for number, each in enumerate(lines, 1) if number > title and each.strip() == first)


def _shortened(shown: str, step: Step | Look, before: list[str]) -> str:
    """The lines of *shown* that the transcript keeps: where it begins as the output *before* did, only what follows."""
    lines = [each.rpartition("\r")[2] for each in shown.strip("\n").split("\n")]
    if len(before) > _LONG and lines[: len(before)] == before:
        lines = [f"... {len(before)} lines as before", *lines[len(before) :]]
    if step.keeps:
        return "\n".join(each for each in lines if re.search(step.keeps, each))
    if step.is_online and len(lines) > _LONG:
        return "\n".join([f"... {len(lines) - _LONG} lines", *lines[-_LONG:]])
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines() if line.strip())
