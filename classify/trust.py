"""How far heads move away from what the encoder knows by itself: less in rare classes than in common ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from birdemb.classify.blend_weights import pick_rows
from birdemb.classify.entries import check_entries, count_positive_groups
from birdemb.classify.platt import fit_platt

__all__ = ["USUAL_GROUPS", "choose_trust", "usual_trust", "weigh_correction"]

USUAL_GROUPS = 2.0
"""Positive groups at which a head goes half of the way, where nothing can be held out to choose it.

With one recording for each of 14 species, corrections of a third of their size lose nothing in any head; at their full
size those of `mlp` cost .014 in macro ROC-AUC and .05 in average precision (60 mixed soundscapes)."""

HALF_WAY = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 200.0, np.inf)
"""Positive groups at which a head goes half of the way: what is chosen from."""

POOL = 10.0
"""Positive groups for which all classes together count in the choice for one."""

_Array = NDArray[np.float64]


def usual_trust(known: NDArray[np.bool_], positive_groups: NDArray[np.int64]) -> _Array:
    """Give the share of its correction that each class keeps, where nothing can be held out.

    Parameters
    ----------
    known : ndarray of shape (classes,), bool
        Whether the encoder knows the class.
    positive_groups : ndarray of shape (classes,), int64
        Recordings, authors or sites with the class.

    Returns
    -------
    ndarray of shape (classes,), float64
        ``g / (g + USUAL_GROUPS)`` for a class with g positive groups; 1 where the encoder does not know it.
    """
    return _share_kept(known, positive_groups, np.full(len(known), USUAL_GROUPS))


def choose_trust(
    scores: _Array,
    offset: NDArray[np.float32],
    known: NDArray[np.bool_],
    targets: NDArray[np.bool_],
    weights: _Array,
    groups: NDArray[np.int64],
    assessable: NDArray[np.bool_],
    seed: int = 0,
) -> _Array:
    """Choose the share of its correction that each class keeps, by out-of-fold scores.

    A class with g positive groups keeps g / (g + h) of what the head learnt to add to the encoder's logit. h, the
    groups at which it goes half of the way, is the one with the smallest log loss, at the best slope and intercept,
    as calibration follows. The loss of a class is mixed with the mean over all classes, which counts for ten groups:
    a rare class cannot tell by itself.

    Parameters
    ----------
    scores : ndarray of shape (n, classes), float64
        Out-of-fold logits of a head that started from `offset`.
    offset : ndarray of shape (n, classes), float32
        The encoder's own logits.
    known : ndarray of shape (classes,), bool
        Whether the encoder knows the class.
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
        Not balanced; 0 leaves an entry out.
    groups : ndarray of shape (n,), int64
    assessable : ndarray of shape (classes,), bool
        Whether out-of-fold scores say something of the class.
    seed : int
        Of the windows that are looked at, where there are very many.

    Returns
    -------
    ndarray of shape (classes,), float64
        In 0 to 1; 1 where the encoder does not know the class.

    Raises
    ------
    InputError
        If the arrays do not fit together.
    """
    check_entries(scores, targets, weights, groups)
    positive_groups = count_positive_groups(targets, weights, groups)
    assessed = known & assessable
    if not assessed.any():
        return usual_trust(known, positive_groups)
    rows = pick_rows((targets & (weights > 0))[:, assessed], np.random.default_rng(seed))
    losses = _measure_losses(
        scores[rows][:, assessed],
        offset[rows][:, assessed].astype(np.float64),
        targets[rows][:, assessed],
        weights[rows][:, assessed],
        positive_groups[assessed],
    )
    pooled = losses.mean(axis=1, keepdims=True)
    own = positive_groups[assessed]
    mixed = (own * losses + POOL * pooled) / (own + POOL)
    half_way = np.full(len(known), HALF_WAY[_last_smallest(pooled)[0]])
    half_way[assessed] = np.array(HALF_WAY)[_last_smallest(mixed)]
    return _share_kept(known, positive_groups, half_way)


def weigh_correction(scores: _Array, offset: NDArray[np.float32], trust: _Array) -> _Array:
    """Give ``offset + trust * (scores - offset)``, shape (n, classes)."""
    weighed: _Array = offset + trust * (scores - offset)
    return weighed


def _share_kept(known: NDArray[np.bool_], positive_groups: NDArray[np.int64], half_way: _Array) -> _Array:
    share = np.where(half_way == 0, 1.0, positive_groups / (positive_groups + np.maximum(half_way, 1e-9)))
    # Without a positive all that was learnt is that the class is rare.
    return np.where(known, np.where(positive_groups > 0, share, 0.0), 1.0)


def _last_smallest(losses: _Array) -> NDArray[np.intp]:
    """Give the last row with the smallest loss of each column: of equally good ones the nearest to the encoder."""
    last: NDArray[np.intp] = len(losses) - 1 - np.argmin(losses[::-1], axis=0)
    return last


def _measure_losses(
    scores: _Array,
    offset: _Array,
    targets: NDArray[np.bool_],
    weights: _Array,
    positive_groups: NDArray[np.int64],
) -> _Array:
    """Give the log loss of each class for each entry of `HALF_WAY`, as a share of that of a constant."""
    total = weights.sum(axis=0)
    weights = np.divide(weights * (weights > 0).sum(axis=0), total, out=np.zeros_like(weights), where=total > 0)
    count = np.maximum(weights.sum(axis=0), 1.0)
    share = (weights * targets).sum(axis=0) / count
    constant = -xlogy(share, share) - xlogy(1 - share, 1 - share)
    losses = np.empty((len(HALF_WAY), scores.shape[1]))
    known = np.ones(scores.shape[1], np.bool_)
    for row, half_way in enumerate(HALF_WAY):
        trust = _share_kept(known, positive_groups, np.full(scores.shape[1], half_way))
        moved = offset + trust * (scores - offset)
        slope, intercept = fit_platt(moved, targets, weights, positive_groups)
        logits = slope * moved + intercept
        loss = (weights * np.logaddexp(0, np.where(targets, -logits, logits))).sum(axis=0) / count
        losses[row] = np.divide(loss, constant, out=np.ones_like(loss), where=constant > 0)
    return losses
