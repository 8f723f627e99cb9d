"""The rows that a table has to have, by the recordings' headers, and what stands in those without a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdemb.embed.recordings import Recording
from birdemb.embed.windows import WindowGrid
from birdemb.headers import measure_length
from birdemb.listing import EmbeddedRecording
from birdemb.prediction import Prediction

__all__ = ["ExpectedRecording", "expect_rows", "fill_with_priors"]

_THREADS = 4  # which wait for the disk


@dataclass(frozen=True)
class ExpectedRecording:
    """A recording and how many windows its header promises.

    Parameters
    ----------
    recording : str
    windows : int
        0 where the header cannot be read.
    """

    recording: str
    windows: int


def expect_rows(recordings: Sequence[Recording], grid: WindowGrid) -> list[ExpectedRecording]:
    """Look how many windows recordings have, by their headers alone.

    Parameters
    ----------
    recordings : sequence of Recording
    grid : WindowGrid

    Returns
    -------
    list of ExpectedRecording
        In their order.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        measured = pool.map(lambda recording: measure_length(recording, grid), recordings)
        return [
            ExpectedRecording(one.name, entry.windows if entry is not None else 0)
            for one, entry in zip(recordings, measured, strict=True)
        ]


def fill_with_priors(
    prediction: Prediction, expected: Sequence[ExpectedRecording], shares: NDArray[np.float64]
) -> tuple[Prediction, int]:
    """Give a prediction a row for every window that there has to be.

    Parameters
    ----------
    prediction : Prediction
        Of some recordings, and of these perhaps the first windows alone.
    expected : sequence of ExpectedRecording
        All of them.
    shares : ndarray of shape (classes,), float64
        The classes' priors, for windows without a prediction.

    Returns
    -------
    prediction : Prediction
        Of the recordings that were expected, in their order.
    filled : int
        How many rows hold the priors.
    """
    ends = np.cumsum([0] + [entry.windows for entry in prediction.recordings])
    place = {entry.recording: index for index, entry in enumerate(prediction.recordings)}
    recordings, parts, filled = [], [np.empty((0, len(prediction.classes)))], 0
    for one in expected:
        entry = EmbeddedRecording(one.recording, "", 0, one.windows * prediction.hop)
        if one.recording in place:
            index = place[one.recording]
            entry = prediction.recordings[index]
            parts.append(prediction.probabilities[ends[index] : ends[index + 1]])
        missing = max(0, one.windows - entry.windows)
        if missing:
            parts.append(np.broadcast_to(shares, (missing, len(shares))))
            entry = replace(entry, windows=entry.windows + missing)
            filled += missing
        recordings.append(entry)
    return replace(prediction, recordings=tuple(recordings), probabilities=np.concatenate(parts)), filled
