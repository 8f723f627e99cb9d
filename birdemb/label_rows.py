"""Rows of files of labels, brought together with the recordings that they are about, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdemb.annotations.table import Annotations
from birdemb.errors import InputError
from birdemb.label_table import RecordingFinder

__all__ = ["MISSING", "UNUSABLE", "LabelRows", "match_rows"]

MISSING = "there is no such recording"
"""Why a row is left out whose name is no recording's."""

UNUSABLE = "its recording cannot be used"
"""Why a row is left out whose recording was skipped, which is told elsewhere."""

_ROUNDING = 1e-6  # of times, in seconds


@dataclass(frozen=True, eq=False)
class LabelRows:
    """What files of labels say, and of which recordings.

    Parameters
    ----------
    files : tuple of Annotations
    table : pandas.DataFrame
        The rows of all files, with the columns of `birdemb.annotations.table` and with:

        - file: the index of its file;
        - recording: the recording that it is about; None where there is none;
        - left_out: why the row is not used, in words; "" where it is;
        - note: what else there is to say of it; "" where there is nothing.
    """

    files: tuple[Annotations, ...]
    table: pd.DataFrame

    @property
    def used(self) -> pd.DataFrame:
        """The rows that are used."""
        return self.table[(self.table["left_out"] == "").to_numpy()]


def match_rows(
    files: Sequence[Annotations], folders: Sequence[str], seconds: Mapping[str, float], unusable: Sequence[str] = ()
) -> LabelRows:
    """Find the recording that each row of files of labels is about.

    A name that two recordings end in leaves its rows out, so that the others can be used; so does a time beyond the
    recording's end. An annotation that only ends there is cut.

    Parameters
    ----------
    files : sequence of Annotations
    folders : sequence of str
        For each file the folder, below that of the recordings, in which a recording that has the file's own name is
        looked for first.
    seconds : mapping of str to float
        The recordings that can be labelled, and their lengths.
    unusable : sequence of str
        Recordings that are known, but of no use.

    Returns
    -------
    LabelRows
    """
    table = pd.concat([file.table for file in files], ignore_index=True)
    table["file"] = np.repeat(np.arange(len(files)), [len(file.table) for file in files])
    find = RecordingFinder([*seconds, *unusable])
    # A file has few names and many rows.
    pairs = list(zip(table["file"].tolist(), table["filename"].tolist(), strict=True))
    known: dict[tuple[int, str], tuple[str | None, str]] = {}
    for file, filename in dict.fromkeys(pairs):
        known[file, filename] = _find(find, filename, folders[file] if files[file].beside else None)
    found = [known[pair] for pair in pairs]
    recordings = [name for name, _ in found]
    left_out = [reason or (UNUSABLE if name not in seconds else "") for name, reason in found]
    table["recording"] = pd.Series(recordings, dtype=object, index=table.index)
    table["left_out"] = pd.Series(left_out, dtype=object, index=table.index)
    table["note"] = pd.Series([""] * len(table), dtype=object, index=table.index)
    _check_times(table, seconds)
    return LabelRows(tuple(files), table)


def _find(find: RecordingFinder, filename: str, folder: str | None) -> tuple[str | None, str]:
    """Give the recording that a file means by a name, and why there is none."""
    try:
        name = find(f"{folder}/{filename}") if folder else None
        name = name or find(filename)
    except InputError as error:
        return None, str(error).rstrip(".")
    return name, "" if name is not None else MISSING


def _check_times(table: pd.DataFrame, seconds: Mapping[str, float]) -> None:
    """Leave out what lies behind the recording's end, and note what is cut there."""
    length = np.array([seconds.get(name, np.nan) for name in table["recording"]], np.float64)
    start, end = np.nan_to_num(table["start"].to_numpy(np.float64), nan=0.0), table["end"].to_numpy(np.float64)
    # A point at the very end is within it.
    behind = (start > length + _ROUNDING) | ((start >= length - _ROUNDING) & (end > start + _ROUNDING))
    cut = ~behind & (end > length + _ROUNDING)
    for column, chosen, told in (
        ("left_out", behind, "it starts at {start:g} s, and the recording ends at {length:g} s"),
        ("note", cut, "cut at the recording's end at {length:g} s, as it ends at {end:g} s"),
    ):
        texts = table[column].to_numpy(object).copy()
        for row in np.flatnonzero(chosen & (table["left_out"] == "").to_numpy()):
            texts[row] = told.format(start=start[row], end=end[row], length=length[row])
        table[column] = pd.Series(texts, dtype=object, index=table.index)
