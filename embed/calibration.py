"""The windows that a network is quantized with, those that it is measured on, and those that heads are judged on.

All are chosen from all recordings of a folder. What is measured on is never calibrated with: every fifth recording is
held out, or every fifth window where there are fewer than five recordings. Heads need every recording of a class, so
that they are judged on all recordings with a label, in windows that were not calibrated with: every third window is
kept for that, and what was not chosen is added.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.recordings import Recording, find_recordings
from birdemb.embed.remote import hide_secrets
from birdemb.embed.windows import Part, WindowGrid, plan_parts, stream_windows
from birdemb.errors import InputError, RecordingError
from birdemb.listing import SkippedRecording
from birdemb.storage import hash_json

__all__ = ["Calibration", "choose_diverse", "choose_windows"]

_CANDIDATES_A_WINDOW = 4  # more embed longer, and are hardly more different from each other
_HELD_OUT_EVERY = 5
_HELD_OUT_SHARE = 4  # one window to measure on for so many to calibrate with, but not fewer than ...
_FEWEST_HELD_OUT = 16
_JUDGED_EVERY = 3
_MOST_JUDGED = 400  # of BirdNET's spectrograms 260 MB

_Item = TypeVar("_Item")
Look = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Calibration:
    """What was chosen.

    Parameters
    ----------
    inputs : ndarray of shape (n, ...), float32
        What the network is calibrated with.
    held_out : ndarray of shape (m, ...), float32
        What it is measured on.
    recordings : int
        From how many the two were chosen.
    skipped : list of SkippedRecording
        Those that could not be used.
    sha256 : str
        Of the contents of the recordings that the inputs are from, with their windows' numbers.
    judged : ndarray of shape (k, ...), float32
        What heads are judged on: none of the inputs, but some may be held out too.
    judged_recordings : list of str
        The recording that each of these is from.
    """

    inputs: NDArray[np.float32]
    held_out: NDArray[np.float32]
    recordings: int
    skipped: list[SkippedRecording]
    sha256: str
    judged: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    judged_recordings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Window:
    """A window by its place; `index` counts from the start of the part."""

    recording: Recording
    part: Part
    index: int


def choose_windows(
    folder: str | Path,
    *,
    windows: int,
    sample_rate: int,
    grid: WindowGrid,
    look: Look,
    embed: Look,
    labelled: Set[str] = frozenset(),
) -> Calibration:
    """Choose windows that differ from each other as much as possible, from all recordings of a folder.

    The same folder always gives the same windows.

    Parameters
    ----------
    folder : str or Path
        As `find_recordings` takes it.
    windows : int
        How many to calibrate with; fewer are chosen where there are fewer.
    sample_rate : int
        In Hz.
    grid : WindowGrid
    look : callable
        Turns windows of shape (n, samples) into what the network is given, shape (n, ...).
    embed : callable
        Turns that into embeddings, shape (n, dim).
    labelled : set of str
        Names of recordings that heads can be judged on; none by default.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If there are no recordings, none of them can be used, or all of them have a single window.
    """
    found = _spread(find_recordings(folder).recordings, windows * _CANDIDATES_A_WINDOW)
    quota = math.ceil(windows * _CANDIDATES_A_WINDOW / len(found))
    candidates: list[list[tuple[_Window, NDArray[np.float32]]]] = []
    skipped = []
    for recording in found:
        try:
            candidates.append(list(_listen(recording, sample_rate, grid, quota, lambda rows: embed(look(rows)))))
        except RecordingError as error:
            skipped.append(SkippedRecording(recording.name, error.stage, error.reason))
    if len(candidates) < _HELD_OUT_EVERY:
        candidates = [[candidate] for recording in candidates for candidate in recording]
    of_labelled = [window for group in candidates for window, _ in group if window.recording.name in labelled]
    kept = set(of_labelled[1::_JUDGED_EVERY])
    held_out = [each for group in candidates[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY] for each in group]
    rest = [each for number, group in enumerate(candidates, 1) if number % _HELD_OUT_EVERY for each in group]
    rest = [each for each in rest if each[0] not in kept]
    if not held_out:
        reasons = "".join(f" {entry.recording}: {entry.reason}." for entry in skipped[:1])
        raise InputError(
            f"{hide_secrets(str(folder))} has {len(rest)} windows of {grid.window:g} s that can be used, expected "
            f"{_HELD_OUT_EVERY} or more, to calibrate with and to measure on.{reasons} Choose a folder with more."
        )
    rows = choose_diverse(np.stack([embedding for _, embedding in rest]), windows)
    chosen = [rest[row][0] for row in rows]
    measured = _spread([window for window, _ in held_out], max(_FEWEST_HELD_OUT, windows // _HELD_OUT_SHARE))
    calibrated = set(chosen)
    judged = _spread([window for window in of_labelled if window not in calibrated], _MOST_JUDGED)
    return Calibration(
        inputs=_look_again(chosen, sample_rate, grid, look),
        held_out=_look_again(measured, sample_rate, grid, look),
        recordings=len(found) - len(skipped),
        skipped=skipped,
        sha256=_hash_contents(chosen),
        judged=_look_again(judged, sample_rate, grid, look) if judged else np.empty((0, 0), np.float32),
        judged_recordings=[window.recording.name for window in judged],
    )


def choose_diverse(embeddings: NDArray[np.float32], count: int) -> list[int]:
    """Choose rows so that each is as far as possible, by its angle, from all that were chosen before it.

    Parameters
    ----------
    embeddings : ndarray of shape (n, dim), float32
    count : int
        How many to choose.

    Returns
    -------
    list of int
        Row numbers, all different, at most `count`. The first is the most typical row: the one nearest to the mean.

    Examples
    --------
    >>> choose_diverse(np.array([[1, 0], [1, 0.1], [1, 0], [0, 1]], np.float32), 2)
    [1, 3]
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.maximum(lengths, np.finfo(np.float32).tiny)
    row = int(np.argmax(unit @ unit.mean(axis=0)))
    nearest = np.full(len(unit), -np.inf, np.float32)
    chosen: list[int] = []
    while len(chosen) < min(count, len(unit)):
        chosen.append(row)
        nearest = np.maximum(nearest, unit @ unit[row])
        nearest[row] = np.inf  # a window that is there twice may be chosen twice, a row may not
        row = int(np.argmin(nearest))
    return chosen


def _spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """Take at most so many, evenly over all of them."""
    if len(items) <= count:
        return list(items)
    return [items[index * len(items) // count] for index in range(count)]


def _listen(
    recording: Recording, sample_rate: int, grid: WindowGrid, quota: int, embed: Look
) -> Iterator[tuple[_Window, NDArray[np.float32]]]:
    """Give windows from all over a recording, about as many as the quota, with their embeddings."""
    parts = _spread(plan_parts(recording, sample_rate, grid), quota)
    most = math.ceil(quota / len(parts))
    for part in parts:
        kept: dict[int, NDArray[np.float32]] = {}
        # How many windows there are is known at the end: whenever there are too many, every second one is given up.
        step = 1
        first = 0
        for windows, _ in stream_windows(recording, sample_rate, grid, part):
            wanted = [index for index in range(first, first + len(windows)) if index % step == 0]
            if wanted:
                rows = embed(windows[[index - first for index in wanted]])
                kept |= dict(zip(wanted, rows, strict=True))
            first += len(windows)
            while len(kept) > 2 * most:
                step *= 2
                kept = {index: row for index, row in kept.items() if index % step == 0}
        for index in _spread(list(kept), most):
            yield _Window(recording, part, index), kept[index]


def _look_again(chosen: Sequence[_Window], sample_rate: int, grid: WindowGrid, look: Look) -> NDArray[np.float32]:
    """Decode the chosen windows once more, as keeping what the network is given of all candidates takes much memory."""
    places: dict[tuple[Recording, Part], dict[int, int]] = defaultdict(dict)
    for row, window in enumerate(chosen):
        places[window.recording, window.part][window.index] = row
    found: dict[int, NDArray[np.float32]] = {}
    for (recording, part), rows in places.items():
        try:
            for index, samples in enumerate(_one_by_one(recording, sample_rate, grid, part)):
                if index in rows:
                    found[rows[index]] = look(samples[None])[0]
                if index >= max(rows):
                    break
        except RecordingError as error:
            raise InputError(
                f"{recording.name} can no longer be used: {error.reason}. Run the command again."
            ) from error
    return np.stack([found[row] for row in range(len(chosen))])


def _one_by_one(recording: Recording, sample_rate: int, grid: WindowGrid, part: Part) -> Iterator[NDArray[np.float32]]:
    for windows, _ in stream_windows(recording, sample_rate, grid, part):
        yield from windows


def _hash_contents(chosen: Sequence[_Window]) -> str:
    contents = {recording: recording.hash() for recording in {window.recording for window in chosen}}
    return hash_json(sorted([contents[window.recording], window.part.first_window + window.index] for window in chosen))
