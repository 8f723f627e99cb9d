"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

__all__ = ["Progress"]

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows how far a run over recordings is, on standard error.

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
        self._done = 0
        self._seconds = 0.0
        self._started = self._last_line = time.monotonic()
        self._lines = shown and not self._stream.isatty()
        self._bar = tqdm(
            total=total,
            desc=title,
            unit=" recordings",
            file=self._stream,
            disable=not shown or self._lines,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} recordings{postfix}, {remaining} left",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, seconds: float = 0.0) -> None:
        """Count one more recording, of so many seconds of sound."""
        self._done += 1
        self._seconds += seconds
        now = time.monotonic()
        speed = self._seconds / max(now - self._started, 1e-9)
        sound = f"{self._seconds / 3600:.2f} h, {speed:.0f} x real time"
        self._bar.set_postfix_str(sound, refresh=False)
        self._bar.update()
        if self._lines and now - self._last_line >= _SECONDS_BETWEEN_LINES and self._done < self._total:
            self._last_line = now
            left = (now - self._started) / self._done * (self._total - self._done)
            print(
                f"{self._title}: {self._done}/{self._total} recordings, {sound}, {left:.0f} s left",
                file=self._stream,
                flush=True,
            )
