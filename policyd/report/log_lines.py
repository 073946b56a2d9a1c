"""Splits a log into what policyd logged, and when: of whatever wrote the log, with whatever stands between.

The form is found for each line: that of syslog, with the traditional time or an ISO one, of RFC 5424, of journalctl
(short, short-iso, short-full, short-unix, json, export), of `docker logs` and compose, and no head at all. A line
counts as policyd's by the identifier in its head: what another program quotes is no line of ours.
"""

import json
import re
from calendar import month_abbr
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, BinaryIO, NamedTuple

_LINE_LIMIT = 1 << 17  # bytes: of a longer line, which nobody's log has, the rest is left out
_PROCESSES = 1000  # whose lines may be missing
_TAGS = r"policyd(?:\.service)?|rsyslogd|systemd-journald"
_OTHERS = ("rsyslogd", "systemd-journald")  # who say how many lines they threw away
_MONTHS = {name: number for number, name in enumerate(month_abbr) if name}  # in English, since nobody calls setlocale
_TRADITIONAL = r"(?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) (?P<clock>\d\d:\d\d:\d\d)(?P<fraction>\.\d+)?"
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z|[+-]\d\d:?\d\d))?"
_STAMP = (
    rf"(?:{_TRADITIONAL}|(?P<iso>{_ISO})|[A-Z][a-z]{{2}} (?P<full>{_ISO}) (?P<zone>[\w+:-]+)|(?P<unix>\d{{9,10}}\.\d+))"
)
# In front of the time: the container, as compose has it, the file, as grep has it, and a priority.
_BEFORE = r"(?:[^\s|]+ +\| +)?(?:(?!\d{4}-)[^\s:]+:(?:\d+:)?)?(?:<\d{1,3}>)?"
_HOST = r"(?:\S+ )?(?:[a-z0-9]+\.[a-z]+ )?"  # the host, and in BusyBox the facility and severity
_HEAD = re.compile(
    rf"{_BEFORE}{_STAMP} (?:\S+ )?(?:[a-z0-9]+\.[a-z]+ )?(?P<tag>{_TAGS})(?:\[(?P<pid>\d{{1,10}})\])?: ?"
)
_HEAD_5424 = re.compile(rf"(?:<\d{{1,3}}>)?1 {_STAMP} \S+ (?P<tag>{_TAGS}) (?P<pid>\S+) \S+ (?:-|\[.*?\]) \ufeff?")
_BARE = re.compile(
    rf"{_BEFORE}(?:{_STAMP} )?(?=(?:\{{\"(?:action|change|event|warning)\": |(?:action|change|event|warning)=))"
)
_STAMPED = re.compile(rf"{_BEFORE}(?:1 )?{_STAMP} ")
_JOURNALLED = re.compile(r'"?__REALTIME_TIMESTAMP(?:=|" ?: ?")(\d{1,17})')
_OLD = re.compile(rb"(?:[^\s|]+ +\| +)?(?:<\d{1,3}>)?([A-Z][a-z]{2}) ([ \d]\d) \d\d:")
_WORDS = re.compile(rb'policyd|(?:action|event|warning|change)[=\\"]')  # each line of ours has one of them
_BREAKS = ("#012", "\\n")  # a line break at the end, as rsyslog and others escape it
_EXPORTED = re.compile(rb"([A-Z_][A-Z0-9_]{0,63})(?:=(.*))?\n?", re.DOTALL)
_LOST = re.compile(
    r"lost (?P<lost>\d{1,12}) messages from pid (?P<pid>\d{1,10}) due to rate-limiting"
    r"|pid: (?P<other_pid>\d{1,10}),.*?(?P<other_lost>\d{1,12}) messages lost due to rate-limiting"
    r"|Suppressed (?P<suppressed>\d{1,12}) messages from \S*policyd\S*"
)
_BACKWARD_DAYS = 10  # by which lines may be out of order; what is further back is of the next year
_YEAR_DAYS = 372  # of months of 31 days
_DAY = 86400


class Logged(NamedTuple):
    """What policyd logged, without what the log put before it, and when in Unix seconds; None where nobody says."""

    at: float | None
    text: str


class Years:
    """The years of times that have none, such as `Nov 25 14:28:01`, from line to line of one log, in local time.

    The first is so many *turns* of a year before the last, which is none later than *end*, in Unix seconds. Nor is any
    other: where the turns to come were not known, a year too late is noticed then.
    """

    def __init__(self, end: float, first: tuple[int, int], last: tuple[int, int], turns: int) -> None:
        self._end = end
        self._year = _latest_year(end, *last) - turns
        self._date = first
        self._minute, self._begins, self._latest = "", 0.0, 0.0

    def at(self, month: int, day: int, clock: str) -> float | None:
        """The moment of a line, after those before it; None where it is none."""
        self._year += turn(self._date, (month, day))
        self._date = (month, day)
        minute = f"{self._year} {month} {day} {clock[:5]}"
        if minute != self._minute:
            try:
                first, second = (
                    datetime(self._year, month, day, int(clock[:2]), int(clock[3:5]), fold=fold)
                    .astimezone()
                    .timestamp()
                    for fold in (0, 1)
                )
            except (ValueError, OverflowError, OSError):
                return None
            # In the hour that the clock goes through twice, it is the second time where it was later before.
            self._minute, self._begins = minute, second if second > first and first < self._latest - 600 else first
        at = self._begins + int(clock[6:8])
        if at > self._end + _DAY:
            self._year -= 1
            return self.at(month, day, clock)
        self._latest = at
        return at


def turn(date: tuple[int, int], following: tuple[int, int]) -> int:
    """How many years, -1 to 1, are between two dates of lines in a log, each a month and a day."""
    if date == following:
        return 0
    forward = (following[0] * 31 + following[1] - date[0] * 31 - date[1]) % _YEAR_DAYS
    if forward >= _YEAR_DAYS - _BACKWARD_DAYS:
        return -1 if following > date else 0
    return 1 if following < date else 0


def _latest_year(end: float, month: int, day: int) -> int:
    """The latest year in which this day is none after *end*; a day more is for another zone, or a clock."""
    latest = datetime.fromtimestamp(end + _DAY).astimezone().date()
    for year in range(latest.year, latest.year - 8, -1):
        try:
            if date(year, month, day) <= latest:
                return year
        except ValueError:  # the 29th of February, of another year
            continue
    return latest.year


def years_of(stream: BinaryIO, end: float) -> Years | None:
    """The years of the log in *stream*, which ended at *end*; None where its times have one.

    To know them, the whole log is looked through, but not where its first lines have a year.
    """
    first = last = None
    turns = 0
    for number, line in enumerate(iter(lambda: stream.readline(_LINE_LIMIT), b"")):
        if found := _OLD.match(line):
            date = _MONTHS.get(found[1].decode(), 1), int(found[2])
            turns += turn(last, date) if last else 0
            first, last = first or date, date
        elif first is None and number > 1000:
            return None
    return Years(end, first, last, turns) if first and last else None


class LogReader:
    """Reads *stream*, a log that ended at *end*, in Unix seconds, or goes on until then.

    *years* are those of the log where that is known; else they are counted back from *end* at the first line.
    Afterwards, `lines` is how many there were, `untimed` how many of ours had no time, `lost` how many a log says that
    it threw away.
    """

    def __init__(self, stream: BinaryIO, end: float, years: Years | None = None) -> None:
        self._stream = stream
        self._end = end
        self._years = years
        self._processes: set[str] = set()
        self._lost: Counter[str] = Counter()
        self.lines = 0
        self.untimed = 0

    @property
    def lost(self) -> int:
        """How many lines of ours the log says that it threw away."""
        return sum(count for process, count in self._lost.items() if not process or process in self._processes)

    def __iter__(self) -> Iterator[Logged]:
        """What policyd logged, line by line."""
        for line in self._lines():
            self.lines += 1
            if line.startswith(b"__") and _EXPORTED.fullmatch(line):
                logged = self._exported(line)
            elif _WORDS.search(line) is None:
                if b"rate-limit" in line or b"Suppressed" in line:
                    self._read(line)
                continue
            else:
                logged = self._read(line)
            if logged is not None:
                self.untimed += logged.at is None
                yield logged

    def time_of(self, raw: bytes) -> float | None:
        """The moment of a line, whoever logged it."""
        line = raw.decode("utf-8", "surrogateescape")
        if found := _JOURNALLED.search(line):
            return int(found[1]) / 1_000_000
        stamped = _STAMPED.match(line)
        return self._time(stamped) if stamped else None

    def _lines(self) -> Iterator[bytes]:
        """The lines of the stream, each no longer than the limit."""
        while line := self._next_line():
            yield line

    def _next_line(self) -> bytes:
        """The next line, b"" at the end; of one that is too long the beginning."""
        line = rest = self._stream.readline(_LINE_LIMIT)
        while rest and not rest.endswith(b"\n"):
            rest = self._stream.readline(_LINE_LIMIT)
        return line

    def _read(self, raw: bytes) -> Logged | None:
        """What policyd logged in a line; None where it is another's."""
        line = _stripped(raw.decode("utf-8", "surrogateescape"))
        if line.startswith("{") and not line.startswith(('{"action": ', '{"change": ', '{"event": ', '{"warning": ')):
            return self._in_json(line)
        found = _HEAD.match(line) or _HEAD_5424.match(line)
        if found is None:
            found = _BARE.match(line)
            return Logged(self._time(found), line[found.end() :]) if found else None
        text = line[found.end() :]
        process = found["pid"] or ""
        if found["tag"] in _OTHERS:
            self._note_lost(text)
            return None
        if len(self._processes) < _PROCESSES:
            self._processes.add(process)
        return Logged(self._time(found), text)

    def _note_lost(self, text: str) -> None:
        """Count what syslog says that it threw away; whose it was is known at the end."""
        found = _LOST.search(text)
        if found is None:
            return
        process = found["pid"] or found["other_pid"] or ""
        if process in self._lost or len(self._lost) < _PROCESSES:
            self._lost[process] += int(found["lost"] or found["other_lost"] or found["suppressed"])

    def _time(self, found: re.Match[str]) -> float | None:
        """The moment that a head tells."""
        if found["month"]:
            month, day = _MONTHS.get(found["month"], 0), int(found["day"])
            if not month:
                return None
            if self._years is None:
                self._years = Years(self._end, (month, day), (month, day), 0)
            at = self._years.at(month, day, found["clock"])
            return at + float(found["fraction"] or 0) if at is not None else None
        if found["unix"]:
            return float(found["unix"])
        text = found["iso"] or found["full"]
        return _iso_time(f"{text}Z" if found["zone"] in ("UTC", "GMT") else text) if text else None

    def _in_json(self, line: str) -> Logged | None:
        """What policyd logged, in an entry of `journalctl -o json`, or of a container's log."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(entry, dict):
            return None
        if isinstance(text := entry.get("log"), str):  # a container's: what it wrote is the line
            found = _BARE.match(text)
            at = _iso_time(str(entry.get("time", "")).replace("Z", "+00:00"))
            return Logged(at, _stripped(text[found.end() :])) if found else None
        return self._entry(entry)

    def _exported(self, line: bytes) -> Logged | None:
        """What policyd logged, in the entry of `journalctl -o export` that begins with *line*; None if another did."""
        entry: dict[str, Any] = {}
        while line.strip(b"\n"):
            found = _EXPORTED.fullmatch(line)
            if found is None:
                break
            name, value = found[1].decode(), found[2]
            if value is None:  # its length, as 64 bits, the lowest first, the bytes, and a line break
                length = int.from_bytes(self._stream.read(8), "little")
                value = self._stream.read(min(length, _LINE_LIMIT))
                left = length - len(value)
                while left > 0 and (skipped := self._stream.read(min(left, _LINE_LIMIT))):
                    left -= len(skipped)
                self._next_line()
            if name in ("MESSAGE", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_PID", "__REALTIME_TIMESTAMP"):
                entry[name] = value.decode("utf-8", "surrogateescape").removesuffix("\n")
            line = self._next_line()
        return self._entry(entry)

    def _entry(self, entry: dict[str, Any]) -> Logged | None:
        """What policyd logged, in an entry of the journal."""
        message = entry.get("MESSAGE")
        if isinstance(message, list):  # bytes that don't print
            try:
                message = bytes(message).decode("utf-8", "surrogateescape")
            except (ValueError, TypeError):
                message = None
        tag = str(entry.get("SYSLOG_IDENTIFIER", ""))
        if tag in _OTHERS and isinstance(message, str):
            self._note_lost(message)
        if tag != "policyd":
            return None
        if len(self._processes) < _PROCESSES:
            self._processes.add(str(entry.get("SYSLOG_PID") or entry.get("_PID") or ""))
        try:
            at = int(str(entry["__REALTIME_TIMESTAMP"])) / 1_000_000
        except (KeyError, ValueError, OverflowError):
            at = None
        return Logged(at, _stripped(message) if isinstance(message, str) else "")


def _stripped(line: str) -> str:
    """*line* without its end, however that is written."""
    line = line.rstrip()
    while line.endswith(_BREAKS):
        line = line[: -len("#012")] if line.endswith("#012") else line[:-2]
    return line


def _iso_time(text: str) -> float | None:
    """An ISO time in Unix seconds, local where it has no zone; None where it is none."""
    text = re.sub(r"[.,](\d{1,6})\d*", r".\1", text)  # Python reads no more digits
    try:
        return datetime.fromisoformat(re.sub(r" (?=[+-]|Z)", "", text)).timestamp()
    except (ValueError, OverflowError):
        return None
