"""Normalisation of each recording, so that a loud or a poor recorder counts no more and no less than another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from birdemb.classify.checks import check_number
from birdemb.classify.postprocessing.context import Windows
from birdemb.classify.postprocessing.step import Step
from birdemb.classify.state import StateReader
from birdemb.errors import InputError

__all__ = ["Normalise", "learn_quantiles"]

_QUANTILES = 101


@dataclass(frozen=True, eq=False)
class Normalise(Step):
    """Draw the probabilities of each recording towards what probabilities are like everywhere.

    All of a recording's probabilities, those of all classes in all its windows, are replaced by their ranks among
    themselves (shared where they tie), from 0 to 1, and, where quantiles were learnt, by the quantiles of these ranks.
    Inside a recording the order of everything stays; between recordings, one in which all is high loses what it has
    above the others.

    Parameters
    ----------
    strength : float
        How far the probabilities move there, 0 (not at all) to 1.
    quantiles : ndarray of shape (101,), float64
        Of the probabilities of many recordings, ascending, in 101 even steps from that of 0 to that of 1. By default
        ranks stay as they are.

    Raises
    ------
    InputError
        If one of these is something else.
    """

    name: ClassVar[str] = "normalise"
    main: ClassVar[str] = "strength"

    strength: float = 0.5
    quantiles: NDArray[np.float64] = field(default_factory=lambda: np.linspace(0, 1, _QUANTILES))

    def __post_init__(self) -> None:
        check_number("strength of normalise", self.strength, at_least=0, at_most=1)
        quantiles = self.quantiles
        if (
            quantiles.shape != (_QUANTILES,)
            or not (np.diff(quantiles) >= 0).all()
            or not 0 <= quantiles[0] <= quantiles[-1] <= 1
        ):
            raise InputError(f"The quantiles of normalise are not {_QUANTILES} numbers in 0 to 1 that ascend.")

    def change(self, probabilities: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
        """Normalise."""
        result = np.empty(probabilities.shape)
        places = np.linspace(0, 1, _QUANTILES)
        for rows in windows.blocks():
            block = probabilities[rows]
            flat = block.reshape(len(block), -1)
            ranks = (rankdata(flat, axis=1) - 0.5) / flat.shape[1]
            usual = np.interp(ranks, places, self.quantiles).reshape(block.shape)
            result[rows] = block + self.strength * (usual - block)
        return result

    @classmethod
    def read_arrays(cls, params: Mapping[str, Any], reader: StateReader, classes: int) -> dict[str, NDArray[Any]]:
        """Read the quantiles."""
        del params, classes
        return {"quantiles": reader.array("post_normalise_quantiles", (_QUANTILES,)).astype(np.float64)}


def learn_quantiles(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the quantiles of probabilities, for `Normalise`."""
    quantiles: NDArray[np.float64] = np.quantile(probabilities, np.linspace(0, 1, _QUANTILES))
    return quantiles
