"""Folds for cross-validation: groups stay whole, and every fold gets its share of every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array, csr_array
from scipy.sparse.csgraph import connected_components

from birdemb.classify.checks import check_whole_number
from birdemb.errors import InputError

__all__ = ["assessable_classes", "assign_folds", "combine_groups", "describe_folds"]


def assign_folds(
    targets: NDArray[np.bool_], groups: NDArray[np.int64], folds: int = 5, seed: int = 0
) -> NDArray[np.int64]:
    """Assign each window to a fold.

    The windows of one group never fall into two folds. Each fold gets its share of the windows and groups of each
    class, and the folds are of similar size, as far as whole groups allow. The rarest class is dealt out first, as
    in iterative stratification: a common class can still be evened out by what comes later, a rare one cannot.

    Parameters
    ----------
    targets : ndarray of shape (n, classes), bool
        Whether each class is present in each window. A positive that does not count (weight 0) should be False here.
    groups : ndarray of shape (n,), int64
        The group of each window: a recording, an author, a site. Any integers.
    folds : int
        How many; at least 2.
    seed : int
        Decides between what is equally good, and nothing else.

    Returns
    -------
    ndarray of shape (n,), int64
        The fold of each window, 0 to `folds` - 1; no fold is empty. The same seed and the same windows give the same
        folds, in whatever order the windows come.

    Raises
    ------
    InputError
        If there is no window, the lengths differ, `folds` is no whole number of at least 2, or there are fewer groups
        than folds.

    Notes
    -----
    A class that has no positive in some fold is no error: see `describe_folds` and `assessable_classes`.

    This is the algorithm of K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the Stratification of Multi-label Data",
    ECML PKDD 2011, with three changes, since whole groups of unequal size are dealt out here instead of windows:

    - What a group has of a class is its share of the class, half by groups and half by windows: an hour-long
      recording must not stand for a hundred short ones, nor count as one of them.
    - The groups with most of a class go first, since small ones can even out what large ones leave.
    - A fold without the class comes before any fold with it. Of the folds that are about equally short of the class
      (within half of what the group brings) the smallest gets the group.

    Examples
    --------
    >>> targets = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1]], bool)
    >>> assign_folds(targets, np.array([7, 7, 8, 9, 9, 10]), folds=2).tolist()
    [0, 0, 1, 1, 1, 0]
    """
    check_whole_number("folds", folds, at_least=2)
    check_whole_number("seed", seed, at_least=0)
    _check_lengths(targets, groups=groups)
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise InputError(
            f"There are {len(names)} groups of windows for {folds} folds, and a group is never divided. "
            "Ask for fewer folds, or add recordings."
        )
    windows = np.bincount(codes).astype(np.float64)
    shares = _share_of_classes(_count_positives(targets, codes, len(names)))
    sizes = (windows / windows.sum() + 1 / len(names)) / 2
    dealer = _Dealer(shares, sizes, folds, np.random.default_rng(seed))
    dealer.deal_classes()
    dealer.deal_rest()
    fold: NDArray[np.int64] = dealer.fold[codes]
    return fold


class _Dealer:
    """Deals groups out to folds.

    Parameters
    ----------
    shares : csr_array of shape (groups, classes), float64
        What each group has of each class; every class sums to 1.
    sizes : ndarray of shape (groups,), float64
        What each group has of everything; sums to 1.
    folds : int
    rng : Generator
    """

    def __init__(self, shares: csr_array, sizes: NDArray[np.float64], folds: int, rng: np.random.Generator) -> None:
        self._shares = shares
        self._sizes = sizes
        self._rng = rng
        self._filled = np.zeros((shares.shape[1], folds))
        self._size = np.zeros(folds)
        self._preference = rng.permutation(folds)
        self.fold = np.full(len(sizes), -1, np.int64)

    def deal_classes(self) -> None:
        by_class = csc_array(self._shares)
        left = np.diff(by_class.indptr).astype(np.int64)
        # A random order that is the same for every class decides between groups with equally much of it.
        chance = self._rng.permutation(len(self._sizes))
        while (left > 0).any():
            rarest = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
            part = slice(by_class.indptr[rarest], by_class.indptr[rarest + 1])
            groups, amounts = by_class.indices[part], by_class.data[part]
            order = np.lexsort((chance[groups], -amounts))
            for group, amount in zip(groups[order].tolist(), amounts[order].tolist(), strict=True):
                if self.fold[group] >= 0:
                    continue
                left[self._place(group, self._choose(rarest, amount))] -= 1

    def deal_rest(self) -> None:
        rest = np.flatnonzero(self.fold < 0)
        order = np.lexsort((self._rng.permutation(len(rest)), -self._sizes[rest]))
        for group in rest[order].tolist():
            self._place(group, self._smallest(np.ones(len(self._size), np.bool_)))

    def _choose(self, label: int, amount: float) -> int:
        filled = self._filled[label]
        without = filled == 0
        return self._smallest(without if without.any() else filled <= filled.min() + amount / 2)

    def _smallest(self, candidates: NDArray[np.bool_]) -> int:
        size = np.where(candidates, self._size, np.inf)[self._preference]
        # Sums of the same shares in another order differ in their last bits, which must not decide.
        return int(self._preference[np.argmax(size <= size.min() + 1e-12)])

    def _place(self, group: int, fold: int) -> NDArray[np.int32]:
        part = slice(self._shares.indptr[group], self._shares.indptr[group + 1])
        classes: NDArray[np.int32] = self._shares.indices[part]
        self._filled[classes, fold] += self._shares.data[part]
        self._size[fold] += self._sizes[group]
        self.fold[group] = fold
        return classes


def combine_groups(*partitions: NDArray[Any]) -> NDArray[np.int64]:
    """Combine partitions of windows into one: windows that share a group in any of them share one in the result.

    Parameters
    ----------
    *partitions : ndarrays of shape (n,), whole numbers or text
        The recording, the author, the site, the group of near-duplicates ... of each window.

    Returns
    -------
    ndarray of shape (n,), int64
        Numbers from 0 on.

    Raises
    ------
    InputError
        If there is no partition, or the lengths differ.

    Examples
    --------
    >>> combine_groups(np.array([0, 0, 1, 2, 3]), np.array([5, 6, 6, 7, 8])).tolist()
    [0, 0, 0, 1, 2]
    """
    shapes = [partition.shape for partition in partitions]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1:
        raise InputError(f"The partitions have the shapes {shapes}; expected at least one, all of the same length.")
    nodes: list[NDArray[np.int64]] = []
    count = 0
    for partition in partitions:
        names, codes = np.unique(partition, return_inverse=True)
        nodes.append(codes + count)
        count += len(names)
    edges = np.tile(nodes[0], len(nodes)), np.concatenate(nodes)
    graph = coo_array((np.ones(len(edges[0])), edges), shape=(count, count))
    joined: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)[nodes[0]]
    return joined


def assessable_classes(
    targets: NDArray[np.bool_], weights: NDArray[np.float64], folds: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Say which classes out-of-fold scores can say something about.

    A class is assessable where, whichever fold is held out, the rest still has a positive and a negative of it: where
    its positives lie in two folds or more, and its negatives as well. Every window is then scored by a head that saw
    both sides of the class in other groups. Otherwise some positives would be scored by a head that never saw one:
    such a score says that the class is rare, not how well it can be told. Calibration, thresholds, blend weights and
    metrics should leave such a class out.

    Parameters
    ----------
    targets : ndarray of shape (n, classes), bool
        Whether each class is present in each window.
    weights : ndarray of shape (n, classes), float64
        A weight of 0 masks an entry: it is neither a positive nor a negative.
    folds : ndarray of shape (n,), int64
        The fold of each window.

    Returns
    -------
    ndarray of shape (classes,), bool

    Raises
    ------
    InputError
        If there is no window, or the shapes do not agree.
    """
    _check_weights(targets, weights)
    _check_lengths(targets, folds=folds)
    known = weights > 0
    positive, negative = _count_by_fold(targets & known, folds), _count_by_fold(~targets & known, folds)
    assessable: NDArray[np.bool_] = ((positive > 0).sum(axis=0) >= 2) & ((negative > 0).sum(axis=0) >= 2)
    return assessable


def describe_folds(
    targets: NDArray[np.bool_],
    weights: NDArray[np.float64],
    groups: NDArray[np.int64],
    folds: NDArray[np.int64],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Tell what each fold has of each class.

    Parameters
    ----------
    targets : ndarray of shape (n, classes), bool
        Whether each class is present in each window.
    weights : ndarray of shape (n, classes), float64
        A weight of 0 masks an entry: it is not counted.
    groups, folds : ndarray of shape (n,), int64
        The group and the fold of each window.
    classes : sequence of str
        The name of each column.

    Returns
    -------
    pandas.DataFrame
        One row for each class: class, groups (with a positive), windows (that are positive), fold_0, fold_1 ... (the
        positive windows in each fold), assessable (see `assessable_classes`).

    Raises
    ------
    InputError
        If there is no window, or the shapes do not agree.
    """
    _check_weights(targets, weights)
    _check_lengths(targets, groups=groups, folds=folds)
    if len(classes) != targets.shape[1]:
        raise InputError(f"There are {len(classes)} names of classes for {targets.shape[1]} columns of targets.")
    positive = targets & (weights > 0)
    names, codes = np.unique(groups, return_inverse=True)
    by_fold = _count_by_fold(positive, folds)
    table = pd.DataFrame(
        {
            "class": list(classes),
            "groups": (_count_positives(positive, codes, len(names)) > 0).sum(axis=0),
            "windows": by_fold.sum(axis=0),
        }
    )
    for fold, counts in enumerate(by_fold):
        table[f"fold_{fold}"] = counts
    table["assessable"] = assessable_classes(targets, weights, folds)
    return table


def _count_positives(targets: NDArray[np.bool_], codes: NDArray[np.int64], groups: int) -> csr_array:
    """Count the positive windows of each class in each group."""
    rows, columns = np.nonzero(targets)
    # Entries at the same place are added up.
    return csr_array((np.ones(len(rows)), (codes[rows], columns)), shape=(groups, targets.shape[1]))


def _share_of_classes(counts: csr_array) -> csr_array:
    """Turn windows into what each group has of each class, half by groups and half by windows."""
    windows = np.bincount(counts.indices, weights=counts.data, minlength=counts.shape[1])
    groups = np.bincount(counts.indices, minlength=counts.shape[1])
    shares = (counts.data / windows[counts.indices] + 1 / groups[counts.indices]) / 2
    return csr_array((shares, counts.indices, counts.indptr), shape=counts.shape)


def _count_by_fold(flags: NDArray[np.bool_], folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the windows that are flagged, for each fold (rows) and class (columns)."""
    counts = [np.count_nonzero(flags[folds == fold], axis=0) for fold in range(int(folds.max()) + 1)]
    return np.array(counts, np.int64)


def _check_weights(targets: NDArray[np.bool_], weights: NDArray[np.float64]) -> None:
    if weights.shape != targets.shape:
        raise InputError(f"The weights have the shape {weights.shape}; expected {targets.shape}, as the targets.")


def _check_lengths(targets: NDArray[np.bool_], **columns: NDArray[np.int64]) -> None:
    if targets.ndim != 2 or not len(targets):
        raise InputError(f"The targets have the shape {targets.shape}; expected at least one window, and its classes.")
    for name, column in columns.items():
        if column.shape != (len(targets),):
            raise InputError(f"{name} has the shape {column.shape}; expected one for each of {len(targets)} windows.")
