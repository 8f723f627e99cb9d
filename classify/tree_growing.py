"""The trees of all classes from windows that are binned once: relabelled, started from an offset, stopped in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from birdemb.classify.folds import assign_folds
from birdemb.classify.head import Columns
from birdemb.classify.tree_text import shorten

__all__ = ["Forest", "Plan", "find_intercept", "grow", "pool_rounds"]

TRUSTED_GROUPS = 5.0
"""With so many groups with positives, a class's own choice of the number of trees counts half, the pooled one half."""

KEPT_GAIN = 0.5
"""Share of what the trees gain at best in held-out loss that has to be left when the last of them is added.

Trees that go on become too sure of themselves, which raises the loss and which calibration undoes, long before they
rank windows worse: the number of trees with the smallest loss ranks those of other recordings worse than more trees.
"""

_ROUNDING = 1e-6  # LightGBM's weights and gradients are float32: what is less is no gain
_MANY_VALUES = 4_000_000  # below, threads wait for each other longer than they work


@dataclass(frozen=True)
class Plan:
    """How the trees are grown.

    Parameters
    ----------
    params : mapping
        LightGBM's parameters.
    rounds : int
        Trees of each class, at most where `patience` is not 0.
    patience : int
        How many trees beyond the last that was worth it end the search for their number; 0 holds nothing out.
    folds : int
        Into how many folds the windows are divided for that.
    negative_share : float
        Share of the negatives of each class that are used.
    jobs : int
        Threads.
    """

    params: Mapping[str, Any]
    rounds: int
    patience: int
    folds: int
    negative_share: float
    jobs: int


@dataclass(frozen=True, eq=False)
class Forest:
    """What was grown.

    Parameters
    ----------
    models : list of str, one for each column
        LightGBM's text, shortened.
    intercepts : ndarray of shape (columns,), float64
        What is added to the sum of the trees.
    """

    models: list[str]
    intercepts: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Case:
    """One class: label, weight and offset of each of some windows."""

    rows: NDArray[np.intp]
    targets: NDArray[np.bool_]
    weights: NDArray[np.float64]
    offset: NDArray[np.float64]

    def take(self, where: NDArray[np.bool_]) -> _Case:
        return _Case(self.rows[where], self.targets[where], self.weights[where], self.offset[where])

    @property
    def positives(self) -> float:
        return float(self.weights[self.targets].sum())

    @property
    def negatives(self) -> float:
        return float(self.weights[~self.targets].sum())


def grow(X: NDArray[Any], columns: Columns, plan: Plan) -> Forest:
    """Grow the trees of every column.

    Sorting the features into bins does not depend on the class. So the windows are binned once, and only labels,
    weights and offsets change from class to class. The trees do not depend on the number of threads, nor on the order
    of the columns.

    Parameters
    ----------
    X : ndarray of shape (n, width), float32 or float64
    columns : Columns
    plan : Plan

    Returns
    -------
    Forest
    """
    count = columns.targets.shape[1]
    if count == 0:
        return Forest([], np.empty(0))
    workers = min(plan.jobs, count)
    many = X.size > _MANY_VALUES
    binned = lgb.Dataset(X, params={**plan.params, "num_threads": plan.jobs if many else 1}).construct()
    # A class per thread: threads that share one class's small trees wait for each other after every step, the more
    # so where other programs want the cores too. Those that are left over, where there are few classes, do share.
    params = {**plan.params, "num_threads": max(1, plan.jobs // workers) if many else 1}
    everything = np.arange(len(X))
    # Each thread relabels windows of its own. Copied here, before any of them is relabelled.
    copies = [binned] + [binned.subset(everything.tolist()).construct() for _ in range(workers - 1)]
    folds = _divide(columns, plan)
    growers = [_Grower(copy, columns, plan, params, folds) for copy in copies]
    shares = [range(first, count, workers) for first in range(workers)]
    # LightGBM leaves the interpreter to the other threads. Its handles cannot leave the process.
    parallel = Parallel(n_jobs=workers, require="sharedmem")
    rounds = np.full(count, plan.rounds)
    if folds is not None:
        chosen = _gather(
            parallel(delayed(grower.choose)(share) for grower, share in zip(growers, shares, strict=True)), shares
        )
        rounds = pool_rounds(chosen, _count_groups(columns), plan.rounds)
    grown = _gather(
        parallel(delayed(grower.grow)(share, rounds) for grower, share in zip(growers, shares, strict=True)), shares
    )
    return Forest([text for text, _ in grown], np.array([intercept for _, intercept in grown]))


class _Grower:
    """Grows class after class on one copy of the binned windows.

    Parameters
    ----------
    binned : lgb.Dataset
        All windows.
    columns : Columns
    plan : Plan
    params : mapping
        LightGBM's parameters.
    folds : ndarray of shape (n,), int64, or None
        The fold of each window, where trees are to be stopped in time.
    """

    def __init__(
        self,
        binned: lgb.Dataset,
        columns: Columns,
        plan: Plan,
        params: Mapping[str, Any],
        folds: NDArray[np.int64] | None,
    ) -> None:
        self._binned = binned
        self._columns = columns
        self._plan = plan
        self._params = dict(params)
        self._folds = folds
        self._windows = len(columns.targets)
        # The same draw for every class, so that their order does not matter.
        self._draw = np.random.default_rng(plan.params["seed"]).permutation(self._windows)
        self._kept: dict[bytes, lgb.Dataset] = {}

    def choose(self, share: Sequence[int]) -> list[int | None]:
        """Choose the number of trees by held-out loss, for each column of `share`; None where that cannot be."""
        chosen = [self._choose(self._make_case(column)) for column in share]
        # As large as the windows, and of no more use.
        self._kept.clear()
        return chosen

    def grow(self, share: Sequence[int], rounds: NDArray[np.int64]) -> list[tuple[str, float]]:
        """Give the trees and the intercept of each column of `share`."""
        return [self._grow(self._make_case(column), int(rounds[column])) for column in share]

    def _make_case(self, column: int) -> _Case:
        weights = self._columns.weights[:, column]
        # What a masked entry says must not matter, not even in the last digit of a sum.
        targets = self._columns.targets[:, column] & (weights > 0)
        offset = self._columns.offset
        known = np.zeros(self._windows) if offset is None else offset[:, column]
        case = _Case(np.arange(self._windows), targets, weights, known)
        return case if self._plan.negative_share == 1 else self._thin(case)

    def _thin(self, case: _Case) -> _Case:
        """Keep some of the negatives, which then weigh what all of them did."""
        negatives = np.flatnonzero(~case.targets & (case.weights > 0))
        positives = case.targets & (case.weights > 0)
        count = max(int(np.ceil(self._plan.negative_share * len(negatives))), int(positives.sum()))
        kept = positives.copy()
        kept[negatives[np.argsort(self._draw[negatives])[:count]]] = True
        thinned = case.take(kept)
        factor = case.negatives / thinned.negatives
        return _Case(
            thinned.rows,
            thinned.targets,
            thinned.weights * np.where(thinned.targets, 1.0, factor),
            thinned.offset,
        )

    def _grow(self, case: _Case, rounds: int) -> tuple[str, float]:
        intercept = find_intercept(case.targets, case.weights, case.offset)
        booster = lgb.Booster(dict(self._params), self._relabel(case, intercept))
        for _ in range(rounds):
            booster.update()
        return shorten(booster.model_to_string()), intercept

    def _choose(self, case: _Case) -> int | None:
        if self._folds is None:
            return None
        fold = self._folds[case.rows]
        for side in (case.targets, ~case.targets):
            # Otherwise the trees that a fold is held out from would not know the class.
            if len(np.unique(fold[side & (case.weights > 0)])) < 2:
                return None
        trials = [self._start(case, fold == held) for held in range(int(self._folds.max()) + 1)]
        begun = [trial for trial in trials if trial is not None]
        total = sum(weight for _, weight, _ in begun)
        nothing = least = sum(loss * weight for _, weight, loss in begun) / total
        chosen = 0
        for rounds in range(1, self._plan.rounds + 1):
            loss = 0.0
            for booster, weight, _ in begun:
                booster.update()
                ((_, _, held_out, _),) = booster.eval_valid()
                loss += held_out * weight / total
            if loss < least * (1 - _ROUNDING):
                least = loss
            if loss < nothing * (1 - _ROUNDING) and loss <= nothing - KEPT_GAIN * (nothing - least):
                chosen = rounds
            elif rounds - chosen >= self._plan.patience:
                break
        return chosen

    def _start(self, case: _Case, held: NDArray[np.bool_]) -> tuple[lgb.Booster, float, float] | None:
        """Make what grows on the other folds; with the weight of the one held out, and its loss without a tree."""
        rest, test = case.take(~held), case.take(held)
        weight = float(test.weights.sum())
        if weight == 0:
            return None
        # The share of positives is that of all folds: what is chosen is for trees grown on them all.
        factor = case.positives / case.negatives * rest.negatives / rest.positives
        rest = _Case(rest.rows, rest.targets, rest.weights * np.where(rest.targets, factor, 1.0), rest.offset)
        intercept = find_intercept(rest.targets, rest.weights, rest.offset)
        booster = lgb.Booster({**self._params, "metric": "binary_logloss"}, self._relabel(rest, intercept))
        booster.add_valid(self._relabel(test, intercept), "held out")
        scores = np.where(test.targets, -1.0, 1.0) * (test.offset + intercept)
        return booster, weight, float(np.average(np.logaddexp(0.0, scores), weights=test.weights))

    def _relabel(self, case: _Case, intercept: float) -> lgb.Dataset:
        if len(case.rows) == self._windows:
            windows = self._binned
        elif self._plan.negative_share == 1:
            # The folds are the same for all classes.
            key = case.rows.tobytes()
            if key not in self._kept:
                self._kept[key] = self._binned.subset(case.rows.tolist()).construct()
            windows = self._kept[key]
        else:
            windows = self._binned.subset(case.rows.tolist()).construct()
        windows.set_label(case.targets.astype(np.float32))
        # Not set_weight, which takes weights that are all 1 for none, and then leaves those of the class before.
        windows.set_field("weight", case.weights.astype(np.float32))
        windows.set_init_score(case.offset + intercept)
        return windows


def find_intercept(targets: NDArray[np.bool_], weights: NDArray[np.float64], offset: NDArray[np.float64]) -> float:
    """Find what, added to the offset of every window, gives the positives their share of the weight.

    LightGBM starts from that share by itself, but not where it is given an offset.

    Parameters
    ----------
    targets : ndarray of shape (n,), bool
    weights : ndarray of shape (n,), float64
        Not 0 for at least one positive and one negative.
    offset : ndarray of shape (n,), float64

    Returns
    -------
    float
        In logits.
    """
    known = weights > 0
    targets, weights, offset = targets[known], weights[known], offset[known]
    positives, negatives = weights[targets], weights[~targets]
    prior = float(np.log(positives.sum()) - np.log(negatives.sum()))
    # With these two all probabilities are at most, and at least, the share.
    lowest, highest = prior - float(offset.max()), prior - float(offset.min())
    if lowest == highest:
        return lowest

    def excess(intercept: float) -> float:
        # Each side where it is small: the difference between 1 and nearly 1 would be lost in rounding.
        of_negatives = negatives @ expit(offset[~targets] + intercept)
        return float(of_negatives - positives @ expit(-offset[targets] - intercept))

    # Rounding can put an end on the wrong side by a hair.
    return float(brentq(excess, lowest - 1e-6, highest + 1e-6, xtol=1e-9, maxiter=1000))


def pool_rounds(chosen: Sequence[int | None], groups: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Draw each class's number of trees towards what all classes chose, the more the fewer groups it chose by.

    Parameters
    ----------
    chosen : sequence of int or None
        The number that each class chose; None where it could not.
    groups : ndarray of shape (columns,), int64
        Groups with a positive of each class.
    most : int
        The number where no class could choose.

    Returns
    -------
    ndarray of shape (columns,), int64

    Examples
    --------
    >>> pool_rounds([10, 160, None], np.array([5, 20, 1]), most=200).tolist()
    [31, 144, 93]
    """
    able = np.array([choice is not None for choice in chosen])
    if not able.any():
        return np.full(len(chosen), most)
    # In logarithms: twice as many trees are as far as half as many.
    own = np.log1p([0 if choice is None else choice for choice in chosen])
    # A sum that does not depend on the order of the classes.
    order = np.lexsort((own[able], groups[able]))
    pooled = np.average(own[able][order], weights=groups[able][order])
    trust = np.where(able, groups / (groups + TRUSTED_GROUPS), 0.0)
    rounds: NDArray[np.int64] = np.rint(np.expm1(trust * own + (1 - trust) * pooled)).astype(np.int64)
    return rounds


def _divide(columns: Columns, plan: Plan) -> NDArray[np.int64] | None:
    """Give the fold of each window; None where nothing is to be held out or there is a single group."""
    groups = _groups(columns)
    count = min(plan.folds, len(np.unique(groups)))
    if plan.patience == 0 or count < 2:
        return None
    positive = columns.targets & (columns.weights > 0)
    # In an order that does not depend on the order of the classes.
    order = sorted(range(positive.shape[1]), key=lambda column: positive[:, column].tobytes())
    return assign_folds(positive[:, order], groups, count, plan.params["seed"])


def _groups(columns: Columns) -> NDArray[np.int64]:
    return np.arange(len(columns.targets)) if columns.groups is None else columns.groups


def _count_groups(columns: Columns) -> NDArray[np.int64]:
    """Count the groups with a positive of each class."""
    groups, positive = _groups(columns), columns.targets & (columns.weights > 0)
    return np.array([len(np.unique(groups[column])) for column in positive.T], np.int64)


def _gather(parts: Sequence[Sequence[Any]], shares: Sequence[Sequence[int]]) -> list[Any]:
    """Put what each thread gave for its columns into the order of the columns."""
    gathered = {
        column: value
        for part, share in zip(parts, shares, strict=True)
        for column, value in zip(share, part, strict=True)
    }
    return [gathered[column] for column in sorted(gathered)]
