"""The third step of the main job: soundscapes and a bundle to a submission, or to another table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.classify.blending import blend_by_rank
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.checks import check_number
from birdemb.classify.postprocessing import Postprocessing
from birdemb.classify.postprocessing.spelling import choose_steps
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.recordings import AUDIO_SUFFIXES, OTHER_SUFFIXES, find_recordings
from birdemb.embed.remote import hide_secrets
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError
from birdemb.headers import count_lost_windows, find_top_frequency, read_origins
from birdemb.inference import predict_soundscapes
from birdemb.kit_use import find_bundle, use_models
from birdemb.listing import EmbeddedRecording, Listing, write_skipped
from birdemb.origin import parse_zone
from birdemb.postprocess import postprocess as apply_steps
from birdemb.prediction import Prediction
from birdemb.recording_context import check_place
from birdemb.submission import (
    SampleMatch,
    make_submission,
    match_sample,
    read_scores,
    refuse_shared_stems,
    write_submission,
)
from birdemb.tables.forms import SUBMISSION, Output, choose_output
from birdemb.tables.source import TableSource
from birdemb.workspace import Workspace

__all__ = ["PredictReport", "predict_folder"]


@dataclass(frozen=True)
class PredictReport:
    """What `predict_folder` did.

    Parameters
    ----------
    output, detections : Output or None
        The table that was written, and that of detections where one was asked for.
    rows, detected : int
        How many rows they have.
    model : Path
        The bundle.
    bundle : Bundle
    postprocessing : Postprocessing
        What was done with the probabilities, but for detections.
    listing : Listing
        Every soundscape, predicted or skipped.
    sample : SampleMatch or None
        What did not match the sample submission, where one was given.
    lost_rows : int
        Rows of a submission for skipped soundscapes, which hold the classes' shares; with a sample, `sample` has them.
    errors : Path or None
        The table of what was skipped.
    elapsed : float
        Seconds.
    """

    output: Output
    rows: int
    detections: Output | None
    detected: int
    model: Path
    bundle: Bundle
    postprocessing: Postprocessing
    listing: Listing
    sample: SampleMatch | None
    lost_rows: int
    errors: Path | None
    elapsed: float

    @property
    def path(self) -> Path:
        """Where the table is."""
        return self.output.path


def predict_folder(
    path: str | Path,
    *,
    output: str | Path = "submission.csv",
    form: str | None = None,
    detections: str | Path | None = None,
    detections_form: str | None = None,
    min_confidence: float | None = None,
    merge: float | None = None,
    time_zone: str | None = None,
    model: str | Path | None = None,
    sample_submission: str | Path | None = None,
    blend_with: str | Path | None = None,
    blend_weight: float = 0.5,
    postprocess: str | Postprocessing = "auto",
    latitude: float | None = None,
    longitude: float | None = None,
    week: int | None = None,
    weights: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
    backend: str = "loky",
    scheduler: str | None = None,
    show_progress: bool = False,
) -> PredictReport:
    """Predict the probability of each class in each window of soundscapes, and write them as a table.

    Parameters
    ----------
    path : path or URL
        A folder of soundscapes, or one.
    output : path
        The table to write.
    form : str, optional
        Its form: a key of `birdemb.tables.forms.WINDOW_FORMS` or of ``DETECTION_FORMS``; by default what its suffix
        says, a submission for ``.csv``.
    detections : path, optional
        A table to write of the windows in which a class passes its threshold.
    detections_form : str, optional
        Its form: a key of ``DETECTION_FORMS``; by default what its suffix says.
    min_confidence : float, optional
        Threshold of every class, in 0 to 1; by default the bundle's own, which were chosen when it was validated.
    merge : float, optional
        Join detections of a class that are at most so many seconds apart; 0 for those that touch or overlap.
    time_zone : str, optional
        In which the recorders' clocks ran, where their files do not tell, and in which all times are told: a name
        such as ``Australia/Sydney``, or an offset such as ``+10:00``.
    model : path, optional
        A bundle, or the folder of an offline kit; by default the bundle that was fitted last.
    sample_submission : path, optional
        A table whose rows and columns the submission gets, in their order.
    blend_with : path, optional
        A submission of something else for the same rows and classes. The result is then not a probability but the
        mean of the ranks of both, in 0 to 1; the detections remain this model's own.
    blend_weight : float
        Weight of the other submission, above 0 and below 1.
    postprocess : str or Postprocessing
        What is done with the probabilities: ``"auto"`` for what the bundle says, ``"none"``, or steps as
        `birdemb.classify.postprocessing.spelling.choose_steps` reads them. Detections are made without: thresholds
        were learnt on what the heads say of one window.
    latitude, longitude, week : number, optional
        Where and when recordings were made that do not tell it, for steps that ask for it: degrees, north and east
        positive, and 1 to 48, four to a month.
    weights : path, URL or handle, optional
        The encoder's weights, where they are not in one of the usual places; or where to get them.
    workspace : path
        The working folder; its cache is used.
    jobs : int
        Processes at the same time; -1 for as many as there are cores.
    backend, scheduler : str
        Where they run; see `birdemb.embed_recordings`.
    show_progress : bool
        Whether to show progress on standard error.

    Returns
    -------
    PredictReport

    Raises
    ------
    BirdembError
        If there is no bundle, the bundle's encoder cannot be had, no soundscape can be used, or the output cannot
        be written.
    """
    started = time.monotonic()
    place = Workspace(Path(workspace))
    _refuse_recordings(output, detections)
    table = choose_output(Path(output), form)
    listed = choose_output(Path(detections), detections_form, detections=True) if detections is not None else None
    outputs = [one for one in (table, listed) if one is not None]
    model = Path(model) if model is not None else place.last_bundle()
    named, model = model, find_bundle(model)
    if not model.is_file():
        raise InputError(f"There is no bundle {model}. Check the path, or fit one with `birdemb fit`.")
    _refuse_to_overwrite(outputs, model, sample_submission, blend_with, weights)
    bundle = read_bundle(model)
    steps = choose_steps(postprocess, bundle.postprocessing, bundle.window)
    with use_models(named):
        check_place(latitude, longitude, week, steps.asks)
    wish = _read_wish(bundle, table, sample_submission, blend_with, blend_weight)
    thresholds = _choose_thresholds(bundle, model, min_confidence, needed=any(not one.of_windows for one in outputs))
    if merge is not None:
        check_number("The gap over which detections are joined", merge, at_least=0)
    zone = parse_zone(time_zone) if time_zone is not None else None
    if weights is not None and len(bundle.identities) > 1:
        raise InputError("--weights names the weights of one encoder, and the bundle has several. Use BIRDEMB_MODELS.")
    recordings = {found.name: found for found in find_recordings(path).recordings}
    if table.form == SUBMISSION:
        refuse_shared_stems(recordings)
    place.check_writable()
    for one in outputs:
        one.check_writable()
    with use_models(named):
        listing, prediction = predict_soundscapes(
            bundle,
            path,
            place,
            weights=weights,
            jobs=jobs,
            backend=backend,
            scheduler=scheduler,
            show_progress=show_progress,
        )
        processed = prediction
        if table.of_windows:
            processed = apply_steps(prediction, steps, path, latitude=latitude, longitude=longitude, week=week)
    errors = write_skipped(place.errors("predict"), listing.skipped)
    listing.refuse_if_empty(hide_secrets(str(path)), errors)
    source = TableSource(
        prediction,
        listing.folder,
        thresholds,
        merge,
        read_origins(
            (recordings[entry.recording] for entry in listing.recordings if entry.recording in recordings), zone
        )
        if any(one.has_times for one in outputs)
        else {},
        top_frequency=find_top_frequency(recordings.values(), int(listing.identity.get("sample_rate", 0))),
    )
    detected = listed.write(source) if listed is not None else 0
    source = replace(source, prediction=processed)
    submission = None
    if table.form == SUBMISSION:
        lost = count_lost_windows(recordings, listing.skipped, WindowGrid(bundle.window, bundle.hop))
        submission = _make_submission(bundle, processed, lost, wish)
        write_submission(table.path, submission.table)
        rows = len(submission.table)
    else:
        rows = table.write(source)
    return PredictReport(
        output=table,
        rows=rows,
        detections=listed,
        detected=detected,
        model=model,
        bundle=bundle,
        postprocessing=steps if table.of_windows else Postprocessing(),
        listing=listing,
        sample=submission.match if submission is not None else None,
        lost_rows=submission.lost_rows if submission is not None else 0,
        errors=errors,
        elapsed=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Wish:
    """What a submission is to look like, and be blended with."""

    sample: pd.DataFrame | None
    other: pd.DataFrame | None
    other_path: str | Path | None
    other_weight: float


@dataclass(frozen=True)
class _Submission:
    table: pd.DataFrame
    match: SampleMatch | None
    lost_rows: int


def _read_wish(
    bundle: Bundle, table: Output, sample_path: str | Path | None, other_path: str | Path | None, other_weight: float
) -> _Wish:
    """Read what is given, and tell what can be told before the work is."""
    for option, given in (("--sample-submission", sample_path), ("--blend-with", other_path)):
        if given is not None and table.form != SUBMISSION:
            raise InputError(
                f"{option} is about a submission, and {table.path} is to be {table.form}. Leave one of them."
            )
    sample = read_scores(Path(sample_path)) if sample_path is not None else None
    other = read_scores(Path(other_path)) if other_path is not None else None
    if other is not None:
        columns = sample.columns if sample is not None else ["row_id", *bundle.labels]
        _refuse_other_names(other_path, "column", columns, other.columns)
        if sample is not None:
            _refuse_other_names(other_path, "row", sample["row_id"], other["row_id"])
    check_number("The weight of the other submission", other_weight, above=0, below=1)
    return _Wish(sample, other, other_path, other_weight)


def _make_submission(
    bundle: Bundle, prediction: Prediction, lost: Sequence[EmbeddedRecording], wish: _Wish
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


def _refuse_recordings(*paths: str | Path | None) -> None:
    for path in paths:
        if path is not None and Path(path).suffix.lower() in AUDIO_SUFFIXES | OTHER_SUFFIXES:
            raise InputError(f"{path} has the name of a recording, which a table must not replace. Name it .csv.")


def _refuse_to_overwrite(outputs: Sequence[Output], *inputs: str | Path | None) -> None:
    """Make sure that no table takes the place of what is read, or of the other table."""
    if len({output.path.resolve() for output in outputs}) < len(outputs):
        raise InputError(f"The result and the detections would both be written to {outputs[0].path}. Name two files.")
    read = {Path(one).resolve() for one in inputs if one is not None}
    for output in outputs:
        if output.path.resolve() in read:
            raise InputError(f"{output.path} is read here, and would be replaced by the result. Name another file.")


def _choose_thresholds(
    bundle: Bundle, model: Path, min_confidence: float | None, *, needed: bool
) -> NDArray[np.float64] | None:
    if min_confidence is not None:
        check_number("The least confidence", min_confidence, at_least=0, at_most=1)
        return np.full(len(bundle.classes), float(min_confidence))
    thresholds = bundle.ensemble.thresholds
    if thresholds is not None:
        return thresholds.threshold
    if needed:
        raise InputError(
            f"{model} has no thresholds, as nothing was validated when it was fitted. Give one for all classes with "
            "--min-confidence, or fit it with --cv, on classes that have several recordings."
        )
    return None


def _refuse_other_names(path: str | Path | None, what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    ours, theirs = dict.fromkeys(expected), dict.fromkeys(found)
    for name in (*ours, *theirs):
        if name not in theirs or name not in ours:
            raise InputError(
                f"{path} {'has' if name in theirs else 'lacks'} the {what} {name!r}, and the prediction "
                f"{'lacks' if name in theirs else 'has'} it. Blend submissions for the same rows and classes; with "
                "--sample-submission the prediction has those of the sample."
            )
