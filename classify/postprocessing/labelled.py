"""Labelled soundscapes that were predicted: what post-processing is chosen on, and what it is measured by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from birdemb.classify.postprocessing.chain import Postprocessing
from birdemb.classify.postprocessing.context import Windows
from birdemb.classify.postprocessing.step import Step
from birdemb.errors import InputError
from birdemb.resampled import Evaluation

__all__ = ["METRICS", "Gain", "Labelled", "compare"]

METRICS = ("macro_roc_auc", "cmap")
"""By which steps are judged, as `birdemb.metrics` defines them; the first decides."""

_DRAWS = 200
_CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Labelled:
    """Predicted windows, of some of which it is known what is in them.

    Parameters
    ----------
    probabilities : ndarray of shape (n, classes), float64
        Before post-processing, of all windows of the recordings.
    windows : Windows
    known : ndarray of shape (n,), bool
        Which of them are labelled.
    present : ndarray of shape (n, classes), bool
        Which classes are in the labelled ones; False elsewhere, and for classes that the labels do not speak of.
    groups : ndarray of shape (n,), int64
        What belongs together: a recording, or all those of a site.
    labelled_classes : ndarray of shape (classes,), bool, optional
        Which classes the labels speak of; by default all.

    Raises
    ------
    InputError
        If the shapes differ, or a group parts a recording.
    """

    probabilities: NDArray[np.float64]
    windows: Windows
    known: NDArray[np.bool_]
    present: NDArray[np.bool_]
    groups: NDArray[np.int64]
    labelled_classes: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        count = len(self.windows)
        shapes = self.probabilities.shape, self.present.shape
        if shapes[0] != shapes[1] or shapes[0][0] != count or {self.known.shape, self.groups.shape} != {(count,)}:
            raise InputError(
                f"Probabilities of shape {shapes[0]} and labels of shape {shapes[1]} do not belong to {count} windows."
            )
        if self.labelled_classes is not None and self.labelled_classes.shape != shapes[0][1:]:
            raise InputError(
                f"It is said of {len(self.labelled_classes)} classes whether they are labelled, and there are "
                f"{shapes[0][1]}."
            )
        pairs = np.unique(np.stack([self.windows.recording_numbers, self.groups]), axis=1)
        if len(np.unique(pairs[0])) < pairs.shape[1]:
            raise InputError("The windows of a recording are in several groups of labelled soundscapes.")

    def take(self, chosen: NDArray[np.bool_]) -> Labelled:
        """Give the windows of whole groups, by a mask."""
        return Labelled(
            self.probabilities[chosen],
            self.windows.take(np.flatnonzero(chosen)),
            self.known[chosen],
            self.present[chosen],
            self.groups[chosen],
            self.labelled_classes,
        )

    def process(self, steps: Iterable[Step], before: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Give the probabilities, or others of the same windows, after steps in whatever order these are given."""
        windows = self.windows
        return Postprocessing.arrange(steps).apply(
            self.probabilities if before is None else before,
            windows.recording_numbers,
            windows.starts,
            windows.context,
        )

    def roc_auc(self, probabilities: NDArray[np.float64]) -> float:
        """Give the macro ROC-AUC, the first of `METRICS`, alone, which takes a fraction of the time of `measure`."""
        truth, scores = self.present[self.known], probabilities[self.known]
        positives = truth.sum(axis=0)
        measured = (positives > 0) & (positives < len(truth))
        if not measured.any():
            return np.nan
        truth, positives = truth[:, measured], positives[measured]
        # Mann and Whitney: the ranks of the positives, less the least that they could be.
        won = (rankdata(scores[:, measured], axis=0) * truth).sum(axis=0) - positives * (positives + 1) / 2
        return float((won / (positives * (len(truth) - positives))).mean())

    def measure(self, probabilities: NDArray[np.float64]) -> dict[str, float]:
        """Give each of `METRICS` of probabilities for these windows; NaN where nothing can be measured."""
        case = self._evaluate(probabilities, grouped=False)
        if case is None:
            return dict.fromkeys(METRICS, np.nan)
        values = case.macro(case.rank(case.once()))
        return {metric: float(values[metric][0]) for metric in METRICS}

    def draw(self, probabilities: NDArray[np.float64], seed: int) -> Mapping[str, NDArray[np.float64]]:
        """Give each of `METRICS`, and behind it those of draws of groups: the same draws for the same seed."""
        case = self._evaluate(probabilities, grouped=True)
        if case is None:
            return {metric: np.full(_DRAWS + 1, np.nan) for metric in METRICS}
        return case.macro(case.rank(np.hstack([case.once(), case.draw(_DRAWS, seed)])))

    def _evaluate(self, probabilities: NDArray[np.float64], *, grouped: bool) -> Evaluation | None:
        # Classes that are never present cannot be measured, and take time.
        columns = self.present[self.known].any(axis=0)
        if not columns.any():
            return None
        truth, scores = self.present[self.known][:, columns], probabilities[self.known][:, columns]
        return Evaluation(truth, scores, groups=self.groups[self.known] if grouped else None)


@dataclass(frozen=True)
class Gain:
    """What a metric gains.

    Parameters
    ----------
    before, after : float
    low, high : float
        95% interval of the difference, over draws of groups; NaN where there are none.
    """

    before: float
    after: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """After less before."""
        return self.after - self.before


def compare(
    labelled: Labelled, before: NDArray[np.float64], after: NDArray[np.float64], seed: int = 0
) -> dict[str, Gain]:
    """Compare two predictions of the same windows, on the same draws of their groups.

    Parameters
    ----------
    labelled : Labelled
    before, after : ndarray of shape (n, classes), float64
    seed : int

    Returns
    -------
    dict of str to Gain
        For each of `METRICS`. The interval is the percentile one, moved so that the mean of the draws lies at the
        difference itself: see `birdemb.metrics.bootstrap_interval`.
    """
    first, second = labelled.draw(before, seed), labelled.draw(after, seed)
    gains = {}
    for metric in METRICS:
        differences = second[metric] - first[metric]
        drawn = differences[1:][~np.isnan(differences[1:])]
        low = high = np.nan
        if len(drawn) and len(np.unique(labelled.groups)) > 1:
            tail = (1 - _CONFIDENCE) / 2
            low, high = np.quantile(drawn, [tail, 1 - tail]) + differences[0] - drawn.mean()
        gains[metric] = Gain(float(first[metric][0]), float(second[metric][0]), float(low), float(high))
    return gains
