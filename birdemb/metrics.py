"""How good predictions are: the metrics of the BirdCLEF competitions, and how far to trust them.

Everywhere `truth` is an array of shape (windows, classes), bool, `scores` one of the same shape, the higher the surer,
and `known` one of the same shape or None: an entry that is 0 there is left out of every metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from birdemb.errors import InputError
from birdemb.resampled import Evaluation

__all__ = [
    "METRICS",
    "ScoreTable",
    "Scores",
    "average_precision_by_class",
    "bootstrap_interval",
    "measure",
    "roc_auc_by_class",
    "score_submission",
    "score_windows",
]

METRICS = ("macro_roc_auc", "cmap", "padded_cmap", "lrap", "macro_f1", "micro_f1")
"""The metrics of `measure`, which says what each of them is."""


def roc_auc_by_class(truth: ArrayLike, scores: ArrayLike, known: ArrayLike | None = None) -> NDArray[np.float64]:
    """Give each class's area under the ROC curve, ties counting half; NaN without a positive or a negative.

    Raises
    ------
    InputError
        If the shapes differ, there is no window, or a score is NaN.
    """
    case = Evaluation(truth, scores, known)
    return case.rank(case.once())[0, :, 0]


def average_precision_by_class(
    truth: ArrayLike, scores: ArrayLike, known: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Give each class's average precision, as scikit-learn defines it; NaN without a positive.

    Raises
    ------
    InputError
        As `roc_auc_by_class`.
    """
    case = Evaluation(truth, scores, known)
    return case.rank(case.once())[1, :, 0]


def measure(
    truth: ArrayLike, scores: ArrayLike, known: ArrayLike | None = None, thresholds: ArrayLike = 0.5
) -> dict[str, float]:
    """Measure scores against the truth.

    =================  ==============================================================================================
    ``macro_roc_auc``  Mean area under the ROC curve of the classes that have a positive and a negative: the metric of
                       the BirdCLEF competitions since 2024.
    ``cmap``           Mean average precision of the classes that have a positive.
    ``padded_cmap``    Mean average precision of all classes after five windows have been added in which every class is
                       present and scored 1: the metric of BirdCLEF 2023, which keeps a class with few positives calm.
                       NaN where a score is no probability, as the added 1 would then not be the highest.
    ``lrap``           Label ranking average precision, the mean over the windows with a class present: for each class
                       in the window, which share of the classes that score as high are present too.
    ``macro_f1``       Mean F1 of the classes that have a positive, present being a score of at least the threshold.
    ``micro_f1``       F1 of all entries taken together, of classes without a positive too.
    =================  ==============================================================================================

    Parameters
    ----------
    truth : array of shape (n, classes), bool
    scores : array of shape (n, classes), float
    known : array of shape (n, classes), optional
        0 leaves an entry out.
    thresholds : float or array of shape (classes,)
        For F1 alone.

    Returns
    -------
    dict of str to float
        One value for each of `METRICS`; NaN where nothing can be measured.

    Raises
    ------
    InputError
        If the shapes differ, there is no window, or a score is NaN.

    Examples
    --------
    >>> truth = [[True, False], [False, False], [False, True]]
    >>> scores = [[0.9, 0.2], [0.1, 0.4], [0.6, 0.3]]
    >>> {name: round(value, 2) for name, value in measure(truth, scores).items()}  # doctest: +NORMALIZE_WHITESPACE
    {'macro_roc_auc': 0.75, 'cmap': 0.75, 'padded_cmap': 0.99, 'lrap': 0.75, 'macro_f1': 0.33, 'micro_f1': 0.5}
    """
    case = Evaluation(truth, scores, known, thresholds)
    once = case.once()
    values = case.macro(case.rank(once)) | case.lrap(once) | case.f1(once)[1]
    return {name: float(values[name][0]) for name in METRICS}


def bootstrap_interval(
    metric: str,
    truth: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    known: ArrayLike | None = None,
    thresholds: ArrayLike = 0.5,
    draws: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Give the interval that a metric lies in when other recordings like these are scored.

    Groups are drawn at random with replacement, as many as there are, `draws` times, and the interval holds the middle
    of the values that the metric takes. Whole groups are drawn and not windows, since the windows of one recording say
    nearly the same. A class without a positive (for ROC-AUC: or a negative) in a draw is left out of the mean of that
    draw, as it would be of a table without it; so is a draw that leaves nothing to measure.

    The interval is the percentile one, moved so that the mean of the draws lies at the metric's own value. A draw has
    some groups twice, and average precision takes the copies of a positive for further hits beside it: draws are then
    too high as a whole (.005 of .093 with 100 positives a class, more with fewer), and may leave the value outside.

    Parameters
    ----------
    metric : str
        One of `METRICS`.
    truth, scores, known, thresholds
        As in `measure`.
    groups : array of shape (n,)
        The recording, author or site of each window, in numbers or text.
    draws : int
        How many; at least 1.
    confidence : float
        Above 0 and below 1.
    seed : int
        Same seed, same draws: two sets of scores of the same windows are then compared on the same draws.

    Returns
    -------
    tuple of two floats
        Low and high; both NaN where there are fewer than two groups, or nothing to measure.

    Raises
    ------
    InputError
        As `measure`, if the groups or the metric are not what they have to be, or draws or confidence out of range.
    """
    if metric not in METRICS:
        raise InputError(f"There is no metric {metric!r}. Metrics: {', '.join(METRICS)}.")
    _check_draws(draws, confidence)
    case = Evaluation(truth, scores, known, thresholds, groups)
    drawn = np.hstack([case.once(), case.draw(draws, seed)])
    if metric == "lrap":
        values = case.lrap(drawn)
    else:
        values = case.f1(drawn)[1] if metric.endswith("f1") else case.macro(case.rank(drawn))
    low, high = case.interval(values[metric][0], values[metric][1:], confidence)
    return float(low), float(high)


@dataclass(frozen=True)
class ScoreTable:
    """Metrics with their intervals.

    Parameters
    ----------
    metrics : pandas.DataFrame
        One row for each of `METRICS`: metric, value, low, high.
    classes : pandas.DataFrame
        One row for each class: class, positives (windows), roc_auc, roc_auc_low, roc_auc_high, average_precision,
        average_precision_low, average_precision_high, f1, f1_low, f1_high; NaN where a class cannot be measured.
    """

    metrics: pd.DataFrame
    classes: pd.DataFrame


def score_windows(
    truth: ArrayLike,
    scores: ArrayLike,
    classes: list[str],
    groups: ArrayLike,
    *,
    known: ArrayLike | None = None,
    thresholds: ArrayLike = 0.5,
    draws: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> ScoreTable:
    """Measure everything, with bootstrap intervals over groups: see `measure` and `bootstrap_interval`.

    Parameters
    ----------
    classes : list of str
        The name of each column.
    truth, scores, groups, known, thresholds, draws, confidence, seed
        As in `bootstrap_interval`.

    Returns
    -------
    ScoreTable

    Raises
    ------
    InputError
        As `bootstrap_interval`, or if there are not as many names as classes.
    """
    _check_draws(draws, confidence)
    case = Evaluation(truth, scores, known, thresholds, groups)
    if len(classes) != case.truth.shape[1]:
        raise InputError(f"There are {len(classes)} names of classes for {case.truth.shape[1]} columns of scores.")
    # The first column is everything as it is, the others are the draws.
    drawn = np.hstack([case.once(), case.draw(draws, seed)])
    ranked = case.rank(drawn)
    f1, means = case.f1(drawn)
    values = case.macro(ranked) | case.lrap(drawn) | means
    rows = [(name, values[name][0], *case.interval(values[name][0], values[name][1:], confidence)) for name in METRICS]
    table: dict[str, Any] = {"class": list(classes), "positives": (case.truth & case.known).sum(axis=0)}
    for name, of_draws in (("roc_auc", ranked[0]), ("average_precision", ranked[1]), ("f1", f1)):
        table[name] = of_draws[:, 0]
        table[f"{name}_low"], table[f"{name}_high"] = case.interval(of_draws[:, 0], of_draws[:, 1:], confidence)
    return ScoreTable(pd.DataFrame(rows, columns=["metric", "value", "low", "high"]), pd.DataFrame(table))


def _check_draws(draws: int, confidence: float) -> None:
    if draws < 1 or not 0 < confidence < 1:
        raise InputError(
            f"draws is {draws} and confidence {confidence}; expected at least 1, and a number between 0 and 1."
        )


@dataclass(frozen=True)
class Scores:
    """Scores of a submission.

    Parameters
    ----------
    macro_roc_auc : float
        Mean of the classes' areas under the ROC curve, over the classes that have a positive and a negative: the metric
        of the BirdCLEF competitions since 2024.
    macro_average_precision : float
        Mean of the classes' average precisions, over the same classes.
    classes : pandas.DataFrame
        One row for each class: class, positives, roc_auc, average_precision; NaN where a class cannot be scored.
    rows : int
        How many rows were compared.
    table : ScoreTable
        All metrics, with intervals over the recordings where they were asked for, else NaN.
    """

    macro_roc_auc: float
    macro_average_precision: float
    classes: pd.DataFrame
    rows: int
    table: ScoreTable

    @property
    def scored(self) -> int:
        """Count the classes that could be scored."""
        return int(self.classes["roc_auc"].notna().sum())


def score_submission(submission: pd.DataFrame, truth: pd.DataFrame, *, intervals: bool = False) -> Scores:
    """Score a submission against the truth, row by row.

    Parameters
    ----------
    submission : pandas.DataFrame
        The column row_id and a score for each class. May have more rows and classes than the truth.
    truth : pandas.DataFrame
        The column row_id and 0 or 1 for each class.
    intervals : bool
        Whether to draw recordings (what a row_id has before its last underscore) for `Scores.table`.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        If the submission lacks a row or a class of the truth, a score is NaN, the truth is not 0 or 1, or no class can
        be scored.

    Examples
    --------
    >>> truth = pd.DataFrame({"row_id": ["a_5", "a_10"], "wren": [1, 0], "robin": [0, 0]})
    >>> guess = pd.DataFrame({"row_id": ["a_5", "a_10"], "wren": [0.9, 0.2], "robin": [0.5, 0.5]})
    >>> score_submission(guess, truth).macro_roc_auc
    1.0
    """
    names = [name for name in truth.columns if name != "row_id"]
    absent = [name for name in names if name not in submission.columns]
    if absent:
        raise InputError(f"The submission has no column for {len(absent)} classes of the truth, such as {absent[0]!r}.")
    known = set(submission["row_id"])
    missing = [row for row in truth["row_id"] if row not in known]
    if missing:
        raise InputError(
            f"The submission lacks {len(missing)} of the {len(truth)} rows of the truth, such as {missing[0]!r}."
        )
    expected = truth[names].to_numpy(dtype=np.float64)
    if not np.isin(expected, (0, 1)).all():
        raise InputError("The truth has to be 0 or 1 everywhere.")
    if not ((expected == 0).any(axis=0) & (expected == 1).any(axis=0)).any():
        raise InputError("No class of the truth has both a row with it and a row without it, so nothing can be scored.")
    scores = submission.set_index("row_id").loc[truth["row_id"], names].to_numpy(dtype=np.float64)
    recordings = [str(row).rpartition("_")[0] for row in truth["row_id"]] if intervals else np.zeros(len(truth))
    table = score_windows(expected, scores, names, recordings, draws=200 if intervals else 1)
    classes = table.classes[["class", "positives", "roc_auc", "average_precision"]].copy()
    classes.loc[classes["roc_auc"].isna(), "average_precision"] = np.nan
    return Scores(
        float(classes["roc_auc"].mean()), float(classes["average_precision"].mean()), classes, len(truth), table
    )
