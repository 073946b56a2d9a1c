"""Which lines and branches of the pure files, which do no I/O, their own tests miss: `python -m tests.missed_branches`.

It takes minutes, and ends with 1 where there are any.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What decides, reads and writes, without a file, a socket or a clock; of the audit, the lines.
PURE = (
    *(
        "address",
        "audit",
        "changes",
        "decide",
        "identities",
        "model",
        "printable",
        "records",
        "reply",
        "route",
        "rules",
    ),
    *("timestamps", "wire"),
)
TESTS = ("tests/core", "tests/transfer")  # each in a process of its own
NOT_TESTS = "tests/transfer/test_ldap_directory.py"  # asks a directory server, which takes long and no other branch
LIMIT_SECONDS = 1800


def pure_files() -> set[str]:
    """The paths of the pure files, from the root of the checkout."""
    formats = {str(file.relative_to(ROOT)) for file in (ROOT / "policyd" / "transfer").rglob("*.py")}
    return formats | {f"policyd/{name}.py" for name in PURE}


def missed_by_tests(folder: Path) -> list[str]:
    """Each line, and each branch from one line to another, of the pure files that their tests don't take."""
    environment = os.environ | {"COVERAGE_FILE": str(folder / "coverage")}
    for name in [name for name in environment if name.startswith(("PYTEST_", "COV_"))]:
        del environment[name]
    coverage = [sys.executable, "-m", "coverage"]
    pytest = [*("-m", "pytest", "--full", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"), f"--ignore={NOT_TESTS}"]
    report = folder / "coverage.json"

    # The tests; one that fails here fails in its own place, too.
    running = [
        subprocess.Popen(
            [*coverage, "run", "--branch", "--parallel-mode", *pytest, tests],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        for tests in TESTS
    ]
    for process in running:
        assert process.wait(LIMIT_SECONDS) in (0, 1), process.args

    # What they took together.
    for words in (["combine", "-q"], ["json", "-q", "-o", str(report)]):
        subprocess.run([*coverage, *words], cwd=ROOT, env=environment, check=True, timeout=LIMIT_SECONDS)
    files = json.loads(report.read_text())["files"]
    missed = [f"{name}: not imported" for name in sorted(pure_files() - {*files})]
    for name in sorted(pure_files() & {*files}):
        missed += [f"{name}:{line}" for line in files[name]["missing_lines"]]
        missed += [f"{name}:{line} -> {to if to > 0 else 'the end'}" for line, to in files[name]["missing_branches"]]
    return missed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = missed_by_tests(Path(folder))
    for each in found:
        print(each)  # noqa: T201 - its only output
    sys.exit(bool(found))
