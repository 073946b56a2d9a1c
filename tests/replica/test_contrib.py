"""The settings in contrib/postgresql are ones that policyd takes, and that libpq does."""

from pathlib import Path

import pytest

from policyd.settings import load_settings
from policyd.store.connection import Database
from policyd.store.postgresql import need_usable

FOLDER = Path(__file__).resolve().parents[2] / "contrib" / "postgresql"


@pytest.mark.parametrize("name", ["mx1", "mx2", "submission", "admin"])
def test_settings_are_ones_that_can_be_used(name: str, tmp_path: Path) -> None:
    """Whoever copies them must not have to find out why."""
    text = (FOLDER / f"{name}.toml").read_text()
    (tmp_path / "password").write_text("secret\n")
    settings_file = tmp_path / "policyd.toml"
    settings_file.write_text(text.replace("/etc/policyd/database-password", str(tmp_path / "password")))
    settings = load_settings(settings_file)
    need_usable(Database.of(settings))
    assert (settings.replica is None) == (name == "admin")
    assert Database.of(settings).is_on_server
