"""The policyd of the next version, as far as an upgrade goes: run as `python -m tests.support.next_version WORDS...`.

Its tables have an index more, its revision is in `tests/data/next-version`. Without words it is told one command after
the other on stdin, and ends none of them: see `NextVersion`.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from click.testing import CliRunner
from sqlalchemy import Index

from policyd.store import schema

FOLDER = Path(__file__).parents[1] / "data/next-version"
COMMAND = (sys.executable, "-m", "tests.support.next_version")


def become() -> None:
    """Be that version, before anything else of policyd's looks which one it is."""
    schema.VERSION += 1
    Index("mailbox_until", schema.mailbox.c.until)
    from policyd.store import upgrade

    upgrade.VERSIONS.append(FOLDER)


class NextVersion:
    """A process in which commands of that version are typed: it starts once, which takes longer than a command."""

    def __enter__(self) -> "NextVersion":
        self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def ends(self, line: str, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """The status of the command, what it prints, and what it tells."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([shlex.split(line), dict(environment)]), file=self._process.stdin, flush=True)
        status, out, err = json.loads(self._process.stdout.readline())
        return status, out, err


def _be_told() -> None:
    from policyd.cli import main

    for told in sys.stdin:
        words, environment = json.loads(told)
        ended = CliRunner(env=environment).invoke(main, words, prog_name="policyd")
        sys.stdout.write(json.dumps([ended.exit_code, ended.stdout, ended.stderr]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    become()
    if len(sys.argv) == 1:
        _be_told()
    else:
        from policyd.cli import main

        main(sys.argv[1:], prog_name="policyd")
