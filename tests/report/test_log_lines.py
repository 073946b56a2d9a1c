"""What policyd logged, and when, is read out of whatever log it stands in."""

import io
import os
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policyd.errors import LogError
from policyd.report.log_files import Log
from policyd.report.log_lines import Logged, LogReader, years_of
from tests.core.test_audit import HOSTILE, PERMITTED, REQUEST, line_of
from tests.support.log_formats import FORMATS, traditional
from tests.support.required import need_program

NOON = datetime(2026, 11, 25, 12).astimezone().timestamp()
LINES = [
    line_of(REQUEST._replace(sender=value, sasl_username=value), PERMITTED)
    for value in [*HOSTILE.values(), "a@b.example"]
]
TIMED = [(NOON + number, line) for number, line in enumerate(LINES)]


@pytest.fixture
def in_berlin(monkeypatch):
    """A zone that puts its clock back."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def read(content: bytes, end: float = NOON + 3600) -> list[Logged]:
    """What the reader finds in a log that ended then."""
    return [*LogReader(io.BytesIO(content), end, years_of(io.BytesIO(content), end))]


def in_file(folder: Path, content: bytes, end: float = NOON + 3600) -> list[Logged]:
    """What is found in a file that was last written then."""
    file = folder / "mail.log"
    file.write_bytes(content)
    os.utime(file, (end, end))
    return [*Log([file])]


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_every_form_of_a_log_is_read(write, tmp_path):
    """Each line of ours, hostile as its values may be, at its moment; and none of others."""
    found = in_file(tmp_path, write(TIMED))
    assert [line for _, line in found] == LINES
    assert [at for at, _ in found] == pytest.approx([at for at, _ in TIMED])


def test_lines_without_a_time_are_read():
    """`journalctl -o cat`, or the stderr of the daemon."""
    assert read("\n".join(LINES).encode()) == [(None, line) for line in LINES]


def test_forms_may_be_mixed_in_one_log():
    """The settings of syslog were changed meanwhile."""
    content = b"".join(write(TIMED[:1]) for name, write in FORMATS.items() if name not in ("gzip", "xz", "bzip2"))
    assert {line for _, line in read(content)} == {LINES[0]}


@pytest.mark.parametrize("name", ["rsyslog, ISO times", "journalctl -o json", "journalctl -o export"])
@given(data=st.data())
def test_no_bytes_make_it_fail(name, data):
    """Logs are cut by full disks, and spoiled by whatever comes over the network."""
    content = bytearray(FORMATS[name](TIMED[:3]))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=30))
    read(bytes(content))


@given(st.binary())
@example(b"__CURSOR=1\nMESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffx")
@example(b'{"MESSAGE": [300], "SYSLOG_IDENTIFIER": "policyd"}')
@example(b'{"log": "action=", "time": "9999-99-99"}\n{"MESSAGE"' + b"[" * 100_000)
@example(b"Feb 30 25:61:99 mx policyd[1]: action=\n" * 2)
def test_any_bytes_are_read(content):
    """No traceback, whatever is called a log."""
    read(content)


def test_line_without_an_end_takes_no_memory():
    """A file of a hundred megabytes may hold no line break at all."""
    content = io.BytesIO(b"x" * 1_000_000 + b"\n" + FORMATS["traditional"](TIMED[:1]))
    assert [line for _, line in LogReader(content, NOON + 3600)] == LINES[:1]


@pytest.mark.parametrize(
    ("end", "clocks", "expected"),
    [
        pytest.param("2026-11-26", ["Nov 25"], ["2026-11-25"], id="of this year"),
        pytest.param("2027-01-02", ["Dec 31", "Jan  1"], ["2026-12-31", "2027-01-01"], id="over the new year"),
        pytest.param("2026-11-26", ["Dec 24"], ["2025-12-24"], id="of the last year"),
        pytest.param(
            "2026-11-26",
            ["Nov 20", "May  1", "Nov 24", "Mar  1", "Nov 25"],
            ["2024-11-20", "2025-05-01", "2025-11-24", "2026-03-01", "2026-11-25"],
            id="of more than two years",
        ),
        pytest.param(
            "2027-01-02", ["Jan  1", "Dec 31", "Jan  1"], ["2027-01-01", "2026-12-31", "2027-01-01"], id="out of order"
        ),
        pytest.param("2026-11-26", ["Feb 29"], ["2024-02-29"], id="a day of a leap year"),
    ],
)
def test_year_that_a_log_leaves_out_is_counted_back_from_its_end(end, clocks, expected):
    """It is never later than when the file was last written."""
    content = "".join(f"{each} 12:00:00 mx policyd[1]: {LINES[0]}\n" for each in clocks).encode()
    found = read(content, datetime.fromisoformat(end).astimezone().timestamp())
    assert [datetime.fromtimestamp(at or 0).astimezone().date().isoformat() for at, _ in found] == expected


def test_no_line_of_a_pipe_is_later_than_now():
    """Nobody can look through a pipe before, to count its years."""
    content = "".join(
        f"{each} 12:00:00 mx policyd[1]: {LINES[0]}\n" for each in ["Nov 20", "May  1", "Dec  1"]
    ).encode()
    end = datetime(2026, 11, 26).astimezone().timestamp()
    years = [datetime.fromtimestamp(at or 0).astimezone().year for at, _ in LogReader(io.BytesIO(content), end)]
    assert years == [2026, 2026, 2026 - 1]


@pytest.mark.usefixtures("in_berlin")
def test_hour_that_comes_twice_comes_in_order():
    """In the night in which the clock is put back."""
    midnight = datetime(2026, 10, 25).astimezone().timestamp()
    moments = [midnight + hour * 3600 + minute * 60 for hour in range(5) for minute in (5, 50)]
    content = "".join(f"{traditional(at)} mx policyd[1]: {LINES[0]}\n" for at in moments).encode()
    assert [at for at, _ in read(content, moments[-1] + 60)] == moments


def test_rotated_files_are_read_with_the_log(tmp_path):
    """From the oldest to the newest, whatever they are called, and none twice."""
    days = [TIMED[0][0] - day * 86400 for day in range(4)]
    old = [[(at, LINES[number])] for number, at in enumerate(days)]
    contents = {
        "mail.log": FORMATS["traditional"](old[0]),
        "mail.log.1": FORMATS["traditional"](old[1]),
        "mail.log-20261123.gz": FORMATS["gzip"](old[2]),
        "mail.log.3.xz": FORMATS["xz"](old[3]),
        "mail.log.4": FORMATS["traditional"](old[1]),  # a copy
        "mail.log.old": FORMATS["traditional"](old[2]),  # nothing that logrotate makes
        "mail.log.5.gz": b"\x1f\x8b damaged",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name, at in zip(["mail.log", "mail.log.1", "mail.log-20261123.gz", "mail.log.3.xz"], days, strict=True):
        os.utime(tmp_path / name, (at + 60, at + 60))
    os.utime(tmp_path / "mail.log.4", (days[1] + 60, days[1] + 60))
    log = Log([tmp_path / "mail.log"])
    assert [line for _, line in log] == LINES[3::-1]
    assert log.reading.problems == [f"{tmp_path}/mail.log.5.gz: it is damaged after 0 lines; what follows is missing"]


def test_what_was_written_before_is_left_out(tmp_path):
    """A year of rotated files is not unpacked for yesterday's."""
    for name, at in (("mail.log", NOON), ("mail.log.1", NOON - 86400)):
        (tmp_path / name).write_bytes(FORMATS["traditional"]([(at, LINES[0])]))
        os.utime(tmp_path / name, (at + 60, at + 60))
    assert len(Log([tmp_path / "mail.log"], int(NOON)).reading.names) == 1


def test_compressed_file_that_is_cut_is_read_up_to_there(tmp_path):
    """A disk was full; what there is counts, and that something is missing is told."""
    (tmp_path / "mail.log.gz").write_bytes(FORMATS["gzip"](TIMED * 500)[:2000])
    log = Log([tmp_path / "mail.log.gz"])
    assert 0 < len([*log]) < len(TIMED) * 500
    (problem,) = log.reading.problems
    assert problem.startswith(f"{tmp_path}/mail.log.gz: it is damaged after ")


def test_lines_that_syslog_threw_away_are_counted():
    """Only ours: another program's are nobody's business here."""
    content = FORMATS["traditional"](TIMED[:1]) + (
        b"Nov 25 12:00:09 mx rsyslogd: imuxsock lost 17 messages from pid 4242 due to rate-limiting\n"
        b"Nov 25 12:00:09 mx rsyslogd: imuxsock lost 5 messages from pid 77 due to rate-limiting\n"
        b"Nov 25 12:00:09 mx rsyslogd: imuxsock[pid: 4242, name: policyd]: 3 messages lost due to rate-limiting\n"
        b"Nov 25 12:00:09 mx systemd-journald[1]: Suppressed 100 messages from policyd.service\n"
        b"Nov 25 12:00:09 mx postfix/smtpd[1]: Suppressed 1000 messages from policyd.service due to rate-limiting\n"
    )
    reader = LogReader(io.BytesIO(content), NOON + 3600)
    assert len([*reader]) == 1
    assert reader.lost == 120


def test_log_that_zstd_compressed_is_read(tmp_path):
    """Python before 3.14 does not know it: the program does."""
    need_program("zstd", "zstd")
    (tmp_path / "mail.log").write_bytes(FORMATS["traditional"](TIMED))
    os.utime(tmp_path / "mail.log", (NOON + 60, NOON + 60))
    subprocess.run(["zstd", "-q", "--rm", tmp_path / "mail.log"], check=True)
    assert [line for _, line in Log([tmp_path / "mail.log.zst"])] == LINES


def test_log_of_this_host_needs_no_name(tmp_path, monkeypatch):
    """With what it was rotated to; the first that there is of those that systems have."""
    for name, lines in (("maillog", TIMED[1:]), ("maillog-20261124", TIMED[:1])):
        (tmp_path / name).write_bytes(FORMATS["traditional"](lines))
        os.utime(tmp_path / name, (NOON + 60, NOON + 60))
    monkeypatch.setattr("policyd.report.log_files.USUAL_LOGS", (f"{tmp_path}/mail.log", f"{tmp_path}/maillog"))
    assert [line for _, line in Log([])] == LINES


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A host that has no mail log, but a journal; in the file, with what `journalctl` was called."""
    program = tmp_path / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\ncat {tmp_path}/entries\n')
    program.chmod(0o755)
    (tmp_path / "entries").write_bytes(FORMATS["journalctl -o json"](TIMED))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("policyd.report.log_files.USUAL_LOGS", ())
    return tmp_path / "called"


def test_journal_is_the_log_where_there_is_no_other(journal):
    """As on a Debian of today."""
    log = Log([], int(NOON))
    assert [line for _, line in log] == LINES
    assert journal.read_text() == f"--no-pager -q -o json --all -t policyd --since=@{int(NOON)}\n"
    assert log.reading.names == ["the journal"]


def test_host_without_a_log_says_so(monkeypatch, tmp_path):
    """Neither syslog nor journald is there: as in a container."""
    monkeypatch.setattr("policyd.report.log_files.USUAL_LOGS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LogError, match=r"this host has neither /var/log/mail\.log nor a journal; name the log"):
        Log([])
