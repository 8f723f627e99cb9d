"""From labels of recordings to what is known of each class in each window.

A row of the table of labels that has a start or an end reaches windows by how long it overlaps with them:

- long enough, and its class is in the window: at least the minimum overlap, or all of the annotation or of what the
  window holds of the recording, where that is shorter;
- shorter, and it is unknown whether its class is in the window;
- if it is long enough nowhere, it counts in the window that holds most of it, so that none is lost;
- a point in time counts in every window that holds it.

That a class is absent is said of a window only by rows that cover all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.errors import InputError
from birdemb.groups import group_recordings
from birdemb.listing import EmbeddedRecording
from birdemb.ratings import weigh_recordings

if TYPE_CHECKING:
    from birdemb.labels import Labels

__all__ = ["MINIMUM_OVERLAP", "SECONDARY_RULES", "Reach", "WindowLabels", "label_windows", "reach_windows"]

MINIMUM_OVERLAP = 0.5
"""In seconds, as in BirdNET-Analyzer's evaluation of annotated recordings (its ``min_overlap``): so that
no window is said to have a class of which it has the edge of one call alone."""

SECONDARY_RULES: dict[str, tuple[int, float]] = {"unknown": (0, 0.0), "present": (1, 1.0), "ignore": (0, 1.0)}
"""What becomes of secondary labels: whether the class counts as present, and with which weight."""

_ROUNDING = 1e-6
"""In seconds: times are written with six digits or less, and sums of them are off by less."""


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


@dataclass(frozen=True)
class Reach:
    """Which windows annotations overlap with: one entry for each pair of the two.

    Parameters
    ----------
    row : ndarray of shape (pairs,), int64
        The annotation, as its index among those that were given.
    window : ndarray of shape (pairs,), int64
        The window, counted from its recording's first.
    enough : ndarray of shape (pairs,), bool
        Whether the overlap is long enough.
    covered : ndarray of shape (pairs,), bool
        Whether the annotation covers all that the window holds of the recording.
    """

    row: NDArray[np.int64]
    window: NDArray[np.int64]
    enough: NDArray[np.bool_]
    covered: NDArray[np.bool_]


def reach_windows(
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    seconds: NDArray[np.float64],
    windows: NDArray[np.int64],
    *,
    window: float,
    hop: float,
    minimum_overlap: float = MINIMUM_OVERLAP,
) -> Reach:
    """Find the windows that annotations reach: see the module for the rule.

    Parameters
    ----------
    starts, ends : ndarray of shape (annotations,), float64
        In seconds from the recording's start; an end that is its start is a point. They begin within the recording.
    seconds : ndarray of shape (annotations,), float64
        Length of each annotation's recording.
    windows : ndarray of shape (annotations,), int64
        How many windows that recording has, at least 1.
    window, hop : float
        Length and distance of the windows in seconds.
    minimum_overlap : float
        In seconds.

    Returns
    -------
    Reach
        Pairs with an overlap alone, sorted by `row` and `window`.
    """
    starts, ends = np.clip(starts, 0.0, seconds), np.clip(ends, 0.0, seconds)
    # One window more to either side than there should be, as a quotient of two seconds is not exact.
    first = np.clip(np.floor((starts - window) / hop).astype(np.int64), 0, windows - 1)
    last = np.clip(np.ceil(ends / hop).astype(np.int64), first, windows - 1)
    counts = last - first + 1
    row = np.repeat(np.arange(len(starts)), counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    begin = place * hop
    # What a window holds: the last one is padded beyond the recording's end.
    finish = np.minimum(begin + window, seconds[row])
    overlap = np.minimum(ends[row], finish) - np.maximum(starts[row], begin)
    length = (ends - starts)[row]
    needed = np.minimum(np.minimum(minimum_overlap, length), finish - begin)
    is_point = length <= _ROUNDING
    at_end = (place == windows[row] - 1) & (starts[row] >= finish - _ROUNDING)
    holds = (starts[row] >= begin - _ROUNDING) & ((starts[row] < finish - _ROUNDING) | at_end)
    touched = np.where(is_point, holds, overlap > _ROUNDING)
    enough = touched & (is_point | (overlap >= needed - _ROUNDING))
    rows_with = np.bincount(row[enough], minlength=len(starts)) > 0
    pairs = np.flatnonzero(~rows_with[row])
    # Of several windows with the same overlap the first.
    pairs = pairs[np.lexsort((place[pairs], -np.round(overlap[pairs], 6), row[pairs]))]
    enough[pairs[np.unique(row[pairs], return_index=True)[1]]] = True
    covered = touched & (overlap >= finish - begin - _ROUNDING)
    kept = touched | enough
    return Reach(row[kept], place[kept], enough[kept], covered[kept])


def label_windows(
    labels: Labels,
    recordings: Sequence[EmbeddedRecording],
    *,
    secondary: str | float = "unknown",
    rating: bool = False,
    group_by: str = "recording",
    window: float = 5.0,
    hop: float | None = None,
    minimum_overlap: float = MINIMUM_OVERLAP,
) -> WindowLabels:
    """Bring labels of recordings to their windows.

    A row without start and end is about each window of its recording. In a recording that has such a row, a class is
    absent from all windows of which no row says something else; in others it is unknown there. Where rows disagree
    about a class in a window, "present" beats "absent", and that beats "unknown"; but that nothing at all is in a
    stretch beats nothing that is said of a class by name. The weight of an entry is that of the label in the table,
    the largest of several, times that of secondary labels, times that of the recording's rating.

    Parameters
    ----------
    labels : Labels
    recordings : sequence of EmbeddedRecording
        Their windows, in this order, are the rows of the result.
    secondary : "unknown", "present", "ignore" or a number above 0 and up to 1
        What a secondary label says: nothing, so that it is masked; that the class is present; that it is not; or
        that it is present, with this weight.
    rating : bool
        Whether recordings weigh by their rating among all of `labels`: see `birdemb.ratings.weight_by_rating`.
        Recordings without any label weigh 1.
    group_by : "recording", "author" or "site"
        What must not be parted between training and validation: see `group_recordings`.
    window, hop : float
        Length and distance of the windows in seconds; the distance is the length where it is not given.
    minimum_overlap : float
        In seconds, above 0: how long an annotation has to overlap with a window to count in it.

    Returns
    -------
    WindowLabels

    Raises
    ------
    InputError
        If `secondary` or `minimum_overlap` is something else, or the labels tell no ratings, authors or sites.
    """
    if not 0 < minimum_overlap < np.inf:
        raise InputError(f"The minimum overlap is {minimum_overlap:g} s. Expected more than 0, such as 0.5.")
    secondary_rule = _read_secondary(secondary)
    weight_of = weigh_recordings(labels) if rating else {}
    grid = _Grid(recordings, window, window if hop is None else hop)
    rows = _find_rows(labels, grid)
    present = np.zeros((grid.windows, len(labels.classes)), np.int8)
    weights = np.ones(present.shape, np.float32)
    weights[_find_untold(rows, grid)] = 0
    unknown, certain = (_reach(rows.select(state), grid, minimum_overlap) for state in ("unknown", "present"))
    absent = _reach(_join(rows.select("absent")), grid, minimum_overlap)
    absent = absent.only(absent.covered)
    of_all = absent.columns < 0
    weights[absent.windows[of_all]] = absent.weights[of_all, np.newaxis]
    for part in (unknown, certain):
        weights[part.windows, part.columns] = 0
    for part, (value, weight) in (
        (unknown.only(unknown.enough), secondary_rule),
        (absent.only(~of_all), (0, 1.0)),
        (certain.only(certain.enough), (1, 1.0)),
    ):
        present[part.windows, part.columns] = value
        weights[part.windows, part.columns] = part.weights * np.float32(weight)
    recording = grid.recording
    if rating:
        of_recordings = np.array([weight_of.get(entry.recording, 1.0) for entry in recordings], np.float32)
        weights *= of_recordings[recording, np.newaxis]
    groups = group_recordings(labels, recordings, group_by).codes[recording]
    return WindowLabels(present=present, weights=weights, groups=groups, recording=recording)


class _Grid:
    """The windows of recordings, one recording after the other."""

    def __init__(self, recordings: Sequence[EmbeddedRecording], window: float, hop: float) -> None:
        self.window, self.hop = window, hop
        self.counts = np.array([entry.windows for entry in recordings], np.int64)
        self.first = np.cumsum(self.counts) - self.counts
        self.seconds = np.array([entry.seconds for entry in recordings], np.float64)
        self.recording = np.repeat(np.arange(len(recordings)), self.counts)
        self.windows = len(self.recording)
        self.index_of = {entry.recording: index for index, entry in enumerate(recordings)}


@dataclass(frozen=True)
class _Rows:
    """Rows of the table of labels that are about the recordings: each field has one entry for each row."""

    recording: NDArray[np.int64]
    column: NDArray[np.int64]  # of the class; -1 for all
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    state: NDArray[np.object_]
    weight: NDArray[np.float32]

    @property
    def whole(self) -> NDArray[np.bool_]:
        return np.isnan(self.start) & np.isnan(self.end)

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> _Rows:
        return _Rows(*(getattr(self, part.name)[chosen] for part in fields(self)))

    def select(self, state: str) -> _Rows:
        return self.only(self.state == state)


@dataclass(frozen=True)
class _Entries:
    """Entries of the matrix of windows and classes that rows say something of, the heaviest rows last."""

    windows: NDArray[np.int64]
    columns: NDArray[np.int64]
    weights: NDArray[np.float32]
    enough: NDArray[np.bool_]
    covered: NDArray[np.bool_]

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> _Entries:
        return _Entries(*(getattr(self, part.name)[chosen] for part in fields(self)))


def _find_rows(labels: Labels, grid: _Grid) -> _Rows:
    table = labels.table
    column_of = {name: index for index, name in enumerate(labels.classes)} | {"": -1}
    recording = np.array([grid.index_of.get(name, -1) for name in table["recording"]], np.int64)
    rows = _Rows(
        recording=recording,
        column=np.array([column_of[name] for name in table["class"]], np.int64),
        start=table["start"].to_numpy(np.float64),
        end=table["end"].to_numpy(np.float64),
        state=table["state"].to_numpy(object),
        weight=table["weight"].to_numpy(np.float32),
    ).only(recording >= 0)
    return rows.only(np.argsort(rows.weight, kind="stable"))


def _find_untold(rows: _Rows, grid: _Grid) -> NDArray[np.bool_]:
    """Find the windows of recordings that have rows, but none about all of the recording."""
    told, whole = np.zeros(len(grid.counts), np.bool_), np.zeros(len(grid.counts), np.bool_)
    told[rows.recording] = True
    whole[rows.recording[rows.whole]] = True
    return (told & ~whole)[grid.recording]


def _reach(rows: _Rows, grid: _Grid, minimum_overlap: float) -> _Entries:
    """Find the entries that rows touch, and whether they overlap enough with the window or cover it."""
    # Rows about all of a recording need no arithmetic, and there may be a hundred thousand.
    whole, timed = np.flatnonzero(rows.whole), rows.only(~rows.whole)
    seconds = grid.seconds[timed.recording]
    reach = reach_windows(
        np.nan_to_num(timed.start, nan=0.0),
        np.where(np.isnan(timed.end), seconds, timed.end),
        seconds,
        grid.counts[timed.recording],
        window=grid.window,
        hop=grid.hop,
        minimum_overlap=minimum_overlap,
    )
    counts = grid.counts[rows.recording[whole]]
    every = np.ones(counts.sum(), np.bool_)
    row = np.concatenate([np.repeat(whole, counts), np.flatnonzero(~rows.whole)[reach.row]])
    place = np.concatenate([np.arange(len(every)) - np.repeat(np.cumsum(counts) - counts, counts), reach.window])
    entries = _Entries(
        windows=grid.first[rows.recording[row]] + place,
        columns=rows.column[row],
        weights=rows.weight[row],
        enough=np.concatenate([every, reach.enough]),
        covered=np.concatenate([every, reach.covered]),
    )
    # NumPy keeps the last of several values for the same entry: that of the heaviest row.
    return entries.only(np.argsort(row, kind="stable"))


def _join(rows: _Rows) -> _Rows:
    """Join stretches of the same recording, class and weight that overlap or follow each other."""
    start = np.where(np.isnan(rows.start), -np.inf, rows.start)
    order = np.lexsort((start, rows.column, rows.recording, rows.weight))
    rows, start = rows.only(order), start[order]
    if not len(start):
        return rows
    end = np.where(np.isnan(rows.end), np.inf, rows.end)
    keys = np.stack([rows.weight, rows.recording, rows.column])
    begins = np.ones(len(start), np.bool_)
    begins[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    farthest = pd.Series(end).groupby(np.cumsum(begins)).cummax().to_numpy()
    begins[1:] |= start[1:] > farthest[:-1] + _ROUNDING
    places = np.flatnonzero(begins)
    start, end = start[places], np.maximum.reduceat(end, places)
    return replace(
        rows.only(places),
        start=np.where(np.isinf(start), np.nan, start),
        end=np.where(np.isinf(end), np.nan, end),
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
