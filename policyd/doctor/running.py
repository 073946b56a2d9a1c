"""The Postfix that runs: whether it has read its files, and whether each smtpd answers."""

import os
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from policyd.doctor.diagnosis import Diagnosis
from policyd.doctor.examination import Examination
from policyd.doctor.postconf import Service
from policyd.doctor.starting import why_dead

_SECONDS = 5
_QUEUE_MANAGER, _MASTER = "qmgr", "master"
_START_FIELD, _PARENT_FIELD = 19, 1  # of /proc/PID/stat, behind the name; source: proc(5)
_SLACK = 1  # seconds: a start is known to a hundredth, and the boot to a second


@dataclass(frozen=True, slots=True)
class Running:
    """A queue manager, which each reload starts anew: when it started, in Unix seconds."""

    started: float


def find_running(examined: Examination) -> Running | None:
    """The running Postfix of an instance; None where there is none, or nobody may know."""
    found = [*_queue_managers()]
    for pid, started in found:
        try:
            if Path(os.readlink(f"/proc/{pid}/cwd")) == examined.instance.queue.resolve():
                return Running(started)
        except OSError:  # another user's: then the only one there is must be it
            if len(found) == 1 and examined.is_default and not examined.instance.others:
                return Running(started)
    return None


def _queue_managers() -> Iterator[tuple[int, float]]:
    """The processes of that name that a master has started, and when they did."""
    names: dict[int, tuple[str, list[str]]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            text = entry.read_text(encoding="utf-8", errors="replace")
            name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            names[int(entry.parent.name)] = name, rest
    for pid, (name, rest) in names.items():
        parent = names.get(int(rest[_PARENT_FIELD]))
        if name == _QUEUE_MANAGER and parent is not None and parent[0] == _MASTER:
            yield pid, _boot_time() + int(rest[_START_FIELD]) / os.sysconf("SC_CLK_TCK")


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def diagnose_running(examined: Examination) -> Iterator[Diagnosis]:
    """What is wrong with the Postfix that runs; where none does, that is noted."""
    running = find_running(examined)
    if running is None:
        examined.unseen.append(f"{examined.about('whether each port answers')}: no Postfix runs with these files")
        return
    changed = max((_changed(examined.instance.folder / name) for name in ("main.cf", "master.cf")), default=0.0)
    if changed > running.started + _SLACK:
        where = "" if examined.is_default else f" -c {examined.instance.folder}"
        told = "main.cf or master.cf is newer than the Postfix that runs."
        yield Diagnosis("not-reloaded", examined.about("postfix"), told, (f"postfix{where} reload",))
    for service in examined.instance.smtpd:
        if service.type != "inet" or service.stray or examined.instance.undefined or why_dead(service):
            continue  # what is told of these is why they are dead
        if problem := why_mute(service):
            told = f"{service.name} does not answer: {problem}. The mail log says why, in a line with fatal."
            yield Diagnosis("smtpd-dead", examined.about(service.name), told, ("grep fatal: /var/log/mail.log",))


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def why_mute(service: Service) -> str:
    """Why nobody answers at a smtpd; "" where it greets, says EHLO and ends as SMTP has it."""
    try:
        with session_with(service) as session:
            session.quit()
    except (smtplib.SMTPException, OSError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def session_with(service: Service) -> smtplib.SMTP:
    """A session with a smtpd, past EHLO and STARTTLS where it has that. Raises SMTPException and OSError."""
    host, port = place_of(service)
    context = _without_names()
    session: smtplib.SMTP
    if service.values.get("smtpd_tls_wrappermode") == "yes":
        session = smtplib.SMTP_SSL(host, port, "localhost", timeout=_SECONDS, context=context)
    else:
        session = smtplib.SMTP(host, port, "localhost", timeout=_SECONDS)
    try:
        session.ehlo()
        if service.values.get("smtpd_tls_security_level") == "encrypt" and session.has_extn("starttls"):
            session.starttls(context=context)
            session.ehlo()
    except BaseException:
        session.close()
        raise
    return session


def place_of(service: Service) -> tuple[str, int]:
    """The host and port at which this machine reaches a smtpd. Raises OSError for a port that nobody knows."""
    host, _, port = service.endpoint.rpartition(":")
    if not host:
        interfaces = service.values.get("inet_interfaces", "all").replace(",", " ").split()
        host = next((each for each in interfaces if each not in ("all", "loopback-only")), "127.0.0.1")
    return host.strip("[]"), int(port) if port.isdecimal() else socket.getservbyname(port, "tcp")


def _without_names() -> ssl.SSLContext:
    """TLS with whoever answers: nothing is told there that is secret."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
