"""The manual pages: each is there, is one that groff and mandoc read without a word, and says what it must."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from policyd.cli import NOUNS
from policyd.settings import SETTINGS
from tests.docs.pages import MANUAL, ROOT
from tests.docs.test_documented_commands import COMMANDS
from tests.support.required import give_up

_NAMES = ("policyd.8", "policyd.toml.5", *(f"policyd-{noun}.8" for noun in NOUNS))


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the pages, as docs/build makes them; a warning of Sphinx is an error."""
    if find_spec("sphinx") is None:
        give_up("MANUAL", "Sphinx is not installed; docs/build installs it")
    folder = tmp_path_factory.mktemp("manual")
    options = ["--builder=man", "--fail-on-warning", "--nitpicky", "--quiet", f"--doctree-dir={folder / 'doctrees'}"]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs/manual"), str(folder / "man")]
    subprocess.run(command, check=True, timeout=120)
    return folder / "man"


def program(name: str) -> str:
    """Where the program is; without it the test is given up."""
    found = shutil.which(name)
    if found is None:
        give_up("MANUAL", f"{name} is not installed")
    return found


def shown(page: Path) -> str:
    """What a reader sees of *page*, in one line."""
    text = subprocess.run(
        [program("mandoc"), "-Tutf8", "-Owidth=1000", page], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    return " ".join(re.sub(r".\x08", "", text).split())


def test_every_command_and_the_settings_have_a_page() -> None:
    """Whoever adds a noun adds a file for it to docs/manual/."""
    assert sorted(f"docs/manual/{name.rpartition('.')[0]}.rst" for name in _NAMES) == MANUAL


@pytest.mark.full
def test_every_page_is_built(manual: Path) -> None:
    """A page without its section would be found by nobody."""
    assert {file.name for file in manual.iterdir() if file.is_file()} == {*_NAMES}


@pytest.mark.full
@pytest.mark.parametrize("command", [["groff", "-man", "-Tutf8", "-ww", "-z"], ["mandoc", "-Tlint", "-Wwarning"]])
def test_pages_are_read_without_a_word(manual: Path, command: list[str]) -> None:
    """Distributions refuse a package for less."""
    told = subprocess.run(
        [program(command[0]), *command[1:], *(manual / name for name in _NAMES)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (told.stdout, told.stderr) == ("", "")


@pytest.mark.full
def test_every_page_has_a_name_that_apropos_finds(manual: Path) -> None:
    """`apropos policyd` lists what there is, with a sentence each."""
    for name in _NAMES:
        page = name.rpartition(".")[0]
        told = re.search(r"^\.SH NAME\n(.+) \\- (.+)\n", (manual / name).read_text(encoding="ascii"), re.MULTILINE)
        assert told is not None, name
        assert told[1].replace("\\", "") == page
        assert len(told[2]) > 10


@pytest.fixture(scope="module")
def texts(manual: Path) -> Mapping[str, str]:
    """What a reader sees of each page."""
    return {name: shown(manual / name) for name in _NAMES}


@pytest.mark.full
def test_every_command_is_in_its_page_with_its_options(texts: Mapping[str, str]) -> None:
    """A man page without an option is one that nobody looks into again."""
    for command, made in COMMANDS.items():
        text = texts[f"policyd-{command.split()[0]}.8"]
        assert f"policyd {command}" in text
        for param in made.params:
            missing = [each for each in param.opts if each.startswith("--") and each not in text]
            assert not missing or not param.expose_value, (command, missing)


@pytest.mark.full
def test_every_setting_is_in_its_page_with_what_may_stand_there(texts: Mapping[str, str]) -> None:
    """policyd.toml(5) is all that an administrator has where there is no browser."""
    for key, setting in SETTINGS.items():
        assert key in texts["policyd.toml.5"]
        assert key.startswith("reply.") or plain(setting.about)[1:] in texts["policyd.toml.5"]


def plain(text: str) -> str:
    """*text* without its markup."""
    return " ".join(text.replace("``", "").split())


@pytest.mark.full
def test_pages_name_only_pages_that_are_there(texts: Mapping[str, str]) -> None:
    """A page of ours that another one leads to exists."""
    named = {
        f"{name}.{number}" for text in texts.values() for name, number in re.findall(r"(policyd[\w.-]*)\((\d)\)", text)
    }
    assert named == {*_NAMES}


@pytest.mark.full
def test_nothing_is_left_of_the_markup(texts: Mapping[str, str]) -> None:
    """What Sphinx does not take for markup, a reader would see."""
    assert [
        name for name, text in texts.items() if re.search(r":\w+:`|``|\.\. [\w-]+:|\.\. (?:from|end)\b", text)
    ] == []
