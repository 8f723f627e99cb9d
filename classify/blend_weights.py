"""How much each member of a blend weighs: what is learnt from out-of-fold scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import minimize, nnls
from scipy.special import expit

from birdemb.classify.platt import smooth_shares

__all__ = ["choose_best", "climb", "fit_nnls", "fit_stack", "keep_weights", "pick_rows", "spread_weights"]

PULL = 16.0
"""How strongly weights are drawn towards equal ones, in positive groups."""

BEST_PULL = 10.0
"""Positive groups at which a class counts as much as all classes together, when its best member is chosen."""

CLIMB_GAIN = 0.03
"""What a step of hill climbing has to bring, divided by the square root of the positive groups of all classes."""

CLIMB_STEPS = 30
MOST_ROWS = 5000
LARGEST_COEFFICIENT = 20.0
SLOPE_GROUPS = 2
"""Positive groups from which on a class has a say: a single one is always scored by heads that never heard it."""

_Array = NDArray[np.float64]
_Flags = NDArray[np.bool_]
_Counts = NDArray[np.int64]


def spread_weights(weights: _Array, useful: _Flags) -> _Array:
    """Take the weight of members that say nothing about a class, and give it to the others.

    Parameters
    ----------
    weights : ndarray of shape (members,) or (members, classes), float64
    useful : ndarray of shape (members, classes), bool

    Returns
    -------
    ndarray of shape (members, classes), float64
        The sum over the members stays what it was. Where those that are left weigh nothing, they share equally; where
        none is left, all do.
    """
    weights = np.broadcast_to(weights.reshape(len(weights), -1), useful.shape)
    kept = np.where(useful, weights, 0.0)
    kept = np.where(kept.sum(axis=0) > 0, kept, np.where(useful.any(axis=0), useful, 1.0))
    spread: _Array = kept / kept.sum(axis=0) * weights.sum(axis=0)
    return spread


def pick_rows(present: _Flags, rng: np.random.Generator, most: int = MOST_ROWS) -> NDArray[np.int64]:
    """Pick windows to learn from, where there are very many: some with each class first, then any.

    Parameters
    ----------
    present : ndarray of shape (n, classes), bool
    rng : Generator
    most : int

    Returns
    -------
    ndarray of shape (k,), int64
        At most `most` rising numbers of windows.
    """
    if len(present) <= most:
        return np.arange(len(present))
    order = rng.permutation(len(present))
    quota = max(1, most // present.shape[1])
    picked = np.zeros(len(present), np.bool_)
    for column in present.T:
        picked[order[column[order]][:quota]] = True
    first, rest = order[picked[order]], order[~picked[order]]
    return np.sort(np.concatenate([first, rest])[:most])


def choose_best(values: _Array, useful: _Flags, positive_groups: _Counts) -> _Array:
    """Choose the best member in each class; the fewer positive groups, the more its mean over all classes counts.

    Parameters
    ----------
    values : ndarray of shape (members, classes), float64
        The metric; NaN where it has no value.
    useful : ndarray of shape (members, classes), bool
    positive_groups : ndarray of shape (classes,), int64

    Returns
    -------
    ndarray of shape (members, classes), float64
        1 shared between the best ones, 0 for the others.
    """
    # The same classes for all members, so that none looks better for lack of the difficult ones.
    counted = ~np.isnan(values).any(axis=0)
    overall = values[:, counted].mean(axis=1, keepdims=True) if counted.any() else np.zeros((len(values), 1))
    groups = np.where(counted, positive_groups, 0)
    pulled = (groups * np.where(counted, values, 0.0) + BEST_PULL * overall) / (groups + BEST_PULL)
    pulled = np.where(useful, pulled, -np.inf)
    best = pulled >= pulled.max(axis=0)
    chosen: _Array = best / best.sum(axis=0)
    return chosen


def fit_nnls(members: Sequence[_Array], targets: _Flags, weights: _Array, positive_groups: _Counts) -> _Array:
    """Fit the weights by non-negative least squares on probabilities, each class about its own mean.

    Heads are fitted with weights that give rare classes far too much; only how a probability differs from the
    mean of its class says anything. Each class counts by its positive groups, relative to its variance.

    Parameters
    ----------
    members : sequence of ndarray of shape (n, classes), float64
        Probabilities.
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
    positive_groups : ndarray of shape (classes,), int64

    Returns
    -------
    ndarray of shape (members,), float64
        Sums to 1.
    """
    count = len(members)
    share = weights / np.maximum(weights.sum(axis=0), np.finfo(np.float64).tiny)
    base = np.einsum("nc,nc->c", share, targets)
    variance = base * (1 - base)
    counts = np.where(positive_groups >= SLOPE_GROUPS, positive_groups, 0)
    importance = np.divide(counts, variance, out=np.zeros_like(base), where=variance > 0)
    means = [np.einsum("nc,nc->c", share, scores) for scores in members]
    gram, product = np.empty((count, count)), np.empty(count)
    for i, one in enumerate(members):
        weighted = share * one
        product[i] = importance @ (np.einsum("nc,nc->c", weighted, targets) - means[i] * base)
        for j, other in enumerate(members[: i + 1]):
            gram[i, j] = importance @ (np.einsum("nc,nc->c", weighted, other) - means[i] * means[j])
            gram[j, i] = gram[i, j]
    # How far the plain mean of the members has to be scaled to come closest: probabilities may all be too large.
    scale = product.sum() * count / gram.sum() if gram.sum() > 0 else 0.0
    if scale <= 0:
        return np.full(count, 1 / count)
    root = np.linalg.cholesky(scale**2 * gram + PULL * np.eye(count))
    solution, _ = nnls(root.T, solve_triangular(root, scale * product + PULL / count, lower=True))
    fitted: _Array = solution / solution.sum()
    return fitted


def fit_stack(members: _Array, targets: _Flags, weights: _Array, positive_groups: _Counts) -> _Array:
    """Fit one logistic regression on the members' logits, shared by all classes but for the intercepts.

    Parameters
    ----------
    members : ndarray of shape (members, n, classes), float64
        Logits.
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
    positive_groups : ndarray of shape (classes,), int64

    Returns
    -------
    ndarray of shape (members,), float64
        The coefficients; none is negative, and one at least is above 0.
    """
    count = len(members)
    equal = np.full(count, 1 / count)
    found = np.einsum("nc,nc->c", targets, weights)
    told = (positive_groups >= SLOPE_GROUPS) & (found < weights.sum(axis=0))
    if not told.any():
        return equal
    members, targets, weights, found = members[:, :, told], targets[:, told], weights[:, told], found[told]
    weights = weights / (weights.sum(axis=0) / (weights > 0).sum(axis=0))
    absent, present = smooth_shares(targets, weights)
    aims = np.where(targets, present, absent)
    # The likelihood of a class counts as much as its positive groups, whatever their windows.
    weights = weights * np.minimum(positive_groups[told] / np.einsum("nc,nc->c", targets, weights), 1.0)

    def misfit(values: _Array) -> tuple[float, _Array]:
        coefficients, intercepts = values[:count], values[count:]
        logits = np.einsum("m,mnc->nc", coefficients, members) + intercepts
        loss = np.sum(weights * (np.logaddexp(0, logits) - aims * logits))
        surplus = weights * (expit(logits) - aims)
        apart = coefficients - coefficients.mean()
        gradient = np.einsum("nc,mnc->m", surplus, members) + PULL * apart
        return float(loss + PULL / 2 * apart @ apart), np.concatenate([gradient, surplus.sum(axis=0)])

    start = np.concatenate([equal, np.zeros(members.shape[2])])
    limits = [(0.0, LARGEST_COEFFICIENT)] * count + [(None, None)] * members.shape[2]
    solution = minimize(misfit, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 300}).x[:count]
    return solution if solution.sum() > 1e-6 else equal


def climb(members: _Array, measure: Callable[[_Array], _Array], useful: _Flags, positive_groups: _Counts) -> _Array:
    """Climb from equal weights, one member more or one fewer at a time, while the metric gets better.

    Parameters
    ----------
    members : ndarray of shape (members, n, classes), float64
        Logits.
    measure : callable
        Gives the metric of each class, shape (classes,), of blended scores of shape (n, classes).
    useful : ndarray of shape (members, classes), bool
    positive_groups : ndarray of shape (classes,), int64

    Returns
    -------
    ndarray of shape (members,), float64
        Sums to 1.
    """
    count = len(members)

    def value(copies: _Counts) -> float:
        weights = spread_weights(copies / copies.sum(), useful)
        values = measure(np.einsum("mc,mnc->nc", weights, members))
        return float(np.nanmean(values)) if not np.isnan(values).all() else 0.0

    gain = CLIMB_GAIN / np.sqrt(max(positive_groups.sum(), 1))
    copies = np.ones(count, np.int64)
    reached = value(copies)
    steps = np.vstack([np.eye(count, dtype=np.int64), -np.eye(count, dtype=np.int64)])
    for _ in range(CLIMB_STEPS):
        reachable = [copies + step for step in steps if (copies + step).min() >= 0 and (copies + step).any()]
        values = [value(place) for place in reachable]
        best = int(np.argmax(values))
        if values[best] < reached + gain:
            break
        copies, reached = reachable[best], values[best]
    weights: _Array = copies / copies.sum()
    return weights


def keep_weights(weights: _Array, kept: Sequence[int]) -> _Array:
    """Give some members the weights of all: in each class as much together as all had, in the proportions they had.

    Parameters
    ----------
    weights : ndarray of shape (members, classes), float64
    kept : sequence of int
        At least one member. Those that weigh nothing together in a class are given equal weights there.

    Returns
    -------
    ndarray of shape (kept members, classes), float64

    Examples
    --------
    >>> keep_weights(np.array([[0.5, 0.0], [0.3, 0.0], [0.2, 1.0]]), [0, 1]).round(3).tolist()
    [[0.625, 0.5], [0.375, 0.5]]
    """
    some = weights[list(kept)]
    shares = np.where(some.sum(axis=0) > 0, some, 1.0)
    kept_weights: _Array = shares / shares.sum(axis=0) * weights.sum(axis=0)
    return kept_weights
