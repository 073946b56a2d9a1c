"""Leaves what was found in a file, for the page of the daemon: that is no root, and can't look itself."""

import errno
import stat
from pathlib import Path
from typing import Any

from policyd.errors import StoreCreateError, reason_of
from policyd.files import acting, open_to_read, owner_for_new, replacing
from policyd.printable import to_json

_BEGINNING = b'{"at": '


def save(found: dict[str, Any], path: Path) -> None:
    """Write what `Report.as_object` has *found* to *path*, whole or not at all, in place of what was found before.

    Root writes it as the owner of the folder, who is the daemon: nobody has him write elsewhere by a link that he
    planted. Any other file is left alone. Raises StoreCreateError.
    """
    owner = owner_for_new(path)
    try:
        with acting(owner):
            _check_what_is_there(path)
            with replacing(path, is_shared=True) as file:
                file.write(f"{to_json(found)}\n".encode())
    except OSError as error:
        raise StoreCreateError(f"{path}: {reason_of(error)}") from error


def _check_what_is_there(path: Path) -> None:
    """Raises OSError for what is not an earlier one: a mistyped name must not cost a database."""
    try:
        with open_to_read(path, lambda _, status: _check_is_file(path, status.st_mode)) as file:
            is_earlier = file.read(len(_BEGINNING)) in (_BEGINNING, b"")
    except FileNotFoundError:
        return
    if not is_earlier:
        raise FileExistsError(errno.EEXIST, "it is not what doctor writes; name another file, or remove it", str(path))


def _check_is_file(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "it is no file; name another one", str(path))
