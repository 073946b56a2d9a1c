"""What the daemon needs of the host: its user and its folders."""

import grp
import importlib.resources
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import join, quote

from policyd.admin.asking import ask_daemon
from policyd.doctor.postconf import Instance, find_program
from policyd.errors import DaemonError, SetupError
from policyd.model import Request
from policyd.settings import DEFAULT_FILE, Settings
from policyd.store.connection import Database

_SECONDS = 90


def contributed(name: str) -> str:
    """The text of the file *name* of contrib/, which is in the package, or beside it in a checkout."""
    package = importlib.resources.files("policyd")
    for root in (package / "contrib", Path(str(package)).parent / "contrib"):
        if (file := root.joinpath(*name.split("/"))).is_file():
            return file.read_text(encoding="utf-8")
    raise SetupError(f"contrib/{name} is not there: policyd is not installed whole")


def make_settings_folder(folder: Path) -> None:
    """Make *folder* where it is missing, for the daemon to read, whatever the umask is. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(0o755)


def missing(settings: Settings, instance: Instance) -> Iterator[str]:
    """What `prepare` would do, as the commands that it tells. Raises SetupError."""
    user = settings.user or "root"
    if not _is_user(user):
        yield join(_useradd(user))
    for folder, group, mode in _missing_folders(settings, instance):
        yield _install(folder, user, group, mode)


def prepare(settings: Settings, instance: Instance) -> Iterator[str]:
    """Make the user and the folders that are missing; each line says what was done. Raises SetupError and OSError."""
    user = settings.user or "root"
    if not _is_user(user):
        run(*_useradd(user))
        yield join(_useradd(user))
    for folder, group, mode in _missing_folders(settings, instance):
        _make(folder, user, group, mode)
        yield _install(folder, user, group, mode)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _useradd(user: str) -> list[str]:
    """The command that makes *user*."""
    names = ["--system", *_group_of(user), "--no-create-home", "--home-dir", "/var/lib/policyd"]
    return ["useradd", *names, "--shell", "/usr/sbin/nologin", user]


def _install(folder: Path, user: str, group: str, mode: int) -> str:
    """How a person would make *folder*."""
    return join(["install", "-d", "-o", user, *(["-g", group] if group else []), "-m", f"{mode:o}", str(folder)])


def _group_of(user: str) -> list[str]:
    """How useradd(8) is told the group of a new *user*: one that is left from before stays."""
    try:
        grp.getgrnam(user)
    except KeyError:
        return ["--user-group"]
    return ["--gid", user]


def _missing_folders(settings: Settings, instance: Instance) -> Iterator[tuple[Path, str, int]]:
    """The folders that are not there, each with its group, "" for that of the user, and its mode. Raises SetupError."""
    return (each for each in _folders(settings, instance) if not each[0].exists())


def _folders(settings: Settings, instance: Instance) -> Iterator[tuple[Path, str, int]]:
    """The folders that must be there, as above."""
    database = Database.of(settings)
    if not database.is_on_server:
        yield Path(database.path).parent, "", 0o750
    for endpoint in settings.listen:
        if endpoint.path:
            yield Path(endpoint.path).parent, _postfix_group(instance.values["mail_owner"]), 0o2750


def _postfix_group(owner: str) -> str:
    try:
        return grp.getgrgid(pwd.getpwnam(owner).pw_gid).gr_name
    except KeyError as error:
        raise SetupError(f"mail_owner = {owner}: there is no such user, or its group has no name") from error


def _make(folder: Path, user: str, group: str, mode: int) -> None:
    """Make *folder*, which is nobody else's before it has its owner and mode.

    Who owns the folder above could swap it meanwhile: so it is changed by a descriptor, and only if it is root's.
    """
    account = pwd.getpwnam(user)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        made = os.fstat(descriptor)
        if (made.st_uid, stat.S_IMODE(made.st_mode) & 0o077) != (os.geteuid(), 0) or os.listdir(descriptor):
            raise SetupError(f"{folder}: somebody has put another folder there")
        os.fchown(descriptor, account.pw_uid, grp.getgrnam(group).gr_gid if group else account.pw_gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def is_answering(settings: Settings) -> bool:
    """Whether the daemon answers."""
    try:
        ask_daemon(settings, Request(protocol_state="RCPT", recipient="postmaster@setup.invalid"))
    except DaemonError:
        return False
    return True


def program() -> str:
    """The path of the command `policyd` that is running."""
    return os.path.realpath(shutil.which(sys.argv[0]) or "/usr/local/bin/policyd")


def start_line(settings_file: Path) -> str:
    """The command that starts the daemon where nothing else does."""
    option = "" if settings_file == DEFAULT_FILE else f"--config {quote(str(settings_file))} "
    return f"policyd {option}serve"


def run(name: str, *words: str) -> None:
    """Run a program of the system's, which the PATH of somebody who became root may not have. Raises SetupError."""
    path = find_program(name)
    if path is None:
        raise SetupError(f"there is no {name} on this host")
    try:
        done = subprocess.run([path, *words], capture_output=True, text=True, errors="replace", timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{name}: {error}") from error
    if done.returncode != 0:
        raise SetupError(f"{join([name, *words])}: {' '.join(done.stderr.split()) or 'failed, and says nothing'}")
