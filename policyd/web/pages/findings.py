"""What `policyd doctor` found when it was run last, from the file that its timer writes: other people's words."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policyd.errors import PolicydError, reason_of
from policyd.files import open_to_read
from policyd.timestamps import is_time

_BYTES = 1_000_000  # of the file, far more than any has
_LISTED = 50  # findings, and sentences of each kind
_TEXT = 2000  # characters of one
_STALE_SECONDS = 3 * 3600  # the timer is hourly
_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that doctor found: of which severity, about what, and what to do."""

    severity: str
    code: str
    about: str
    finding: str
    effect: str
    commands: tuple[str, ...]
    settings: tuple[str, ...]
    advice: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What doctor found `at` that time, in Unix seconds; 0 where nobody knows, as `problem` says then."""

    at: int = 0
    found: tuple[Finding, ...] = ()
    not_looked_at: tuple[str, ...] = ()
    proof: tuple[str, ...] = ()
    problem: str = ""
    more: int = field(default=0)

    def is_stale(self, now: int) -> bool:
        """Whether it was found so long ago that the timer seems not to run."""
        return bool(self.at) and now - self.at > _STALE_SECONDS

    def count(self, severity: str) -> int:
        """How many there are of this severity."""
        return sum(each.severity == severity for each in self.found)


def read_findings(file: Path | None) -> Findings:
    """What the *file* says, if there is one. It never raises: what is wrong with it is the `problem`."""
    if file is None:
        return Findings(problem="doctor_file is set to nothing: the findings are not read")
    try:
        with open_to_read(file) as opened:
            text = opened.read(_BYTES + 1)
    except FileNotFoundError:
        return Findings(problem=f"doctor has not run: there is no {file}; its timer writes it")
    except OSError as error:
        return Findings(problem=f"{file}: {reason_of(error)}")
    except PolicydError as error:
        return Findings(problem=str(error))
    if len(text) > _BYTES:
        return Findings(problem=f"{file}: too large for what doctor writes")
    try:
        return _findings(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Findings(problem=f"{file}: not what doctor writes; run: policyd doctor --write {file}")


def _findings(read: Any) -> Findings:
    """The findings in what was *read*. Raises ValueError, TypeError, KeyError or AttributeError where it has none."""
    at = read["at"]
    if type(at) is not int or not is_time(at):
        raise ValueError("at")
    listed = read["findings"]
    return Findings(
        at,
        tuple(_finding(each) for each in listed[:_LISTED]),
        _texts(read.get("not_looked_at")),
        _texts(read.get("proof")),
        more=max(0, len(listed) - _LISTED),
    )


def _finding(read: Any) -> Finding:
    severity = read["severity"]
    if severity not in _SEVERITIES:
        raise ValueError("severity")
    return Finding(
        severity,
        _text(read.get("code")),
        _text(read.get("about")),
        _text(read["finding"]),
        _text(read.get("effect")),
        _texts(read.get("commands")),
        _texts(read.get("settings")),
        _text(read.get("advice")),
    )


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(each) for each in (value or ())[:_LISTED])


def _text(value: Any) -> str:
    """*value* as a text of no more characters than are shown."""
    text = "" if value is None else str(value)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
