"""Audacity's label files: one for each recording, as a label track has no names of files.

A line is start, end and text with tabs between them, without a header ("Importing and Exporting Labels" in Audacity's
manual). The text is the class, so that the file can be given back as labels; the probability is a fourth column, as in
BirdNET-Analyzer's label files, which Audacity does not show.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import pandas as pd

from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording
from birdemb.tables.recording_files import write_recording_files
from birdemb.tables.source import TableSource, clip_ends
from birdemb.tables.text import plain, replace_text, tell_probability

__all__ = ["AUDACITY_ENDING", "write_audacity", "write_audacity_folder"]

AUDACITY_ENDING = ".txt"
"""Of the files' names in a folder of a file for each recording."""


def write_audacity(path: Path, source: TableSource) -> int:
    """Write the labels of the one recording that there is.

    Parameters
    ----------
    path : Path
    source : TableSource

    Returns
    -------
    int
        How many labels there are.

    Raises
    ------
    InputError
        If there are several recordings, or it cannot be written.
    """
    recordings = source.prediction.recordings
    if len(recordings) > 1:
        raise InputError(
            f"{path} is one label file, and {len(recordings)} recordings were predicted: a label track does not say "
            "which recording it is about. Name a folder."
        )
    found = 0
    with replace_text(path) as file:
        for (entry,), table in source.detections():
            _write_labels(file, entry, table)
            found += len(table)
    return found


def write_audacity_folder(folder: Path, source: TableSource) -> int:
    """Write a label file ``<file stem>.txt`` for each recording.

    Parameters
    ----------
    folder : Path
    source : TableSource

    Returns
    -------
    int
        How many labels there are.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    return write_recording_files(folder, source, AUDACITY_ENDING, _write_labels)


def _write_labels(file: TextIO, entry: EmbeddedRecording, table: pd.DataFrame) -> None:
    table = clip_ends([entry], table)
    for start, end, label, probability in zip(
        *(table[name].tolist() for name in ("start", "end", "class", "probability")), strict=True
    ):
        file.write(f"{start:.6f}\t{end:.6f}\t{plain(label)}\t{tell_probability(probability)}\n")
