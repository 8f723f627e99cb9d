"""The pace of work whose speed changes: seconds for a window, as of the last while."""

from __future__ import annotations

import time
from collections import deque

__all__ = ["Pace"]

_SECONDS_LOOKED_BACK = 20.0
_FEWEST_NOTES = 8  # results come in bursts, a task's parts together
_TRUSTED_WINDOWS = 48  # that what was known before counts as


class Pace:
    """Seconds that a window takes.

    Parameters
    ----------
    before : float
        What one is taken to need until more is known.

    Examples
    --------
    >>> pace = Pace(0.5)
    >>> pace.note(0, now=10.0)
    >>> for second in range(1, 101):
    ...     pace.note(10, now=10.0 + second)
    >>> round(pace.at(110.0), 1)
    0.1
    """

    def __init__(self, before: float) -> None:
        self._before = before
        self._paused = 0.0
        self._notes: deque[tuple[float, int]] = deque()

    def note(self, windows: int, now: float | None = None) -> None:
        """Take note that so many windows were done since the last time; the first note only starts the clock."""
        moment = self._clock(now)
        self._notes.append((moment, windows if self._notes else 0))
        while len(self._notes) > _FEWEST_NOTES and self._notes[1][0] < moment - _SECONDS_LOOKED_BACK:
            # What is too old to count by itself makes up what one expects.
            begun, _ = self._notes.popleft()
            ended, count = self._notes[0]
            self._before = _combine(self._before, ended - begun, count)

    def pause(self, seconds: float) -> None:
        """Leave out seconds in which something else was done."""
        self._paused += seconds

    def at(self, now: float | None = None) -> float:
        """Give the seconds that a window takes now; a long silence counts as slowness."""
        if len(self._notes) < 2:
            return self._before
        begun, _ = self._notes[0]
        windows = sum(count for _, count in list(self._notes)[1:])
        return _combine(self._before, max(0.0, self._clock(now) - begun), windows)

    def _clock(self, now: float | None) -> float:
        return (time.monotonic() if now is None else now) - self._paused


def _combine(before: float, seconds: float, windows: int) -> float:
    """Give what a window takes, by what was expected of one and what some of them took."""
    return (before * _TRUSTED_WINDOWS + seconds) / (_TRUSTED_WINDOWS + windows)
