"""What commands print, and the statuses that they end with, are as the pages say."""

import ast
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from click.testing import Result

from policyd import errors
from policyd.admin import reviewing
from policyd.doctor.diagnosis import Diagnosis
from policyd.doctor.examine import Report
from policyd.report import summary
from policyd.report.counting import Answers
from tests.docs.pages import names, table
from tests.docs.test_documented_commands import COMMANDS

USAGE, DEFECT, INTERRUPTED, NO_READER = 2, 70, 130, 141  # the statuses that the group itself gives

Run = Callable[[str], Result]


def test_list_has_the_columns_and_keys_of_the_table(filled: Run) -> None:
    """Scripts rely on them, in this order."""
    for command, columns, keys in table("commands", "Command", "Columns"):
        lines = filled(command).stdout.splitlines()
        assert {line.count("\t") + 1 for line in lines} == {len(names(columns))}, command
        (first, *_) = json.loads(filled(f"{command} --json").stdout)
        assert [*first] == names(keys), command
        assert columns in " ".join((COMMANDS[command].help or "").split())


def test_object_has_the_keys_of_the_table(filled: Run) -> None:
    """Scripts rely on them, in this order."""
    examples = {
        "domain show": "domain show example.com",
        "group show": "group show staff",
        "mailbox show": "mailbox show alice",
        "address find": "address find alice@example.com",
        "check": "check --recipient alice@example.com",
        "import": "import rows.csv",
        "undo --dry-run": "undo 5 --dry-run",
    }
    Path("rows.csv").write_text("name\nalice\n")
    for command, keys in table("commands", "Command", "JSON keys"):
        line = examples.get(command, command)
        assert [*json.loads(filled(f"{line} --json").stdout)] == names(keys), command
        if command not in ("check", "import", "undo --dry-run"):
            assert filled(line).stdout.startswith(f"{names(keys)[0]}: "), command


def test_doctor_prints_the_keys_of_the_table() -> None:
    """Scripts read them, and so does the daemon's page, from the file that a timer leaves."""
    rows = table("commands", "Key of doctor")
    found = Report(1, [Diagnosis("check-missing", "smtp/inet", "Nobody asks.")]).as_object()
    assert [*found] == [key for key, *_ in rows]
    assert {key: names(keys) for key, _, keys in rows if keys} == {"findings": [*found["findings"][0]]}


def test_report_prints_the_keys_of_the_table(filled: Run) -> None:
    """Scripts read them; each key that is made anywhere is told, and no other."""
    rows = table("commands", "Key of report")
    Path("mail.log").write_text("")
    assert [*json.loads(filled("report mail.log --json").stdout)] == [key for key, *_ in rows]
    made = {field.name for field in fields(Answers)}
    for module in (summary, reviewing):
        for node in ast.walk(ast.parse(Path(module.__file__ or "").read_text())):
            made |= {str(key.value) for key in getattr(node, "keys", ()) if isinstance(key, ast.Constant)}
    assert {name for key, _, keys in rows for name in (key, *names(keys))} == made


def test_a_change_prints_the_object_that_the_page_describes(run: Run) -> None:
    """A script learns the changeset of what it did."""
    told = json.loads(run("domain add example.com --json").stdout)
    assert [*told] == ["changeset", "changes"]
    listed = json.loads(run("history --json").stdout)
    assert told == {"changeset": 1, "changes": listed}
    assert json.loads(run("domain set example.com --unlisted reject --json").stdout)["changeset"] is None


def test_exit_statuses_are_those_of_the_table() -> None:
    """Every class of error has its status in the table, and no status there is without use."""
    raised = {
        each.exit_status
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.PolicydError)
    }
    documented = {int(status) for status, _ in table("commands", "Status")}
    assert documented == raised | {0, USAGE, DEFECT, INTERRUPTED, NO_READER}
