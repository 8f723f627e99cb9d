"""Blending: the scores of several members to one score for each window and class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata

from birdemb.classify.blend_weights import choose_best, climb, fit_nnls, fit_stack, pick_rows, spread_weights
from birdemb.classify.entries import check_entries, count_positive_groups
from birdemb.classify.rank_blending import blend_by_rank
from birdemb.classify.state import StateReader, StateValue
from birdemb.errors import InputError
from birdemb.metrics import roc_auc_by_class

__all__ = [
    "BLENDS",
    "UNLEARNT",
    "Blend",
    "Metric",
    "blend_by_rank",
    "blend_table",
    "check_blend",
    "cross_blend",
    "learn_blend",
]

BLENDS = {
    "mean": "probabilities",
    "logits": "logits",
    "ranks": "ranks",
    "nnls": "probabilities",
    "climb": "logits",
    "stack": "logits",
    "best": "logits",
}
"""Method -> the scale on which its weighted mean is taken."""

UNLEARNT = ("mean", "logits", "ranks")
"""The methods with equal weights, which need no out-of-fold scores."""

LARGEST_WEIGHT = 1e3

_Array = NDArray[np.float64]
Metric = Callable[[NDArray[np.bool_], _Array, NDArray[np.bool_]], _Array]
"""From truth, scores and what is known of it, each of shape (n, classes), to one value for each class, NaN where there
is none; as `birdemb.metrics.roc_auc_by_class`. More is better, and only the order inside a class may matter."""


@dataclass(frozen=True, eq=False)
class Blend:
    """A weighted mean of members.

    Parameters
    ----------
    method : str
        A key of `BLENDS`.
    weights : ndarray of shape (members, classes), float64
        None negative, at least one above 0 in each class. They sum to 1, but for "stack", where the sum says how much
        surer the members are together than each alone.
    """

    method: str
    weights: _Array

    @classmethod
    def equal(cls, method: str, members: int, classes: int) -> Blend:
        """Give a blend in which all members weigh the same, where there is nothing to learn from.

        Parameters
        ----------
        method : str
            A key of `BLENDS`.
        members, classes : int
            How many there are.

        Returns
        -------
        Blend
        """
        check_blend(method)
        return cls(method, np.full((members, classes), 1 / members))

    def apply(self, members: _Array) -> _Array:
        """Blend scores.

        Parameters
        ----------
        members : ndarray of shape (members, n, classes), float64
            Logits.

        Returns
        -------
        ndarray of shape (n, classes), float64
            Logits; what they mean is for calibration to say. With the method "ranks" they tell the order inside a class
            alone and depend on all windows of the table, so that it has to be whole: half of it gives other scores.

        Raises
        ------
        InputError
            If there is another number of members or classes.
        """
        count, classes = self.weights.shape
        if members.ndim != 3 or (members.shape[0], members.shape[2]) != (count, classes):
            raise InputError(
                f"The scores of the members have the shape {members.shape}; expected ({count}, windows, {classes})."
            )
        scale = BLENDS[self.method]
        if scale == "logits":
            logits: _Array = sum(
                (scores * weight for scores, weight in zip(members, self.weights, strict=True)),
                np.zeros(members.shape[1:]),
            )
            return logits
        if scale == "probabilities":
            return _average_probabilities(members, self.weights)
        # The table is that of all windows: a class at a time, so that nothing else is as large.
        ranked = np.empty(members.shape[1:])
        for column in range(classes):
            own = slice(column, column + 1)
            ranked[:, own] = _average_probabilities(_to_rank_logits(members[:, :, own]), self.weights[:, own])
        return ranked

    def get_state(self) -> dict[str, StateValue]:
        """Give all that makes up the blend, as numeric arrays and text whose names begin with blend.

        Returns
        -------
        dict of str to ndarray or str
        """
        return {"blend_method": self.method, "blend_weights": self.weights}

    @classmethod
    def read_state(cls, reader: StateReader, members: int, classes: int) -> Blend:
        """Rebuild a blend.

        Parameters
        ----------
        reader : StateReader
        members, classes : int

        Returns
        -------
        Blend

        Raises
        ------
        InputError
            If a part is missing or is not what `get_state` gives.
        """
        method = reader.text("blend_method")
        weights = reader.array("blend_weights", (members, classes)).astype(np.float64)
        if method not in BLENDS or (weights < 0).any() or (weights > LARGEST_WEIGHT).any():
            raise InputError(
                "The state of the blend holds an unknown method, or weights that are negative or too large."
            )
        if not (weights > 0).any(axis=0).all():
            raise InputError("The state of the blend holds a class in which every member weighs nothing.")
        return cls(method, weights)


def check_blend(method: object) -> None:
    """Refuse a method of blending that does not exist.

    Parameters
    ----------
    method : object
        What was given.

    Raises
    ------
    InputError
        If `method` is no key of `BLENDS`.
    """
    if method not in BLENDS:
        raise InputError(f"The blend is {method!r}. Use one of {', '.join(map(repr, BLENDS))}.")


def learn_blend(
    method: str,
    members: _Array,
    targets: NDArray[np.bool_],
    weights: _Array,
    groups: NDArray[np.int64],
    seed: int = 0,
    *,
    metric: Metric = roc_auc_by_class,
) -> Blend:
    """Learn how much each member weighs.

    Parameters
    ----------
    method : str
        - ``"mean"``: mean of the probabilities. ``"logits"``: mean of the logits. ``"ranks"``: mean of the ranks inside
          each class. Equal weights.
        - ``"nnls"``: mean of the probabilities, with the weights that come closest to the truth by non-negative least
          squares.
        - ``"climb"``: mean of the logits, with the weights that hill climbing finds on `metric`, from equal ones on.
        - ``"stack"``: logistic regression on the logits, whose coefficients, none negative, all classes share.
        - ``"best"``: for each class the member that is best in it by `metric`; the fewer positive groups a class has,
          the more the mean over all classes decides.
    members : ndarray of shape (members, n, classes), float64
        Out-of-fold logits of each member. Need not be calibrated: what is off by the same amount in a whole class makes
        no difference to the weights, and little to those of "nnls".
    targets : ndarray of shape (n, classes), bool
    weights : ndarray of shape (n, classes), float64
        0 leaves an entry out.
    groups : ndarray of shape (n,), int64
        Weights that are learnt are drawn towards equal ones, the more so the fewer positive groups there are.
    seed : int
        Of the windows that "climb" and "stack" look at, where there are very many.
    metric : callable
        For "climb" and "best"; by default the ROC-AUC of each class.

    Returns
    -------
    Blend

    Raises
    ------
    InputError
        If there is no such method or the arrays do not fit together.

    Notes
    -----
    A member with the same score in all windows of a class says nothing there: the others share its weight.

    Hill climbing is that of R. Caruana, A. Niculescu-Mizil, G. Crew and A. Ksikes, "Ensemble Selection from Libraries
    of Models", ICML 2004, with two changes: it begins with one of each, so that what is equally good stays equal, and
    may also remove. Stacking with non-negative weights is that of L. Breiman, "Stacked Regressions", 1996.

    Scores that were blended with weights learnt on them look better than they are; see `cross_blend`.
    """
    check_blend(method)
    _check_members(members, targets, weights, groups)
    if len(members) == 1:
        return Blend(method, np.ones(members.shape[::2]))
    known = weights > 0
    # A class of which nothing is known takes the weights that are good for the others.
    useful = np.array([_varies(scores, known) for scores in members]) | ~known.any(axis=0)
    positive_groups = count_positive_groups(targets, weights, groups)
    learnt = np.full(len(members), 1 / len(members))
    if method == "best":
        values = np.array([metric(targets, scores, known) for scores in members])
        learnt = choose_best(values, useful, positive_groups)
    elif method == "nnls":
        learnt = fit_nnls([expit(scores) for scores in members], targets, weights, positive_groups)
    elif method in ("climb", "stack"):
        rows = pick_rows(targets & known, np.random.default_rng(seed))
        part, truth, known = members[:, rows], targets[rows], known[rows]
        if method == "climb":
            learnt = climb(part, lambda scores: metric(truth, scores, known), useful, positive_groups)
        else:
            learnt = fit_stack(part, truth, weights[rows], positive_groups)
    return Blend(method, spread_weights(learnt, useful))


def cross_blend(
    method: str,
    members: _Array,
    targets: NDArray[np.bool_],
    weights: _Array,
    groups: NDArray[np.int64],
    folds: NDArray[np.int64],
    seed: int = 0,
    *,
    metric: Metric = roc_auc_by_class,
) -> _Array:
    """Blend the windows of each fold with weights that were learnt on the other folds.

    A blend looks better than it is on the scores that its weights were learnt on; on these it does not.

    Parameters
    ----------
    method, members, targets, weights, groups, seed, metric
        As for `learn_blend`.
    folds : ndarray of shape (n,), int64
        The fold of each window; at least two. The windows of a group share one.

    Returns
    -------
    ndarray of shape (n, classes), float64

    Raises
    ------
    InputError
        If there is only one fold, or as for `learn_blend`.
    """
    _check_members(members, targets, weights, groups)
    names = np.unique(folds)
    if folds.shape != members.shape[1:2] or len(names) < 2:
        raise InputError(
            f"folds has the shape {folds.shape} and {len(names)} folds; expected at least 2, "
            f"and one for each of {members.shape[1]} windows."
        )
    blended = np.empty(members.shape[1:])
    for name in names:
        rest, rows = folds != name, folds == name
        blend = learn_blend(method, members[:, rest], targets[rest], weights[rest], groups[rest], seed, metric=metric)
        # Ranks are those in the whole table.
        blended[rows] = blend.apply(members)[rows] if method == "ranks" else blend.apply(members[:, rows])
    return blended


def blend_table(
    blend: Blend,
    members: _Array,
    blended: _Array,
    targets: NDArray[np.bool_],
    weights: _Array,
    names: Sequence[str],
    *,
    metric: Metric = roc_auc_by_class,
) -> pd.DataFrame:
    """Compare each member alone with the blend.

    Parameters
    ----------
    blend : Blend
    members : ndarray of shape (members, n, classes), float64
    blended : ndarray of shape (n, classes), float64
        What `cross_blend` gives; what ``blend.apply`` gives looks better than it is.
    targets, weights : ndarray of shape (n, classes)
    names : sequence of str
        Of the members.
    metric : callable
        By default the ROC-AUC of each class.

    Returns
    -------
    pandas.DataFrame
        One row for each member and one named blend: columns member, value (mean of the metric over the classes that
        have one for all rows of the table), classes (how many these are), weight (mean share of the member over all
        classes; 1 for the blend).
    """
    known = weights > 0
    values = np.array([metric(targets, scores, known) for scores in (*members, blended)])
    counted = ~np.isnan(values).any(axis=0)
    shares = (blend.weights / blend.weights.sum(axis=0)).mean(axis=1)
    return pd.DataFrame(
        {
            "member": [*names, "blend"],
            "value": values[:, counted].mean(axis=1) if counted.any() else np.nan,
            "classes": int(counted.sum()),
            "weight": [*shares, 1.0],
        }
    )


def _check_members(members: _Array, targets: NDArray[np.bool_], weights: _Array, groups: NDArray[np.int64]) -> None:
    if members.ndim != 3 or not len(members):
        raise InputError(
            f"The scores of the members have the shape {members.shape}; expected (members, windows, classes)."
        )
    for scores in members:
        check_entries(scores, targets, weights, groups)


def _varies(scores: _Array, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for each class whether a member tells its windows apart, by more than rounding."""
    high, low = np.where(known, scores, -np.inf).max(axis=0), np.where(known, scores, np.inf).min(axis=0)
    varies: NDArray[np.bool_] = high - low > 1e-9 * (1 + np.abs(high))
    return varies


def _average_probabilities(members: _Array, weights: _Array) -> _Array:
    """Give the logit of the weighted mean of the probabilities."""
    # Present and absent each as a sum of small numbers: 1 - p would lose what is close to 1.
    present, absent = np.zeros(members.shape[1:]), np.zeros(members.shape[1:])
    for scores, weight in zip(members, weights, strict=True):
        present += expit(scores) * weight
        absent += expit(-scores) * weight
    tiny = np.finfo(np.float64).tiny
    averaged: _Array = np.log(np.maximum(present, tiny)) - np.log(np.maximum(absent, tiny))
    return averaged


def _to_rank_logits(members: _Array) -> _Array:
    """Give the logit of each score's rank in its class, as a share of the windows strictly between 0 and 1."""
    ranks: _Array = logit((rankdata(members, axis=1) - 0.5) / members.shape[1])
    return ranks
