"""The weight of every window for every class, so that rare classes count as much as common ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from birdemb.errors import InputError

__all__ = ["check_class_weight", "reweight"]


def check_class_weight(class_weight: object) -> None:
    """Refuse a `class_weight` that no head knows.

    Parameters
    ----------
    class_weight : object
        What was given.

    Raises
    ------
    InputError
        If `class_weight` is neither ``"balanced"``, nor None, nor a dict.
    """
    if class_weight is None or isinstance(class_weight, Mapping):
        return
    if not isinstance(class_weight, str) or class_weight != "balanced":
        raise InputError(f"class_weight is {class_weight!r}. Use 'balanced' or None.")


def reweight(targets: NDArray[np.bool_], weights: NDArray[np.float64], class_weight: str | None) -> NDArray[np.float64]:
    """Give the positives and the negatives of each class the same total weight.

    With ``"balanced"``, the positives of a class are multiplied by ``n / (2 * positives)`` and its
    negatives by ``n / (2 * negatives)``, where ``positives`` and ``negatives`` are sums of the given
    weights and ``n`` is both together. The total weight of the class stays ``n``.

    Parameters
    ----------
    targets : ndarray of shape (n, classes), bool
        Whether each class is present in each window.
    weights : ndarray of shape (n, classes), float64
        Weight of each entry before reweighting, none of them negative. A weight of 0 masks the entry:
        it is in no count and keeps its 0.
    class_weight : "balanced" or None
        None returns `weights` as they are.

    Returns
    -------
    ndarray of shape (n, classes), float64
        The new weights. A class without a positive or without a negative keeps the weights it had.

    Notes
    -----
    This is the ``n_samples / (n_classes * count)`` of scikit-learn's ``compute_class_weight``, for the two
    classes "present" and "absent", with weighted counts. The heuristic comes from G. King and L. Zeng,
    "Logistic Regression in Rare Events Data", Political Analysis 9 (2001), 137-163.

    Examples
    --------
    >>> reweight(np.array([[True], [False], [False], [False]]), np.ones((4, 1)), "balanced").ravel().round(2)
    array([2.  , 0.67, 0.67, 0.67])
    """
    if class_weight is None:
        return weights
    positives = np.where(targets, weights, 0.0).sum(axis=0)
    negatives = np.where(targets, 0.0, weights).sum(axis=0)
    total = positives + negatives
    both = (positives > 0) & (negatives > 0)
    of_positives = np.where(both, total / (2 * np.where(both, positives, 1.0)), 1.0)
    of_negatives = np.where(both, total / (2 * np.where(both, negatives, 1.0)), 1.0)
    balanced: NDArray[np.float64] = weights * np.where(targets, of_positives, of_negatives)
    return balanced
