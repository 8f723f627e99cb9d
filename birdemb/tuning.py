"""A search for the parameters of a head, under the folds that `fit` validates with.

Optuna and not scikit-learn's halving search: that one cannot go on after a stop, knows no time limit and no parameter
that depends on another, and saves time by fitting on fewer windows, of which rare classes have none to spare, where a
poor trial ends here after its first folds. `birdemb.tuning_storage` says where trials are kept and why.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from birdemb.classify.blending import Blend
from birdemb.classify.ensemble import Member
from birdemb.classify.folds import assessable_classes
from birdemb.classify.heads import make_head
from birdemb.classify.members import list_positive_weights, make_members
from birdemb.classify.validation import align_folds, score_fold
from birdemb.defaults import DEFAULT_WORKSPACE
from birdemb.embed.catalogue import name_encoder
from birdemb.errors import InputError
from birdemb.labels import MINIMUM_OVERLAP
from birdemb.resampled import Evaluation
from birdemb.storage import check_writable, hash_json, replace_atomically
from birdemb.training import LabelRules, TrainingData, read_training_data
from birdemb.tuning_search import Search, make_pruner
from birdemb.tuning_spaces import SPACES, Space
from birdemb.tuning_storage import import_optuna, open_study
from birdemb.validation import ValidationRules, choose_folds, weigh_corrections
from birdemb.workspace import Workspace

__all__ = ["TUNING_METRICS", "Estimate", "TuningReport", "tune"]

TUNING_METRICS = ("macro_roc_auc", "cmap")
"""What can be tuned for; `birdemb.metrics.measure` says what they are."""

_DRAWS = 200  # these and no others are those of `birdemb.metrics.score_windows`, and so of `fit`
_DRAW_SEED = 0
_SCORING = 3  # counted up where the score of a trial is found in another way, so that no search mixes both
_PACKAGES = {"lr": ("scipy",), "lgbm": ("lightgbm",), "mlp": ("torch",)}  # that the value of a trial depends on


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, from draws of whole groups of recordings."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TuningReport:
    """What `tune` found.

    Parameters
    ----------
    head, metric : str
    parameters : dict
        What to give to `birdemb.fit`: the best ones that were tried, and those that were held fixed.
    number : int
        Of the trial that tried them; that of the defaults where nothing was better.
    best, usual : Estimate
        The metric out of fold with these, and with the head's defaults.
    gain : Estimate
        The difference, drawn in pairs.
    folds : int
    trials : pandas.DataFrame
        One row for each: number, state ("complete", "pruned" after its first folds, "failed", "stopped" without an end,
        or "running"), value (where complete), seconds, each parameter, problem.
    fresh : int
        How many of them ended in this run.
    out_of_time : bool
        Whether the time limit ended it.
    path : Path
        Of the table of trials.
    elapsed : float
        Seconds.
    """

    head: str
    metric: str
    parameters: dict[str, Any]
    number: int
    best: Estimate
    usual: Estimate
    gain: Estimate
    folds: int
    trials: pd.DataFrame
    fresh: int
    out_of_time: bool
    path: Path
    elapsed: float


def tune(
    head: str = "lgbm",
    *,
    trials: int = 50,
    time_limit: float | None = None,
    metric: str = "macro_roc_auc",
    output: str | Path | None = None,
    fixed: Mapping[str, Any] | None = None,
    labels: str | Path | Sequence[str | Path] | None = None,
    encoders: Sequence[str] = (),
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
    seed: int = 0,
    workspace: str | Path = DEFAULT_WORKSPACE,
    jobs: int = -1,
    tell: Callable[[str], None] = lambda _: None,
) -> TuningReport:
    """Search for the parameters with which a head does best on recordings that it was not fitted on.

    The folds are those of `birdemb.fit` with the same settings, and so is the score of a trial. The head's defaults are
    tried first, so that the result is never worse on these folds. Finished trials stay in the working folder; what is
    called again with the same data and settings goes on where it was, also after a kill, and comes to the same trials
    as without it. Several processes may work on the same search.

    Parameters
    ----------
    head : str
        A key of `SPACES`.
    trials : int
        How many there should be at the end, those of earlier runs included.
    time_limit : float, optional
        Seconds after which no trial and no fold is begun. The defaults are tried whatever it is.
    metric : str
        One of `TUNING_METRICS`.
    output : path, optional
        Where to write the table of trials; by default in the working folder.
    fixed : mapping, optional
        Parameters of the head that are not searched.
    labels, encoders, reweight, secondary, rating, most_recordings, positive_weights, prior, cv, group
        As for `birdemb.fit`. With several encoders the head has the same parameters on each, and the mean of their
        probabilities is scored.
    minimum_overlap, minimum_confidence, unannotated, columns
        As for `birdemb.fit`.
    seed : int
        Same seed, same data and same versions give the same trials.
    workspace : path
        The working folder.
    jobs : int
        Threads of each fit.
    tell : callable
        Is told what is being done.

    Returns
    -------
    TuningReport

    Raises
    ------
    InputError
        If a setting is out of range, there are no folds to tell by, or the head cannot be fitted with its defaults.
    MissingDependencyError
        If Optuna is not installed.
    """
    started = time.monotonic()
    make_head(head)  # refuses a name that is none
    _check_settings(trials, time_limit, metric, seed)
    held = dict(fixed or {})

    def make(parameters: Mapping[str, Any]) -> list[Member]:
        own = {head: {**held, **parameters}}
        return make_members((head,), max(1, len(encoders)), own, {}, reweight=reweight, seed=seed, jobs=jobs)

    make({})  # refuses what is no parameter
    import_optuna()
    place = Workspace(Path(workspace))
    path = Path(output) if output is not None else place.folder / "tuning" / f"{head}.csv"
    place.last_listing()
    place.check_writable()
    check_writable(path)
    encoders = tuple(map(name_encoder, encoders))
    tell("reading embeddings and labels")
    rules = LabelRules(
        secondary, rating, most_recordings, group, minimum_overlap, unannotated, minimum_confidence, dict(columns or {})
    )
    data = read_training_data(place, labels, encoders, rules, prior, seed)
    if positive_weights:
        given = held.get("positive_weight", 1.0)
        held["positive_weight"] = list_positive_weights(positive_weights, data.labels.classes, given)
    folds, reason = choose_folds(data, ValidationRules(cv=cv, seed=seed))
    if folds is None:
        raise InputError(f"Without validation nothing tells one trial from another, and there is none: {reason}.")
    space = Space(
        {name: part for name, part in SPACES[head].items() if name not in held}, make({})[0].head.get_params()
    )
    if not space.parts:
        raise InputError(f"All that could be searched of {head} is held fixed: {', '.join(SPACES[head])}.")
    scorer = _Scorer(data, folds, metric, make, seed)
    name = f"{head}-{_digest(data, folds, head, space, metric)[:32]}"
    deadline = math.inf if time_limit is None else started + time_limit
    with open_study(place.folder / "tuning.sqlite", name, make_pruner()) as study:
        search = Search(study, scorer, space, seed, deadline, tell)
        try:
            fresh, out_of_time = search.run(trials)
        finally:
            table = search.tabulate()
            with replace_atomically(path) as temporary:
                table.to_csv(temporary, index=False)
        tell("scoring the best and the defaults")
        best = search.find_best()
        parameters = {**held, **search.read(best)}
        scores = search.scores_of(best), search.scores_of(search.find_usual())
    estimates = scorer.compare(*scores)
    return TuningReport(
        head=head,
        metric=metric,
        parameters=parameters,
        number=best.number,
        best=estimates[0],
        usual=estimates[1],
        gain=estimates[2],
        folds=scorer.count,
        trials=table,
        fresh=fresh,
        out_of_time=out_of_time,
        path=path,
        elapsed=time.monotonic() - started,
    )


def _check_settings(trials: int, time_limit: float | None, metric: str, seed: int) -> None:
    if trials < 1:
        raise InputError(f"--trials is {trials}; expected at least 1.")
    if time_limit is not None and not time_limit > 0:
        raise InputError(f"--time-limit is {time_limit:g} seconds; expected more than 0.")
    if metric not in TUNING_METRICS:
        raise InputError(f"There is no tuning for {metric!r}. Use {' or '.join(map(repr, TUNING_METRICS))}.")
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed is {seed}; expected 0 to {2**32 - 1}.")


class _Scorer:
    """Scores heads out of fold, as `fit` does, but a fold at a time."""

    def __init__(
        self,
        data: TrainingData,
        folds: NDArray[np.int64],
        metric: str,
        make: Callable[[Mapping[str, Any]], list[Member]],
        seed: int,
    ) -> None:
        self._make = make
        self._folds = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
        self._data, self._fold, self._metric, self._seed = data, folds, metric, seed
        self._assessable = assessable_classes(data.targets, data.weights, folds)

    @property
    def count(self) -> int:
        return len(self._folds)

    def score(
        self, parameters: Mapping[str, Any], after: Callable[[int, float], None] = lambda *_: None
    ) -> NDArray[np.float64]:
        """Give the logits of all windows, shape (n, classes); `after` each fold is told its number and its metric."""
        data, members = self._data, self._make(parameters)
        scores = np.empty((len(members), *data.targets.shape))
        levels = np.empty((len(members), len(self._folds), data.targets.shape[1]))

        def blend(parts: NDArray[np.float64]) -> NDArray[np.float64]:
            if len(members) == 1:
                alone: NDArray[np.float64] = parts[0]
                return alone
            return Blend.equal("mean", len(members), data.targets.shape[1]).apply(parts)

        for number, test in enumerate(self._folds):
            held_out = np.isin(np.arange(len(data)), test)
            scores[:, held_out], levels[:, number] = score_fold(
                members, data.heard, data.priors, data.targets, data.weights, data.groups, held_out
            )
            after(number, self.measure(blend(scores[:, test]), test))
        # How far a head may move away from what the encoder knows needs the scores of all folds.
        aligned = np.stack([align_folds(own, self._fold, level) for own, level in zip(scores, levels, strict=True)])
        weighed = weigh_corrections(members, data, aligned, self._fold, self._assessable, self._seed)[1]
        return blend(weighed)

    def measure(self, scores: NDArray[np.float64], rows: NDArray[np.int64] | slice = slice(None)) -> float:
        """Give the metric of some windows; NaN where nothing can be measured."""
        case = self._case(scores, rows)
        return float(case.macro(case.rank(case.once()))[self._metric][0])

    def compare(self, best: NDArray[np.float64], usual: NDArray[np.float64]) -> tuple[Estimate, Estimate, Estimate]:
        """Estimate the metric of two sets of scores, and how much the first has more, in the same draws."""
        cases = [self._case(scores, slice(None)) for scores in (best, usual)]
        drawn = np.hstack([cases[0].once(), cases[0].draw(_DRAWS, _DRAW_SEED)])
        values = [case.macro(case.rank(drawn))[self._metric] for case in cases]
        best_range, usual_range = (cases[0].interval(own[0], own[1:], 0.95).tolist() for own in values)
        gains = values[0] - values[1]
        middle = np.nanquantile(gains[1:], (0.025, 0.975)) + gains[0] - np.nanmean(gains[1:])
        return (
            Estimate(float(values[0][0]), *best_range),
            Estimate(float(values[1][0]), *usual_range),
            Estimate(float(gains[0]), *middle.tolist()),
        )

    def _case(self, scores: NDArray[np.float64], rows: NDArray[np.int64] | slice) -> Evaluation:
        data, kept = self._data, self._assessable
        return Evaluation(
            data.targets[rows][:, kept],
            expit(scores[:, kept]),
            data.weights[rows][:, kept] > 0,
            groups=data.groups[rows],
        )


def _digest(
    data: TrainingData,
    folds: NDArray[np.int64],
    head: str,
    space: Space,
    metric: str,
) -> str:
    """Give the hash of all that the value of a trial depends on, and of what is searched."""
    states = [prior.get_state() if prior is not None else {} for prior in data.priors]
    try:
        return hash_json(
            {
                "identities": data.identities,
                "recordings": [entry.sha256 for entry in data.recordings],
                "classes": [name.label for name in data.classes],
                "labels": [_hash_array(array) for array in (data.targets, data.weights, data.groups, folds)],
                "priors": [{key: _hash_array(np.asarray(value)) for key, value in state.items()} for state in states],
                "head": [head, {key: value for key, value in space.usual.items() if key != "n_jobs"}],
                "versions": [_installed(package) for package in ("birdemb", *_PACKAGES[head])],
                "space": repr(space.parts),
                "metric": metric,
                "scoring": _SCORING,
            }
        )
    except TypeError as error:
        raise InputError(
            f"A parameter that is held fixed is neither text, number, true, false nor a list: {error}."
        ) from error


def _hash_array(array: NDArray[Any]) -> str:
    content = np.ascontiguousarray(array)
    return sha256(f"{content.dtype} {content.shape} ".encode() + content.tobytes()).hexdigest()


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # birdemb itself, in a checkout
        return None
