"""Scores of windows by heads that were fitted on other recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from birdemb.classify.ensemble import Heard, Member, fit_member, score_member
from birdemb.classify.prior import Prior

_DIGITS = 9
_MOST_COMMON = 2_000  # windows that the level of a head is taken on

__all__ = ["align_folds", "score_fold", "score_out_of_fold"]


def score_out_of_fold(
    members: Sequence[Member],
    heard: Sequence[Heard],
    priors: Sequence[Prior | None],
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    folds: NDArray[np.int64],
    tell: Callable[[str], None] = lambda _: None,
) -> NDArray[np.float64]:
    """Let every window be scored by heads that saw nothing of its fold.

    All that a head learns from windows, its transform, its penalty and its number of trees included, it learns anew
    for each fold from the other folds.

    Parameters
    ----------
    members : sequence of Member
        Heads that need not be fitted; they stay as they are.
    heard : sequence of Heard
        What each encoder heard in the n windows.
    priors : sequence of Prior or None
        What each encoder knows of the classes by itself; it was learnt from none of these labels.
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
        0 where it is unknown whether the class is in the window.
    groups : ndarray of shape (n,), int64
        For what heads choose by folds of their own.
    folds : ndarray of shape (n,), int64
        The fold of each window, from `birdemb.classify.folds.assign_folds`.
    tell : callable
        Is told what is being fitted.

    Returns
    -------
    ndarray of shape (members, n, classes), float64
        Logits, of all folds on one level: see `align_folds`.
    """
    scores = np.empty((len(members), *targets.shape))
    numbers = np.unique(folds)
    levels = np.empty((len(members), len(numbers), targets.shape[1]))
    for done, fold in enumerate(numbers):
        held_out = folds == fold
        scores[:, held_out], levels[:, done] = score_fold(
            members,
            heard,
            priors,
            targets,
            weights,
            groups,
            held_out,
            lambda name, done=done: tell(f"{name}, fold {done + 1} of {len(numbers)}"),  # type: ignore[misc]
        )
    return np.stack([align_folds(own, folds, level) for own, level in zip(scores, levels, strict=True)])


def score_fold(
    members: Sequence[Member],
    heard: Sequence[Heard],
    priors: Sequence[Prior | None],
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Let some of the windows be scored by heads that saw nothing but the others.

    Parameters
    ----------
    members, heard, priors, targets, weights, groups
        As in `score_out_of_fold`.
    held_out : ndarray of shape (n,), bool
    tell : callable
        Is told the name of the head that is being fitted.

    Returns
    -------
    scores : ndarray of shape (members, windows held out, classes), float64
        Logits.
    levels : ndarray of shape (members, classes), float64
        The median of what each head adds to the encoder's logits, where it starts from these, else of its scores: in
        windows of the whole table, the same for every fold.
    """
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    common = np.unique(np.linspace(0, len(held_out) - 1, min(len(held_out), _MOST_COMMON)).astype(np.int64))
    to_fit, to_score, to_level = ([own.take(rows) for own in heard] for rows in (train, test, common))
    scores = np.empty((len(members), len(test), targets.shape[1]))
    levels = np.empty((len(members), targets.shape[1]))
    for row, level, member in zip(scores, levels, members, strict=True):
        tell(member.head.name)
        encoder, prior = member.encoder, priors[member.encoder]
        head = fit_member(clone(member.head), to_fit[encoder], prior, targets[train], weights[train], groups[train])
        fitted = Member(head, encoder)
        row[:] = score_member(fitted, to_score[encoder], prior)
        added = score_member(fitted, to_level[encoder], prior)
        if prior is not None and prior.kind == "offset":
            added -= prior.offset(to_level[encoder].embeddings, to_level[encoder].logits)
        level[:] = np.median(added, axis=0)
    return scores, levels


def align_folds(
    scores: NDArray[np.float64], folds: NDArray[np.int64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bring the scores of all folds to one level, class by class.

    A head that lost one of a class's few recordings to the held-out fold says less of that class in every window of
    it, and more in those of the other folds: it is as if the windows with the class had been marked down. What is
    compared over all folds is therefore the distance to what the fold's head says of most windows. These are windows
    of the whole table: the median of a fold that is one recording may be that of windows with the class.

    Parameters
    ----------
    scores : ndarray of shape (n, classes), float64
        Out-of-fold logits.
    folds : ndarray of shape (n,), int64
    levels : ndarray of shape (folds, classes), float64
        As `score_fold` gives them, in the order of the numbers of the folds.

    Returns
    -------
    ndarray of shape (n, classes), float64
        As if all heads had the mean of the levels.
    """
    codes = np.unique(folds, return_inverse=True)[1]
    aligned: NDArray[np.float64] = scores + (levels.mean(axis=0) - levels)[codes]
    # What was equal but for the level of its fold is to stay equal: ties count by halves in an area under a curve.
    return np.round(aligned, _DIGITS)
