"""Detections: the classes that pass their thresholds, window by window or joined to longer stretches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.listing import EmbeddedRecording
from birdemb.taxonomy import ClassName

__all__ = ["COLUMNS", "list_detections", "merge_detections"]

COLUMNS = ("recording", "start", "end", "class", "scientific_name", "common_name", "probability", "threshold")

_TOUCHING = 1e-6  # seconds, far below a sample: sums of hops in binary do not meet exactly


def list_detections(
    recordings: Sequence[EmbeddedRecording],
    probabilities: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    classes: Sequence[ClassName],
    *,
    window: float = 5.0,
    hop: float = 5.0,
) -> pd.DataFrame:
    """List the classes that are detected in each window.

    Parameters
    ----------
    recordings : sequence of EmbeddedRecording
    probabilities : ndarray of shape (windows of all recordings, classes)
        Calibrated.
    thresholds : ndarray of shape (classes,)
        Probability from which on each class is detected; NaN for one that never is.
    classes : sequence of ClassName
        In the order of the columns.
    window, hop : float
        In seconds.

    Returns
    -------
    pandas.DataFrame
        Columns recording, start and end (seconds), class, scientific_name, common_name, probability, threshold; in the
        order of the windows and then of the classes.
    """
    rows, columns = np.nonzero(probabilities >= thresholds)
    counts = [entry.windows for entry in recordings]
    names = np.repeat(np.array([entry.recording for entry in recordings], object), counts)
    first = np.repeat(np.cumsum([0, *counts])[:-1], counts)
    found = [classes[column] for column in columns.tolist()]
    start = (np.arange(len(names)) - first)[rows] * hop
    return pd.DataFrame(
        {
            "recording": pd.Series(names[rows], dtype=object),  # names of files need not be valid text
            "start": start,
            "end": start + window,
            "class": [name.label for name in found],
            "scientific_name": [name.scientific for name in found],
            "common_name": [name.common for name in found],
            "probability": probabilities[rows, columns],
            "threshold": thresholds[columns],
        }
    )


def merge_detections(table: pd.DataFrame, gap: float = 0.0) -> pd.DataFrame:
    """Join the detections of a class that follow each other in a recording.

    Parameters
    ----------
    table : pandas.DataFrame
        As `list_detections` gives it.
    gap : float
        Seconds that may lie between the end of one and the start of the next; at 0 they have to touch or overlap.

    Returns
    -------
    pandas.DataFrame
        The same columns. Each row begins where the first of those that it stands for does, ends where the last does,
        and has their highest probability. In the order of the recordings, of the starts, and then of the classes.

    Examples
    --------
    >>> found = list_detections(
    ...     [EmbeddedRecording("a.wav", "00", 5, 25.0)], np.array([[0.6], [0.9], [0], [0], [0.7]]), np.array([0.5]),
    ...     [ClassName("wren")])
    >>> merge_detections(found)[["start", "end", "probability"]].to_numpy().tolist()
    [[0.0, 10.0, 0.9], [20.0, 25.0, 0.7]]
    """
    if table.empty:
        return table
    recording, class_number = (pd.factorize(table[name])[0] for name in ("recording", "class"))
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    order = np.lexsort((start, class_number, recording))
    recording, class_number, start, end = recording[order], class_number[order], start[order], end[order]
    # All windows are equally long, so that the one before ends last of all before.
    follows = (
        (recording[1:] == recording[:-1])
        & (class_number[1:] == class_number[:-1])
        & (start[1:] <= end[:-1] + gap + _TOUCHING)
    )
    first = np.flatnonzero(np.concatenate([[True], ~follows]))
    last = np.append(first[1:], len(table)) - 1
    merged = table.iloc[order[first]].copy()
    merged["end"] = end[last]
    merged["probability"] = np.maximum.reduceat(table["probability"].to_numpy()[order], first)
    # A stretch stands where its first window stood: windows come before classes in the order of the table.
    return merged.iloc[np.argsort(order[first])].reset_index(drop=True)
