"""Raven selection tables, of one recording each or of all together.

Raven Pro (Cornell) reads tab-separated text with the columns Selection, View, Channel, Begin Time (s), End Time (s),
Low Freq (Hz) and High Freq (Hz). Begin Path and File Offset (s) lead to the recording and the place in it, also where
the table is about several. The other columns are those of BirdNET-Analyzer's selection tables
(``birdnet_analyzer/analyze/utils.py``, ``RAVEN_TABLE_HEADER``), with Begin File and Scientific Name after them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TextIO

import pandas as pd

from birdemb.listing import EmbeddedRecording
from birdemb.tables.recording_files import write_recording_files
from birdemb.tables.source import TableSource, clip_ends
from birdemb.tables.text import plain, replace_text, tell_number, tell_probability

__all__ = ["RAVEN_COLUMNS", "RAVEN_ENDING", "write_raven", "write_raven_folder"]

RAVEN_ENDING = ".selections.txt"
"""Of the files' names in a folder of a file for each recording."""

RAVEN_COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Common Name",
    "Species Code",
    "Confidence",
    "Begin Path",
    "File Offset (s)",
    "Begin File",
    "Scientific Name",
)


def write_raven(path: Path, source: TableSource) -> int:
    """Write one selection table about all recordings.

    Begin Time and End Time are those of a sequence of all recordings, one after the other in the order of their names,
    which is how Raven opens several sound files; File Offset is the place in the one recording.

    Parameters
    ----------
    path : Path
        Gets the columns of `RAVEN_COLUMNS`. Species Code is the class; Common Name is the class too where it has none.
    source : TableSource

    Returns
    -------
    int
        How many selections there are.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    begins, passed = {}, 0.0
    for entry in source.prediction.recordings:
        begins[entry.recording] = passed
        passed += entry.seconds
    numbers = count(1)
    found = 0
    with replace_text(path) as file:
        file.write("\t".join(RAVEN_COLUMNS) + "\n")
        for recordings, table in source.detections():
            found += len(table)
            file.writelines(_lines(recordings, table, source, numbers, begins))
    return found


def write_raven_folder(folder: Path, source: TableSource) -> int:
    """Write a selection table ``<file stem>.selections.txt`` for each recording, with times from its start.

    Parameters
    ----------
    folder : Path
    source : TableSource

    Returns
    -------
    int
        How many selections there are.

    Raises
    ------
    InputError
        If a table cannot be written.
    """

    def write(file: TextIO, entry: EmbeddedRecording, table: pd.DataFrame) -> None:
        file.write("\t".join(RAVEN_COLUMNS) + "\n")
        file.writelines(_lines([entry], table, source, count(1), {entry.recording: 0.0}))

    return write_recording_files(folder, source, RAVEN_ENDING, write)


def _lines(
    recordings: Sequence[EmbeddedRecording],
    table: pd.DataFrame,
    source: TableSource,
    numbers: Iterator[int],
    begins: dict[str, float],
) -> Iterator[str]:
    table = clip_ends(recordings, table)
    tops = {recording: tell_number(source.top_frequency(recording)) for recording in table["recording"].unique()}
    columns = ("recording", "start", "end", "class", "scientific_name", "common_name", "probability")
    for recording, start, end, label, scientific, common, probability in zip(
        *(table[name].tolist() for name in columns), strict=True
    ):
        begin = begins[recording]
        cells = (
            str(next(numbers)),
            "Spectrogram 1",
            "1",
            tell_number(begin + start),
            tell_number(begin + end),
            "0",
            tops[recording],
            plain(common or label),
            plain(label),
            tell_probability(probability),
            plain(source.locate(recording)),
            tell_number(start),
            plain(PurePosixPath(recording).name),
            plain(scientific),
        )
        yield "\t".join(cells) + "\n"
