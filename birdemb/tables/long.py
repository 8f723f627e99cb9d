"""Long CSV: a row for each class in each window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from birdemb.tables.source import TableSource, WindowPart
from birdemb.tables.text import replace_csv, tell_number

__all__ = ["LONG_COLUMNS", "write_long"]

LONG_COLUMNS = (
    "recording",
    "start",
    "end",
    "start_time",
    "end_time",
    "class",
    "scientific_name",
    "common_name",
    "probability",
    "detected",
)


def write_long(path: Path, source: TableSource) -> int:
    """Write a row for each class in each window, with all digits of the probabilities.

    Parameters
    ----------
    path : Path
        Gets the columns of `LONG_COLUMNS`: seconds, times in ISO 8601 or empty, and whether the class passes its
        threshold as 1 or 0; this is empty where there are no thresholds.
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
    with replace_csv(path) as table:
        table.writerow(LONG_COLUMNS)
        for part in source.windows():
            table.writerows(_rows(part, source))
    return source.prediction.probabilities.size


def _rows(part: WindowPart, source: TableSource) -> Iterator[tuple[Any, ...]]:
    names = [(name.label, name.scientific, name.common) for name in source.prediction.classes]
    shape = part.probabilities.shape
    detected = np.full(shape, "")
    if source.thresholds is not None:
        detected = np.where(part.probabilities >= source.thresholds, "1", "0")
    for window in range(shape[0]):
        place = (
            part.recordings[window],
            tell_number(float(part.start[window])),
            tell_number(float(part.end[window])),
            part.start_time[window],
            part.end_time[window],
        )
        values = zip(names, part.probabilities[window].tolist(), detected[window].tolist(), strict=True)
        for name, probability, passes in values:
            yield *place, *name, probability, passes
