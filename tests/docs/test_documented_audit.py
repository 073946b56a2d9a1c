"""The audit in the pages is that of the code: fields, escapes, operations, events, warnings."""

import ast
import json
import re
from functools import cache
from typing import Any

from policyd.audit import AuditLog, escape
from policyd.model import Action, Change, Decision, Request, Rule
from policyd.settings import AuditSettings, LineFormat
from tests.docs.pages import LAST, ROOT, table
from tests.support.kept_lines import KeptLines

DROPPED = "syslog took no lines for a while"  # the warnings whose text is in no call
OUTDATED = "…: may have missed changes for …"


def logged(event: str, *values: Any) -> dict[str, Any]:
    """The fields that the function of `AuditLog` for *event* writes."""
    sink = KeptLines()
    getattr(AuditLog(AuditSettings(format=LineFormat.JSON), sink), event)(*values)
    fields: dict[str, Any] = json.loads(sink.lines[0])
    return fields


def test_fields_of_a_decision_are_those_of_the_table() -> None:
    """In this order, `would` only in monitor mode."""
    documented = [field for field, _ in table("audit", "Field", "Value", position=0)]
    monitored = Decision(Action.DUNNO, Rule.BLOCKED_SENDER, "5.7.1 no", is_refused=True)
    assert [*logged("decided", Request(), monitored, 0.1)] == documented
    documented.remove("would")
    assert [*logged("decided", Request(), Decision(Action.DUNNO, Rule.DEFAULT), 0.1)] == documented


def test_fields_of_a_change_are_those_of_the_table() -> None:
    """In this order."""
    documented = [field for field, _ in table("audit", "Field", "Value", position=1)]
    assert [*logged("changed", Change(1, 0, "root", 1, "domain.add", "example.com", None, "{}"))] == documented


def test_operations_are_those_of_the_table() -> None:
    """Each kind of row that the journal can have."""
    fields = dict(table("audit", "Field", "Value", position=1))
    documented = {*re.findall(r"[a-z]+\.[a-z]+", fields["operation"])}
    nouns = ("domain", "group", "mailbox", "address", "sender")
    operation = re.compile(rf"(?:{'|'.join(nouns)})\.[a-z]+")
    edit = ast.parse((ROOT / "policyd/store/edit.py").read_text(encoding="utf-8"))
    texts = [each.value for each in ast.walk(edit) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    written = {text for text in texts if operation.fullmatch(text)}
    written |= {f"{noun}.{verb}" for noun in nouns for verb in ("import", "undo")}

    # Of what can be restricted, the verb alone stands there.
    restricted = {each for each in documented - written if each.partition(".")[2] in texts}
    assert restricted == {
        f"{noun}.{verb}" for noun in nouns[:3] for verb in ("restrict", "lift", "accept", "unaccept")
    } | {"mailbox.open"}
    assert documented - written - restricted == {"mailbox.remove", "group.remove"}
    assert written <= documented


def test_escapes_are_those_of_the_table() -> None:
    """What stands in the second column is what the code writes."""
    rows = [row[LAST] for row in table("audit", "Character")]
    assert rows[:2] == [escape("\\")[1:-1], escape('"')[1:-1]]
    assert rows[2].split()[0] == escape(", ")[1:-1].strip()
    written = [escape(each)[1:-1] for each in ("\x1b", "\u202e", "\U000e0001", "\udcff")]
    shapes = [*rows[3].replace(",", " ").split(), rows[4]]
    assert [re.sub(r"(?<=\\[xuU])[0-9a-f]+", lambda match: "H" * len(match[0]), each) for each in written] == shapes


def said(*functions: str) -> set[str]:
    """The texts that calls of these functions in the package begin with; what is filled in stands as …."""
    return {text for function, text in calls() if function in functions} - {""}


@cache
def calls() -> list[tuple[str, str]]:
    """Each call of a method in the package that is given something: the method, and the text that this begins with."""
    return [
        (node.func.attr, _literal(node.args[0]))
        for file in sorted((ROOT / "policyd").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
    ]


def _literal(node: ast.expr) -> str:
    """A string literal, "" for any other expression."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    if not isinstance(parts[0], ast.Constant):
        return ""
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)


def test_events_are_those_of_the_table() -> None:
    """What the daemon says of itself."""
    documented = {event.removeprefix("event=") for event, _ in table("audit", "Event")}
    assert said("noticed") | said("announce") == documented


def test_warnings_are_those_of_the_table() -> None:
    """What an administrator may set an alarm on."""
    documented = {warning for warning, _ in table("audit", "Warning")}
    assert said("warned") == documented - {DROPPED, OUTDATED}
    assert DROPPED in (ROOT / "policyd/audit.py").read_text(encoding="utf-8")
    assert OUTDATED.strip("…") in (ROOT / "policyd/replica/status.py").read_text(encoding="utf-8")
