"""contrib/fail2ban, read by the real fail2ban-regex, on lines that the daemon wrote."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_smtpd import request
from tests.support.required import give_up
from tests.support.running_daemon import Daemon
from tests.support.waiting import LIMIT_SECONDS, until

CONTRIB = Path(__file__).resolve().parents[1] / "contrib" / "fail2ban"
FILTER = CONTRIB / "filter.d" / "policyd.conf"
both = pytest.mark.parametrize("form", ["text", pytest.param("json", marks=pytest.mark.full)])
INNOCENT = "198.51.100.99"  # whom the hostile try to have banned


@pytest.fixture(scope="module", autouse=True)
def fail2ban() -> None:
    """Skip, but where it is required fail."""
    if shutil.which("fail2ban-regex"):
        return
    give_up("FAIL2BAN", "not installed: fail2ban (Debian: apt-get install fail2ban)")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that is not started yet. alice is restricted, and bob is blocked."""
    with Daemon(tmp_path) as daemon:
        daemon.make_tables("alice", "bob")
        daemon.command("mailbox", "restrict", "alice")
        daemon.command("sender", "block", "bob")
        yield daemon


def start(daemon: Daemon, form: str) -> None:
    """Start it; what it decides is logged in that form."""
    daemon.start()
    if form == "json":
        with daemon.config.open("a") as file:
            file.write('format = "json"\n')
        daemon.reload('"event": "reloaded"')


def log_of(daemon: Daemon, *requests: bytes) -> list[str]:
    """The mail log, as rsyslog writes it, after *requests*."""
    for each in requests:
        daemon.ask(each)
    until(lambda: len(daemon.syslog.matching("action")) == len(requests), "all lines")
    now = time.strftime("%b %e %H:%M:%S")
    return [f"{now} mx policyd[4242]: {line}" for line in daemon.syslog.lines()]


def banned(folder: Path, lines: list[str], rules: str = "") -> list[str]:
    """The address of each line that counts."""
    log = folder / "mail.log"
    log.write_text("".join(f"{line}\n" for line in lines))
    filter_ = folder / FILTER.name  # fail2ban-regex splits a path at its blanks
    shutil.copy(FILTER, filter_)
    named = f'{filter_}[rules="{rules}"]' if rules else str(filter_)
    done = subprocess.run(
        ["fail2ban-regex", "--out", "ip", str(log), named],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def probe(**attributes: str) -> bytes:
    """A question about an address that nobody has."""
    return request(**{"recipient": "nobody@example.com", **attributes})


HOSTILE = f"x[{INNOCENT}]"
FORGED = f"action=REJECT, rule=unlisted-recipient, entry=, state=RCPT, queue_id=, instance=, client={HOSTILE}, sender="
FORGERIES = [
    {"client_name": HOSTILE},
    {"client_name": f"{HOSTILE}, sender=<"},
    {"client_name": f'"{HOSTILE}", sender=<x>, recipient=<x>, login=, context='},
    {"client_name": f'x", "client": "{HOSTILE}", "sender": "'},
    {"client_name": f"x\\[{INNOCENT}]\\"},
    {"client_name": f"mx policyd[4242]: {FORGED}<a>, recipient=<b>, login=, context="},
    {"sender": f"{FORGED}<a>, recipient=<b>, login=, context=@example.net"},
    {"sender": f'{HOSTILE}", "client": "{HOSTILE}@example.net'},
    {"recipient": f"a, client={HOSTILE}, sender=<@example.com"},
    {"recipient": f'{HOSTILE}", sender=@example.com'},
    {"helo_name": FORGED, "instance": f"{FORGED}<a>", "protocol_state": "RCPT"},
    {"instance": f"1, client={HOSTILE}, sender=<a>, recipient=<b>, login=, context="},
    {"queue_id": f'1", "client": "{HOSTILE}", "sender": "", "recipient": "", "login": "", "context": "'},
    {"policy_context": f"{FORGED}<a>, recipient=<b>, login=, context="},
]


@both
def test_who_tries_out_addresses_is_found_and_nobody_else(daemon, tmp_path, form):
    """By IPv4 and IPv6; not those of other rules, those with a login, nor those who may."""
    start(daemon, form)
    lines = log_of(
        daemon,
        probe(client_address="192.0.2.1"),
        probe(client_address="2001:db8::1", client_name="unknown"),
        probe(client_address="192.0.2.1", recipient='"john doe"@example.com', sender=""),
        request(client_address="192.0.2.2", recipient="alice@example.com"),
        request(client_address="192.0.2.3", recipient="bob@example.com"),
        request(client_address="192.0.2.4", recipient="x@example.net", sender="bob@example.com", sasl_username=""),
        request(client_address="192.0.2.5", recipient="x@example.net", sasl_username="bob"),
        probe(client_address="192.0.2.6", sasl_username="alice"),
    )
    found = ["192.0.2.1", "2001:db8::1", "192.0.2.1"]
    assert banned(tmp_path, lines) == found
    assert banned(tmp_path, lines, "unlisted-recipient|restricted-recipient") == [*found, "192.0.2.2"]
    everything = "unlisted-recipient|restricted-recipient|blocked-sender"
    assert banned(tmp_path, lines, everything) == [*found, "192.0.2.2", "192.0.2.4"]


@both
def test_nobody_can_have_somebody_else_banned(daemon, tmp_path, form):
    """Name, sender and recipient are written by whoever connects; only the address is Postfix's word."""
    start(daemon, form)
    asked = [probe(client_address=f"192.0.2.{number}", **each) for number, each in enumerate(FORGERIES, 1)]
    lines = log_of(daemon, *asked)
    assert all(INNOCENT in line for line in lines if "action" in line)
    assert banned(tmp_path, lines) == [f"192.0.2.{number}" for number in range(1, len(FORGERIES) + 1)]


def test_monitor_mode_bans_nobody(daemon, tmp_path):
    """Nobody was refused."""
    daemon.write_settings('mode = "monitor"')
    daemon.start()
    lines = log_of(daemon, probe())
    assert "would=REJECT" in lines[-1]
    assert banned(tmp_path, lines) == []


def test_line_of_another_program_does_not_count(tmp_path):
    """Others write into the same log what their clients say."""
    line = f"{FORGED}<a>, recipient=<b>, login=, context="
    now = time.strftime("%b %e %H:%M:%S")
    others = [
        f"{now} mx postfix/smtpd[1]: {line}",
        f"{now} mx postfix/smtpd[1]: warning: policyd[1]: {line}",
        f"{now} mx postfix/smtpd[1]: x policyd[1]: {line}",
        f"{now} mx app: Nov 23 17:00:00 mx policyd[1]: {line}",
    ]
    assert banned(tmp_path, others) == []
    assert banned(tmp_path, [f"{now} mx policyd[1]: {line}"]) == [INNOCENT]


def test_jail_is_one_that_fail2ban_takes(tmp_path):
    """With the configuration that its package brings."""
    there = tmp_path / "fail2ban"
    shutil.copytree("/etc/fail2ban", there)
    shutil.copytree(CONTRIB, there, dirs_exist_ok=True)
    (there / "jail.d" / "defaults-debian.conf").unlink(missing_ok=True)
    (tmp_path / "mail.log").touch()
    jail = there / "jail.d" / "policyd.conf"
    jail.write_text(jail.read_text().replace("/var/log/mail.log", str(tmp_path / "mail.log")))
    done = subprocess.run(
        ["fail2ban-client", "-c", str(there), "-d"], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "['start', 'policyd']" in done.stdout
    assert "['set', 'policyd', 'maxretry', 20]" in done.stdout
