"""What happens to embeddings before a head: a chain of steps, learnt from the training windows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler, normalize

from birdemb.classify.state import StateReader, StateValue
from birdemb.errors import InputError

__all__ = ["InputTransform", "Projection", "Step", "read_steps", "signed_square_root"]

_STEP = re.compile(r"(sqrt|unit)|(power):(0?\.\d+|1)|(pca):([1-9]\d{0,5})")
_SMALLEST_VARIANCE = 1e-9  # of a direction, as a share of the largest, below which whitening would blow up rounding


@dataclass(frozen=True)
class Step:
    """One step of a chain.

    Parameters
    ----------
    name : str
        ``"sqrt"``, ``"power"``, ``"unit"`` or ``"pca"``.
    value : float
        The exponent of ``"power"``, the most components of ``"pca"``; 0 otherwise.
    """

    name: str
    value: float = 0.0


def read_steps(kind: object) -> tuple[Step, ...]:
    """Read a chain such as ``"sqrt"``, ``"sqrt+unit"``, ``"power:0.3+pca:128"``; ``"none"`` is the empty one.

    Parameters
    ----------
    kind : object
        What was given.

    Returns
    -------
    tuple of Step

    Raises
    ------
    InputError
        If it is no chain of known steps, or has anything behind ``pca``.

    Examples
    --------
    >>> read_steps("sqrt+pca:128")
    (Step(name='sqrt', value=0.0), Step(name='pca', value=128.0))
    """
    if kind == "none":
        return ()
    steps: list[Step] = []
    for part in kind.split("+") if isinstance(kind, str) else [""]:
        match = _STEP.fullmatch(part)
        if match is None or (steps and steps[-1].name == "pca"):
            raise InputError(
                f"input_transform is {kind!r}. Use 'none', or steps joined by '+': 'sqrt', 'power:EXPONENT', 'unit', "
                "and at the end 'pca:COMPONENTS'."
            )
        name = match[1] or match[2] or match[4]
        steps.append(Step(name, float(match[3] or match[5] or 0)))
    return tuple(steps)


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
class Projection:
    """Whitening by principal components.

    Parameters
    ----------
    mean : ndarray of shape (dim,), float64
    components : ndarray of shape (components, dim), float64
        Directions, each divided by the standard deviation along it.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]

    @classmethod
    def learn(cls, X: NDArray[Any], weights: NDArray[np.float64], most: int) -> Projection:
        """Learn the directions of the largest variance; fewer than `most` where there are no more.

        Parameters
        ----------
        X : ndarray of shape (n, dim), float32 or float64
        weights : ndarray of shape (n,), float64
            Weight of each window.
        most : int
            Most components.

        Returns
        -------
        Projection
        """
        share = weights / weights.sum()
        mean = share @ X.astype(np.float64, copy=False)
        centred = X - mean
        variances, directions = np.linalg.eigh((centred.T * share) @ centred)
        order = np.argsort(variances)[::-1][:most]
        order = order[variances[order] > max(variances.max() * _SMALLEST_VARIANCE, np.finfo(np.float64).tiny)]
        if not len(order):  # windows that are all alike
            return cls(mean, np.zeros((1, X.shape[1])))
        components = directions[:, order].T
        # The sign of a direction is arbitrary: let its largest entry be positive, so that a rerun agrees.
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1, keepdims=True), axis=1)
        components = components * np.sign(largest) / np.sqrt(variances[order])[:, np.newaxis]
        return cls(mean, components)

    def apply(self, X: NDArray[Any]) -> NDArray[Any]:
        """Give the whitened components, shape (n, components), in the dtype of `X`."""
        projected: NDArray[Any] = (X - self.mean.astype(X.dtype)) @ self.components.T.astype(X.dtype)
        return projected


@dataclass(frozen=True, eq=False)
class InputTransform:
    """A chain of steps and then, for heads that are sensitive to scale, standardisation.

    Parameters
    ----------
    steps : tuple of Step
    projection : Projection or None
        Of the step ``"pca"``, the last one where there is one.
    mean, scale : ndarray of shape (width,), float64, or None
        Mean and standard deviation of each feature behind the steps, 1 for a constant one; None for a head that
        does not want them standardised.
    """

    steps: tuple[Step, ...]
    projection: Projection | None = field(default=None, repr=False)
    mean: NDArray[np.float64] | None = field(default=None, repr=False)
    scale: NDArray[np.float64] | None = field(default=None, repr=False)

    @classmethod
    def learn(
        cls, X: NDArray[Any], weights: NDArray[np.float64], kind: str, *, standardise: bool = True
    ) -> InputTransform:
        """Learn what the chain needs to know of the training windows.

        Parameters
        ----------
        X : ndarray of shape (n, dim), float32 or float64
        weights : ndarray of shape (n,), float64
            Weight of each window.
        kind : str
            The chain, as `read_steps` reads it.
        standardise : bool
            Whether standardisation is to follow.

        Returns
        -------
        InputTransform
        """
        steps = read_steps(kind)
        stepped, projection = _apply_pointwise(X, steps), None
        if steps and steps[-1].name == "pca":
            projection = Projection.learn(stepped, weights, int(steps[-1].value))
            stepped = projection.apply(stepped)
        if not standardise or not stepped.shape[1]:
            return cls(steps, projection)
        scaler = StandardScaler().fit(stepped, sample_weight=weights)
        return cls(steps, projection, scaler.mean_.astype(np.float64), scaler.scale_.astype(np.float64))

    def apply(self, X: NDArray[Any]) -> NDArray[Any]:
        """Transform embeddings.

        Parameters
        ----------
        X : ndarray of shape (n, dim), float32 or float64

        Returns
        -------
        ndarray of shape (n, width), in the dtype of `X`
        """
        transformed = _apply_pointwise(X, self.steps)
        if self.projection is not None:
            transformed = self.projection.apply(transformed)
        if self.mean is None or self.scale is None:
            return transformed
        standardised: NDArray[Any] = transformed - self.mean.astype(X.dtype)
        standardised /= self.scale.astype(X.dtype)
        return standardised

    def width(self, dim: int) -> int:
        """Count the features behind the chain, for embeddings of size `dim`."""
        return len(self.projection.components) if self.projection is not None else dim

    def get_state(self) -> dict[str, StateValue]:
        """Give the arrays that, with the chain's text, make up this transform.

        Returns
        -------
        dict of str to ndarray
        """
        state: dict[str, StateValue] = {}
        if self.projection is not None:
            state |= {
                "pca_size": np.array(len(self.projection.components), np.int64),
                "pca_mean": self.projection.mean,
                "pca_components": self.projection.components,
            }
        if self.mean is not None and self.scale is not None:
            state |= {"mean": self.mean, "scale": self.scale}
        return state

    @classmethod
    def read_state(cls, reader: StateReader, kind: str, dim: int, *, standardise: bool = True) -> InputTransform:
        """Rebuild the transform from the state of a head.

        Parameters
        ----------
        reader : StateReader
        kind : str
            The chain.
        dim : int
            Size of an embedding.
        standardise : bool
            As in `learn`.

        Returns
        -------
        InputTransform

        Raises
        ------
        InputError
            If the arrays do not fit, or if a scale is 0 or less.
        """
        steps, projection, width = read_steps(kind), None, dim
        if steps and steps[-1].name == "pca":
            width = reader.count("pca_size")
            projection = Projection(reader.array("pca_mean", (dim,)), reader.array("pca_components", (width, dim)))
        if not standardise:
            return cls(steps, projection)
        mean, scale = reader.array("mean", (width,)), reader.array("scale", (width,))
        if not np.all(scale > 0):
            raise InputError("The part 'scale' in the state of a head holds values that are not above 0.")
        return cls(steps, projection, mean, scale)


def _apply_pointwise(X: NDArray[Any], steps: tuple[Step, ...]) -> NDArray[Any]:
    """Apply the steps that look at one window alone: all but ``pca``."""
    for step in steps:
        if step.name == "sqrt":
            X = signed_square_root(X)
        elif step.name == "power":
            X = np.copysign(np.abs(X) ** X.dtype.type(step.value), X)
        elif step.name == "unit":
            X = normalize(X)
    transformed: NDArray[Any] = X
    return transformed
