"""When and where a recording was made, and the times of its windows: local, absolute, of the day and of the year."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

from birdemb.errors import InputError

__all__ = [
    "Origin",
    "day_of_year",
    "hour_of_day",
    "parse_offset",
    "parse_zone",
    "week_of_year_48",
    "window_times",
    "with_zone",
    "write_time",
    "write_window_times",
]

_OFFSET = re.compile(r"([+-])(\d{1,2})(?::? ?(\d{2}))?")
# Of all zones: Baker Island is 12 hours behind UTC, Kiritimati 14 ahead of it.
_LOWEST_OFFSET, _HIGHEST_OFFSET = timedelta(hours=-12), timedelta(hours=14)


@dataclass(frozen=True)
class Origin:
    """When and where a recording was made, as far as its name and its file tell.

    Parameters
    ----------
    start : datetime or None
        When it begins. With a time zone where that is known; without one it is the recorder's local time.
    known_day : date or None
        The day on which it begins, where no more than that is told.
    latitude, longitude : float or None
        In degrees, north and east positive (WGS 84); both or neither.
    site : str or None
        The name of the place.
    recorder : str or None
        Model, serial number or both.
    source : str
        What `start` was read from, such as ``"GUANO"`` or ``"name"``; what the rest was, where there is no start; empty
        where nothing is known.
    note : str
        What contradicts itself, or was decided where a local time is not clear; mostly empty.

    Examples
    --------
    >>> heath = Origin(datetime(2019, 5, 22, 6, 30), site="heath", source="name")
    >>> heath.zone_known, heath.day, heath.place
    (False, datetime.date(2019, 5, 22), 'heath')
    """

    start: datetime | None = None
    known_day: date | None = None
    latitude: float | None = None
    longitude: float | None = None
    site: str | None = None
    recorder: str | None = None
    source: str = ""
    note: str = ""

    @property
    def zone_known(self) -> bool:
        """Whether it is known how far from UTC the start is."""
        return self.start is not None and self.start.tzinfo is not None

    @property
    def day(self) -> date | None:
        """The day on which it begins, in the time zone of its start."""
        return self.start.date() if self.start is not None else self.known_day

    @property
    def place(self) -> str | None:
        """What parts recordings by place: the site, else the recorder, as most stay where they were put."""
        return self.site or self.recorder


def parse_offset(text: str) -> tzinfo | None:
    """Read how far from UTC a time is: ``Z``, ``UTC``, ``+10``, ``-0930``, ``+05:45``; None where it is none of these.

    Examples
    --------
    >>> str(parse_offset("+05:45")), str(parse_offset("Z")), parse_offset("+99:00")
    ('UTC+05:45', 'UTC', None)
    """
    text = text.strip()
    if text.upper() in ("Z", "UTC"):
        return UTC
    match = _OFFSET.fullmatch(text)
    if match is None:
        return None
    sign, hours, minutes = match[1], int(match[2]), int(match[3] or 0)
    offset = timedelta(hours=hours, minutes=minutes) * (-1 if sign == "-" else 1)
    # Every zone of today, and of the time since recorders exist, is whole quarters of an hour from UTC.
    if minutes not in (0, 15, 30, 45) or not _LOWEST_OFFSET <= offset <= _HIGHEST_OFFSET:
        return None
    return timezone(offset) if offset else UTC


def parse_zone(text: str) -> tzinfo:
    """Read a time zone as a user gives it.

    Parameters
    ----------
    text : str
        A name of the IANA database, such as ``Australia/Sydney``, or an offset from UTC, such as ``+10:00``.

    Returns
    -------
    tzinfo

    Raises
    ------
    InputError
        If it is neither.

    Examples
    --------
    >>> parse_zone("Australia/Sydney"), str(parse_zone("-03:30"))
    (zoneinfo.ZoneInfo(key='Australia/Sydney'), 'UTC-03:30')
    """
    offset = parse_offset(text)
    if offset is not None:
        return offset
    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        known = zoneinfo.available_timezones()
        if not known:
            raise InputError(
                f"The time zone {text!r} cannot be looked up, as this machine has no table of zones. "
                "Run: pip install tzdata. Or give an offset such as +10:00."
            ) from error
        close = difflib.get_close_matches(text, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InputError(
            f"{text!r} is no time zone; expected a name such as Australia/Sydney, or an offset from UTC such as "
            f"+10:00.{hint}"
        ) from error


def with_zone(origin: Origin, zone: tzinfo) -> Origin:
    """Bring the start into a time zone.

    A start without a zone is taken for the zone's local time. One that has a zone stays the same moment, and is told
    in the new zone's time. Where clocks are set back, a local time occurs twice: the first, in summer time, is taken.
    Where they are set forward, an hour does not exist: it is taken as of a clock that nobody has set, which is told an
    hour later. Both are noted.

    Parameters
    ----------
    origin : Origin
    zone : tzinfo
        See `parse_zone`.

    Returns
    -------
    Origin

    Examples
    --------
    >>> heath = Origin(datetime(2019, 5, 22, 6, 30), source="name")
    >>> write_time(with_zone(heath, parse_zone("Europe/Berlin")).start)
    '2019-05-22T06:30:00+02:00'
    """
    if origin.start is None:
        return origin
    if origin.zone_known:
        return replace(origin, start=origin.start.astimezone(zone))
    local = origin.start.replace(tzinfo=zone, fold=0)
    first, second = local.utcoffset(), local.replace(fold=1).utcoffset()
    # To UTC and back: an hour that does not exist becomes the one that is meant (PEP 495).
    start = local.astimezone(UTC).astimezone(zone)
    if first == second:
        return replace(origin, start=start)
    told = origin.start.isoformat(" ", "seconds")
    if start.replace(tzinfo=None) == origin.start:
        note = f"{told} occurs twice in {zone}, and was taken for the first time"
    else:
        note = f"{told} does not exist in {zone}, and was taken for {write_time(start)}"
    return replace(origin, start=start, note="; ".join(filter(None, (origin.note, note))))


def window_times(origin: Origin, seconds: Iterable[float]) -> list[datetime]:
    """Give the times at which windows begin, or end.

    Parameters
    ----------
    origin : Origin
        Of the recording.
    seconds : iterable of float
        From the recording's start.

    Returns
    -------
    list of datetime
        With a time zone where the start has one; across a change of the clocks, too.

    Raises
    ------
    InputError
        If the start is not known.
    """
    start = origin.start
    if start is None:
        raise InputError("The recording's start is not known, so that its windows have no times; check origin.start.")
    if start.tzinfo is None:
        return [start + timedelta(seconds=float(second)) for second in seconds]
    # Python adds to the clock on the wall, which is not what has passed where the clock was set meanwhile.
    moment, zone = start.astimezone(UTC), start.tzinfo
    return [(moment + timedelta(seconds=float(second))).astimezone(zone) for second in seconds]


def write_window_times(origin: Origin, seconds: Iterable[float]) -> list[str]:
    """Write the times at which windows begin, or end, as `write_time` does; empty texts where the start is not known.

    Examples
    --------
    >>> write_window_times(Origin(datetime(2019, 5, 22, 23, 59, 55)), [0, 2.5, 5])
    ['2019-05-22T23:59:55', '2019-05-22T23:59:57.500', '2019-05-23T00:00:00']
    >>> write_window_times(Origin(), [0, 5])
    ['', '']
    """
    if origin.start is None:
        return ["" for _ in seconds]
    return [write_time(time) for time in window_times(origin, seconds)]


def write_time(time: datetime) -> str:
    """Write a time in ISO 8601: with its offset from UTC where it has one, with milliseconds where there are any.

    Examples
    --------
    >>> write_time(datetime(2019, 5, 22, 6, 30, tzinfo=UTC))
    '2019-05-22T06:30:00+00:00'
    """
    return time.isoformat(timespec="milliseconds" if time.microsecond // 1000 else "seconds")


def hour_of_day(time: datetime) -> float:
    """Give the hour of the day, in 0 to 24 without 24, in the time's own zone.

    Examples
    --------
    >>> hour_of_day(datetime(2019, 5, 22, 6, 30))
    6.5
    """
    return time.hour + time.minute / 60 + (time.second + time.microsecond / 1e6) / 3600


def day_of_year(day: date) -> int:
    """Give the day of the year: 1 for the first of January, 365 or 366 for the last of December.

    Examples
    --------
    >>> day_of_year(date(2019, 5, 22))
    142
    """
    return day.timetuple().tm_yday


def week_of_year_48(day: date) -> int:
    """Give the week of the year as BirdNET's range filter counts them: 48, of which each month has four.

    Weeks begin on the days 1, 8, 15 and 22 of a month, the last one has the rest of it. BirdNET-Analyzer defines its
    `--week` so: "Values in [1, 48] (4 weeks per month)", as eBird has them. The package birdnetlib parts the year into
    48 even pieces instead, which gives the week before or after on some days.

    Examples
    --------
    >>> week_of_year_48(date(2024, 1, 1)), week_of_year_48(date(2024, 5, 22)), week_of_year_48(date(2024, 12, 31))
    (1, 20, 48)
    """
    return (day.month - 1) * 4 + min((day.day - 1) // 7, 3) + 1
