"""Writes README.rst, the table of all drills, from what each drill says of itself with `@drill(...)`.

Run it as `.venv/bin/python -m tests.faults.generate` where a drill has changed. A test runs it with --check, which
changes nothing and ends with 1 where the table is not what the drills say.
"""

import difflib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.drills import Drill

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
README = HERE / "README.rst"

# The sections of the table, and the files whose drills are in each.
SECTIONS = {
    "Syslog in trouble": ("faults/test_audit_trouble.py",),
    "Too many, too slow, too long": ("faults/test_limits.py", "postfix/test_giving_way.py"),
    "Root, users and modes": ("faults/test_privileges.py",),
    "A folder that is somebody else's": ("faults/test_foreign_folder.py", "faults/test_held_output.py"),
    "Restarts and kills of the daemon": (
        "faults/test_restart.py",
        "postfix/test_restart_under_load.py",
        "daemon/test_systemd.py",
        "web/test_metrics.py",
    ),
    "The database in trouble, and commands that are killed": ("faults/test_database.py", "faults/test_kill.py"),
    "The tables are upgraded": ("faults/test_upgrade.py",),
    "Files changed under the daemon": (
        "faults/test_restore.py",
        "faults/test_files_changed.py",
        "store/test_check.py",
        "store/test_race.py",
    ),
    "Hostile peers": ("faults/test_hostile_peers.py", "postfix/test_slow_peers.py"),
    "Past the restriction": ("postfix/test_same_address.py", "core/test_decide.py"),
    "What is typed, imported and shown": (
        "postfix/test_ways_to_a_mailbox.py",
        "daemon/test_origin_warning.py",
        "cli/test_ends.py",
        "cli/test_shown.py",
        "transfer/test_csv_table.py",
    ),
    "The database on a server is away": (
        "replica/test_following.py",
        "replica/test_trouble.py",
        "replica/test_file.py",
        "server/test_errors.py",
        "server/test_check.py",
    ),
    "All of it together": ("test_soak.py",),
}
COLUMNS = ("Fault", "How it is made", "What the SMTP client sees", "What the log says", "What is lost", "Test")
INTRODUCTION = """\
.. Written by tests/faults/generate.py from the drills themselves; what is changed here is lost.

Drills
======

What can go wrong with a policy server and around it, done on purpose: to the real daemon, on real files,
sockets and processes. Each row is a test of that name, in this folder or in the file that stands before it.
``./test -m drill`` runs them, but for those that take long, which ``./test --full -m drill`` runs too.

*What the SMTP client sees* is what smtpd(8) makes of it: where policyd closes a connection without an answer,
or isn't there, Postfix asks again a second later, and then takes the ``default_action`` that the administrator
chose. *What is lost* is of mail, of answers, of changes and of the log.
"""


def generate() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(line for title, files in SECTIONS.items() for line in _section(title, files))])


def _section(title: str, files: tuple[str, ...]) -> Iterator[str]:
    yield from (title, "-" * len(title), "", ".. list-table::", "   :header-rows: 1", "")
    yield from _row(COLUMNS)
    for file in files:
        for test, drill in drills_in(file):
            written = f"``{test}``" + (f" ({drill.case})" if drill.case else "")
            place = "" if file.startswith("faults/") else f"``{file}``: "
            yield from _row((drill.fault, drill.made, drill.client, drill.log, drill.lost, place + written))
    yield ""


def _row(cells: tuple[str, ...]) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {' ' if number else '*'} - {cell}"


def drills_in(file: str) -> Iterator[tuple[str, Drill]]:
    """The names of the tests in *file* that are drills, and what each says, in their order."""
    module = importlib.import_module(".".join(("tests", *Path(file).with_suffix("").parts)))
    for name, test in vars(module).items():
        if getattr(test, "__module__", "") != module.__name__:
            continue  # it is imported there
        for mark in reversed(getattr(test, "pytestmark", [])):  # the uppermost is the last one applied
            if mark.name == "drill":
                yield name, mark.args[0]


def unlisted_files() -> list[str]:
    """The files with drills that are in no section."""
    listed = {file for files in SECTIONS.values() for file in files}
    found = {file.relative_to(TESTS).as_posix(): file for file in TESTS.rglob("test_*.py")}
    return [name for name in sorted(found.keys() - listed) if "\n@drill(" in found[name].read_text(encoding="utf-8")]


def _run(*arguments: str) -> int:
    if unlisted_files():
        sys.stderr.write(f"no section of tests/faults/generate.py has the drills of {', '.join(unlisted_files())}\n")
        return 1
    old, new = README.read_text(encoding="utf-8") if README.exists() else "", generate()
    if old == new:
        return 0
    if arguments == ("--check",):
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "README.rst", "drills"))
        sys.stderr.write(f"{README} is not what the drills say; type .venv/bin/python -m tests.faults.generate\n")
        return 1
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_run(*sys.argv[1:]))
