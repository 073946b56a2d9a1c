"""Logs as syslog daemons, journalctl and containers write them, of given lines: each with its moment in Unix seconds.

Lines of other programs stand in between, some with words of ours in them.
"""

import bz2
import gzip
import json
import lzma
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

Timed = Sequence[tuple[float, str]]

# What stands beside our lines: none of it is one.
OTHERS = [
    ("postfix/smtpd[77]", "connect from mx.example.net[192.0.2.7]"),
    ("postfix/smtpd[77]", "warning: policyd[1]: action=REJECT, rule=default, entry=, state=RCPT"),
    ("postfix/smtpd[77]", "NOQUEUE: reject: RCPT from x[192.0.2.7]: 554 5.7.1 <b@example.com>: action=DUNNO"),
    ("policyd-spf[5]", "action=DUNNO, rule=default"),
    ("dovecot", "imap(bob): Info: event=started \u202e \udcff"),
]


def _with_others(timed: Timed) -> Iterator[tuple[float, str, str]]:
    for number, (at, line) in enumerate(timed):
        if number % 7 == 0:
            tag, text = OTHERS[number // 7 % len(OTHERS)]
            yield at, tag, text
        yield at, "policyd[4242]", line


def _plain(stamp: Callable[[float], str], between: str = " mx ") -> Callable[[Timed], bytes]:
    def write(timed: Timed) -> bytes:
        lines = [f"{stamp(at)}{between}{tag}: {text}\n" for at, tag, text in _with_others(timed)]
        return "".join(lines).encode("utf-8", "surrogateescape")

    return write


def _local(form: str) -> Callable[[float], str]:
    return lambda at: datetime.fromtimestamp(at).astimezone().strftime(form)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="microseconds")


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def traditional(at: float) -> str:
    """`Nov  5 14:28:01`, in local time."""
    return time.strftime("%b %e %H:%M:%S", time.localtime(at))


def _entries(timed: Timed) -> Iterator[dict[str, str]]:
    for at, tag, text in _with_others(timed):
        name, _, process = tag.rstrip("]").partition("[")
        microseconds = str(round(at * 1_000_000))
        yield {
            "__CURSOR": f"s=1;i={microseconds}",
            "__REALTIME_TIMESTAMP": microseconds,
            "_HOSTNAME": "mx",
            "SYSLOG_IDENTIFIER": name,
            "SYSLOG_PID": process or "1",
            "MESSAGE": text,
        }


def _journal_json(timed: Timed) -> bytes:
    """Every second message as bytes, as journalctl writes what doesn't print."""
    lines = []
    for number, entry in enumerate(_entries(timed)):
        message = entry["MESSAGE"]
        octets = [*message.encode("utf-8", "surrogateescape")]
        is_text = number % 2 and message.isprintable()
        lines.append(json.dumps({**entry, "MESSAGE": message if is_text else octets}))
    return "\n".join([*lines, ""]).encode()


def _export(timed: Timed) -> bytes:
    """Every second message with its length in front, as systemd writes what is no plain text."""
    out = b""
    for number, entry in enumerate(_entries(timed)):
        for name, value in entry.items():
            raw = value.encode("utf-8", "surrogateescape")
            if name == "MESSAGE" and number % 2:
                out += b"MESSAGE\n" + len(raw).to_bytes(8, "little") + raw + b"\n"
            else:
                out += f"{name}=".encode() + raw + b"\n"
        out += b"\n"
    return out


def _stderr(before: Callable[[float], str]) -> Callable[[Timed], bytes]:
    """Lines as a container's stderr has them: only ours, since each container has one program."""
    return lambda timed: "".join(f"{before(at)}{line}\n" for at, line in timed).encode("utf-8", "surrogateescape")


def _docker_json(timed: Timed) -> bytes:
    return b"".join(
        json.dumps({"log": f"{line}\n", "stream": "stderr", "time": _utc(at)}).encode() + b"\n" for at, line in timed
    )


_RSYSLOG = _plain(_iso)
FORMATS: dict[str, Callable[[Timed], bytes]] = {
    "rsyslog, ISO times": _RSYSLOG,
    "traditional": _plain(traditional),
    "traditional, line breaks escaped": lambda timed: _plain(traditional)([(at, f"{line}#012") for at, line in timed]),
    "BusyBox": _plain(traditional, " mx mail.info "),
    "RFC 3164, with a priority": _plain(lambda at: f"<22>{traditional(at)}", " "),
    "RFC 5424": lambda timed: "".join(
        f"<22>1 {_utc(at)} mx {tag.partition('[')[0]} {tag.partition('[')[2].rstrip(']') or '-'} - - \ufeff{text}\n"
        for at, tag, text in _with_others(timed)
    ).encode("utf-8", "surrogateescape"),
    "journalctl -o short-precise": _plain(_local("%b %d %H:%M:%S.%f")),
    "journalctl -o short-iso": _plain(_local("%Y-%m-%dT%H:%M:%S%z")),
    "journalctl -o short-iso-precise": _plain(_local("%Y-%m-%dT%H:%M:%S.%f%z")),
    "journalctl -o short-full": _plain(_local("%a %Y-%m-%d %H:%M:%S %Z")),
    "journalctl -o with-unit": lambda timed: _plain(_local("%a %Y-%m-%d %H:%M:%S %Z"))(timed).replace(
        b" policyd[4242]: ", b" policyd.service[4242]: "
    ),
    "journalctl -o short-unix": _plain(lambda at: f"{at:.6f}"),
    "journalctl -o json": _journal_json,
    "journalctl -o export": _export,
    "docker logs -t": _stderr(lambda at: f"{_utc(at)[:-1]}789Z "),
    "docker compose logs -t": _stderr(lambda at: f"policyd-1  | {_utc(at)} "),
    "a container's file": _docker_json,
    "grep over files": lambda timed: b"".join(
        b"/var/log/mail.log:" + line for line in _RSYSLOG(timed).splitlines(keepends=True)
    ),
    "gzip": lambda timed: gzip.compress(_RSYSLOG(timed)),
    "xz": lambda timed: lzma.compress(_RSYSLOG(timed)),
    "bzip2": lambda timed: bz2.compress(_RSYSLOG(timed)),
    "CR LF": lambda timed: _RSYSLOG(timed).replace(b"\n", b"\r\n"),
}
