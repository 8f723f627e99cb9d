"""The range filter as a step: what is not to be expected at a recording's place in its week loses probability."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from birdemb.classify.postprocessing.context import Context, Windows
from birdemb.classify.postprocessing.step import Step
from birdemb.classify.range_filter import RangeFilter, filter_by_range

__all__ = ["Range"]


@dataclass(frozen=True)
class Range(Step):
    """Filter by occurrence: see `birdemb.classify.range_filter`, which has the formulas and their sources.

    It takes the occurrences of the context; without them it changes nothing.

    Parameters
    ----------
    strength, mode, threshold, floor
        As of `birdemb.classify.range_filter.RangeFilter`.

    Raises
    ------
    InputError
        If one of them is out of range.
    """

    name: ClassVar[str] = "range"
    main: ClassVar[str] = "strength"
    asks: ClassVar[frozenset[str]] = frozenset({"occurrence"})

    strength: float = 1.0
    mode: str = "soft"
    threshold: float = 0.03
    floor: float = 1e-4

    def __post_init__(self) -> None:
        RangeFilter(**asdict(self))

    def explain_unused(self, context: Context) -> str:
        """Say that no place is known, or none of the classes."""
        if context.occurrence is not None and not np.isnan(context.occurrence).all():
            return ""
        if np.isnan(context.latitude).all():
            return "range changes nothing, as no recording tells its place: use --latitude and --longitude."
        return "range changes nothing, as the range model knows none of the classes."

    def change(self, probabilities: NDArray[np.float64], windows: Windows) -> NDArray[np.float64]:
        """Filter."""
        occurrence = windows.context.occurrence
        if occurrence is None:
            return probabilities
        settings = RangeFilter(**asdict(self))
        filtered: NDArray[np.float64] = filter_by_range(
            probabilities, occurrence, windows.recording_numbers, settings
        ).probabilities
        return filtered
