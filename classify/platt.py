"""Platt's calibration curves of all classes at once, their slopes drawn towards a shared one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

__all__ = ["fit_platt", "smooth_shares"]

SLOPE_SPREAD = 0.5
"""Standard deviation of the slopes of classes, relative to the shared one, that is expected beforehand."""

SLOPE_GROUPS = 2
"""Positive groups from which on a class has a say about slopes. A single one is always scored by a head that never
heard the class."""

SLOPE_RANGE = (1e-3, 1e3)
SLOPE_FACTOR = 20.0
"""How far the slope of a class may be from the shared one; always above 0, so that the ranking is kept."""

BINS = 2048
ITERATIONS = 100
PRECISION = 1e-9

_Array = NDArray[np.float64]
_Function = Callable[[_Array], tuple[_Array, _Array]]


def smooth_shares(targets: NDArray[np.bool_], weights: _Array) -> tuple[_Array, _Array]:
    """Give what stands for "absent" and "present" in place of 0 and 1, for each class.

    Parameters
    ----------
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
        Their mean over the entries that are not masked is 1.

    Returns
    -------
    absent, present : ndarray of shape (classes,), float64
        ``1 / (negatives + 2)`` and ``(positives + 1) / (positives + 2)``, as Platt proposed.
    """
    positives = np.einsum("nc,nc->c", targets, weights)
    negatives = weights.sum(axis=0) - positives
    return 1 / (negatives + 2), (positives + 1) / (positives + 2)


def fit_platt(
    scores: _Array, targets: NDArray[np.bool_], weights: _Array, positive_groups: NDArray[np.int64]
) -> tuple[_Array, _Array]:
    """Fit the slope and the intercept of each class; see `birdemb.classify.calibration.Calibration.learn`.

    Parameters
    ----------
    scores : ndarray of shape (n, classes), float64
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
        Their mean over the entries of a class that are not masked is 1.
    positive_groups : ndarray of shape (classes,), int64

    Returns
    -------
    slope, intercept : ndarray of shape (classes,), float64
    """
    evidence = _Evidence.gather(scores, targets, weights, positive_groups)
    shared = evidence.fit_shared_slope()
    slope = evidence.fit_slopes(shared)
    return slope, evidence.fit_intercepts(slope)


@dataclass(eq=False)
class _Evidence:
    """What is known about each class, in a form whose size does not depend on the number of windows.

    Parameters
    ----------
    points : ndarray of shape (classes, k), float64
        Scores, or means of scores that are nearly the same.
    mass : ndarray of shape (classes, k), float64
        Weight of each point.
    positives : ndarray of shape (classes,), float64
        Sum of the smoothed targets.
    product : ndarray of shape (classes,), float64
        Sum of smoothed target times score.
    say : ndarray of shape (classes,), float64
        Positive groups for each positive window; 0 for a class that has no say about slopes.
    intercept : ndarray of shape (classes,), float64
        Where the next search begins.
    """

    points: _Array
    mass: _Array
    positives: _Array
    product: _Array
    say: _Array
    intercept: _Array

    @classmethod
    def gather(
        cls, scores: _Array, targets: NDArray[np.bool_], weights: _Array, positive_groups: NDArray[np.int64]
    ) -> _Evidence:
        absent, present = smooth_shares(targets, weights)
        found = np.einsum("nc,nc->c", targets, weights)
        total = weights.sum(axis=0)
        positives = absent * (total - found) + present * found
        found_product = np.einsum("nc,nc,nc->c", targets, weights, scores)
        product = absent * (np.einsum("nc,nc->c", weights, scores) - found_product) + present * found_product
        masked = total == 0
        if masked.any():
            # Nothing is known about these: all their windows, at the mean share of the other classes.
            weights = np.where(masked, 1.0, weights)
            positives[masked] = len(scores) * np.mean(positives[~masked] / total[~masked])
        say = np.minimum(positive_groups / np.maximum(found, 1e-300), 1.0) * (positive_groups >= SLOPE_GROUPS)
        points, mass = _compress(scores, weights)
        return cls(points, mass, positives, product, say, logit(positives / mass.sum(axis=1)))

    def fit_intercepts(self, slope: _Array) -> _Array:
        """Find the intercepts at which the probabilities sum to the targets."""
        lines = self.points * slope[:, np.newaxis]

        def surplus(intercept: _Array) -> tuple[_Array, _Array]:
            likely = expit(lines + intercept[:, np.newaxis])
            weighted = self.mass * likely
            sums = weighted.sum(axis=1)
            return sums - self.positives, sums - np.einsum("ck,ck->c", weighted, likely)

        anywhere = self.mass > 0
        share = logit(self.positives / self.mass.sum(axis=1))
        low = share - np.where(anywhere, lines, -np.inf).max(axis=1)
        high = share - np.where(anywhere, lines, np.inf).min(axis=1)
        self.intercept = _find_root(surplus, low, high, self.intercept)
        return self.intercept

    def fit_shared_slope(self) -> _Array:
        """Find the slope that fits all classes best, each with an intercept of its own; of shape (1,)."""

        def pull(slope: _Array) -> tuple[_Array, _Array]:
            value, derivative = self._slope_gradient(np.repeat(slope, len(self.points)))
            # The little that is added draws the slope to 1 where there is no evidence at all.
            return (slope - 1) * 1e-6 + value.sum(), np.full(1, 1e-6 + derivative.sum())

        low, high = (np.array([limit]) for limit in SLOPE_RANGE)
        return _find_root(pull, low, high, np.ones(1))

    def fit_slopes(self, shared: _Array) -> _Array:
        """Find the slope of each class, between its own best one and the shared one."""
        strength = 1 / (SLOPE_SPREAD * shared) ** 2

        def pull(slope: _Array) -> tuple[_Array, _Array]:
            value, derivative = self._slope_gradient(slope)
            return value + strength * (slope - shared), derivative + strength

        centre = np.repeat(shared, len(self.points))
        return _find_root(pull, centre / SLOPE_FACTOR, centre * SLOPE_FACTOR, centre)

    def _slope_gradient(self, slope: _Array) -> tuple[_Array, _Array]:
        """Give how the misfit of each class changes with its slope, at the best intercept, and the change of that."""
        intercept = self.fit_intercepts(slope)
        likely = expit(self.points * slope[:, np.newaxis] + intercept[:, np.newaxis])
        weighted = self.mass * likely
        value = np.einsum("ck,ck->c", weighted, self.points) - self.product
        weighted *= 1 - likely
        total = weighted.sum(axis=1)
        first = np.einsum("ck,ck->c", weighted, self.points)
        second = np.einsum("ck,ck,ck->c", weighted, self.points, self.points)
        spread: _Array = np.maximum(second - first**2 / np.maximum(total, 1e-300), 0.0)
        curvature: _Array = self.say * spread
        return self.say * value, curvature


def _compress(scores: _Array, weights: _Array) -> tuple[_Array, _Array]:
    """Put scores that are nearly the same together; the mean of each bin keeps the error of second order.

    The bins have the same width in ``arcsinh(score)``, so that one extreme score does not swallow the others.
    """
    if len(scores) <= BINS:
        return np.ascontiguousarray(scores.T), np.ascontiguousarray(weights.T)
    points, mass = (np.zeros((scores.shape[1], BINS)) for _ in range(2))
    for column in range(scores.shape[1]):
        known = np.flatnonzero(weights[:, column])
        score, weight = scores[known, column], weights[known, column]
        place = np.arcsinh(score)
        place -= place.min()
        width = place.max() / (BINS - 1)
        cell = (place / width).astype(np.int64) if width > 0 else np.zeros(len(place), np.int64)
        mass[column] = np.bincount(cell, weight, BINS)
        np.divide(np.bincount(cell, weight * score, BINS), mass[column], out=points[column], where=mass[column] > 0)
    return points, mass


def _find_root(function: _Function, low: _Array, high: _Array, start: _Array) -> _Array:
    """Find where rising functions are 0, by Newton's method inside a bracket.

    Parameters
    ----------
    function : callable
        Gives the values and the derivatives of all functions at once.
    low, high : ndarray of shape (k,), float64
        Where the search may go: a function that is not 0 between them has its root at the nearer one.
    start : ndarray of shape (k,), float64

    Returns
    -------
    ndarray of shape (k,), float64
    """
    low, high = low.copy(), high.copy()
    at = np.clip(start, low, high)
    for _ in range(ITERATIONS):
        value, derivative = function(at)
        low, high = np.where(value < 0, at, low), np.where(value > 0, at, high)
        step = np.divide(value, derivative, out=np.full_like(value, np.inf), where=derivative > 0)
        step[value == 0] = 0.0
        following = at - step
        outside = ~((following >= low) & (following <= high))
        following[outside] = (low + high)[outside] / 2
        done = np.abs(following - at) <= PRECISION * (1 + np.abs(at))
        at = following
        if done.all():
            break
    return at
