"""The time of day of a place in a recording, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

__all__ = ["shift", "tell_times"]


def shift(origin: datetime, seconds: float) -> datetime:
    """Give the time so many seconds after another one, in its zone.

    Seconds are those that a stopwatch shows, also where the clocks are set between the two.

    Examples
    --------
    >>> from zoneinfo import ZoneInfo
    >>> shift(datetime(2025, 3, 30, 1, 59, tzinfo=ZoneInfo("Europe/Berlin")), 120).isoformat()
    '2025-03-30T03:01:00+02:00'
    """
    passed = timedelta(seconds=seconds)
    if origin.tzinfo is None:
        return origin + passed
    return (origin.astimezone(UTC) + passed).astimezone(origin.tzinfo)


def tell_times(
    origins: Mapping[str, datetime], recordings: Iterable[str], seconds: Iterable[float]
) -> list[str | None]:
    """Say when places in recordings were, in ISO 8601.

    Parameters
    ----------
    origins : mapping of str to datetime
        When each recording began, where that is known.
    recordings : iterable of str
    seconds : iterable of float
        From the start of the recording; one for each of `recordings`.

    Returns
    -------
    list of str or None
        With the offset from UTC, where the origin has a time zone, and with milliseconds, where they are not whole
        seconds; None where the recording has no known origin.

    Examples
    --------
    >>> tell_times({"a.wav": datetime(2025, 5, 1, 4, 30)}, ["a.wav", "a.wav", "b.wav"], [5.0, 7.5, 0.0])
    ['2025-05-01T04:30:05', '2025-05-01T04:30:07.500', None]
    """
    if not origins:
        return [None for _ in seconds]
    told: list[str | None] = []
    for recording, second in zip(recordings, seconds, strict=True):
        origin = origins.get(recording)
        if origin is None:
            told.append(None)
        else:
            time = shift(origin, second)
            told.append(time.isoformat(timespec="milliseconds" if time.microsecond else "seconds"))
    return told
