"""Calibration: from out-of-fold scores to probabilities that mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from birdemb.classify.entries import check_entries, count_positive_groups
from birdemb.classify.platt import fit_platt, smooth_shares
from birdemb.classify.state import StateReader, StateValue
from birdemb.errors import InputError

__all__ = ["CALIBRATIONS", "Calibration"]

CALIBRATIONS = ("platt", "isotonic", "none")

ISOTONIC_GROUPS = 30
"""Positive groups from which on a class gets an isotonic curve of its own."""

PLATT_SHARE = 0.01
"""Share of Platt's curve in an isotonic one: its flat pieces then keep the ranking."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising curve for each class, from scores to probabilities.

    Parameters
    ----------
    method : str
        One of `CALIBRATIONS`.
    slope, intercept : ndarray of shape (classes,), float64
        Platt's curve, ``expit(slope * score + intercept)``; the slope is above 0.
    curves : dict of int to (ndarray of shape (k,), ndarray of shape (k,)), float64
        Column -> rising scores, and the probability at each of them, for the classes with an isotonic curve.
    """

    method: str
    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]
    curves: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]

    @classmethod
    def learn(
        cls,
        scores: NDArray[np.float64],
        targets: NDArray[np.bool_],
        weights: NDArray[np.float64],
        groups: NDArray[np.int64],
        method: str = "platt",
        *,
        assessable: NDArray[np.bool_] | None = None,
    ) -> Calibration:
        """Learn the curves from scores of windows that the head was not fitted on.

        Parameters
        ----------
        scores : ndarray of shape (n, classes), float64
            Out-of-fold logits.
        targets : ndarray of shape (n, classes), bool
        weights : ndarray of shape (n, classes), float64
            Not balanced between present and absent: the probabilities are to mean the share of windows. 0 leaves
            an entry out. Only their proportions inside a class matter.
        groups : ndarray of shape (n,), int64
            The group of each window. The windows of a group say the same, so that evidence is counted in groups.
        method : "platt", "isotonic" or "none"
            "none" takes the scores for logits as they are.
        assessable : ndarray of shape (classes,), bool, optional
            Classes whose out-of-fold scores say something. The others get the shared slope, and their own share of
            positives, which needs no scores.

        Returns
        -------
        Calibration

        Raises
        ------
        InputError
            If there is no such method or the arrays do not fit together.

        Notes
        -----
        Platt's curve, with his smoothed targets, is that of J. Platt, "Probabilistic Outputs for Support Vector
        Machines and Comparisons to Regularized Likelihood Methods", 1999. For each class:

        - The intercept makes the mean probability equal to the share of positives (after smoothing, by which a class
          without any positive window counts as having one). Heads are fitted with other weights, so that this is
          where most of the calibration happens, and it needs few data: it does not depend on which windows are the
          positive ones.
        - The slope is drawn towards one that all classes share: a normal distribution around it, with a standard
          deviation of half of it, against the likelihood of the class, scaled down to its number of positive groups.
          With fewer than 2 positive groups the slope is the shared one.

        A class that is masked everywhere gets the mean share of the others. An isotonic curve is learnt for classes
        with at least 30 positive groups, on the smoothed targets, so that it stays away from 0 and 1; a hundredth of
        Platt's curve is mixed in, so that the flat pieces of it keep the ranking. The other classes have Platt's.
        """
        if method not in CALIBRATIONS:
            raise InputError(f"The calibration is {method!r}. Use one of {', '.join(map(repr, CALIBRATIONS))}.")
        check_entries(scores, targets, weights, groups)
        classes = scores.shape[1]
        if method == "none":
            return cls(method, np.ones(classes), np.zeros(classes), {})
        positive_groups = count_positive_groups(targets, weights, groups)
        if assessable is not None:
            positive_groups = np.where(assessable, positive_groups, 0)
        mean = weights.sum(axis=0) / np.maximum((weights > 0).sum(axis=0), 1)
        known = np.divide(weights, mean, out=np.zeros_like(weights), where=mean > 0)
        absent, present = smooth_shares(targets, known)
        slope, intercept = fit_platt(scores, targets, known, positive_groups)
        curves = {}
        if method == "isotonic":
            both = np.where(targets, 0.0, known).any(axis=0) & (positive_groups >= ISOTONIC_GROUPS)
            for column in np.flatnonzero(both):
                rows = known[:, column] > 0
                model = IsotonicRegression(out_of_bounds="clip")
                model.fit(scores[rows, column], targets[rows, column].astype(np.float64), known[rows, column])
                share = absent[column] + (present[column] - absent[column]) * np.clip(model.y_thresholds_, 0.0, 1.0)
                curves[int(column)] = (model.X_thresholds_.astype(np.float64), share)
        return cls(method, slope, intercept, curves)

    def apply(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the calibrated probabilities.

        Parameters
        ----------
        scores : ndarray of shape (n, classes), float64

        Returns
        -------
        ndarray of shape (n, classes), float64

        Raises
        ------
        InputError
            If the number of columns is another.
        """
        probabilities: NDArray[np.float64] = expit(self._lines(scores))
        for column, (at, share) in self.curves.items():
            curve = np.interp(scores[:, column], at, share)
            probabilities[:, column] = (1 - PLATT_SHARE) * curve + PLATT_SHARE * probabilities[:, column]
        return probabilities

    def apply_logits(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the logits of the calibrated probabilities, finite however extreme these are.

        Parameters
        ----------
        scores : ndarray of shape (n, classes), float64

        Returns
        -------
        ndarray of shape (n, classes), float64

        Raises
        ------
        InputError
            If the number of columns is another.
        """
        logits = self._lines(scores)
        for column, (at, share) in self.curves.items():
            curve = np.interp(scores[:, column], at, share)
            logits[:, column] = logit((1 - PLATT_SHARE) * curve + PLATT_SHARE * expit(logits[:, column]))
        return logits

    def get_state(self) -> dict[str, StateValue]:
        """Give all that makes up the calibration, as numeric arrays and text whose names begin with calibration.

        Returns
        -------
        dict of str to ndarray or str
        """
        none = (np.empty(0), np.empty(0))
        curves = [self.curves.get(column, none) for column in range(len(self.slope))]
        return {
            "calibration_method": self.method,
            "calibration_slope": self.slope,
            "calibration_intercept": self.intercept,
            "calibration_points": np.array([len(at) for at, _ in curves], np.int64),
            "calibration_scores": np.concatenate([at for at, _ in curves]),
            "calibration_shares": np.concatenate([share for _, share in curves]),
        }

    @classmethod
    def read_state(cls, reader: StateReader, classes: int) -> Calibration:
        """Rebuild a calibration; it gives the same probabilities, bit for bit.

        Parameters
        ----------
        reader : StateReader
        classes : int

        Returns
        -------
        Calibration

        Raises
        ------
        InputError
            If a part is missing or is not what `get_state` gives.
        """
        method = reader.text("calibration_method")
        slope = reader.array("calibration_slope", (classes,)).astype(np.float64)
        intercept = reader.array("calibration_intercept", (classes,)).astype(np.float64)
        points = [int(count) for count in reader.array("calibration_points", (classes,), "i")]
        if method not in CALIBRATIONS or (slope <= 0).any() or min(points, default=0) < 0:
            raise InputError("The state of the calibration holds an unknown method, a falling curve or a wrong count.")
        scores = reader.array("calibration_scores", (sum(points),)).astype(np.float64)
        shares = reader.array("calibration_shares", (sum(points),)).astype(np.float64)
        ends = np.cumsum(points)[:-1]
        curves = {}
        for column, (at, share) in enumerate(zip(np.split(scores, ends), np.split(shares, ends), strict=True)):
            if (np.diff(at) <= 0).any() or (np.diff(share) < 0).any() or ((share <= 0) | (share >= 1)).any():
                raise InputError(f"The curve of the class {column} in the state of the calibration does not rise.")
            if len(at):
                curves[column] = (at, share)
        return cls(method, slope, intercept, curves)

    def _lines(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        if scores.ndim != 2 or scores.shape[1] != len(self.slope):
            raise InputError(f"The scores have the shape {scores.shape}; expected (windows, {len(self.slope)}).")
        lines: NDArray[np.float64] = scores * self.slope
        lines += self.intercept
        return lines
