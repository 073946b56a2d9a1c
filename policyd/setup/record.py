"""The record of a setup, beside the settings: each file that it replaces as it was, so that it can be taken back.

A record is a folder with `record.json` and the copies. A file's entry, with what it will be, is on the disk before the
file is replaced: so whatever a setup was interrupted at, `restore` knows each file as it was and as it may be now.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from policyd.errors import SetupError, reason_of
from policyd.files import read_settings

FILES = ("main.cf", "master.cf")  # in this order: master.cf names parameters that main.cf has
_FOLDER = "setup-"
_NAME = "record.json"
_DRAFT = ".policyd-setup"


@dataclass(slots=True)
class Entry:
    """A file that was replaced: `target` is where links at `path` lead.

    `copy` is the name of what it was, in the record's folder, and `before` its digest; both are "" where there was no
    file. `after` are the digests of what it was made to be.
    """

    path: str
    target: str
    copy: str
    before: str
    uid: int
    gid: int
    mode: int
    after: list[str] = field(default_factory=list)

    def is_known(self) -> bool:
        """Whether the file is as it was, or as a setup made it."""
        return os.path.realpath(self.path) == self.target and digest(Path(self.target)) in (self.before, *self.after)


@dataclass(slots=True)
class Record:
    """What one setup has replaced, in the folder `folder`, in the order in which it did; `postfix` is Postfix's folder.

    `is_default` says that postconf finds that by itself, `is_finished` that all was done, `is_undone` that all was
    taken back.
    """

    folder: Path
    postfix: str
    is_default: bool = True
    entries: list[Entry] = field(default_factory=list)
    is_finished: bool = False
    is_undone: bool = False

    def replace(self, path: Path, content: bytes) -> None:
        """Make *content* the content of the file *path*, whose links, owner and mode stay. Raises OSError."""
        target = Path(os.path.realpath(path))
        entry = next((each for each in self.entries if each.path == str(path)), None)
        if entry is None:
            entry = self._keep(path, target)
            self.entries.append(entry)
        entry.after.append(_digest_of(content))
        self.write()
        put(target, content, entry.uid, entry.gid, entry.mode)

    def write(self) -> None:
        """Write the record to the disk, whole or not at all. Raises OSError."""
        told = {key: value for key, value in asdict(self).items() if key != "folder"}
        put(self.folder / _NAME, json.dumps(told, indent=1).encode(), os.geteuid(), os.getegid(), 0o600)

    def is_open_for(self, postfix: Path) -> bool:
        """Whether it is of a setup of *postfix* that was interrupted."""
        return self.postfix == str(postfix) and not (self.is_finished or self.is_undone)

    def paths(self) -> list[Path]:
        """The files that it has replaced."""
        return [Path(entry.path) for entry in self.entries]

    def changed(self) -> list[Path]:
        """The files that somebody has changed since."""
        return [Path(entry.path) for entry in self.entries if not entry.is_known()]

    def restore(self, paths: Collection[Path]) -> list[str]:
        """Put back each of the files *paths* as it was, the last one first; those that were not so already.

        Raises SetupError where one of them, or its copy, was changed since, and then does nothing; and OSError.
        """
        meant = [entry for entry in self.entries if Path(entry.path) in paths]
        if changed := [entry.path for entry in meant if not entry.is_known()]:
            raise SetupError(f"{', '.join(changed)}: changed since the setup; as it was, it is in {self.folder}")
        for entry in meant:
            self._copy_of(entry)
        done = []
        for entry in reversed(meant):
            target = Path(entry.target)
            _drop_draft(target)
            if digest(target) == entry.before:
                continue
            if entry.copy:
                put(target, self._copy_of(entry), entry.uid, entry.gid, entry.mode)
            else:
                target.unlink()
            done.append(entry.path)
        return done

    def _copy_of(self, entry: Entry) -> bytes:
        """What a file was, b"" where there was none. Raises SetupError where that is not what was recorded."""
        if not entry.copy:
            return b""
        copy = self.folder / entry.copy
        try:
            content = copy.read_bytes()
        except OSError as error:
            raise SetupError(f"{copy}: {reason_of(error)}; nothing was put back") from error
        if _digest_of(content) != entry.before:
            raise SetupError(f"{copy}: changed since the setup; nothing was put back")
        return content

    def _keep(self, path: Path, target: Path) -> Entry:
        """An entry for the file *path* as it is, which is copied."""
        try:
            content, status = target.read_bytes(), target.stat()
        except FileNotFoundError:
            return Entry(str(path), str(target), "", "", os.geteuid(), os.getegid(), 0o644)
        name = f"{len(self.entries)}-{target.name}"
        put(self.folder / name, content, os.geteuid(), os.getegid(), 0o600)
        mode = stat.S_IMODE(status.st_mode)
        return Entry(str(path), str(target), name, _digest_of(content), status.st_uid, status.st_gid, mode)


def records(beside: Path) -> list[Record]:
    """The records beside the settings file *beside*, the newest first."""
    found = sorted(beside.parent.glob(f"{_FOLDER}*/{_NAME}"), reverse=True)
    return [read_record(each.parent) for each in found]


def read_record(folder: Path) -> Record:
    """The record in *folder*, which nobody else may have written: it says what root writes where. Raises SetupError."""
    try:
        told: dict[str, Any] = json.loads(read_settings(folder / _NAME))
        entries = [Entry(**each) for each in told.pop("entries")]
        return Record(folder, entries=entries, **told)
    except OSError as error:
        raise SetupError(f"{folder / _NAME}: {reason_of(error)}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{folder}: no record of a setup: {' '.join(str(error).split())}") from error


def begin(beside: Path, postfix: Path, *, is_default: bool) -> Record:
    """The record for a setup of *postfix*: the one that was interrupted, or a new one beside the file *beside*.

    Raises OSError.
    """
    for newest in records(beside)[:1]:
        if newest.is_open_for(postfix) and not newest.changed():
            return newest
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        folder = beside.parent / f"{_FOLDER}{stamp}-{number:03}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return _new(folder, postfix, is_default=is_default)
    raise SetupError(f"{beside.parent}: there are too many records of setups; remove some")


def _new(folder: Path, postfix: Path, *, is_default: bool) -> Record:
    """A record in the new *folder*, which goes again where it can't be written. Raises OSError."""
    record = Record(folder, str(postfix), is_default)
    try:
        record.write()
    except OSError:
        folder.rmdir()
        raise
    return record


def digest(file: Path) -> str:
    """The SHA-256 of *file*, "" where there is none. Raises OSError."""
    try:
        return _digest_of(file.read_bytes())
    except FileNotFoundError:
        return ""


def put(target: Path, content: bytes, uid: int, gid: int, mode: int) -> None:
    """Make *content* the file *target*, at once: whoever opens it gets the old one or the new one. Raises OSError."""
    draft = _draft(target)
    try:
        _drop_draft(target)
        _write(draft, target, content, uid, gid, mode)
        os.replace(draft, target)
        _sync(target.parent)
    except OSError as error:
        with suppress(OSError):
            _drop_draft(target)
        raise OSError(error.errno, reason_of(error), str(target)) from error


def _write(draft: Path, target: Path, content: bytes, uid: int, gid: int, mode: int) -> None:
    """Make the new file *draft*, which is to become *target*, and have it on the disk. Raises OSError."""
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(content)
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
        if target.exists():
            for name in os.listxattr(target):  # as the label of SELinux, and an access control list
                with suppress(OSError):  # where nobody may set that, the system does
                    os.setxattr(descriptor, name, os.getxattr(target, name))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _draft(target: Path) -> Path:
    return target.with_name(f".{target.name}{_DRAFT}")


def _drop_draft(target: Path) -> None:
    """Remove what a setup that was killed has left beside *target*; where nothing can be removed, there is none."""
    if os.path.lexists(_draft(target)):
        _draft(target).unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
