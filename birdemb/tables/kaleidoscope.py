"""Kaleidoscope's CSV, for Wildlife Acoustics' Kaleidoscope Pro.

INDIR, FOLDER, IN FILE, CHANNEL, OFFSET, DURATION, DATE, TIME, HOUR, TOP1MATCH and MANUAL ID are Kaleidoscope's own
columns: INDIR is the folder that was given, FOLDER the one below it, and IN FILE the name in that; MANUAL ID is for a
person to fill in. The names and the confidence are columns as BirdNET-Analyzer has them
(``birdnet_analyzer/analyze/utils.py``, ``KALEIDOSCOPE_HEADER``), as Kaleidoscope's TOP1DIST is a distance, of which
less is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from birdemb.origin import Origin, window_times
from birdemb.tables.source import TableSource, clip_ends
from birdemb.tables.text import replace_csv, tell_number, tell_probability

__all__ = ["KALEIDOSCOPE_COLUMNS", "write_kaleidoscope"]

KALEIDOSCOPE_COLUMNS = (
    "INDIR",
    "FOLDER",
    "IN FILE",
    "CHANNEL",
    "OFFSET",
    "DURATION",
    "DATE",
    "TIME",
    "HOUR",
    "TOP1MATCH",
    "scientific_name",
    "common_name",
    "confidence",
    "MANUAL ID",
)


def write_kaleidoscope(path: Path, source: TableSource) -> int:
    """Write a row for each detection.

    Parameters
    ----------
    path : Path
        Gets the columns of `KALEIDOSCOPE_COLUMNS`. TOP1MATCH is the class; DATE, TIME and HOUR are when the detection
        begins, in the time zone of the recording's start, and empty where that is not known.
    source : TableSource

    Returns
    -------
    int
        How many rows there are.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    columns = ("recording", "start", "end", "class", "scientific_name", "common_name", "probability")
    found = 0
    with replace_csv(path) as rows:
        rows.writerow(KALEIDOSCOPE_COLUMNS)
        for recordings, table in source.detections():
            found += len(table)
            clipped = clip_ends(recordings, table)
            for recording, start, end, label, scientific, common, probability in zip(
                *(clipped[name].tolist() for name in columns), strict=True
            ):
                place = PurePosixPath(recording)
                rows.writerow(
                    (
                        source.folder,
                        str(place.parent) if len(place.parts) > 1 else "",
                        place.name,
                        0,
                        tell_number(start),
                        tell_number(end - start),
                        *_tell_clock(source.origins, recording, start),
                        label,
                        scientific,
                        common,
                        tell_probability(probability),
                        "",
                    )
                )
    return found


def _tell_clock(origins: Mapping[str, Origin], recording: str, start: float) -> tuple[str, str, str]:
    origin = origins.get(recording)
    if origin is None or origin.start is None:
        return "", "", ""
    (time,) = window_times(origin, [start])
    return f"{time:%Y-%m-%d}", f"{time:%H:%M:%S}", f"{time:%H}"
