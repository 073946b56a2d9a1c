"""What the daemon needs of the host: its user, its folders, and under systemd its units."""

import grp
import importlib.resources
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import join, quote

from policyd.admin.asking import ask_daemon
from policyd.doctor.postconf import Instance
from policyd.errors import DaemonError, SetupError
from policyd.model import Request
from policyd.settings import DEFAULT_FILE, Settings
from policyd.store.connection import Database

_RUNS_SYSTEMD = Path("/run/systemd/system")
_UNITS = ("policyd.socket", "policyd.service")
_UNIT_FOLDER = Path("/etc/systemd/system")
_SECONDS = 90


def contributed(name: str) -> str:
    """The text of the file *name* of contrib/, which is in the package, or beside it in a checkout."""
    package = importlib.resources.files("policyd")
    for root in (package / "contrib", Path(str(package)).parent / "contrib"):
        if (file := root.joinpath(*name.split("/"))).is_file():
            return file.read_text(encoding="utf-8")
    raise SetupError(f"contrib/{name} is not there: policyd is not installed whole")


def prepare(settings: Settings, instance: Instance) -> Iterator[str]:
    """Make the user and the folders that are missing; each line says what was done. Raises SetupError and OSError."""
    user = settings.user or "root"
    try:
        pwd.getpwnam(user)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/var/lib/policyd"]
        command += ["--shell", "/usr/sbin/nologin", user]
        _run(*command)
        yield join(command)
    for folder, group, mode in _folders(settings, instance):
        if not folder.exists():
            words = ["install", "-d", "-o", user, *(["-g", group] if group else []), "-m", f"{mode:o}", str(folder)]
            _make(folder, user, group, mode)
            yield join(words)


def _folders(settings: Settings, instance: Instance) -> Iterator[tuple[Path, str, int]]:
    """The folders that must be there, each with its group, "" for that of the user, and its mode."""
    database = Database.of(settings)
    if not database.is_on_server:
        yield Path(database.path).parent, "", 0o750
    for endpoint in settings.listen:
        if endpoint.path:
            group = pwd.getpwnam(instance.values["mail_owner"]).pw_gid
            yield Path(endpoint.path).parent, grp.getgrgid(group).gr_name, 0o2750


def _make(folder: Path, user: str, group: str, mode: int) -> None:
    """Make *folder*, which is nobody else's before it has its owner and mode."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    shutil.chown(folder, user, group or pwd.getpwnam(user).pw_gid)
    folder.chmod(mode)


def has_systemd() -> bool:
    """Whether systemd runs this host."""
    return _RUNS_SYSTEMD.is_dir()


def start_daemon(instance: Instance, *, is_changed: bool) -> Iterator[str]:
    """Under systemd, have the daemon run with the settings as they are. Raises SetupError and OSError."""
    if _is_unit_known():
        if is_changed:
            yield _systemctl("restart", "policyd.service")
    else:
        for name in _UNITS:
            text = contributed(f"systemd/{name}").replace("/var/spool/postfix", str(instance.queue))
            text = re.sub(r"^ExecStart=\S+", lambda _: f"ExecStart={program()}", text, flags=re.MULTILINE)
            (_UNIT_FOLDER / name).write_text(text, encoding="utf-8")
            yield f"install -m 644 contrib/systemd/{name} {_UNIT_FOLDER}/"
        yield _systemctl("daemon-reload")
    yield _systemctl("enable", "--now", *_UNITS)


def reload_daemon() -> str:
    """Have the daemon under systemd read its settings again; the command. Raises SetupError."""
    return _systemctl("reload", "policyd.service")


def _is_unit_known() -> bool:
    return subprocess.run(["systemctl", "cat", "policyd.service"], capture_output=True).returncode == 0


def _systemctl(*words: str) -> str:
    _run("systemctl", *words)
    return join(["systemctl", *words])


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


def _run(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{words[0]}: {error}") from error
    if done.returncode != 0:
        raise SetupError(f"{join(words)}: {' '.join(done.stderr.split()) or 'failed, and says nothing'}")
