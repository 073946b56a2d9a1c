"""Builds the sdist and the wheel of a checkout: for one commit the same bytes, in whatever folder and by whomever.

`tools/release` publishes what it builds, and tests/release/test_distributions.py looks into it.
"""

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

_EXECUTABLE, _PLAIN = 0o755, 0o644


def build(checkout: Path, into: Path, epoch: int) -> tuple[Path, Path]:
    """Make the sdist of *checkout*, and of that the wheel; return where both are in *into*.

    *epoch*, in Unix seconds, is the time of every file in them. *checkout* should have nothing that is not committed:
    what lies in its folders gets into the sdist. The manual pages are left in its docs/_build/man.
    Raises subprocess.CalledProcessError, with what the tool said as its output.
    """
    # The manual pages come first: the sdist has them, for who packages policyd without Sphinx.
    manual = ["--builder", "man", "--fail-on-warning", "--quiet", "--fresh-env"]
    _run(checkout, epoch, "sphinx", *manual, "docs/manual", "docs/_build/man")
    with tempfile.TemporaryDirectory() as name:
        # An sdist as setuptools makes it has the times, the owner and the order of this machine.
        made = Path(name)
        _run(checkout, epoch, "build", "--no-isolation", "--sdist", "--outdir", name)
        (packed,) = made.glob("*.tar.gz")
        sdist = into / packed.name
        sdist.write_bytes(repacked(packed.read_bytes(), epoch))

        # A wheel that is made of the sdist shows that nothing is missing there.
        with tarfile.open(sdist) as archive:
            archive.extractall(made, filter="data")
        unpacked = made / packed.name.removesuffix(".tar.gz")
        _run(unpacked, epoch, "build", "--no-isolation", "--wheel", "--outdir", str(into.resolve()))
    (wheel,) = into.glob("*.whl")
    return sdist, wheel


def repacked(packed: bytes, epoch: int) -> bytes:
    """The tar.gz *packed* with its files in the order of their names, all of root's and of *epoch*."""
    tar = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(packed)) as old,
        tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.linkname, plain.size, plain.mtime = member.type, member.linkname, member.size, epoch
            plain.mode = _EXECUTABLE if member.isdir() or member.mode & 0o100 else _PLAIN
            new.addfile(plain, old.extractfile(member) if member.isreg() else None)
    return gzip.compress(tar.getvalue(), mtime=0)


def _run(folder: Path, epoch: int, module: str, *arguments: str) -> None:
    """Run the Python *module* in *folder*, with nothing of this machine's in what it makes."""
    subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        umask=0o022,  # a wheel has the files' modes
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
