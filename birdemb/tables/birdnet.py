"""The CSV that BirdNET-Analyzer writes, of one recording each or of all together.

Its columns are Start (s), End (s), Scientific name, Common name, Confidence and File, the last being the path of the
recording (``birdnet_analyzer/analyze/utils.py``, ``CSV_HEADER``). A class without names stands in both columns of
names, as BirdNET-Analyzer has it for labels that are one name alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pandas as pd

from birdemb.listing import EmbeddedRecording
from birdemb.tables.recording_files import write_recording_files
from birdemb.tables.source import TableSource
from birdemb.tables.text import make_csv, replace_csv, tell_probability

__all__ = ["BIRDNET_COLUMNS", "BIRDNET_ENDING", "write_birdnet", "write_birdnet_folder"]

BIRDNET_ENDING = ".BirdNET.results.csv"
"""Of the files' names in a folder of a file for each recording."""

BIRDNET_COLUMNS = ("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File")


def write_birdnet(path: Path, source: TableSource) -> int:
    """Write a row for each detection in any recording.

    Parameters
    ----------
    path : Path
        Gets the columns of `BIRDNET_COLUMNS`.
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
        rows.writerow(BIRDNET_COLUMNS)
        for _, table in source.detections():
            found += len(table)
            rows.writerows(_rows(table, source))
    return found


def write_birdnet_folder(folder: Path, source: TableSource) -> int:
    """Write a table ``<file stem>.BirdNET.results.csv`` for each recording.

    Parameters
    ----------
    folder : Path
    source : TableSource

    Returns
    -------
    int
        How many rows there are.

    Raises
    ------
    InputError
        If a table cannot be written.
    """

    def write(file: TextIO, _: EmbeddedRecording, table: pd.DataFrame) -> None:
        rows = make_csv(file)
        rows.writerow(BIRDNET_COLUMNS)
        rows.writerows(_rows(table, source))

    return write_recording_files(folder, source, BIRDNET_ENDING, write)


def _rows(table: pd.DataFrame, source: TableSource) -> Iterator[tuple[str, ...]]:
    columns = ("recording", "start", "end", "class", "scientific_name", "common_name", "probability")
    for recording, start, end, label, scientific, common, probability in zip(
        *(table[name].tolist() for name in columns), strict=True
    ):
        yield (
            _tell_seconds(start),
            _tell_seconds(end),
            scientific or label,
            common or label,
            tell_probability(probability),
            source.locate(recording),
        )


def _tell_seconds(value: float) -> str:
    # With a point always, as Python writes numbers.
    return repr(float(f"{value:.10g}"))
