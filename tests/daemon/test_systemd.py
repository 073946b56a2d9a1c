"""The daemon as systemd starts it: with a socket that is not its own, and with somebody who wants to know how it is."""

import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from policyd.daemon.systemd import find_supervisor, take_endpoints
from policyd.endpoint import NOT_GIVEN
from policyd.errors import SettingsError
from tests.support import preloaded
from tests.support.activated import Notified, activated, held
from tests.support.drills import drill
from tests.support.fake_smtpd import FakeSmtpd, request
from tests.support.ports import free_port
from tests.support.processes import cpu_seconds, descriptors
from tests.support.processes import workers as workers_of
from tests.support.required import give_up
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until

CONTRIB = Path(__file__).resolve().parents[2] / "contrib" / "systemd"
ALICE = request(recipient="alice@example.com")
SERVICES = {"policyd.service": 1.1, "policyd-doctor.service": 3.0}  # of 10, as systemd-analyze counts exposure
UNITS = (*SERVICES, "policyd.socket", "policyd-http.socket", "policyd-doctor.timer")

two_workers = pytest.param(2, id="two workers", marks=pytest.mark.full)
both = pytest.mark.parametrize("workers", [pytest.param(1, id="one process"), two_workers])


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that is not started yet, and knows alice@example.com."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice")
        yield daemon


@pytest.fixture
def notified(daemon: Daemon) -> Iterator[Notified]:
    """Somebody who wants to know how the daemon is, every two seconds at least."""
    notified = Notified(str(daemon.folder / "notify"), watchdog_seconds=2)
    yield notified
    notified.close()


@pytest.fixture(scope="module")
def systemd() -> None:
    """Skip where systemd's tools are not installed; where they are required fail."""
    missing = [
        name for name in ("systemd-analyze", "systemd-socket-activate", "systemd-sysusers") if not shutil.which(name)
    ]
    if not missing:
        return
    give_up("SYSTEMD", f"not installed: {' '.join(missing)} (Debian: apt-get install systemd)")


def serve(daemon: Daemon, *sockets: socket.socket, words: tuple[str, ...] = ()) -> None:
    """Start it with *sockets*."""
    descriptors = [each.fileno() for each in sockets]
    daemon.start(daemon.arguments("serve", *words), descriptors, activated(*sockets))


def refusal(daemon: Daemon, *sockets: socket.socket) -> tuple[int, str]:
    """How it ends with *sockets*, and what it says."""
    descriptors = [each.fileno() for each in sockets]
    environment = os.environ | activated(*sockets)
    done = preloaded.run(daemon.arguments("serve"), pass_fds=descriptors, env=environment, text=True)
    return done.returncode, done.stderr


# Sockets


@both
def test_given_socket_is_served_and_left_as_it_was(daemon, workers):
    """It is systemd's: mode, file and queue stay when the daemon ends, and whoever asks then waits for the next one."""
    given = daemon.folder / "given.sock"
    with held(given) as listening, ExitStack() as stack:
        for _ in range(2):
            serve(daemon, listening, words=("--workers", str(workers)))
            with FakeSmtpd(str(given)) as smtpd:
                assert smtpd.ask(ALICE) == "DUNNO"
            assert not daemon.socket.exists()  # the setting `listen`
            kept = stack.enter_context(FakeSmtpd(str(given)))
            assert kept.ask(ALICE) == "DUNNO"
            assert daemon.stop() == (0, "")
            kept.must_hang_up()
            assert stat.S_IMODE(given.stat().st_mode) == 0o640
        waiting = stack.enter_context(FakeSmtpd(str(given)))
        waiting.send(ALICE)
        assert not waiting.has_answer()
        serve(daemon, listening)
        assert waiting.read_reply() == "DUNNO"
    lines = daemon.syslog.matching("event=listening")
    assert lines == [f"event=listening, on=unix:{given}, from=systemd"] * 3


def test_several_given_sockets_are_all_served(daemon):
    """One for Postfix, and loopback for somebody's tunnel."""
    given = daemon.folder / "given.sock"
    with held(given) as file, held("127.0.0.1") as ipv4, held("::1") as ipv6:
        serve(daemon, file, ipv4, ipv6)
        for address in (str(given), ipv4.getsockname()):
            with FakeSmtpd(address) as smtpd:
                assert smtpd.ask(ALICE) == "DUNNO"
        with socket.create_connection(ipv6.getsockname()[:2], timeout=LIMIT_SECONDS) as connection:
            connection.sendall(ALICE)
            assert connection.recv(100) == b"action=DUNNO\n\n"
        port, other = ipv4.getsockname()[1], ipv6.getsockname()[1]
        assert daemon.syslog.matching("event=listening") == [
            f"event=listening, on=unix:{given}, from=systemd",
            f"event=listening, on=tcp:{port}:interface=127.0.0.1, from=systemd",
            f'event=listening, on="tcp:{other}:interface=\\\\:\\\\:1", from=systemd',
        ]
        daemon.reload()
        assert daemon.syslog.matching("warning") == []
        assert daemon.stop() == (0, "")


@pytest.mark.parametrize(("address", "shown"), [("0.0.0.0", "0.0.0.0"), ("::", "\\:\\:")])
def test_given_socket_that_others_can_reach_must_be_asked_for(daemon, address, shown):
    """As with the setting `listen`: a socket unit is written quickly, and says who has a mailbox."""
    with held(address) as given:
        port = given.getsockname()[1]
        told = (
            f"policyd: from systemd: tcp:{port}:interface={shown} can be reached from other machines, and anybody who "
            "reaches it can find out who has a mailbox; make it ListenStream=127.0.0.1:PORT, or say "
            "allow_remote = true in the settings file\n"
        )
        assert refusal(daemon, given) == (78, told)
        daemon.write_settings("allow_remote = true")
        serve(daemon, given)
        daemon.write_settings()
        assert daemon.reload("warning=").startswith('warning="the settings stay as they were: from systemd: tcp:')


def test_what_is_no_listening_stream_socket_is_refused(daemon):
    """A slip in the socket unit is told with the line that fixes it."""
    told = (
        "policyd: from systemd: descriptor 3 (policy) is not a stream socket that listens; the socket unit needs "
        "ListenStream=, and Accept=no\n"
    )
    with held("127.0.0.1", listens=False) as silent:
        assert refusal(daemon, silent) == (78, told)
    connected, other = socket.socketpair()
    with connected, other, socket.socket(fileno=os.dup2(connected.fileno(), 150, inheritable=True)) as given:
        assert refusal(daemon, given) == (78, told)


@pytest.mark.parametrize(
    ("variables", "is_refused"),
    [
        ({}, False),
        ({"LISTEN_FDS": "1"}, False),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, False),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}, True),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}, True),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "one"}, True),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "one:two"}, True),
    ],
    ids=["nothing", "for nobody", "for another", "none", "no number", "a name missing", "a name too many"],
)
def test_what_is_said_of_sockets_is_checked_and_taken_out(variables, is_refused):
    """A child must not take them for its own."""
    environment = {"PATH": "/bin", **variables}
    if is_refused and variables["LISTEN_FDS"] != "0":
        with pytest.raises(SettingsError, match=r"don't go together"):
            take_endpoints(environment)
    else:
        assert take_endpoints(environment) == NOT_GIVEN
    assert environment == {"PATH": "/bin"}


@drill(
    "no file descriptor is left (EMFILE)",
    made="prlimit on the running daemon",
    client="the answer, when another connection has ended",
)
@pytest.mark.full
def test_connections_without_a_descriptor_wait(daemon):
    """Where all are used up, the daemon neither spins nor dies; those who wait are served when others have gone."""
    daemon.start()
    used = descriptors(daemon.pid)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 10, used + 10))
    with ExitStack() as stack:
        many = [stack.enter_context(FakeSmtpd(str(daemon.socket))) for _ in range(40)]
        for each in many:
            each.send(ALICE)
        until(lambda: any(each.has_answer() for each in many), "the first answers")
        before = cpu_seconds(daemon.pid)
        time.sleep(1)  # a time to measure in
        assert cpu_seconds(daemon.pid) - before < 0.5
        while many:
            until(lambda: any(each.has_answer() for each in many), "those who waited")
            answered = [each for each in many if each.has_answer()]
            for each in answered:
                assert each.read_reply() == "DUNNO"
                each.__exit__(None, None, None)
                many.remove(each)
    assert daemon.ask(ALICE) == "DUNNO"


# What systemd is told


@both
def test_systemd_is_told_when_it_serves_reloads_and_stops(daemon, notified, workers):
    """Units that are ordered after it start when it answers, not when it was forked."""
    daemon.start(daemon.arguments("serve", "--workers", str(workers)), variables=notified.variables)
    notified.wait_for("READY=1")
    assert daemon.ask(ALICE) == "DUNNO"
    until(lambda: len(daemon.syslog.matching("event=started")) == workers, "the line of each process")
    notified.wait_for("WATCHDOG=1", 3)
    daemon.reload()
    notified.wait_for("READY=1", 2)
    daemon.write_settings("mode = 1")
    daemon.reload("the settings stay")
    notified.wait_for("READY=1", 3)
    assert daemon.stop() == (0, "")
    told = [line for line in notified.told() if line != "WATCHDOG=1"]
    assert told == ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


def test_daemon_that_cannot_start_is_never_ready(daemon, notified):
    """Postfix, which is ordered after it, must not be started in front of nothing."""
    daemon.database.unlink()
    done = preloaded.run(daemon.arguments("serve"), env=os.environ | notified.variables)
    assert done.returncode == 69
    assert notified.told() == []


@drill(
    "a worker hangs",
    made="SIGSTOP",
    client="those of its connections: closed, tried again a second later",
    log='``warning="a worker hung and was killed", pid=…``',
)
@pytest.mark.full
def test_watchdog_bites_a_worker_that_hangs_and_nobody_else(daemon, notified):
    """The others go on, and another takes its place."""
    daemon.start(daemon.arguments("serve", "--workers", "2"), variables=notified.variables)
    notified.wait_for("READY=1")
    until(lambda: len(daemon.syslog.matching("event=started")) == 2, "both workers")
    stuck = workers_of(daemon.pid)[0]
    os.kill(stuck, signal.SIGSTOP)
    daemon.syslog.wait_for(f'warning="a worker hung and was killed", pid={stuck}')
    until(lambda: len(daemon.syslog.matching("event=started")) == 3, "the new worker")
    assert len(daemon.syslog.matching("hung")) == 1
    assert daemon.stop() == (0, "")


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "often"}, 0),
        ({}, 0),
    ],
    ids=["for anyone", "for us", "for another", "no number", "none"],
)
def test_watchdog_is_for_the_process_it_names(variables, seconds):
    """And nobody's child inherits the word."""
    environment = {"NOTIFY_SOCKET": "/none", **variables}
    assert find_supervisor(environment).watchdog_seconds == seconds
    assert environment == {}


def test_abstract_socket_is_told_and_a_missing_one_is_no_harm():
    """Containers have the one, and a systemd that restarts itself is the other."""
    notified = Notified(f"@policyd-test-{os.getpid()}")
    find_supervisor({**notified.variables}).notify_ready("here")
    assert notified.told() == ["READY=1"]
    notified.close()
    find_supervisor({**notified.variables}).notify_ready("here")
    find_supervisor({"NOTIFY_SOCKET": "vsock:2:1"}).notify_ready("here")


# The real tools


@pytest.mark.usefixtures("systemd")
@both
def test_systemd_socket_activate_starts_it_at_the_first_question(daemon, workers):
    """The variables are those that systemd itself writes."""
    port = free_port()
    words = daemon.arguments("serve", "--workers", str(workers))
    passed = [f"-E{name}={os.environ[name]}" for name in ("PYTHONPATH", "PATH") if name in os.environ]
    command = ["systemd-socket-activate", f"-l127.0.0.1:{port}", f"-l{daemon.folder}/given.sock", *passed]
    with subprocess.Popen([*command, "--fdname=policy:policy", *words], stderr=subprocess.PIPE) as started:
        try:
            until((daemon.folder / "given.sock").exists, "its socket")
            for address in (f"{daemon.folder}/given.sock", ("127.0.0.1", port)):
                with FakeSmtpd(address) as smtpd:
                    assert smtpd.ask(ALICE) == "DUNNO"
            until(lambda: len(daemon.syslog.matching("from=systemd")) == 2, "two lines")
        finally:
            started.terminate()
            started.communicate(timeout=LIMIT_SECONDS)
    assert started.returncode == 0


@pytest.fixture
def units(systemd: None, tmp_path: Path) -> Path:
    """A folder with the units, in which the program is one that is there."""
    python = tmp_path / "python"
    python.symlink_to(sys.executable)  # which may have a blank in its path
    for name in SERVICES:
        service = (CONTRIB / name).read_text()
        there, count = re.subn("(?m)^ExecStart=/usr/local/bin/policyd ", f"ExecStart={python} -m policyd ", service)
        assert count == 1
        (tmp_path / name).write_text(there)
    for name in UNITS[len(SERVICES) :]:
        shutil.copy(CONTRIB / name, tmp_path)
    return tmp_path


def verified(units: Path) -> list[str]:
    """What systemd says of the units, and of what is dropped in."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(units / name for name in UNITS)],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0
    return [line for line in done.stderr.splitlines() if "policyd" in line or ".conf" in line]


def test_units_are_sound(units):
    """systemd only warns of what it doesn't know, and does without."""
    assert verified(units) == []


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("replica.conf", ["SystemCallFilter", "LoadCredential"]),
        ("http-tcp.conf", []),
    ],
)
def test_drop_in_is_sound_and_opens_the_network_alone(units, name, keys):
    """The service has no network at all: what needs one gets some, and nothing else more."""
    drop_ins = units / "policyd.service.d"
    drop_ins.mkdir()
    shutil.copy(CONTRIB / name, drop_ins)
    assert verified(units) == []
    settings = re.findall(r"(?m)^(\w+)=", (CONTRIB / name).read_text())
    assert settings == ["PrivateNetwork", "RestrictAddressFamilies", "IPAddressAllow", *keys]


@pytest.mark.parametrize(("name", "limit"), SERVICES.items())
def test_service_may_do_little_and_the_count_says_so(units, name, limit):
    """Somebody who takes it over gets next to nothing; taking a line away is noticed here."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={limit * 10:.0f}", units / name],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    exposure = re.search(rf"Overall exposure level for {name}: ([\d.]+)", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    assert (done.returncode, float(exposure[1]) <= limit) == (0, True), done.stdout


def test_user_is_one_that_systemd_can_make(systemd, tmp_path):
    """In an empty system."""
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", CONTRIB / "policyd.sysusers"],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ":/var/lib/policyd:/usr/sbin/nologin" in (tmp_path / "etc" / "passwd").read_text()
