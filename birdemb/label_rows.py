"""Rows of files of labels, brought together with the recordings that they are about, and what became of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

import numpy as np
import pandas as pd

from birdemb.annotations.table import COLUMNS, Annotations, make_frame
from birdemb.errors import InputError
from birdemb.label_table import RecordingFinder

__all__ = ["MISSING", "UNUSABLE", "LabelRows", "match_rows"]

MISSING = "there is no such recording"
"""Why a row is left out whose name is no recording's."""

UNUSABLE = "its recording cannot be used"
"""Why a row is left out whose recording was skipped, which is told elsewhere."""

_ROUNDING = 1e-6  # of times, in seconds

_Name = tuple[int, str]  # the index of a file of labels, and what it calls a recording
_Found = tuple[str | None, str]  # the recording, None if there is none; and why


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
    files: Sequence[Annotations],
    folders: Sequence[str],
    seconds: Mapping[str, float],
    unusable: Sequence[str] = (),
    *,
    top: str = "",
) -> LabelRows:
    """Find the recording that each row of files of labels is about.

    A name that two recordings end in leaves its rows out, so that the others can be used; so do names that end in one
    recording and are those of two, and a time beyond the recording's end. An annotation that only ends there is cut.

    Parameters
    ----------
    files : sequence of Annotations
    folders : sequence of str
        For each file the folder, below that of the recordings, in which a recording that it names without a folder, or
        that has its own name, is looked for first.
    seconds : mapping of str to float
        The recordings that can be labelled, and their lengths.
    unusable : sequence of str
        Recordings that are known, but of no use.
    top : str
        The folder of the recordings: its own name tells which of ``site1/dawn.wav`` and ``site2/dawn.wav`` is the
        ``dawn.wav`` in it.

    Returns
    -------
    LabelRows
    """
    table = make_frame({name: np.concatenate([file.columns[name] for file in files]) for name in COLUMNS})
    table["file"] = np.repeat(np.arange(len(files)), [file.rows for file in files])
    find = RecordingFinder([*seconds, *unusable])
    # A file has few names and many rows.
    pairs = list(zip(table["file"].tolist(), table["filename"].tolist(), strict=True))
    known = {(file, filename): _find(find, filename, folders[file]) for file, filename in dict.fromkeys(pairs)}
    known |= _find_mistaken(known, folders, top)
    found = [known[pair] for pair in pairs]
    recordings = [name for name, _ in found]
    left_out = [reason or (UNUSABLE if name not in seconds else "") for name, reason in found]
    table["recording"] = pd.Series(recordings, dtype=object, index=table.index)
    table["left_out"] = pd.Series(left_out, dtype=object, index=table.index)
    table["note"] = pd.Series([""] * len(table), dtype=object, index=table.index)
    _check_times(table, seconds)
    return LabelRows(tuple(files), table)


def _find(find: RecordingFinder, filename: str, folder: str) -> _Found:
    """Give the recording that a file in a folder means by a name, and why there is none."""
    try:
        name = find(_place(filename, folder)) or find(filename)
    except InputError as error:
        return None, str(error).rstrip(".")
    return name, "" if name is not None else MISSING


def _place(filename: str, folder: str) -> str:
    """Give the path of a name, which is in the folder of its file of labels if it has none of its own."""
    return filename if _has_folder(filename) or folder in ("", ".") else f"{folder}/{filename}"


def _has_folder(filename: str) -> bool:
    return "/" in filename or "\\" in filename


def _find_mistaken(known: Mapping[_Name, _Found], folders: Sequence[str], top: str) -> dict[_Name, _Found]:
    """Find the names that were taken for a recording, but are in another folder than it.

    A name that goes beyond the recording's path, as ``site2/dawn.wav`` does beyond ``dawn.wav``, is right as long as no
    other agrees with more folders of the recording. Where several agree with no more than its path, and are different
    themselves, nobody knows; but folders of files of labels may be those of people who all annotated the recording.
    """
    called: defaultdict[tuple[str, bool], dict[_Name, list[str]]] = defaultdict(dict)
    for (file, filename), (recording, _) in known.items():
        if recording is not None:
            called[recording, _has_folder(filename)][file, filename] = _list_folders(_place(filename, folders[file]))
    mistaken: dict[_Name, _Found] = {}
    for (recording, in_tables), names in called.items():
        if len(set(map(tuple, names.values()))) == 1:
            continue
        own = _list_folders(recording)
        whole = _list_folders(f"{top}/{recording}")
        agreed = {name: _count_common(path, whole) for name, path in names.items()}
        most = max(agreed.values())
        best = next(name for name, number in agreed.items() if number == most)
        beyond = [name for name, path in names.items() if len(path) > agreed[name]]
        for name in beyond:
            if agreed[name] < most:
                shown = _place(best[1], folders[best[0]])
                mistaken[name] = None, f"{recording!r} is {shown!r}, which is in another folder"
        others = [name for name in beyond if agreed[name] == most]
        differ = [
            (one, two)
            for one, two in pairwise(others)
            if _count_common(names[one], names[two]) < min(len(names[one]), len(names[two]))
        ]
        if in_tables and differ and most <= len(own):
            first, second = (name for _, name in differ[0])
            why = f"{first!r} and {second!r} may not both be {recording!r}: take the folder that holds both"
            mistaken |= dict.fromkeys(others, (None, why))
    return mistaken


def _list_folders(path: str) -> list[str]:
    """List the folders of a path, the innermost first."""
    return [part for part in path.replace("\\", "/").split("/")[-2::-1] if part not in ("", ".", "..")]


def _count_common(one: Sequence[str], two: Sequence[str]) -> int:
    return sum(takewhile(bool, (first == second for first, second in zip(one, two, strict=False))))


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
