"""Times as they are typed, as they stand in files, and as they are shown."""

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyd.timestamps import END_OF_TIME, day_in_words, read_iso, read_stored, read_when, show_local, show_utc


@pytest.fixture(params=["UTC", "Europe/Berlin", "Pacific/Kiritimati", "Etc/GMT+12"])
def zone(request, monkeypatch):
    """A local zone: at both ends of the world, and with summer time."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("day", ["2096-12-31", "20961231", "2096-W52-1", "2096-03-25", "2096-10-28"])
def test_date_alone_is_the_whole_day_of_an_end_and_its_first_second_else(day):
    """Who restricts a mailbox until Friday means Friday, too; who looks back since Friday as well."""
    first, last = read_iso(day), read_iso(day, is_end=True)
    assert datetime.fromtimestamp(first).isoformat()[11:] == "00:00:00"  # noqa: DTZ006 - local is what is meant
    assert datetime.fromtimestamp(last).isoformat()[11:] == "23:59:59"  # noqa: DTZ006 - the same
    assert datetime.fromtimestamp(first).date() == datetime.fromtimestamp(last).date()  # noqa: DTZ006 - the same


@pytest.mark.parametrize(
    ("zone_name", "day", "end"),
    [
        pytest.param("Europe/Berlin", "2027-03-28", "2027-03-28 23:59:59+02:00", id="the day has 23 hours"),
        pytest.param("Europe/Berlin", "2027-10-31", "2027-10-31 23:59:59+01:00", id="the day has 25 hours"),
        pytest.param("Asia/Beirut", "2010-10-30", "2010-10-30 23:59:59+02:00", id="its last hour exists twice"),
        pytest.param("America/Sao_Paulo", "2013-02-16", "2013-02-16 23:59:59-03:00", id="twice, west of Greenwich"),
        pytest.param("Pacific/Apia", "2011-12-30", "2011-12-29 23:59:59-10:00", id="the day itself was left out"),
    ],
)
def test_date_alone_lasts_to_its_last_second_where_the_clock_changes(zone_name, day, end, monkeypatch):
    """A restriction until Friday must not end an hour before Friday does."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone_name)
        time.tzset()
        assert show_local(read_iso(day, is_end=True)) == end
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2027-03-28 02:30", "2027-03-28 03:30:00+02:00", id="an hour that does not exist"),
        pytest.param("2027-10-31 02:30", "2027-10-31 02:30:00+02:00", id="an hour that exists twice"),
        pytest.param("2027-10-31 02:30+01:00", "2027-10-31 02:30:00+01:00", id="the second of the two"),
    ],
)
def test_time_that_exists_twice_or_never_is_what_the_clock_before_the_change_says(text, moment, monkeypatch):
    """With an offset there is nothing to choose."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        assert show_local(read_iso(text, is_end=True)) == show_local(read_iso(text)) == moment
    time.tzset()


@pytest.mark.parametrize("text", ["2096-12-31T18:00", "2096-12-31 18:00+01:00", "20961231T1800Z", "2096-W52-1T18"])
def test_date_with_a_time_is_that_moment(text):
    """Nothing is added to what somebody wrote out."""
    assert read_iso(text) == read_iso(text, is_end=True)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2099", "99", "209912", "2099-12", "20991", "203012311800", "20301231180000", "20991231118", "18:00"),
        *("2099-12-31+01:00", "2099-12-31x18:00", "2099-12-31T", " 2099-12-31", "2099-12-31\n", "31.12.2099", "1e10"),
        *("-5", "+5", "-4102444800", "4102444800.0", "4102444800000", "1_893_456_000", "٢٠٩٩-12-31", "0", "007"),
        *("9999-12-31", "9999-12-31T23:59-23:00", "253402300799", "NaN", "inf", "true", "never", "9" * 5000),
    ],
)
def test_text_that_could_mean_something_else_is_no_time(text):
    """A year read as seconds is in 1970: the restriction would have ended before it was imported."""
    for is_end in (True, False):
        with pytest.raises(ValueError):  # noqa: PT011 - its text is for nobody
            read_stored(text, is_end=is_end)


@pytest.mark.parametrize(
    "number", [2099, 20991231, 0, -1, -4102444800, 99_999_999, 1_900_000_000_000, END_OF_TIME, 10**30]
)
def test_number_that_could_mean_something_else_is_no_time(number):
    """Scripts write years, dates without dashes and milliseconds as numbers."""
    with pytest.raises(ValueError):  # noqa: PT011 - the same
        read_stored(number, is_end=True)


@given(st.integers(100_000_000, END_OF_TIME - 1))
def test_what_is_shown_is_read_back(seconds):
    """In every form in which an export or a list writes it."""
    assert read_stored(seconds, is_end=True) == seconds
    assert read_stored(show_utc(seconds), is_end=True) == seconds
    assert read_when(show_local(seconds), 0, is_end=True) == seconds


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("seconds", [0, -1, -(10**15), END_OF_TIME, 253_402_300_799, 10**15, 2**63 - 1])
def test_what_is_no_time_is_shown_as_the_number_that_it_is(seconds):
    """A list or an export must come to its end, whatever is in the database."""
    assert show_local(seconds) == show_utc(seconds) == str(seconds)


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("seconds", [1, END_OF_TIME - 1])
def test_first_and_last_time_can_be_shown_everywhere(seconds):
    """Whatever zone the administrator is in."""
    assert show_local(seconds)[:4] in ("1969", "1970", "9998", "9999")


NOW = 1_700_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("+30d", NOW + 30 * 86400),
        ("-12h", NOW - 12 * 3600),
        ("+5m", NOW + 300),
        ("+2w", NOW + 14 * 86400),
        ("2027-01-01T00:00Z", 1_798_761_600),
    ],
)
def test_time_is_typed_as_a_span_or_as_a_date(text, seconds):
    """`--until +30d` is quicker to type than a date, and needs no calendar."""
    assert read_when(text, NOW + 0.5, is_end=True) == seconds


@pytest.mark.parametrize("text", ["30d", "+30", "+30y", "++1d", "+1234567d", "+999999w", "tomorrow"])
def test_span_that_is_none_is_no_time(text):
    """A mistyped end must not become some other one."""
    with pytest.raises(ValueError, match=r"no ISO date|beyond what can be shown"):
        read_when(text, NOW, is_end=True)


def test_moment_that_a_machine_can_not_count_is_no_time(monkeypatch):
    """Where time_t has 32 bits, as on Debian 12's armhf, local time ends in 2038."""

    class ShortTime(datetime):
        def timestamp(self) -> float:
            raise OverflowError("timestamp out of range for platform time_t")

    monkeypatch.setattr("policyd.timestamps.datetime", ShortTime)
    with pytest.raises(ValueError, match="beyond what can be counted"):
        read_iso("2040-01-01")


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("text", "is_end", "words"),
    [
        pytest.param("2026-11-03 10:00", False, "3 November", id="this year"),
        pytest.param("2027-01-01 00:00", False, "1 January 2027", id="another year"),
        pytest.param("2026-12-31", True, "31 December", id="the end of a day"),
        pytest.param("2026-12-31 18:00", True, "31 December, 18:00", id="an end in the middle of a day"),
    ],
)
def test_day_is_said_as_people_say_it(text, is_end, words):
    """In a sentence nobody wants an ISO date; the year and the hour are said where they tell something."""
    assert day_in_words(read_iso(text, is_end=is_end), read_iso("2026-11-26"), is_end=is_end) == words


def test_number_that_is_no_time_is_said_as_a_number():
    """What somebody has written into the tables by hand can still be shown."""
    assert day_in_words(2**62, 0) == str(2**62)
