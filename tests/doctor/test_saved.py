"""What doctor leaves for the daemon's page, in a folder that is the daemon's."""

import json
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from policyd.doctor.saved import save
from policyd.errors import StoreCreateError
from policyd.timestamps import is_time
from tests.support.places import OPEN_PLACE
from tests.support.required import as_root

from .sites import MakeSite

FOUND = {"at": 1, "findings": [], "not_looked_at": [], "proof": []}
OWNER = pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the daemon's user, into which root writes."""
    with tempfile.TemporaryDirectory(dir=OPEN_PLACE) as name:
        os.chown(name, OWNER, -1)
        yield Path(name)


def test_each_run_replaces_what_the_last_one_found(tmp_path: Path) -> None:
    """A page that shows what has long been put right is not believed again."""
    for at in (1, 2):
        save({**FOUND, "at": at}, tmp_path / "doctor.json")
    assert json.loads((tmp_path / "doctor.json").read_text()) == {**FOUND, "at": 2}


@pytest.mark.postfix
def test_file_has_what_json_says(make_site: MakeSite, tmp_path: Path) -> None:
    """One shape for scripts and for the page."""
    site = make_site("check-after-permits")
    found = site.doctor("--no-probe", "--write", str(tmp_path / "doctor.json"))
    assert json.loads((tmp_path / "doctor.json").read_text()) == found
    assert is_time(found["at"])


@as_root
def test_file_is_the_daemons(folder: Path) -> None:
    """It is read by who is no root, and by nobody else: it has people's addresses."""
    save(FOUND, folder / "doctor.json")
    status = (folder / "doctor.json").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (OWNER, 0o640)


@pytest.mark.parametrize("is_link", [False, True])
def test_other_files_are_left_alone(tmp_path: Path, is_link: bool) -> None:
    """A mistyped name must not cost a database."""
    other = tmp_path / "policyd.db"
    other.write_text("SQLite format 3")
    path = tmp_path / "doctor.json" if is_link else other
    if is_link:
        path.symlink_to(other)
    with pytest.raises(StoreCreateError, match=r": it is not what doctor writes; name another file, or remove it$"):
        save(FOUND, path)
    assert other.read_text() == "SQLite format 3"


@as_root
@pytest.mark.parametrize("has_target", [True, False])
def test_nobody_leads_root_elsewhere(folder: Path, tmp_path: Path, has_target: bool) -> None:
    """The daemon, taken over, could plant a link where root writes each hour."""
    target = tmp_path / "target"
    if has_target:
        target.write_text('{"at": ')
    (folder / "doctor.json").symlink_to(target)
    os.lchown(folder / "doctor.json", OWNER, -1)
    with suppress(StoreCreateError):
        save(FOUND, folder / "doctor.json")
    assert (target.read_text() if has_target else target.exists()) == ('{"at": ' if has_target else False)


@as_root
def test_a_planted_pipe_holds_nobody_up(folder: Path) -> None:
    """Whoever opens it would wait for ever, each hour one more."""
    os.mkfifo(folder / "doctor.json")
    os.chown(folder / "doctor.json", OWNER, -1)
    with pytest.raises(StoreCreateError, match=r"it is no file; name another one$"):
        save(FOUND, folder / "doctor.json")
