"""The daemon under systemd: its units are installed and started, and taken away again."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import join

import policyd
from policyd.doctor.postconf import Instance
from policyd.errors import SetupError
from policyd.setup.host import contributed, program, run
from policyd.setup.record import Record

_RUNS_SYSTEMD = Path("/run/systemd/system")
_UNITS = ("policyd.socket", "policyd.service")
_FURTHER = ("policyd-http.socket", "policyd-doctor.timer")  # which people add, and which need the service
_ENABLE = ("enable", "--now", *_UNITS)
_FOLDER = Path("/etc/systemd/system")
_HIDDEN = ("/home", "/root", "/run/user")  # source: systemd.exec(5), ProtectHome=, which the service has
UNIT_FILES = tuple(_FOLDER / name for name in _UNITS)


def has_systemd() -> bool:
    """Whether systemd runs this host."""
    return _RUNS_SYSTEMD.is_dir()


def why_hidden() -> str:
    """Why the service that would be installed could not start policyd, "" where it can."""
    if _is_known():
        return ""
    for path in (program(), os.path.realpath(sys.executable), os.path.realpath(policyd.__file__)):
        if hidden := next((each for each in _HIDDEN if Path(path).is_relative_to(each)), ""):
            return (
                f"{path} is below {hidden}, where a service sees nothing; install policyd in /opt, as the guide has it"
            )
    return ""


def missing(*, is_changed: bool) -> Iterator[str]:
    """What `start_daemon` would do, as the commands that it tells."""
    if not _is_known():
        yield from map(_install, UNIT_FILES)
        yield "systemctl daemon-reload"
    elif is_changed:
        yield "systemctl restart policyd.service"
    yield join(["systemctl", *_ENABLE])


def start_daemon(record: Record, instance: Instance, *, is_changed: bool) -> Iterator[str]:
    """Have the daemon run with the settings as they are, which *is_changed* says of. Raises SetupError and OSError."""
    if _is_known():
        if is_changed:
            yield _systemctl("restart", "policyd.service")
    else:
        for file in UNIT_FILES:
            text = contributed(f"systemd/{file.name}").replace("/var/spool/postfix", str(instance.queue))
            text = re.sub(r"^ExecStart=\S+", lambda _: f"ExecStart={program()}", text, flags=re.MULTILINE)
            record.replace(file, text.encode())
            yield _install(file)
        yield _systemctl("daemon-reload")
    yield _systemctl(*_ENABLE)


def _install(unit: Path) -> str:
    """How a person would install *unit*."""
    return f"install -m 644 contrib/systemd/{unit.name} {_FOLDER}/"


def reload_daemon() -> str:
    """Have the daemon read its settings again; the command. Raises SetupError."""
    return _systemctl("reload", "policyd.service")


def take_away(record: Record) -> Iterator[str]:
    """Stop the daemon whose units *record* has, and remove these; what somebody has added is named.

    Raises SetupError and OSError.
    """
    if _is_known():
        yield _systemctl("disable", "--now", *_UNITS)
    yield from (f"rm {file}" for file in record.restore(UNIT_FILES))
    yield _systemctl("daemon-reload")
    for name in _FURTHER:
        if (_FOLDER / name).exists():
            yield f"# {name} stays; to take it away: systemctl disable --now {name}"


def _is_known() -> bool:
    try:
        run("systemctl", "cat", "policyd.service")
    except SetupError:
        return False
    return True


def _systemctl(*words: str) -> str:
    run("systemctl", *words)
    return join(["systemctl", *words])
