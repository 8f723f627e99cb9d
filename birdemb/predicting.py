"""The third step of the main job: soundscapes and a bundle to a submission."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from birdemb.classify.blending import blend_by_rank
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.checks import check_number
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.detections import list_detections, write_detections
from birdemb.embed.recordings import AUDIO_SUFFIXES, OTHER_SUFFIXES, find_recordings
from birdemb.embed.remote import hide_secrets
from birdemb.errors import InputError
from birdemb.inference import predict_soundscapes
from birdemb.listing import Listing, write_skipped
from birdemb.storage import check_writable
from birdemb.submission import (
    SampleMatch,
    make_submission,
    match_sample,
    read_scores,
    refuse_shared_stems,
    write_submission,
)
from birdemb.workspace import Workspace

__all__ = ["PredictReport", "predict_folder"]


@dataclass(frozen=True)
class PredictReport:
    """What `predict_folder` did.

    Parameters
    ----------
    path : Path
        The submission.
    detections : Path or None
        The table of detections, where one was asked for.
    detected : int
        How many there are.
    model : Path
        The bundle.
    bundle : Bundle
    listing : Listing
        Every soundscape, predicted or skipped.
    sample : SampleMatch or None
        What did not match the sample submission, where one was given.
    errors : Path or None
        The table of what was skipped.
    elapsed : float
        Seconds.
    """

    path: Path
    detections: Path | None
    detected: int
    model: Path
    bundle: Bundle
    listing: Listing
    sample: SampleMatch | None
    errors: Path | None
    elapsed: float


def predict_folder(
    path: str | Path,
    *,
    output: str | Path = "submission.csv",
    detections: str | Path | None = None,
    model: str | Path | None = None,
    sample_submission: str | Path | None = None,
    blend_with: str | Path | None = None,
    blend_weight: float = 0.5,
    weights: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
    backend: str = "loky",
    scheduler: str | None = None,
    show_progress: bool = False,
) -> PredictReport:
    """Predict the probability of each class in each window of soundscapes, and write them as a submission.

    Parameters
    ----------
    path : path or URL
        A folder of soundscapes, or one.
    output : path
        The submission to write.
    detections : path, optional
        A table to write of the windows in which a class passes its threshold.
    model : path, optional
        A bundle; by default the one that was fitted last.
    sample_submission : path, optional
        A table whose rows and columns the submission gets, in their order.
    blend_with : path, optional
        A submission of something else for the same rows and classes. The result is then not a probability but the
        mean of the ranks of both, in 0 to 1; the detections remain this model's own.
    blend_weight : float
        Weight of the other submission, above 0 and below 1.
    weights : path, optional
        The encoder's weights, where they are not in one of the usual places.
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
    output, place = Path(output), Workspace(Path(workspace))
    model = Path(model) if model is not None else place.last_bundle()
    if not model.is_file():
        raise InputError(f"There is no bundle {model}. Check the path, or fit one with `birdemb fit`.")
    bundle = read_bundle(model)
    sample = read_scores(Path(sample_submission)) if sample_submission is not None else None
    other = read_scores(Path(blend_with)) if blend_with is not None else None
    if other is not None:
        # What can be told before the work is.
        columns = sample.columns if sample is not None else ["row_id", *bundle.labels]
        _refuse_other_names(blend_with, "column", columns, other.columns)
        if sample is not None:
            _refuse_other_names(blend_with, "row", sample["row_id"], other["row_id"])
    if detections is not None and Path(detections).resolve() == output.resolve():
        raise InputError(f"Both the submission and the detections would be written to {output}. Name two files.")
    check_number("The weight of the other submission", blend_weight, above=0, below=1)
    thresholds = bundle.ensemble.thresholds
    if detections is not None and thresholds is None:
        raise InputError(
            f"{model} has no thresholds, as nothing was validated when it was fitted. Fit it with --cv, on classes "
            "that have several recordings."
        )
    if weights is not None and len(bundle.identities) > 1:
        raise InputError("--weights names the weights of one encoder, and the bundle has several. Use BIRDEMB_MODELS.")
    refuse_shared_stems(found.name for found in find_recordings(path).recordings)
    for written in (output, *([Path(detections)] if detections is not None else [])):
        if written.suffix.lower() in AUDIO_SUFFIXES | OTHER_SUFFIXES:
            raise InputError(f"{written} has the name of a recording, which a table must not replace. Name it .csv.")
        check_writable(written)
    listing, prediction = predict_soundscapes(
        bundle,
        path,
        place,
        weights=Path(weights) if weights is not None else None,
        jobs=jobs,
        backend=backend,
        scheduler=scheduler,
        show_progress=show_progress,
    )
    errors = write_skipped(place.errors("predict"), listing.skipped)
    listing.refuse_if_empty(hide_secrets(str(path)), errors)
    table = make_submission(
        prediction.recordings,
        prediction.probabilities,
        prediction.labels,
        window=prediction.window,
        hop=prediction.hop,
    )
    match = match_sample(table, sample, bundle.shares.tolist()) if sample is not None else None
    result = match.table if match else table
    if other is not None:
        _refuse_other_names(blend_with, "row", result["row_id"], other["row_id"])
        result = blend_by_rank([result, other], [1 - blend_weight, blend_weight])
    found = 0
    if detections is not None and thresholds is not None:
        detected = list_detections(
            prediction.recordings,
            prediction.probabilities,
            thresholds.threshold,
            prediction.classes,
            window=prediction.window,
            hop=prediction.hop,
        )
        write_detections(Path(detections), detected)
        found = len(detected)
    write_submission(output, result)
    return PredictReport(
        path=output,
        detections=Path(detections) if detections is not None else None,
        detected=found,
        model=model,
        bundle=bundle,
        listing=listing,
        sample=match,
        errors=errors,
        elapsed=time.monotonic() - started,
    )


def _refuse_other_names(path: str | Path | None, what: str, expected: Iterable[str], found: Iterable[str]) -> None:
    ours, theirs = dict.fromkeys(expected), dict.fromkeys(found)
    for name in (*ours, *theirs):
        if name not in theirs or name not in ours:
            raise InputError(
                f"{path} {'has' if name in theirs else 'lacks'} the {what} {name!r}, and the prediction "
                f"{'lacks' if name in theirs else 'has'} it. Blend submissions for the same rows and classes; with "
                "--sample-submission the prediction has those of the sample."
            )
