"""What a prediction is written as: the table that was asked for, and the one of detections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.budget.rows import ExpectedRecording, fill_with_priors
from birdemb.classify.blending import blend_by_rank
from birdemb.classify.bundle import Bundle
from birdemb.classify.checks import check_number
from birdemb.embed.recordings import Recording
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError
from birdemb.headers import count_lost_windows, find_top_frequency, read_origins
from birdemb.listing import EmbeddedRecording, SkippedRecording
from birdemb.origin import Origin
from birdemb.prediction import Prediction
from birdemb.submission import (
    SampleMatch,
    make_submission,
    match_sample,
    read_scores,
    refuse_other_classes,
    write_submission,
)
from birdemb.tables.forms import SUBMISSION, Output
from birdemb.tables.source import TableSource

__all__ = ["Results", "Wish", "Written", "read_wish"]

USUAL_WEIGHT = 0.5
"""Of another submission: both count the same."""


@dataclass(frozen=True)
class Wish:
    """What a submission is to look like, and be blended with.

    Parameters
    ----------
    sample : pandas.DataFrame or None
        Its rows and columns.
    other : pandas.DataFrame or None
        Another submission for the same rows and classes.
    other_path : path or None
        Where that one comes from.
    other_weight : float
        Its weight.
    """

    sample: pd.DataFrame | None
    other: pd.DataFrame | None
    other_path: str | Path | None
    other_weight: float


def read_wish(
    bundle: Bundle,
    table: Output,
    sample_path: str | Path | None,
    other_path: str | Path | None,
    other_weight: float | None,
) -> Wish:
    """Read what is given, and tell what can be told before the work is.

    Parameters
    ----------
    bundle : Bundle
    table : Output
    sample_path, other_path : path or None
    other_weight : float, optional
        By default `USUAL_WEIGHT`.

    Returns
    -------
    Wish

    Raises
    ------
    InputError
        If something of it does not fit the bundle, the table is no submission, or a weight is given and nothing to be
        weighed.
    """
    for option, given in (("--sample-submission", sample_path), ("--blend-with", other_path)):
        if given is not None and table.form != SUBMISSION:
            raise InputError(
                f"{option} is about a submission, and {table.path} is to be {table.form}. Leave one of them."
            )
    sample = read_scores(Path(sample_path)) if sample_path is not None else None
    if sample is not None:
        refuse_other_classes(sample, bundle.labels)
    other = read_scores(Path(other_path)) if other_path is not None else None
    if other is not None:
        columns = sample.columns if sample is not None else ["row_id", *bundle.labels]
        _refuse_other_names(other_path, "column", columns, other.columns)
        if sample is not None:
            _refuse_other_names(other_path, "row", sample["row_id"], other["row_id"])
    elif other_weight is not None:
        raise InputError(
            f"--blend-weight {other_weight:g} is the weight of another submission, and there is none. Name it with "
            "--blend-with, or leave it out."
        )
    weight = USUAL_WEIGHT if other_weight is None else other_weight
    check_number("The weight of the other submission", weight, above=0, below=1)
    return Wish(sample, other, other_path, weight)


@dataclass(frozen=True)
class Written:
    """What was written.

    Parameters
    ----------
    rows, detected : int
        How many rows the tables have.
    match : SampleMatch or None
        What did not match the sample submission, where one was given.
    lost_rows : int
        Rows of a submission for skipped soundscapes, which hold the classes' shares; with a sample, `match` has them.
    """

    rows: int
    detected: int
    match: SampleMatch | None = None
    lost_rows: int = 0


class Results:
    """Writes predictions as they were asked for: once at the end, or again and again while they become better.

    Parameters
    ----------
    bundle : Bundle
    table, detections : Output or None
    recordings : mapping of str to Recording
        All soundscapes by name.
    wish : Wish
        Of a submission.
    process : callable
        What is done with the probabilities of windows, but for detections; may change the array itself.
    thresholds : ndarray of shape (classes,), float64, or None
    merge : float or None
        Seconds over which detections are joined.
    zone : tzinfo or None
        Of the recorders' clocks.
    folder : str
        Of the soundscapes.
    """

    def __init__(
        self,
        bundle: Bundle,
        table: Output,
        detections: Output | None,
        recordings: Mapping[str, Recording],
        wish: Wish,
        *,
        process: Callable[[Prediction], Prediction],
        thresholds: NDArray[np.float64] | None,
        merge: float | None,
        zone: tzinfo | None,
        folder: str,
    ) -> None:
        self._bundle, self._table, self._detections = bundle, table, detections
        self._recordings, self._wish, self._process = recordings, wish, process
        self._thresholds, self._merge, self._zone, self._folder = thresholds, merge, zone, folder
        self._has_times = any(one is not None and one.has_times for one in (table, detections))
        self._origins: dict[str, Origin] = {}
        self._top_frequency = find_top_frequency(recordings.values(), int(bundle.identities[0].get("sample_rate", 0)))

    def write(
        self,
        prediction: Prediction,
        expected: Sequence[ExpectedRecording] = (),
        skipped: Sequence[SkippedRecording] = (),
    ) -> Written:
        """Write a prediction.

        Parameters
        ----------
        prediction : Prediction
            Its probabilities may be those that were written, afterwards.
        expected : sequence of ExpectedRecording
            Where not all was predicted: what a submission has to have rows for, which then hold the classes' priors.
        skipped : sequence of SkippedRecording
            Which soundscapes could not be predicted.

        Returns
        -------
        Written
        """
        source = self._look(prediction)
        detected = self._detections.write(source) if self._detections is not None else 0
        if self._table.of_windows and prediction.recordings:
            prediction = self._process(prediction)
        if self._table.form != SUBMISSION:
            return Written(self._table.write(replace(source, prediction=prediction)), detected)
        lost: Sequence[EmbeddedRecording] = ()
        if expected:
            prediction, _ = fill_with_priors(prediction, expected, self._bundle.shares)
        else:
            grid = WindowGrid(self._bundle.window, self._bundle.hop)
            lost = count_lost_windows(self._recordings, skipped, grid)
        submission = _make_submission(self._bundle, prediction, lost, self._wish)
        write_submission(self._table.path, submission.table)
        return Written(len(submission.table), detected, submission.match, submission.lost_rows)

    def _look(self, prediction: Prediction) -> TableSource:
        if self._has_times:
            known = self._recordings.keys() - self._origins.keys()
            new = [entry.recording for entry in prediction.recordings if entry.recording in known]
            self._origins |= read_origins((self._recordings[name] for name in new), self._zone)
        return TableSource(
            prediction,
            self._folder,
            self._thresholds,
            self._merge,
            self._origins,
            top_frequency=self._top_frequency,
        )


@dataclass(frozen=True)
class _Submission:
    table: pd.DataFrame
    match: SampleMatch | None
    lost_rows: int


def _make_submission(
    bundle: Bundle, prediction: Prediction, lost: Sequence[EmbeddedRecording], wish: Wish
) -> _Submission:
    """Make the rows that are asked for, or those of every soundscape; `lost` are such as could not be predicted."""
    table = make_submission(
        prediction.recordings,
        prediction.probabilities,
        prediction.labels,
        window=prediction.window,
        hop=prediction.hop,
    )
    match, lost_rows = None, 0
    if wish.sample is not None:
        match = match_sample(table, wish.sample, bundle.shares.tolist())
        table = match.table
    elif lost:
        lost_rows = sum(entry.windows for entry in lost)
        shares = np.tile(bundle.shares, (lost_rows, 1))
        filled = make_submission(lost, shares, prediction.labels, window=prediction.window, hop=prediction.hop)
        table = pd.concat([table, filled], ignore_index=True)
    if wish.other is not None:
        _refuse_other_names(wish.other_path, "row", table["row_id"], wish.other["row_id"])
        table = blend_by_rank([table, wish.other], [1 - wish.other_weight, wish.other_weight])
    return _Submission(table, match, lost_rows)


def _refuse_other_names(path: str | Path | None, what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    ours, theirs = dict.fromkeys(expected), dict.fromkeys(found)
    for name in (*ours, *theirs):
        if name not in theirs or name not in ours:
            raise InputError(
                f"{path} {'has' if name in theirs else 'lacks'} the {what} {name!r}, and the prediction "
                f"{'lacks' if name in theirs else 'has'} it. Blend submissions for the same rows and classes; with "
                "--sample-submission the prediction has those of the sample."
            )
