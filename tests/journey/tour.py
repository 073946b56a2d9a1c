"""Follows the guide and the README on a system Postfix: `python -m tests.journey.tour`, in namespaces of its own.

Every command, file and line of output is taken from the documents. What they say comes of it is asked for by mail.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

from docutils import nodes  # type: ignore[import-untyped]

from tests.docs.pages import ROOT, commands, page, parse, section, steps
from tests.journey.place import HIDDEN, OUTSIDE, configure_postfix, connect_network, make_private
from tests.postfix.authentication import authentication
from tests.support.terminal import type_line
from tests.support.waiting import until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CHECKOUT = HIDDEN / "checkout"
LIMIT_SECONDS = 600


class System:
    """The machine as the administrator has it: a terminal, a mail log, and people outside."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.environment = {**os.environ, "PATH": PATH, "HOME": "/root", "TZ": "UTC", "TERM": "dumb", "COLUMNS": "200"}

    def listen(self) -> None:
        """Keep what is logged from now on."""
        sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        Path("/dev/log").unlink(missing_ok=True)
        sink.bind("/dev/log")
        os.chmod("/dev/log", 0o666)

        def keep() -> None:
            while True:
                self.log.append(sink.recv(65536).decode(errors="replace"))

        threading.Thread(target=keep, daemon=True).start()

    def type(self, line: str) -> str:
        """What a terminal shows of the command *line*, which ends well, or with what it says."""
        _tell(f"# {line}")
        shown, status = type_line(["/bin/bash", "-c", line], self.environment, folder=CHECKOUT)
        shown = shown.strip("\n")
        _tell(shown)
        assert status == (1 if shown.startswith("REJECT") else 0), f"{line}: status {status}"
        return shown

    def send(self, line: str, *words: str) -> str:
        """The reply of the mail host to RCPT, or to the message, of swaks called by *line* from outside."""
        _tell(f"$ {line}")
        done = subprocess.run(
            [*line.split(), "--local-interface", OUTSIDE, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        return done.stdout + done.stderr

    def is_taken(self, sender: str, recipient: str, *words: str) -> bool:
        """Whether the mail host takes mail from *sender* for *recipient*."""
        command = f"swaks --server mx.example.com --from {sender} --to {recipient} --quit-after RCPT"
        told = self.send(command, *words)
        assert ("<-  250 2.1.5 Ok" in told) != ("<** 5" in told), told
        return "<-  250 2.1.5 Ok" in told


def install(system: System) -> None:
    """The guide's first step; it needs the network."""
    shutil.copytree(ROOT, CHECKOUT, ignore=shutil.ignore_patterns(".venv", ".git", "var", "__pycache__", "_build"))
    for line, _ in commands(section(page("guide"), "1. Install")):
        if not line.startswith("apt-get "):  # Debian's packages are the machine's own
            system.type(line)


def follow_the_guide(system: System) -> None:
    """All that comes before the first refused mail, in order, and that mail."""
    guide = page("guide")
    for line, _ in commands(section(guide, "2. Make a user")):
        system.type(line)
    (settings,) = section(guide, "3. Write the settings").findall(nodes.literal_block)
    Path("/etc/policyd/policyd.toml").write_text(settings.astext())
    system.type("postfix start")
    for line, shown in commands(section(guide, "4. Add a domain")):
        assert system.type(line) == shown, line

    # The daemon, and Postfix's two files as the guide has them.
    ((line, _),) = commands(section(guide, "5. Start it"))
    daemon = subprocess.Popen(line.split(), env=system.environment, stdin=subprocess.DEVNULL)
    until(lambda: any("event=started" in each for each in system.log), "the daemon to start")
    main, master, _ = [each.astext() for each in section(guide, "6. Connect").findall(nodes.literal_block)]
    with Path("/etc/postfix/main.cf").open("a") as file:
        file.write(main + "\n")
    with Path("/etc/postfix/master.cf").open("a") as file:
        file.write("submission inet n - y - - smtpd\n  -o smtpd_sasl_auth_enable=yes\n")
        file.write("".join(f"  {each}\n" for each in master.splitlines()))
    for line, _ in commands(section(guide, "6. Connect")):
        system.type(line)

    # What it promises, first by the commands, then by mail.
    last = section(guide, "7. Restrict")
    for line, shown in commands(last):
        assert system.type(line) == shown, line
    (mail,) = [each.astext() for each in last.findall(nodes.literal_block) if each.astext().startswith("$ ")]
    line, reply = mail.removeprefix("$ ").split("\n")
    until(lambda: reply in system.send(line), f"the reply: {reply}")
    _compare_log(
        system, next(each.astext() for each in last.findall(nodes.literal_block) if "action=" in each.astext())
    )
    assert daemon.poll() is None


def _compare_log(system: System, shown: str) -> None:
    """The line that the mail left has the fields that are shown, but for when and from where it came."""
    logged = next(each for each in reversed(system.log) if "action=REJECT" in each)
    wanted, found = [
        re.findall(r'(\w+)=("[^"]*"|[^,]*)', " ".join(each.split()).partition("]: ")[2]) for each in (shown, logged)
    ]
    assert [name for name, _ in wanted] == [name for name, _ in found], logged
    ours = {"instance", "client", "ms"}
    assert [each for each in wanted if each[0] not in ours] == [each for each in found if each[0] not in ours], logged


def send_and_receive(system: System) -> None:
    """Mail that nobody restricts arrives; who has left writes to the partner only."""
    told = system.send("swaks --server mx.example.com --from carol@example.net --to alice@example.com")
    assert "250 2.0.0 Ok: queued as" in told, told
    until(lambda: Path("/var/mail/alice").exists(), "Alice's mail")
    assert system.is_taken("carol@example.net", "a.smith+news@example.com")
    assert not system.is_taken("carol@example.net", "nobody.here@example.com")

    # Alice has logged in, whatever she says in MAIL FROM.
    login = ("--port", "587", "--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "secret")
    assert not system.is_taken("somebody@example.org", "dave@example.net", *login)
    assert system.is_taken("alice@example.com", "erin@partner.example", *login)
    assert system.is_taken("alice@example.com", "bob@example.com", *login)


def follow_the_readme(system: System) -> None:
    """The everyday recipes, and what each of them says comes of it."""
    assert system.is_taken("bulk@news.bulk.example", "alice@example.com")
    for name in ("carol", "dora"):  # whom the README's crew is made of
        system.type(f"policyd mailbox add {name} {name}@example.com")
    files = {name: text for name, text in steps(page("import/directories")) if not name.startswith("policyd ")}
    (CHECKOUT / "people.ldif").write_text(files["people.ldif"])
    for line, _ in commands(section(parse("README.rst"), "Everyday recipes")):
        system.type(line)
    assert system.is_taken("friend@partner.example", "bob@example.com")
    assert not system.is_taken("carol@example.net", "bob@example.com")
    assert not system.is_taken("carol@example.net", "carol@example.com")
    assert not system.is_taken("bulk@news.bulk.example", "alice@example.com")
    assert system.is_taken("bulk@bulk.example", "alice@example.com")  # no subdomain
    assert Path("/var/backups/policyd.db").exists()

    # A command is in force when it returns.
    system.type("policyd group lift crew")
    assert system.is_taken("carol@example.net", "carol@example.com")
    system.type("policyd mailbox lift bob")
    assert system.is_taken("carol@example.net", "bob@example.com")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Make the place and install there, with the machine's network; then go on with one of its own."""
    system = System()
    if sys.argv[1:] != ["--installed"]:
        make_private()
        install(system)
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-m", "tests.journey.tour", "--installed"])
    connect_network()
    configure_postfix()
    system.listen()
    follow_the_guide(system)
    with authentication(Path("/var/spool/postfix/private/auth")):
        send_and_receive(system)
        follow_the_readme(system)
    _tell("The tour is done.")


if __name__ == "__main__":
    main()
