"""Changes Postfix's two files: on a copy of the folder first, which Postfix itself must find right; then both at once.

The copy stands beside the folder, so that links in it lead where they did. What runs is not touched until the copy is
right, and gets its old files back where a port does not answer as before.
"""

import os
import shlex
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from policyd.doctor.examination import Examination
from policyd.doctor.postconf import Service, find_program, run_postconf
from policyd.doctor.running import find_running, session_with, why_mute
from policyd.errors import PolicydError, PostfixError, SetupError, reason_of
from policyd.setup.plan import Plan, still_wrong
from policyd.setup.record import FILES, Record, digest

_SECONDS = 60
_TRIES = 3
_OWN = "*.policyd-copy", "setup-*"
_PUT_OFF = "4.3."  # enhanced status codes of a policy service that is away, and of a list that Postfix can't follow


def change_postfix(plan: Plan, record: Record) -> Iterator[str]:
    """Do the plan's commands for Postfix; each line says what was done.

    Raises SetupError and PostfixError; then the files are as they were.
    """
    folder = plan.instance.folder
    before = {name: digest(folder / name) for name in FILES}
    copy = copy_of(folder)
    try:
        changed = _edited(plan, copy)
        if before != {name: digest(folder / name) for name in FILES}:
            raise SetupError(f"{folder}: somebody else is changing it; nothing was changed, type it again")
        mute = {service.name for service in _ports(plan.examined) if why_mute(service)}
        yield from _put_in(plan, record, changed, mute)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def copy_of(folder: Path) -> Path:
    """Where the copy of *folder* is, while there is one."""
    return folder.with_name(f"{folder.name}.policyd-copy")


def reload_postfix(examined: Examination) -> bool:
    """Have a Postfix that runs read its files again; whether one runs. Raises SetupError."""
    if find_running(examined) is None:
        return False
    _run("postfix", *_where(examined), "reload")
    return True


def _where(examined: Examination) -> list[str]:
    return [] if examined.is_default else ["-c", str(examined.instance.folder)]


def _edited(plan: Plan, copy: Path) -> dict[str, bytes]:
    """The new contents of the files that change, made on a *copy* of the folder. Raises SetupError and PostfixError."""
    folder = plan.instance.folder
    try:
        _copy(folder, copy)
    except (OSError, shutil.Error) as error:
        raise SetupError(f"{folder}: can't be copied to {copy}: {error}") from error
    for line in plan.commands:
        words = shlex.split(line)[1:]
        run_postconf(copy, *(words[2:] if words[0] == "-c" else words))

    # Postfix and doctor must both have nothing to say.
    _run("postfix", "-c", str(copy), "check")
    if wrong := still_wrong(copy, plan):
        told = "; ".join(f"{each.code}: {each.sentence}" for each in wrong)
        raise SetupError(f"with these lines there would still be wrong: {told} Nothing was changed in Postfix")
    contents = {name: (copy / name).read_bytes() for name in FILES}
    return {name: content for name, content in contents.items() if content != (folder / name).read_bytes()}


def _copy(folder: Path, copy: Path) -> None:
    """Make *copy* a copy of *folder* that nobody else may look into: there may be passwords in it. Raises OSError."""
    shutil.rmtree(copy, ignore_errors=True)
    mask = os.umask(0o077)
    try:
        shutil.copytree(folder, copy, symlinks=True, ignore=_left_out)
        copy.chmod(0o700)
        for name in FILES:  # a link may lead back to the folder, and is never written through
            content = (folder / name).read_bytes()
            (copy / name).unlink()
            (copy / name).write_bytes(content)
    finally:
        os.umask(mask)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What is no file, folder or link, as a socket, which can't be copied; and what setups have left."""
    odd = set(shutil.ignore_patterns(*_OWN)(folder, names))
    paths = ((name, Path(folder, name)) for name in names)
    return odd | {name for name, path in paths if not (path.is_symlink() or path.is_file() or path.is_dir())}


def _put_in(plan: Plan, record: Record, changed: dict[str, bytes], mute: set[str]) -> Iterator[str]:
    """Swap the *changed* files in, reload and try each port; on a failure put the old ones back.

    Ports that were *mute* before may stay so.
    """
    folder = plan.instance.folder
    paths = [folder / name for name in changed]
    try:
        for path, content in zip(paths, changed.values(), strict=True):
            record.replace(path, content)
        is_running = reload_postfix(plan.examined)
        if problem := _trouble(plan, mute) if is_running else "":
            raise SetupError(problem)
    except BaseException as error:
        record.restore(paths)
        with suppress(SetupError, PostfixError):  # that it fails is perhaps why we are here
            reload_postfix(plan.examined)
        if not isinstance(error, OSError | PolicydError):
            raise
        told = f"{error.filename}: {reason_of(error)}" if isinstance(error, OSError) else str(error)
        raise SetupError(f"{told}; Postfix has its old files again") from error
    yield from plan.commands
    later = f"# Postfix does not run; it takes the lines when it starts, or at: {plan.reload}"
    yield plan.reload if is_running else later


def _trouble(plan: Plan, mute: set[str]) -> str:
    """What is wrong at a port, "" where each answers and puts nothing off for want of policyd."""
    recipient = f"postmaster@{plan.settings.origin}"
    for service in _ports(plan.examined):
        if service.name in mute:
            continue
        why = "not tried"
        for _ in range(_TRIES):  # right after a reload, or on a busy host, an answer takes its time
            why = why and (why_mute(service) or _put_off(service, recipient))
        if why:
            return f"{service.name} does not take mail any more: {why}"
    return ""


def _ports(examined: Examination) -> list[Service]:
    """The services of a Postfix that runs which can be tried."""
    if find_running(examined) is None:
        return []
    return [service for service in examined.instance.smtpd if service.type == "inet" and not service.stray]


def _put_off(service: Service, recipient: str) -> str:
    """Why mail to *recipient* is put off, where it is since a service of Postfix's is away."""
    try:
        with session_with(service) as session:
            session.mail("")
            code, said = session.rcpt(recipient)
            session.rset()
    except (smtplib.SMTPException, OSError) as error:
        return " ".join(str(error).split())
    text = said.decode("utf-8", "replace")
    return f"{code} {text}" if code == 451 and text.startswith(_PUT_OFF) else ""


def _run(program: str, *words: str) -> None:
    """Run a program of Postfix's. Raises SetupError."""
    path = find_program(program)
    if path is None:
        raise PostfixError(f"there is no {program} on this host")
    try:
        done = subprocess.run([path, *words], capture_output=True, text=True, errors="replace", timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{program} {' '.join(words)}: {error}") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise SetupError(f"{program} {' '.join(words)}: {said[-1] if said else 'failed, and says nothing'}")
