"""Detections as CSV."""

from __future__ import annotations

from pathlib import Path

from birdemb.detections import COLUMNS
from birdemb.tables.source import TableSource
from birdemb.tables.text import replace_csv, tell_number

__all__ = ["write_detections"]


def write_detections(path: Path, source: TableSource) -> int:
    """Write a row for each detection, with all digits of the probabilities.

    Parameters
    ----------
    path : Path
        Gets the columns of `birdemb.detections.COLUMNS`, and start_time and end_time (ISO 8601, or empty).
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
    found = 0
    with replace_csv(path) as rows:
        rows.writerow((*COLUMNS, "start_time", "end_time"))
        for _, table in source.detections():
            found += len(table)
            told = table.assign(start=table["start"].map(tell_number), end=table["end"].map(tell_number))
            rows.writerows(zip(*(told[name].tolist() for name in told.columns), strict=True))
    return found
