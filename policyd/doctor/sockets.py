"""Tries the way from Postfix to the daemon: each socket as Postfix's user, and what answers there."""

import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from policyd.doctor.diagnosis import Diagnosis
from policyd.doctor.endpoints import host_and_port, is_spawned, path_of, relative_endpoint, wanted_endpoint
from policyd.doctor.examination import Examination
from policyd.doctor.placement import meant_for_us
from policyd.doctor.postconf import Service
from policyd.doctor.repair import plan
from policyd.doctor.restrictions import questions

_SECONDS = 5


def find_dead(examined: Examination) -> None:
    """Note the endpoints of policy services at which nobody answers."""
    for service in examined.instance.smtpd:
        for question in questions(service, examined.instance.unused):
            endpoint = question.asked.endpoint
            inet, path = host_and_port(endpoint), path_of(endpoint, examined.instance)
            if (inet is not None and not _takes_connections(*inet)) or (
                path is not None and examined.instance.queue.is_dir() and not _may_be_there(path)
            ):
                examined.dead.add(endpoint)


def diagnose_sockets(examined: Examination) -> Iterator[Diagnosis]:
    """What is in the way from each smtpd service to the daemon: each endpoint once."""
    told: set[tuple[str, bool]] = set()
    for service in examined.instance.smtpd:
        for question in [*examined.asks(service), *meant_for_us(examined, service)]:
            endpoint = question.asked.endpoint
            if (endpoint, service.is_chrooted) in told or is_spawned(endpoint, examined.instance):
                continue
            told.add((endpoint, service.is_chrooted))
            found = _endpoint(examined, service, endpoint)
            if found is not None:
                yield found


def _endpoint(examined: Examination, service: Service, endpoint: str) -> Diagnosis | None:
    path, inet = path_of(endpoint, examined.instance), host_and_port(endpoint)
    if inet is not None:
        return _port(examined, service, endpoint)
    if path is None:
        examined.unseen.append(f"{endpoint}: it is neither a unix socket nor a port with a number")
        return None
    queue = examined.instance.queue
    if service.is_chrooted and endpoint.partition(":")[2].startswith("/") and not _is_in_chroot(path, queue):
        return _outside_chroot(examined, service, endpoint)
    if not queue.is_dir():
        examined.unseen.append(f"the socket {path}: {queue} is not on this host")
        return _denied_by_settings(examined, path)
    listening = relative_endpoint(endpoint, examined.instance, examined.listen)
    if not _may_be_there(path):
        return _missing(examined, service, endpoint, path, is_wanted=listening is not None)
    problem = _why_not_as_postfix(examined, path)
    if problem:
        return _denied(examined, path, problem)
    if listening is None:
        return _other(examined, service, endpoint)
    return None


def _is_in_chroot(path: Path, queue: Path) -> bool:
    """Whether a chrooted process finds an absolute path all the same."""
    return Path(f"{queue}{path}").exists()


def _outside_chroot(examined: Examination, service: Service, endpoint: str) -> Diagnosis:
    wanted = wanted_endpoint(examined.instance, examined.listen, is_chrooted=True)
    told = f"{service.name} is chrooted to {examined.instance.queue}, and there is no {endpoint[5:]} in it: "
    return Diagnosis(
        "socket-outside-chroot",
        examined.about(f"{service.name}: {endpoint}"),
        f"{told}write {wanted}.",
        plan(examined, service),
    )


def _missing(examined: Examination, service: Service, endpoint: str, path: Path, *, is_wanted: bool) -> Diagnosis:
    if not is_wanted:
        return _other(examined, service, endpoint)
    folder = path.parent
    user, group = examined.settings.user or "policyd", "postfix"
    commands = ["systemctl start policyd"]
    told = f"{path} is not there: policyd does not run, or listens elsewhere."
    if not folder.is_dir():
        told = f"{folder} is not there, so that policyd can't listen in it."
        commands.insert(0, f"install -d -o {quote(user)} -g {group} -m 2750 {quote(str(folder))}")
    elif path.exists():
        told = f"Nobody listens at {path}: policyd does not run."
    return Diagnosis("socket-missing", examined.about(str(path)), told, tuple(commands))


def _other(examined: Examination, service: Service, endpoint: str) -> Diagnosis:
    listen = ", ".join(each.text for each in examined.listen)
    return Diagnosis(
        "socket-other",
        examined.about(f"{service.name}: {endpoint}"),
        f"{service.name} asks {endpoint}, and policyd listens on {listen}.",
        plan(examined, service),
    )


def _port(examined: Examination, service: Service, endpoint: str) -> Diagnosis | None:
    listening = relative_endpoint(endpoint, examined.instance, examined.listen)
    if endpoint not in examined.dead:
        return _other(examined, service, endpoint) if listening is None else None
    listen = ", ".join(each.text for each in examined.listen)
    if listening is not None:
        told = f"Nobody listens on {endpoint}: policyd does not run."
        return Diagnosis("port-closed", examined.about(endpoint), told, ("systemctl start policyd",))
    told = f"{service.name} asks {endpoint}, where nobody listens; policyd listens on {listen}."
    return Diagnosis("port-closed", examined.about(endpoint), told, plan(examined, service))


def _denied(examined: Examination, path: Path, problem: str) -> Diagnosis:
    owner = examined.settings.user or "policyd"
    folder = path.parent
    listen = ", ".join(f'"unix:{each.path}:mode=660"' if each.path else f'"{each.text}"' for each in examined.listen)
    return Diagnosis(
        "socket-denied",
        examined.about(problem.partition(" is ")[0]),
        f"smtpd, which is {examined.instance.values.get('mail_owner', 'postfix')}, can't reach {path}: {problem}.",
        (f"install -d -o {quote(owner)} -g postfix -m 2750 {quote(str(folder))}",),
        (f"listen = [{listen}]",),
        advice="A socket gets its mode when policyd starts: restart it.",
    )


def _denied_by_settings(examined: Examination, path: Path) -> Diagnosis | None:
    """What can be said of a socket from its mode in the settings alone."""
    for each in examined.listen:
        if each.path == str(path) and not each.mode & 0o022:
            return _denied(examined, path, f"{path} is to have the mode {each.mode:04o}")
    return None


def _why_not_as_postfix(examined: Examination, path: Path) -> str:
    """The first part of *path* that Postfix's user may not pass, with its owner and mode; "" where it may connect."""
    try:
        user = pwd.getpwnam(examined.instance.values.get("mail_owner", "postfix"))
    except KeyError:
        examined.unseen.append(f"the way to {path}: there is no user {examined.instance.values.get('mail_owner')}")
        return ""
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    for part in (*reversed(path.resolve().parents), path.resolve()):
        try:
            found = part.stat()
        except OSError as error:
            examined.unseen.append(f"the way to {path}: {part}: {error.strerror}")
            return ""
        needed = stat.S_IWOTH if part == path.resolve() else stat.S_IXOTH
        if not _may(found, user.pw_uid, groups, needed):
            return f"{part} is {stat.S_IMODE(found.st_mode):04o} {_owner(found)}"
    return ""


def _may(found: os.stat_result, uid: int, groups: set[int], needed: int) -> bool:
    """Whether a user has the right *needed*, which is given as that of others."""
    if uid in (0, found.st_uid):
        return bool(uid == 0 or found.st_mode & needed << 6)
    return bool(found.st_mode & (needed << 3 if found.st_gid in groups else needed))


def _owner(found: os.stat_result) -> str:
    try:
        user = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        user = str(found.st_uid)
    try:
        return f"{user}:{grp.getgrgid(found.st_gid).gr_name}"
    except KeyError:
        return f"{user}:{found.st_gid}"


def _may_be_there(path: Path) -> bool:
    """Whether somebody listens at the unix socket *path*; also where we may not know."""
    try:
        with socket.socket(socket.AF_UNIX) as trial:
            trial.settimeout(_SECONDS)
            trial.connect(str(path))
    except PermissionError:
        return True
    except OSError as error:
        return "too long" in str(error)
    return True


def _takes_connections(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError:
        return False
    return True
