"""The time of day of places in recordings, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from birdemb.origin import Origin, write_window_times

__all__ = ["tell_times"]


def tell_times(origins: Mapping[str, Origin], recordings: Sequence[str], seconds: Sequence[float]) -> list[str | None]:
    """Say when places in recordings were, in ISO 8601.

    Parameters
    ----------
    origins : mapping of str to Origin
        Of each recording, where it is known.
    recordings : sequence of str
    seconds : sequence of float
        From the start of the recording; one for each of `recordings`.

    Returns
    -------
    list of str or None
        As `birdemb.origin.write_time` gives it; None where the start of the recording is not known.

    Examples
    --------
    >>> from datetime import datetime
    >>> tell_times({"a.wav": Origin(datetime(2025, 5, 1, 4, 30))}, ["a.wav", "a.wav", "b.wav"], [5.0, 7.5, 0.0])
    ['2025-05-01T04:30:05', '2025-05-01T04:30:07.500', None]
    """
    told: list[str | None] = []
    for recording, rows in groupby(range(len(recordings)), key=recordings.__getitem__):
        places = [seconds[row] for row in rows]
        known = write_window_times(origins[recording], places) if recording in origins else [""] * len(places)
        told += [time or None for time in known]
    return told
