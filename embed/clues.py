"""What one source tells of when and where a recording was made, and the forms in which sources write it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from birdemb.origin import parse_offset

__all__ = ["Clue", "clean_text", "make_day", "make_position", "make_time", "parse_time"]

# A clock that was never set begins in 1970 or 1980; recorders that name their files are younger.
_FIRST_YEAR, _LAST_YEAR = 1990, 2099
_LONGEST_TEXT = 100
# Subsets of ISO 8601 as recorders write them: a blank for the T, seven digits of a second, an offset without a colon.
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Clue:
    """What one source tells.

    Parameters
    ----------
    source : str
        The name of the source.
    start : datetime or None
        With a time zone where the source tells one.
    day : date or None
        Where it tells no more than that.
    position : tuple of float, optional
        Latitude and longitude in degrees.
    site, recorder : str or None
    any_program : bool
        Whether programs that edit and convert sound write it too, so that the time may be that of their work.
    """

    source: str
    start: datetime | None = None
    day: date | None = None
    position: tuple[float, float] | None = None
    site: str | None = None
    recorder: str | None = None
    any_program: bool = False


def parse_time(text: str) -> datetime | None:
    """Read a date and a time of day; None where the text is none, or a recorder's clock was not set.

    Examples
    --------
    >>> parse_time("2019-04-30 21:02:44+0100").isoformat(), parse_time("2019-02-30T10:00:00")
    ('2019-04-30T21:02:44+01:00', None)
    """
    match = _TIME.fullmatch(text.strip(" \t\r\n\0"))
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    zone = parse_offset(match[8]) if match[8] else None
    return make_time(year, month, day, hour, minute, second, fraction=match[7] or "", zone=zone)


def make_time(
    year: int,
    month: int,
    day: int,
    hour: int,
    minute: int,
    second: int = 0,
    *,
    fraction: str = "",
    zone: tzinfo | None = None,
) -> datetime | None:
    """Make a time; None where there is no such day or time of day, or the year is none of a recorder.

    Parameters
    ----------
    year, month, day, hour, minute, second : int
    fraction : str
        The digits behind the seconds' point.
    zone : tzinfo, optional
    """
    if make_day(year, month, day) is None:
        return None
    try:
        time = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        return None
    return time + timedelta(microseconds=int(fraction[:6].ljust(6, "0")))


def make_day(year: int, month: int, day: int) -> date | None:
    """Make a day; None where there is no such day, or the year is none of a recorder."""
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        return None
    try:
        return date(year, month, day)
    except ValueError:
        return None


def make_position(latitude: str, longitude: str) -> tuple[float, float] | None:
    """Make a position out of degrees; None where they are none, or both are 0, as of a receiver that heard nothing."""
    try:
        north, east = float(latitude), float(longitude)
    except ValueError:
        return None
    if not (math.isfinite(north) and math.isfinite(east)) or abs(north) > 90 or abs(east) > 180:
        return None
    return (north, east) if north or east else None


def clean_text(text: str) -> str | None:
    r"""Make a name fit for a table: one line of at most 100 characters; None where nothing is left.

    Examples
    --------
    >>> clean_text(" SM4\0\0"), clean_text("\0")
    ('SM4', None)
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _LONGEST_TEXT])
    return " ".join(printable.split())[:_LONGEST_TEXT] or None
