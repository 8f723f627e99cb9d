"""JSON lines: an object a line, for what reads detections one at a time."""

from __future__ import annotations

import json
from pathlib import Path

from birdemb.tables.source import TableSource
from birdemb.tables.text import replace_text

__all__ = ["write_json_lines"]

_TIMES = ("start", "end")


def write_json_lines(path: Path, source: TableSource) -> int:
    """Write an object for each detection.

    Parameters
    ----------
    path : Path
        Gets objects with the keys recording, start and end (seconds), class, scientific_name, common_name, probability,
        threshold, start_time and end_time (ISO 8601, or null).
    source : TableSource

    Returns
    -------
    int
        How many lines there are.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    found = 0
    with replace_text(path) as file:
        for _, table in source.detections():
            found += len(table)
            exact = table.assign(**{name: [float(f"{value:.10g}") for value in table[name]] for name in _TIMES})
            for values in zip(*(exact[name].tolist() for name in exact.columns), strict=True):
                entry = dict(zip(exact.columns, values, strict=True))
                file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
    return found
