"""The stages of a run, and how long each has taken."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stages"]


class Stages:
    """Clocks for the stages of a run. One that begins inside another stops that one's clock meanwhile.

    Attributes
    ----------
    seconds : dict of str to float
        By stage, in the order in which they first began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = time.monotonic()

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count the time of a ``with`` block towards a stage."""
        self._count()
        self._running.append(stage)
        self.seconds.setdefault(stage, 0.0)
        try:
            yield
        finally:
            self._count()
            self._running.pop()

    def _count(self) -> None:
        now = time.monotonic()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
