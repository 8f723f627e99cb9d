"""What a batch of logistic regressions is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FULL", "ROUGH", "ROWS_AT_ONCE", "Path", "Precision", "Task"]

_Floats = NDArray[np.float64]

ROWS_AT_ONCE = 4096
"""Rows of one piece of work; the same for any number of threads, so that sums come out the same."""


@dataclass(frozen=True)
class Precision:
    """How exact the solutions are.

    Parameters
    ----------
    objective : float
        What may be left to gain, as a share of the objective.
    penalty : float
        The same, as a share of the penalty: that bounds the angle to the exact coefficients.
    floor : float
        What is left below this share of the objective is nothing, however small the penalty.
    rounding : float
        Of the objective, as a share of it.
    """

    objective: float
    penalty: float
    floor: float
    rounding: float


# By the character of the dtype. What is left to gain is estimated, and with few rows, many features and a weak ridge by
# up to a factor of 22 too low (measured): that much, and more, is kept in hand to 1e-5.
FULL: dict[str, Precision] = {"f": Precision(2e-7, 3e-5, 1e-10, 5e-7), "d": Precision(1e-14, 1e-17, 1e-20, 1e-13)}
ROUGH = Precision(1e-4, 1e-3, 1e-10, 5e-7)


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be fitted: one regression for each column.

    Parameters
    ----------
    targets : ndarray of shape (n, columns), bool
    weights : ndarray of shape (n, columns), float64
        0 masks an entry.
    offset : ndarray of shape (n, columns), float64, or None
        What is added to the scores.
    rows : sequence of slice, optional
        The rows that count, in ascending order; by default all.
    positive_factor, negative_factor : ndarray of shape (columns,) or float
        What the weights of positives and of negatives are multiplied by.
    """

    targets: NDArray[np.bool_]
    weights: _Floats
    offset: _Floats | None = None
    rows: Sequence[slice] | None = None
    positive_factor: _Floats | float = 1.0
    negative_factor: _Floats | float = 1.0

    def chunks(self) -> list[slice]:
        """Give the rows in pieces of work."""
        parts = [slice(0, len(self.targets))] if self.rows is None else self.rows
        return [
            slice(start, min(start + ROWS_AT_ONCE, part.stop))
            for part in parts
            for start in range(part.start, part.stop, ROWS_AT_ONCE)
        ]

    def take(self, columns: slice) -> Task:
        """Give the task of some columns."""
        shape = self.targets.shape[1:]
        return Task(
            self.targets[:, columns],
            self.weights[:, columns],
            None if self.offset is None else self.offset[:, columns],
            self.rows,
            np.broadcast_to(self.positive_factor, shape)[columns],
            np.broadcast_to(self.negative_factor, shape)[columns],
        )

    def signed_weights(self, rows: slice) -> _Floats:
        """Give the weights of some rows, those of negatives with a minus."""
        signed: _Floats = self.weights[rows] * np.where(
            self.targets[rows], self.positive_factor, -np.asarray(self.negative_factor)
        )
        return signed


@dataclass(frozen=True, eq=False)
class Path:
    """The solutions for each penalty.

    Parameters
    ----------
    coef : ndarray of shape (penalties, columns, dim), float64
    intercept, objective : ndarray of shape (penalties, columns), float64
        The objective is scikit-learn's: the weighted log loss and the penalty.
    n_iter : ndarray of shape (penalties, columns), int64
    converged : ndarray of shape (penalties, columns), bool
    """

    coef: _Floats
    intercept: _Floats
    objective: _Floats
    n_iter: NDArray[np.int64]
    converged: NDArray[np.bool_]
