"""A temperature for each group of classes: birds may be told more surely than insects, or seem to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from birdemb.classify.postprocessing.context import Windows
from birdemb.classify.postprocessing.step import Step
from birdemb.classify.state import StateReader
from birdemb.errors import InputError

__all__ = ["Temperature", "learn_temperatures"]

_LOWEST, _HIGHEST = 0.05, 20.0
_LEARNT = (0.25, 4.0)
_LEAST = 1e-9  # a probability at which the loss stays finite


@dataclass(frozen=True, eq=False)
class Temperature(Step):
    """Divide the logits of each class by the temperature of its group.

    Above 1, all comes nearer to one half; below 1, farther from it. By itself this changes the order of no class's
    windows; it changes what the later steps see, and how classes of different groups compare.

    Source: 0.95 for one taxon and 1.10 for another in the second place of BirdCLEF 2026.

    Parameters
    ----------
    names : tuple of str
        Of the groups.
    temperatures : ndarray of shape (groups,), float64
        0.05 to 20.
    groups : ndarray of shape (classes,), int64
        The group of each class.

    Raises
    ------
    InputError
        If one of these is something else.
    """

    name: ClassVar[str] = "temperature"
    main: ClassVar[str] = "temperatures"
    learnt: ClassVar[bool] = True

    names: tuple[str, ...]
    temperatures: NDArray[np.float64]
    groups: NDArray[np.int64]

    def __post_init__(self) -> None:
        if (
            not self.names
            or not all(isinstance(name, str) for name in self.names)
            or self.temperatures.shape != (len(self.names),)
        ):
            raise InputError(f"{self.names!r} are no names of groups of classes with a temperature each.")
        if not ((self.temperatures >= _LOWEST) & (self.temperatures <= _HIGHEST)).all():
            raise InputError(f"A temperature is not between {_LOWEST:g} and {_HIGHEST:g}.")
        if self.groups.ndim != 1 or ((self.groups < 0) | (self.groups >= len(self.names))).any():
            raise InputError("A class is in none of the groups that have a temperature.")

    @property
    def classes(self) -> int:
        """How many classes it was learnt for."""
        return len(self.groups)

    def change(self, probabilities: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
        """Divide the logits."""
        del windows
        temperatures = self.temperatures[self.groups]
        # The logits of 0 and 1 are infinite, and stay so.
        return np.where(temperatures == 1, probabilities, expit(logit(probabilities) / temperatures))

    @classmethod
    def read_arrays(cls, params: Mapping[str, Any], reader: StateReader, classes: int) -> dict[str, NDArray[Any]]:
        """Read the temperatures and whose they are."""
        names = params.get("names")
        if not isinstance(names, list):
            raise InputError("The temperatures of a bundle have no list of names.")
        return {
            "temperatures": reader.array("post_temperature_temperatures", (len(names),)).astype(np.float64),
            "groups": reader.array("post_temperature_groups", (classes,), "i").astype(np.int64),
        }


def learn_temperatures(
    probabilities: NDArray[np.float64],
    present: NDArray[np.bool_],
    groups: Sequence[str],
    labelled_classes: NDArray[np.bool_] | None = None,
) -> Temperature:
    """Choose the temperature of each group that makes the log loss least.

    Parameters
    ----------
    probabilities : ndarray of shape (n, classes), float64
    present : ndarray of shape (n, classes), bool
    groups : sequence of str
        Name of the group of each class.
    labelled_classes : ndarray of shape (classes,), bool, optional
        Which classes the labels speak of: all others have their group's temperature, but no say in it. By default all.

    Returns
    -------
    Temperature
        1 for a group without a positive.
    """
    names, numbers = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    temperatures = np.ones(len(names))
    logits = logit(np.clip(probabilities, _LEAST, 1 - _LEAST))
    for number in range(len(names)):
        own = numbers == number if labelled_classes is None else (numbers == number) & labelled_classes
        if present[:, own].any():
            temperatures[number] = _find_best(logits[:, own], present[:, own])
    return Temperature(tuple(names.tolist()), temperatures, numbers.astype(np.int64))


def _find_best(logits: NDArray[np.float64], present: NDArray[np.bool_]) -> float:
    def log_loss(log_temperature: float) -> float:
        cooled = logits / math.exp(log_temperature)
        return float((np.logaddexp(0, cooled) - cooled * present).mean())

    low, high = (math.log(limit) for limit in _LEARNT)
    return math.exp(float(minimize_scalar(log_loss, bounds=(low, high), method="bounded").x))
