"""A time budget: how long a run may take, and how much of that is left."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from birdemb.durations import parse_duration
from birdemb.errors import InputError

__all__ = ["TimeBudget"]

_MARGIN_SHARE = 0.02
_SHORTEST_MARGIN, _LONGEST_MARGIN = 2.0, 60.0  # in seconds


@dataclass(frozen=True)
class TimeBudget:
    """How long a run may take.

    Parameters
    ----------
    seconds : float
        Above 0.
    started : float
        When it began, by `time.monotonic`; now by default.

    Raises
    ------
    InputError
        If the seconds are no number above 0.

    Examples
    --------
    >>> TimeBudget(5400.0).margin, TimeBudget(60.0).margin
    (60.0, 2.0)
    """

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise InputError(f"The time budget is {self.seconds} s; expected a number of seconds above 0.")

    @classmethod
    def of(cls, budget: float | str | TimeBudget) -> TimeBudget:
        """Give what was given in any of its forms; seconds and texts begin now."""
        if isinstance(budget, TimeBudget):
            return budget
        return cls(parse_duration(budget) if isinstance(budget, str) else float(budget))

    @classmethod
    def since_process_start(cls, seconds: float) -> TimeBudget:
        """Make one that began when this process did, which had to import much before it came here."""
        import psutil  # type: ignore[import-untyped]  # seldom needed

        elapsed = max(0.0, time.time() - psutil.Process().create_time())
        return cls(seconds, time.monotonic() - elapsed)

    @property
    def margin(self) -> float:
        """Seconds that are kept free before the end: a fiftieth of the budget, at least 2 s and at most a minute."""
        return min(max(_MARGIN_SHARE * self.seconds, _SHORTEST_MARGIN), _LONGEST_MARGIN)

    @property
    def deadline(self) -> float:
        """The end, by `time.monotonic`."""
        return self.started + self.seconds

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds from now to the margin before the end; below 0 once that has begun."""
        return self.seconds - self.margin - self.elapsed
