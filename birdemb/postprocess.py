"""Post-processing of predictions: applied to one, and chosen on labelled soundscapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.classify.postprocessing import STEPS, Context, Postprocessing, Range, Windows
from birdemb.classify.postprocessing.labelled import Labelled
from birdemb.classify.postprocessing.tuning import Tuning, check_groups, tune_postprocessing
from birdemb.embed.recordings import FoundRecordings
from birdemb.errors import InputError, MissingWeightsError
from birdemb.prediction import Prediction
from birdemb.recording_context import read_context
from birdemb.soundscapes import LabelledSoundscapes, find_labelled

__all__ = ["postprocess", "refuse_fitted_on", "refuse_too_few", "tune_on_soundscapes"]


def postprocess(
    prediction: Prediction,
    steps: Postprocessing,
    location: str | Path | FoundRecordings,
    *,
    latitude: float | None = None,
    longitude: float | None = None,
    week: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
    in_place: bool = False,
) -> Prediction:
    """Apply the steps of post-processing to a prediction.

    Parameters
    ----------
    prediction : Prediction
        Stays as it is, unless `in_place`.
    steps : Postprocessing
    location : path, URL or FoundRecordings
        Of its recordings; their files and names are asked where and when they were made, if a step wants to know.
    latitude, longitude, week : number, optional
        Of recordings that do not tell theirs.
    tell : callable
        Is told of each step that changes nothing, as nothing that it asks for is known of any recording.
    in_place : bool
        Whether the result takes the place of the probabilities, of which a second array may not fit into memory.

    Returns
    -------
    Prediction

    Raises
    ------
    BirdembError
        If the steps were learnt for other classes, or a step asks for the range model and there is none.
    """
    if not steps:
        return prediction
    names = [entry.recording for entry in prediction.recordings]
    context = read_context(
        location, names, prediction.classes, steps.asks, latitude=latitude, longitude=longitude, week=week
    )
    for reason in (step.explain_unused(context) for step in steps.steps if len(context)):
        if reason:
            tell(reason)
    before = prediction.probabilities
    processed = steps.apply(
        before, prediction.recording_numbers, prediction.starts, context, out=before if in_place else None
    )
    return replace(prediction, probabilities=processed)


def refuse_too_few(location: str | Path, expected: pd.DataFrame, *, by_site: bool = False) -> None:
    """Make sure that there are enough labelled soundscapes to choose post-processing on, before the work.

    Parameters
    ----------
    location : path or URL
        Where the soundscapes are; their files and names are asked for the sites, where these are wanted.
    expected : pandas.DataFrame
        As `birdemb.soundscapes.read_truth` gives it.
    by_site : bool
        Whether all soundscapes of a site count as one.

    Raises
    ------
    InputError
        If there are fewer.
    """
    check_groups(expected["row_id"].str.rpartition("_")[0].nunique())
    if by_site:
        names = [recording.name for recording in find_labelled(location, expected)]
        check_groups(len(np.unique(_name_groups(read_context(location, names, (), {"site"}), by_site=True))))


def refuse_fitted_on(fitted_on: Sequence[str]) -> None:
    """Make sure that post-processing is not chosen on soundscapes that heads are fitted on, before the work.

    Heads are far surer of these than of any others, and what helps there may harm elsewhere.

    Parameters
    ----------
    fitted_on : sequence of str
        As `birdemb.soundscapes.find_fitted_on` gives it.

    Raises
    ------
    InputError
        If there is any.
    """
    if fitted_on:
        raise InputError(
            f"Post-processing is chosen on soundscapes that heads have not heard, and {len(fitted_on)} of the labelled "
            f"ones, such as {fitted_on[0]!r}, are among the recordings that they are fitted on. Take those out of the "
            "labels or out of the truth, or fit without --tune-postprocess."
        )


def tune_on_soundscapes(
    soundscapes: LabelledSoundscapes,
    location: str | Path,
    *,
    class_groups: Sequence[str] = (),
    by_site: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Tuning:
    """Choose the post-processing on labelled soundscapes.

    Parameters
    ----------
    soundscapes : LabelledSoundscapes
        Heads must not have been fitted on them: see `refuse_fitted_on`.
    location : path or URL
        Where they are; their files and names are asked where and when they were made.
    class_groups : sequence of str, optional
        Name of the group of each class, for temperatures.
    by_site : bool
        Whether folds keep all recordings of a site together, where sites are known, and not each recording alone.
    seed : int
    tell : callable
        Is told what is being done.

    Returns
    -------
    Tuning

    Raises
    ------
    InputError
        If there are too few soundscapes, or nothing can be measured on them.
    """
    prediction = soundscapes.prediction
    context, lacking = _read_context(prediction, location)
    known, present, labelled_classes = _spread_labels(soundscapes)
    numbers = prediction.recording_numbers
    # A recording without a label teaches nothing; its windows would only take time.
    used = np.isin(numbers, numbers[known])
    windows = Windows(numbers, prediction.starts, context).take(np.flatnonzero(used))
    groups = _name_groups(context, by_site)[windows.recording_numbers]
    labelled = Labelled(prediction.probabilities[used], windows, known[used], present[used], groups, labelled_classes)
    tuning = tune_postprocessing(labelled, window=prediction.window, class_groups=class_groups, seed=seed, tell=tell)
    return replace(tuning, untried={**tuning.untried, **lacking})


def _read_context(prediction: Prediction, location: str | Path) -> tuple[Context, dict[str, str]]:
    """Read all that steps ask for, and say for which of them something is lacking on this machine."""
    names = [entry.recording for entry in prediction.recordings]
    asked = frozenset().union(*(kind.asks for kind in STEPS))
    try:
        return read_context(location, names, prediction.classes, asked), {}
    except MissingWeightsError as error:
        return read_context(location, names, prediction.classes, asked - Range.asks), {Range.name: str(error)}


def _spread_labels(
    soundscapes: LabelledSoundscapes,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Give which windows are labelled, what is in all windows, and which of the prediction's classes are labelled."""
    prediction = soundscapes.prediction
    known = np.zeros(len(prediction.probabilities), np.bool_)
    known[soundscapes.rows] = True
    present = np.zeros(prediction.probabilities.shape, np.bool_)
    places = {label: column for column, label in enumerate(prediction.labels)}
    columns = [places[label] for label in soundscapes.labels]
    present[soundscapes.rows[:, None], columns] = soundscapes.present
    labelled_classes = np.zeros(len(prediction.classes), np.bool_)
    labelled_classes[columns] = True
    return known, present, labelled_classes


def _name_groups(context: Context, by_site: bool) -> NDArray[np.int64]:
    """Give the group of each recording; one without a site stands alone."""
    alone = np.arange(len(context), dtype=np.int64)
    if not by_site:
        return alone
    _, sites = np.unique(context.site, return_inverse=True)
    return np.where(context.site == "", len(context) + alone, sites)
