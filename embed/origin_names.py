"""When and where a recording was made, as its file name tells."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

from birdemb.embed.clues import Clue, clean_text, make_day, make_position, make_time
from birdemb.origin import parse_offset

__all__ = ["read_name"]

_DATE = r"(?<!\d)(?P<year>19\d\d|20\d\d)(?P<between>[-_.]?)(?P<month>\d\d)(?P=between)(?P<day>\d\d)"
# Song Meters write a $ where a GPS receiver has set their clock, OwlSense writes _T, BirdNET-Pi its own name.
_TIMESTAMP = re.compile(
    _DATE + r"(?P<separator>_T|-birdnet-|[T_$ -]?)(?P<hour>\d\d)"
    r"(?:(?P<colon>[-_.:h]?)(?P<minute>\d\d)(?:(?P=colon)|(?<=h\d\d)[m:])(?P<second>\d\d)(?!\d)"
    r"|(?P<short_colon>[-:h]?)(?P<short_minute>\d\d)(?!\d))"
    r"(?P<fraction>\.\d{1,9}(?![\d.]))?"
    # An offset that is no mere number of a part: after a minus sign, or a _ as of SwiftOne, it has four digits.
    r"(?P<offset>Z(?![A-Za-z0-9])|\+\d\d(?::?\d\d)?(?![\d.])|-\d\d:?\d\d(?![\d.])|_[+-]\d{4}(?![\d.]))?"
)
_DAY = re.compile(r"(?<![A-Za-z0-9])" + _DATE + r"(?![A-Za-z0-9])")
_POSITION = re.compile(
    r"(?<=[\[_])(?P<latitude>[+-]?\d{1,2}\.\d+)(?:[ ,]|(?=[+-]))(?P<longitude>[+-]?\d{1,3}\.\d+)(?=[\]_+-]|$)"
)
_AUDIOMOTH = re.compile(r"[0-9A-F]{8}")
_AUDIOMOTH_TIMES = range(0x5800_0000, 0x8000_0000)  # from October 2016, before the first AudioMoth, to 2038
_SERIAL = re.compile(r"(?:S[ME45][0-9A-Z]|2M[A-Z])\d{5}|SwiftOne")
_BIRDCLEF_2026 = re.compile(r"BC20\d\d_[A-Za-z]+_\d+_(?P<site>[A-Za-z0-9]+)")
_BIRDCLEF_2021 = re.compile(r"\d+_(?P<site>[A-Z]{3})")
_STEREO = re.compile(r"_0\+1(?:_\d)?$")


def read_name(name: str) -> Clue:
    """Read when and where a recording was made from its name.

    The first date with a time of day in the name counts; ``docs/recording-times.md`` lists the forms. A date alone
    gives the day.

    Parameters
    ----------
    name : str
        Of the file; folders in front of it are not looked at.

    Returns
    -------
    Clue
        Of nothing, where the name tells nothing.

    Examples
    --------
    >>> clue = read_name("BC2026_Train_0001_S08_20250606_030007.ogg")
    >>> clue.start.isoformat(), clue.site
    ('2025-06-06T03:00:07', 'S08')
    >>> read_name("xc134501.ogg").start is None
    True
    """
    path = PurePosixPath(name)
    stem = path.stem
    by_clock = _read_audiomoth(stem, path.suffix)
    if by_clock is not None:
        return Clue("name", start=by_clock, recorder="AudioMoth")
    looked = [match for match in _TIMESTAMP.finditer(stem) if _is_timed(match)]
    for match in looked:
        start = _make_start(match)
        if start is not None:
            clue = Clue("name", start=start, position=_find_position(stem, match.end()))
            return _describe(stem[: match.start()], clue)
    clue = Clue("name", position=_find_position(stem, 0))
    # What was no time of day is no date either: some other number.
    dated = _DAY.search(stem) if not looked else None
    day = make_day(int(dated["year"]), int(dated["month"]), int(dated["day"])) if dated else None
    return _describe(stem[: dated.start()], replace(clue, day=day)) if dated and day else clue


def _is_timed(match: re.Match[str]) -> bool:
    # Four digits alone are as often a running number: 20190522_0001.
    return bool(match["minute"] or match["short_colon"] or match["separator"].endswith("T"))


def _make_start(match: re.Match[str]) -> datetime | None:
    zone = parse_offset(match["offset"].lstrip("_")) if match["offset"] else None
    minute = "minute" if match["minute"] else "short_minute"
    return make_time(
        *(int(match[part] or 0) for part in ("year", "month", "day", "hour", minute, "second")),
        fraction=(match["fraction"] or "")[1:],
        zone=zone,
    )


def _read_audiomoth(stem: str, suffix: str) -> datetime | None:
    """Read the names of early AudioMoths: the seconds since 1970 in eight hexadecimal digits, in UTC."""
    # Eight decimal digits may be any number; AudioMoth writes its suffix in capitals.
    if not _AUDIOMOTH.fullmatch(stem) or suffix.lower() != ".wav" or (stem.isdecimal() and suffix != ".WAV"):
        return None
    seconds = int(stem, 16)
    return datetime.fromtimestamp(seconds, UTC) if seconds in _AUDIOMOTH_TIMES else None


def _find_position(stem: str, start: int) -> tuple[float, float] | None:
    match = _POSITION.search(stem, start)
    return make_position(match["latitude"], match["longitude"]) if match else None


def _describe(prefix: str, clue: Clue) -> Clue:
    """Add what stands in front of the date: a recorder's serial number, or the name of the site."""
    prefix = _STEREO.sub("", prefix.strip("_- .")).strip("_- .")
    for known in (_BIRDCLEF_2026, _BIRDCLEF_2021):
        if match := known.fullmatch(prefix):
            prefix = match["site"]
    text = clean_text(prefix)
    is_serial = text is not None and _SERIAL.fullmatch(text) is not None
    return replace(clue, site=None if is_serial else text, recorder=text if is_serial else None)
