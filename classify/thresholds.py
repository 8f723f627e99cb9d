"""From probabilities to detections: a threshold for each class."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.entries import check_entries, count_positive_groups
from birdemb.classify.state import StateReader, StateValue
from birdemb.errors import InputError

__all__ = ["Thresholds", "check_aim", "choose_thresholds"]

BOOTSTRAP_POINTS = 256
"""Most thresholds among which each resampling of the groups chooses."""

MOST_POOLED = 20_000
"""Most windows that the threshold of all classes together is chosen on."""

NUMBERS = ("threshold", "low", "high", "f1", "precision", "recall")
SLACK = 4.0
ABSENT = -1.0
"""Stands for NaN in the state, which holds finite numbers only."""

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The probability from which on a class counts as detected, and what to expect of it.

    Parameters
    ----------
    aim : str
        ``"f1"``, or the precision that was wished, as ``"0.9"``.
    threshold : ndarray of shape (classes,), float64
        A probability of at least this is a detection. NaN: the wished precision was never reached (or nothing was
        positive), so that the class yields no detections.
    low, high : ndarray of shape (classes,), float64
        Interval of the threshold, from resampled groups; NaN where fewer than half of them reached the
        wished precision, or there was only one group.
    f1, precision, recall : ndarray of shape (classes,), float64
        Of the class at its threshold, on the windows that it was chosen on, which flatters slightly. NaN where there
        is nothing to divide by.
    positive_groups : ndarray of shape (classes,), int64
    pooled : ndarray of shape (classes,), bool
        Whether the class has the threshold of all classes together, being too rare for one of its own.
    """

    aim: str
    threshold: _Array
    low: _Array
    high: _Array
    f1: _Array
    precision: _Array
    recall: _Array
    positive_groups: NDArray[np.int64]
    pooled: NDArray[np.bool_]

    def apply(self, probabilities: _Array) -> NDArray[np.bool_]:
        """Decide which classes are detected in which windows.

        Parameters
        ----------
        probabilities : ndarray of shape (n, classes), float64
            Calibrated in the same way as those that the thresholds were chosen on.

        Returns
        -------
        ndarray of shape (n, classes), bool

        Raises
        ------
        InputError
            If the number of columns is another.
        """
        if probabilities.ndim != 2 or probabilities.shape[1] != len(self.threshold):
            raise InputError(
                f"The probabilities have the shape {probabilities.shape}; expected (windows, {len(self.threshold)})."
            )
        detected: NDArray[np.bool_] = probabilities >= self.threshold
        return detected

    def table(self, classes: Sequence[str] | None = None) -> pd.DataFrame:
        """Give one row for each class.

        Parameters
        ----------
        classes : sequence of str, optional
            Their names; by default their numbers.

        Returns
        -------
        pandas.DataFrame
            Columns class, threshold, low, high, f1, precision, recall, positive_groups, source ("class", or "pool"
            for the threshold of all classes together) and reached (False: no detections, as the wished precision was
            never reached).
        """
        return pd.DataFrame(
            {
                "class": range(len(self.threshold)) if classes is None else list(classes),
                **{name: getattr(self, name) for name in NUMBERS},
                "positive_groups": self.positive_groups,
                "source": np.where(self.pooled, "pool", "class"),
                "reached": ~np.isnan(self.threshold),
            }
        )

    def get_state(self) -> dict[str, StateValue]:
        """Give all that makes up the thresholds, as numeric arrays and text whose names begin with thresholds.

        Returns
        -------
        dict of str to ndarray or str
            NaN is -1.
        """
        values = {f"thresholds_{name}": np.nan_to_num(getattr(self, name), nan=ABSENT) for name in NUMBERS}
        return {
            "thresholds_aim": self.aim,
            **values,
            "thresholds_positive_groups": self.positive_groups,
            "thresholds_pooled": self.pooled,
        }

    @classmethod
    def read_state(cls, reader: StateReader, classes: int) -> Thresholds:
        """Rebuild thresholds.

        Parameters
        ----------
        reader : StateReader
        classes : int

        Returns
        -------
        Thresholds

        Raises
        ------
        InputError
            If a part is missing or is not what `get_state` gives.
        """
        aim = reader.text("thresholds_aim")
        _read_aim(aim)
        read = {}
        for name in NUMBERS:
            values = reader.array(f"thresholds_{name}", (classes,)).astype(np.float64)
            if not ((values == ABSENT) | ((values >= 0) & (values <= 1))).all():
                raise InputError(f"The part 'thresholds_{name}' in the state holds values outside 0 to 1.")
            read[name] = np.where(values == ABSENT, np.nan, values)
        positive_groups = reader.array("thresholds_positive_groups", (classes,), "i").astype(np.int64)
        if (positive_groups < 0).any():
            raise InputError("The part 'thresholds_positive_groups' in the state holds a count below 0.")
        pooled = reader.array("thresholds_pooled", (classes,), "b")
        return cls(aim, **read, positive_groups=positive_groups, pooled=pooled)


def check_aim(aim: object) -> None:
    """Refuse what thresholds cannot aim at.

    Parameters
    ----------
    aim : object
        What was given.

    Raises
    ------
    InputError
        If `aim` is neither ``"f1"`` nor a precision above 0 and up to 1.
    """
    _read_aim(aim)


def choose_thresholds(
    probabilities: _Array,
    targets: NDArray[np.bool_],
    weights: _Array,
    groups: NDArray[np.int64],
    aim: str | float = "f1",
    *,
    fewest_groups: int = 5,
    resamples: int = 200,
    confidence: float = 0.9,
    seed: int = 0,
) -> Thresholds:
    """Choose the threshold of each class.

    A threshold is always the probability of a positive window: a lower one, down to the next positive, would only add
    false detections.

    Parameters
    ----------
    probabilities : ndarray of shape (n, classes), float64
        Calibrated, out of fold.
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
        0 leaves an entry out.
    groups : ndarray of shape (n,), int64
    aim : "f1" or float
        The best F1; or a precision above 0 and up to 1, to be reached with as many detections of the class as possible,
        that is, at the lowest such threshold. Of equally good thresholds the highest is taken.
    fewest_groups : int
        A class with fewer positive groups gets the threshold that is best for all entries of all classes together.
    resamples : int
        How often the groups are resampled for the intervals; 0 for none.
    confidence : float
        Share of the resampled thresholds inside the interval.
    seed : int
        Of the resampling.

    Returns
    -------
    Thresholds

    Raises
    ------
    InputError
        If the arrays do not fit together, or a parameter is out of range.

    Notes
    -----
    For the intervals whole groups are drawn with replacement, since the windows of one group say the same (A. Davison
    and D. Hinkley, "Bootstrap Methods and their Application", 1997, 3.8). Of more than 256 positive windows, 256 are
    the candidates there.
    """
    check_entries(probabilities, targets, weights, groups)
    if (probabilities < 0).any() or (probabilities > 1).any():
        raise InputError("The probabilities reach beyond 0 to 1. Calibrate the scores first.")
    check_whole_number("fewest_groups", fewest_groups, at_least=0)
    check_whole_number("resamples", resamples, at_least=0)
    check_number("confidence", confidence, above=0, below=1)
    precision = _read_aim(aim)
    positive_groups = count_positive_groups(targets, weights, groups)
    names, codes = np.unique(groups, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    chooser = _Chooser(precision, np.ascontiguousarray(draws.T, dtype=np.float64), confidence)
    p, t, w = np.asfortranarray(probabilities), np.asfortranarray(targets), np.asfortranarray(weights)
    pooled = positive_groups < fewest_groups
    chosen = np.full((3, len(pooled)), np.nan)
    for column in np.flatnonzero(~pooled):
        part = np.flatnonzero(weights[:, column])
        chosen[:, column] = chooser.choose(p[part, column], t[part, column], w[part, column], codes[part])
    if pooled.any():
        # A part of the windows is enough for what all classes say together.
        some = np.sort(np.random.default_rng(seed).permutation(len(targets))[:MOST_POOLED])
        rows, columns = np.nonzero(weights[some])
        rows = some[rows]
        of_all = chooser.choose(
            probabilities[rows, columns], targets[rows, columns], weights[rows, columns], codes[rows]
        )
        chosen[:, pooled] = np.array(of_all)[:, np.newaxis]
    threshold, low, high = chosen
    hits = probabilities >= threshold
    right = (weights * (hits & targets)).sum(axis=0)
    detected, present = (weights * hits).sum(axis=0), (weights * targets).sum(axis=0)
    return Thresholds(
        aim="f1" if precision is None else repr(precision),
        threshold=threshold,
        low=low,
        high=high,
        f1=_divide(2 * right, detected + present),
        precision=_divide(right, detected),
        recall=_divide(right, present),
        positive_groups=positive_groups,
        pooled=pooled,
    )


@dataclass(frozen=True, eq=False)
class _Chooser:
    """Chooses the threshold of one class, or of all together.

    Parameters
    ----------
    precision : float or None
        None for the best F1.
    draws : ndarray of shape (groups, resamples), float64
        How often each group is drawn.
    confidence : float
    """

    precision: float | None
    draws: _Array
    confidence: float

    def choose(
        self, probabilities: _Array, targets: NDArray[np.bool_], weights: _Array, codes: NDArray[np.int64]
    ) -> tuple[float, float, float]:
        """Give the threshold, and the low and the high end of its interval."""
        candidates = np.unique(probabilities[targets])
        if not len(candidates):
            return np.nan, np.nan, np.nan
        place = np.searchsorted(candidates, probabilities, side="right") - 1
        above = place >= 0
        place, targets, weights, codes = place[above], targets[above], weights[above], codes[above]
        found = weights * targets
        right, detected = (np.bincount(place, part, len(candidates)).astype(np.float64) for part in (found, weights))
        best = int(self._pick(right[:, np.newaxis], detected[:, np.newaxis])[0])
        threshold = float(candidates[best]) if best >= 0 else np.nan
        groups, resamples = self.draws.shape
        if not resamples or groups == 1:
            return threshold, np.nan, np.nan
        first = self._find_lowest(right, detected, best)
        kept = np.linspace(first, len(candidates) - 1, min(BOOTSTRAP_POINTS, len(candidates) - first))
        kept = kept.round().astype(np.int64)
        # Each entry at the highest candidate, among those that are kept, from which on it counts as detected.
        level = np.searchsorted(kept, np.arange(len(candidates)), side="right") - 1
        picked = self._pick(
            self._resample(level[place], found, codes, len(kept)),
            self._resample(level[place], weights, codes, len(kept)),
        )
        reached = candidates[kept][picked[picked >= 0]]
        if len(reached) < resamples / 2:
            return threshold, np.nan, np.nan
        low, high = np.quantile(reached, [(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        return threshold, float(low), float(high)

    def _find_lowest(self, right: _Array, detected: _Array, best: int) -> int:
        """Find the candidate below which hardly any resampling could choose one.

        From ``2 * right / (detected + present)`` and ``right <= present`` follows how much may be detected at all where
        F1 is at least that of the best threshold; likewise for a precision. Four times as much is allowed.
        """
        present, right_above, all_above = right.sum(), right[best:].sum(), detected[best:].sum()
        if self.precision is None:
            most = present * ((all_above + present) / right_above - 1)
        else:
            most = present / self.precision
        above = np.cumsum(detected[::-1])[::-1]
        return int(np.argmax(above <= max(SLACK * most, above[-1])))

    def _resample(self, level: NDArray[np.int64], weights: _Array, codes: NDArray[np.int64], levels: int) -> _Array:
        """Sum the weights at each level in each resampling, of shape (levels, resamples)."""
        used = np.flatnonzero((level >= 0) & (weights > 0))
        # Sorting 16 bits is much faster than sorting 64.
        used = used[np.argsort(level[used].astype(np.int16), kind="stable")]
        ends = np.searchsorted(level[used], np.arange(levels + 1))
        shape = (levels, len(self.draws))
        return np.asarray(csr_array((weights[used], codes[used], ends), shape=shape) @ self.draws)

    def _pick(self, right: _Array, detected: _Array) -> NDArray[np.int64]:
        """Give the best of the k candidates in each of b columns.

        Parameters
        ----------
        right, detected : ndarray of shape (k, b), float64
            Weight of the positive, and of all, entries between each candidate and the one above it.

        Returns
        -------
        ndarray of shape (b,), int64
            -1 where no candidate reaches the precision, or nothing is positive.
        """
        right, detected = (np.cumsum(array[::-1], axis=0) for array in (right, detected))
        present = right[-1]
        if self.precision is None:
            from_top = _divide(2 * right, detected + present).argmax(axis=0)
            reached = present > 0
        else:
            # Sums of the same weights in another order differ in their last bits.
            enough = (right >= self.precision * detected * (1 - 1e-12)) & (right > 0)
            # Of the thresholds with the same recall, the highest.
            enough[1:] &= right[1:] > right[:-1]
            from_top = len(enough) - 1 - enough[::-1].argmax(axis=0)
            reached = enough.any(axis=0)
        return np.where(reached, len(right) - 1 - from_top, -1)


def _read_aim(aim: object) -> float | None:
    """Give the wished precision, or None for the best F1."""
    if aim == "f1":
        return None
    try:
        precision = float(aim) if isinstance(aim, str | numbers.Real) and not isinstance(aim, bool) else np.nan
    except ValueError:
        precision = np.nan
    if not 0 < precision <= 1:
        raise InputError(f"The aim of the thresholds is {aim!r}. Use 'f1', or a precision above 0 and up to 1.")
    return precision


def _divide(part: _Array, whole: _Array) -> _Array:
    shares: _Array = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
    return shares
