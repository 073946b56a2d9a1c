"""Where the audit's lines go, with real sockets and pipes: nothing blocks, nothing is lost in silence."""

import json
import os
import re
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from policyd.audit import AuditLog, open_audit
from policyd.model import Action, Decision, Request, Rule
from policyd.settings import AuditSettings, LineFormat
from policyd.syslog import INFO, LINES, NOTICE, WARNING, SyslogSink, open_sink
from tests.support.required import need_address

DECISION = Decision(Action.DUNNO, Rule.DEFAULT)
LIMIT_SECONDS = 60.0  # for what comes at once, on a machine that does much else
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


def test_each_line_has_its_own_severity_and_time(tmp_path, sockets):
    """Whatever the line before it had."""
    log = listen(tmp_path / "log", sockets)
    sink = open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log"))
    said = [(INFO, 5.0), (INFO, 5.9), (NOTICE, 5.9), (NOTICE, 6.0), (INFO, 6.0), (INFO, 5.0)]
    for severity, at in said:
        assert sink.send(severity, "x", at)
    sink.close()
    stamps = [time.strftime("%b %e %H:%M:%S", time.localtime(at)) for _, at in said]
    heads = [f"<{16 + severity}>{stamp}" for (severity, _), stamp in zip(said, stamps, strict=True)]
    assert read_all(log) == [f"{head} policyd[{os.getpid()}]: x" for head in heads]


def test_facility_is_the_one_that_is_set(tmp_path, sockets):
    """local3 (19) and warning (4) make <156>."""
    log = listen(tmp_path / "log", sockets)
    sink = open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log", facility="local3"))
    assert sink.send(WARNING, "x")
    assert read_all(log)[0].startswith("<156>")
    sink.close()


def waits() -> int:
    """How often this thread has waited for something so far: it gave the processor away of its own accord."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def test_full_queue_takes_no_time_and_every_missing_line_is_counted(tmp_path, sockets):
    """A syslog daemon that hangs must not make mail wait, nor lose lines without a trace."""
    log = listen(tmp_path / "log", sockets)
    audit = AuditLog(AuditSettings(), open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log")))
    count = 2 * LINES
    before = waits()
    for _ in range(count):
        audit.decided(Request(), DECISION, 0)
    assert waits() - before < LINES / 100, "not with each line: some are the interpreter's, or for a page"
    came = read_all(log)
    while audit.flush():
        came += read_all(log)
    audit.decided(Request(), DECISION, 0)
    *rest, warning, after = came + read_all(log)
    assert LINES < len(rest) < count
    assert warning.endswith(f': warning="syslog took no lines for a while", dropped={count - len(rest)}')
    assert "action=DUNNO" in after
    assert audit.close() == 0


def test_syslog_daemon_that_restarts_misses_nothing(tmp_path, sockets):
    """Log rotation and upgrades restart syslogd; ours must not need a restart, too."""
    path = tmp_path / "log"
    log = listen(path, sockets)
    audit = AuditLog(AuditSettings(), open_sink(AuditSettings(syslog=f"unix:{path}")))
    audit.warned("first")
    assert len(read_all(log)) == 1
    log.close()
    for number in range(3):
        audit.warned(f"meanwhile {number}")
    path.unlink()
    audit.warned("meanwhile 3")
    log = listen(path, sockets)
    assert audit.close() == 0
    said = [line.partition("warning=")[2] for line in read_all(log)]
    assert said == [f'"meanwhile {number}"' for number in range(4)]


def test_line_that_waited_says_when_it_was_said(tmp_path, sockets):
    """The hour of a refusal is the hour of the refusal."""
    log = listen(tmp_path / "log", sockets)
    sink = open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log"))
    assert sink.send(NOTICE, "x", 86400.0 * 365)
    assert time.strftime("%b %e %H:%M:%S", time.localtime(86400 * 365)) in read_all(log)[0]
    sink.close()


def test_command_does_not_wait_for_a_syslog_that_is_not_there(tmp_path):
    """A container without syslog must not make each command a second longer."""
    counts = set()
    for _ in range(20):  # some may wait for a page, or for the interpreter; a second's wait is in each
        audit = AuditLog(AuditSettings(), open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log")))
        audit.warned("x")
        before = waits()
        assert audit.close() == 1
        counts.add(waits() - before)
    assert 0 in counts


def test_lines_of_a_full_queue_go_out_at_the_end(tmp_path, sockets):
    """A command that changes more objects than the queue has room for is on record all the same."""
    log = listen(tmp_path / "log", sockets)
    log.setblocking(True)
    log.settimeout(LIMIT_SECONDS)
    audit = AuditLog(AuditSettings(), open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log")))
    for number in range(1000):
        audit.warned(str(number))
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(log.recv(65536).decode() for _ in range(1000)))
    reader.start()
    assert audit.close() == 0
    reader.join()
    assert [line.partition("warning=")[2] for line in lines] == [str(number) for number in range(1000)]


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
    need_address(family, host.strip("[]"))
    log = socket.socket(family, socket.SOCK_DGRAM)
    sockets.append(log)
    log.bind((host.strip("[]"), 0))
    log.settimeout(LIMIT_SECONDS)
    sink = open_sink(AuditSettings(syslog=f"udp:{host}:{log.getsockname()[1]}"))
    assert sink.send(NOTICE, "event=started")
    name = re.escape(socket.gethostname())
    assert re.fullmatch(rf"<21>{HEAD}{name} policyd\[\d+\]: event=started", log.recv(65536).decode())
    sink.close()


def test_line_for_udp_is_whole_json_in_a_datagram_that_every_receiver_takes(sockets):
    """1024 bytes with their head are what RFC 3164 promises; a cut object is no evidence of anything."""
    log = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sockets.append(log)
    log.bind(("127.0.0.1", 0))
    log.settimeout(LIMIT_SECONDS)
    audit = open_audit(AuditSettings(syslog=f"udp:127.0.0.1:{log.getsockname()[1]}", format=LineFormat.JSON))
    for value in ("x" * 250, "ü" * 250, "\udcff" * 60_000, "a" * 60_000):
        audit.decided(Request("RCPT", sender=f"{value}@example.net", recipient=value, client_name=value), DECISION, 0)
        datagram = log.recv(65536)
        assert len(datagram) <= 1024
        found = json.loads(datagram.partition(b"]: ")[2])
        assert found["sender"].startswith("<")
        assert found["action"] == "DUNNO"
    assert audit.close() == 0


def test_record_longer_than_the_socket_takes_goes_shorter(tmp_path, sockets):
    """It would be in the way of all others for ever."""
    log = listen(tmp_path / "log", sockets)
    sink = open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log"))
    assert sink.send(NOTICE, "first")
    assert isinstance(sink, SyslogSink)
    assert sink._socket
    sink._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel makes it some 4 KiB
    assert len(read_all(log)) == 1
    assert sink.send(NOTICE, "x" * 7000)
    (line,) = read_all(log)
    assert re.fullmatch(rf"<21>{HEAD}policyd\[\d+\]: x{{500,}}", line)
    assert sink.send(NOTICE, "last")
    sink.close()


def stream(path: Path, sockets: list[socket.socket]) -> socket.socket:
    """A syslog daemon's socket that takes streams, as syslog-ng and sysklogd may have one."""
    path.unlink(missing_ok=True)
    log = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sockets.append(log)
    log.bind(str(path))
    log.listen()
    log.settimeout(LIMIT_SECONDS)
    return log


def records(connection: socket.socket) -> list[str]:
    """All records of a stream that its peer has closed, each of which must be whole."""
    raw = b""
    while received := connection.recv(65536):
        raw += received
    *whole, rest = raw.split(b"\0")
    assert rest == b""
    return [each.decode() for each in whole]


def test_stream_is_spoken_to_as_syslog_3_does(tmp_path, sockets):
    """The record of syslog(3), with a NUL at its end."""
    log = stream(tmp_path / "log", sockets)
    sink = open_sink(AuditSettings(syslog=f"unix:{tmp_path}/log"))
    assert sink.send(NOTICE, "event=started")
    assert sink.send(WARNING, "second")
    sink.close()
    connection, _ = log.accept()
    first, second = records(connection)
    connection.close()
    assert re.fullmatch(rf"<21>{HEAD}policyd\[{os.getpid()}\]: event=started", first)
    assert re.fullmatch(rf"<20>{HEAD}policyd\[{os.getpid()}\]: second", second)


def test_full_stream_loses_and_breaks_no_line(tmp_path, sockets):
    """It may take half a line: the other half comes first when it takes more."""
    log = stream(tmp_path / "log", sockets)
    audit = open_audit(AuditSettings(syslog=f"unix:{tmp_path}/log"))
    for number in range(5000):
        audit.warned(f"{number} {'x' * (number % 400)}")
    connection, _ = log.accept()
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(records(connection)))
    reader.start()
    assert audit.close() == 0
    reader.join()
    connection.close()
    numbers = [int(re.findall(r'warning="(\d+) ', line)[0]) for line in lines]
    assert numbers == [*range(5000)]


def test_stream_that_becomes_datagrams_and_back_is_found(tmp_path, sockets):
    """An upgrade of the syslog daemon may change what its socket is."""
    path = tmp_path / "log"
    sink = open_sink(AuditSettings(syslog=f"unix:{path}"))
    log = stream(path, sockets)
    assert sink.send(NOTICE, "first")
    connection, _ = log.accept()
    assert connection.recv(65536).endswith(b": first\0")
    connection.close()
    log.close()
    other = listen(path, sockets)
    assert sink.send(NOTICE, "second")
    assert read_all(other)[0].endswith(": second")
    other.close()
    log = stream(path, sockets)
    assert sink.send(NOTICE, "third")
    connection, _ = log.accept()
    assert connection.recv(65536).endswith(b": third\0")
    connection.close()
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
    log.settimeout(LIMIT_SECONDS)
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


def test_stderr_that_was_closed_before_the_start_takes_no_lines_and_raises_nothing(monkeypatch):
    """A daemon started with 2>&- must start."""
    monkeypatch.setattr(sys, "stderr", None)
    sink = open_sink(AuditSettings(syslog="stderr"))
    assert not sink.send(NOTICE, "x")
    open_audit(AuditSettings(syslog="none")).noticed("started")
