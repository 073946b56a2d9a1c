"""A Postfix of its own on loopback; one that is made from the very files of contrib/postfix."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.waiting import LIMIT_SECONDS, until

CONTRIB = Path(__file__).resolve().parents[2] / "contrib" / "postfix"
LIFETIME_SECONDS = 3600  # an instance that nobody stopped ends by itself
DOORS = ("mx", "patient", "submission", "submissions", "relay", "spawn")

# What a host has before anybody thinks of policyd. 10.0.0.0/8 is the office. The host's own name and
# example.com are local, so that Postfix looks for a further address in a local part wherever it ever does.
# Unlike policyd it takes the two forms of an internationalised domain for two domains.
MAIN_CF = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.example.com
myorigin = example.com
mydestination = mx.example.com, localhost, example.com
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8, 10.0.0.0/8
relay_domains = lists.example.com, bücher.example, xn--bcher-kva.example, trading.example, customer.example,
    neighbour.example, school.example
recipient_delimiter = +
inet_interfaces = 127.0.0.1
inet_protocols = all
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
default_transport = discard:
relay_transport = discard:
local_transport = discard:
notify_classes =
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
in_flow_delay = 0
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 2000
smtpd_authorized_xclient_hosts = 127.0.0.1
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_tls_cert_file = none
"""
MASTER_CF = """
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
tlsmgr   unix - - n 1000? 1 tlsmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
error    unix - - n - - error
retry    unix - - n - - error
discard  unix - - n - - discard
proxymap unix - - n - - proxymap
anvil    unix - - n - 1 anvil
postlog  unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A Postfix in a folder. `port` is the port of each door: a smtpd service."""

    def __init__(self, folder: Path, doors: Sequence[str]) -> None:
        """Make its folders in *folder*; before it can start it needs `write_main` and `write_master`."""
        self.folder = folder
        self.queue = folder / "queue"
        self.config = folder / "etc"
        self.log = folder / "postfix.log"
        self.port = dict(zip(doors, free_ports(len(doors)), strict=True))
        self._master: subprocess.Popen[bytes] | None = None
        self.config.mkdir()
        self.queue.mkdir()
        (folder / "data").mkdir(mode=0o700)
        shutil.chown(folder / "data", "postfix")
        (self.queue / "private").mkdir(mode=0o700)
        shutil.chown(self.queue / "private", "postfix")
        self._daemons = _default("daemon_directory")

    def write_main(self, *parts: str) -> None:
        """Write main.cf: what a host has, then *parts*."""
        self._write("main.cf", MAIN_CF.format(folder=self.folder, daemons=self._daemons), *parts)

    def write_master(self, *services: str) -> None:
        """Write master.cf: what stands behind every door, then *services*."""
        self._write("master.cf", MASTER_CF, *services)

    def service(self, door: str, chroot: str, *parameters: str) -> str:
        """A line of master.cf: smtpd at *door*, with *parameters* of its own."""
        options = "".join(f"\n  -o {{ {parameter} }}" for parameter in parameters)
        return f"127.0.0.1:{self.port[door]} inet n - {chroot} - - smtpd{options}"

    def start(self) -> None:
        """Start, and return when every door answers."""
        complaints = self.check()
        assert not complaints, complaints
        command = [f"{self._daemons}/master", "-c", str(self.config), "-d", "-e", str(LIFETIME_SECONDS)]
        with (self.folder / "master.out").open("wb") as out:
            self._master = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        until(lambda: all(_answers(port) for port in self.port.values()), "Postfix to listen")

    def stop(self) -> None:
        """Stop; its other processes end with the master."""
        if self._master:
            self._master.terminate()
            self._master.wait(LIMIT_SECONDS)

    def check(self) -> str:
        """What Postfix itself has to say against its configuration: "" is right."""
        words = ""
        for command in (("postfix", "check"), ("postconf", "-n"), ("postconf", "-M")):
            done = _run(command[0], "-c", str(self.config), *command[1:])
            words += done.stderr + (f"{command}: status {done.returncode}" if done.returncode else "")
        return words

    def deliveries(self, queue_id: str) -> list[str]:
        """Who got the message *queue_id*, in the order of the log, when Postfix is done with it."""
        pattern = re.compile(rf"postfix/discard\[\d+\]: {queue_id}: to=<([^>]*)>,.* status=sent ")
        until(lambda: f"{queue_id}: removed" in self.read_log(), f"the delivery of {queue_id}")
        return pattern.findall(self.read_log())

    def read_log(self) -> str:
        """The mail log, from the start."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _write(self, name: str, *parts: str) -> None:
        (self.config / name).write_text("\n".join(parts) + "\n")


def make_contrib_postfix(folder: Path, spawn_user: str, spawn_program: Path) -> Postfix:
    """A Postfix with the snippets of contrib/postfix; spawn(8) shall start *spawn_program* as *spawn_user*.

    Of its doors, `mx` has main.cf and is chrooted, `submission` and `submissions` come from master.cf, `relay` has
    main.cf.submission, and `spawn` main.cf.spawn with the service of master.cf. `patient` is as `mx`, but waits for an
    answer for as long as a busy machine may need to start policyd.
    """
    made = Postfix(folder, DOORS)
    relay, spawn = _parameters("main.cf.submission"), _parameters("main.cf.spawn")
    restrictions = _parameters("main.cf")["smtpd_recipient_restrictions"]
    patient = restrictions.replace("timeout=5s", f"timeout={LIMIT_SECONDS}s")
    made.write_main(_read("main.cf"), *(line for line in _lines(spawn) if not line.startswith("smtpd_")))
    made.write_master(
        made.service("mx", "y"),
        made.service("patient", "y", f"smtpd_recipient_restrictions = {patient}"),
        _services(made.port, spawn_user, spawn_program),
        made.service("relay", "n", *_lines(relay)),
        made.service("spawn", "n", *(line for line in _lines(spawn) if line.startswith("smtpd_"))),
    )
    return made


def _services(port: Mapping[str, int], spawn_user: str, spawn_program: Path) -> str:
    """contrib/postfix/master.cf with the ports, the user and the command that fit a test."""
    text = _read("master.cf")
    for pattern, instead in (
        (r"^submission inet", f"127.0.0.1:{port['submission']} inet"),
        (r"^submissions inet", f"127.0.0.1:{port['submissions']} inet"),
        (r"user=policyd argv=/usr/bin/policyd ", f"user={spawn_user} argv={spawn_program} "),
    ):
        text, count = re.subn(pattern, lambda _: instead, text, flags=re.MULTILINE)  # noqa: B023
        assert count == 1, f"{pattern} stands {count} times in {CONTRIB / 'master.cf'}"
    return text


def _read(name: str) -> str:
    return (CONTRIB / name).read_text()


def _parameters(name: str) -> dict[str, str]:
    """The parameters of a main.cf snippet, each value on one line. Source: postconf(5), file format."""
    logical: list[str] = []
    for line in _read(name).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace():
            logical[-1] += " " + line.strip()
        else:
            logical.append(line)
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in logical)}


def _lines(parameters: dict[str, str]) -> Iterator[str]:
    return (f"{name} = {value}" for name, value in parameters.items())


def _default(parameter: str) -> str:
    """What Postfix was built with."""
    return _run("postconf", "-dh", parameter).stdout.strip()


def _run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([find_program(program), *words], capture_output=True, text=True, timeout=LIMIT_SECONDS)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT_SECONDS).close()
    except OSError:
        return False
    return True


def missing_for_postfix() -> str:
    """Why these tests can't run here, or ""."""
    if os.geteuid() != 0:
        return "a Postfix of its own can only be started by root"
    missing = [name for name in ("postfix", "postconf", "swaks") if not find_program(name)]
    return f"not installed: {', '.join(missing)} (Debian: apt-get install postfix swaks)" if missing else ""


def find_program(name: str) -> str:
    """The path of the program *name*, or ""; Postfix's are where the PATH of a user need not look."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])) or ""
