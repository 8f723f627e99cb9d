"""Steps that look at a class's surest windows in the whole recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.checks import check_number, check_whole_number
from birdemb.classify.postprocessing.context import Windows
from birdemb.classify.postprocessing.step import Step

__all__ = ["CLIP_BAND", "Raise", "Scale"]

CLIP_BAND = 1e-6
"""What would pass 1 is pressed into this much below it, in its order."""


@dataclass(frozen=True)
class Raise(Step):
    """Raise a class in a recording where any window is very sure of it.

    Probabilities are multiplied by `factor` and clipped at 1. Plain clipping would make ties of all that passes 1 and
    so lose the order of just the surest windows. Therefore the last millionth below 1 is shared among them in their
    order: nothing differs from plain clipping by more than that, 1 stays 1, and tables, which hold all digits, keep the
    order of what differs by more than a billionth.

    Source: usual in BirdCLEF, with 1.5 and 0.96.

    Parameters
    ----------
    factor : float
        1 to 1000.
    threshold : float
        The probability that a window has to reach, above 0 and at most 1.

    Raises
    ------
    InputError
        If one of these is something else.
    """

    name: ClassVar[str] = "raise"
    main: ClassVar[str] = "factor"

    factor: float = 1.5
    threshold: float = 0.96

    def __post_init__(self) -> None:
        check_number("factor of raise", self.factor, at_least=1, at_most=1000)
        check_number("threshold of raise", self.threshold, above=0, at_most=1)

    def change(self, probabilities: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
        """Raise."""
        result = probabilities.copy()
        if self.factor == 1:
            return result
        for rows in windows.blocks():
            block = probabilities[rows]
            sure = block.max(axis=1, keepdims=True) >= self.threshold
            result[rows] = np.where(sure, _multiply(block, self.factor), block)
        return result


def _multiply(probabilities: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Multiply by a factor above 1, and press what would be nearer to 1 than the band into it."""
    edge = (1 - CLIP_BAND) / factor
    pressed = 1 - CLIP_BAND * (1 - probabilities) / (1 - edge)
    return np.where(probabilities > edge, pressed, probabilities * factor)


@dataclass(frozen=True)
class Scale(Step):
    """Multiply a class in a recording by a power of the mean of its surest windows there.

    p becomes p mean(top)^power: what is never sure in the whole recording is lowered, what is sure somewhere stays
    nearly as it is. With ``top=1``, the maximum, this is called rank-aware scaling. The order of a class's windows
    inside a recording stays.

    Source: both forms, with a power of 0.4, in the second place of BirdCLEF 2026.

    Parameters
    ----------
    power : float
        0 to 10; 0 changes nothing.
    top : int
        How many windows; all, where a recording has fewer.

    Raises
    ------
    InputError
        If one of these is something else.
    """

    name: ClassVar[str] = "scale"
    main: ClassVar[str] = "power"

    power: float = 0.4
    top: int = 1

    def __post_init__(self) -> None:
        check_number("power of scale", self.power, at_least=0, at_most=10)
        check_whole_number("top of scale", self.top, at_least=1)

    def change(self, probabilities: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
        """Scale."""
        result = np.empty(probabilities.shape)
        for rows in windows.blocks():
            block = probabilities[rows]
            top = min(self.top, block.shape[1])
            best = np.partition(block, -top, axis=1)[:, -top:].mean(axis=1, keepdims=True)
            result[rows] = block * best**self.power
        return result
