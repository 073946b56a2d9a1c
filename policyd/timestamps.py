"""Converts ISO 8601 dates, spans and counts of seconds to Unix seconds, and back."""

import re
from datetime import UTC, datetime, time

END_OF_TIME = 253_370_764_800  # the year 9999 begins: later moments can't be shown in every time zone

_FIRST_COUNT = 100_000_000  # in 1973; fewer seconds are a year or a date, such as 2099 and 20991231
_COUNT = re.compile(r"\d{9,10}", re.ASCII)  # of 8 digits is a date, of 11 and more a date with a time, or milliseconds
_ISO = re.compile(r"(?:\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d-?\d)([Tt ].+)?", re.ASCII)
_SPAN = re.compile(r"([+-])(\d{1,6})([mhdw])", re.ASCII)
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_LAST_OF_DAY = time(23, 59, 59, fold=1)  # the later one, where the clock is put back at midnight


def is_time(seconds: int) -> bool:
    """Whether *seconds* can be shown as a time."""
    return 0 < seconds < END_OF_TIME


def read_iso(text: str, *, is_end: bool = False) -> int:
    """An ISO 8601 date or date-time in Unix seconds, local unless it says.

    A date alone is its first second; of an end (*is_end*), which lasts to the end of the day, its last.
    Where the clock is put back, a time that exists twice is the first; one that it leaves out is as much later.
    Raises ValueError for what is none, and from the year 9999 on.
    """
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError("no ISO date")
    moment = datetime.fromisoformat(text)
    if is_end and found[1] is None:
        moment = datetime.combine(moment, _LAST_OF_DAY)
    try:
        seconds = int(moment.timestamp())
    except OverflowError as error:
        raise ValueError("beyond what can be counted") from error
    if seconds >= END_OF_TIME:
        raise ValueError("beyond what can be shown")
    return seconds


def read_when(text: str, now: float, *, is_end: bool) -> int:
    """A time as it is typed: as `read_iso`, or a span from *now* such as +30d or -12h. Raises ValueError."""
    span = _SPAN.fullmatch(text)
    if span is None:
        return read_iso(text, is_end=is_end)
    seconds = int(now) + int(f"{span[1]}{span[2]}") * _SECONDS[span[3]]
    if seconds >= END_OF_TIME:
        raise ValueError("beyond what can be shown")
    return seconds


def read_stored(value: str | int, *, is_end: bool) -> int:
    """A time as it stands in a file: as `read_iso`, or a count of Unix seconds, as a number or in digits.

    Counts that mean something else are none: a year, a date without its dashes, milliseconds. Raises ValueError.
    """
    if isinstance(value, str):
        if _COUNT.fullmatch(value) is None:
            return read_iso(value, is_end=is_end)
        value = int(value)
    if not _FIRST_COUNT <= value < END_OF_TIME:
        raise ValueError("no count of seconds")
    return value


def show_local(seconds: int) -> str:
    """*seconds* as ISO 8601 in local time, with the offset; as the number where that is no time."""
    if not is_time(seconds):
        return str(seconds)
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")


def show_utc(seconds: int) -> str:
    """*seconds* as ISO 8601, UTC; as the number where that is no time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat() if is_time(seconds) else str(seconds)


def day_in_words(seconds: int, now: int, *, is_end: bool = False) -> str:
    """The local day of *seconds*, as `31 December`, with the year where that is not the one of *now*.

    Of what *is_end* the time is said, too, unless that is the end of its day. As the number where it is no time.
    """
    if not is_time(seconds):
        return str(seconds)
    moment = datetime.fromtimestamp(seconds).astimezone()
    text = f"{moment.day} {_MONTHS[moment.month - 1]}"
    if moment.year != datetime.fromtimestamp(now).astimezone().year:
        text = f"{text} {moment.year}"
    if is_end and moment.time() != _LAST_OF_DAY.replace(fold=0):
        text = f"{text}, {moment:%H:%M}"
    return text
