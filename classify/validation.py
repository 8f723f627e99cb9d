"""Scores of windows by heads that were fitted on other recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from birdemb.classify.ensemble import Heard, Member, fit_member, score_member
from birdemb.classify.prior import Prior

_DIGITS = 9

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
        Logits.
    """
    scores = np.empty((len(members), *targets.shape))
    numbers = np.unique(folds)
    for done, fold in enumerate(numbers, 1):
        held_out = folds == fold
        scores[:, held_out] = score_fold(
            members,
            heard,
            priors,
            targets,
            weights,
            groups,
            held_out,
            lambda name, done=done: tell(f"{name}, fold {done} of {len(numbers)}"),  # type: ignore[misc]
        )
    return scores


def score_fold(
    members: Sequence[Member],
    heard: Sequence[Heard],
    priors: Sequence[Prior | None],
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    tell: Callable[[str], None] = lambda _: None,
) -> NDArray[np.float64]:
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
    ndarray of shape (members, windows held out, classes), float64
        Logits.
    """
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    to_fit, to_score = [own.take(train) for own in heard], [own.take(test) for own in heard]
    scores = np.empty((len(members), len(test), targets.shape[1]))
    for row, member in zip(scores, members, strict=True):
        tell(member.head.name)
        encoder, prior = member.encoder, priors[member.encoder]
        head = fit_member(clone(member.head), to_fit[encoder], prior, targets[train], weights[train], groups[train])
        row[:] = score_member(Member(head, encoder), to_score[encoder], prior)
    return scores


def align_folds(scores: NDArray[np.float64], folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bring the scores of all folds to one level, class by class.

    A head that lost one of a class's few recordings to the held-out fold says less of that class in every window of
    it, and more in those of the other folds: it is as if the windows with the class had been marked down. What is
    compared over all folds is therefore the distance to the median of the fold.

    Parameters
    ----------
    scores : ndarray of shape (n, classes), float64
        Out-of-fold logits.
    folds : ndarray of shape (n,), int64

    Returns
    -------
    ndarray of shape (n, classes), float64
        In each fold the same median: the mean of the medians before.
    """
    numbers, codes = np.unique(folds, return_inverse=True)
    medians = np.array([np.median(scores[codes == code], axis=0) for code in range(len(numbers))])
    aligned: NDArray[np.float64] = scores + (medians.mean(axis=0) - medians)[codes]
    # What was equal but for the level of its fold is to stay equal: ties count by halves in an area under a curve.
    return np.round(aligned, _DIGITS)
