"""Choosing post-processing on labelled soundscapes: which steps, with which parameters, and what they really gain.

Everything is cross-validated over groups of soundscapes. A step's parameters, and all that it learns, come from the
other folds than those on which it is judged. Which steps are kept is decided by that; and as choosing flatters what was
chosen, the whole choice is made again inside every outer fold, without it, for the gain that is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.folds import assign_folds
from birdemb.classify.postprocessing.candidates import CANDIDATES, Chooser, Setting
from birdemb.classify.postprocessing.chain import STEPS, Postprocessing
from birdemb.classify.postprocessing.labelled import METRICS, Gain, Labelled, compare
from birdemb.classify.postprocessing.origin_prior import OriginPrior
from birdemb.classify.postprocessing.species_range import Range
from birdemb.classify.postprocessing.step import Step
from birdemb.errors import InputError

__all__ = ["LEAST_GROUPS", "MARGIN", "Ablation", "Tuning", "check_groups", "tune_postprocessing"]

MARGIN = 0.002
"""What a step has to gain in macro ROC-AUC, with an interval that excludes 0, to be kept; and may lose in cmAP."""

LEAST_GROUPS = 4
"""Groups of labelled soundscapes: with fewer, nothing would be left to choose on inside an outer fold."""

_MOST_FOLDS = 5

_Kinds = Sequence[type[Step]]


@dataclass(frozen=True)
class Ablation:
    """What one step is worth, each figure cross-validated.

    Parameters
    ----------
    step : str
    alone : dict of str to Gain
        The step alone against none.
    cumulated : dict of str to float
        This and all steps before it.
    without : dict of str to float
        All steps but this.
    added : dict of str to Gain
        The step together with those that had been kept before it was decided on, against these.
    kept : bool
        Whether it is kept, by `added`.
    """

    step: str
    alone: Mapping[str, Gain]
    cumulated: Mapping[str, float]
    without: Mapping[str, float]
    added: Mapping[str, Gain]
    kept: bool


@dataclass(frozen=True)
class Tuning:
    """What post-processing was chosen, and what it gains.

    Parameters
    ----------
    postprocessing : Postprocessing
        With parameters from all soundscapes; no steps where nothing gains enough.
    gains : dict of str to Gain
        Of the choice as a whole: steps and parameters chosen on the other folds only.
    ablation : tuple of Ablation
        In the order in which steps are applied.
    folds, groups : int
    reason : str
        Why nothing is kept, although steps gained by themselves; else empty.
    untried : dict of str to str
        Steps that were not tried, and why.
    """

    postprocessing: Postprocessing
    gains: Mapping[str, Gain]
    ablation: tuple[Ablation, ...]
    folds: int
    groups: int
    reason: str = ""
    untried: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Give all of it as JSON can hold it, for the bundle."""
        return {
            "steps": list(self.postprocessing.names),
            "folds": self.folds,
            "groups": self.groups,
            "margin": MARGIN,
            "reason": self.reason,
            "untried": dict(self.untried),
            "gains": _as_json(self.gains),
            "ablation": [
                {
                    "step": row.step,
                    "kept": row.kept,
                    "alone": _as_json(row.alone),
                    "cumulated": _as_json(row.cumulated),
                    "without": _as_json(row.without),
                    "added": _as_json(row.added),
                }
                for row in self.ablation
            ],
        }


def tune_postprocessing(
    labelled: Labelled,
    *,
    window: float = 5.0,
    class_groups: Sequence[str] = (),
    steps: Collection[str] | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Tuning:
    """Choose steps and their parameters on labelled soundscapes that heads were not fitted on.

    Steps are kept one after the other, each time that which gains most beside those kept before, as long as it gains
    more than `MARGIN` in macro ROC-AUC, the 95% interval of that excludes 0, and cmAP does not lose more than `MARGIN`.
    In the end the choice as a whole has to pass the same test, in outer folds; if it does not, no step is kept.

    Parameters
    ----------
    labelled : Labelled
    window : float
        Length of a window in seconds.
    class_groups : sequence of str, optional
        Name of the group of each class, for temperatures; by default they are one group.
    steps : collection of str, optional
        Names of the steps to try; by default all.
    seed : int
    tell : callable
        Is told what is being done.

    Returns
    -------
    Tuning

    Raises
    ------
    InputError
        If there are too few groups, or no class is in one window and not in another.
    """
    groups = len(np.unique(labelled.groups))
    check_groups(groups)
    if not math.isfinite(labelled.measure(labelled.probabilities)[METRICS[0]]):
        raise InputError(
            "No class is in one labelled window and not in another, so that post-processing cannot be judged."
        )
    setting = Setting(window, class_groups or [""] * labelled.probabilities.shape[1], seed)
    untried = _find_untried(labelled)
    if steps is not None:
        untried |= {kind.name: "it was not asked for" for kind in STEPS if kind.name not in steps}
    kinds = [kind for kind in CANDIDATES if kind.name not in untried]
    folds = _Folds(labelled, setting, seed)
    tell("post-processing: which steps")
    kept, added = _select(folds, kinds, seed)
    crossed = np.empty(labelled.probabilities.shape)
    for number, (rest, own, rows) in enumerate(folds.parts, 1):
        tell(f"post-processing: outer fold {number} of {len(folds.parts)}")
        inner, _ = _select(_Folds(rest, setting, seed), kinds, seed)
        crossed[rows] = own.process(Chooser(rest, setting).choose(inner))
    gains = compare(labelled, labelled.probabilities, crossed, seed)
    reason = ""
    if kept and not _gains_enough(gains):
        reason = (
            f"steps gained by themselves, but chosen inside folds they do not gain more than {MARGIN} together "
            "with an interval above 0"
        )
    return Tuning(
        postprocessing=Postprocessing() if reason else Postprocessing.arrange(Chooser(labelled, setting).choose(kept)),
        gains=gains,
        ablation=_ablate(folds, kinds, [] if reason else kept, added, seed, tell),
        folds=len(folds.parts),
        groups=groups,
        reason=reason,
        untried=untried,
    )


def check_groups(groups: int) -> None:
    """Refuse to choose on too few groups of labelled soundscapes.

    Raises
    ------
    InputError
        If there are fewer than `LEAST_GROUPS`.
    """
    if groups < LEAST_GROUPS:
        raise InputError(
            f"Post-processing is chosen on at least {LEAST_GROUPS} labelled soundscapes, or sites of them, and there "
            f"are {groups}. Label more, or fit without --tune-postprocess."
        )


def _find_untried(labelled: Labelled) -> dict[str, str]:
    context = labelled.windows.context
    some = np.unique(labelled.windows.recording_numbers)
    untried = {}
    if not (context.site[some] != "").any() and (np.isnan(context.hour[some]) & np.isnan(context.day[some])).all():
        untried[OriginPrior.name] = "no site, no hour and no day of the soundscapes is known"
    if context.occurrence is None or np.isnan(context.occurrence[some]).all():
        untried[Range.name] = "of no soundscape it is known which classes are to be expected at its place"
    return untried


class _Folds:
    """Labelled soundscapes in folds, and steps whose parameters come from the other folds.

    Parameters
    ----------
    labelled : Labelled
    setting : Setting
    seed : int

    Attributes
    ----------
    labelled : Labelled
    parts : list of (Labelled, Labelled, ndarray of shape (n,), bool)
        For each fold the others, itself, and which windows are its own.
    """

    def __init__(self, labelled: Labelled, setting: Setting, seed: int) -> None:
        count = min(_MOST_FOLDS, len(np.unique(labelled.groups)))
        folds = assign_folds(labelled.present, labelled.groups, count, seed)
        self.labelled = labelled
        self.parts = [
            (labelled.take(folds != fold), labelled.take(folds == fold), folds == fold) for fold in range(count)
        ]
        self._choosers = [Chooser(rest, setting) for rest, _, _ in self.parts]

    def cross(self, kinds: _Kinds) -> NDArray[np.float64]:
        """Apply steps to each fold; `kinds` in the order in which they are decided on."""
        crossed = np.empty(self.labelled.probabilities.shape)
        for (_, own, rows), chooser in zip(self.parts, self._choosers, strict=True):
            crossed[rows] = own.process(chooser.choose(kinds))
        return crossed


def _select(folds: _Folds, kinds: _Kinds, seed: int) -> tuple[list[type[Step]], dict[str, dict[str, Gain]]]:
    """Keep the step that gains most, then the one that gains most beside it, and so on while any gains enough.

    Returns
    -------
    kept : list of type of Step
        In the order in which they were decided on.
    added : dict of str to dict of str to Gain
        What each gained when it was kept, or, beside all that are kept, if it was not.
    """
    kept: list[type[Step]] = []
    added: dict[str, dict[str, Gain]] = {}
    current = folds.labelled.probabilities
    while len(kept) < len(kinds):
        trials = {kind: folds.cross([*kept, kind]) for kind in kinds if kind not in kept}
        found = {kind: compare(folds.labelled, current, trial, seed) for kind, trial in trials.items()}
        added |= {kind.name: gains for kind, gains in found.items()}
        enough = [kind for kind, gains in found.items() if _gains_enough(gains)]
        if not enough:
            break
        best = max(enough, key=lambda kind: found[kind][METRICS[0]].difference)
        kept.append(best)
        current = trials[best]
    return kept, added


def _gains_enough(gains: Mapping[str, Gain]) -> bool:
    first, *others = (gains[metric] for metric in METRICS)
    # A comparison with NaN is False: what cannot be measured is not kept.
    return first.difference > MARGIN and first.low > 0 and all(other.difference >= -MARGIN for other in others)


def _ablate(
    folds: _Folds,
    kinds: _Kinds,
    kept: _Kinds,
    added: Mapping[str, Mapping[str, Gain]],
    seed: int,
    tell: Callable[[str], None],
) -> tuple[Ablation, ...]:
    labelled = folds.labelled
    ordered = [kind for kind in STEPS if kind in kinds]
    rows = []
    for place, kind in enumerate(ordered):
        tell(f"post-processing: {kind.name}, alone and left out")
        others = [other for other in ordered if other is not kind]
        rows.append(
            Ablation(
                step=kind.name,
                alone=compare(labelled, labelled.probabilities, folds.cross([kind]), seed),
                cumulated=labelled.measure(folds.cross(ordered[: place + 1])),
                without=labelled.measure(folds.cross(others)),
                added=added[kind.name],
                kept=kind in kept,
            )
        )
    return tuple(rows)


def _as_json(values: Mapping[str, Gain] | Mapping[str, float]) -> dict[str, Any]:
    return {
        metric: {name: _finite(number) for name, number in vars(value).items()}
        if isinstance(value, Gain)
        else _finite(value)
        for metric, value in values.items()
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
