"""The documents hold on a real system: installed as they say, with the machine's Postfix, at the paths they name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postfix.instance import missing_for_postfix
from tests.support.required import give_up

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]


def why_not() -> str:
    """Which programs the tour lacks here, or ""."""
    if reason := missing_for_postfix():
        return reason
    path = f"{os.environ['PATH']}:/usr/sbin"
    if missing := [name for name in ("unshare", "ip", "useradd") if not shutil.which(name, path=path)]:
        return f"not installed: {', '.join(missing)} (Debian: apt-get install iproute2 passwd util-linux)"
    if _fails("/usr/bin/python3", "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"):
        return "/usr/bin/python3 makes no environments, or is too old (Debian: apt-get install python3-venv)"
    return ""


def _fails(*words: str) -> bool:
    try:
        return subprocess.run(words, capture_output=True, timeout=60).returncode != 0
    except OSError:
        return True


@pytest.mark.full
def test_the_guide_and_the_readme_do_on_a_system_what_they_say() -> None:
    """A newcomer types what stands there, as root, with the Postfix of his host; mail shows that each line is true."""
    if reason := why_not():
        give_up("POSTFIX", reason)
    if _fails(*NAMESPACES, "--net", "mount", "-t", "tmpfs", "tmpfs", "/mnt"):
        pytest.skip("nobody may make namespaces here, as in many a container")
    done = subprocess.run(
        [*NAMESPACES, sys.executable, "-m", "tests.journey.tour"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.endswith("The tour is done.\n")
