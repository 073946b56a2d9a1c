"""Scenarios: what an administrator types, and who may then write to whom, read from the text files in `scenarios/`.

A scenario begins with its name, as a claim; indented lines say why somebody wants it. Then stand, in any order:

    report: PROJECT #NUMBER          where people have asked for it
    set origin = "example.com"       a setting, as in policyd.toml
    $ mailbox add bob bob@x.example  a command, typed after `policyd`
    ? login=bob to=joe@y.example => REJECT blocked-sender entry="bob to outside"

A question has `login` (sasl_username), `from` (the envelope sender, `<>` where it is empty or missing), `to`, `client`,
`context`, `state` and `at` (the time); its answer has the action and the rule, and of `entry`, `by`, `mailbox` and
`reason` those that are told. An empty one is told as `by=""`.
"""

import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.oracle.answerers import Opened
from tests.oracle.commands import moment
from tests.oracle.model import Request, Settings

FOLDER = Path(__file__).parent / "scenarios"
NOW = moment("2095-01-01T00:00Z")  # so far away that a command can set ends that have passed by then
_FIELDS = {
    "login": "sasl_username",
    "from": "sender",
    "to": "recipient",
    "client": "client_address",
    "context": "policy_context",
    "state": "protocol_state",
}
_TOLD = ("entry", "by", "mailbox", "reason")


@dataclass
class Scenario:
    """One of them: `steps` are its commands and questions, with the line where each stands."""

    name: str
    place: str
    report: str = ""
    why: list[str] = field(default_factory=list)
    settings: dict[str, object] = field(default_factory=dict)
    steps: list[tuple[int, str]] = field(default_factory=list)

    def play(self, opened: Opened) -> None:
        """Type the commands, and compare each answer. Raises AssertionError at the first that differs."""
        settings = Settings(**self.settings)  # type: ignore[arg-type]  # what TOML says is what the fields say
        with opened(settings) as answerer:
            for number, step in self.steps:
                if step.startswith("$"):
                    assert answerer.run(step[1:].strip()), f"{self.place}:{number}: {step}: refused"
                    continue
                request, now, wanted = question_of(step[1:])
                found = answerer.ask(request, now)
                told = {name: getattr(found, name) for name in wanted}
                assert told == wanted, f"{self.place}:{number}: {step}: got {found}"


def question_of(text: str) -> tuple[Request, int, dict[str, str]]:
    """A question, when it is asked in Unix seconds, and what is told of its answer."""
    asked, arrow, wanted = text.partition("=>")
    assert arrow, f"{text}: where is the answer?"
    given = dict(word.split("=", 1) for word in shlex.split(asked))
    now = moment(given.pop("at")) if "at" in given else NOW
    given["from"] = given.get("from", "<>").replace("<>", "")
    assert "to" in given or "state" in given, f"{text}: without a recipient, tell the state"
    action, rule, *told = shlex.split(wanted)
    answer = {"action": action, "rule": rule, **dict(word.split("=", 1) for word in told)}
    assert {*answer} <= {"action", "rule", *_TOLD}, f"{text}: what is that?"
    return Request(**{_FIELDS[name]: value for name, value in given.items()}), now, answer


def read(file: Path) -> Iterator[Scenario]:
    """The scenarios of a file, in their order."""
    scenario: Scenario | None = None
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if text.startswith("=="):
            if scenario:
                yield scenario
            scenario = Scenario(text.strip("= "), file.name)
        elif not text or text.startswith("#"):
            continue
        else:
            assert scenario, f"{file.name}:{number}: before the first name"
            _take(scenario, number, text)
    if scenario:
        yield scenario


def _take(scenario: Scenario, number: int, text: str) -> None:
    if text.startswith(("$", "?")):
        scenario.steps.append((number, text))
    elif text.startswith("report:"):
        scenario.report = text.removeprefix("report:").strip()
    elif text.startswith("set "):
        scenario.settings |= tomllib.loads(text.removeprefix("set "))
    else:
        scenario.why.append(text)


def all_scenarios() -> list[Scenario]:
    """Every scenario of every file."""
    return [scenario for file in sorted(FOLDER.glob("*.txt")) for scenario in read(file)]
