"""Overlap: windows in between, and the mean of all that overlap a row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["average_overlapping"]


def average_overlapping(
    rows: NDArray[np.float64], between: NDArray[np.float64], weight: float = 0.5
) -> NDArray[np.float64]:
    """Average the prediction of each window with those of the windows that overlap it, weighted by the overlap.

    Parameters
    ----------
    rows : ndarray of shape (n, classes), float64
        Probabilities in the windows of one recording.
    between : ndarray of shape (m, classes), float64
        In the windows that begin in the middle between two of these; m is n - 1, or less where not all were heard.
    weight : float
        Share of a window that one in between covers.

    Returns
    -------
    ndarray of shape (n, classes), float64

    Examples
    --------
    >>> average_overlapping(np.array([[0.2], [0.6]]), np.array([[0.8]])).round(3).ravel().tolist()
    [0.4, 0.667]
    """
    count = min(len(between), len(rows) - 1)
    between = between[:count]
    total, weights = rows.copy(), np.ones((len(rows), 1))
    for begin in (0, 1):
        total[begin : begin + count] += weight * between
        weights[begin : begin + count] += weight
    averaged: NDArray[np.float64] = total / weights
    return averaged
