"""The curvature of a logistic loss: what all columns share, and what the positives of each add to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

__all__ = ["MOST_POSITIVES", "Axes", "Preconditioner", "find_axes", "find_axes_of_few"]

_Floats = NDArray[np.float64]

MOST_POSITIVES = 64
"""Positives of a column that are taken by themselves; what there are more of counts as all other rows do."""

_SMALLEST = 1e-12  # variance along an axis, as a share of the largest, below which fewer rows than features have none


@dataclass(frozen=True, eq=False)
class Axes:
    """Principal axes of a matrix.

    Parameters
    ----------
    directions : ndarray of shape (dim, axes), float64
        Orthonormal.
    spread : ndarray of shape (axes,), float64
        Weighted sum of the squares along each.
    """

    directions: _Floats
    spread: _Floats


def find_axes(gram: _Floats) -> Axes:
    """Find the axes of a matrix with at least as many rows as features.

    Parameters
    ----------
    gram : ndarray of shape (dim, dim), float64
        Weighted sum of the squares and products of features.

    Returns
    -------
    Axes
    """
    spread, directions = np.linalg.eigh(gram)
    return Axes(directions, np.maximum(spread, 0))


def find_axes_of_few(X: NDArray[Any], weights: _Floats) -> Axes:
    """Find the axes of a matrix with fewer rows than features: there are no more of them than rows.

    Parameters
    ----------
    X : ndarray of shape (n, dim)
    weights : ndarray of shape (n,), float64

    Returns
    -------
    Axes
    """
    wide = X.astype(np.float64)
    squares, vectors = np.linalg.eigh(wide @ wide.T)
    kept = squares > _SMALLEST * max(squares.max(initial=0), np.finfo(np.float64).tiny)
    directions = wide.T @ (vectors[:, kept] / np.sqrt(squares[kept]))
    # Rounding leaves them short of orthonormal by as much as the smallest of them is small.
    directions = np.linalg.qr(directions)[0]
    return Axes(directions, weights @ (wide @ directions) ** 2)


@dataclass(eq=False)
class Preconditioner:
    """The inverse of each column's curvature, as far as it is known without a pass over all rows.

    With d the weight of a row in the Hessian: a column's own positives have their d, and the rest of its d is spread
    over all rows alike. That is a diagonal matrix along the axes and one of low rank (Woodbury's identity).

    Parameters
    ----------
    axes_spread : ndarray of shape (axes,), float64
    total : float
        Sum of the weights that `axes_spread` was found with.
    positives : list of ndarray of shape (positives, axes + 1)
        Those of each column, along the axes, with a 1 for the intercept.
    """

    axes_spread: _Floats
    total: float
    positives: list[NDArray[Any]]
    _diagonal: _Floats = field(init=False, repr=False)
    _low_rank: list[_Floats] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._diagonal = np.ones((len(self.positives), len(self.axes_spread) + 1))
        self._low_rank = [np.zeros((0, 0)) for _ in self.positives]

    def update(self, column: int, of_positives: _Floats, altogether: float, strength: float) -> None:
        """Take new weights of rows.

        Parameters
        ----------
        column : int
        of_positives : ndarray of shape (positives,), float64
            d of the positives that are taken by themselves.
        altogether : float
            Sum of d over all rows.
        strength : float
            Of the ridge, 1 / C.
        """
        # Never below a thousandth, so that rounding cannot make it negative.
        share = max(altogether - of_positives.sum(), 1e-3 * altogether, np.finfo(np.float64).tiny) / self.total
        diagonal = np.append(share * self.axes_spread + strength, share * self.total)
        rows = self.positives[column] * np.sqrt(of_positives)[:, np.newaxis]
        scaled = rows / diagonal
        inner = np.linalg.cholesky(np.eye(len(rows)) + scaled @ rows.T)
        self._diagonal[column] = diagonal
        self._low_rank[column] = solve_triangular(inner, scaled, lower=True)

    def apply(self, vectors: _Floats, columns: NDArray[np.intp]) -> _Floats:
        """Multiply vectors of shape (columns, axes + 1) by the inverse."""
        product: _Floats = vectors / self._diagonal[columns]
        for row, column in enumerate(columns):
            low_rank = self._low_rank[column]
            if len(low_rank):
                product[row] -= (low_rank @ vectors[row]) @ low_rank
        return product
