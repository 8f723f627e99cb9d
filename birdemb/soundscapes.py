"""Validation on labelled soundscapes, beside that on focal recordings: which is what counts, and is usually worse."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.classify.bundle import Bundle
from birdemb.embed.contents import ContentMemory, identify_content
from birdemb.embed.recordings import Recording, find_recordings
from birdemb.errors import InputError
from birdemb.inference import predict_soundscapes
from birdemb.listing import SkippedRecording
from birdemb.metrics import ScoreTable, score_windows
from birdemb.prediction import Prediction
from birdemb.submission import make_submission, name_soundscape, read_scores, refuse_shared_stems
from birdemb.validation import Validation
from birdemb.workspace import Workspace

__all__ = [
    "LabelledSoundscapes",
    "SoundscapeScores",
    "find_fitted_on",
    "find_labelled",
    "find_scored",
    "predict_labelled",
    "read_truth",
    "score_soundscapes",
]

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
    fitted_on : tuple of str
        Soundscapes that heads were fitted on, too, which therefore flatter.
    """

    table: ScoreTable
    windows: int
    classes: int
    gaps: Mapping[str, float]
    unfitted: tuple[str, ...] = ()
    fitted_on: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Give the metrics as JSON can hold them."""
        rows = self.table.metrics.to_dict(orient="records")
        return {
            "windows": self.windows,
            "classes": self.classes,
            "unfitted": list(self.unfitted),
            "fitted_on": len(self.fitted_on),
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
        If there are no soundscapes, two have the same row ids, or the truth is no such table or has rows of others.
    """
    names = [found.name for found in find_recordings(path).recordings]
    refuse_shared_stems(names)
    table = read_scores(Path(truth))
    strange = ~_name_soundscapes(table).isin({name_soundscape(name) for name in names})
    _refuse_rows(table["row_id"][strange], path, truth)
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


def find_labelled(path: str | Path, expected: pd.DataFrame) -> list[Recording]:
    """Find the soundscapes that a truth table has rows of.

    Parameters
    ----------
    path : path or URL
        The soundscapes.
    expected : pandas.DataFrame
        As `read_truth` gives it.

    Returns
    -------
    list of Recording
    """
    stems = set(_name_soundscapes(expected))
    return [found for found in find_recordings(path).recordings if name_soundscape(found.name) in stems]


def find_fitted_on(soundscapes: Sequence[Recording], fitted: Collection[str], memory: ContentMemory) -> tuple[str, ...]:
    """Find the soundscapes that heads are fitted on, by whatever name.

    Parameters
    ----------
    soundscapes : sequence of Recording
    fitted : collection of str
        The sha256 of each recording that heads are fitted on.
    memory : ContentMemory
        Spares hashing again.

    Returns
    -------
    tuple of str
        Their names. One that cannot be read is none of them.
    """
    contents = [identify_content(recording, memory) for recording in soundscapes]
    memory.save()
    return tuple(content.recording.name for content in contents if content.sha256 in fitted)


@dataclass(frozen=True, eq=False)
class LabelledSoundscapes:
    """Soundscapes that were predicted, and what is in some of their windows.

    Parameters
    ----------
    prediction : Prediction
        Without post-processing.
    expected : pandas.DataFrame
        As `read_truth` gives it, without the rows of `skipped`.
    labels : sequence of str
        The fitted classes that it has.
    rows : ndarray of shape (rows of `expected`,), int64
        The window of each row.
    skipped : tuple of SkippedRecording
        Those that the truth speaks of and that could not be predicted.
    """

    prediction: Prediction
    expected: pd.DataFrame
    labels: Sequence[str]
    rows: NDArray[np.int64]
    skipped: tuple[SkippedRecording, ...] = ()

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which of `labels` are in each row; of shape (rows, labels)."""
        return np.asarray(self.expected[list(self.labels)].to_numpy() > 0)


def predict_labelled(
    bundle: Bundle, path: str | Path, truth: str | Path, place: Workspace, *, jobs: int = -1
) -> LabelledSoundscapes:
    """Predict labelled soundscapes, and find the window of each row of their truth.

    Rows of a soundscape that cannot be read are left out, as it is itself.

    Parameters
    ----------
    bundle : Bundle
    path : path or URL
        The soundscapes.
    truth : path
        A CSV file with the column row_id and 0 or 1 for each class.
    place : Workspace
    jobs : int

    Returns
    -------
    LabelledSoundscapes

    Raises
    ------
    InputError
        If the truth is no such table, has none of the bundle's classes, or names windows that there are not; or
        nothing can be scored without the soundscapes that could not be predicted.
    """
    expected = read_truth(path, truth)
    labels = find_scored(expected, bundle.labels, truth)
    listing, prediction = predict_soundscapes(bundle, path, place, jobs=jobs)
    stems = _name_soundscapes(expected)
    wanted = set(stems)
    skipped = tuple(entry for entry in listing.skipped if name_soundscape(entry.recording) in wanted)
    if skipped:
        heard = ~stems.isin({name_soundscape(entry.recording) for entry in skipped})
        expected = expected[heard].reset_index(drop=True)
        if not any(expected[label].min() < expected[label].max() for label in labels):
            raise InputError(
                f"{skipped[0].recording} in {path} could not be predicted ({skipped[0].reason}), and without what was "
                f"skipped, {len(skipped)} of the soundscapes in {truth}, nothing can be scored."
            )
    table = make_submission(
        prediction.recordings,
        prediction.probabilities,
        prediction.labels,
        window=prediction.window,
        hop=prediction.hop,
    )
    rows = pd.Index(table["row_id"]).get_indexer(pd.Index(expected["row_id"]))
    _refuse_rows(expected["row_id"][rows < 0], path, truth)
    return LabelledSoundscapes(prediction, expected, labels, rows.astype(np.int64), skipped)


def score_soundscapes(
    soundscapes: LabelledSoundscapes, validation: Validation, fitted_on: tuple[str, ...] = ()
) -> SoundscapeScores:
    """Score a prediction of labelled soundscapes.

    Parameters
    ----------
    soundscapes : LabelledSoundscapes
    validation : Validation
        On recordings, to compare with.
    fitted_on : tuple of str
        Those that heads were fitted on, as `find_fitted_on` gives them.

    Returns
    -------
    SoundscapeScores
    """
    expected, labels, prediction = soundscapes.expected, list(soundscapes.labels), soundscapes.prediction
    present = soundscapes.present
    columns = [prediction.labels.index(label) for label in labels]
    scores = score_windows(
        present,
        prediction.probabilities[soundscapes.rows][:, columns],
        labels,
        _name_soundscapes(expected).to_numpy(dtype=str),
    )
    others = [name for name in expected.columns if name != "row_id" and name not in labels]
    return SoundscapeScores(
        scores,
        len(expected),
        int(present.any(axis=0).sum()),
        _find_gaps(scores, validation),
        tuple(name for name in others if (expected[name] > 0).any()),
        fitted_on,
    )


def _refuse_rows(missing: pd.Series, path: str | Path, truth: str | Path) -> None:
    if len(missing):
        raise InputError(
            f"{truth} has {len(missing)} rows without a window in {path}, such as {missing.iloc[0]!r}. Check that they "
            "belong together."
        )


def _name_soundscapes(expected: pd.DataFrame) -> pd.Series:
    """Give the file stem of each row's soundscape."""
    return expected["row_id"].str.rpartition("_")[0]


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
