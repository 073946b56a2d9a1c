"""requirements.txt and requirements-build.txt: what is released, with hashes, and never behind setup.py."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.requirements import ROOT, extras, required

_PIN = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\]+))? \\\n(?P<hashes>(?:    --hash=.*\n)+)",
    re.MULTILINE,
)
_SHA256 = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?\n")


def pins(name: str) -> dict[str, Version]:
    """The version that the file *name* names of each package; every line of it is a pin, a hash or a comment."""
    text = (ROOT / name).read_text(encoding="utf-8")
    rest = re.sub(r"^\s*#.*\n", "", _PIN.sub("", text), flags=re.MULTILINE)
    assert rest == "", f"{name}: no pin with a hash"
    found = list(_PIN.finditer(text))
    assert all(_SHA256.sub("", pin["hashes"]) == "" for pin in found)
    return {pin["name"]: Version(pin["version"]) for pin in found}


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("requirements.txt", [*required(), *extras()["postgresql"], *extras()["web"]]),
        (
            "requirements-build.txt",
            ["build", *tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]],
        ),
    ],
    ids=["what runs", "what builds"],
)
def test_every_requirement_has_a_version_with_hashes(name: str, asked: list[str]) -> None:
    """After a change of setup.py somebody runs `tools/requirements`, before pip refuses what is released."""
    pinned = pins(name)
    for text in asked:
        requirement = Requirement(text)
        names = [requirement.name, *(f"{requirement.name}-{extra}" for extra in requirement.extras)]
        for each in names:
            version = pinned.get(canonicalize_name(each))
            assert version is not None, f"{name} lacks {each}: run tools/requirements"
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), (
            f"{text}: run tools/requirements"
        )


def test_what_both_files_name_is_the_same_version() -> None:
    """Who installs both into one folder, as the Debian package does, must be able to."""
    run, build = pins("requirements.txt"), pins("requirements-build.txt")
    assert {name: run[name] for name in run.keys() & build.keys()} == {
        name: build[name] for name in run.keys() & build.keys()
    }
