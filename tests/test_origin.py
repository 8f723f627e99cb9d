"""The times of windows, the user's time zone, and hours, days and weeks."""

import calendar
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdemb.errors import InputError
from birdemb.origin import (
    Origin,
    day_of_year,
    hour_of_day,
    parse_offset,
    parse_zone,
    week_of_year_48,
    window_times,
    with_zone,
    write_time,
    write_window_times,
)

BERLIN = ZoneInfo("Europe/Berlin")


def at(*parts, zone=None):
    return Origin(datetime(*parts, tzinfo=zone), source="name")


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("Z", 0),
        ("utc", 0),
        ("+10", 10),
        ("+1000", 10),
        ("+10:00", 10),
        ("-0330", -3.5),
        ("+5:45", 5.75),
        ("-12:00", -12),
    ],
)
def test_offsets_are_read(text, hours):
    assert parse_offset(text).utcoffset(None) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "10", "+14:15", "-12:15", "+10:07", "+9999", "+1:2:3", "EST", "+-1", "++10"])
def test_what_is_no_offset_is_none(text):
    assert parse_offset(text) is None


def test_a_zone_is_a_name_or_an_offset():
    assert parse_zone("Australia/Sydney") == ZoneInfo("Australia/Sydney")
    assert parse_zone("UTC") is UTC
    assert parse_zone("+10:00") == timezone(timedelta(hours=10))


@pytest.mark.parametrize(
    "text", ["", "Australia", "Australia/Sidney", "../../etc/passwd", "/etc/passwd", "a\0b", "+77"]
)
def test_what_is_no_zone_is_refused_with_what_it_may_be(text):
    with pytest.raises(InputError, match=r"Australia/Sydney, or an offset from UTC such as \+10:00"):
        parse_zone(text)


def test_a_zone_with_a_slip_is_named():
    with pytest.raises(InputError, match="Did you mean Australia/Sydney"):
        parse_zone("Australia/Sidney")


def test_a_start_without_zone_is_local_time():
    origin = with_zone(at(2019, 5, 22, 6, 30), BERLIN)
    assert write_time(origin.start) == "2019-05-22T06:30:00+02:00"
    assert origin.zone_known
    assert origin.note == ""
    assert write_time(with_zone(at(2019, 1, 22, 6, 30), BERLIN).start) == "2019-01-22T06:30:00+01:00"


def test_a_start_with_zone_stays_the_same_moment():
    origin = with_zone(at(2019, 5, 22, 23, 30, zone=UTC), ZoneInfo("Australia/Sydney"))
    assert write_time(origin.start) == "2019-05-23T09:30:00+10:00"
    assert origin.day == date(2019, 5, 23)


def test_a_local_time_that_occurs_twice_is_the_first_and_noted():
    origin = with_zone(at(2019, 10, 27, 2, 30), BERLIN)
    assert write_time(origin.start) == "2019-10-27T02:30:00+02:00"
    assert origin.note == "2019-10-27 02:30:00 occurs twice in Europe/Berlin, and was taken for the first time"


def test_a_local_time_that_does_not_exist_is_of_a_clock_that_was_not_set_and_noted():
    origin = with_zone(at(2019, 3, 31, 2, 30), BERLIN)
    assert write_time(origin.start) == "2019-03-31T03:30:00+02:00"
    assert "does not exist in Europe/Berlin, and was taken for 2019-03-31T03:30:00+02:00" in origin.note


def test_an_earlier_note_is_kept():
    origin = with_zone(Origin(datetime(2019, 3, 31, 2, 30), note="GUANO tells another"), BERLIN)
    assert origin.note.startswith("GUANO tells another; 2019-03-31")


def test_what_has_no_start_has_no_zone():
    origin = Origin(known_day=date(2017, 4, 29), source="name")
    assert with_zone(origin, BERLIN) == origin
    assert origin.day == date(2017, 4, 29)
    assert not origin.zone_known


def test_windows_across_a_change_of_clocks_are_as_long_as_ever():
    origin = with_zone(at(2019, 3, 31, 1, 59, 55), BERLIN)
    assert write_window_times(origin, [0, 5, 10]) == [
        "2019-03-31T01:59:55+01:00",
        "2019-03-31T03:00:00+02:00",
        "2019-03-31T03:00:05+02:00",
    ]


def test_windows_of_a_local_start_have_no_offset():
    assert write_window_times(at(2019, 5, 22, 6, 30), [0, 2.5, 3600]) == [
        "2019-05-22T06:30:00",
        "2019-05-22T06:30:02.500",
        "2019-05-22T07:30:00",
    ]


def test_windows_of_an_unknown_start_are_empty_texts_and_no_times():
    assert write_window_times(Origin(), range(3)) == ["", "", ""]
    with pytest.raises(InputError, match="start is not known"):
        window_times(Origin(), [0])


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2099, 1, 1)),
    st.lists(st.floats(0, 1e6), max_size=5),
    st.sampled_from([UTC, BERLIN, ZoneInfo("Australia/Lord_Howe"), timezone(timedelta(hours=-9.5))]),
)
def test_what_passes_between_windows_is_what_passed(start, seconds, zone):
    origin = with_zone(Origin(start), zone)
    for second, time in zip(seconds, window_times(origin, seconds), strict=True):
        passed = time.astimezone(UTC) - origin.start.astimezone(UTC)
        assert abs(passed.total_seconds() - second) < 1e-5
        assert datetime.fromisoformat(write_time(time)).utcoffset() == time.utcoffset()


def test_hours_and_days():
    assert hour_of_day(datetime(2019, 5, 22, 23, 45, 36)) == pytest.approx(23.76)
    assert day_of_year(date(2019, 12, 31)) == 365
    assert day_of_year(datetime(2020, 12, 31, 5)) == 366


def test_each_month_has_four_weeks_and_the_year_48():
    weeks = [week_of_year_48(date(2023, 1, 1) + timedelta(days=day)) for day in range(365)]
    assert weeks == sorted(weeks)
    assert set(weeks) == set(range(1, 49))
    for month in range(1, 13):
        days = calendar.monthrange(2024, month)[1]
        found = [week_of_year_48(date(2024, month, day)) - 4 * (month - 1) for day in range(1, days + 1)]
        assert found == [1] * 7 + [2] * 7 + [3] * 7 + [4] * (days - 21)


@given(st.dates(date(1990, 1, 1), date(2099, 12, 31)))
def test_weeks_are_never_far_from_even_ones(day):
    length = 366 if calendar.isleap(day.year) else 365
    even = -(-day_of_year(day) * 48 // length)  # birdnetlib's
    assert abs(week_of_year_48(day) - even) <= 1
