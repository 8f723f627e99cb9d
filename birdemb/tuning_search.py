"""The trials of a search for parameters: begun, ended early, given up, and gone on with."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
import psutil  # type: ignore[import-untyped]
from numpy.typing import NDArray

from birdemb.errors import InputError
from birdemb.tuning_spaces import Space, as_cell
from birdemb.tuning_storage import import_optuna

__all__ = ["Scorer", "Search", "make_pruner"]

_RANDOM_TRIALS = 10  # before the search learns from those that were
_UNPRUNED_TRIALS = 5
_CLOCK = 60.0  # seconds by which a process may seem to have begun at another time, as the clock was set


class Scorer(Protocol):
    """Scores parameters on folds."""

    @property
    def count(self) -> int:
        """Count the folds."""

    def score(self, parameters: Mapping[str, Any], after: Callable[[int, float], None] = ...) -> NDArray[np.float64]:
        """Give out-of-fold scores; `after` each fold is told its number and its metric, NaN where it has none."""

    def measure(self, scores: NDArray[np.float64]) -> float:
        """Give the metric of out-of-fold scores."""


class _OutOfTimeError(Exception):
    """The time limit has passed between two folds."""


class _PrunedError(Exception):
    """The first folds of a trial were poor."""


def make_pruner() -> Any:  # noqa: ANN401 - Optuna has no types here
    """Make what ends trials early: those whose mean over the folds so far is below the median of earlier trials'."""
    # A single fold says too little.
    return import_optuna().pruners.MedianPruner(n_startup_trials=_UNPRUNED_TRIALS, n_warmup_steps=1)


class Search:
    """The trials of a study.

    A trial that does not end, for a kill, Ctrl-C or the time limit, counts for nothing: the next one takes its place,
    and its random numbers.

    Parameters
    ----------
    study : optuna.Study
    scorer : Scorer
    space : Space
    seed : int
        What is tried follows from it and from the values of the trials before.
    deadline : float
        On the clock of `time.monotonic`.
    tell : callable
        Is told what is being done.
    """

    def __init__(
        self,
        study: Any,  # noqa: ANN401
        scorer: Scorer,
        space: Space,
        seed: int,
        deadline: float = math.inf,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._study, self._scorer, self._space = study, scorer, space
        self._seed, self._deadline, self._tell = seed, deadline, tell
        self._scores: dict[int, NDArray[np.float64]] = {}  # of the defaults and of the best trial of this run
        self._optuna = import_optuna()
        self._states = self._optuna.trial.TrialState

    def run(self, trials: int) -> tuple[int, bool]:
        """Go on until there are so many trials.

        The defaults come first, whatever the deadline.

        Parameters
        ----------
        trials : int
            Those of earlier runs and of other processes included.

        Returns
        -------
        tuple of int and bool
            How many ended in this run, and whether time was up before there were enough.

        Raises
        ------
        InputError
            If the head cannot be fitted with its defaults; else such a trial has failed, and the next one begins.
        """
        self._abandon_dead()
        fresh = 0
        while True:
            known = [trial for trial in self._all() if not _was_abandoned(trial)]
            finished = sum(trial.state.is_finished() for trial in known)
            usual = self.find_usual()
            if usual is not None and finished >= trials:
                return fresh, False
            if usual is not None and time.monotonic() > self._deadline:
                return fresh, True
            if usual is None and not any(trial.state == self._states.WAITING for trial in known):
                self._study.enqueue_trial(self._space.write_usual(), user_attrs={"usual": True})
            best = f" (best so far {self._study.best_value:.4f})" if usual is not None else ""
            try:
                self._attempt(f"trial {finished + 1} of {trials}{best}", usual)
            except _OutOfTimeError:
                return fresh, True
            fresh += 1

    def find_usual(self) -> Any:  # noqa: ANN401
        """Find the trial of the defaults, or None."""
        complete = self._study.get_trials(deepcopy=False, states=(self._states.COMPLETE,))
        return next((trial for trial in complete if _is_usual(trial)), None)

    def find_best(self) -> Any:  # noqa: ANN401
        """Find the trial with the highest value: that of the defaults, unless another one is higher."""
        best, usual = self._study.best_trial, self.find_usual()
        return best if best.value > usual.value else usual

    def read(self, trial: Any) -> dict[str, Any]:  # noqa: ANN401
        """Give the parameters that a trial tried; none for the defaults."""
        return {} if _is_usual(trial) else self._space.read(trial.params)

    def scores_of(self, trial: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """Give the out-of-fold scores of a finished trial, fitted again where another run had it."""
        if trial.number not in self._scores:
            self._scores[trial.number] = self._scorer.score(self.read(trial))
        return self._scores[trial.number]

    def tabulate(self) -> pd.DataFrame:
        """Give the table of trials, as `birdemb.tuning.TuningReport` has it."""
        names = {self._states.COMPLETE: "complete", self._states.PRUNED: "pruned", self._states.FAIL: "failed"}
        rows = []
        for trial in self._all():
            shown = self._space.usual if _is_usual(trial) else self._space.read(trial.params)
            complete = trial.state == self._states.COMPLETE
            rows.append(
                {
                    "number": trial.number,
                    "state": "stopped" if _was_abandoned(trial) else names.get(trial.state, "running"),
                    # That of a pruned trial is of a few folds, and cannot be compared.
                    "value": trial.value if complete else math.nan,
                    "seconds": round(trial.duration.total_seconds(), 2) if trial.duration is not None else math.nan,
                    **{name: as_cell(shown[name]) for name in self._space.parts if name in shown},
                    "problem": trial.user_attrs.get("problem", ""),
                }
            )
        return pd.DataFrame(rows, columns=["number", "state", "value", "seconds", *self._space.parts, "problem"])

    def _all(self) -> list[Any]:
        trials: list[Any] = self._study.get_trials(deepcopy=False)
        return trials

    def _attempt(self, step: str, usual: Any) -> None:  # noqa: ANN401
        """Run one trial; `usual` is that of the defaults, None before there is one."""
        trial = self._study.ask()
        ended = False
        try:
            trial.set_user_attr("process", _this_process())
            self._study.sampler = self._make_sampler(trial.number)
            if not _is_usual(trial):
                parameters = self._space.suggest(trial)
                if not self._repeat(trial, parameters):
                    self._judge(trial, parameters, step, usual)
            else:
                if self._space.write_usual():
                    self._space.suggest(trial)  # so that the sampler learns from it too
                self._judge(trial, {}, step, None)
            ended = True
        finally:
            if not ended:
                self._study.tell(trial.number, state=self._states.FAIL, skip_if_finished=True)

    def _repeat(self, trial: Any, parameters: dict[str, Any]) -> bool:  # noqa: ANN401
        """Enter the result of an earlier trial with the same parameters, if there is one."""
        for other in self._study.get_trials(deepcopy=False, states=(self._states.COMPLETE, self._states.PRUNED)):
            if self._space.read(other.params) == parameters:
                for step, value in other.intermediate_values.items():
                    trial.report(value, step)
                if other.state == self._states.PRUNED:
                    self._study.tell(trial, state=other.state)
                else:
                    self._study.tell(trial, other.value)
                return True
        return False

    def _judge(self, trial: Any, parameters: dict[str, Any], step: str, usual: Any) -> None:  # noqa: ANN401
        """Score a trial and enter its result: a value, that it was pruned, or that it failed."""
        values: list[float] = []
        count = self._scorer.count

        def after(fold: int, value: float) -> None:
            values.append(value)
            last = fold + 1 == count
            if usual is not None:
                # Folds differ in how easy they are, and the pruner takes the best of a trial's steps: so the mean is
                # that of what each fold has more than with the defaults.
                gains = np.subtract(values, usual.user_attrs["folds"][: fold + 1])
                if not np.isnan(gains).all():
                    trial.report(float(np.nanmean(gains)), fold)
                if not last and trial.should_prune():
                    raise _PrunedError
                if not last and time.monotonic() > self._deadline:
                    raise _OutOfTimeError
            if not last:
                self._tell(f"{step}, fold {fold + 2} of {count}")

        self._tell(f"{step}, fold 1 of {count}")
        try:
            scores = self._scorer.score(parameters, after)
        except _PrunedError:
            self._study.tell(trial, state=self._states.PRUNED)
            return
        except InputError as error:
            if usual is None:
                raise
            trial.set_user_attr("problem", str(error))
            self._study.tell(trial, state=self._states.FAIL)
            return
        value = self._scorer.measure(scores)
        trial.set_user_attr("folds", values)
        if usual is None or value > self._study.best_value:
            kept = {} if usual is None else {usual.number: self._scores.get(usual.number)}
            self._scores = {number: own for number, own in kept.items() if own is not None}
            self._scores[trial.number] = scores
        self._study.tell(trial, value)

    def _make_sampler(self, number: int) -> Any:  # noqa: ANN401
        """Make a sampler whose random numbers follow from the seed and from the place of the trial."""
        place = sum(trial.number < number and not _was_abandoned(trial) for trial in self._all())
        seed = int(np.random.SeedSequence([self._seed, place]).generate_state(1)[0])
        return self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)

    def _abandon_dead(self) -> None:
        """Give up the trials of processes that are no more."""
        for trial in self._all():
            if trial.state == self._states.RUNNING and _is_dead(trial.user_attrs.get("process", "")):
                self._study.tell(trial.number, state=self._states.FAIL, skip_if_finished=True)


def _is_usual(trial: Any) -> bool:  # noqa: ANN401
    """Whether a trial is that of the defaults."""
    return "usual" in trial.user_attrs


def _was_abandoned(trial: Any) -> bool:  # noqa: ANN401
    """Whether a trial has no end: what failed by itself says why."""
    return trial.state.name == "FAIL" and "problem" not in trial.user_attrs


def _this_process() -> str:
    """Name this process so that others can tell whether it still is."""
    process = psutil.Process()
    return f"{process.pid} {process.create_time():.0f} {platform.node()}"


def _is_dead(process: str) -> bool:
    """Whether a process was of this machine and is no more."""
    number, _, rest = process.partition(" ")
    begun, _, machine = rest.partition(" ")
    if not machine or machine != platform.node():
        return False
    try:
        # Another process may have the number by now.
        return abs(float(psutil.Process(int(number)).create_time()) - float(begun)) > _CLOCK
    except psutil.NoSuchProcess:
        return True
