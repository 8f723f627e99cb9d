"""How good predictions are: the BirdCLEF metric and its parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from birdemb.errors import InputError

__all__ = ["Scores", "score_submission"]


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
    """

    macro_roc_auc: float
    macro_average_precision: float
    classes: pd.DataFrame
    rows: int

    @property
    def scored(self) -> int:
        """Count the classes that could be scored."""
        return int(self.classes["roc_auc"].notna().sum())


def score_submission(submission: pd.DataFrame, truth: pd.DataFrame) -> Scores:
    """Score a submission against the truth, row by row.

    Parameters
    ----------
    submission : pandas.DataFrame
        The column row_id and a score for each class. May have more rows and classes than the truth.
    truth : pandas.DataFrame
        The column row_id and 0 or 1 for each class.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        If the submission lacks a row or a class of the truth, the truth is not 0 or 1, or no class can be scored.

    Examples
    --------
    >>> truth = pd.DataFrame({"row_id": ["a_5", "a_10"], "wren": [1, 0], "robin": [0, 0]})
    >>> guess = pd.DataFrame({"row_id": ["a_5", "a_10"], "wren": [0.9, 0.2], "robin": [0.5, 0.5]})
    >>> score_submission(guess, truth).macro_roc_auc
    1.0
    """
    classes = [name for name in truth.columns if name != "row_id"]
    absent = [name for name in classes if name not in submission.columns]
    if absent:
        raise InputError(f"The submission has no column for {len(absent)} classes of the truth, such as {absent[0]!r}.")
    known = set(submission["row_id"])
    missing = [row for row in truth["row_id"] if row not in known]
    if missing:
        raise InputError(
            f"The submission lacks {len(missing)} of the {len(truth)} rows of the truth, such as {missing[0]!r}."
        )
    expected = truth[classes].to_numpy(dtype=np.float64)
    if not np.isin(expected, (0, 1)).all():
        raise InputError("The truth has to be 0 or 1 everywhere.")
    scores = submission.set_index("row_id").loc[truth["row_id"], classes].to_numpy(dtype=np.float64)
    rows = []
    for column, name in enumerate(classes):
        positives = int(expected[:, column].sum())
        scorable = 0 < positives < len(expected)
        roc_auc = roc_auc_score(expected[:, column], scores[:, column]) if scorable else np.nan
        precision = average_precision_score(expected[:, column], scores[:, column]) if scorable else np.nan
        rows.append((name, positives, roc_auc, precision))
    table = pd.DataFrame(rows, columns=["class", "positives", "roc_auc", "average_precision"])
    if table["roc_auc"].isna().all():
        raise InputError("No class of the truth has both a row with it and a row without it, so nothing can be scored.")
    return Scores(float(table["roc_auc"].mean()), float(table["average_precision"].mean()), table, len(truth))
