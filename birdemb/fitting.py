"""The second step of the main job: embeddings and labels to a bundle with fitted heads."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.class_groups import find_class_groups
from birdemb.classify.bundle import Bundle
from birdemb.classify.bundle_file import SUFFIX, write_bundle
from birdemb.classify.ensemble import Ensemble, fit_member
from birdemb.classify.members import list_positive_weights, make_members, name_heads
from birdemb.classify.postprocessing.tuning import Tuning
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.catalogue import name_encoder
from birdemb.embed.contents import ContentMemory
from birdemb.embed.remote import hide_secrets
from birdemb.errors import InputError
from birdemb.labels import MINIMUM_OVERLAP, Labels
from birdemb.listing import SkippedRecording, write_skipped
from birdemb.postprocess import refuse_fitted_on, refuse_too_few, tune_on_soundscapes
from birdemb.soundscapes import (
    SoundscapeScores,
    find_fitted_on,
    find_labelled,
    find_scored,
    predict_labelled,
    read_truth,
    score_soundscapes,
)
from birdemb.storage import check_writable, hash_json
from birdemb.training import LabelRules, TrainingData, read_training_data
from birdemb.validation import Validation, ValidationRules, validate
from birdemb.workspace import Workspace

__all__ = ["FitReport", "fit"]

_RECORDED_PACKAGES = (
    "birdemb",
    "lightgbm",
    "numpy",
    "openvino",
    "pandas",
    "scikit-learn",
    "soundfile",
    "soxr",
    "torch",
)


@dataclass(frozen=True)
class FitReport:
    """What `fit` did.

    Parameters
    ----------
    bundle : Bundle
    path : Path
        Where it is.
    data : TrainingData
        What the heads were fitted on.
    validation : Validation
        How well the heads did on recordings that they were not fitted on.
    soundscapes : SoundscapeScores or None
        How well they did on labelled soundscapes, where there were any.
    tuning : Tuning or None
        The post-processing that was chosen on these, where that was asked for.
    limited : int
        Recordings left out as their classes have enough of them.
    skipped : tuple of SkippedRecording
        Recordings without a label, labels without a recording, and labelled soundscapes that cannot be read.
    errors : Path or None
        The table of these.
    elapsed : float
        Seconds.
    """

    bundle: Bundle
    path: Path
    data: TrainingData
    validation: Validation
    soundscapes: SoundscapeScores | None
    tuning: Tuning | None
    limited: int
    skipped: tuple[SkippedRecording, ...]
    errors: Path | None
    elapsed: float

    @property
    def labels(self) -> Labels:
        """The labels that were used."""
        return self.data.labels

    @property
    def recordings(self) -> int:
        """Count the recordings that the heads were fitted on."""
        return len(self.data.recordings)

    @property
    def windows(self) -> int:
        """Count the windows that the heads were fitted on."""
        return len(self.data)


def fit(
    head: str | Sequence[str] = "lr",
    *,
    labels: str | Path | Sequence[str | Path] | None = None,
    output: str | Path | None = None,
    encoders: str | Sequence[str] = (),
    reweight: str = "sqrt",
    secondary: str | float = "unknown",
    rating: bool = False,
    most_recordings: int | None = None,
    positive_weights: Mapping[str, float] | None = None,
    prior: str = "auto",
    cv: int | None = None,
    group: str = "recording",
    minimum_overlap: float = MINIMUM_OVERLAP,
    minimum_confidence: float = 0.0,
    unannotated: str = "absent",
    columns: Mapping[str, str] | None = None,
    blend: str = "mean",
    calibrate: str = "platt",
    threshold: str | float = "f1",
    soundscapes: str | Path | None = None,
    truth: str | Path | None = None,
    tune_postprocess: bool = False,
    class_groups: str | Path | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
    command: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _: None,
    **head_parameters: Any,  # noqa: ANN401 - each head has its own
) -> FitReport:
    """Fit heads on the embeddings of the last `embed_recordings` and their labels.

    Parameters
    ----------
    head : str or sequence of str
        ``"lr"`` (one logistic regression per class), ``"mlp"`` or ``"lgbm"`` (LightGBM); several are blended.
    labels : path or sequence of path, optional
        Files of labels or folders of them; by default the table that was found when embedding, else files beside the
        recordings, else class folders.
    output : path, optional
        Where to write the bundle; by default in the working folder.
    encoders : str or sequence of str
        Whose embeddings to use, each with every head; by default those that were made last. Names, or paths of cards.
    reweight : "none", "balanced", "sqrt" or "effective"
        See `birdemb.classify.reweighting.reweight`.
    secondary : "unknown", "present", "ignore" or float
        What a secondary label says; a number is the weight of the positives that it makes.
    rating : bool
        Whether recordings weigh by their rating.
    most_recordings : int, optional
        Most recordings of a class.
    positive_weights : mapping of str to float, optional
        How many times as much as before the positives of a class count, by its label; 1 for all others.
    prior : "auto", "none", "offset" or "features"
        How heads start from what the encoder knows of the classes by itself. ``"auto"`` is an offset where it knows
        any.
    cv : int, optional
        Folds of the validation; by default 5, or as many as there are groups; 0 for none, and then no calibration
        and no thresholds.
    group : "recording", "author" or "site"
        What folds must not part.
    minimum_overlap, minimum_confidence, unannotated, columns
        How files of labels are read: see `LabelRules`.
    blend : str
        One of `birdemb.classify.blending.BLENDS`.
    calibrate : "platt", "isotonic" or "none"
        How out-of-fold scores become probabilities.
    threshold : "f1" or float
        What detections aim at: the best F1, or a precision.
    soundscapes, truth : path, optional
        Labelled soundscapes to score the result on, and the table of what is in them.
    tune_postprocess : bool
        Whether to choose on these what is done with probabilities; otherwise nothing is. With groups of ``"site"``, all
        soundscapes of a site are in one fold of that.
    class_groups : path, optional
        A table with the group of each class, which temperatures are chosen for; by default the taxonomy beside the
        labels, if it has the column ``class_name``, else all classes are one group.
    parameters : mapping of str to mapping
        Parameters of the heads by name, as ``{"lgbm": {"num_leaves": 8}}``.
    seed : int
        Same seed, same data and same versions give the same heads.
    workspace : path
        The working folder.
    jobs : int
        Processes or threads at the same time; -1 for as many as there are cores.
    command : sequence of str
        The command line, to be stored in the bundle.
    tell : callable
        Is told what is being done.
    **head_parameters
        Parameters of the head's class, where there is a single head.

    Returns
    -------
    FitReport

    Raises
    ------
    BirdembError
        If nothing was embedded, there are no labels, or a head cannot be fitted.
    """
    started = time.monotonic()
    place = Workspace(Path(workspace))
    names = name_heads(head)
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed is {seed}; expected 0 to {2**32 - 1}.")
    encoders = tuple(map(name_encoder, encoders.split(",") if isinstance(encoders, str) else encoders))
    members = make_members(
        names, max(1, len(encoders)), parameters or {}, head_parameters, reweight=reweight, seed=seed, jobs=jobs
    )
    if (soundscapes is None) != (truth is None):
        raise InputError("Soundscapes to validate on and the table of their truth belong together: give both.")
    if tune_postprocess and soundscapes is None:
        raise InputError("Post-processing is chosen on labelled soundscapes: give these, and the table of their truth.")
    if class_groups is not None and not tune_postprocess:
        raise InputError("Groups of classes are asked for by the choice of the post-processing alone: choose it, too.")
    rules = ValidationRules(cv=cv, blend=blend, calibrate=calibrate, threshold=threshold, seed=seed)
    path = Path(output) if output is not None else place.bundle("-".join(names))
    if path.suffix != SUFFIX:
        raise InputError(f"{path} is no name for a bundle. It has to end in {SUFFIX}.")
    for encoder in encoders or (None,):
        place.last_listing(encoder)
    place.check_writable()
    check_writable(path)
    expected = read_truth(soundscapes, truth) if soundscapes is not None and truth is not None else None
    label_rules = LabelRules(
        secondary, rating, most_recordings, group, minimum_overlap, unannotated, minimum_confidence, dict(columns or {})
    )
    if soundscapes is not None and expected is not None and tune_postprocess:
        refuse_too_few(soundscapes, expected, by_site=group == "site")
    tell("reading embeddings and labels")
    data = read_training_data(place, labels, encoders, label_rules, prior, seed)
    if positive_weights:
        for member in members:
            listed = list_positive_weights(positive_weights, data.labels.classes, member.head.positive_weight)
            member.head.set_params(positive_weight=listed)
    fitted_on: tuple[str, ...] = ()
    if soundscapes is not None and expected is not None and truth is not None:
        find_scored(expected, data.labels.classes, truth)  # what is wrong with it is told before the work
        contents = {entry.sha256 for entry in data.recordings}
        fitted_on = find_fitted_on(find_labelled(soundscapes, expected), contents, ContentMemory(place.contents))
        if tune_postprocess:
            refuse_fitted_on(fitted_on)
    grouped = find_class_groups(data.labels.source, data.labels.classes, class_groups) if tune_postprocess else ()
    validation = validate(members, data, rules, tell)
    for member in members:
        tell(f"{member.head.name}, all recordings")
        heard, known = data.heard[member.encoder], data.priors[member.encoder]
        fit_member(member.head, heard, known, data.targets, data.weights, data.groups)
    trusted = tuple(replace(member, trust=trust) for member, trust in zip(members, validation.trusts, strict=True))
    ensemble = Ensemble(trusted, data.priors, validation.blend, validation.calibration, validation.thresholds)
    bundle = Bundle(
        ensemble=ensemble,
        classes=data.classes,
        identities=data.identities,
        shares=_share_windows(data),
        provenance=_describe_origin(data, label_rules, rules, prior, command, seed),
        scores=validation.summary(data.classes),
    )
    on_soundscapes = tuning = None
    unheard: tuple[SkippedRecording, ...] = ()
    if soundscapes is not None and truth is not None:
        write_bundle(bundle, path)  # heads are not lost with what goes wrong from here on
        place.remember_bundle(path)
        tell("scoring the soundscapes")
        try:
            labelled = predict_labelled(bundle, soundscapes, truth, place, jobs=jobs)
        except InputError as error:
            raise InputError(f"{error} The heads are fitted, and in {path}.") from error
        unheard = labelled.skipped
        on_soundscapes = score_soundscapes(labelled, validation, fitted_on)
        bundle = replace(bundle, scores={**bundle.scores, "soundscapes": on_soundscapes.summary()})
        if tune_postprocess:
            write_bundle(bundle, path)
            try:
                tuning = tune_on_soundscapes(
                    labelled, soundscapes, class_groups=grouped, by_site=group == "site", seed=seed, tell=tell
                )
            except InputError as error:
                raise InputError(f"{error} The heads are fitted, and in {path}, without post-processing.") from error
            scores = {**bundle.scores, "postprocessing": tuning.summary()}
            bundle = replace(bundle, scores=scores, postprocessing=tuning.postprocessing)
    write_bundle(bundle, path)
    place.remember_bundle(path)
    # What was asked to be left out is listed, but is no problem.
    problems = tuple(entry for entry in data.labels.problems if entry.stage != "limit")
    return FitReport(
        bundle=bundle,
        path=path,
        data=data,
        validation=validation,
        soundscapes=on_soundscapes,
        tuning=tuning,
        limited=len(data.labels.problems) - len(problems),
        skipped=(*problems, *unheard),
        errors=write_skipped(place.errors("fit"), (*data.labels.problems, *unheard)),
        elapsed=time.monotonic() - started,
    )


def _share_windows(data: TrainingData) -> NDArray[np.float64]:
    """Give the share of windows with each class, among those of which it is known."""
    known = data.weights.sum(axis=0)
    present = (data.weights * data.targets).sum(axis=0)
    shares: NDArray[np.float64] = np.divide(present, known, out=np.zeros_like(known), where=known > 0)
    return shares


def _describe_origin(
    data: TrainingData,
    label_rules: LabelRules,
    rules: ValidationRules,
    prior: str,
    command: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        # As typed, but for passwords in addresses: a bundle is shared.
        "command": [hide_secrets(word) for word in command],
        "seed": seed,
        # Their names alone: a bundle is shared, and the folders of a machine are nobody's business.
        "labels": data.labels.name,
        "label_rules": vars(label_rules),
        "validation_rules": vars(rules),
        "prior": prior,
        "recordings": len(data.recordings),
        "windows": len(data),
        "recordings_by_class": data.labels.count_recordings(),
        "data_sha256": hash_json(
            [
                [entry.sha256 for entry in data.recordings],
                data.labels.table.to_csv(index=False),
                data.labels.recordings.to_csv(index=False),
            ]
        ),
        "python": platform.python_version(),
        "platform": sys.platform,
        "versions": {name: found for name in _RECORDED_PACKAGES if (found := _installed_version(name))},
    }


def _installed_version(name: str) -> str | None:
    # birdemb itself is not installed where it runs from a checkout, and torch is optional.
    try:
        return version(name)
    except PackageNotFoundError:
        return None
