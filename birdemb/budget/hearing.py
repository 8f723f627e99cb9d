"""Hearing: the run of an encoder over all recordings, with a look now and then at what came out of it so far."""

from __future__ import annotations

import time
from collections.abc import Callable

from birdemb.budget.pace import Pace
from birdemb.embed.following import Standing

__all__ = ["Hearing"]

_WINDOWS_A_LOOK = 4096  # that have come since the last one, so that scoring them takes no long time


class Hearing:
    """Follows a run.

    Parameters
    ----------
    pace : Pace
        Of the encoder; kept up to date.
    stop_at : callable
        Gives when to stop, by `time.monotonic`, where so many windows are still to be scored.
    due : callable
        Tells whether it is time to look.
    look : callable
        Does so.

    Attributes
    ----------
    windows : int
        How many were embedded.
    standing : Standing or None
        Of the run, once something was embedded.
    """

    def __init__(
        self,
        pace: Pace,
        stop_at: Callable[[int], float],
        due: Callable[[], bool],
        look: Callable[[Standing], None],
    ) -> None:
        self._pace = pace
        self._stop_at = stop_at
        self._due = due
        self._look = look
        self._unseen = 0
        self.windows = 0
        self.standing: Standing | None = None

    def stop_at(self) -> float:
        """As of every `birdemb.embed.following.Follower`."""
        return self._stop_at(self._unseen)

    def follow(self, standing: Standing, windows: int) -> None:
        """As of every `birdemb.embed.following.Follower`."""
        self.standing = standing
        self._pace.note(windows)
        self.windows += windows
        self._unseen += windows
        if self._unseen >= _WINDOWS_A_LOOK or self._due():
            began = time.monotonic()
            self._look(standing)
            self._unseen = 0
            self._pace.pause(time.monotonic() - began)
