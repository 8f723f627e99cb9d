"""Neighbour smoothing: what sings in a window often sings in those before and after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.checks import check_number
from birdemb.classify.postprocessing.context import Windows
from birdemb.classify.postprocessing.step import Step
from birdemb.errors import InputError

__all__ = ["CONFIDENCES", "Smooth"]

CONFIDENCES = ("none", "window", "class")

_TOLERANCE = 1e-6  # seconds; starts are sums of floats
_MOST_NEIGHBOURS = 60


class _Neighbours(NamedTuple):
    """The neighbours at one distance: which windows have one, and how far it is on the way between which two."""

    weight: float
    places: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    part: NDArray[np.float64]


@dataclass(frozen=True)
class Smooth(Step):
    """Draw each probability towards those of the neighbouring windows.

    With weights ``(a,)`` a window counts 1 - 2a and each of its neighbours a, the kernel a : 1 - 2a : a; with
    ``(a, b)`` those two places away count b. At the ends of a recording and beside gaps, what there is counts in
    proportion.

    Neighbours are windows whose starts are `distance` apart, one window's length: with windows that overlap, the
    previous and the next sound and not a part of the same. Where no window begins exactly there, the two around it are
    interpolated.

    Sources: 0.1 : 0.8 : 0.1 and the like are usual in BirdCLEF; strength by confidence, 0.2 (1 - confidence), is of
    the second place of 2026, with the highest probability of the window as its confidence.

    Parameters
    ----------
    weights : tuple of float
        Of the neighbours one distance away, two, and so on, on either side; together below 0.5.
    confidence : {"none", "window", "class"}
        What makes a window stay as it is: nothing, the highest probability of any class in it, or the class's own. The
        share of the neighbours is then multiplied by one minus that.
    distance : float
        Seconds from a window's start to its neighbour's.

    Raises
    ------
    InputError
        If one of these is something else.
    """

    name: ClassVar[str] = "smooth"
    main: ClassVar[str] = "weights"

    weights: tuple[float, ...] = (0.1,)
    confidence: str = "none"
    distance: float = 5.0

    def __post_init__(self) -> None:
        if not isinstance(self.weights, tuple) or not 1 <= len(self.weights) <= _MOST_NEIGHBOURS:
            raise InputError(
                f"weights of smooth is {self.weights!r}. It has to be 1 to {_MOST_NEIGHBOURS} numbers, one for each "
                "neighbour on one side."
            )
        for weight in self.weights:
            check_number("A weight of smooth", weight, at_least=0, below=0.5)
        check_number("The sum of the weights of smooth, which are those of one side,", sum(self.weights), below=0.5)
        if self.confidence not in CONFIDENCES:
            raise InputError(
                f"confidence of smooth is {self.confidence!r}. Use one of {', '.join(map(repr, CONFIDENCES))}."
            )
        check_number("distance of smooth", self.distance, at_least=0.01, at_most=3600)

    def change(self, probabilities: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
        """Smooth."""
        order = np.lexsort((windows.starts, windows.recording_numbers))
        own = probabilities[order]
        shares, sums = np.zeros((len(own), 1)), np.zeros(own.shape)
        for weight, places, left, right, part in self._find_neighbours(windows.take(order)):
            shares[places] += weight
            sums[places] += weight * (own[left] + part[:, None] * (own[right] - own[left]))
        means = np.divide(sums, shares, out=own.copy(), where=shares > 0)
        strength = shares / (1 - 2 * sum(self.weights) + shares)
        if self.confidence == "window":
            strength = strength * (1 - own.max(axis=1, keepdims=True))
        elif self.confidence == "class":
            strength = strength * (1 - own)
        result = np.empty(own.shape)
        result[order] = own + strength * (means - own)
        return result

    def _find_neighbours(self, windows: Windows) -> Iterator[_Neighbours]:
        """Give the neighbours for each weight and side."""
        numbers = np.unique(windows.recording_numbers, return_inverse=True)[1]
        starts = windows.starts - windows.starts.min()
        # Recordings one after the other on one axis of time, too far apart to be neighbours.
        times = starts + numbers * (starts.max() + 2 * self.distance * (len(self.weights) + 1))
        for steps, weight in enumerate(self.weights, 1):
            for shift in (-steps * self.distance, steps * self.distance):
                wanted = times + shift
                right = np.minimum(np.searchsorted(times, wanted - _TOLERANCE), len(times) - 1)
                left = np.maximum(right - 1, 0)
                exact = np.abs(times[right] - wanted) <= _TOLERANCE
                left = np.where(exact, right, left)
                gap = times[right] - times[left]
                between = (times[left] <= wanted) & (wanted <= times[right]) & (gap <= self.distance + _TOLERANCE)
                places = np.flatnonzero(exact | between)
                left, right, gap = left[places], right[places], gap[places]
                part = np.divide(wanted[places] - times[left], gap, out=np.zeros(len(places)), where=gap > _TOLERANCE)
                yield _Neighbours(weight, places, left, right, part)
