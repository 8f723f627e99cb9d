"""The weighted log loss of many regressions on one piece of a matrix, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

__all__ = ["Loss", "balance_sides", "find_loss", "sum_log_loss"]

_BLOCK = 1024  # rows whose scores stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Loss:
    """Sums over rows.

    Parameters
    ----------
    value : ndarray of shape (columns,), float64
        The weighted log loss.
    gradient : ndarray of shape (columns, dim + 1), float64
        By the coefficients and, last, by the intercept.
    curvature : ndarray of shape (columns,), float64
        Its second derivative by the intercept: what the rows weigh in the Hessian, altogether.
    """

    value: NDArray[np.float64]
    gradient: NDArray[np.float64]
    curvature: NDArray[np.float64]

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.value + other.value, self.gradient + other.gradient, self.curvature + other.curvature)


def find_loss(
    X: NDArray[Any],
    signed_weights: NDArray[Any],
    offset: NDArray[Any] | None,
    coef: NDArray[Any],
    intercept: NDArray[Any],
) -> Loss:
    """Find the loss of all columns at the same time, in blocks of rows.

    Parameters
    ----------
    X : ndarray of shape (n, dim)
    signed_weights : ndarray of shape (n, columns)
        The weight of each entry, with a minus where it is a negative; 0 masks.
    offset : ndarray of shape (n, columns) or None
        Is added to the scores.
    coef : ndarray of shape (dim, columns)
    intercept : ndarray of shape (columns,)
        All of one dtype.

    Returns
    -------
    Loss
    """
    columns, one = signed_weights.shape[1], X.dtype.type(1)
    value, curvature, gradient = np.zeros(columns), np.zeros(columns), np.zeros((columns, X.shape[1] + 1))
    for start in range(0, len(X), _BLOCK):
        rows = slice(start, start + _BLOCK)
        signed = signed_weights[rows]
        weights = np.abs(signed)
        # The margin: the score, with its sign turned for negatives.
        margin = X[rows] @ coef
        margin += intercept
        if offset is not None:
            margin += offset[rows]
        margin *= np.copysign(one, signed)
        smaller = np.exp(-np.abs(margin))
        larger = one + smaller
        loss = np.log(larger)
        loss -= np.minimum(margin, 0)
        loss *= weights
        value += loss.sum(axis=0, dtype=np.float64)
        # The probability of the other side.
        wrong = np.where(margin > 0, smaller, one)
        wrong /= larger
        smaller /= larger
        smaller /= larger
        smaller *= weights
        curvature += smaller.sum(axis=0, dtype=np.float64)
        wrong *= signed
        gradient[:, :-1] -= wrong.T @ X[rows]
        gradient[:, -1] -= wrong.sum(axis=0, dtype=np.float64)
    return Loss(value, gradient, curvature)


def sum_log_loss(scores: NDArray[Any], targets: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the weighted log loss of scores.

    Parameters
    ----------
    scores : ndarray of shape (..., n, columns)
        Logits.
    targets : ndarray of shape (n, columns), bool
    weights : ndarray of shape (n, columns), float64

    Returns
    -------
    ndarray of shape (..., columns), float64
    """
    total = np.zeros((*scores.shape[:-2], scores.shape[-1]))
    for start in range(0, len(targets), _BLOCK):
        rows = slice(start, start + _BLOCK)
        margin = np.where(targets[rows], scores[..., rows, :], -scores[..., rows, :])
        losses = np.log(1 + np.exp(-np.abs(margin)))
        losses -= np.minimum(margin, 0)
        total += (losses * weights[rows]).sum(axis=-2, dtype=np.float64)
    return total


def balance_sides(signed_weights: NDArray[Any], offset: NDArray[Any]) -> float:
    """Find the intercept at which the positives and negatives of one column pull alike, without any feature.

    Parameters
    ----------
    signed_weights : ndarray of shape (n,)
        The weight of each entry, with a minus where it is a negative.
    offset : ndarray of shape (n,)
        Is added to the scores.

    Returns
    -------
    float
        0 where a side has no weight.
    """
    weights = np.abs(signed_weights).astype(np.float64)
    present = signed_weights > 0
    up, down = weights[present].sum(), weights[~present].sum()
    if not (up and down):
        return 0.0
    furthest = 1 + abs(np.log(up / down)) + np.abs(offset).max()
    return float(brentq(lambda shift: weights @ (expit(offset + shift) - present), -furthest, furthest, xtol=1e-6))
