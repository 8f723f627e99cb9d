"""Validation on labelled soundscapes, beside that on focal recordings: which is what counts, and is usually worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from birdemb.classify.bundle import Bundle
from birdemb.embed.recordings import find_recordings
from birdemb.errors import InputError
from birdemb.inference import predict_soundscapes
from birdemb.metrics import ScoreTable, score_windows
from birdemb.submission import make_submission, read_scores, refuse_shared_stems
from birdemb.validation import Validation
from birdemb.workspace import Workspace

__all__ = ["SoundscapeScores", "find_scored", "read_truth", "score_soundscapes"]

_OF_CLASSES = {"macro_roc_auc": "roc_auc", "cmap": "average_precision"}


@dataclass(frozen=True, eq=False)
class SoundscapeScores:
    """How well heads do on labelled soundscapes.

    Parameters
    ----------
    table : ScoreTable
        Intervals are over soundscapes.
    windows : int
        How many were compared.
    classes : int
        How many of these have a positive.
    gaps : dict of str to float
        Metric -> soundscapes minus folds of recordings, in the mean of the classes that both can measure. Focal
        recordings flatter, so that this is usually below 0. Average precision depends on how common a class is, too,
        and soundscapes and recordings differ in that.
    unfitted : tuple of str
        Classes in the soundscapes that no head knows, and that no figure counts.
    """

    table: ScoreTable
    windows: int
    classes: int
    gaps: Mapping[str, float]
    unfitted: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Give the metrics as JSON can hold them."""
        rows = self.table.metrics.to_dict(orient="records")
        return {
            "windows": self.windows,
            "classes": self.classes,
            "unfitted": list(self.unfitted),
            "gaps": dict(self.gaps),
            "metrics": [
                {
                    key: None if isinstance(value, float) and not math.isfinite(value) else value
                    for key, value in row.items()
                }
                for row in rows
            ],
        }


def read_truth(path: str | Path, truth: str | Path) -> pd.DataFrame:
    """Read what is in labelled soundscapes, and look whether these can be scored.

    Parameters
    ----------
    path : path or URL
        The soundscapes.
    truth : path
        A CSV file with the column row_id and 0 or 1 for each class.

    Returns
    -------
    pandas.DataFrame
        As `birdemb.submission.read_scores` gives it.

    Raises
    ------
    InputError
        If there are no soundscapes, two have the same row ids, or the truth is no such table.
    """
    refuse_shared_stems(found.name for found in find_recordings(path).recordings)
    table = read_scores(Path(truth))
    wrong = ~np.isin(table.drop(columns="row_id").to_numpy(), (0, 1)).all(axis=1)
    if wrong.any():
        row = table["row_id"].iloc[int(wrong.argmax())]
        raise InputError(f"{truth} has something else than 0 and 1 in the row {row!r}. Expected 1 for a class in it.")
    return table


def find_scored(expected: pd.DataFrame, fitted: Sequence[str], truth: str | Path) -> list[str]:
    """Give the fitted classes that a truth table has.

    Parameters
    ----------
    expected : pandas.DataFrame
        As `read_truth` gives it.
    fitted : sequence of str
        The classes that heads know.
    truth : path
        Where it comes from.

    Returns
    -------
    list of str

    Raises
    ------
    InputError
        If there are none, or none of them is in some windows and not in others.
    """
    labels = [label for label in fitted if label in expected.columns]
    if not labels:
        raise InputError(f"{truth} has none of the classes that were fitted, such as {fitted[0]!r}.")
    if not any(expected[label].min() < expected[label].max() for label in labels):
        raise InputError(
            f"{truth} has no class with both a row with it and a row without it, so that nothing can be scored."
        )
    return labels


def score_soundscapes(
    bundle: Bundle,
    validation: Validation,
    path: str | Path,
    truth: str | Path,
    place: Workspace,
    *,
    jobs: int = -1,
) -> SoundscapeScores:
    """Score a bundle on labelled soundscapes.

    Parameters
    ----------
    bundle : Bundle
    validation : Validation
        On recordings, to compare with.
    path : path or URL
        The soundscapes.
    truth : path
        A CSV file with the column row_id and 0 or 1 for each class.
    place : Workspace
    jobs : int

    Returns
    -------
    SoundscapeScores

    Raises
    ------
    InputError
        If the truth is no such table, has none of the bundle's classes, or names windows that there are not.
    """
    expected = read_truth(path, truth)
    labels = find_scored(expected, bundle.labels, truth)
    _, prediction = predict_soundscapes(bundle, path, place, jobs=jobs)
    table = make_submission(
        prediction.recordings,
        prediction.probabilities,
        prediction.labels,
        window=prediction.window,
        hop=prediction.hop,
    ).set_index("row_id")
    missing = [row for row in expected["row_id"] if row not in table.index]
    if missing:
        raise InputError(
            f"{truth} has {len(missing)} rows without a window in {path}, such as {missing[0]!r}. Check that they "
            "belong together, and that no soundscape was skipped."
        )
    present = expected[labels].to_numpy() > 0
    scores = score_windows(
        present,
        table.loc[expected["row_id"], labels].to_numpy(),
        labels,
        expected["row_id"].str.rpartition("_")[0].to_numpy(dtype=str),
    )
    others = [name for name in expected.columns if name != "row_id" and name not in labels]
    return SoundscapeScores(
        scores,
        len(expected),
        int(present.any(axis=0).sum()),
        _find_gaps(scores, validation),
        tuple(name for name in others if (expected[name] > 0).any()),
    )


def _find_gaps(scores: ScoreTable, validation: Validation) -> dict[str, float]:
    if not validation.scores:
        return {}
    folds = list(validation.scores.values())[-1].classes.set_index("class")
    both = scores.classes.set_index("class").join(folds.add_suffix("_of_folds"), how="inner")
    gaps = {}
    for metric, column in _OF_CLASSES.items():
        gap = (both[column] - both[f"{column}_of_folds"]).mean()
        if math.isfinite(gap):
            gaps[metric] = float(gap)
    return gaps
