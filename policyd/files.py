"""Opens, writes and creates files so that no other user can plant or swap one under a name that policyd uses.

This is one long file because all of it stands on `_found`, the one walk along a path; whoever asks "can somebody else
change what we read or write here?" has one place to look. There are two rules, by whose the file is:

- **The database** is worked on as the owner of its folder (`owner_of`, `acting`): SQLite opens and removes files by
  their names, and whoever owns the folder can put anything under these. As that user it opens nothing for him that he
  couldn't open himself. So is a socket, which is made and removed by its name, too.
- **What a person names** (a file to import, an export, a backup, the settings) is opened as that person, on
  descriptors: a folder is entered component by component, and a symbolic link counts only if root or the person made
  it. A new file has a random name and is locked; it gets the name that was asked for when it is whole.

A descriptor on a database is never closed here while there may be a connection to it: that would let go of SQLite's
locks (POSIX locks belong to the process). So a database is only looked at with `lstat`.
"""

import errno
import fcntl
import grp
import os
import pwd
import re
import select
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ParamSpec, Protocol, TypeVar

from policyd.errors import SettingsError, StoreCreateError, StoreError, reason_of
from policyd.pipe_watch import watching

BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database
_DRAFT = ".policyd-draft"
_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_SHARED_MODE = 0o640  # of a database and a backup
_PRIVATE_MODE = 0o600  # of what a command writes for the person who typed it
_DRAFTS_LIMIT = 100  # tries to begin one: another command may remove it now and then, an attacker would for ever
_NAME_BYTES = 100  # of the name of a file, in the name of its draft
_LINKS_LIMIT = 40  # as in Linux
_DESCRIPTORS = re.compile(r"/proc/(\d+)(/task/\d+)?/fd")


T = TypeVar("T")
P = ParamSpec("P")


class UntrustedError(PermissionError):
    """What another user could have planted, or could swap; `strerror` says what it is, and what to do."""

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(errno.EPERM, problem, str(path))


@dataclass(frozen=True, slots=True)
class Identity:
    """A user to become, with the primary group and the supplementary groups."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Act as that user during the block, where files are concerned. The process must be root's."""
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
        """The error where the operating system doesn't let the process become that user."""
        return SettingsError(f"user: can't become {self.user}: {reason_of(error)}")


def _act_as(uid: int, gid: int, groups: Sequence[int]) -> None:
    os.seteuid(0)
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a path leads: a name in an open folder, the folders on the way, and who made the links on the way."""

    folder: int
    folder_path: str
    name: str
    folders: tuple[tuple[str, os.stat_result], ...]  # those on the way, from / to this one
    makers: tuple[tuple[str, int], ...]  # of the links that were followed
    is_descriptor: bool  # the name is a link in /proc to an open descriptor

    @property
    def path(self) -> str:
        """The path without links."""
        return os.path.join(self.folder_path, self.name)

    def status(self) -> os.stat_result | None:
        """The status of what has the name now; None where nothing has."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None


_Look = Callable[[_Spot, os.stat_result], None]


@contextmanager
def _found(path: Path, *, follow: bool = True) -> Iterator[_Spot]:
    """Where *path* leads. Each folder is entered from the one before, so that nobody can swap one meanwhile.

    Without *follow*, a link under the last name is not followed. Raises OSError.
    """
    left = [*reversed(path.absolute().parts[1:])] or ["."]
    folder_path, folders, makers, links = "/", [], [], 0
    folder = os.open("/", _ENTER)
    try:
        folders.append(("/", os.fstat(folder)))
        while True:
            name = left.pop()
            target = None

            # A link is followed by walking along what it says; what is open already has no name to walk along.
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

            # The last name is the caller's to open; every other one is a folder to enter.
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
    """The target of the link *name*, and who made it; None where it is no link."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return (os.readlink(name, dir_fd=folder), status.st_uid) if stat.S_ISLNK(status.st_mode) else None


def _check_makers(spot: _Spot, trusted: frozenset[int]) -> None:
    """Raises UntrustedError where somebody else than *trusted* made a link on the way."""
    for link, maker in spot.makers:
        if maker not in trusted:
            raise UntrustedError(
                link, f"{user_name(maker)} made the link {link}, which could lead anywhere; name what it shall lead to"
            )


def _us() -> frozenset[int]:
    """The users whose files count as our own: root, and the user who calls."""
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
    """The user as whom root works on the database at *path*: the owner of its folder.

    None where the folder is root's own, and where the caller is not root and can't become another user.
    Raises StoreError where others could swap what is in the folder, and FileNotFoundError where there is none. All is
    looked at anew each time: what `check_permissions` saw may have been swapped since.
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
    """The owner of *folder*, in that user's own groups: the folder's group may be none of them."""
    if folder.st_uid == os.geteuid():
        return None
    try:
        account = pwd.getpwuid(folder.st_uid)
    except KeyError:  # then nobody says in which groups he is
        return Identity(str(folder.st_uid), folder.st_uid, folder.st_uid, ())
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    return Identity(account.pw_name, account.pw_uid, account.pw_gid, tuple(groups))


class Aside(Protocol):
    """What `acting` gives its block, for the functions that a person or his files could hold up."""

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """*function*, to be called in the block as whoever came into it, and for as long as it takes."""


@contextmanager
def acting(identity: Identity | None) -> Iterator[Aside]:
    """Act as *identity* during the block, where files are concerned. Raises StoreError where that can't be.

    The block should be short: a module that is imported in it must be readable for that user, too. Nothing in it may
    wait for a person: what shows him something, or reads what he named, is called through what the block is given.
    """
    with ExitStack() as stack:

        def enter() -> None:
            if identity is not None:
                stack.enter_context(_acting_as(identity))

        def aside(function: Callable[P, T]) -> Callable[P, T]:
            def call(*arguments: P.args, **options: P.kwargs) -> T:
                stack.close()
                try:
                    return function(*arguments, **options)
                finally:
                    enter()

            return call

        enter()
        yield aside


@contextmanager
def _acting_as(identity: Identity) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(identity.acting())
        except SettingsError as error:
            problem = str(error).removeprefix("user: ")
            raise StoreError(f"{problem}; run the command as {identity.user}, who owns the folder") from error
        stack.enter_context(watching(Path(f"a file in {identity.user}'s folder")))
        yield


@contextmanager
def entered(manager: AbstractContextManager[T], identity: Identity | None) -> Iterator[T]:
    """Enter and leave *manager* as *identity*; the block itself runs as before.

    In WAL mode, SQLite opens and removes files by name only at the start and at the end of a transaction.
    """
    with acting(identity):
        value = manager.__enter__()
    try:
        yield value
    except BaseException as error:
        with acting(identity):
            is_suppressed = manager.__exit__(type(error), error, error.__traceback__)
        if not is_suppressed:
            raise
    else:
        with acting(identity):
            manager.__exit__(None, None, None)


# --- Who else could write a file ---


def read_settings(path: Path) -> str:
    """The text of the settings file at *path*. Raises OSError and UnicodeDecodeError.

    Raises UntrustedError where it belongs to neither root nor the caller, or others can write or replace it. A pipe is
    read, too.
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


def read_secret(path: Path, limit: int) -> bytes:
    """What is in the file with a secret at *path*, *limit* bytes at most. Raises OSError.

    Raises UntrustedError where it belongs to neither root nor the caller, or others can read, write or replace it; its
    group may read it.
    """
    with open_to_read(path, _check_secret) as file:
        return file.read(limit)


def _check_secret(spot: _Spot, status: os.stat_result) -> None:
    path = spot.path
    if status.st_uid not in _us():
        raise UntrustedError(
            path, f"it belongs to {user_name(status.st_uid)}, who can put another secret there; type: chown root {path}"
        )
    if status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise UntrustedError(
            path, f"everybody can read or write it (mode {mode:04o}); make another secret, and type: chmod o-rw {path}"
        )
    _check_folders(spot, is_sticky_enough=True)


def check_permissions(path: Path) -> None:
    """Raises StoreError if others could write the database at *path*, what SQLite keeps beside it, or its folders.

    For root, also if others than root and the owner of the folder could swap one of the folders. Whoever opens the
    file reports what is missing or can't be read.
    """
    with _refusing(path), _found(path) as spot:
        # Nobody else leads us to another folder, or can swap one on the way.
        _check_way(spot, spot.folders[-1][1].st_uid)

        # Nobody else can write the files themselves.
        for each, status in _files_of(spot):
            if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IWOTH:
                raise UntrustedError(each, _everybody_writes(each, status))
    refuse_planted(path)


def refuse_planted(path: Path) -> None:
    """Raises StoreError if the database at *path*, or what is beside it, is no file, or made by somebody else."""
    with _refusing(path), _found(path) as spot:
        owner = spot.folders[-1][1].st_uid
        # SQLite takes the files beside a database for a part of it, even those of a user who can't write the database.
        owners = {owner} if os.geteuid() == 0 else {owner, os.geteuid()}
        for each, status in _files_of(spot):
            if not stat.S_ISREG(status.st_mode):
                remove = "rm -r" if stat.S_ISDIR(status.st_mode) else "rm"
                advice = "name another one" if each == spot.path else f"see who made it, and type: {remove} {each}"
                raise UntrustedError(each, f"it is {_kind(status)}, and no file; {advice}")
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
    """Raises UntrustedError where the folder's owner, as whom root works on the database, could not open it."""
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
    """The database at *spot* and SQLite's files beside it, those that are there, with their status."""
    for suffix in ("", *BESIDE):
        with suppress(FileNotFoundError):
            status = os.stat(f"{spot.name}{suffix}", dir_fd=spot.folder, follow_symlinks=False)
            yield f"{spot.path}{suffix}", status


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn UntrustedError into a StoreError about *path*, or the file beside it."""
    try:
        yield
    except UntrustedError as error:
        suffix = next((suffix for suffix in BESIDE if str(error.filename).endswith(suffix)), "")
        raise StoreError(f"{path}{suffix}: {error.strerror}") from error
    except OSError:
        pass  # whoever opens it reports that


def _kind(status: os.stat_result) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(status.st_mode), "a device")


def _everybody_writes(path: str, status: os.stat_result) -> str:
    return f"everybody can write it (mode {stat.S_IMODE(status.st_mode):04o}); see who has, and type: chmod o-w {path}"


def _check_folders(spot: _Spot, *, is_sticky_enough: bool) -> None:
    """Raises UntrustedError where everybody can replace the file, or a folder on the way to it.

    In a sticky folder, as /tmp, only the owner of a file or of the folder can replace the file, but everybody can put
    new files beside it. A database must not be in such a folder (*is_sticky_enough* is false), since SQLite takes
    what it finds beside it (-wal) for a part of it; above its folder, that does no harm.
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
    """Raises UntrustedError where others than root and the folder's *owner* could lead root to another folder.

    In a folder of its own, root works as root; so no group may be able to write in a folder on the way there.
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


def why_replaceable(path: Path) -> str:
    """Why everybody can replace the file at *path*, and what to do about it; "" where only its owner can."""
    try:
        with _found(path) as spot:
            _check_folders(spot, is_sticky_enough=True)
    except UntrustedError as error:
        return str(error.strerror)
    except OSError:
        pass  # whoever opens it reports that
    return ""


# --- Sockets, which are made and removed by their names ---


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
    """Give the socket that root made at *path*, as *maker*, to *identity*; its group stays that of a setgid folder.

    Raises OSError, also where something else has its name meanwhile.
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


# --- What a person names, to read ---


def open_to_read(path: Path, look: _Look | None = None) -> BinaryIO:
    """The file, device or pipe at *path*, to read. Raises OSError.

    Raises UntrustedError for a pipe that somebody else made: its maker could make us wait for ever. *look* may refuse
    what is there before it is read.
    """
    with _found(path) as spot:
        # Open it without waiting, then look at what was opened, which nobody can swap any more.
        _check_makers(spot, _us())
        if spot.is_descriptor:  # handed to this process by who started it: <(...), /dev/stdin
            return open(os.dup(int(spot.name)), "rb")
        descriptor = os.open(spot.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=spot.folder)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            _check_pipe(path, status)
            if look is not None:
                look(spot, status)

            # From here on reading may wait.
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
    """Raises UntrustedError for a pipe that neither root nor the caller made."""
    if stat.S_ISFIFO(status.st_mode) and status.st_uid not in _us():
        raise UntrustedError(
            path, f"it is a pipe of {user_name(status.st_uid)}'s, who could have it wait for ever; name a file"
        )


# --- Files that appear whole or not at all ---


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A stream for the block to fill; if the block ends well, the whole file appears as *path*, readable by its owner.

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
def replacing(path: Path, *, is_shared: bool = False) -> Iterator[BinaryIO]:
    """A stream for the block to fill; if the block ends well, the file takes the place of what was at *path*.

    Only its owner can read it; where it *is_shared*, its group, too. Raises OSError.
    """
    with _found(path, follow=False) as spot:
        _check_makers(spot, _us())
        mode = _SHARED_MODE if is_shared else _PRIVATE_MODE
        with _draft(spot, mode) as (draft, descriptor), open(os.dup(descriptor), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(descriptor)
            os.rename(draft, spot.name, src_dir_fd=spot.folder, dst_dir_fd=spot.folder)


@contextmanager
def drafting(path: Path) -> Iterator[Path]:
    """An empty file for the block to fill by its name; if the block ends well, it is on disk and called *path*.

    Raises OSError, and FileExistsError where something has that name at the end.
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
    """Write the content of the file at *path*, or the names in the folder, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def owner_for_new(path: Path) -> Identity | None:
    """The user as whom root makes a file at *path* for SQLite, which opens it by its name: the folder's owner.

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
    # First remove what killed commands have left.
    _clear_drafts(spot.folder)
    draft, descriptor = _begin_draft(spot)
    try:
        os.fchmod(descriptor, mode)
        yield draft, descriptor
    finally:
        os.close(descriptor)
        _remove_draft(spot.folder, draft)


def _begin_draft(spot: _Spot) -> tuple[str, int]:
    """A new draft, and the descriptor that holds its lock: nobody removes the draft as long as that is open."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK
    beginning = os.fsdecode(os.fsencode(spot.name)[:_NAME_BYTES])  # all of it may be as long as a name may be
    for _ in range(_DRAFTS_LIMIT):
        draft = f".{beginning}.{os.urandom(8).hex()}{_DRAFT}"
        descriptor = os.open(draft, flags, _PRIVATE_MODE, dir_fd=spot.folder)

        # Between the two calls, another command may have taken it for a killed command's, and locked or removed it.
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return draft, descriptor
        os.close(descriptor)
    raise UntrustedError(spot.path, f"each new file in {spot.folder_path} is removed at once; see who does that")


def _clear_drafts(folder: int) -> None:
    """Remove the drafts that killed commands of this user left in *folder*. Other users' files are not even opened."""
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
    """Remove the draft *name*, unless a command that runs holds its lock (BlockingIOError)."""
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
    """Write the names in *folder* to the disk."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
