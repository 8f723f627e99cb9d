"""Windows: the stretches of a recording that get one embedding each.

A window is known everywhere by its recording, its start and its end in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.audio import Decoder
from birdemb.errors import InputError

__all__ = ["WindowGrid", "place_frames", "stream_windows"]


@dataclass(frozen=True)
class WindowGrid:
    """Where windows lie in a recording: the first at its start, then one every `hop` seconds.

    The last window covers the recording's end and is padded with zeros; there is none after it.

    Parameters
    ----------
    window, hop : float
        Length and distance of the windows in seconds, 5 and 5 as in the BirdCLEF competitions.

    Raises
    ------
    InputError
        If the hop leaves gaps between windows, is below 0.01 s, or the window is above an hour.

    Examples
    --------
    >>> WindowGrid().count(samples=352_000, sample_rate=32_000)   # 11 s
    3
    >>> WindowGrid(hop=2.5).count(samples=320_000, sample_rate=32_000)   # 0, 2.5 and 5 s
    3
    """

    window: float = 5.0
    hop: float = 5.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.hop <= self.window <= 3600:
            raise InputError(
                f"Windows of {self.window} s every {self.hop} s: "
                "expected a hop of 0.01 s to the window's length, and a window of an hour at the most."
            )

    def count(self, samples: int, sample_rate: int) -> int:
        """Count the windows of a recording: as few as cover all of it, and at least one.

        Parameters
        ----------
        samples : int
            Of one channel.
        sample_rate : int
            In Hz, of these samples.
        """
        # In samples, as seconds would round 60 s to a hair more and invent a window.
        window, hop = round(self.window * sample_rate), round(self.hop * sample_rate)
        return 1 + max(0, math.ceil((samples - window) / hop))


def place_frames(window: float, frame: float) -> tuple[float, ...]:
    """Place the frames of a network that hears less than a window: evenly, the first at its start, the last at its end.

    As few as leave nothing of the window unheard.

    Parameters
    ----------
    window, frame : float
        Lengths in seconds.

    Returns
    -------
    tuple of float
        The frames' starts in seconds from the window's start. A frame that is longer than the window, or of 0 s
        (the window whole), starts at 0.

    Examples
    --------
    >>> place_frames(5, 3)
    (0.0, 2.0)
    >>> place_frames(5, 5)
    (0.0,)
    """
    frames = max(1, math.ceil(window / frame)) if frame else 1
    last = max(0.0, window - frame)
    return tuple(last * index / (frames - 1) for index in range(frames)) if frames > 1 else (0.0,)


def stream_windows(
    path: Path, sample_rate: int, grid: WindowGrid, batch: int = 16
) -> Iterator[tuple[NDArray[np.float32], Decoder]]:
    """Decode a recording and cut it into windows, a few at a time.

    Parameters
    ----------
    path : Path
        The recording.
    sample_rate : int
        Rate in Hz at which the windows are wanted.
    grid : WindowGrid
        Where the windows lie.
    batch : int
        The most windows to give at a time.

    Yields
    ------
    windows : ndarray of shape (n, round(window * sample_rate)), float32
        Consecutive windows, n at most `batch`.
    decoder : Decoder
        Knows how much has been decoded so far.

    Raises
    ------
    RecordingError
        If the recording cannot be decoded to its end.
    """
    decoder = Decoder(path, sample_rate)
    size, hop = round(grid.window * sample_rate), round(grid.hop * sample_rate)
    wanted = size + (batch - 1) * hop
    pending: list[NDArray[np.float32]] = []
    available = cut = 0
    for block in decoder.blocks():
        pending.append(block)
        available += len(block)
        while available > wanted:
            buffer = np.concatenate(pending)
            yield _cut(buffer, batch, size, hop), decoder
            cut += batch
            pending = [buffer[batch * hop :]]
            available = len(pending[0])
    # The decoded length decides, not the resampled one: a resampler may give a sample more or less.
    left = grid.count(decoder.samples, decoder.native_rate) - cut
    buffer = np.concatenate(pending) if pending else np.zeros(0, np.float32)
    while left > 0:
        count = min(left, batch)
        length = size + (count - 1) * hop
        yield _cut(np.pad(buffer[:length], (0, max(0, length - len(buffer)))), count, size, hop), decoder
        buffer, left = buffer[count * hop :], left - count


def _cut(buffer: NDArray[np.float32], count: int, size: int, hop: int) -> NDArray[np.float32]:
    views = np.lib.stride_tricks.sliding_window_view(buffer, size)[: count * hop : hop]
    return np.ascontiguousarray(views[:count])
