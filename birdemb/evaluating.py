"""The score of a submission, where the truth is known."""

from __future__ import annotations

from pathlib import Path

from birdemb.metrics import Scores, score_submission
from birdemb.submission import read_scores

__all__ = ["evaluate"]


def evaluate(submission: str | Path, truth: str | Path, *, intervals: bool = False) -> Scores:
    """Score a submission against a truth table with the metric of the BirdCLEF competitions.

    Parameters
    ----------
    submission, truth : path
        CSV files with the column row_id and one column for each class.
    intervals : bool
        Whether to draw soundscapes for 95% intervals, which takes some seconds for large tables.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        If they are no such tables or do not match.
    """
    return score_submission(read_scores(Path(submission)), read_scores(Path(truth)), intervals=intervals)
