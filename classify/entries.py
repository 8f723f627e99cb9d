"""Entries: scores, targets and weights of windows and classes, and the groups of the windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError

__all__ = ["check_entries", "count_positive_groups"]


def count_positive_groups(
    targets: NDArray[np.bool_], weights: NDArray[np.float64], groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the groups with at least one positive window that weighs something, for each class.

    Parameters
    ----------
    targets, weights : ndarray of shape (n, classes)
    groups : ndarray of shape (n,), int64

    Returns
    -------
    ndarray of shape (classes,), int64
    """
    _, codes = np.unique(groups, return_inverse=True)
    rows, columns = np.nonzero(targets & (weights > 0))
    pairs = np.unique(codes[rows] * targets.shape[1] + columns)
    return np.bincount(pairs % targets.shape[1], minlength=targets.shape[1]).astype(np.int64)


def check_entries(
    scores: NDArray[np.float64], targets: NDArray[np.bool_], weights: NDArray[np.float64], groups: NDArray[np.int64]
) -> None:
    """Refuse arrays from which nothing can be learnt.

    Parameters
    ----------
    scores, targets, weights : ndarray of shape (n, classes)
    groups : ndarray of shape (n,)

    Raises
    ------
    InputError
        If the shapes differ or are empty, a score is no finite number, a weight is negative or no finite number,
        or all are 0.
    """
    if scores.ndim != 2 or targets.shape != scores.shape or weights.shape != scores.shape or not scores.size:
        shapes = ", ".join(str(array.shape) for array in (scores, targets, weights))
        raise InputError(f"Scores, targets and weights have the shapes {shapes}; expected the same (windows, classes).")
    if groups.shape != scores.shape[:1]:
        raise InputError(f"groups has the shape {groups.shape}; expected one for each of {len(scores)} windows.")
    if not np.isfinite(scores).all():
        raise InputError("The scores hold NaN or infinity; expected a finite number for every window and class.")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InputError("The weights have to be finite, not negative, and not all 0.")
