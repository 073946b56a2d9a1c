"""The policyd that is measured, and one of an older revision beside it, built into an environment of its own."""

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT_IN = ROOT / "build" / "before"  # a folder for each commit, which is used again


class RefusedError(SystemExit):
    """A policyd does not do what the benchmark asks of it: ends the benchmark, but for an edition that is older."""


@dataclass(frozen=True, slots=True)
class Edition:
    """A policyd: what its column is called, and the Python whose environment has it."""

    name: str
    python: str

    def command(self, *words: str | Path) -> list[str]:
        """The command line of this policyd with *words*; `-I` keeps it from whatever lies in the folder it runs in."""
        return [self.python, "-I", "-m", "policyd", *map(str, words)]

    def run(self, *words: str | Path) -> str:
        """What a command prints. Raises RefusedError where it fails."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise RefusedError(f"{self.name}, `policyd {' '.join(map(str, words))}`: {said}")
        return done.stdout


TODAY = Edition("measured", sys.executable)


def build(revision: str) -> Edition:
    """The policyd of *revision*: a worktree of it in `build/before`, and an environment beside that.

    What both need has the same version in both, so that only policyd differs.
    """
    commit = _output("git", "-C", ROOT, "rev-parse", "--verify", f"{revision}^{{commit}}")
    folder = KEPT_IN / commit
    tree, python, is_built = folder / "tree", folder / "venv" / "bin" / "python", folder / "is-built"
    if not is_built.exists():
        # Begin anew what an interrupted run has left.
        print(f"building policyd {revision} in {folder} (once; from the network, about a minute)", file=sys.stderr)
        _output("git", "-C", ROOT, "worktree", "add", "--force", "--force", "--detach", tree, commit)
        venv.create(folder / "venv", with_pip=True, clear=True)

        # The same packages as here, as far as it asks for them.
        same = folder / "constraints.txt"
        same.write_text(_output(sys.executable, "-m", "pip", "freeze", "--exclude-editable") + "\n")
        _output(python, "-m", "pip", "install", "--quiet", "--constraint", same, "--editable", tree)
        is_built.touch()
    return Edition("before", str(python))


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()
