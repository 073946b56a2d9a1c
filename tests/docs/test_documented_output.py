"""What commands print, and the statuses that they end with, are as the pages say."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from policyd import errors
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
