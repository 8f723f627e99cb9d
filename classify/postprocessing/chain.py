"""The steps of the post-processing one after the other, in the one order that makes sense."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.postprocessing.context import Context, Windows
from birdemb.classify.postprocessing.file_level import Raise, Scale
from birdemb.classify.postprocessing.normalisation import Normalise
from birdemb.classify.postprocessing.origin_prior import OriginPrior
from birdemb.classify.postprocessing.smoothing import Smooth
from birdemb.classify.postprocessing.species_range import Range
from birdemb.classify.postprocessing.step import Step, check_probabilities
from birdemb.classify.postprocessing.temperature import Temperature
from birdemb.classify.state import StateReader, StateValue
from birdemb.errors import InputError

__all__ = ["STEPS", "Postprocessing"]

# First what says more of a window by itself: temperatures, so that probabilities of all groups mean the same; then what
# its place and time speak for. Then what the whole recording says, while its peaks are still there: raising asks for a
# probability of 0.96, which scaling would lower. Smoothing would flatten these peaks, and comes after; it also parts
# what clipping has brought close together. Normalisation is last, as what it makes are no probabilities any more.
STEPS: tuple[type[Step], ...] = (
    Temperature,
    OriginPrior,
    Range,
    Raise,
    Scale,
    Smooth,
    Normalise,
)
"""Every kind of step, in the order in which they are applied."""


@dataclass(frozen=True, eq=False)
class Postprocessing:
    """Steps in their order; none by default, which changes nothing.

    Parameters
    ----------
    steps : tuple of Step
        Each kind at most once, in the order of `STEPS`; `arrange` brings them there.

    Raises
    ------
    InputError
        If the order is another, a kind comes twice, or steps were learnt for different numbers of classes.
    """

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        kinds = [type(step) for step in self.steps]
        unknown = [kind for kind in kinds if kind not in STEPS]
        places = [STEPS.index(kind) for kind in kinds if kind in STEPS]
        if unknown or places != sorted(set(places)):
            raise InputError(
                f"The steps of the post-processing are {', '.join(self.names)}; "
                f"expected each at most once, in the order {', '.join(kind.name for kind in STEPS)}."
            )
        counts = {step.classes for step in self.steps} - {None}
        if len(counts) > 1:
            told = " and ".join(sorted(map(str, counts)))
            raise InputError(f"The steps of the post-processing were learnt for {told} classes; expected the same.")

    @classmethod
    def arrange(cls, steps: Iterable[Step]) -> Postprocessing:
        """Put steps into their order.

        Raises
        ------
        InputError
            If a kind comes twice.
        """
        order = {kind: place for place, kind in enumerate(STEPS)}
        return cls(tuple(sorted(steps, key=lambda step: order[type(step)])))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the steps, in their order."""
        return tuple(step.name for step in self.steps)

    @property
    def classes(self) -> int | None:
        """How many classes the steps were learnt for; None if they take any number."""
        return next((step.classes for step in self.steps if step.classes is not None), None)

    @property
    def asks(self) -> frozenset[str]:
        """What the steps want to know of recordings, by the names of `Context`."""
        return frozenset().union(*(step.asks for step in self.steps))

    def __bool__(self) -> bool:
        return bool(self.steps)

    def only(self, names: Collection[str]) -> Postprocessing:
        """Give some of the steps alone."""
        return Postprocessing(tuple(step for step in self.steps if step.name in names))

    def apply(
        self,
        probabilities: NDArray[np.float64],
        recording_numbers: NDArray[np.int64],
        starts: NDArray[np.float64],
        context: Context | None = None,
        *,
        out: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Give the probabilities after all steps.

        Parameters
        ----------
        probabilities : ndarray of shape (n, classes), float64
            In 0 to 1; stays as it is, unless it is `out`, too.
        recording_numbers : ndarray of shape (n,), integers
            Index of each window's recording in `context`; windows may be in any order.
        starts : ndarray of shape (n,), float64
            Seconds from the recording's start.
        context : Context, optional
            Without it nothing is known of where and when the recordings were made.
        out : ndarray, as `probabilities`, optional
            Where the result goes, by default a new array. It may be `probabilities` itself, of which a second one may
            not fit into memory.

        Returns
        -------
        ndarray of shape (n, classes), float64
            In 0 to 1, never NaN; those of a recording depend on no other. `out`, where it is given.

        Raises
        ------
        InputError
            If the shapes do not fit, or a probability is none.
        """
        if context is None:
            context = Context.of(int(recording_numbers.max(initial=-1)) + 1)
        windows = Windows(recording_numbers, starts, context)
        check_probabilities(probabilities, windows, self.classes)
        result = np.empty_like(probabilities) if out is None else out
        if result.shape != probabilities.shape or result.dtype != probabilities.dtype:
            raise InputError(
                f"The array for the result is {result.dtype} of shape {result.shape}; "
                f"expected {probabilities.dtype} of shape {probabilities.shape}."
            )
        if not self.steps or not result.size:
            result[...] = probabilities
            return result
        # A part of the recordings at a time: a year of them would not fit into memory several times over.
        for rows in windows.parts():
            part, whose = probabilities[rows], windows.take(rows)
            for step in self.steps:
                part = np.clip(step.change(part, whose), 0, 1)
            result[rows] = part
        return result

    def describe(self) -> list[dict[str, Any]]:
        """Give the steps and their parameters as JSON can hold them, without arrays."""
        return [{"step": step.name, "params": step.get_params()} for step in self.steps]

    def get_state(self) -> dict[str, StateValue]:
        """Give the arrays of the steps, under names that begin with post."""
        return {f"post_{step.name}_{key}": value for step in self.steps for key, value in step.get_state().items()}

    @classmethod
    def read(cls, described: Sequence[Mapping[str, Any]], reader: StateReader, classes: int) -> Postprocessing:
        """Rebuild steps from what `describe` and `get_state` gave.

        Parameters
        ----------
        described : sequence of mapping
            Each with the keys step and params.
        reader : StateReader
        classes : int

        Returns
        -------
        Postprocessing

        Raises
        ------
        InputError
            If there is no such step, or a part is missing, does not fit, or is out of range.
        """
        kinds = {kind.name: kind for kind in STEPS}
        steps = []
        for entry in described:
            if entry["step"] not in kinds:
                raise InputError(f"it has the step {entry['step']!r}, which this birdemb does not know")
            steps.append(kinds[entry["step"]].read(entry["params"], reader, classes))
        return cls(tuple(steps))
