"""A prediction: the probability of each class in each window of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdemb.listing import EmbeddedRecording
from birdemb.taxonomy import ClassName

__all__ = ["Prediction"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The probability of each class in each window of recordings.

    Parameters
    ----------
    recordings : sequence of EmbeddedRecording
    probabilities : ndarray of shape (windows, classes), float64
        A row for each window of each recording, in the order of these.
    classes : sequence of ClassName
        The columns.
    window, hop : float
        Length and distance of the windows in seconds.
    """

    recordings: Sequence[EmbeddedRecording]
    probabilities: NDArray[np.float64]
    classes: Sequence[ClassName]
    window: float = 5.0
    hop: float = 5.0

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes as the table of labels names them."""
        return tuple(name.label for name in self.classes)

    @property
    def recording_numbers(self) -> NDArray[np.int64]:
        """Give the index of each window's recording; of shape (windows,)."""
        return np.repeat(np.arange(len(self.recordings)), [entry.windows for entry in self.recordings])

    @property
    def starts(self) -> NDArray[np.float64]:
        """Give the seconds from its recording's start at which each window begins; of shape (windows,)."""
        counts = [entry.windows for entry in self.recordings]
        numbers = np.concatenate([np.arange(count, dtype=np.float64) for count in counts] or [np.empty(0)])
        return numbers * self.hop
