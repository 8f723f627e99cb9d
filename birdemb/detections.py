"""Detections out: a row for each class in each window where its probability passes its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.listing import EmbeddedRecording
from birdemb.storage import replace_atomically
from birdemb.taxonomy import ClassName

__all__ = ["list_detections", "write_detections"]


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
            "recording": names[rows],
            "start": start,
            "end": start + window,
            "class": [name.label for name in found],
            "scientific_name": [name.scientific for name in found],
            "common_name": [name.common for name in found],
            "probability": probabilities[rows, columns],
            "threshold": thresholds[columns],
        }
    )


def write_detections(path: Path, table: pd.DataFrame) -> None:
    """Write detections as CSV, atomically.

    Raises
    ------
    InputError
        If the path cannot be written.
    """
    with replace_atomically(path) as temporary:
        # Ten digits as in row ids: a recording of a day needs eight for its hundredths of a second.
        table.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")
