"""The third step of the main job: soundscapes and a bundle to a submission, and its score."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.bundle import Bundle, read_bundle
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.audio import find_recordings
from birdemb.embed.run import EmbedRun, embed_folder
from birdemb.embed.windows import WindowGrid
from birdemb.errors import InputError
from birdemb.listing import Listing, write_skipped
from birdemb.metrics import Scores, score_submission
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

__all__ = ["PredictReport", "evaluate", "predict"]

_RECORDINGS_AT_ONCE = 256


@dataclass(frozen=True)
class PredictReport:
    """What `predict` did.

    Parameters
    ----------
    path : Path
        The submission.
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
    model: Path
    bundle: Bundle
    listing: Listing
    sample: SampleMatch | None
    errors: Path | None
    elapsed: float


def predict(
    path: str | Path,
    *,
    output: str | Path = "submission.csv",
    model: str | Path | None = None,
    sample_submission: str | Path | None = None,
    weights: str | Path | None = None,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
    show_progress: bool = False,
) -> PredictReport:
    """Predict the probability of each class in each window of soundscapes, and write them as a submission.

    Parameters
    ----------
    path : path
        A folder of soundscapes, or one.
    output : path
        The submission to write.
    model : path, optional
        A bundle; by default the one that was fitted last.
    sample_submission : path, optional
        A table whose rows and columns the submission gets, in their order.
    weights : path, optional
        The encoder's weights, where they are not in one of the usual places.
    workspace : path
        The working folder; its cache is used.
    jobs : int
        Processes at the same time; -1 for as many as there are cores.
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
    path, output, place = Path(path), Path(output), Workspace(Path(workspace))
    model = Path(model) if model is not None else place.last_bundle()
    if not model.is_file():
        raise InputError(f"There is no bundle {model}. Check the path, or fit one with `birdemb fit`.")
    bundle = read_bundle(model)
    sample = read_scores(Path(sample_submission)) if sample_submission is not None else None
    refuse_shared_stems(found.as_posix() for found in find_recordings(path))
    check_writable(output)
    grid = WindowGrid(float(bundle.identity["window"]), float(bundle.identity["hop"]))
    run = embed_folder(
        path,
        place.cache,
        encoder=bundle.identity["encoder"],
        weights=Path(weights) if weights is not None else None,
        grid=grid,
        expected=bundle.identity,
        jobs=jobs,
        show_progress=show_progress,
    )
    run.cache.discard_damaged()
    errors = write_skipped(place.errors("predict"), run.listing.skipped)
    run.listing.refuse_if_empty(path, errors)
    bundle.head.set_params(n_jobs=jobs)
    table = make_submission(
        run.listing.recordings,
        _predict_probabilities(bundle, run),
        bundle.classes,
        window=grid.window,
        hop=grid.hop,
    )
    match = match_sample(table, sample, bundle.priors.tolist()) if sample is not None else None
    write_submission(output, match.table if match else table)
    return PredictReport(
        path=output,
        model=model,
        bundle=bundle,
        listing=run.listing,
        sample=match,
        errors=errors,
        elapsed=time.monotonic() - started,
    )


def _predict_probabilities(bundle: Bundle, run: EmbedRun) -> NDArray[np.float64]:
    """Predict a part of the recordings at a time, as their embeddings together may not fit into memory."""
    recordings = run.listing.recordings
    parts = [
        bundle.head.predict_proba(run.cache.read([entry.sha256 for entry in recordings[i : i + _RECORDINGS_AT_ONCE]]))
        for i in range(0, len(recordings), _RECORDINGS_AT_ONCE)
    ]
    return np.concatenate(parts)


def evaluate(submission: str | Path, truth: str | Path) -> Scores:
    """Score a submission against a truth table with the metric of the BirdCLEF competitions.

    Parameters
    ----------
    submission, truth : path
        CSV files with the column row_id and one column for each class.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        If they are no such tables or do not match.
    """
    return score_submission(read_scores(Path(submission)), read_scores(Path(truth)))
