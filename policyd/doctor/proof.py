"""Proves it: gives one recipient at each smtpd, and looks for policyd's line about it in the log.

What reading can't find shows here: a firewall, a filter in front, a configuration that is not the one that runs.
"""

import secrets
import shutil
import smtplib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from policyd.admin.asking import ask_daemon, explain
from policyd.doctor.daemon import DOCTOR
from policyd.doctor.diagnosis import Diagnosis
from policyd.doctor.examination import Examination
from policyd.doctor.postconf import Service
from policyd.doctor.running import find_running, session_with
from policyd.errors import DaemonError
from policyd.model import OUTSIDE, PartyKind, Request, Unlisted
from policyd.report.counting import MARKER
from policyd.report.log_files import USUAL_LOGS
from policyd.settings import Settings
from policyd.store.connection import Database
from policyd.store.database import reading
from policyd.store.queries import Queries

_SECONDS = 3  # for a line to come to the log
_TRIED = 50


@dataclass(frozen=True, slots=True)
class Probe:
    """A sender and a recipient to try; `marker` is what is in them and nowhere else."""

    sender: str
    recipient: str
    marker: str
    is_refused: bool


class Log:
    """What is written to the log from now on: to *file*, or to those where mail logs are, or to the journal."""

    def __init__(self, file: Path | None) -> None:
        self._since = time.time()
        self._ends = {each: _size(each) for each in ([file] if file else map(Path, USUAL_LOGS)) if each.is_file()}
        self._journalctl = None if file else shutil.which("journalctl")

    def find(self, marker: str) -> str:
        """policyd's first line that holds *marker*; "" where none comes."""
        deadline = time.monotonic() + _SECONDS
        while True:
            for line in self._lines():
                if marker in line and "action=" in line:
                    return line
            if time.monotonic() > deadline:
                return ""
            time.sleep(0.05)

    def _lines(self) -> Iterator[str]:
        for file, end in self._ends.items():
            try:
                with file.open("rb") as lines:
                    lines.seek(end if _size(file) >= end else 0)
                    yield from lines.read().decode("utf-8", "replace").splitlines()
            except OSError:
                continue
        if self._journalctl:
            command = [self._journalctl, "-q", "-o", "cat", "-t", "policyd", "--since", f"@{int(self._since)}"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10)
            except (OSError, subprocess.TimeoutExpired):
                return
            yield from done.stdout.splitlines()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def prove(
    examined: list[Examination], database: Database, now: int, log_file: Path | None
) -> Iterator[Diagnosis | str]:
    """For each smtpd of a Postfix that runs, a sentence on what was proven or was not; or what is wrong."""
    running = [each for each in examined if find_running(each) is not None]
    if not running:
        yield "not proven: no Postfix runs with these files"
        return
    settings = running[0].settings
    log = Log(log_file)
    if not _is_log_readable(settings, log):
        yield "not proven: policyd's lines are in no log that can be read here; name it with --log"
        return
    for each in running:
        for service in each.instance.smtpd:
            if service.type == "inet" and not each.is_reinjection(service):
                yield _prove(each, service, _probe(settings, database, now), log)


def _is_log_readable(settings: Settings, log: Log) -> bool:
    """Whether what the daemon is asked about comes to the log: it is asked as itself, without Postfix."""
    marker = _marker()
    request = Request(protocol_state="RCPT", instance=DOCTOR, recipient=f"{marker}@doctor.invalid")
    try:
        ask_daemon(settings, request)
    except DaemonError:
        return False
    return bool(log.find(marker))


def _prove(examined: Examination, service: Service, probe: Probe, log: Log) -> Diagnosis | str:
    place = examined.about(service.name)
    try:
        with session_with(service) as session:
            mail = session.mail(probe.sender)
            code, said = session.rcpt(probe.recipient) if mail[0] == 250 else mail
            session.rset()
    except (smtplib.SMTPException, OSError) as error:
        return f"not proven at {place}: {' '.join(str(error).split())}"
    text = f"{code} {said.decode('utf-8', 'replace')}".split("\n")[0]
    line = log.find(probe.marker)
    if line and probe.is_refused:
        is_told = "action=REJECT" in line or "would=REJECT" in line
        done = "refused" if "action=REJECT" in line else "would have refused"
        if is_told:
            return f"proven at {place}: policyd was asked about {probe.recipient}, and {done} it"
        told = f"policyd was asked at {service.name} about {probe.recipient}, which is to be refused, and let it pass."
        return Diagnosis("other-database", place, told, ("systemctl restart policyd",))
    if line:
        return f"proven at {place}: policyd was asked about {probe.recipient}; nothing is to be refused"
    if code < 400:
        told = f"{service.name} took {probe.recipient} from {probe.sender} ({text}), and policyd was not asked."
        return Diagnosis(
            "not-asked", place, told, advice="A filter in front, another Postfix, or an old configuration."
        )
    if examined.is_submission(service):
        return (
            f"not proven at {place}: it takes no recipient without a login ({text}); with your mail program, send mail "
            "there that is to be refused"
        )
    return f"not proven at {place}: Postfix refused it before policyd was asked ({text})"


def _marker() -> str:
    return f"{MARKER}{secrets.token_hex(6)}"


def _probe(settings: Settings, database: Database, now: int) -> Probe:
    """What is to be refused even from this host, which is inside, if anything is."""
    marker = _marker()
    with reading(database) as connection:
        candidates = [*_candidates(Queries(connection, settings.recipient_delimiter), marker)]
    for sender, recipient in candidates:
        request = Request(
            protocol_state="RCPT",
            client_name="localhost",
            client_address="127.0.0.1",
            sender=sender,
            recipient=recipient,
        )
        if explain(database, settings, request, now)[0].is_refused:
            return Probe(sender, recipient, marker, is_refused=True)
    sender, recipient = candidates[-1]
    return Probe(sender, recipient, marker, is_refused=False)


def _candidates(queries: Queries, marker: str) -> Iterator[tuple[str, str]]:
    """Pairs of sender and recipient, of which one has *marker* in it."""
    stranger = f"{marker}@doctor.invalid"
    for address, _ in islice(queries.perhaps_restricted(), _TRIED):
        yield stranger, address
    domains = [*queries.domains()]
    for domain in domains:
        if domain.unlisted is Unlisted.REJECT and not domain.alias_of:
            yield f"postmaster@{domain.name}", f"{marker}@{domain.name}"
            break
    for entry in islice(queries.blocked_senders(), _TRIED):
        if entry.to == OUTSIDE and entry.who.kind is PartyKind.MAILBOX:
            yield queries.primary_address(entry.who.number), stranger
    yield stranger, next((f"postmaster@{domain.name}" for domain in domains), "postmaster@localhost")
