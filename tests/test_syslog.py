"""Where the audit's lines go, with real sockets and pipes: nothing blocks, nothing is lost in silence."""

import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from policyd.audit import AuditLog
from policyd.model import Action, Decision, Request, Rule
from policyd.settings import AuditSettings
from policyd.syslog import NOTICE, WARNING, SyslogSink, open_sink

DECISION = Decision(Action.DUNNO, Rule.DEFAULT)
SOON_SECONDS = 2.0  # far more than what never blocks needs, far less than a test may wait
HEAD = r"\w{3} [ \d]\d \d\d:\d\d:\d\d "


@pytest.fixture
def sockets():
    """Sockets that are closed when the test ends."""
    opened: list[socket.socket] = []
    yield opened
    for each in opened:
        each.close()


def listen(path: Path, sockets: list[socket.socket]) -> socket.socket:
    """A syslog daemon's socket."""
    path.unlink(missing_ok=True)
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sockets.append(log)
    log.bind(str(path))
    return log


def read_all(log: socket.socket) -> list[str]:
    """Every line that waits in *log*."""
    lines = []
    while True:
        try:
            lines.append(log.recv(65536).decode())
        except BlockingIOError:
            return lines


def test_line_is_in_the_form_that_syslog_daemons_expect(tmp_path, sockets):
    """Facility mail and severity notice make <21>; the identifier is what filters look for."""
    log = listen(tmp_path / "log", sockets)
    sink = open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log"))
    assert sink.send(NOTICE, "event=started")
    (line,) = read_all(log)
    assert re.fullmatch(rf"<21>{HEAD}policyd\[{os.getpid()}\]: event=started", line)
    sink.close()


def test_facility_is_the_one_that_is_set(tmp_path, sockets):
    """local3 (19) and warning (4) make <156>."""
    log = listen(tmp_path / "log", sockets)
    sink = open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log", facility="local3"))
    assert sink.send(WARNING, "x")
    assert read_all(log)[0].startswith("<156>")
    sink.close()


def test_full_queue_takes_no_time_and_every_missing_line_is_counted(tmp_path, sockets):
    """A syslog daemon that hangs must not make mail wait, nor lose lines without a trace."""
    log = listen(tmp_path / "log", sockets)
    audit = AuditLog(AuditSettings(), open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log")))
    started = time.monotonic()
    for _ in range(5000):
        audit.decided(Request(), DECISION, 0)
    assert time.monotonic() - started < SOON_SECONDS
    came = read_all(log)
    audit.decided(Request(), DECISION, 0)
    warning, after = read_all(log)
    assert 0 < len(came) < 5000
    assert warning.endswith(f': warning="syslog took no lines for a while", dropped={5000 - len(came)}')
    assert "action=DUNNO" in after
    audit.close()


def test_syslog_daemon_that_restarts_misses_only_what_was_said_meanwhile(tmp_path, sockets):
    """Log rotation and upgrades restart syslogd; ours must not need a restart, too."""
    path = tmp_path / "log"
    log = listen(path, sockets)
    audit = AuditLog(AuditSettings(), open_sink(AuditSettings(syslog=f"unix:{path}")))
    audit.warned("first")
    assert len(read_all(log)) == 1
    log.close()
    for number in range(3):
        audit.warned(f"lost {number}")
    path.unlink()
    audit.warned("lost 3")
    log = listen(path, sockets)
    audit.warned("second")
    missing, second = read_all(log)
    assert missing.endswith("dropped=4")
    assert second.endswith("warning=second")
    audit.close()


def test_quick_restart_of_the_syslog_daemon_loses_nothing(tmp_path, sockets):
    """The old socket is gone and a new one is there: the very next line goes to the new one."""
    path = tmp_path / "log"
    log = listen(path, sockets)
    sink = open_sink(AuditSettings(syslog=f"unix:{path}"))
    assert sink.send(NOTICE, "first")
    log.close()
    log = listen(path, sockets)
    assert sink.send(NOTICE, "second")
    assert read_all(log)[0].endswith(": second")
    sink.close()


def test_syslog_that_comes_later_is_found(tmp_path, sockets):
    """At boot the daemon may be there before the syslog."""
    sink = open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log"))
    assert not sink.send(NOTICE, "too early")
    log = listen(tmp_path / "log", sockets)
    assert sink.send(NOTICE, "now")
    assert len(read_all(log)) == 1
    sink.close()


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "[::1]")])
def test_udp_carries_the_host_name(family, host, sockets):
    """A central log must know who speaks. Source: RFC 3164 §4.1.2."""
    log = socket.socket(family, socket.SOCK_DGRAM)
    sockets.append(log)
    try:
        log.bind((host.strip("[]"), 0))
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")
    log.settimeout(SOON_SECONDS)
    sink = open_sink(AuditSettings(syslog=f"udp:{host}:{log.getsockname()[1]}"))
    assert sink.send(NOTICE, "event=started")
    name = re.escape(socket.gethostname())
    assert re.fullmatch(rf"<21>{HEAD}{name} policyd\[\d+\]: event=started", log.recv(65536).decode())
    sink.close()


def test_udp_port_where_nobody_listens_costs_nothing_but_the_lines(sockets):
    """The refusal of one datagram comes back with the next; it must not be taken for the end."""
    log = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sockets.append(log)
    log.bind(("127.0.0.1", 0))
    address = log.getsockname()
    sink = open_sink(AuditSettings(syslog=f"udp:127.0.0.1:{address[1]}"))
    log.close()
    for _ in range(3):
        sink.send(NOTICE, "into the void")
    log = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sockets.append(log)
    log.bind(address)
    log.settimeout(SOON_SECONDS)
    assert sink.send(NOTICE, "heard")
    assert log.recv(65536).endswith(b": heard")
    sink.close()


def test_name_is_looked_up_once_and_not_at_each_line(sockets):
    """A name server that does not answer must not stop the mail."""
    sink = open_sink(AuditSettings(syslog="udp:localhost:514"))
    assert isinstance(sink, SyslogSink)
    assert sink._address[0] in ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["..", "no-such-host.invalid"])
def test_host_without_an_address_takes_no_lines_and_raises_nothing(host):
    """A line that can't go is counted; it is never an exception in the middle of an answer."""
    sink = open_sink(AuditSettings(syslog=f"udp:{host}:514"))
    assert not sink.send(NOTICE, "x")
    sink.close()


def test_path_longer_than_sockets_have_takes_no_lines_and_raises_nothing():
    """As before: where the log can't be reached, the answers go on."""
    sink = open_sink(AuditSettings(syslog=f"unix:/{'x' * 200}"))
    assert not sink.send(NOTICE, "x")
    sink.close()


def test_none_takes_everything():
    """Who wants no log is not told that lines are missing."""
    assert open_sink(AuditSettings(syslog="none")).send(NOTICE, "x")


FLOOD = """
from policyd.settings import AuditSettings
from policyd.syslog import NOTICE, open_sink
sink = open_sink(AuditSettings(syslog="stderr"))
print(sum(sink.send(NOTICE, f"{number} " + "x" * 200) for number in range(3000)))
"""


def test_stderr_that_nobody_reads_blocks_nothing_and_gets_whole_lines():
    """A container runtime that stalls must not stall the mail."""
    with subprocess.Popen([sys.executable, "-c", FLOOD], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as flood:
        assert flood.stdout
        assert flood.stderr
        ready, _, _ = select.select([flood.stdout], [], [], 20)
        if not ready:
            flood.kill()
        assert ready, "the sink blocked on a pipe that nobody reads"
        taken = int(flood.stdout.read())
        lines = flood.stderr.read().decode().splitlines()
    assert 0 < taken < 3000
    assert lines == [f"{number} {'x' * 200}" for number in range(taken)]
