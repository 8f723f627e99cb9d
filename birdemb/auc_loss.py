"""What heads lose in ROC-AUC where their embeddings are nearly, and not quite, those of the float32 encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import clone

from birdemb.classify.ensemble import Heard, Member, fit_member, score_member
from birdemb.classify.folds import assessable_classes, assign_folds
from birdemb.classify.heads import make_head
from birdemb.classify.logistic import USUAL_STRENGTH
from birdemb.classify.validation import align_folds
from birdemb.embed.quantization_record import AucLoss, Estimate
from birdemb.errors import InputError
from birdemb.resampled import Evaluation

__all__ = ["measure_auc_loss"]

_FOLDS = 5
_DRAWS = 200
_CONFIDENCE = 0.95
_FLATTENED = 30.0  # logits beyond it have probabilities that round to 0 and 1

Rows = NDArray[np.float32]
Scores = NDArray[np.float64]


def measure_auc_loss(
    exact: Rows,
    ours: Rows,
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    seeds: Sequence[int] = (0, 1, 2),
) -> AucLoss:
    """Measure what logistic regressions lose in macro ROC-AUC with embeddings of another precision.

    Every window is scored by heads that saw nothing of its group: one fitted and fed with float32 embeddings, the same
    one fed with the others, and one fitted and fed with the others. The folds are the same for all three, and so are
    the groups that are drawn for the intervals. The ridge is of fixed strength, so that no choice of it adds to the
    difference, and no knowledge of the encoder's own classes hides what is lost of the embedding.

    Parameters
    ----------
    exact, ours : ndarray of shape (n, dim), float32
        Embeddings of the same windows, in float32 and in the other precision.
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
        0 where it is unknown whether the class is in the window.
    groups : ndarray of shape (n,), int64
        What folds must not part.
    seeds : sequence of int
        One way to part the groups into folds for each; the loss is the mean over these.

    Returns
    -------
    AucLoss

    Raises
    ------
    InputError
        If no class can be assessed: none is known to be in two groups and not to be in two others.
    """
    folds_of = [_part(targets, weights, groups, seed) for seed in seeds]
    # The same classes in all splits: the losses of other ones would be added up otherwise.
    assessable = np.logical_and.reduce([assessable_classes(targets, weights, folds) for folds in folds_of])
    if not assessable.any():
        raise InputError("no class is known to be in two recordings, and not to be in two others, of those judged")
    targets, weights = targets[:, assessable], weights[:, assessable]
    drawn: list[NDArray[np.float64]] = []
    for folds in folds_of:
        scored = _score_three(exact, ours, targets, weights, groups, folds)
        drawn.append(np.stack([_draw_areas(own, targets, weights, groups) for own in scored]))
    areas = np.mean(drawn, axis=0)  # (three ways, as they are and each draw)
    return AucLoss(
        roc_auc=float(areas[0, 0]),
        fed=_estimate(areas[0] - areas[1]),
        refitted=_estimate(areas[0] - areas[2]),
        windows=len(targets),
        groups=len(np.unique(groups)),
        classes=int(assessable.sum()),
        splits=len(folds_of),
    )


def _part(
    targets: NDArray[np.bool_], weights: NDArray[np.float64], groups: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    count = min(_FOLDS, len(np.unique(groups)))
    if count < 2:
        raise InputError("the windows that could be judged are of one recording")
    return assign_folds(targets & (weights > 0), groups, count, seed)


def _score_three(
    exact: Rows,
    ours: Rows,
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    folds: NDArray[np.int64],
) -> Scores:
    """Give out-of-fold logits on one level, shape (3, n, classes): float32, fed with ours, refitted on ours."""
    numbers = np.unique(folds)
    scores, levels = np.empty((3, *targets.shape)), np.empty((3, len(numbers), targets.shape[1]))
    heard, other = Heard(exact), Heard(ours)
    for number, fold in enumerate(numbers):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        head = make_head("lr", C=USUAL_STRENGTH / len(train))
        told = targets[train], weights[train], groups[train]
        fitted = Member(fit_member(head, heard.take(train), None, *told))
        refitted = Member(fit_member(clone(head), other.take(train), None, *told))
        ways = ((fitted, heard), (fitted, other), (refitted, other))
        for row, level, (member, own) in zip(scores, levels, ways, strict=True):
            said = score_member(member, own, None)
            row[test], level[number] = said[test], np.median(said, axis=0)
    return np.stack([align_folds(own, folds, level) for own, level in zip(scores, levels, strict=True)])


def _draw_areas(
    scores: Scores, targets: NDArray[np.bool_], weights: NDArray[np.float64], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give the macro ROC-AUC of the windows as they are, then of each draw of groups."""
    flat = expit(scores * min(1.0, _FLATTENED / np.abs(scores).max(initial=1.0)))
    case = Evaluation(targets, flat, weights > 0, groups=groups)
    drawn = np.hstack([case.once(), case.draw(_DRAWS, 0)])
    areas: NDArray[np.float64] = case.macro(case.rank(drawn))["macro_roc_auc"]
    return areas


def _estimate(losses: NDArray[np.float64]) -> Estimate:
    """Give the loss and the middle of its draws, moved so that their mean is the loss."""
    value, drawn = losses[0], losses[1:]
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail]) + value - np.nanmean(drawn)
    return Estimate(float(value), float(low), float(high))
