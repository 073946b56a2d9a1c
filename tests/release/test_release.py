"""tools/release: what it refuses, in one line and before anything is made, and what it tells a person to do."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.required import give_up
from tests.support.requirements import ROOT
from tools.release import Audit, ReleaseError, Tag, audited, find_tag, what_remains

# Git as on a machine where nobody has set anything.
GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
GIT |= {f"GIT_{role}_{what}": "nobody@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
CHANGES = "Changes\n=======\n\n1.2.3 (2026-11-26)\n------------------\n\n1.2.2 (2026-01-02)\n------------------\n"


class Checkout:
    """A project that is as large as a release is refused for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "--quiet")
        self.write("policyd/__init__.py", '__version__ = "1.2.3"\n')
        self.write("CHANGES.rst", CHANGES)
        self.write(".ci/run", "echo the tests say why; exit 1\n")
        self.commit()

    def git(self, *words: str) -> str:
        environment = {**os.environ, **GIT}
        ran = subprocess.run(["git", *words], cwd=self.folder, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self) -> None:
        """Commit what lies there, and have the tag name it."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a release")
        self.git("tag", "--force", "v1.2.3")

    def release(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools/release.py"), *words]
        environment = {**os.environ, **GIT, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    if shutil.which("git") is None:
        give_up("BUILD", "there is no git")
    folder = tmp_path / "a checkout"
    folder.mkdir()
    return Checkout(folder)


def committed(name: str, text: str) -> Callable[[Checkout], None]:
    def prepare(checkout: Checkout) -> None:
        checkout.write(name, text)
        checkout.commit()

    return prepare


@pytest.mark.parametrize(
    ("prepare", "words", "told"),
    [
        pytest.param(None, ["1.2.3"], "1.2.3 is no tag of a version, such as v1.2.3", id="another name"),
        pytest.param(None, ["v9"], "there is no tag v9: `git tag --sign v9` makes it", id="no such tag"),
        pytest.param(
            lambda checkout: checkout.write("notes", ""),
            ["v1.2.3"],
            "notes is not committed, and so would not be in the release: see `git status`",
            id="something lies about",
        ),
        pytest.param(
            committed("policyd/__init__.py", '__version__ = "1.2.4"\n'),
            ["v1.2.3"],
            "the tag is v1.2.3, but policyd/__init__.py says 1.2.4",
            id="the program is another version",
        ),
        pytest.param(
            committed("CHANGES.rst", CHANGES.replace("1.2.3", "1.2.4")),
            ["v1.2.3"],
            "the tag is v1.2.3, but CHANGES.rst begins with 1.2.4",
            id="the changes are of another version",
        ),
        pytest.param(
            committed("CHANGES.rst", CHANGES.replace("2026-11-26", "unreleased")),
            ["v1.2.3"],
            "CHANGES.rst says `1.2.3 (unreleased)`: write the day of the release there",
            id="not said to be released",
        ),
        pytest.param(
            committed("CHANGES.rst", "Changes\n=======\n"),
            ["v1.2.3"],
            "CHANGES.rst has no version: a title such as `1.2.3 (2026-11-26)`",
            id="no version in the changes",
        ),
        pytest.param(
            None, ["v1.2.3", "--into", "policyd"], "policyd is there already: move it away", id="would overwrite"
        ),
        pytest.param(None, ["v1.2.3"], "`.ci/run` failed: see above", id="the tests fail"),
    ],
)
def test_what_is_not_ready_is_refused_in_one_line(
    checkout: Checkout, prepare: Callable[[Checkout], None] | None, words: list[str], told: str
) -> None:
    """A release with a wrong version in it can't be taken back; nothing is left of an attempt."""
    if prepare:
        prepare(checkout)
    before = checkout.git("status", "--porcelain")
    done = checkout.release(*words)
    assert (done.returncode, done.stderr) == (1, f"tools/release: {told}\n")
    assert checkout.git("status", "--porcelain", "--ignored") == before
    assert len(checkout.git("worktree", "list").splitlines()) == 1


def test_tests_run_on_what_the_tag_has(checkout: Checkout) -> None:
    """What fails is shown, and it is the tag that is tried, not what has come since."""
    checkout.write(".ci/run", "echo this came later\n")
    checkout.git("commit", "--quiet", "--all", "--message", "after the release")
    told = checkout.release("v1.2.3").stdout.splitlines()
    assert told[0].endswith(": it is not signed")
    assert told[1:] == [".ci/run runs in a clean worktree of the tag", "the tests say why"]


@pytest.mark.parametrize("words", [[], ["v1.2.3", "v1.2.4"], ["v1.2.3", "--push"]], ids=["none", "two", "an option"])
def test_wrong_words_are_one_line(checkout: Checkout, words: list[str]) -> None:
    """Who mistypes reads what is wrong, and not a page about all that there is."""
    done = checkout.release(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("tools/release: ")


def test_a_release_is_made_of_a_checkout(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unpacked sdist has no tag."""
    shutil.rmtree(checkout.folder / ".git")
    monkeypatch.chdir(checkout.folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout.folder.parent))
    with pytest.raises(ReleaseError, match=r"^this is no git checkout: a release is made of a tag$"):
        find_tag("v1.2.3")


def test_a_signature_that_nobody_here_can_check_is_no_good_one(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the person publishes was signed by somebody, and by whom is not made up."""
    signature = "a release\n-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"
    checkout.git("tag", "--force", "--annotate", "--message", signature, "v1.2.3")
    monkeypatch.chdir(checkout.folder)
    tag = find_tag("v1.2.3")
    assert (tag.version, tag.is_signed) == ("1.2.3", True)
    assert tag.signature == "it is signed, with a key that this machine does not know"


def test_a_known_advisory_stops_a_release() -> None:
    """Whoever installs what is released must not get a hole that is published already."""
    holes = [{"id": "PYSEC-1"}, {"id": "PYSEC-2"}]
    packages = [
        {"name": "click", "version": "8.5.1", "vulns": []},
        {"name": "jinja2", "version": "3.1.6", "vulns": holes},
    ]
    with pytest.raises(ReleaseError, match=r"^there are advisories about jinja2 3\.1\.6 \(PYSEC-1, PYSEC-2\): see "):
        audited(1, json.dumps({"dependencies": packages, "fixes": []}), "Found 2 known vulnerabilities\n")


def test_packages_without_advisories_are_counted() -> None:
    """The reader sees that something was looked at."""
    packages = [{"name": "click", "version": "8.5.1", "vulns": []}]
    told = "pip-audit --strict: no advisory is known about the 1 packages"
    assert audited(0, json.dumps({"dependencies": packages, "fixes": []}), "") == Audit(told, True)


@pytest.mark.parametrize(
    ("stderr", "why"),
    [
        ("WARNING: slow\nERROR: click: Dependency not found on PyPI\n", "ERROR: click: Dependency not found on PyPI"),
        ("", "it said nothing"),
    ],
    ids=["with a reason", "without"],
)
def test_an_audit_that_was_none_is_called_so(stderr: str, why: str) -> None:
    """Where no advisories can be had, nothing is known, which is not the same as that nothing is wrong."""
    told = f"pip-audit --strict: NOTHING WAS AUDITED, no advisories are reachable here: {why}"
    assert audited(1, "", stderr) == Audit(told, False)


def test_a_person_is_told_what_to_sign_and_publish() -> None:
    """Keys and accounts are a person's: the last words are what that person types."""
    tag = Tag("v1.2.3", "c0ffee", 0, "it is not signed", False)
    told = what_remains(tag, Audit("", False), Path("dist/1.2.3")).splitlines()
    assert told[:5] == [
        "Nothing is signed, pushed or published. What remains for you:",
        "  1. Where pypi.org is reachable: pip-audit --strict --require-hashes -r dist/1.2.3/requirements.txt",
        "  2. Sign the tag; its commit stays the same: git tag --sign --force v1.2.3 'v1.2.3^{}'",
        "  3. Sign the digests: gpg --armor --detach-sign dist/1.2.3/SHA256SUMS",
        "  4. Publish the tag: git push origin v1.2.3",
    ]
    signed = Tag("v1.2.3", "c0ffee", 0, "its signature is good", True)
    assert (
        what_remains(signed, Audit("", True), Path("dist/1.2.3")).splitlines()[1].startswith("  1. Sign the digests:")
    )
