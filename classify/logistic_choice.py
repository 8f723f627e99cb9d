"""The penalty of each class, chosen on groups of windows that the fit has not seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.folds import assessable_classes, assign_folds
from birdemb.classify.head import Columns
from birdemb.classify.logistic_loss import sum_log_loss
from birdemb.classify.logistic_solver import SharedMatrix
from birdemb.classify.logistic_task import Path, Task

__all__ = [
    "FoldPlan",
    "choose_penalties",
    "held_out_losses",
    "plan_folds",
    "sort_columns",
    "thin_out",
    "usual_path",
]

_Floats = NDArray[np.float64]

POOLED_GROUPS = 10.0
"""How many groups with a class the curve of all classes counts for, in the choice for that class.

With g groups the loss of a class on unseen groups is known to about its spread between groups over the root of g, so
that a class in two or three recordings cannot tell by itself. That ten is where it can is a judgement: on ten synthetic
worlds of 12 classes in 72 recordings the mean macro ROC-AUC in soundscapes was 0.834 with 0, 0.845 with 10, and 0.846
with 30 or 1,000.
"""

SCALES = 2.0 ** np.arange(-2, 4)
"""What held-out scores are multiplied by; for each penalty the best of these counts.

A strong ridge pulls all scores towards 0, which costs log loss and no ranking, and which calibration undoes; a weak one
makes them too large. On ten synthetic worlds the mean macro ROC-AUC in soundscapes was 0.836 without this and 0.845
with it, and 0.843 with a scale for each class: rare ones cannot tell their own.
"""

MOST_WINDOWS = 20_000
"""Windows from which on the penalties are chosen on a part of them: fitting inner folds would take most of the time."""

FEWEST_GROUPS = 5
"""Groups with each class that the part has at least, where there are as many."""

_STRENGTHS = 10.0 ** np.arange(-2.5, 1.5, 0.5)
_STRENGTHS_OF_CORRECTIONS = 10.0 ** np.arange(-4.5, 1.5, 0.5)


def usual_path(weights: _Floats, *, corrects: bool) -> _Floats:
    """Give the penalties that are tried unless others are asked for.

    C is weighed against a sum over windows, so that what it does depends on how much they weigh altogether. The
    path is the same in C times that sum: 8 values from 0.003 to 10, or 12 from 0.00003 for corrections of an offset,
    so strong that nothing is corrected at the beginning.

    Parameters
    ----------
    weights : ndarray of shape (n, columns), float64
    corrects : bool
        Whether there is an offset.

    Returns
    -------
    ndarray of shape (penalties, columns), float64
    """
    strengths = _STRENGTHS_OF_CORRECTIONS if corrects else _STRENGTHS
    path: _Floats = strengths[:, np.newaxis] / weights.sum(axis=0)
    return path


def thin_out(columns: Columns, seed: int) -> tuple[NDArray[np.int64], Columns] | None:
    """Give a part of the windows that stands for all of them; None where there are few enough.

    Whole groups are drawn: first some with each class, the rarest class first, then any. Both sides of a class weigh
    in the part what they weigh altogether, so that a penalty means the same there.

    Parameters
    ----------
    columns : Columns
    seed : int

    Returns
    -------
    rows : ndarray of shape (k,), int64
        The windows of the part, about `MOST_WINDOWS`.
    columns : Columns
        What is known of these.
    """
    most = MOST_WINDOWS
    if len(columns.targets) <= most:
        return None
    codes = np.arange(len(columns.targets)) if columns.groups is None else columns.groups
    codes = np.unique(codes, return_inverse=True)[1]
    sizes = np.bincount(codes)
    place = np.random.default_rng(seed).permutation(len(sizes))
    kept = np.zeros(len(sizes), np.bool_)
    positive = columns.targets & (columns.weights > 0)
    quota = max(FEWEST_GROUPS, int(most / (positive.shape[1] * sizes.mean())))
    for column in np.argsort(positive.sum(axis=0), kind="stable"):
        having = np.unique(codes[positive[:, column]])
        kept[having[np.argsort(place[having])][:quota]] = True
    others = np.flatnonzero(~kept)
    others = others[np.argsort(place[others])]
    kept[others[sizes[kept].sum() + np.cumsum(sizes[others]) <= most]] = True
    rows = np.flatnonzero(kept[codes])
    targets, weights = columns.targets[rows], columns.weights[rows]
    for side in (targets, ~targets):
        whole = np.where(columns.targets if side is targets else ~columns.targets, columns.weights, 0.0).sum(axis=0)
        part = np.where(side, weights, 0.0).sum(axis=0)
        weights = weights * np.where(side, np.divide(whole, part, out=np.ones_like(part), where=part > 0), 1.0)
    few = sort_columns(columns, rows)
    return rows, replace(few, weights=weights)


@dataclass(frozen=True, eq=False)
class FoldPlan:
    """Inner folds, with the windows sorted by them, so that a fold is a slice.

    Parameters
    ----------
    order : ndarray of shape (n,), int64
        The windows in the order of the folds.
    parts : list of slice
        Of `order`, for each fold.
    assessable : ndarray of shape (columns,), bool
        See `birdemb.classify.folds.assessable_classes`.
    groups : ndarray of shape (columns,), int64
        How many groups have a positive of each column.
    """

    order: NDArray[np.int64]
    parts: list[slice]
    assessable: NDArray[np.bool_]
    groups: NDArray[np.int64]


def plan_folds(X: NDArray[Any], columns: Columns, folds: int, seed: int) -> FoldPlan | None:
    """Divide the windows into inner folds; None where these could tell nothing of any column.

    Parameters
    ----------
    X : ndarray of shape (n, dim)
        Embeddings. Without groups each window is by itself, but equal ones stay together and count once: a window that
        comes twice is then the same as one that weighs twice as much.
    columns : Columns
    folds : int
        How many; fewer where there are fewer groups.
    seed : int

    Returns
    -------
    FoldPlan or None
    """
    positive = columns.targets & (columns.weights > 0)
    groups = _find_equal(X) if columns.groups is None else columns.groups
    folds = min(folds, len(np.unique(groups)))
    if folds < 2 or not positive.shape[1]:
        return None
    if columns.groups is None:
        names, codes = np.unique(groups, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(names)))
        fold = assign_folds(np.logical_or.reduceat(positive[order], starts), names, folds, seed)[codes]
    else:
        fold = assign_folds(positive, groups, folds, seed)
    assessable = assessable_classes(columns.targets, columns.weights, fold)
    if not assessable.any():
        return None
    sorted_windows = np.argsort(fold, kind="stable").astype(np.int64)
    ends = np.cumsum(np.bincount(fold, minlength=folds))
    parts = [slice(int(start), int(stop)) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
    having = np.array([len(np.unique(groups[positive[:, column]])) for column in range(positive.shape[1])], np.int64)
    return FoldPlan(sorted_windows, parts, assessable, having)


def _find_equal(X: NDArray[Any]) -> NDArray[np.int64]:
    """Give windows with the same embedding the same number, which depends on nothing else."""
    digests = [blake2b(row.tobytes(), digest_size=8).digest() for row in X]
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)


def sort_columns(columns: Columns, order: NDArray[np.int64]) -> Columns:
    """Give the columns with the windows in another order."""
    return replace(
        columns,
        targets=columns.targets[order],
        weights=columns.weights[order],
        of_windows=columns.of_windows[order],
        offset=None if columns.offset is None else columns.offset[order],
        groups=None if columns.groups is None else columns.groups[order],
    )


def choose_penalties(
    matrix: SharedMatrix, X: NDArray[Any], columns: Columns, plan: FoldPlan, path: _Floats, max_iter: int
) -> NDArray[np.intp]:
    """Choose the step of the path for each column.

    The loss of a penalty is the log loss of held-out groups at the scale that suits all columns best, the mean of all
    columns' losses mixed in as `POOLED_GROUPS` more groups. A column takes the strongest penalty whose loss is no
    further above the smallest than one standard error of that, by its spread between the folds: the rule of one
    standard error (L. Breiman, J. Friedman, R. Olshen and C. Stone, "Classification and Regression Trees", 1984,
    section 3.4.3), which glmnet calls ``lambda.1se``. Held-out groups are as clean as those that were learnt from,
    soundscapes are not, and what is simpler carries further. A column with an offset other than 0 takes the penalty
    with the smallest loss: `birdemb.classify.trust` draws it towards the offset afterwards.

    Parameters
    ----------
    matrix : SharedMatrix
    X : ndarray of shape (n, dim)
        What `matrix` was made of, in the order of the plan.
    columns : Columns
        In the order of the plan.
    plan : FoldPlan
    path : ndarray of shape (penalties, columns), float64
        From the strongest.
    max_iter : int

    Returns
    -------
    ndarray of shape (columns,), intp
    """
    losses = held_out_losses(matrix, X, columns, plan, path, max_iter)
    losses /= columns.weights[:, plan.assessable].sum(axis=0)
    scale = losses.sum(axis=0).mean(axis=2).argmin(axis=0)
    own = losses[:, scale, np.arange(len(path))]
    pooled = own.mean(axis=2, keepdims=True)
    groups = plan.groups[plan.assessable]
    errors = np.ones(len(plan.assessable))
    if columns.offset is not None:
        errors[columns.offset.any(axis=0)] = 0.0
    chosen = _find_strongest(np.repeat(pooled, len(errors), axis=2), errors)
    chosen[plan.assessable] = _find_strongest(groups * own + POOLED_GROUPS * pooled, errors[plan.assessable])
    return chosen


def _find_strongest(losses: _Floats, errors: _Floats) -> NDArray[np.intp]:
    """Give the first penalty within so many standard errors of the best.

    Parameters
    ----------
    losses : ndarray of shape (folds, penalties, columns), float64
        From the strongest penalty.
    errors : ndarray of shape (columns,), float64

    Returns
    -------
    ndarray of shape (columns,), intp
    """
    total = losses.sum(axis=0)
    best, columns = total.argmin(axis=0), np.arange(total.shape[1])
    of_the_sum = losses[:, best, columns].std(axis=0, ddof=1) * np.sqrt(len(losses))
    strongest: NDArray[np.intp] = (total <= total[best, columns] + errors * of_the_sum).argmax(axis=0)
    return strongest


def held_out_losses(
    matrix: SharedMatrix, X: NDArray[Any], columns: Columns, plan: FoldPlan, path: _Floats, max_iter: int
) -> _Floats:
    """Give the loss of each fold with what was fitted to the others, for each of `SCALES`.

    The shape is (folds, scales, penalties, assessable columns). Both sides of a class weigh in the others what they
    weigh altogether, so that a penalty means the same there.
    """
    kept = plan.assessable
    targets, weights = columns.targets[:, kept], columns.weights[:, kept]
    offset = None if columns.offset is None else columns.offset[:, kept]
    on_positives = np.where(targets, weights, 0.0)
    positives = np.array([on_positives[part].sum(axis=0) for part in plan.parts])
    negatives = np.array([weights[part].sum(axis=0) for part in plan.parts]) - positives
    losses = np.empty((len(plan.parts), len(SCALES), len(path), int(kept.sum())))
    for fold, part in enumerate(plan.parts):
        others = [slice(0, part.start), slice(part.stop, len(targets))]
        task = Task(
            targets,
            weights,
            offset,
            [rows for rows in others if rows.stop > rows.start],
            positives.sum(axis=0) / (positives.sum(axis=0) - positives[fold]),
            negatives.sum(axis=0) / (negatives.sum(axis=0) - negatives[fold]),
        )
        fitted = matrix.fit(task, path[:, kept], max_iter, rough=True)
        losses[fold] = _score(fitted, X[part], targets[part], weights[part], None if offset is None else offset[part])
    return losses


def _score(
    fitted: Path, X: NDArray[Any], targets: NDArray[np.bool_], weights: _Floats, offset: _Floats | None
) -> _Floats:
    losses = np.empty((len(SCALES), *fitted.intercept.shape))
    for step, (coef, intercept) in enumerate(zip(fitted.coef, fitted.intercept, strict=True)):
        scores = X @ coef.T.astype(X.dtype) + intercept.astype(X.dtype)
        if offset is not None:
            scores += offset
        for place, scale in enumerate(SCALES):
            losses[place, step] = sum_log_loss(scores * X.dtype.type(scale), targets, weights)
    return losses
