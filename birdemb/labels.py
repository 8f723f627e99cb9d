"""Labels in: from a BirdCLEF table or from class folders to one internal table, and from there to windows.

The internal table has one row for each class of each recording, sorted by both:

    recording  its path below the embedded folder
    class      a label of the table
    state      "present"; "unknown" where the class may be in some of the windows (a secondary label); or "absent"
               where somebody has made sure of it. What no row tells is absent too.
    weight     how much that counts, 1 as read from a table; 0 makes it unknown

Of several rows of a recording for the same class "present" beats "absent", and that beats "unknown".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.errors import InputError
from birdemb.groups import RecordingGroups, group_recordings
from birdemb.label_table import RecordingFinder, describe_recordings, read_table, split_secondary
from birdemb.listing import EmbeddedRecording, SkippedRecording
from birdemb.ratings import limit_recordings, weight_by_rating

__all__ = [
    "LABEL_FILES",
    "SECONDARY_RULES",
    "Labels",
    "RecordingGroups",
    "WindowLabels",
    "find_label_file",
    "group_recordings",
    "label_windows",
    "limit_recordings",
    "read_labels",
    "weight_by_rating",
]

LABEL_FILES = ("train.csv", "train_metadata.csv")
"""Names of BirdCLEF's tables, looked for in and beside the folder of recordings."""

SECONDARY_RULES: dict[str, tuple[int, float]] = {"unknown": (0, 0.0), "present": (1, 1.0), "ignore": (0, 1.0)}
"""What becomes of secondary labels: whether the class counts as present, and with which weight."""

_STRENGTH = {"unknown": 0, "absent": 1, "present": 2}


@dataclass(frozen=True)
class Labels:
    """Labels of recordings in the one internal form.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns recording, class, state, weight: see the module.
    classes : tuple of str
        Sorted; every class that is the primary label of some recording.
    source : str
        Where they come from, for people.
    problems : tuple of SkippedRecording
        Recordings without a label, labels without a recording, and what a limit left out.
    recordings : pandas.DataFrame
        One row for each labelled recording, sorted by the column recording; and of author, site, collection, license,
        url and rating (0.5 to 5) those columns that the source tells, with missing values where it does not.
    columns : tuple of str
        Of the source, for people; class folders have none.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    source: str
    problems: tuple[SkippedRecording, ...]
    recordings: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"recording": []}, dtype=object))
    columns: tuple[str, ...] = ()

    def count_recordings(self) -> dict[str, int]:
        """Count the recordings in which each class is present."""
        present = self.table[self.table["state"] == "present"]
        # Not by pandas' groupby, which takes no name that is not valid text.
        counts = Counter(label for _, label in set(zip(present["recording"], present["class"], strict=True)))
        return {name: counts[name] for name in self.classes}


@dataclass(frozen=True)
class WindowLabels:
    """What is known of each class in each window.

    Parameters
    ----------
    present : ndarray of shape (windows, classes), int8
        1 where the class is in the window.
    weights : ndarray of shape (windows, classes), float32
        How much that counts; 0 where it is unknown whether the class is in the window.
    groups : ndarray of shape (windows,), int64
        Windows with the same number must not be parted between training and validation.
    recording : ndarray of shape (windows,), int64
        The recording of each window, as its index among those that were given.
    """

    present: NDArray[np.int8]
    weights: NDArray[np.float32]
    groups: NDArray[np.int64]
    recording: NDArray[np.int64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where it is known whether the class is in the window; of shape (windows, classes)."""
        return self.weights > 0


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
        A table with the columns ``filename`` and ``primary_label``, as BirdCLEF's ``train.csv``; and if it has them
        ``secondary_labels``, ``rating``, and what tells authors and sites: see `describe_recordings`. None takes the
        name of each recording's folder for its class, several separated by commas.
    recordings : sequence of EmbeddedRecording
        The recordings that can be labelled.
    skipped : iterable of SkippedRecording
        Recordings that are known to be unusable, so that their labels are no surprise.

    Returns
    -------
    Labels
        The same in whatever order the rows of the table come, but for the order of its problems.

    Raises
    ------
    InputError
        If the table cannot be read, has an impossible rating, or labels none of the recordings.
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
    described = pd.DataFrame({"recording": sorted({row[0] for row in rows})}, dtype=object)
    return _make_labels(rows, "class folders", problems, described)


def _read_birdclef(source: Path, names: Sequence[str], unusable: Sequence[str]) -> Labels:
    table = read_table(source)
    find = RecordingFinder([*names, *unusable])
    usable = set(names)
    filenames, primaries = table["filename"].tolist(), table["primary_label"].tolist()
    secondaries = table["secondary_labels"].tolist() if "secondary_labels" in table else [""] * len(table)
    found = [find(filename) for filename in filenames]
    rows: list[tuple[str, str, str]] = []
    problems = []
    for recording, filename, primary, secondary in zip(found, filenames, primaries, secondaries, strict=True):
        if recording is None:
            problems.append(
                SkippedRecording(filename, "label", f"{source.name} names it, but there is no such recording")
            )
        elif recording in usable:
            rows.append((recording, primary, "present"))
            rows += [(recording, label, "unknown") for label in split_secondary(secondary)]
    labelled = {row[0] for row in rows}
    problems += [
        SkippedRecording(name, "label", f"{source.name} has no row for it") for name in names if name not in labelled
    ]
    if not rows:
        example = f"a recording is {names[0]!r}" if names else "and there is no recording"
        raise InputError(
            f"{source} labels none of the {len(names)} recordings. Its column filename has "
            f"{filenames[0]!r}, {example}; the first has to be the second or its last parts."
        )
    described = describe_recordings(table, [name if name in usable else None for name in found], source)
    return _make_labels(rows, str(source), problems, described, tuple(map(str, table.columns)))


def _make_labels(
    rows: Sequence[tuple[str, str, str]],
    source: str,
    problems: Sequence[SkippedRecording],
    described: pd.DataFrame,
    columns: tuple[str, ...] = (),
) -> Labels:
    classes = tuple(sorted({label for _, label, state in rows if state == "present"}))
    if "row_id" in classes:
        raise InputError(f"{source} has a class row_id, which is the name of a submission's first column. Rename it.")
    wanted = set(classes)
    strongest: dict[tuple[str, str], str] = {}
    for name, label, state in rows:
        before = strongest.get((name, label), state)
        if label in wanted:
            strongest[name, label] = max(before, state, key=_STRENGTH.__getitem__)
    # As objects: a name of a file need not be valid text, which columns of strings cannot hold.
    table = pd.DataFrame(
        [(name, label, state, 1.0) for (name, label), state in sorted(strongest.items())],
        columns=["recording", "class", "state", "weight"],
        dtype=object,
    ).astype({"weight": np.float64})
    return Labels(table, classes, source, tuple(problems), described, columns)


def label_windows(
    labels: Labels,
    recordings: Sequence[EmbeddedRecording],
    *,
    secondary: str | float = "unknown",
    rating: bool = False,
    group_by: str = "recording",
) -> WindowLabels:
    """Bring labels of recordings to their windows.

    A class that is present in a recording is taken to be present in each of its windows. The weight of an entry is
    that of the label in the table, times that of secondary labels, times that of the recording's rating.

    Parameters
    ----------
    labels : Labels
    recordings : sequence of EmbeddedRecording
        Their windows, in this order, are the rows of the result.
    secondary : "unknown", "present", "ignore" or a number above 0 and up to 1
        What a secondary label says: nothing, so that it is masked; that the class is present; that it is not; or
        that it is present, with this weight.
    rating : bool
        Whether recordings weigh by their rating among all of `labels`: see `weight_by_rating`. Recordings without
        any label weigh 1.
    group_by : "recording", "author" or "site"
        What must not be parted between training and validation: see `group_recordings`.

    Returns
    -------
    WindowLabels

    Raises
    ------
    InputError
        If `secondary` is something else, or the labels tell no ratings, authors or sites.
    """
    rules = {"unknown": _read_secondary(secondary), "absent": (0, 1.0), "present": (1, 1.0)}
    weight_of = _weigh_recordings(labels) if rating else {}
    names = sorted(set(labels.table["recording"]))
    row_of = {name: index for index, name in enumerate(names)}
    column_of = {name: index for index, name in enumerate(labels.classes)}
    rows = np.array([row_of[name] for name in labels.table["recording"]], np.int64)
    columns = np.array([column_of[name] for name in labels.table["class"]], np.int64)
    states, table_weights = labels.table["state"].to_numpy(), labels.table["weight"].to_numpy(np.float32)
    # The last row is for recordings without any label, whose index is then -1.
    present = np.zeros((len(names) + 1, len(labels.classes)), np.int8)
    weights = np.ones(present.shape, np.float32)
    for state, (value, weight) in rules.items():
        chosen = states == state
        present[rows[chosen], columns[chosen]] = value
        weights[rows[chosen], columns[chosen]] = table_weights[chosen] * np.float32(weight)
    if rating:
        weights[: len(names)] *= np.array([weight_of[name] for name in names], np.float32)[:, np.newaxis]
    recording = np.repeat(np.arange(len(recordings)), [entry.windows for entry in recordings])
    labelled = np.array([row_of.get(entry.recording, -1) for entry in recordings], np.int64)[recording]
    groups = group_recordings(labels, recordings, group_by).codes[recording]
    return WindowLabels(
        present=np.take(present, labelled, axis=0),
        weights=np.take(weights, labelled, axis=0),
        groups=groups,
        recording=recording,
    )


def _read_secondary(secondary: str | float) -> tuple[int, float]:
    """Give whether a secondary label counts as present, and its weight."""
    if isinstance(secondary, str) and secondary in SECONDARY_RULES:
        return SECONDARY_RULES[secondary]
    try:
        weight = float(secondary)
    except (TypeError, ValueError):
        weight = np.nan
    if isinstance(secondary, bool) or not 0 < weight <= 1:
        raise InputError(
            f"Secondary labels cannot be taken as {secondary!r}. Use {', '.join(map(repr, SECONDARY_RULES))} or a "
            "weight above 0 and up to 1."
        )
    return 1, weight


def _weigh_recordings(labels: Labels) -> dict[str, float]:
    if "rating" not in labels.recordings:
        have = f"its columns are {', '.join(labels.columns)}" if labels.columns else "it has no columns"
        raise InputError(
            f"Recordings cannot be weighed by their rating: {labels.source} has no column rating; {have}. "
            "Leave ratings out, or add such a column."
        )
    weights = weight_by_rating(labels.recordings["rating"].to_numpy(np.float64)).tolist()
    return dict(zip(labels.recordings["recording"], weights, strict=True))
