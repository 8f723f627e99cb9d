"""What each step may look like: a few sets of parameters, from the most careful on, some of them learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.folds import assign_folds
from birdemb.classify.postprocessing.chain import STEPS
from birdemb.classify.postprocessing.file_level import Raise, Scale
from birdemb.classify.postprocessing.labelled import Labelled
from birdemb.classify.postprocessing.normalisation import Normalise, learn_quantiles
from birdemb.classify.postprocessing.origin_prior import OriginPrior, learn_origin_prior
from birdemb.classify.postprocessing.smoothing import Smooth
from birdemb.classify.postprocessing.species_range import Range
from birdemb.classify.postprocessing.step import Step
from birdemb.classify.postprocessing.temperature import Temperature, learn_temperatures

__all__ = ["CANDIDATES", "Chooser", "Setting"]

_FOLDS = 3
"""In which the parameters of a step that is learnt are judged."""


class Setting:
    """What is the same for all that steps are learnt on.

    Parameters
    ----------
    window : float
        Length of a window in seconds.
    class_groups : sequence of str
        Name of the group of each class, for temperatures.
    seed : int
        Of the folds in which what is learnt is judged.
    """

    def __init__(self, window: float, class_groups: Sequence[str], seed: int = 0) -> None:
        self.window = window
        self.class_groups = tuple(class_groups)
        self.seed = seed


def _temperatures(training: Labelled, setting: Setting, before: NDArray[np.float64]) -> Iterable[Step]:
    del before
    return [
        learn_temperatures(
            training.probabilities[training.known],
            training.present[training.known],
            setting.class_groups,
            training.labelled_classes,
        )
    ]


def _origin_priors(training: Labelled, setting: Setting, before: NDArray[np.float64]) -> Iterable[Step]:
    del setting, before
    present, windows = training.present[training.known], training.windows.take(np.flatnonzero(training.known))
    return [
        learn_origin_prior(present, windows, strength=strength, shrinkage=shrinkage)
        for strength in (0.5, 1.0)
        for shrinkage in (240.0, 60.0, 12.0)
    ]


def _ranges(training: Labelled, setting: Setting, before: NDArray[np.float64]) -> Iterable[Step]:
    del training, setting, before
    return [*(Range(strength) for strength in (0.25, 0.5, 1.0)), Range(mode="hard")]


def _raises(training: Labelled, setting: Setting, before: NDArray[np.float64]) -> Iterable[Step]:
    del training, setting, before
    return [Raise(factor, threshold) for factor in (1.5, 2.0) for threshold in (0.96, 0.9, 0.8)]


def _scales(training: Labelled, setting: Setting, before: NDArray[np.float64]) -> Iterable[Step]:
    del training, setting, before
    return [Scale(power, top) for power in (0.1, 0.2, 0.4, 0.7, 1.0) for top in (3, 1)]


def _smooths(training: Labelled, setting: Setting, before: NDArray[np.float64]) -> Iterable[Step]:
    del training, before
    return [
        Smooth(weights, confidence, setting.window)
        for weights in ((0.05,), (0.1,), (0.2,), (0.1, 0.05), (0.2, 0.15))
        for confidence in ("class", "window", "none")
    ]


def _normalisations(training: Labelled, setting: Setting, before: NDArray[np.float64]) -> Iterable[Step]:
    del training, setting
    quantiles = learn_quantiles(before)
    return [
        *(Normalise(strength, quantiles) for strength in (0.25, 0.5, 1.0)),
        *(Normalise(strength) for strength in (0.25, 0.5, 1.0)),
    ]


CANDIDATES: dict[type[Step], Callable[[Labelled, Setting, NDArray[np.float64]], Iterable[Step]]] = {
    Temperature: _temperatures,
    OriginPrior: _origin_priors,
    Range: _ranges,
    Raise: _raises,
    Scale: _scales,
    Smooth: _smooths,
    Normalise: _normalisations,
}
"""For each kind of step what it may be."""


class Chooser:
    """Chooses parameters that do best on labelled soundscapes, and remembers what it chose.

    Those of a step that is learnt are judged on others of these soundscapes than it is learnt from, as the boldest
    would always look best on its own; the one that is chosen is then learnt from all.

    Parameters
    ----------
    training : Labelled
    setting : Setting
    """

    def __init__(self, training: Labelled, setting: Setting) -> None:
        self._training = training
        self._setting = setting
        self._chosen: dict[tuple[type[Step], ...], tuple[Step, ...]] = {(): ()}

    def choose(self, kinds: Sequence[type[Step]]) -> tuple[Step, ...]:
        """Choose the parameters of steps one after the other, each together with those before it.

        Parameters
        ----------
        kinds : sequence of type of Step
            In the order in which they are decided on.

        Returns
        -------
        tuple of Step
            In the same order. Of those that are equally good, the most careful one.
        """
        key = tuple(kinds)
        if key not in self._chosen:
            others = self.choose(key[:-1])
            self._chosen[key] = (*others, self._choose_next(key[-1], others))
        return self._chosen[key]

    def _choose_next(self, kind: type[Step], others: Sequence[Step]) -> Step:
        training = self._training
        before = training.process(others)
        steps = list(CANDIDATES[kind](training, self._setting, before))
        results: Iterable[NDArray[np.float64]]
        if len(steps) == 1:
            return steps[0]
        if kind.learnt:
            results = self._cross(kind, others, len(steps))
        elif all(STEPS.index(type(other)) < STEPS.index(kind) for other in others):
            # What comes before it need not be done again for each of its parameters.
            results = (training.process([step], before) for step in steps)
        else:
            results = (training.process([*others, step]) for step in steps)
        values = [training.roc_auc(result) for result in results]
        # Where nothing can be measured, the most careful one will do.
        return steps[int(np.argmax(np.nan_to_num(values, nan=-1)))]

    def _cross(self, kind: type[Step], others: Sequence[Step], candidates: int) -> NDArray[np.float64]:
        """Give the probabilities after each candidate, in each fold learnt from the other folds."""
        training = self._training
        # A group alone teaches nothing that could be judged: all candidates are then the same.
        crossed = np.repeat(training.process(others)[None], candidates, axis=0)
        count = min(_FOLDS, len(np.unique(training.groups)))
        if count > 1:
            folds = assign_folds(training.present, training.groups, count, self._setting.seed)
            for fold in range(count):
                rest, own = training.take(folds != fold), training.take(folds == fold)
                for place, step in enumerate(CANDIDATES[kind](rest, self._setting, rest.process(others))):
                    crossed[place, folds == fold] = own.process([*others, step])
        return crossed
