"""What a setup keeps of the files that it replaces."""

import os
import shutil
from pathlib import Path

import pytest

from policyd.errors import SetupError
from policyd.setup.record import begin, read_record, records
from tests.support.required import as_root


def test_file_comes_back_with_link_owner_and_mode(tmp_path: Path) -> None:
    """Many have main.cf in a repository, and a link to it where Postfix looks."""
    kept, link = tmp_path / "kept.cf", tmp_path / "main.cf"
    kept.write_bytes(b"old\n")
    kept.chmod(0o640)
    link.symlink_to("kept.cf")
    record = begin(tmp_path / "policyd.toml", tmp_path, is_default=False)
    record.replace(link, b"new\n")
    assert (link.is_symlink(), kept.read_bytes(), kept.stat().st_mode & 0o777) == (True, b"new\n", 0o640)
    assert read_record(record.folder).restore([link]) == [str(link)]
    assert (link.is_symlink(), kept.read_bytes(), kept.stat().st_mode & 0o777) == (True, b"old\n", 0o640)


def test_file_that_was_not_there_goes_again(tmp_path: Path) -> None:
    """The settings, where policyd had none."""
    file = tmp_path / "policyd.toml"
    record = begin(file, tmp_path, is_default=True)
    record.replace(file, b"new\n")
    record.restore([file])
    assert not file.exists()


def test_what_somebody_has_edited_since_is_not_overwritten(tmp_path: Path) -> None:
    """Work of a person is worth more than ours, and nothing is put back by halves."""
    first, second = tmp_path / "main.cf", tmp_path / "master.cf"
    for file in (first, second):
        file.write_bytes(b"old\n")
    record = begin(tmp_path / "policyd.toml", tmp_path, is_default=True)
    for file in (first, second):
        record.replace(file, b"new\n")
    first.write_bytes(b"edited\n")
    with pytest.raises(SetupError, match=r"main\.cf: changed since"):
        record.restore([first, second])
    assert (first.read_bytes(), second.read_bytes()) == (b"edited\n", b"new\n")


def test_what_was_interrupted_is_gone_on_with_and_what_has_ended_is_not(tmp_path: Path) -> None:
    """The oldest copy is the one to come back: a second one would be of a file half done."""
    settings = tmp_path / "policyd.toml"
    first = begin(settings, tmp_path, is_default=True)
    assert begin(settings, tmp_path, is_default=True).folder == first.folder
    assert begin(settings, Path(os.devnull), is_default=True).folder != first.folder
    first.is_finished = True
    first.write()
    later = begin(settings, tmp_path, is_default=True)
    assert next(iter(records(settings))).folder == later.folder != first.folder


def test_copy_that_is_not_what_was_kept_is_not_put_back(tmp_path: Path) -> None:
    """Half a backup would be half a Postfix; nothing is put back then."""
    first, second = tmp_path / "main.cf", tmp_path / "master.cf"
    for file in (first, second):
        file.write_bytes(b"old\n")
    record = begin(tmp_path / "policyd.toml", tmp_path, is_default=True)
    for file in (first, second):
        record.replace(file, b"new\n")
    (record.folder / "0-main.cf").write_bytes(b"planted\n")
    with pytest.raises(SetupError, match=r"0-main\.cf: changed since the setup; nothing was put back"):
        record.restore([first, second])
    (record.folder / "0-main.cf").unlink()
    with pytest.raises(SetupError, match=r"0-main\.cf: No such file or directory; nothing was put back"):
        record.restore([first, second])
    assert (first.read_bytes(), second.read_bytes()) == (b"new\n", b"new\n")


@as_root
@pytest.mark.parametrize("what", ["owner", "everybody", "its folder"])
def test_record_that_somebody_else_may_have_written_is_refused(tmp_path: Path, what: str) -> None:
    """It says which file root is to write, with what, and for whom."""
    record = begin(tmp_path / "policyd.toml", tmp_path, is_default=True)
    match what:
        case "owner":
            shutil.chown(record.folder / "record.json", "nobody")
        case "everybody":
            (record.folder / "record.json").chmod(0o666)
        case _:
            record.folder.chmod(0o777)
    with pytest.raises(SetupError, match=r"record\.json: .*(chown|chmod)"):
        read_record(record.folder)
