"""How well heads do on recordings that they were not fitted on, and what is learnt from that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from birdemb.classify.blending import UNLEARNT, Blend, check_blend, cross_blend, learn_blend
from birdemb.classify.calibration import CALIBRATIONS, Calibration
from birdemb.classify.ensemble import Member
from birdemb.classify.entries import count_positive_groups
from birdemb.classify.folds import assessable_classes, assign_folds, describe_folds
from birdemb.classify.prior import Prior
from birdemb.classify.reliability import brier_scores, calibration_error, reliability_table
from birdemb.classify.thresholds import Thresholds, check_aim, choose_thresholds
from birdemb.classify.trust import choose_trust, usual_trust
from birdemb.classify.validation import score_out_of_fold
from birdemb.errors import InputError
from birdemb.metrics import ScoreTable, score_windows
from birdemb.taxonomy import ClassName
from birdemb.training import TrainingData

__all__ = ["USUAL_FOLDS", "Validation", "ValidationRules", "choose_folds", "validate", "weigh_corrections"]

USUAL_FOLDS = 5


@dataclass(frozen=True)
class ValidationRules:
    """How heads are validated, blended and calibrated.

    Parameters
    ----------
    cv : int, optional
        Folds; 0 for no validation; by default 5, or as many as there are groups where these are fewer.
    blend : str
        One of `birdemb.classify.blending.BLENDS`.
    calibrate : str
        One of `birdemb.classify.calibration.CALIBRATIONS`.
    threshold : "f1" or float
        What detections aim at.
    seed : int

    Raises
    ------
    InputError
        If one of these is something else.
    """

    cv: int | None = None
    blend: str = "mean"
    calibrate: str = "platt"
    threshold: str | float = "f1"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cv is not None and self.cv != 0 and self.cv < 2:
            raise InputError(f"--cv is {self.cv}; expected at least 2 folds, or 0 for no validation.")
        if self.calibrate not in CALIBRATIONS:
            raise InputError(f"There is no calibration {self.calibrate!r}. Use {', '.join(map(repr, CALIBRATIONS))}.")
        check_blend(self.blend)
        if self.cv == 0 and self.blend not in UNLEARNT:
            raise InputError(
                f"The blend {self.blend!r} is learnt on validation scores, and --cv 0 asks for none. "
                f"Use {', '.join(map(repr, UNLEARNT))}, or folds."
            )
        check_aim(self.threshold)


@dataclass(frozen=True, eq=False)
class Validation:
    """What cross-validation found, and what was learnt from out-of-fold scores.

    Parameters
    ----------
    blend : Blend
    trusts : tuple of (ndarray of shape (classes,), float64, or None)
        For each head that starts from the encoder's logits, the share that each class keeps of what it adds to them.
    calibration : Calibration or None
    thresholds : Thresholds or None
    reason : str
        Why nothing was validated; empty where something was.
    folds : int
    classes : pandas.DataFrame
        One row for each class: class, groups, windows, fold_0, fold_1, ..., assessable; empty without folds.
    scores : dict of str to ScoreTable
        Of each head and, where there are several, of their ``"blend"``; over the assessable classes.
    brier : float
        Mean over the classes of the Brier score, each fold with a calibration that was learnt on the others; NaN
        without validation.
    reliability : pandas.DataFrame
        Probabilities from the same calibrations against shares of positives.
    detections : pandas.DataFrame
        F1 of what passes its threshold, over the assessable classes, each fold with a calibration and thresholds that
        were learnt on the others: rows macro_f1 and micro_f1, columns as in `ScoreTable.metrics`.
    """

    blend: Blend
    trusts: tuple[NDArray[np.float64] | None, ...]
    calibration: Calibration | None = None
    thresholds: Thresholds | None = None
    reason: str = ""
    folds: int = 0
    classes: pd.DataFrame = field(default_factory=pd.DataFrame)
    scores: dict[str, ScoreTable] = field(default_factory=dict)
    brier: float = math.nan
    reliability: pd.DataFrame = field(default_factory=pd.DataFrame)
    detections: pd.DataFrame = field(default_factory=pd.DataFrame)

    def summary(self, classes: Sequence[ClassName]) -> dict[str, Any]:
        """Give all of it as JSON can hold it, for the bundle.

        Parameters
        ----------
        classes : sequence of ClassName

        Returns
        -------
        dict
        """
        if self.reason:
            return {"reason": self.reason}
        summary: dict[str, Any] = {
            "folds": self.folds,
            "assessable": self.classes.loc[self.classes["assessable"], "class"].tolist(),
            "classes": _as_json(self.classes),
            "heads": {
                name: {"metrics": _as_json(table.metrics), "classes": _as_json(table.classes)}
                for name, table in self.scores.items()
            },
            "brier": _finite(self.brier),
            "calibration_error": _finite(calibration_error(self.reliability)),
            "reliability": _as_json(self.reliability),
            "detections": _as_json(self.detections),
        }
        if self.thresholds is not None:
            summary["thresholds"] = _as_json(self.thresholds.table([name.label for name in classes]))
        return summary


def choose_folds(data: TrainingData, rules: ValidationRules) -> tuple[NDArray[np.int64] | None, str]:
    """Give the fold of each window, or None and why there are no folds.

    Parameters
    ----------
    data : TrainingData
    rules : ValidationRules

    Returns
    -------
    tuple of (ndarray of shape (n,), int64, or None) and str

    Raises
    ------
    InputError
        If more folds were asked for than there are groups.
    """
    groups = len(np.unique(data.groups))
    count = min(USUAL_FOLDS, groups) if rules.cv is None else rules.cv
    if rules.cv == 0:
        return None, "it was not asked for"
    if count < 2:
        return None, f"there is {groups} group of recordings only"
    known = data.targets & (data.weights > 0)
    folds = assign_folds(known, data.groups, count, rules.seed)
    if not assessable_classes(data.targets, data.weights, folds).any():
        return None, f"no class is known to be in two {data.grouping.by}s and not to be in two others"
    return folds, ""


def validate(
    members: Sequence[Member],
    data: TrainingData,
    rules: ValidationRules,
    tell: Callable[[str], None] = lambda _: None,
) -> Validation:
    """Cross-validate heads, and learn their blend, their calibration and thresholds from the out-of-fold scores.

    Parameters
    ----------
    members : sequence of Member
        Heads that need not be fitted; they stay as they are.
    data : TrainingData
    rules : ValidationRules
    tell : callable
        Is told what is being done.

    Returns
    -------
    Validation

    Raises
    ------
    InputError
        If there are fewer groups than folds asked for, or a head cannot be fitted.
    """
    folds, reason = choose_folds(data, rules)
    if folds is None:
        method = rules.blend if rules.blend in UNLEARNT else "mean"
        equal = Blend.equal(method, len(members), data.targets.shape[1])
        return Validation(equal, trusts=_usual_trusts(members, data), reason=reason)
    scores = score_out_of_fold(members, data.heard, data.priors, data.targets, data.weights, data.groups, folds, tell)
    tell("blending, calibration and thresholds")
    assessable = assessable_classes(data.targets, data.weights, folds)
    trusts, scores = weigh_corrections(members, data, scores, folds, assessable, rules.seed)
    # What a head says of a class of which it saw no recording says nothing of that class.
    weights = data.weights * assessable
    blend = learn_blend(rules.blend, scores, data.targets, weights, data.groups, seed=rules.seed)
    blended = blend.apply(scores)
    calibration = Calibration.learn(
        blended, data.targets, data.weights, data.groups, rules.calibrate, assessable=assessable
    )
    probabilities = calibration.apply(blended)
    crossed, detected = _cross_decide(blended, data, folds, assessable, rules)
    labels = [name.label for name in data.classes]
    tables = {
        name: _score(own, data, assessable, labels)
        for name, own in zip(name_members(members, data), scores, strict=True)
    }
    if len(members) > 1:
        cross_blended = cross_blend(rules.blend, scores, data.targets, weights, data.groups, folds, seed=rules.seed)
        tables["blend"] = _score(cross_blended, data, assessable, labels)
    found = _measure(detected, data, assessable, labels).metrics
    thresholds = choose_thresholds(probabilities, data.targets, weights, data.groups, rules.threshold, seed=rules.seed)
    return Validation(
        blend=blend,
        trusts=trusts,
        calibration=calibration,
        thresholds=replace(thresholds, positive_groups=count_positive_groups(data.targets, data.weights, data.groups)),
        folds=len(np.unique(folds)),
        classes=describe_folds(data.targets, data.weights, data.groups, folds, labels),
        scores=tables,
        brier=float(np.nanmean(brier_scores(crossed, data.targets, weights))),
        reliability=reliability_table(crossed, data.targets, weights),
        detections=found[found["metric"].str.endswith("f1")].reset_index(drop=True),
    )


def _cross_decide(
    scores: NDArray[np.float64],
    data: TrainingData,
    folds: NDArray[np.int64],
    assessable: NDArray[np.bool_],
    rules: ValidationRules,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give each fold's probabilities and detections, with a calibration and thresholds learnt on the other folds."""
    probabilities, detected = np.empty(scores.shape), np.zeros(scores.shape, np.bool_)
    for fold in np.unique(folds):
        rest = folds != fold
        targets, weights, groups = data.targets[rest], data.weights[rest], data.groups[rest]
        calibration = Calibration.learn(scores[rest], targets, weights, groups, rules.calibrate, assessable=assessable)
        thresholds = choose_thresholds(
            calibration.apply(scores[rest]),
            targets,
            weights * assessable,
            groups,
            rules.threshold,
            resamples=0,
            seed=rules.seed,
        )
        probabilities[~rest] = calibration.apply(scores[~rest])
        detected[~rest] = thresholds.apply(probabilities[~rest])
    return probabilities, detected


def weigh_corrections(
    members: Sequence[Member],
    data: TrainingData,
    scores: NDArray[np.float64],
    folds: NDArray[np.int64],
    assessable: NDArray[np.bool_],
    seed: int,
) -> tuple[tuple[NDArray[np.float64] | None, ...], NDArray[np.float64]]:
    """Choose how far each head moves away from the encoder.

    Parameters
    ----------
    members : sequence of Member
    data : TrainingData
    scores : ndarray of shape (members, n, classes), float64
        Out-of-fold logits, of all folds on one level.
    folds : ndarray of shape (n,), int64
    assessable : ndarray of shape (classes,), bool
    seed : int

    Returns
    -------
    trusts : tuple of (ndarray of shape (classes,) or None)
    scores : ndarray of shape (members, n, classes)
        Those of each fold with shares that were chosen on the other folds, still on one level.
    """
    trusts: list[NDArray[np.float64] | None] = []
    crossed = scores.copy()
    for own, weighed, member in zip(scores, crossed, members, strict=True):
        prior, heard = data.priors[member.encoder], data.heard[member.encoder]
        if prior is None or prior.kind != "offset":
            trusts.append(None)
            continue
        offset = prior.offset(heard.embeddings, heard.logits)
        trust = _choose_trust(own, offset, prior, data, assessable, np.ones(len(folds), np.bool_), seed)
        correction = own - offset
        # What most windows have in common is kept alike in all folds, or it would move them apart.
        common = np.median(correction, axis=0)
        for fold in np.unique(folds):
            held_out = folds == fold
            of_fold = _choose_trust(own, offset, prior, data, assessable, ~held_out, seed)
            weighed[held_out] = offset[held_out] + trust * common + of_fold * (correction[held_out] - common)
        trusts.append(trust)
    return tuple(trusts), crossed


def _choose_trust(
    scores: NDArray[np.float64],
    offset: NDArray[np.float32],
    prior: Prior,
    data: TrainingData,
    assessable: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    seed: int,
) -> NDArray[np.float64]:
    return choose_trust(
        scores[rows],
        offset[rows],
        prior.known,
        data.targets[rows],
        data.weights[rows],
        data.groups[rows],
        assessable,
        seed,
    )


def _usual_trusts(members: Sequence[Member], data: TrainingData) -> tuple[NDArray[np.float64] | None, ...]:
    positive_groups = count_positive_groups(data.targets, data.weights, data.groups)
    priors = [data.priors[member.encoder] for member in members]
    return tuple(
        usual_trust(prior.known, positive_groups) if prior is not None and prior.kind == "offset" else None
        for prior in priors
    )


def name_members(members: Sequence[Member], data: TrainingData) -> list[str]:
    """Name heads for people: ``lr``, or ``lr on birdnet-2.4`` where there are several encoders."""
    if len(data.identities) == 1:
        return [member.head.name for member in members]
    return [f"{member.head.name} on {data.identities[member.encoder]['encoder']}" for member in members]


def _score(
    scores: NDArray[np.float64], data: TrainingData, assessable: NDArray[np.bool_], labels: Sequence[str]
) -> ScoreTable:
    # Beyond 30 or so many scores would have the same probability: their order is kept instead.
    scale = min(1.0, 30 / np.abs(scores[:, assessable]).max(initial=1.0))
    return _measure(expit(scores * scale), data, assessable, labels)


def _measure(
    scores: NDArray[Any], data: TrainingData, assessable: NDArray[np.bool_], labels: Sequence[str]
) -> ScoreTable:
    return score_windows(
        data.targets[:, assessable],
        scores[:, assessable],
        [label for label, kept in zip(labels, assessable, strict=True) if kept],
        data.groups,
        known=data.weights[:, assessable] > 0,
    )


def _as_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): _finite(value) if isinstance(value, float) else value for key, value in row.items()}
        for row in table.to_dict(orient="records")
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
