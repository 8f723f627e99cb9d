"""What a head is given to fit: labels, weights, offsets and groups as users write them, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from birdemb.errors import InputError

LARGEST_OFFSET = 500.0
"""Beyond, probabilities are 0 or 1 to the last bit many times over, and losses overflow."""

__all__ = ["Columns", "Targets", "read_groups", "read_offset", "read_targets", "read_weights"]


@dataclass(frozen=True, eq=False)
class Columns:
    """What the classifiers of the columns that have positives and negatives are fitted to; there may be none.

    Parameters
    ----------
    targets : ndarray of shape (n, columns), bool
    weights : ndarray of shape (n, columns), float64
        Reweighted; 0 masks.
    of_windows : ndarray of shape (n,), float64
        Weight of each window as a whole, before reweighting; above 0.
    offset : ndarray of shape (n, columns), float64, or None
        Logits known beforehand, to which the classifiers learn what to add.
    groups : ndarray of shape (n,), int64, or None
        Windows that inner folds must not part have the same number; None where each stands for itself.
    """

    targets: NDArray[np.bool_]
    weights: NDArray[np.float64]
    of_windows: NDArray[np.float64]
    offset: NDArray[np.float64] | None
    groups: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels as one column for each class, present against absent.

    Parameters
    ----------
    task : str
        ``"multi-label"`` for an indicator matrix; ``"binary"`` or ``"multi-class"`` for one label for each window.
    classes : ndarray of shape (classes,)
        As `MultiLabelHead.classes_`.
    columns : ndarray of shape (n, columns), bool
    """

    task: str
    classes: NDArray[Any]
    columns: NDArray[np.bool_]


def read_targets(y: NDArray[Any]) -> Targets:
    """Read an indicator matrix, or one label for each window.

    Parameters
    ----------
    y : ndarray of shape (n, classes) or (n,)

    Returns
    -------
    Targets

    Raises
    ------
    InputError
        If it is neither.
    """
    if y.ndim == 2 and y.shape[1] > 0 and y.dtype.kind in "biuf" and bool(np.isin(y, (0, 1)).all()):
        return Targets("multi-label", np.arange(y.shape[1]), y.astype(np.bool_))
    if y.ndim == 2 and y.shape[1] != 1:
        raise InputError(
            f"y of shape {y.shape} is no indicator matrix: it needs at least one class, and only 0 and 1 in it."
        )
    try:
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
    except ValueError as error:
        raise InputError(str(error)) from error
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) == 2:
        return Targets("binary", classes, index[:, np.newaxis] == 1)
    return Targets("multi-class", classes, index[:, np.newaxis] == np.arange(len(classes)))


def read_offset(offset: ArrayLike | None, task: str, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Read the logits known beforehand; they need an indicator matrix, and its `shape`.

    Raises
    ------
    InputError
        If they have another shape or are not finite.
    """
    if offset is None:
        return None
    if task != "multi-label":
        raise InputError("An offset needs an indicator matrix as y, not 1-D labels.")
    offsets = _as_numbers("offset", offset)
    if offsets.shape != shape:
        raise InputError(f"offset has the shape {offsets.shape}; expected {shape}.")
    if not np.isfinite(offsets).all():
        raise InputError("offset holds NaN or infinity. Use 0 where nothing is known.")
    if np.abs(offsets).max(initial=0) > LARGEST_OFFSET:
        raise InputError(
            f"offset reaches {np.abs(offsets).max():g}; expected logits, at most {LARGEST_OFFSET:g} away from 0."
        )
    return offsets


def read_groups(groups: ArrayLike | None, windows: int) -> NDArray[np.int64] | None:
    """Read the group of each window, whatever groups are called, as whole numbers.

    Raises
    ------
    InputError
        If there is not one for each window.
    """
    if groups is None:
        return None
    given = np.asarray(groups)
    if given.shape != (windows,):
        raise InputError(f"groups has the shape {given.shape}; expected ({windows},), one group for each window.")
    codes: NDArray[np.int64] = np.unique(given, return_inverse=True)[1].astype(np.int64)
    return codes


def read_weights(
    sample_weight: ArrayLike | None,
    class_weight: str | Mapping[Any, float] | None,
    y: NDArray[Any],
    targets: Targets,
) -> NDArray[np.float64]:
    """Read weights before reweighting.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or (n, classes), optional
    class_weight : str, mapping or None
        A mapping of labels to weights counts in here; a rule of reweighting comes later.
    y : ndarray
        As it was given.
    targets : Targets
        As it was read.

    Returns
    -------
    ndarray of shape (n, columns), float64

    Raises
    ------
    InputError
        If they have another shape, are not finite, negative, or all of them zero.
    """
    shape = targets.columns.shape
    multi_label = targets.task == "multi-label"
    weights = np.ones(shape[0]) if sample_weight is None else _as_numbers("sample_weight", sample_weight)
    if weights.shape != shape[:1] and not (multi_label and weights.shape == shape):
        allowed = f"{shape[:1]} or {shape}" if multi_label else f"{shape[:1]}"
        raise InputError(f"sample_weight has the shape {weights.shape}; with this y it has to be {allowed}.")
    if not np.isfinite(weights).all():
        raise InputError("sample_weight holds NaN or infinity. Use 0 for what is unknown.")
    if (weights < 0).any():
        raise InputError(f"sample_weight holds {weights.min():g}. Weights must not be negative.")
    if not weights.any():
        raise InputError("sample_weight is zero everywhere: a head needs at least one weight above zero.")
    if isinstance(class_weight, Mapping):
        if multi_label:
            raise InputError(
                "class_weight is a dict, which fits 1-D labels alone. "
                "With an indicator matrix, use 'balanced', None, or sample_weight of shape (n, classes)."
            )
        weights = weights * compute_sample_weight(dict(class_weight), y)
    return weights if weights.ndim == 2 else np.broadcast_to(weights[:, np.newaxis], shape)


def _as_numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is no array of numbers ({error}).") from error
