"""A configuration that runs: a real Postfix with it, the daemon that it asks, and the mails that are tried."""

import json
import re
import shlex
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from policyd.doctor.postconf import find_program
from tests.postfix.audit import Audit
from tests.postfix.authentication import authentication
from tests.postfix.daemon import USER, Daemon
from tests.postfix.instance import LIFETIME_SECONDS
from tests.postfix.smtp import Session
from tests.support.ports import free_port, free_ports
from tests.support.waiting import until

from .sites import CONFIGURATIONS, Site

OUTSIDE, LAN = "203.0.113.7", "192.0.2.10"
LAN_OF = {"docker-mailserver": "172.18.0.5"}
_STRANGER = "x@far.example"
_SERVICE = re.compile(r"^(smtp|submission|submissions|10025)( +inet )", re.MULTILINE)
# What each mail is: the service, who sends it from where, and to whom.
_MAILS: dict[str, tuple[str, str, str, str, list[str]]] = {
    "m1": ("smtp", OUTSIDE, "", _STRANGER, ["alice@example.com"]),
    "m2": ("smtp", OUTSIDE, "", _STRANGER, ["bob@example.com"]),
    "m3": ("smtp", OUTSIDE, "", _STRANGER, ["nobody@example.com"]),
    "m4": ("smtp", OUTSIDE, "", _STRANGER, ["bob+tag@example.com"]),
    "m5": ("smtp", OUTSIDE, "", _STRANGER, ["alice@example.com", "bob@example.com"]),
    "m6": ("smtp", LAN, "", _STRANGER, ["bob@example.com"]),
    "m7": ("smtp", LAN, "", "carol@example.com", ["far@outside.example"]),
    "m8": ("smtp", OUTSIDE, "", _STRANGER, ["far@outside.example"]),
    "s1": ("submission", OUTSIDE, "carol@example.com", "carol@example.com", ["far@outside.example"]),
    "s2": ("submission", OUTSIDE, "alice@example.com", "alice@example.com", ["far@outside.example"]),
    "s3": ("submission", OUTSIDE, "alice@example.com", "alice@example.com", ["bob@example.com"]),
    "t1": ("submissions", OUTSIDE, "carol@example.com", "carol@example.com", ["far@outside.example"]),
}
_FURTHER = re.compile(r"e\d (\S+) (\S+) (\S+)>(\S+)")
_DOORS = {"reinj": "10025"}
# What a Postfix of a test needs besides, which says nothing of who may send what.
_MAIN_CF = """
queue_directory = {folder}/queue
data_directory = {folder}/data
inet_interfaces = 127.0.0.1
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
default_transport = discard:
relay_transport = discard:
local_transport = discard:
virtual_transport = discard:
notify_classes =
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
in_flow_delay = 0
smtpd_error_sleep_time = 0
smtpd_authorized_xclient_hosts = 127.0.0.1
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
"""


class _AnyDaemon(Daemon):
    """The daemon, wherever its settings have it listen."""

    def _takes_connections(self) -> bool:
        listen = str(tomllib.loads(self.config.read_text())["listen"][0])
        if not listen.startswith("tcp:"):
            return super()._takes_connections()
        try:
            socket.create_connection(("127.0.0.1", int(listen.split(":")[1])), timeout=60).close()
        except OSError:
            return False
        return True


class RunningSite(Site):
    """The configuration *name* with a Postfix and a daemon of its own, below *folder*; *more* are further settings."""

    def __init__(self, name: str, folder: Path, more: dict[str, object]) -> None:
        self._more = more
        queue = folder / "queue"
        self._make_folders(folder, queue)
        doors = ("smtp", "submission", "submissions", "10025")
        self.port = dict(zip(doors, free_ports(len(doors)), strict=True))
        self._daemon = _AnyDaemon(folder, queue / "policyd" / "policyd.sock", {})
        self._master: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        super().__init__(name, folder, queue, **{"10040": str(free_port())})
        self._adapt()

    def start(self) -> None:
        """Start the daemon and Postfix."""
        self.audit = self._stack.enter_context(closing(Audit(self.folder / "log")))
        self._stack.enter_context(authentication(self.folder / "queue" / "private" / "auth"))
        self._stack.callback(self._daemon.stop)
        self._daemon.start()
        self._start_postfix()

    def stop(self) -> None:
        """Stop both."""
        self._stop_postfix()
        self._stack.close()

    def restart(self) -> None:
        """Start both again, as after a change of their configuration."""
        self._stop_postfix()
        self._daemon.stop()
        self._daemon.start()
        self._start_postfix()

    def told(self, mail: str) -> list[list[Any]]:
        """What Postfix says to each recipient of *mail*, and at its end."""
        door, address, login, sender, recipients = self._parts(mail)
        with Session(self.port[door]) as session:
            session.pretend(address, "client.far.example", login)
            assert session.mail(sender).startswith("250")
            replies = [session.rcpt(each).split(" ", 1) for each in recipients]
            got: list[list[Any]] = [[int(code), text] for code, text in replies]
            if any(code == 250 for code, _ in got):
                session.data()
                got.append(["data", 250])
        return got

    def asked(self, at_least: int) -> int:
        """How often policyd was asked until now; waits for so many decisions *at_least*."""
        until(lambda: len(self.audit.matching("action=")) >= at_least, f"{at_least} decisions")
        return len(self.audit.matching("action="))

    def do_what_is_said(self, found: dict[str, Any]) -> None:
        """Type the lines of every finding, and put its settings into the file."""
        settings = self._settings()
        for each in found["findings"]:
            for line in each["commands"]:
                self._type(line)
            for line in each["settings"]:
                settings.update(tomllib.loads(line))
        self._daemon.write_settings(**settings)

    def _type(self, line: str) -> None:
        words = shlex.split(line)
        if words[0] == "policyd":
            done = self.policyd(*words[1:])
            assert done.exit_code == 0, (line, done.output)
        elif words[0] == "postconf":
            subprocess.run([find_program("postconf") or "", *words[1:]], check=True, capture_output=True)
        else:
            assert words[0] in ("postfix", "systemctl", "install"), line  # what `restart` does, and folders

    def _parts(self, mail: str) -> tuple[str, str, str, str, list[str]]:
        if further := _FURTHER.fullmatch(mail):
            door, address, sender, recipient = further.groups()
            return _DOORS.get(door, door), address, "", sender, [recipient]
        door, address, login, sender, recipients = _MAILS[mail[:2]]
        return door, LAN_OF.get(self.name, address) if address == LAN else address, login, sender, recipients

    def _make_folders(self, folder: Path, queue: Path) -> None:
        for path, mode, owner in (
            (folder, 0o755, USER),
            (queue, 0o755, "root"),
            (queue / "private", 0o700, "postfix"),
            (queue / "policyd", 0o2750, USER),
            (folder / "data", 0o700, "postfix"),
        ):
            path.mkdir(exist_ok=True)
            shutil.chown(path, owner, "postfix" if owner == USER and path != folder else None)
            path.chmod(mode)

    def _adapt(self) -> None:
        main_cf, master_cf = self.config / "main.cf", self.config / "master.cf"
        main_cf.write_text(main_cf.read_text() + _MAIN_CF.format(folder=self.folder))
        text = _SERVICE.sub(lambda match: f"127.0.0.1:{self.port[match[1]]}{match[2]}", master_cf.read_text())
        text = re.sub(r"^127\.0\.0\.1:10025", f"127.0.0.1:{self.port['10025']}", text, flags=re.MULTILINE)
        text = re.sub(r"^ *-o smtpd_tls_(security_level|wrappermode)=\w+\n", "", text, flags=re.MULTILINE)
        main_cf.write_text(main_cf.read_text().replace("pcre:", "regexp:"))  # which is there with every Postfix
        text = re.sub(r"inet( .*)postscreen\n", r"inet\1smtpd\n", text)
        master_cf.write_text(text)
        self._daemon.write_settings(**self._settings())

    def _settings(self) -> dict[str, Any]:
        """The settings of the configuration, and what the test sets besides."""
        told = tomllib.loads(self.settings_text())
        own = {"database": f"sqlite:///{self.folder}/policyd.db", "user": USER}
        return {**told, **own, **self._more}

    def _start_postfix(self) -> None:
        subprocess.run(
            [find_program("postfix") or "", "-c", str(self.config), "check"], check=True, capture_output=True
        )
        daemons = subprocess.run(
            [find_program("postconf") or "", "-c", str(self.config), "-h", "daemon_directory"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        command = [f"{daemons}/master", "-c", str(self.config), "-d", "-e", str(LIFETIME_SECONDS)]
        with (self.folder / "master.out").open("ab") as out:
            self._master = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        until(lambda: self._answers("smtp"), "Postfix to listen")

    def _stop_postfix(self) -> None:
        if self._master:
            self._master.terminate()
            self._master.wait(60)
            self._master = None

    def _answers(self, door: str) -> bool:
        try:
            with Session(self.port[door]):
                return True
        except OSError:
            return False


def mails(name: str, phase: str) -> Iterator[tuple[str, list[list[Any]], int]]:
    """The mails that were tried with the configuration *name*, *before* or *after_fix*, and what came of them."""
    observed = json.loads((CONFIGURATIONS / name / "observed.json").read_text())
    for mail, result in observed[phase].items():
        yield mail, result["got"], result["policyd_asked"]


Run = Callable[..., RunningSite]
