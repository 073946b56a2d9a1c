"""A whole Debian machine, with systemd and its own /etc/postfix, is set up as the guide has it, and is as before."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import Machine, State
from tests.support.places import OPEN_PLACE
from tests.support.required import give_up

from .borrowed import INTERPRETER, PATH, borrowed_machine, missing_to_borrow
from .killing import KILLED, some_steps

pytestmark = [pytest.mark.full, pytest.mark.postfix]
BOB = "bob@example.com"
UNITS = ("policyd.socket", "policyd.service")
_KILLED_AT_RESTART = """
import os, signal
def look(event, args):
    if event == "subprocess.Popen" and "restart" in args[1]:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
from policyd.cli import main
main()
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """One for all of these tests: each leaves it as it was, but for the user and the tables."""
    if reason := missing_to_borrow():
        give_up("SYSTEMD", reason)
    with tempfile.TemporaryDirectory(prefix="policyd-", dir=OPEN_PLACE) as folder:
        place = Path(folder, "machine")
        place.mkdir()
        made = borrowed_machine(place)
        try:
            yield made
        finally:
            made.stop()


def differing(before: State, after: State) -> set[str]:
    """The files that are not as *before*, but for those of users and groups."""
    accounts = {f"/etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")}
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} - accounts


def test_machine_is_set_up_in_four_commands_and_is_as_before(machine: Machine) -> None:
    """What --undo leaves is what it says: the tables, the user, and the record of the setup."""
    before = machine.state()
    assert "to do it: policyd setup --apply" in machine.run("policyd", "setup")
    assert "begin with: policyd setup" in machine.run("policyd", "setup", "--enforce", status=1)
    assert machine.state() == before

    # One command, and policyd watches: as its own user, and after the next boot, too. Root may be careful, and have had
    # policyd before.
    machine.run("/usr/sbin/groupadd", "--system", "policyd")
    told = machine.run("sh", "-c", "umask 077; policyd setup --apply --yes")
    assert "useradd --system --gid policyd" in told
    assert "systemctl enable --now policyd.socket policyd.service" in told
    for word in ("is-active", "is-enabled"):
        machine.run("systemctl", word, *UNITS)
    assert machine.run("ps", "-o", "user=", "-C", "policyd").split() == ["policyd"]
    assert machine.run("policyd", "setup") == "nothing to do\n"

    # Nothing is refused until that is said.
    machine.run("policyd", "mailbox", "restrict", "bob", "--reason", "internal mailbox")
    assert machine.answer(BOB).startswith("250")
    machine.run("policyd", "setup", "--enforce")
    assert machine.answer(BOB).startswith("554 5.7.1")
    assert machine.answer("alice@example.com").startswith("250")
    assert "proven at smtp/inet" in machine.run("policyd", "doctor")
    assert "systemctl reload" in machine.run("policyd", "setup", "--enforce")

    # And back. What somebody has added needs the service, and is named.
    further = "/etc/systemd/system/policyd-http.socket"
    machine.run("cp", "/opt/policyd/checkout/contrib/systemd/policyd-http.socket", further)
    told = machine.run("policyd", "setup", "--undo")
    assert "policyd-http.socket stays; to take it away: systemctl disable --now policyd-http.socket" in told
    machine.run("rm", further)
    assert machine.answer(BOB).startswith("250")
    left = ("/etc/policyd", "/var/lib/policyd", "/var/spool/postfix/policyd")
    assert {path for path in differing(before, machine.state()) if not path.startswith(left)} == set()
    assert "the tables stay, and the user policyd with its folders" in told
    assert not machine.run("systemctl", "list-units", "--all", "--no-legend", "policyd.*").strip()


def test_daemon_that_does_not_start_leaves_postfix_alone(machine: Machine) -> None:
    """Nobody may wait for a daemon that will never answer; and none must be started again and again afterwards."""
    before = machine.run("cat", "/etc/postfix/main.cf", "/etc/postfix/master.cf")
    folder = "/etc/systemd/system/policyd.service.d"
    machine.run("mkdir", folder)
    machine.run("sh", "-c", f"printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' > {folder}/x.conf")
    told = machine.run("policyd", "setup", "--apply", "--yes", status=1)
    assert "Postfix is as it was" in told
    assert machine.run("cat", "/etc/postfix/main.cf", "/etc/postfix/master.cf") == before
    machine.run("policyd", "setup", "--undo")
    machine.run("rm", "-r", folder)
    assert machine.status("systemctl", "is-active", "policyd.service") != 0
    assert machine.answer(BOB).startswith("250")


def test_program_that_the_service_could_not_see_is_no_trap(machine: Machine) -> None:
    """Many install in root's home, where a service with ProtectHome= finds nothing."""
    program = Path("/root", "policyd")
    machine.run("cp", "/usr/local/bin/policyd", str(program))
    told = machine.run(str(program), "setup", "--apply", "--yes", status=1)
    assert f"{program} is below /root, where a service sees nothing" in told
    machine.run("rm", str(program))


def forget(machine: Machine) -> None:
    """Take back what is begun there, and all that this leaves, as the documents say it."""
    while "there is no setup" not in machine.output("policyd", "setup", "--undo"):
        pass
    machine.output("rm", "-r", "/var/lib/policyd", "/var/spool/postfix/policyd", "/etc/policyd")
    machine.output("/usr/sbin/userdel", "policyd")


def test_daemon_that_ran_before_takes_the_new_settings_also_after_an_interruption(machine: Machine) -> None:
    """A package starts one, which refuses; what is to be watched only must not be refused for that."""
    forget(machine)
    contrib = "/opt/policyd/checkout/contrib/systemd"
    machine.run("/usr/sbin/useradd", "--system", "--user-group", "--home-dir", "/var/lib/policyd", "policyd")
    machine.run("install", "-d", "-o", "policyd", "-g", "policyd", "-m", "750", "/var/lib/policyd")
    machine.run("policyd", "database", "create")
    machine.run("cp", f"{contrib}/policyd.socket", f"{contrib}/policyd.service", "/etc/systemd/system")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--now", *UNITS)
    words = [*INTERPRETER, "-c", f"{PATH}\n{_KILLED_AT_RESTART}", "setup", "--apply", "--yes"]
    assert machine.status(*words) == -signal.SIGKILL
    machine.run("policyd", "setup", "--apply", "--yes")
    machine.run("policyd", "mailbox", "restrict", "bob")
    assert machine.answer(BOB).startswith("250")
    assert "the daemon stays as it is" in machine.run("policyd", "setup", "--undo")
    machine.run("systemctl", "is-active", *UNITS)
    machine.run("systemctl", "disable", "--now", *UNITS)
    machine.run("rm", *(f"/etc/systemd/system/{unit}" for unit in UNITS))
    machine.run("systemctl", "daemon-reload")


def test_setup_that_is_killed_is_taken_back_or_gone_on_with(machine: Machine) -> None:
    """With all that only a whole machine has: users, units, and the system's own folders."""
    forget(machine)
    before = machine.state()
    machine.run("policyd", "setup", "--apply", "--yes")
    forget(machine)
    assert differing(before, machine.state()) == set()
    for at in some_steps(19):
        words = [*INTERPRETER, "-c", f"{PATH}\n{KILLED}", str(at), "setup", "--apply", "--yes"]
        was_killed = machine.status(*words) == -signal.SIGKILL
        assert machine.answer(BOB).startswith("250"), at
        if at % 2:
            machine.run("policyd", "setup", "--apply", "--yes")
            assert machine.run("policyd", "setup") == "nothing to do\n", at
            machine.run("systemctl", "is-enabled", *UNITS)
            assert machine.answer(BOB).startswith("250"), at
        forget(machine)
        assert machine.answer(BOB).startswith("250"), at
        assert differing(before, machine.state()) == set(), at
        if not was_killed:
            return
    pytest.fail("there is no end of steps")
