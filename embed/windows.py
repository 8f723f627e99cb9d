"""Windows: the stretches of a recording that get one embedding each, and the parts in which they are worked on.

A window is known everywhere by its recording, its start and its end in seconds. A part is a run of consecutive
windows of one recording that are embedded as one piece of work. Which parts a recording has depends on its content
alone, so that its embeddings are the same whoever embeds which part, and when.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.audio import HIGHEST_SAMPLE_RATE, Decoder, open_sound
from birdemb.embed.containers import can_be_split
from birdemb.embed.recordings import Recording
from birdemb.errors import InputError, RecordingError

__all__ = ["PART_SECONDS", "Part", "WindowGrid", "place_frames", "plan_parts", "stream_windows", "windows_at_once"]

PART_SECONDS = 120.0
"""How far apart the parts of a long recording begin, at the most. What a recording's embeddings are depends on it,
by less than a rounding error."""

_WINDOWS_AT_ONCE = 16
_SECONDS_AT_ONCE = 80.0
_SMALLEST_SPLIT_BYTES = 1 << 20  # Opening what is surely short would only cost time.
_LOWEST_SPLIT_RATE = 1000  # in Hz; below it a header is more likely damaged than true
_MOST_PARTS = 10_000  # of two minutes: two weeks; a header that says more is more likely damaged than true
_LOWEST_SPLIT_MP3_RATE = 32_000  # libmpg123 prints warnings after each seek in those of a lower rate
_MOST_MP3_PARTS = 8  # To go to a place in an MP3, all before it has to be read through.


@dataclass(frozen=True)
class WindowGrid:
    """Where windows lie in a recording: the first at its start, then one every `hop` seconds.

    The last window covers the recording's end and is padded with zeros; there is none after it.

    Parameters
    ----------
    window, hop : float
        Length and distance of the windows in seconds, 5 and 5 as in the BirdCLEF competitions.
    offset : float
        Seconds by which every window begins later. There is then one between each two of those without offset, and
        none behind the last of these: a recording may have none at all.

    Raises
    ------
    InputError
        If the hop leaves gaps between windows, is below 0.01 s, the window is above an hour, or the offset is not below
        the hop.

    Examples
    --------
    >>> WindowGrid().count(samples=352_000, sample_rate=32_000)   # 11 s
    3
    >>> WindowGrid(hop=2.5).count(samples=320_000, sample_rate=32_000)   # 0, 2.5 and 5 s
    3
    >>> WindowGrid(offset=2.5).count(samples=352_000, sample_rate=32_000)   # 2.5 and 7.5 s
    2
    """

    window: float = 5.0
    hop: float = 5.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.hop <= self.window <= 3600:
            raise InputError(
                f"Windows of {self.window} s every {self.hop} s: "
                "expected a hop of 0.01 s to the window's length, and a window of an hour at the most."
            )
        if not 0 <= self.offset < self.hop:
            raise InputError(f"Windows that begin {self.offset} s later; expected 0 s to less than {self.hop} s.")

    def count(self, samples: int, sample_rate: int) -> int:
        """Count the windows of a recording: as few as cover all of it, and at least one; with an offset, one less.

        Parameters
        ----------
        samples : int
            Of one channel.
        sample_rate : int
            In Hz, of these samples.
        """
        # Exact, as rounded seconds would make a hair more of 60 s and invent a window, and a rounded hop would in 24 h.
        window, hop = Fraction(str(self.window)) * sample_rate, Fraction(str(self.hop)) * sample_rate
        later = max(0, math.ceil((samples - window) / hop))
        return later if self.offset else 1 + later


def windows_at_once(grid: WindowGrid) -> int:
    """Give how many windows are decoded and encoded together: 16, and fewer where they are longer than 5 s.

    Memory then depends little on the length of a window.

    Examples
    --------
    >>> windows_at_once(WindowGrid()), windows_at_once(WindowGrid(60.0, 60.0))
    (16, 1)
    """
    return max(1, min(_WINDOWS_AT_ONCE, int(_SECONDS_AT_ONCE / grid.window)))


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


@dataclass(frozen=True)
class Part:
    """Consecutive windows of one recording that are embedded as one piece of work.

    Parameters
    ----------
    first_window : int
        Counted from the recording's start.
    windows : int or None
        How many; None for all to the recording's end.
    """

    first_window: int = 0
    windows: int | None = None

    @property
    def last(self) -> bool:
        """Whether it reaches to the recording's end."""
        return self.windows is None


_WHOLE = Part()


def plan_parts(
    recording: Recording,
    sample_rate: int,
    grid: WindowGrid,
    *,
    part_seconds: float = PART_SECONDS,
    smallest_bytes: int = _SMALLEST_SPLIT_BYTES,
) -> list[Part]:
    """Split a recording into parts, by its header alone.

    Each part has as many windows as begin within `part_seconds`, the last one has the rest: between one and two
    times as many. A recording is one part if it is short, its length cannot be trusted before it is decoded,
    or its decoder cannot begin anywhere.

    Parameters
    ----------
    recording : Recording
    sample_rate : int
        Rate in Hz at which the windows are wanted.
    grid : WindowGrid
        Where the windows lie.
    part_seconds : float
        How far apart parts begin, at the most.
    smallest_bytes : int
        Recordings of less are one part.

    Returns
    -------
    list of Part
        In order; at least one.

    Raises
    ------
    RecordingError
        If the recording cannot be opened, or is no audio.
    """
    if recording.stamp().size < smallest_bytes:
        return [Part()]
    with open_sound(recording) as sound:
        native = sound.file.samplerate
        if not _LOWEST_SPLIT_RATE <= native <= HIGHEST_SAMPLE_RATE:
            return [Part()]
        windows = grid.count(sound.file.frames, native)
        hop, offset = round(grid.hop * sample_rate), round(grid.offset * sample_rate)
        # A part has to begin on a whole sample of the recording, too.
        if offset * native % sample_rate:
            return [Part()]
        step = sample_rate // math.gcd(hop * native, sample_rate)
        size = int(part_seconds * sample_rate / hop) // step * step
        if sound.file.format == "MP3":
            if native < _LOWEST_SPLIT_MP3_RATE:
                return [Part()]
            size = max(size, math.ceil(windows / _MOST_MP3_PARTS / step) * step)
        parts = windows // size if size else 1
        splits = sound.file.can_seek() and 1 < parts <= _MOST_PARTS
        if not splits or not can_be_split(sound.file, sound.raw, sound.size):
            return [Part()]
    return [Part(index * size, size) for index in range(parts - 1)] + [Part((parts - 1) * size)]


def stream_windows(
    recording: Recording, sample_rate: int, grid: WindowGrid, part: Part = _WHOLE, batch: int | None = None
) -> Iterator[tuple[NDArray[np.float32], Decoder]]:
    """Decode a recording, or a part of it, and cut it into windows, a few at a time.

    Parameters
    ----------
    recording : Recording
    sample_rate : int
        Rate in Hz at which the windows are wanted.
    grid : WindowGrid
        Where the windows lie.
    part : Part
        Which windows are wanted: one of what `plan_parts` gives, all by default.
    batch : int, optional
        The most windows to give at a time; `windows_at_once` where it is not given.

    Yields
    ------
    windows : ndarray of shape (n, round(window * sample_rate)), float32
        Consecutive windows, n at most `batch`; 0, once, for a recording that has none.
    decoder : Decoder
        Knows how far decoding has come; with the last windows of the last part, how long the recording is.

    Raises
    ------
    RecordingError
        If the recording cannot be decoded to its end, or to the end of the part.
    """
    decoder = Decoder(recording, sample_rate)
    size, hop, offset = (round(seconds * sample_rate) for seconds in (grid.window, grid.hop, grid.offset))
    start = part.first_window * hop + offset
    stop = None if part.windows is None else start + (part.windows - 1) * hop + size
    # Decoded from the beginning where a recording may be a single part: not every decoder can begin later.
    unheard = 0 if part.first_window else offset
    batch = batch or windows_at_once(grid)
    wanted = size + (batch - 1) * hop
    pending: list[NDArray[np.float32]] = []
    available = cut = 0
    for decoded in decoder.blocks(start - unheard, stop):
        block = decoded[unheard:]
        unheard -= len(decoded) - len(block)
        pending.append(block)
        available += len(block)
        while available > wanted:
            buffer = np.concatenate(pending)
            yield _cut(buffer, batch, size, hop), decoder
            cut += batch
            pending = [buffer[batch * hop :]]
            available = len(pending[0])
    # The decoded length decides, not the resampled one: a resampler may give a sample more or less.
    windows = part.windows
    if windows is None:
        windows = grid.count(decoder.samples, decoder.native_rate) - part.first_window
        if windows < (part.first_window > 0 or not grid.offset):
            raise RecordingError("decode", f"cut short: it ends after {decoder.seconds:.1f} s, before its last part")
    left = windows - cut
    buffer = np.concatenate(pending) if pending else np.zeros(0, np.float32)
    if not windows:
        yield np.empty((0, size), np.float32), decoder
    while left > 0:
        count = min(left, batch)
        length = size + (count - 1) * hop
        yield _cut(np.pad(buffer[:length], (0, max(0, length - len(buffer)))), count, size, hop), decoder
        buffer, left = buffer[count * hop :], left - count


def _cut(buffer: NDArray[np.float32], count: int, size: int, hop: int) -> NDArray[np.float32]:
    views = np.lib.stride_tricks.sliding_window_view(buffer, size)[: count * hop : hop]
    return np.ascontiguousarray(views[:count])
