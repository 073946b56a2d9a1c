"""The sdist and the wheel: all that somebody needs who has no checkout, nothing else, and the same bytes each time."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from importlib.util import find_spec
from pathlib import Path

import pytest

from policyd import __version__
from tests.support.required import give_up
from tools import distributions

ROOT = Path(__file__).resolve().parents[2]
EPOCH = 1_700_000_000  # Unix seconds
# What a checkout has for itself alone, and what an sdist has beyond it.
OF_A_CHECKOUT = {".gitignore"}
MADE = re.compile(r"PKG-INFO|setup\.cfg|policyd\.egg-info/[\w-]+(\.txt)?|docs/_build/man/policyd[a-z.-]*\.[58]")


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """The files of this checkout: what git keeps, or is about to."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")  # as in an sdist
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


@dataclass(frozen=True)
class Built:
    """What was built of this checkout, and what is in it."""

    sdist: Path
    wheel: Path

    def in_sdist(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            files = {member.name for member in archive.getmembers() if not member.isdir()}
        return {name.removeprefix(f"policyd-{__version__}/") for name in files}

    def in_wheel(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def told(self, name: str) -> str:
        """The file *name* of the wheel's .dist-info."""
        with zipfile.ZipFile(self.wheel) as archive:
            return archive.read(f"policyd-{__version__}.dist-info/{name}").decode()

    def metadata(self) -> Message:
        return message_from_string(self.told("METADATA"))


@pytest.fixture(scope="module")
def built_twice(tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Built]:
    """What is built of two copies of the checkout, of which the second is nobody's but its owner's."""
    for module in ("build", "twine", "sphinx"):
        if find_spec(module) is None:
            give_up("BUILD", f"there is no {module}: `.venv/bin/python -m pip install --editable '.[build,docs]'`")
    folder = tmp_path_factory.mktemp("distributions")
    return _build_copy(tracked, folder / "first"), _build_copy(tracked, folder / "a second one", closed=True)


def _build_copy(tracked: set[str], folder: Path, closed: bool = False) -> Built:
    for name in tracked:
        copy = folder / "checkout" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
        if closed:
            copy.chmod(copy.stat().st_mode & 0o700)
    return Built(*distributions.build(folder / "checkout", folder, EPOCH))


@pytest.fixture(scope="module")
def built(built_twice: tuple[Built, Built]) -> Built:
    return built_twice[0]


@pytest.mark.full
def test_the_same_commit_makes_the_same_files(built_twice: tuple[Built, Built]) -> None:
    """Whoever doubts a release builds it again, in a folder and with a umask of their own, and compares."""
    first, second = built_twice
    assert first.sdist.read_bytes() == second.sdist.read_bytes()
    assert first.wheel.read_bytes() == second.wheel.read_bytes()


@pytest.mark.full
def test_an_index_takes_both(built: Built) -> None:
    """A README that an index can't show, or metadata that it refuses, would be found out when it is too late."""
    command = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", str(built.sdist), str(built.wheel)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout.count("PASSED")) == (0, 2), checked.stdout + checked.stderr


@pytest.mark.full
def test_an_sdist_has_the_checkout_and_the_manual(built: Built, tracked: set[str]) -> None:
    """Its tests run, its pages can be built, and its manual pages are there for who has no Sphinx."""
    files = built.in_sdist()
    assert tracked - OF_A_CHECKOUT - files == set(), "MANIFEST.in lacks these"
    made = {name for name in files - tracked if MADE.fullmatch(name)}
    assert files - tracked - made == set()
    pages = {Path(name).stem for name in made if name.startswith("docs/_build/man/")}
    sources = {Path(name).stem for name in tracked if name.startswith("docs/manual/") and name.endswith(".rst")}
    assert pages == sources


@pytest.mark.full
def test_a_wheel_has_the_package_and_what_setup_installs(built: Built, tracked: set[str]) -> None:
    """No test, page or tool of the checkout gets onto a mail host, and nothing of the package is missing there."""
    of_the_package = {name for name in tracked if name.startswith("policyd/")}
    of_setup = {f"policyd/{name}" for name in tracked if name.startswith("contrib/")}
    told = {name for name in built.in_wheel() if name.startswith(f"policyd-{__version__}.dist-info/")}
    assert built.in_wheel() - told == of_the_package | of_setup
    assert {Path(name).name for name in told} >= {"METADATA", "LICENSE", "entry_points.txt"}
    assert "policyd = policyd.cli:main" in built.told("entry_points.txt")


@pytest.mark.full
def test_a_wheel_says_what_it_is(built: Built) -> None:
    """pip, indexes and scanners read the version, the licence and the project's places from here."""
    metadata = built.metadata()
    assert (metadata["Version"], metadata["License-Expression"]) == (__version__, "MIT")
    links = dict(link.split(", ", 1) for link in metadata.get_all("Project-URL", []))
    assert {"Homepage", "Documentation", "Changes", "Security"} <= links.keys()
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    relative = re.findall(r"<(?!https?:|[\w.+-]+@)[^<>\s]+>`_|image:: (?!https:)\S+", str(metadata.get_payload()))
    assert relative == [], "dead on an index's page"


def test_each_sort_of_file_is_named_for_the_sdist(tracked: set[str]) -> None:
    """What is new on top of the checkout is in MANIFEST.in: setuptools takes by itself only what it knows."""
    by_itself = {"LICENSE", "README.rst", "policyd", "pyproject.toml", "setup.py", "MANIFEST.in"}
    rules = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines() if line and line[0] != "#"]
    named = {name for rule, *names in rules if rule in ("include", "graft", "recursive-include") for name in names}
    assert {name.partition("/")[0] for name in tracked} - by_itself - OF_A_CHECKOUT <= named
