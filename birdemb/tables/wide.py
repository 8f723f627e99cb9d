"""Wide CSV: a row for each window, and a column for each class."""

from __future__ import annotations

import csv
from pathlib import Path

from birdemb.tables.source import TableSource
from birdemb.tables.text import replace_text, tell_number

__all__ = ["write_wide"]


def write_wide(path: Path, source: TableSource) -> int:
    """Write a row for each window, with all digits of the probabilities.

    Parameters
    ----------
    path : Path
        Gets the columns recording, start and end (seconds), start_time and end_time (ISO 8601, or empty), and one
        for each class.
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
    with replace_text(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("recording", "start", "end", "start_time", "end_time", *source.prediction.labels))
        for part in source.windows():
            table.writerows(
                [recording, tell_number(start), tell_number(end), start_time, end_time, *values]
                for recording, start, end, start_time, end_time, values in zip(
                    part.recordings,
                    part.start.tolist(),
                    part.end.tolist(),
                    part.start_time,
                    part.end_time,
                    part.probabilities.tolist(),
                    strict=True,
                )
            )
    return len(source.prediction.probabilities)
