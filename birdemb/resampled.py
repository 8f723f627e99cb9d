"""Metrics of windows that count several times, as they do in the draws of a bootstrap.

What `birdemb.metrics` offers rests on this. scikit-learn's metrics take weights too, but sort every class again for
every draw; here a class is sorted once, and a draw is a column of a matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from birdemb.errors import InputError

__all__ = ["PADDING", "Evaluation"]

PADDING = 5
"""Windows that the padded average precision adds to each class."""

_CELLS = 4_000_000  # of working memory at a time, in numbers


class Evaluation:
    """What is to be measured, on windows that may count several times.

    Where a method takes `drawn`, that is how often each group counts in each draw, shape (groups, draws), float64.

    Parameters
    ----------
    truth : array of shape (windows, classes), bool
    scores : array of shape (windows, classes), float
    known : array of shape (windows, classes), optional
        0 leaves an entry out.
    thresholds : float or array of shape (classes,)
        For F1.
    groups : array of shape (windows,), optional
        What is drawn as a whole, in numbers or text; without it all windows are one group.

    Raises
    ------
    InputError
        If the shapes differ, there is no window, or a score is NaN.
    """

    def __init__(
        self,
        truth: ArrayLike,
        scores: ArrayLike,
        known: ArrayLike | None = None,
        thresholds: ArrayLike = 0.5,
        groups: ArrayLike | None = None,
    ) -> None:
        self.truth, self.scores = np.asarray(truth, np.bool_), np.asarray(scores, np.float64)
        self.known = np.ones(self.truth.shape, np.bool_) if known is None else np.asarray(known) != 0
        if self.truth.ndim != 2 or not len(self.truth) or self.scores.shape != self.truth.shape:
            raise InputError(
                f"The truth has the shape {self.truth.shape} and the scores {self.scores.shape}; expected the same two "
                "numbers, windows (at least one) and classes."
            )
        if self.known.shape != self.truth.shape:
            raise InputError(f"known has the shape {self.known.shape}; expected {self.truth.shape}, as the truth.")
        if np.isnan(self.scores).any():
            window, column = np.argwhere(np.isnan(self.scores))[0]
            raise InputError(f"The score of window {window} for class {column} is NaN; expected a number.")
        self.thresholds = np.asarray(thresholds, np.float64)
        if self.thresholds.shape not in ((), self.truth.shape[1:]):
            raise InputError(
                f"thresholds has the shape {self.thresholds.shape}; expected one number, or {self.truth.shape[1]}."
            )
        windows = len(self.truth)
        given = np.zeros(windows) if groups is None else np.asarray(groups)
        if given.shape != (windows,):
            raise InputError(f"groups has the shape {given.shape}; expected one for each of {windows} windows.")
        names, self.codes = np.unique(given, return_inverse=True)
        self.groups = len(names)

    def once(self) -> NDArray[np.float64]:
        """Give the one draw in which everything counts once."""
        return np.ones((self.groups, 1))

    def draw(self, draws: int, seed: int) -> NDArray[np.float64]:
        """Draw as many groups as there are, with replacement, and count them."""
        counts = np.random.default_rng(seed).multinomial(self.groups, np.full(self.groups, 1 / self.groups), size=draws)
        drawn: NDArray[np.float64] = counts.T.astype(np.float64)
        return drawn

    def interval(
        self, value: NDArray[np.float64], values: NDArray[np.float64], confidence: float
    ) -> NDArray[np.float64]:
        """Give the middle of the draws around a value; the first axis of the result is low and high.

        Parameters
        ----------
        value : ndarray of shape (...)
            Of the windows as they are.
        values : ndarray of shape (..., draws)
            Moved so that their mean is `value`: see `birdemb.metrics.bootstrap_interval`.
        confidence : float

        Returns
        -------
        ndarray of shape (2, ...)
            NaN where there is only one group, or no value.
        """
        result = np.full((2, *value.shape), np.nan)
        measured = ~np.isnan(values).all(axis=-1)
        if self.groups > 1 and measured.any():
            limits = [(1 - confidence) / 2, (1 + confidence) / 2]
            drawn = values[measured]
            moved = np.nanquantile(drawn, limits, axis=-1) + value[measured] - np.nanmean(drawn, axis=-1)
            result[:, measured] = np.clip(moved, 0, 1)
        return result

    def rank(self, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give ROC-AUC, average precision, and that with padding: shape (3, classes, draws)."""
        result = np.full((3, self.truth.shape[1], drawn.shape[1]), np.nan)
        probabilities = bool(((self.scores >= 0) & (self.scores <= 1))[self.known].all())
        for column in range(self.truth.shape[1]):
            known = self.known[:, column]
            present, values, codes = self.truth[known, column], self.scores[known, column], self.codes[known]
            # Nothing happens between two positives but that negatives are counted: they need one bin, and each score
            # that a positive has needs one. Bin 2 i + 1 has the i-th of these scores, bin 2 i what lies below it.
            steps = np.unique(np.append(values[present], 1.0))  # 1 is the score of the padding
            place = np.searchsorted(steps, values)
            tied = np.append(steps, np.nan)[place] == values
            bins = len(steps)
            positives = self._count(place[present], codes[present], bins)
            negatives = self._count((2 * place + tied)[~present], codes[~present], 2 * bins + 1)
            for part in _parts(drawn.shape[1], 2 * bins + 1):
                hits, others = positives @ drawn[:, part], negatives @ drawn[:, part]
                result[0, column, part] = _roc_auc(hits, others)
                result[1, column, part] = _average_precision(hits, others)
                if probabilities and len(present):
                    hits[-1] += PADDING
                    result[2, column, part] = _average_precision(hits, others)
        return result

    def macro(self, ranked: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Give the means over the classes of what `rank` gave."""
        names = ("macro_roc_auc", "cmap", "padded_cmap")
        return {name: _mean(values) for name, values in zip(names, ranked, strict=True)}

    def lrap(self, drawn: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Give the label ranking average precision of each draw."""
        windows, columns = np.nonzero(self.truth & self.known)
        share = np.empty(len(windows))
        for part in _parts(len(windows), self.truth.shape[1]):
            row, column = windows[part], columns[part]
            as_high = (self.scores[row] >= self.scores[row, column][:, None]) & self.known[row]
            share[part] = (as_high & self.truth[row]).sum(axis=1) / as_high.sum(axis=1)
        labels = np.bincount(windows, minlength=len(self.truth))
        of_window = np.bincount(windows, share, minlength=len(self.truth)) / np.maximum(labels, 1)
        total, count = (np.bincount(self.codes, values) @ drawn for values in (of_window, labels > 0))
        return {"lrap": _divide(total, count)}

    def f1(self, drawn: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
        """Give the F1 of each class, shape (classes, draws), and its two means."""
        guess = (self.scores >= self.thresholds) & self.known
        truth = self.truth & self.known
        of_group = csr_array((np.ones(len(truth)), (self.codes, np.arange(len(truth)))))
        hits, claims, positives = (
            (of_group @ flags.astype(np.float64)).T @ drawn for flags in (guess & truth, guess, truth)
        )
        of_class = np.where(positives > 0, _divide(2 * hits, claims + positives), np.nan)
        micro = _divide(2 * hits.sum(axis=0), (claims + positives).sum(axis=0))
        return of_class, {"macro_f1": _mean(of_class), "micro_f1": micro}

    def _count(self, bins: NDArray[np.int64], codes: NDArray[np.int64], size: int) -> Any:  # noqa: ANN401 - see below
        """Count the windows in each bin (rows) and group (columns): a sparse array, or a plain one for one group."""
        if self.groups == 1:
            return np.bincount(bins, minlength=size)[:, None].astype(np.float64)
        return csr_array((np.ones(len(bins)), (bins, codes)), shape=(size, self.groups))


def _roc_auc(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the area from counts in ascending bins, of shapes (bins, draws) and (2 bins + 1, draws)."""
    below = np.cumsum(negatives, axis=0)[:-1:2]
    won = (positives * (below + negatives[1::2] / 2)).sum(axis=0)
    return _divide(won, positives.sum(axis=0) * negatives.sum(axis=0))


def _average_precision(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the average precision from counts as in `_roc_auc`."""
    hits = np.cumsum(positives[::-1], axis=0)[::-1]
    false = np.cumsum(negatives[::-1], axis=0)[-2::-2]
    return _divide((positives * np.nan_to_num(_divide(hits, hits + false))).sum(axis=0), positives.sum(axis=0))


def _divide(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    """Divide, with NaN where there is nothing to divide by."""
    result: NDArray[np.float64] = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _mean(of_classes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the mean over the classes that have a value."""
    return _divide(np.nansum(of_classes, axis=0), (~np.isnan(of_classes)).sum(axis=0))


def _parts(length: int, cells: int) -> Iterator[slice]:
    step = max(1, _CELLS // max(cells, 1))
    return (slice(start, start + step) for start in range(0, length, step))
