"""Files as whom, and whose: nothing that another user plants or swaps makes us read, write, own or wait for it.

Two rules, by whose the file is:

- **The database** is worked on as the owner of its folder (`owner_of`, `acting`): SQLite opens and removes files by
  their names, and whoever owns the folder can put anything under these. As that user it opens nothing for him that he
  couldn't open himself.
- **What a person names** (a file to import, an export, a backup, the settings) is opened as that person, on
  descriptors: a folder is entered component by component, and a symbolic link counts only if root or the person made
  it. New files have random names, are locked, and get the name that was asked for when they are whole.

A descriptor on a database is never closed here while there may be a connection to it: that would let go of SQLite's
locks (POSIX locks belong to the process). So a database is only looked at with `lstat`.
"""

import errno
import fcntl
import grp
import os
import pwd
import re
import secrets
import select
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from policyd.errors import SettingsError, StoreCreateError, StoreError, reason_of

BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database
_DRAFT = ".policyd-draft"
_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_SHARED_MODE = 0o640  # of a database and a backup
_PRIVATE_MODE = 0o600  # of what a command writes for who typed it
_DRAFTS_LIMIT = 100  # begun for one file: another command takes one away now and then, and a person may go on for ever
_NAME_BYTES = 100  # of the name of a file, in the name of its draft
_LINKS_LIMIT = 40  # as in Linux
_DESCRIPTORS = re.compile(r"/proc/(\d+)(/task/\d+)?/fd")


T = TypeVar("T")


class UntrustedError(PermissionError):
    """What another user could have planted, or could swap; `strerror` says what it is, and what to do."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(errno.EPERM, problem, str(path))


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to become, with the group and the supplementary groups."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Be that user for a moment, as far as files go. The process must be root's, whoever it acts as already."""
        before = os.geteuid(), os.getegid(), os.getgroups()
        try:
            _act_as(self.uid, self.gid, self.groups)
        except OSError as error:
            _act_as(*before)
            raise self.refused(error) from error
        try:
            yield
        finally:
            _act_as(*before)

    def refused(self, error: OSError) -> SettingsError:
        """What to say where the operating system doesn't let it be that user."""
        return SettingsError(f"user: can't become {self.user}: {reason_of(error)}")


def _act_as(uid: int, gid: int, groups: Sequence[int]) -> None:
    os.seteuid(0)
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a path leads: a name in a folder that is open, the folders on the way, and who made links on it."""

    folder: int
    folder_path: str
    name: str
    folders: tuple[tuple[str, os.stat_result], ...]  # those that were entered, from / on
    makers: tuple[tuple[str, int], ...]  # of the links that were followed
    is_descriptor: bool  # a link that leads to what is open already

    @property
    def path(self) -> str:
        """The path without links."""
        return os.path.join(self.folder_path, self.name)

    def status(self) -> os.stat_result | None:
        """Of what has the name now; None where nothing has."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None


_Look = Callable[[_Spot, os.stat_result], None]


@contextmanager
def _found(path: Path, *, follow: bool = True) -> Iterator[_Spot]:
    """Where *path* leads. Each folder is entered from the one before, so that nobody can swap one meanwhile.

    Without *follow*, a link under the last name is not looked into. Raises OSError.
    """
    left = [*reversed(path.absolute().parts[1:])] or ["."]
    folder_path, folders, makers, links = "/", [], [], 0
    folder = os.open("/", _ENTER)
    try:
        folders.append(("/", os.fstat(folder)))
        while True:
            name = left.pop()
            target = None
            is_descriptor = not left and name.isdecimal() and _is_ours_open(folder_path)
            if not is_descriptor and (left or follow):
                target = _link(folder, name)
            if target is not None:
                links += 1
                if folder_path != "/proc":  # the kernel's own: self, thread-self
                    makers.append((os.path.join(folder_path, name), target[1]))
                if links > _LINKS_LIMIT:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                left += [*reversed(Path(target[0]).parts)]
                continue
            if not left:
                yield _Spot(folder, folder_path, name, tuple(folders), tuple(makers), is_descriptor)
                return
            entered = os.open(name, _ENTER, dir_fd=folder)
            os.close(folder)
            folder = entered
            folder_path = "/" if name == "/" else os.path.normpath(os.path.join(folder_path, name))
            folders.append((folder_path, os.fstat(folder)))
    finally:
        os.close(folder)


def _is_ours_open(folder_path: str) -> bool:
    """Whether the links in that folder lead to what is open in this process, maybe under no name.

    In a process of somebody else's they could lead to what he opened without being allowed to read it (O_PATH).
    """
    found = _DESCRIPTORS.fullmatch(folder_path)
    return found is not None and found[1] == os.readlink("/proc/self")


def _link(folder: int, name: str) -> tuple[str, int] | None:
    """What the link *name* says, and who made it; None where it is none."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return (os.readlink(name, dir_fd=folder), status.st_uid) if stat.S_ISLNK(status.st_mode) else None


def _check_makers(spot: _Spot, trusted: frozenset[int]) -> None:
    for link, maker in spot.makers:
        if maker not in trusted:
            raise UntrustedError(
                link, f"{user_name(maker)} made the link {link}, which could lead anywhere; name what it shall lead to"
            )


def _us() -> frozenset[int]:
    """Whose files count as our own: root's, and those of who calls."""
    return frozenset((0, os.geteuid()))


def user_name(uid: int) -> str:
    """The name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The name of a group, or the number where there is none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


# --- As the owner of a folder ---


def owner_of(path: Path) -> Identity | None:
    """As whom root works on the database at *path*: the owner of its folder.

    None where that is who works on it anyway: it is root's own folder, or only root could become somebody else.
    Raises StoreError where others could swap what is in the folder, and FileNotFoundError where there is none. That is
    looked at each time anew: what `check_database` saw may have been swapped since.
    """
    if os.geteuid() != 0:
        return None
    try:
        with _found(path) as spot:
            owner = spot.folders[-1][1]
            _check_way(spot, owner.st_uid)
    except UntrustedError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    return _identity(owner)


def _identity(folder: os.stat_result) -> Identity | None:
    """The owner of *folder*, in the groups that he is in himself: the folder's may be one that he isn't in."""
    if folder.st_uid == os.geteuid():
        return None
    try:
        account = pwd.getpwuid(folder.st_uid)
    except KeyError:  # then nobody says in which groups he is
        return Identity(str(folder.st_uid), folder.st_uid, folder.st_uid, ())
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    return Identity(account.pw_name, account.pw_uid, account.pw_gid, tuple(groups))


@contextmanager
def acting(identity: Identity | None) -> Iterator[None]:
    """Be *identity* for a moment, as far as files go. Raises StoreError where that can't be.

    Meant for as few statements as can be: a module that is imported meanwhile must be readable for that user, too.
    """
    with ExitStack() as stack:
        if identity is not None:
            try:
                stack.enter_context(identity.acting())
            except SettingsError as error:
                problem = str(error).removeprefix("user: ")
                raise StoreError(f"{problem}; run the command as {identity.user}, who owns the folder") from error
        yield


@contextmanager
def entered(manager: AbstractContextManager[T], identity: Identity | None) -> Iterator[T]:
    """*manager*, entered and left as *identity*; what the block does between, it does as before.

    SQLite opens and removes files by name at the start and at the end of a transaction in WAL mode, and not between.
    """
    with acting(identity):
        value = manager.__enter__()
    try:
        yield value
    except BaseException as error:
        with acting(identity):
            is_settled = manager.__exit__(type(error), error, error.__traceback__)
        if not is_settled:
            raise
    else:
        with acting(identity):
            manager.__exit__(None, None, None)


# --- Who else could write a file ---


def read_settings(path: Path) -> str:
    """The text of the settings file at *path*. Raises OSError and UnicodeDecodeError.

    Raises UntrustedError where it belongs to somebody else than root and who calls, or others can write it, or put
    another one there. What is no file, as a pipe, is read, too.
    """
    with open_to_read(path, _check_settings) as file:
        return file.read().decode("utf-8")


def _check_settings(spot: _Spot, status: os.stat_result) -> None:
    path = spot.path
    if status.st_uid not in _us():
        raise UntrustedError(
            path,
            f"it belongs to {user_name(status.st_uid)}, who could have root do anything; read it, and type: "
            f"chown root {path}",
        )
    if status.st_mode & stat.S_IWOTH:
        raise UntrustedError(path, _everybody_writes(path, status))
    if os.geteuid() == 0 and status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        raise UntrustedError(
            path,
            f"its group, {group_name(status.st_gid)}, can write it, and could have root do anything; read it, and "
            f"type: chmod g-w {path}",
        )
    _check_folders(spot, is_sticky_enough=True)


def check_database(path: Path) -> None:
    """Raises StoreError if others could write the database at *path*, what SQLite keeps beside it, or its folders.

    Where root asks, also if others than root and the owner of the folder could swap one of the folders. What is not
    there, or can't be looked at, is left to whoever opens it.
    """
    with _refusing(path), _found(path) as spot:
        _check_way(spot, spot.folders[-1][1].st_uid)
        for each, status in _files_of(spot):
            if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IWOTH:
                raise UntrustedError(each, _everybody_writes(each, status))
    check_planted(path)


def check_planted(path: Path) -> None:
    """Raises StoreError if the database at *path*, or what is beside it, is no file, or made by somebody else."""
    with _refusing(path), _found(path) as spot:
        owner = spot.folders[-1][1].st_uid
        # Who can't write the database, but can make files beside it, could have SQLite take them for a part of it.
        owners = {owner} if os.geteuid() == 0 else {owner, os.geteuid()}
        for each, status in _files_of(spot):
            if not stat.S_ISREG(status.st_mode):
                raise UntrustedError(each, f"it is {_kind(status)}, and no file; see who made it, and type: rm {each}")
            if each == spot.path:
                _check_owner(spot, status, owner)
                owners.add(status.st_uid)
            elif status.st_uid not in owners:
                raise UntrustedError(
                    each,
                    f"it belongs to {user_name(status.st_uid)}, who could have written there what he likes; stop the "
                    f"daemon, and type: rm {each}",
                )


def _check_owner(spot: _Spot, status: os.stat_result, owner: int) -> None:
    """Root works on the database as the folder's owner, whom its mode, and the folder's, must let in."""
    if os.geteuid() != 0 or owner == 0:
        return
    who = f"{user_name(owner)}, who owns its folder and as whom root works on it"
    if status.st_uid != owner:
        raise UntrustedError(
            spot.path,
            f"it belongs to {user_name(status.st_uid)}, and not to {who}; "
            f"type: chown --reference={spot.folder_path} {spot.path}",
        )
    for path, mode, needed, letters in (
        (spot.folder_path, spot.folders[-1][1].st_mode, stat.S_IXUSR, "rwx"),
        (spot.path, status.st_mode, stat.S_IRUSR, "rw"),
    ):
        if not mode & needed:
            raise UntrustedError(
                spot.path,
                f"the mode of {path} ({stat.S_IMODE(mode):04o}) keeps out {who}; type: chmod u+{letters} {path}",
            )


def _files_of(spot: _Spot) -> Iterator[tuple[str, os.stat_result]]:
    """The database at *spot*, and what SQLite has beside it, as far as they are there."""
    for suffix in ("", *BESIDE):
        with suppress(FileNotFoundError):
            status = os.stat(f"{spot.name}{suffix}", dir_fd=spot.folder, follow_symlinks=False)
            yield f"{spot.path}{suffix}", status


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turns UntrustedError into a StoreError about *path*, or what is beside it."""
    try:
        yield
    except UntrustedError as error:
        suffix = next((suffix for suffix in BESIDE if str(error.filename).endswith(suffix)), "")
        raise StoreError(f"{path}{suffix}: {error.strerror}") from error
    except OSError:
        pass  # whoever opens it will tell


def _kind(status: os.stat_result) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(status.st_mode), "a device")


def _everybody_writes(path: str, status: os.stat_result) -> str:
    return f"everybody can write it (mode {stat.S_IMODE(status.st_mode):04o}); see who has, and type: chmod o-w {path}"


def _check_folders(spot: _Spot, *, is_sticky_enough: bool) -> None:
    """No folder on the way may be one in which everybody can put another in the place of what is there.

    In a sticky folder, as /tmp, only its owner and the file's can do that, and everybody can put new files beside it.
    Above the file's own folder that is no matter. In it, it is one for a database, since SQLite takes what it finds
    beside it (-wal) for a part of it.
    """
    for folder, status in spot.folders:
        is_its_own = folder == spot.folder_path
        is_sticky = status.st_mode & stat.S_ISVTX and (is_sticky_enough or not is_its_own)
        if status.st_mode & stat.S_IWOTH and not is_sticky:
            where = "its folder" if is_its_own else f"the folder {folder}, which it is in,"
            raise UntrustedError(
                folder,
                f"everybody can write in {where} (mode {stat.S_IMODE(status.st_mode):04o}); type: chmod o-w {folder}",
            )


def _check_way(spot: _Spot, owner: int) -> None:
    """Only root, who calls, and the *owner* of the database's folder lead there."""
    _check_makers(spot, _us() | {owner})
    _check_folders(spot, is_sticky_enough=False)
    if os.geteuid() == 0:
        _check_owners(spot, owner)


def _check_owners(spot: _Spot, owner: int) -> None:
    """Root is led to a folder only by root and the folder's owner.

    In a folder of root's own, root works as root; so none that a group can write may be on the way there.
    """
    for folder, status in spot.folders:
        _check_folder_owner(folder, status, owner)
        is_groups = status.st_mode & stat.S_IWGRP and status.st_gid != 0
        if owner == 0 and is_groups and (folder == spot.folder_path or not status.st_mode & stat.S_ISVTX):
            raise UntrustedError(
                folder,
                f"the folder {folder} is root's, and its group can write in it; type: chmod g-w {folder}, or make "
                f"who runs the daemon its owner, as with: chown policyd {folder}",
            )


def _check_folder_owner(folder: str, status: os.stat_result, owner: int) -> None:
    if status.st_uid not in (0, owner):
        raise UntrustedError(
            folder,
            f"the folder {folder}, which it is in, belongs to {user_name(status.st_uid)}, who could swap it; "
            f"type: chown root {folder}",
        )


def open_folder(path: Path) -> str:
    """What lets everybody replace the file at *path*, and what to do about it, or ""."""
    try:
        with _found(path) as spot:
            _check_folders(spot, is_sticky_enough=True)
    except UntrustedError as error:
        return str(error.strerror)
    except OSError:
        pass  # whoever opens it will tell
    return ""


def owner_for_socket(path: Path) -> Identity | None:
    """As whom root makes and removes a socket at *path*, by its name: as the owner of its folder; None as itself.

    Raises OSError, also where others could swap one of the folders on the way.
    """
    if os.geteuid() != 0:
        return None
    with _found(path, follow=False) as spot:
        owner = spot.folders[-1][1]
        _check_makers(spot, _us() | {owner.st_uid})
        for folder, status in spot.folders:
            _check_folder_owner(folder, status, owner.st_uid)
    return _identity(owner)


def give_socket(path: Path, maker: Identity | None, identity: Identity) -> None:
    """Have the socket that root made at *path*, as *maker*, belong to *identity*, and to the group of a setgid folder.

    Raises OSError, also where something else has its name by now.
    """
    with _found(path, follow=False) as spot:
        descriptor = os.open(spot.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=spot.folder)
        try:
            status = os.fstat(descriptor)
            made_by = os.geteuid() if maker is None else maker.uid
            if not stat.S_ISSOCK(status.st_mode) or status.st_uid != made_by or status.st_nlink != 1:
                raise UntrustedError(path, "it is no longer the socket that was made there; see who else writes there")
            is_setgid = spot.folders[-1][1].st_mode & stat.S_ISGID
            os.chown(f"/proc/self/fd/{descriptor}", identity.uid, -1 if is_setgid else identity.gid)
        finally:
            os.close(descriptor)


def socket_at(path: Path) -> tuple[int, int] | None:
    """Which socket has the name *path*: device and inode; None where none has. Raises OSError."""
    with _found(path, follow=False) as spot:
        status = spot.status()
    return (status.st_dev, status.st_ino) if status is not None and stat.S_ISSOCK(status.st_mode) else None


def remove_socket(path: Path, made: tuple[int, int] | None) -> None:
    """Remove the name *path* where it is still that of the socket *made*, in the folder that was looked at.

    Raises OSError.
    """
    with _found(path, follow=False) as spot:
        status = spot.status()
        if status is not None and (status.st_dev, status.st_ino) == made:
            os.unlink(spot.name, dir_fd=spot.folder)


# --- What a person names ---


def open_to_read(path: Path, check: _Look | None = None) -> BinaryIO:
    """The file, device or pipe at *path*, to read. Raises OSError.

    A pipe that somebody else made is refused (UntrustedError): one could wait for it for ever.
    """
    with _found(path) as spot:
        _check_makers(spot, _us())
        if spot.is_descriptor:  # handed to this process by who started it: <(...), /dev/stdin
            return open(os.dup(int(spot.name)), "rb")
        descriptor = os.open(spot.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=spot.folder)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            _check_pipe(path, status)
            if check is not None:
                check(spot, status)
            os.set_blocking(descriptor, True)
            if stat.S_ISFIFO(status.st_mode):
                select.select([descriptor], [], [])  # until there is a writer: without one, it reads as empty
        except BaseException:
            os.close(descriptor)
            raise
    return open(descriptor, "rb")


def has_folder(path: Path) -> bool:
    """Whether *path* is a file with a folder of its own: not a pipe or device, nor what is open already."""
    try:
        with _found(path) as spot:
            status = spot.status()
            return not spot.is_descriptor and status is not None and stat.S_ISREG(status.st_mode)
    except OSError:
        return False


def _check_pipe(path: Path, status: os.stat_result) -> None:
    if stat.S_ISFIFO(status.st_mode) and status.st_uid not in _us():
        raise UntrustedError(
            path, f"it is a pipe of {user_name(status.st_uid)}'s, who could have it wait for ever; name a file"
        )


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A stream for the block to fill: the whole file appears as *path* when that ends well, for its owner to read.

    A device or pipe that is there already is written to as it is; a file is replaced. Raises OSError.
    """
    descriptor = _open_special(path)
    if descriptor is None:
        with replacing(path) as stream:
            yield stream
    else:
        with open(descriptor, "wb") as stream:
            yield stream


def _open_special(path: Path) -> int | None:
    """The device or pipe at *path*, to write; None where there is a file, or nothing. Raises OSError."""
    with _found(path) as spot:
        _check_makers(spot, _us())
        if spot.is_descriptor:
            return os.dup(int(spot.name))  # where it stands: what is appended to, goes on so
        try:  # without opening it yet, which may wait, or do something
            looked_at = os.open(spot.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=spot.folder)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(looked_at)
            if stat.S_ISREG(status.st_mode):
                return None
            _check_pipe(path, status)
            return os.open(f"/proc/self/fd/{looked_at}", os.O_WRONLY | os.O_NOCTTY)
        finally:
            os.close(looked_at)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream for the block to fill: where that ends well, it has the name *path* then, whatever had it before.

    Only its owner can read it. Raises OSError.
    """
    with _found(path, follow=False) as spot:
        _check_makers(spot, _us())
        with _draft(spot, _PRIVATE_MODE) as (draft, descriptor), open(os.dup(descriptor), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(descriptor)
            os.rename(draft, spot.name, src_dir_fd=spot.folder, dst_dir_fd=spot.folder)


@contextmanager
def drafting(path: Path) -> Iterator[Path]:
    """An empty file for the block to fill by its name; where that ends well, it is durable and has the name *path*.

    Raises OSError where it can't; FileExistsError also where there is something by that name at the end.
    """
    with _found(path, follow=False) as spot, _draft(spot, _SHARED_MODE) as (draft, descriptor):
        yield Path(spot.folder_path, draft)
        os.fsync(descriptor)
        os.link(f"/proc/self/fd/{descriptor}", spot.name, dst_dir_fd=spot.folder)
        _sync(spot.folder)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """An empty file beside *path*, gone after the block unless that gives it another name. Raises OSError."""
    with _found(path, follow=False) as spot, _draft(spot, _SHARED_MODE) as (draft, _):
        yield Path(spot.folder_path, draft)


def sync(path: Path) -> None:
    """Have the disk know what is in the file, or which names are in the folder, at *path*. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def owner_for_new(path: Path) -> Identity | None:
    """As whom root makes a file at *path* for SQLite to fill, which opens it by its name: as the folder's owner.

    Raises StoreCreateError where others could swap it meanwhile.
    """
    try:
        with _found(path, follow=False) as spot:
            owner = spot.folders[-1][1]
            _check_makers(spot, _us() | {owner.st_uid})
            if os.geteuid() != 0:
                return None
            _check_folders(spot, is_sticky_enough=True)
            _check_owners(spot, owner.st_uid)
    except UntrustedError as error:
        raise StoreCreateError(f"{path}: {error.strerror}; or choose another folder") from error
    return _identity(owner)


@contextmanager
def _draft(spot: _Spot, mode: int) -> Iterator[tuple[str, int]]:
    """A new file with a random name in the folder of *spot*, open to write, and locked as long as it is a draft."""
    _clear_drafts(spot.folder)
    draft, descriptor = _begin_draft(spot)
    try:
        os.fchmod(descriptor, mode)
        yield draft, descriptor
    finally:
        os.close(descriptor)
        _remove_draft(spot.folder, draft)


def _begin_draft(spot: _Spot) -> tuple[str, int]:
    """A new draft, and the descriptor that holds its lock: as long as that is open, the draft is somebody's."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK
    beginning = os.fsdecode(os.fsencode(spot.name)[:_NAME_BYTES])  # all of it may be as long as a name may be
    for _ in range(_DRAFTS_LIMIT):
        draft = f".{beginning}.{secrets.token_hex(8)}{_DRAFT}"
        descriptor = os.open(draft, flags, _PRIVATE_MODE, dir_fd=spot.folder)
        with suppress(BlockingIOError):  # somebody takes it for a killed command's, and removes it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return draft, descriptor
        os.close(descriptor)
    raise UntrustedError(spot.path, f"each new file in {spot.folder_path} is removed at once; see who does that")


def _clear_drafts(folder: int) -> None:
    """Remove the drafts that killed commands of ours left in *folder*. What others put there is not even opened."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        names = [name for name in os.listdir(readable) if name.startswith(".") and name.endswith(_DRAFT)]
    finally:
        os.close(readable)
    for name in names:
        with suppress(OSError):
            if _is_our_draft(os.stat(name, dir_fd=folder, follow_symlinks=False)):
                _clear_draft(folder, name)


def _clear_draft(folder: int, name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        if _is_our_draft(os.fstat(descriptor)):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_draft(folder, name)
    finally:
        os.close(descriptor)


def _is_our_draft(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


def _remove_draft(folder: int, name: str) -> None:
    for suffix in ("", *BESIDE):
        with suppress(FileNotFoundError):
            os.unlink(f"{name}{suffix}", dir_fd=folder)


def _sync(folder: int) -> None:
    """Have the disk know the new name."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
