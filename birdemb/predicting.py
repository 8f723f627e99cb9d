"""The third step of the main job: soundscapes and a bundle to a submission, or to another table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdemb.budget.anytime import predict_within
from birdemb.budget.budget_report import BudgetReport
from birdemb.budget.rows import ExpectedRecording
from birdemb.budget.time_budget import TimeBudget
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import read_bundle
from birdemb.classify.postprocessing import Postprocessing
from birdemb.classify.postprocessing.spelling import choose_steps
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.recordings import find_recordings
from birdemb.embed.remote import hide_secrets
from birdemb.errors import InputError
from birdemb.inference import check_weights, predict_soundscapes
from birdemb.kit_use import find_bundle, use_models
from birdemb.listing import Listing, write_skipped
from birdemb.origin import parse_zone
from birdemb.postprocess import postprocess as apply_steps
from birdemb.predict_outputs import choose_outputs, choose_thresholds, refuse_recordings, refuse_to_overwrite
from birdemb.prediction import Prediction
from birdemb.progress import tell_on_standard_error
from birdemb.recording_context import check_place
from birdemb.results import Results, read_wish
from birdemb.submission import SampleMatch, refuse_other_soundscapes, refuse_shared_stems
from birdemb.tables.forms import SUBMISSION, Output
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
    unused : tuple of str
        Which of its steps changed nothing, as nothing that they ask for is known of any soundscape: a sentence each.
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
    budget : BudgetReport or None
        What was planned and done, where there was a time budget.
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
    budget: BudgetReport | None = None
    unused: tuple[str, ...] = ()

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
    blend_weight: float | None = None,
    postprocess: str | Postprocessing = "auto",
    latitude: float | None = None,
    longitude: float | None = None,
    week: int | None = None,
    time_budget: float | str | TimeBudget | None = None,
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
    blend_weight : float, optional
        Weight of the other submission, above 0 and below 1; 0.5 by default.
    postprocess : str or Postprocessing
        What is done with the probabilities: ``"auto"`` for what the bundle says, ``"none"``, or steps as
        `birdemb.classify.postprocessing.spelling.choose_steps` reads them. Detections are made without: thresholds
        were learnt on what the heads say of one window.
    latitude, longitude, week : number, optional
        Where and when recordings were made that do not tell it, for steps that ask for it: degrees, north and east
        positive, and 1 to 48, four to a month.
    time_budget : float, str or TimeBudget, optional
        Seconds, or a text such as ``"90m"``, in which all has to be done. The table is written at once, with the
        classes' priors, and then made better for as long as there is time: see `docs/time-budget.md`.
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
    budget = TimeBudget.of(time_budget) if time_budget is not None else None
    place = Workspace(Path(workspace))
    refuse_recordings(output, detections)
    outputs = choose_outputs(output, form, detections, detections_form, min_confidence=min_confidence, merge=merge)
    table, listed = outputs[0], outputs[1] if len(outputs) > 1 else None
    model = Path(model) if model is not None else place.last_bundle()
    named, model = model, find_bundle(model)
    if not model.is_file():
        raise InputError(f"There is no bundle {model}. Check the path, or fit one with `birdemb fit`.")
    refuse_to_overwrite(outputs, model, sample_submission, blend_with, weights)
    bundle = read_bundle(model)
    steps = choose_steps(postprocess, bundle.postprocessing, bundle.window)
    with use_models(named):
        check_place(latitude, longitude, week, steps.asks)
    wish = read_wish(bundle, table, sample_submission, blend_with, blend_weight)
    thresholds = choose_thresholds(bundle, model, min_confidence, outputs)
    zone = parse_zone(time_zone) if time_zone is not None else None
    check_weights(weights, bundle, named)
    found = find_recordings(path)
    recordings = {one.name: one for one in found.recordings}
    if table.form == SUBMISSION:
        refuse_shared_stems(recordings)
    if wish.sample is not None:
        refuse_other_soundscapes(wish.sample, recordings)
    place.check_writable()
    for one in outputs:
        one.check_writable(bundle.labels, found.folder, recordings)

    unused: list[str] = []

    def process(prediction: Prediction) -> Prediction:
        unused.clear()  # with a time budget, the first soundscapes are processed before all others are
        return apply_steps(
            *(prediction, steps, path),
            latitude=latitude,
            longitude=longitude,
            week=week,
            tell=unused.append,
            in_place=True,
        )

    results = Results(
        *(bundle, table, listed, recordings, wish),
        process=process,
        thresholds=thresholds,
        merge=merge,
        zone=zone,
        folder=found.folder,
    )
    settings: dict[str, Any] = {
        "weights": weights,
        "jobs": jobs,
        "backend": backend,
        "scheduler": scheduler,
        "show_progress": show_progress,
    }
    expected: Sequence[ExpectedRecording] = ()
    inside = None
    with use_models(named):
        if budget is not None:
            tell = tell_on_standard_error if show_progress else (lambda _: None)
            listing, prediction, expected, inside = predict_within(
                bundle, path, place, budget, results.write, tell=tell, **settings
            )
        else:
            listing, prediction = predict_soundscapes(bundle, path, place, **settings)
        errors = write_skipped(place.errors("predict"), listing.skipped)
        # What a sample asks for is there whatever became of the soundscapes.
        if budget is None and wish.sample is None:
            listing.refuse_if_empty(hide_secrets(str(path)), errors)
        written = results.write(prediction, expected, listing.skipped)
    return PredictReport(
        output=table,
        rows=written.rows,
        detections=listed,
        detected=written.detected,
        model=model,
        bundle=bundle,
        postprocessing=steps if table.of_windows else Postprocessing(),
        listing=listing,
        sample=written.match,
        lost_rows=written.lost_rows,
        errors=errors,
        elapsed=time.monotonic() - started,
        budget=inside,
        unused=tuple(unused),
    )
