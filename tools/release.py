"""Makes a release of a tag: checks it, builds it, and says what a person must sign and publish.

`tools/release` calls it. Each step is a function; `make` has their order. One that finds something wrong raises
ReleaseError, whose text is the line that the person reads. What is made is in its place only when it is whole.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NoReturn

from tools import distributions

_NEWEST = re.compile(r"^(?P<version>\d\S*) \((?P<when>.+)\)\n-{3,}$", re.MULTILINE)
_TO_RUN = "requirements.txt"  # what policyd runs on, with hashes


class ReleaseError(Exception):
    """What must be put right before there can be a release, in one line."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of this checkout."""

    name: str
    commit: str
    epoch: int  # when it was committed, in Unix seconds
    signature: str  # what is known of one
    is_signed: bool

    @property
    def version(self) -> str:
        return self.name.removeprefix("v")


@dataclass(frozen=True, slots=True)
class Audit:
    """What the advisories say about the packages that policyd runs on."""

    told: str
    was_possible: bool


# What a tag says, and whether that is so.


def find_tag(name: str) -> Tag:
    """The tag *name* of the checkout in the current folder."""
    if not re.fullmatch(r"v\d[\w.]*", name):
        raise ReleaseError(f"{name} is no tag of a version, such as v1.2.3")
    if _run("git", "rev-parse", "--git-dir").returncode != 0:
        raise ReleaseError("this is no git checkout: a release is made of a tag")
    commit = _run("git", "rev-parse", "--verify", "--quiet", f"refs/tags/{name}^{{commit}}").stdout.strip()
    if not commit:
        raise ReleaseError(f"there is no tag {name}: `git tag --sign {name}` makes it")
    epoch = int(_git("log", "-1", "--format=%ct", commit))

    # Whoever publishes may have signed it, here or elsewhere, or may do so at the end.
    is_signed = "SIGNATURE-----" in _run("git", "cat-file", "tag", f"refs/tags/{name}").stdout
    if not is_signed:
        signature = "it is not signed"
    elif _run("git", "verify-tag", name).returncode == 0:
        signature = "its signature is good"
    else:
        signature = "it is signed, with a key that this machine does not know"
    return Tag(name, commit, epoch, signature, is_signed)


def newest_changes(text: str) -> tuple[str, str]:
    """The version that CHANGES.rst begins with, and the day of its release, or "unreleased"."""
    found = _NEWEST.search(text)
    if found is None:
        raise ReleaseError("CHANGES.rst has no version: a title such as `1.2.3 (2026-11-26)`")
    return found["version"], found["when"]


def check_tree() -> None:
    """Refuse where something lies about that the person may believe to be in the tag."""
    if changed := _git("status", "--porcelain").splitlines():
        raise ReleaseError(f"{changed[0][3:]} is not committed, and so would not be in the release: see `git status`")


def check_version(tag: Tag, source: Path) -> None:
    """Refuse where the tag, the program and CHANGES.rst speak of different versions."""
    ran = _run(sys.executable, "-c", "import policyd; print(policyd.__version__)", cwd=source)
    if (version := ran.stdout.strip()) != tag.version:
        raise ReleaseError(f"the tag is {tag.name}, but policyd/__init__.py says {version or 'nothing'}")
    version, when = newest_changes((source / "CHANGES.rst").read_text(encoding="utf-8"))
    if version != tag.version:
        raise ReleaseError(f"the tag is {tag.name}, but CHANGES.rst begins with {version}")
    try:
        date.fromisoformat(when)
    except ValueError:
        raise ReleaseError(f"CHANGES.rst says `{version} ({when})`: write the day of the release there") from None


def check_tests(source: Path, passed: str | None) -> None:
    """Run what must pass before a change is taken, unless somebody says where it has *passed* for this commit."""
    if passed:
        say(f".ci/run was not run here: it is said to have passed at {passed}")
        return
    say(".ci/run runs in a clean worktree of the tag")
    if subprocess.run(["bash", ".ci/run"], cwd=source).returncode != 0:
        raise ReleaseError("`.ci/run` failed: see above")


# What is built.


def build_distributions(tag: Tag, folders: tuple[Path, Path], into: Path) -> Path:
    """Build sdist and wheel in both *folders*, compare them, and have them in *into*; return the wheel."""
    try:
        built = distributions.build(folders[0], into, tag.epoch)
        with tempfile.TemporaryDirectory() as name:
            again = distributions.build(folders[1], Path(name), tag.epoch)
            for first, second in zip(built, again, strict=True):
                if _sha256(first) != _sha256(second):
                    raise ReleaseError(f"{first.name} is another file when it is built a second time")
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stdout)
        raise ReleaseError(f"`{' '.join(error.cmd[1:])}` failed: see above") from error
    say(f"{built[0].name} and {built[1].name}: the same bytes, built twice in two folders")
    _must("twine", "--no-color", "check", "--strict", *map(str, built))
    say("twine check --strict: passed")
    return built[1]


def build_package(tag: Tag, source: Path, into: Path) -> None:
    """Build the Debian package, with `tools/package` of the tag, and have it in *into*."""
    for words in (["tools/package", "--fetch"], ["tools/package"]):
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(tag.epoch)}
        if subprocess.run(words, cwd=source, env=environment).returncode != 0:
            raise ReleaseError(f"`{' '.join(words)}` failed: see above")
    (package,) = (source / "dist").glob("*.deb")
    shutil.copy(package, into)
    say(f"{package.name}: built by tools/package")


def list_contents(tag: Tag, wheel: Path, source: Path, into: Path) -> None:
    """Install the release as a host does, see that it starts, and write what is in it (SBOM)."""
    with tempfile.TemporaryDirectory() as name:
        python = Path(name, "bin/python")
        _must("venv", "--without-pip", name)
        install = ["pip", "--disable-pip-version-check", "--quiet", "--python", str(python), "install"]
        _must(*install, "--require-hashes", "--requirement", str(source / _TO_RUN))
        # By its name, not by its path, which would stand in the list.
        _must(*install, "--no-index", "--no-deps", "--find-links", str(wheel.parent), f"policyd=={tag.version}")
        told = _run(str(python.with_name("policyd")), "--version").stdout
        if told != f"policyd {tag.version}\n":
            raise ReleaseError(f"the installed `policyd --version` says {told.strip() or 'nothing'}")
        output = into / f"policyd-{tag.version}.cdx.json"
        _must("cyclonedx_py", "environment", "--output-reproducible", "--output-file", str(output), str(python))
    shutil.copy(source / _TO_RUN, into)
    say(f"the wheel is installed with {_TO_RUN} and starts; {output.name} lists what is in it")


def audit(source: Path) -> Audit:
    """Ask for the advisories about the packages of a release; refuse where there is one."""
    words = ["pip_audit", "--strict", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    ran = _run(sys.executable, "-m", *words, "--format", "json", "--requirement", str(source / _TO_RUN))
    return audited(ran.returncode, ran.stdout, ran.stderr)


def audited(status: int, stdout: str, stderr: str) -> Audit:
    """What pip-audit's exit status and output mean."""
    packages = json.loads(stdout)["dependencies"] if stdout.strip() else []
    advisories = [
        f"{package['name']} {package['version']} ({', '.join(advisory['id'] for advisory in package['vulns'])})"
        for package in packages
        if package.get("vulns")
    ]
    if advisories:
        raise ReleaseError(
            f"there are advisories about {', '.join(advisories)}: see tools/requirements --upgrade-package"
        )
    if status == 0 and packages:
        return Audit(f"pip-audit --strict: no advisory is known about the {len(packages)} packages", True)
    why = (stderr.strip().splitlines() or ["it said nothing"])[-1]
    return Audit(f"pip-audit --strict: NOTHING WAS AUDITED, no advisories are reachable here: {why}", False)


def write_sums(into: Path) -> None:
    """Write the digests of all files, which is what gets signed."""
    lines = [f"{_sha256(path)}  {path.name}\n" for path in sorted(into.iterdir())]
    (into / "SHA256SUMS").write_text("".join(lines), encoding="ascii")


def what_remains(tag: Tag, found: Audit, into: Path) -> str:
    """What only a person can do, in the order to do it in."""
    steps = []
    if not found.was_possible:
        steps.append(f"Where pypi.org is reachable: pip-audit --strict --require-hashes -r {into}/{_TO_RUN}")
    if not tag.is_signed:
        steps.append(f"Sign the tag; its commit stays the same: git tag --sign --force {tag.name} '{tag.name}^{{}}'")
    steps += [
        f"Sign the digests: gpg --armor --detach-sign {into}/SHA256SUMS",
        f"Publish the tag: git push origin {tag.name}",
        f"Publish all files of {into}, SHA256SUMS.asc too, where HOME in setup.py says.",
        f"Publish on the index: twine upload {into}/policyd-{tag.version}.tar.gz {into}/policyd-{tag.version}-*.whl",
        f"Announce it, with *Upgrading* of {tag.version} in CHANGES.rst.",
        "Begin the next version: __version__ in policyd/__init__.py, and `(unreleased)` on top of CHANGES.rst.",
    ]
    numbered = [f"  {number}. {step}" for number, step in enumerate(steps, 1)]
    return "\n".join(["Nothing is signed, pushed or published. What remains for you:", *numbered])


# How it goes.


def make(name: str, into: Path | None, passed: str | None) -> None:
    """Make the release of the tag *name* in *into*, or change nothing and raise ReleaseError."""
    tag = find_tag(name)
    into = into or Path("dist", tag.version)
    if into.exists():
        raise ReleaseError(f"{into} is there already: move it away")
    say(f"tag {tag.name} of commit {tag.commit}: {tag.signature}")
    check_tree()
    with tempfile.TemporaryDirectory(prefix="policyd-release-") as place, _worktrees(tag, Path(place)) as sources:
        check_version(tag, sources[0])
        check_tests(sources[0], passed)
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into.parent, prefix=".unfinished-") as unfinished:
            made = Path(unfinished, "made")
            made.mkdir()
            found = _fill(tag, sources, made)
            made.rename(into)
    say(f"\n{into} has:")
    say((into / "SHA256SUMS").read_text(encoding="ascii"))
    say(what_remains(tag, found, into))


def _fill(tag: Tag, sources: tuple[Path, Path], made: Path) -> Audit:
    """Build all that is released, check it, and have it in *made*; return what the advisories say."""
    wheel = build_distributions(tag, sources, made)
    list_contents(tag, wheel, sources[0], made)
    found = audit(sources[0])
    say(found.told)
    build_package(tag, sources[0], made)
    write_sums(made)
    return found


@contextmanager
def _worktrees(tag: Tag, place: Path) -> Iterator[tuple[Path, Path]]:
    """Two folders in *place* with the files of *tag* and no others, for as long as they are needed."""
    folders = place / "first", place / "second"
    try:
        for folder in folders:
            _git("worktree", "add", "--quiet", "--detach", str(folder), tag.commit)
        yield folders
    finally:
        for folder in folders:
            _run("git", "worktree", "remove", "--force", str(folder))


def say(line: str) -> None:
    """Tell the person at once how far it is: what is called from here writes, too."""
    print(line, flush=True)


def _run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def _git(*words: str) -> str:
    ran = _run("git", *words)
    if ran.returncode != 0:
        raise ReleaseError(f"`git {words[0]}` failed: {ran.stderr.strip()}")
    return ran.stdout


def _must(module: str, *words: str) -> None:
    """Run a Python module that must end with 0; what it said is shown where it does not."""
    ran = _run(sys.executable, "-m", module, *words)
    if ran.returncode != 0:
        sys.stderr.write(ran.stdout + ran.stderr)
        raise ReleaseError(f"`{module} {' '.join(words)}` failed: see above")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main() -> int:
    """Do what is typed; return the exit status: 1 where there is no release."""
    parser = _Parser("tools/release", description="Make a release of a tag. Nothing is pushed.")
    parser.add_argument("tag", metavar="TAG", help="of the version, such as v1.2.3")
    parser.add_argument("--into", metavar="FOLDER", type=Path, help="what is made; it must not be there (dist/VERSION)")
    parser.add_argument("--ci-passed", metavar="WHERE", help="do not run .ci/run: it passed for this commit there")
    asked = parser.parse_args()
    try:
        make(asked.tag, asked.into, asked.ci_passed)
    except ReleaseError as error:
        print(f"tools/release: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"tools/release: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
