"""What happens to embeddings before a head that is sensitive to their scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from birdemb.classify.state import StateReader, StateValue
from birdemb.errors import InputError

__all__ = ["TRANSFORMS", "InputTransform", "check_transform", "signed_square_root"]

TRANSFORMS = ("sqrt", "none")


def check_transform(transform: object) -> None:
    """Refuse a transform that does not exist.

    Parameters
    ----------
    transform : object
        What was given.

    Raises
    ------
    InputError
        If `transform` is not one of `TRANSFORMS`.
    """
    if transform not in TRANSFORMS:
        raise InputError(f"input_transform is {transform!r}. Use one of {', '.join(map(repr, TRANSFORMS))}.")


def signed_square_root(X: NDArray[Any]) -> NDArray[Any]:
    """Take the square root of the magnitude of each value, and keep its sign.

    The embeddings of most encoders are averages of rectified activations: never negative, and skewed,
    with a few large values that would dominate a linear head. The square root makes them nearly
    symmetric (the Hellinger or "power" normalisation of F. Perronnin, J. Sanchez and T. Mensink,
    "Improving the Fisher Kernel for Large-Scale Image Classification", ECCV 2010).

    Parameters
    ----------
    X : ndarray of any shape, float

    Returns
    -------
    ndarray of the same shape and dtype

    Examples
    --------
    >>> signed_square_root(np.array([-4.0, 0.0, 9.0]))
    array([-2.,  0.,  3.])
    """
    root: NDArray[Any] = np.copysign(np.sqrt(np.abs(X)), X)
    return root


@dataclass(frozen=True, eq=False)
class InputTransform:
    """Square root and standardisation, learnt from the training windows.

    Parameters
    ----------
    kind : str
        One of `TRANSFORMS`: the signed square root or nothing before standardisation.
    mean : ndarray of shape (dim,), float64
        Mean of each feature after `kind`.
    scale : ndarray of shape (dim,), float64
        Standard deviation of each feature after `kind`; 1 for a constant feature.
    """

    kind: str
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def learn(cls, X: NDArray[Any], weights: NDArray[np.float64], kind: str) -> InputTransform:
        """Learn the mean and the standard deviation of each feature.

        Parameters
        ----------
        X : ndarray of shape (n, dim), float32 or float64
        weights : ndarray of shape (n,), float64
            Weight of each window in the mean and the standard deviation.
        kind : str
            One of `TRANSFORMS`.

        Returns
        -------
        InputTransform
        """
        scaler = StandardScaler().fit(_transform(X, kind), sample_weight=weights)
        return cls(kind, scaler.mean_.astype(np.float64), scaler.scale_.astype(np.float64))

    def apply(self, X: NDArray[Any]) -> NDArray[Any]:
        """Transform embeddings.

        Parameters
        ----------
        X : ndarray of shape (n, dim), float32 or float64

        Returns
        -------
        ndarray of the same shape and dtype
        """
        transformed: NDArray[Any] = _transform(X, self.kind) - self.mean.astype(X.dtype)
        transformed /= self.scale.astype(X.dtype)
        return transformed

    def get_state(self) -> dict[str, StateValue]:
        """Give the arrays that, with `kind`, make up this transform.

        Returns
        -------
        dict of str to ndarray
        """
        return {"mean": self.mean, "scale": self.scale}

    @classmethod
    def read_state(cls, reader: StateReader, kind: str, dim: int) -> InputTransform:
        """Rebuild the transform from the state of a head.

        Parameters
        ----------
        reader : StateReader
        kind : str
            One of `TRANSFORMS`.
        dim : int
            Size of an embedding.

        Returns
        -------
        InputTransform

        Raises
        ------
        InputError
            If the arrays do not fit, or if a scale is 0 or less.
        """
        mean, scale = reader.array("mean", (dim,)), reader.array("scale", (dim,))
        if not np.all(scale > 0):
            raise InputError("The part 'scale' in the state of a head holds values that are not above 0.")
        return cls(kind, mean, scale)


def _transform(X: NDArray[Any], kind: str) -> NDArray[Any]:
    return signed_square_root(X) if kind == "sqrt" else X
