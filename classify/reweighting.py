"""The weight of every window for every class, so that rare classes count as much as common ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.checks import check_number
from birdemb.errors import InputError

__all__ = ["EFFECTIVE_BETA", "RULES", "check_class_weight", "check_positive_weight", "reweight"]

EFFECTIVE_BETA = 0.999
"""Of the effective number of samples: beyond 1 / (1 - beta) of them, more add next to nothing."""


def _effective_number(count: NDArray[np.float64]) -> NDArray[np.float64]:
    number: NDArray[np.float64] = -np.expm1(count * np.log(EFFECTIVE_BETA)) / (1 - EFFECTIVE_BETA)
    return number


RULES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "balanced": lambda count: count,
    "sqrt": np.sqrt,
    "effective": _effective_number,
}
"""What the weight of one side of a class, its positives or its negatives, is divided by, given its total weight."""


def check_class_weight(class_weight: object) -> None:
    """Refuse a `class_weight` that no head knows.

    Parameters
    ----------
    class_weight : object
        What was given.

    Raises
    ------
    InputError
        If `class_weight` is neither one of `RULES`, nor None, nor a dict.
    """
    if class_weight is None or isinstance(class_weight, Mapping):
        return
    if not isinstance(class_weight, str) or class_weight not in RULES:
        raise InputError(f"class_weight is {class_weight!r}. Use {', '.join(map(repr, RULES))} or None.")


def check_positive_weight(positive_weight: object) -> None:
    """Refuse a `positive_weight` that is neither a number above 0 nor one for each class.

    Parameters
    ----------
    positive_weight : object
        What was given.

    Raises
    ------
    InputError
        If it is no such number and no list of such numbers.
    """
    several = isinstance(positive_weight, Sequence) and not isinstance(positive_weight, str)
    for weight in positive_weight if several else [positive_weight]:  # type: ignore[attr-defined]
        check_number("positive_weight", weight, above=0)


def reweight(targets: NDArray[np.bool_], weights: NDArray[np.float64], rule: str | None) -> NDArray[np.float64]:
    r"""Bring the weights of the positives and the negatives of each class closer together.

    With :math:`P` and :math:`N` the total weights of the positives and of the negatives of a class, its
    positives are multiplied by :math:`k / f(P)` and its negatives by :math:`k / f(N)`, where :math:`k` keeps
    the total weight :math:`P + N`.

    =============  =======================================================================================
    ``balanced``   :math:`f(n) = n`: both sides weigh the same in the end
    ``sqrt``       :math:`f(n) = \sqrt n`: half of the way there, in logarithms
    ``effective``  :math:`f(n) = (1 - \beta^n) / (1 - \beta)` with :math:`\beta` = 0.999: nearly 1,000
                   however many there are; a rare side is lifted by its number alone, and never to the weight of
                   tens of thousands
    =============  =======================================================================================

    Parameters
    ----------
    targets : ndarray of shape (n, classes), bool
        Whether each class is present in each window.
    weights : ndarray of shape (n, classes), float64
        Weight of each entry before reweighting, none of them negative. A weight of 0 masks the entry:
        it is in no count and keeps its 0.
    rule : "balanced", "sqrt", "effective" or None
        None returns `weights` as they are.

    Returns
    -------
    ndarray of shape (n, classes), float64
        The new weights. A class without a positive or without a negative keeps the weights it had.

    Notes
    -----
    ``balanced`` is the ``n_samples / (n_classes * count)`` of scikit-learn's ``compute_class_weight``, for the
    two classes "present" and "absent", with weighted counts; it comes from G. King and L. Zeng, "Logistic
    Regression in Rare Events Data", Political Analysis 9 (2001), 137-163. ``effective`` is Y. Cui et al.,
    "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019.

    Examples
    --------
    >>> targets = np.array([[True], [False], [False], [False]])
    >>> reweight(targets, np.ones((4, 1)), "balanced").ravel().round(2)
    array([2.  , 0.67, 0.67, 0.67])
    >>> reweight(targets, np.ones((4, 1)), "sqrt").ravel().round(2)
    array([1.46, 0.85, 0.85, 0.85])
    """
    if rule is None:
        return weights
    positives = np.where(targets, weights, 0.0).sum(axis=0)
    negatives = np.where(targets, 0.0, weights).sum(axis=0)
    both = (positives > 0) & (negatives > 0)
    of_positives = np.where(both, positives, 1.0) / RULES[rule](np.where(both, positives, 1.0))
    of_negatives = np.where(both, negatives, 1.0) / RULES[rule](np.where(both, negatives, 1.0))
    keep_total = np.where(both, (positives + negatives) / (of_positives + of_negatives), 1.0)
    positive_factor = np.where(both, keep_total * of_positives / np.where(both, positives, 1.0), 1.0)
    negative_factor = np.where(both, keep_total * of_negatives / np.where(both, negatives, 1.0), 1.0)
    reweighted: NDArray[np.float64] = weights * np.where(targets, positive_factor, negative_factor)
    return reweighted
