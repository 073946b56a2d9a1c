"""The wheels that the Debian package is made of: those of requirements.txt, for the Python of each Debian.

    tools/wheels.py fetch FOLDER    have them in FOLDER (network, where they are not there yet)
    tools/wheels.py check FOLDER    see that FOLDER has all of them, each with its hash, and no other

FOLDER/package has what goes into the package, and FOLDER/builder, out of requirements-build.txt, what builds policyd's
own wheel. It runs in .venv, whose pip takes PIP_* and its configuration from where it always does.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTS = {"package": ROOT / "requirements.txt", "builder": ROOT / "requirements-build.txt"}
PYTHONS = {"3.11": "cp311", "3.13": "cp313"}  # of Debian 12 and 13
_NAMED = re.compile(r"^([\w-]+)==\S+(.*)$", re.MULTILINE)
_ELSEWHERE = re.compile(r"(os_name|sys_platform|platform_system) == '(nt|win32|Windows)'")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def fetch(folder: Path) -> None:
    """Have the wheels in *folder*, and no others."""
    for part, listed in LISTS.items():
        if why_wrong(folder / part, listed.read_text(encoding="utf-8")):
            _download(folder / part, listed)
    check(folder)


def check(folder: Path) -> None:
    """End with a sentence if *folder* has not what the lists say."""
    for part, listed in LISTS.items():
        if why := why_wrong(folder / part, listed.read_text(encoding="utf-8")):
            raise SystemExit(f"{folder / part}: {why} {listed.name}: type tools/package --fetch")


def why_wrong(folder: Path, listed: str) -> str:
    """What *folder* lacks of the text of a list, or has beyond it; "" where it has what it should."""
    wheels = sorted(folder.glob("*.whl"))
    hashes = {*_HASH.findall(listed)}
    if others := [each.name for each in wheels if hashlib.sha256(each.read_bytes()).hexdigest() not in hashes]:
        return f"{', '.join(others)} is not in"
    for name, marker in _NAMED.findall(listed):
        tags = [each.name.split("-")[2] for each in wheels if each.name.split("-")[0].replace("_", "-") == name]
        if not _ELSEWHERE.search(marker) and not all(
            any(tag.endswith("py3") or tag == python for tag in tags) for python in PYTHONS.values()
        ):
            return f"lacks {name} of"
    return ""


def _download(folder: Path, listed: Path) -> None:
    """Put the wheels of a list into *folder*, which is made anew."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        wheels = Path(place, folder.name)
        for python in PYTHONS:
            options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", f"--python-version={python}"]
            what = ["--no-deps", "--require-hashes", f"--requirement={listed}"]
            command = [sys.executable, "-m", "pip", "download", *options, f"--dest={wheels}", *what]
            if subprocess.run(command).returncode != 0:
                raise SystemExit("tools/wheels.py: pip could not get the wheels: see its message above")
        if folder.exists():
            shutil.rmtree(folder)
        wheels.rename(folder)


if __name__ == "__main__":
    asked, place = sys.argv[1:]
    {"fetch": fetch, "check": check}[asked](Path(place))
