"""How well probabilities agree with what was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.errors import InputError

__all__ = ["brier_scores", "calibration_error", "reliability_table"]


def brier_scores(
    probabilities: NDArray[np.float64], targets: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give the mean squared difference between probability and truth for each class.

    Parameters
    ----------
    probabilities, targets, weights : ndarray of shape (n, classes)
        A weight of 0 leaves an entry out.

    Returns
    -------
    ndarray of shape (classes,), float64
        NaN for a class that is masked everywhere; ``np.nanmean`` of it is the macro average.
    """
    total = weights.sum(axis=0)
    squares = (weights * (probabilities - targets) ** 2).sum(axis=0)
    scores: NDArray[np.float64] = np.divide(squares, total, out=np.full_like(total, np.nan), where=total > 0)
    return scores


def reliability_table(
    probabilities: NDArray[np.float64],
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    bins: int | Sequence[float] = 10,
    *,
    per_class: bool = False,
) -> pd.DataFrame:
    """Compare what was predicted with what was found, for probabilities that are alike.

    Parameters
    ----------
    probabilities, targets, weights : ndarray of shape (n, classes)
        A weight of 0 leaves an entry out.
    bins : int or sequence of float
        So many bins of equal width, or their rising edges, from 0 to 1. Where most classes are rare, edges that
        grow by a factor tell more.
    per_class : bool
        Whether each class has its bins, or all share them.

    Returns
    -------
    pandas.DataFrame
        Columns class (the column's number, only with `per_class`), bin, low, high (its edges; a probability at an
        edge belongs to the bin above it), count (entries), weight, mean_predicted, share_positive (both weighted).
        Empty bins are left out.

    Raises
    ------
    InputError
        If the edges do not rise from 0 to 1.
    """
    edges = np.asarray(bins, dtype=np.float64)
    if not edges.ndim:
        edges = np.linspace(0.0, 1.0, int(edges) + 1)
    if len(edges) < 2 or (np.diff(edges) <= 0).any() or edges[0] != 0 or edges[-1] != 1:
        raise InputError(f"bins is {bins!r}. It has to be a whole number above 0, or edges that rise from 0 to 1.")
    count, classes = len(edges) - 1, probabilities.shape[1]
    sums = np.zeros((4, classes, count))
    # Class by class: arrays of all entries at once would be many times as large as what came in.
    for column in range(classes):
        known = np.flatnonzero(weights[:, column])
        predicted, weight, found = probabilities[known, column], weights[known, column], targets[known, column]
        cell = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, count - 1)
        for row, summed in enumerate((None, weight, weight * predicted, weight * found)):
            sums[row, column] = np.bincount(cell, summed, count)
    entries, total, of_predicted, of_positive = sums if per_class else sums.sum(axis=1, keepdims=True)
    rows, cells = np.nonzero(entries)
    table = pd.DataFrame(
        {
            "class": rows,
            "bin": cells,
            "low": edges[cells],
            "high": edges[cells + 1],
            "count": entries[rows, cells].astype(np.int64),
            "weight": total[rows, cells],
            "mean_predicted": of_predicted[rows, cells] / total[rows, cells],
            "share_positive": of_positive[rows, cells] / total[rows, cells],
        }
    )
    return table if per_class else table.drop(columns="class")


def calibration_error(reliability: pd.DataFrame) -> float:
    """Give the expected calibration error: the mean distance between what was predicted and what was found.

    Parameters
    ----------
    reliability : pandas.DataFrame
        As `reliability_table` gives it.

    Returns
    -------
    float
        The mean over the bins, by their weight. It depends on the bins: compare at the same ones.
    """
    distance = (reliability["mean_predicted"] - reliability["share_positive"]).abs()
    return float(np.average(distance.to_numpy(), weights=reliability["weight"].to_numpy()))
