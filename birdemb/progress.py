"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from threading import Lock
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

__all__ = ["Progress", "tell_on_standard_error"]

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_BARS = 0.1


def tell_on_standard_error(line: str) -> None:
    """Write a line on standard error, above a bar if there is one."""
    tqdm.write(line, file=sys.stderr)


class Progress:
    """Shows how far a run over recordings is, on standard error. Several threads may tell it of progress.

    Parameters
    ----------
    title : str
        What is being done.
    total : int
        How many recordings there are.
    shown : bool
        False shows nothing.
    stream : file, optional
        Where to write.
    """

    def __init__(self, title: str, total: int, *, shown: bool = True, stream: TextIO | None = None) -> None:
        self._title = title
        self._total = total
        self._stream = stream if stream is not None else sys.stderr
        self._lock = Lock()
        self._done = 0
        self._seconds = 0.0
        self._looked_at = 0
        self._expected = self._expected_done = 0.0
        self._drawn = 0.0
        self._started = self._last_line = time.monotonic()
        self._lines = shown and not self._stream.isatty()
        self._bar = tqdm(
            total=1.0,
            desc=title,
            file=self._stream,
            disable=not shown or self._lines,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._bar.close()

    def expect(self, seconds: float, *, recordings: int = 1) -> None:
        """Count in what is to be done; without it, all recordings are taken to be of one length.

        Parameters
        ----------
        seconds : float
            About how much sound there is to work on,
        recordings : int
            in so many more recordings.
        """
        with self._lock:
            self._looked_at += recordings
            self._expected += seconds

    def advance(self, seconds: float = 0.0, *, recordings: int = 1, expected: float = 0.0) -> None:
        """Count what is done.

        Parameters
        ----------
        seconds : float
            Of sound, that were worked on.
        recordings : int
            That are finished with it; 0 for a part of one.
        expected : float
            What `expect` was told of it.
        """
        with self._lock:
            self._done += recordings
            self._seconds += seconds
            self._expected_done += expected
            self._show()

    def _fraction(self) -> float:
        """Tell how much of the work is done, 0 to 1: by the length of the sound where that is known."""
        if self._done >= self._total:
            return 1.0
        by_recordings = self._done / self._total
        if not self._expected or not self._looked_at:
            return by_recordings
        # What has not been looked at is taken to be like what has.
        by_sound = self._expected_done / self._expected * min(1.0, self._looked_at / self._total)
        return min(by_sound, 0.999)

    def _show(self) -> None:
        now = time.monotonic()
        elapsed, fraction = now - self._started, self._fraction()
        speed = self._seconds / max(elapsed, 1e-9)
        told = f"{self._done}/{self._total} recordings, {self._seconds / 3600:.2f} h, {speed:.0f} x real time"
        if fraction:
            told += f", {tqdm.format_interval(elapsed / fraction * (1 - fraction))} left"
        self._bar.set_postfix_str(told, refresh=False)
        self._bar.n = fraction
        if now - self._drawn >= _SECONDS_BETWEEN_BARS or fraction == 1:
            self._drawn = now
            self._bar.refresh()
        if self._lines and now - self._last_line >= _SECONDS_BETWEEN_LINES and self._done < self._total:
            self._last_line = now
            print(f"{self._title}: {told}", file=self._stream, flush=True)
