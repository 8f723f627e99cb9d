"""Labels in: from a BirdCLEF table or from class folders to one internal table, and from there to windows.

The internal table has one row for each class of each recording:

    recording  its path below the embedded folder
    class      a label of the table
    state      "present", or "unknown" where the class may be in some of the windows (a secondary label)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.errors import InputError
from birdemb.listing import EmbeddedRecording, SkippedRecording

__all__ = ["LABEL_FILES", "Labels", "WindowLabels", "find_label_file", "label_windows", "read_labels"]

LABEL_FILES = ("train.csv", "train_metadata.csv")
"""Names of BirdCLEF's tables, looked for in and beside the folder of recordings."""

_QUOTED = re.compile("\"([^\"]*)\"|'([^']*)'")
_COLUMNS = ["recording", "class", "state"]


@dataclass(frozen=True)
class Labels:
    """Labels of recordings in the one internal form.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns recording, class, state: see the module.
    classes : tuple of str
        Sorted; every class that is the primary label of some recording.
    source : str
        Where they come from, for people.
    problems : tuple of SkippedRecording
        Recordings without a label and labels without a recording.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    source: str
    problems: tuple[SkippedRecording, ...]

    def count_recordings(self) -> dict[str, int]:
        """Count the recordings in which each class is present."""
        present = self.table[self.table["state"] == "present"]
        counts = present.groupby("class")["recording"].nunique()
        return {name: int(counts.get(name, 0)) for name in self.classes}


@dataclass(frozen=True)
class WindowLabels:
    """What is known of each class in each window.

    Parameters
    ----------
    present : ndarray of shape (windows, classes), int8
        1 where the class is in the window.
    known : ndarray of shape (windows, classes), float32
        0 where it is unknown whether the class is in the window, else 1.
    """

    present: NDArray[np.int8]
    known: NDArray[np.float32]


def find_label_file(folder: Path) -> Path | None:
    """Look for a BirdCLEF table in the folder of recordings, then beside it; None if there is none."""
    places = [base / name for base in (folder, folder.resolve().parent) for name in LABEL_FILES]
    return next((place for place in places if place.is_file()), None)


def read_labels(
    source: Path | None, recordings: Sequence[EmbeddedRecording], skipped: Iterable[SkippedRecording] = ()
) -> Labels:
    """Read the labels of recordings.

    Parameters
    ----------
    source : Path or None
        A table with the columns ``filename`` and ``primary_label``, and ``secondary_labels`` if it has them, as
        BirdCLEF's ``train.csv``. None takes the name of each recording's folder for its class, several
        separated by commas.
    recordings : sequence of EmbeddedRecording
        The recordings that can be labelled.
    skipped : iterable of SkippedRecording
        Recordings that are known to be unusable, so that their labels are no surprise.

    Returns
    -------
    Labels

    Raises
    ------
    InputError
        If the table cannot be read, or labels none of the recordings.
    """
    names = [entry.recording for entry in recordings]
    if source is None:
        return _read_folders(names)
    return _read_birdclef(source, names, [entry.recording for entry in skipped])


def _read_folders(names: Sequence[str]) -> Labels:
    rows, problems = [], []
    for name in names:
        classes = [part.strip() for part in PurePosixPath(name).parent.name.split(",") if part.strip()]
        rows += [(name, label, "present") for label in classes]
        if not classes:
            problems.append(SkippedRecording(name, "label", "it lies in no class folder"))
    if not rows:
        raise InputError(
            "There are no labels: no train.csv or train_metadata.csv in or beside the folder of recordings, and no "
            "class folders in it. Put a table there, give one with --labels, or sort the recordings into one folder "
            "for each class."
        )
    return _make_labels(rows, "class folders", problems)


def _read_birdclef(source: Path, names: Sequence[str], unusable: Sequence[str]) -> Labels:
    table = _read_table(source)
    find = _Finder([*names, *unusable])
    usable = set(names)
    rows: list[tuple[str, str, str]] = []
    problems, labelled = [], set()
    for filename, primary, secondary in zip(
        table["filename"], table["primary_label"], table["secondary_labels"], strict=True
    ):
        recording = find(filename)
        if recording is None:
            problems.append(
                SkippedRecording(filename, "label", f"{source.name} names it, but there is no such recording")
            )
        if recording is None or recording not in usable:
            continue
        labelled.add(recording)
        rows.append((recording, primary, "present"))
        rows += [(recording, label, "unknown") for label in _split_secondary(secondary)]
    problems += [
        SkippedRecording(name, "label", f"{source.name} has no row for it") for name in names if name not in labelled
    ]
    if not rows:
        example = f"a recording is {names[0]!r}" if names else "and there is no recording"
        raise InputError(
            f"{source} labels none of the {len(names)} recordings. Its column filename has "
            f"{table['filename'].iloc[0]!r}, {example}; the first has to be the second or its last parts."
        )
    return _make_labels(rows, str(source), problems)


def _read_table(source: Path) -> pd.DataFrame:
    try:
        # As text: eBird codes, numbers such as 1139490 and a class called NA all stay what they are.
        table = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"The labels {source} cannot be opened: {error.strerror or error}.") from error
    except (ValueError, pd.errors.ParserError, UnicodeError) as error:
        raise InputError(
            f"The labels {source} are no CSV table in UTF-8 ({error}). Save them as UTF-8, separated by commas."
        ) from error
    # pandas takes the first cells of such rows for an index, and shifts all others.
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(f"The labels {source} have rows with more cells than there are columns, as in line 2.")
    for column in ("filename", "primary_label"):
        if column not in table:
            raise InputError(
                f"The labels {source} have no column {column!r}; "
                f"their columns are {', '.join(map(str, table.columns))}. "
                "Expected a table such as BirdCLEF's train.csv."
            )
        empty = table[column].str.strip() == ""
        if empty.any():
            raise InputError(f"The labels {source} have an empty {column} in line {int(np.argmax(empty)) + 2}.")
        table[column] = table[column].str.strip()
    if table.empty:
        raise InputError(f"The labels {source} have no rows.")
    if "secondary_labels" not in table:
        table["secondary_labels"] = ""
    return table


class _Finder:
    """Finds the recording that a table means.

    A table may name more folders than were embedded, or fewer: one path has to be the end of the other, by whole
    folders.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._by_end: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            for end in _ends(name):
                self._by_end[end].append(name)

    def __call__(self, filename: str) -> str | None:
        filename = filename.replace("\\", "/").removeprefix("./")
        matches = self._by_end.get(filename) or [end for end in _ends(filename) if end in self._names][:1]
        if len(matches) > 1:
            raise InputError(
                f"{filename!r} may be {matches[0]!r} or {matches[1]!r}: write as much of the folder into the "
                "table as makes the recording plain."
            )
        return matches[0] if matches else None


def _ends(path: str) -> list[str]:
    """List the ends of a path by whole folders, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _split_secondary(text: str) -> list[str]:
    """Read BirdCLEF's column of secondary labels: a Python list, or names separated by blanks or semicolons.

    Examples
    --------
    >>> _split_secondary("['amered', 'norcar']")
    ['amered', 'norcar']
    >>> _split_secondary("['']")
    []
    >>> _split_secondary("['amered' 'norcar']")
    ['amered', 'norcar']
    >>> _split_secondary("amered norcar")
    ['amered', 'norcar']
    """
    quoted = _QUOTED.findall(text) if text.strip().startswith("[") else []
    names = [double or single for double, single in quoted] or re.split(r"[;,\s]+", text.strip().strip("[]"))
    return [name.strip() for name in names if name.strip()]


def _make_labels(rows: list[tuple[str, str, str]], source: str, problems: list[SkippedRecording]) -> Labels:
    table = pd.DataFrame(rows, columns=_COLUMNS)
    classes = tuple(sorted(set(table.loc[table["state"] == "present", "class"])))
    if "row_id" in classes:
        raise InputError(f"{source} has a class row_id, which is the name of a submission's first column. Rename it.")
    return Labels(table[table["class"].isin(classes)].reset_index(drop=True), classes, source, tuple(problems))


def label_windows(labels: Labels, recordings: Sequence[EmbeddedRecording]) -> WindowLabels:
    """Bring labels of recordings to their windows.

    A class that is present in a recording is taken to be present in each of its windows.

    Parameters
    ----------
    labels : Labels
    recordings : sequence of EmbeddedRecording
        Their windows, in this order, are the rows of the result.

    Returns
    -------
    WindowLabels
    """
    column = {name: index for index, name in enumerate(labels.classes)}
    present = np.zeros((len(recordings), len(labels.classes)), np.int8)
    known = np.ones((len(recordings), len(labels.classes)), np.float32)
    row = {entry.recording: index for index, entry in enumerate(recordings)}
    for name, label, state in zip(labels.table["recording"], labels.table["class"], labels.table["state"], strict=True):
        if name not in row:
            continue
        if state == "present":
            present[row[name], column[label]] = 1
        else:
            known[row[name], column[label]] = 0
    known[present == 1] = 1
    repeats = [entry.windows for entry in recordings]
    return WindowLabels(np.repeat(present, repeats, axis=0), np.repeat(known, repeats, axis=0))
