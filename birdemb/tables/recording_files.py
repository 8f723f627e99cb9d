"""A folder of tables: one file for each recording, in the same folders below it as the recordings are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import TextIO

import pandas as pd

from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording
from birdemb.tables.source import TableSource
from birdemb.tables.text import replace_text

__all__ = ["name_files", "refuse_beside_recordings", "write_recording_files"]


def name_files(recordings: Iterable[str], ending: str) -> dict[str, PurePosixPath]:
    """Name a file for each recording.

    Parameters
    ----------
    recordings : iterable of str
        Paths with forward slashes.
    ending : str
        Comes in the place of the recording's suffix, or after it where recordings differ in nothing but that.

    Returns
    -------
    dict of str to PurePosixPath
        No two the same, also where capitals do not count.

    Raises
    ------
    InputError
        If a recording's path leads out of the folder.

    Examples
    --------
    >>> {name: str(path) for name, path in name_files(["a/x.wav", "a/x.ogg", "y.wav"], ".txt").items()}
    {'a/x.wav': 'a/x.wav.txt', 'a/x.ogg': 'a/x.ogg.txt', 'y.wav': 'y.txt'}
    """
    paths = {recording: PurePosixPath(recording) for recording in recordings}
    for recording, path in paths.items():
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"{recording} leads out of the folder of recordings, so that no file is named after it.")
    short = Counter(str(path.with_suffix("")).casefold() for path in paths.values())
    whole = Counter(str(path).casefold() for path in paths.values())
    # A name that was cut may be another recording's whole one.
    named = {}
    for recording, path in paths.items():
        cut = str(path.with_suffix(""))
        alone = short[cut.casefold()] == 1 and not whole[cut.casefold()]
        named[recording] = PurePosixPath((cut if alone else str(path)) + ending)
    return named


def refuse_beside_recordings(folder: Path, place: str, recordings: Iterable[str], ending: str) -> None:
    """Make sure that no file that lies beside a recording is replaced, as labels that were made by hand lie there.

    Parameters
    ----------
    folder : Path
        That files are to be written to.
    place : str
        Absolute path or URL of the folder that the recordings are in.
    recordings : iterable of str
    ending : str
        Of the files' names; see `name_files`.

    Raises
    ------
    InputError
        If the folders are the same, and one of the files is there.
    """
    if folder.resolve() != Path(place):
        return
    for name in name_files(recordings, ending).values():
        if (folder / name).exists():
            raise InputError(
                f"{folder / name} lies beside its recording already, and may be what somebody made by hand. "
                "Name another folder, or move it away."
            )


def write_recording_files(
    folder: Path,
    source: TableSource,
    ending: str,
    write: Callable[[TextIO, EmbeddedRecording, pd.DataFrame], None],
) -> int:
    """Write the detections in each recording to a file of its own, which is empty but for its header if there are none.

    Parameters
    ----------
    folder : Path
        Other files in it are left alone.
    source : TableSource
    ending : str
        Of the files' names; see `name_files`.
    write : callable
        Writes the detections in one recording to an open file.

    Returns
    -------
    int
        How many detections there are.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    names = name_files((entry.recording for entry in source.prediction.recordings), ending)
    found = 0
    for recordings, table in source.detections():
        found += len(table)
        tables = _split_by_recording(table)
        for entry in recordings:
            with replace_text(folder / names[entry.recording]) as file:
                write(file, entry, tables.get(entry.recording, table.iloc[:0]))
    return found


def _split_by_recording(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    # Not groupby, which knows no names that are no valid text. Those of one recording follow each other.
    names = table["recording"].tolist()
    firsts = [row for row, name in enumerate(names) if row == 0 or name != names[row - 1]]
    ends = [*firsts, len(names)][1:]
    return {names[first]: table.iloc[first:end] for first, end in zip(firsts, ends, strict=True)}
