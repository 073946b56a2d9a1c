"""Postfix configurations as people have them, each with what is wrong with it, made to work in a folder of a test.

Each was run with a real Postfix. A folder has `main.cf` and `master.cf`, the settings `policyd.toml`, the commands that
fill the tables `tables.txt`, what must be found `expected.json`, what was done about it `fix.json`, and what each of
some mails was told before and after that, `observed.json`.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from policyd.cli import main

CONFIGURATIONS = Path(__file__).resolve().parents[1] / "data" / "postfix-configs"
NAMES = sorted(each.name for each in CONFIGURATIONS.iterdir())
_QUEUE = "/var/spool/postfix"


class Site:
    """The configuration *name* in *folder*, for a Postfix whose queue is *queue*, with its own tables."""

    def __init__(self, name: str, folder: Path, queue: Path, **instead: str) -> None:
        self.name = name
        self.folder = folder
        self.config = folder / "postfix"
        self.settings = folder / "policyd.toml"
        shutil.copytree(CONFIGURATIONS / name, self.config)
        self._replace({_QUEUE: str(queue), **instead})
        text = self.settings_text().replace("sqlite:////var/lib/policyd", f"sqlite:///{folder}")
        self.settings.write_text(re.sub(r"^user = .*\n", "", text, flags=re.MULTILINE))
        done = self.policyd("batch", str(self.config / "tables.txt"))
        assert done.exit_code == 0, done.output

    def settings_text(self) -> str:
        """What policyd.toml says."""
        return (self.config / "policyd.toml").read_text()

    def expected(self) -> set[str]:
        """The codes that must be found."""
        return {each["code"] for each in self.read("expected.json")}

    def read(self, name: str) -> Any:
        """A file of the configuration, as JSON."""
        return json.loads((self.config / name).read_text())

    def policyd(self, *words: str) -> Result:
        """A command with the settings of the site."""
        return CliRunner().invoke(main, ["--config", str(self.settings), *words])

    def doctor(self, *options: str) -> dict[str, Any]:
        """What doctor finds."""
        done = self.policyd("doctor", "--postfix-config", str(self.config), "--json", *options)
        assert done.exit_code in (0, 1), done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _replace(self, words: dict[str, str]) -> None:
        for file in (*self.config.rglob("*.cf"), self.config / "policyd.toml"):
            text = file.read_text()
            for old, new in words.items():
                text = text.replace(old, new)
            file.write_text(text)
        if "queue_directory" not in (main_cf := self.config / "main.cf").read_text():
            main_cf.write_text(f"{main_cf.read_text().rstrip()}\nqueue_directory = {words[_QUEUE]}\n")


def codes(found: dict[str, Any]) -> set[str]:
    """The codes in what doctor found, without what is always there, and what hangs on the machine."""
    return {each["code"] for each in counted(found)}


def counted(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The findings that tell one configuration from another."""
    for each in found["findings"]:
        is_address = each["code"] == "domain-unmanaged" and each["about"].startswith("[")
        if each["code"] != "pickup-unchecked" and not is_address:
            yield each


MakeSite = Callable[..., Site]
