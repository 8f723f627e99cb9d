"""What tables are written from: a prediction, a part of it at a time, as windows or as detections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from birdemb.detections import list_detections, merge_detections
from birdemb.listing import EmbeddedRecording
from birdemb.origin import Origin
from birdemb.prediction import Prediction
from birdemb.tables.clock import tell_times

__all__ = ["TableSource", "WindowPart", "clip_ends"]

_VALUES_AT_ONCE = 1 << 20  # 8 MB of probabilities, and some ten times as much as text


@dataclass(frozen=True, eq=False)
class WindowPart:
    """Consecutive windows of a prediction.

    Parameters
    ----------
    recordings : list of str
        Of each window, as are all the others.
    start, end : ndarray of shape (windows,)
        Seconds from the recording's start.
    start_time, end_time : list of str or None
        The same as times of day, as `tell_times` gives them.
    probabilities : ndarray of shape (windows, classes)
    """

    recordings: list[str]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    start_time: list[str | None]
    end_time: list[str | None]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TableSource:
    """What tables are written from.

    Parameters
    ----------
    prediction : Prediction
    folder : str
        Absolute path or URL of the folder that the names of the recordings are below.
    thresholds : ndarray of shape (classes,), optional
        Probability from which on each class is detected; NaN for one that never is.
    gap : float, optional
        Join detections of a class that are at most so many seconds apart; see `merge_detections`.
    origins : mapping of str to Origin
        When each recording was made, where that is known.
    top_frequency : callable
        Gives the highest frequency in Hz that can be heard in a recording.
    """

    prediction: Prediction
    folder: str
    thresholds: NDArray[np.float64] | None = None
    gap: float | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    top_frequency: Callable[[str], float] = lambda _: 24_000.0

    def locate(self, recording: str) -> str:
        """Give the absolute path or URL of a recording."""
        return f"{self.folder.rstrip('/')}/{recording}"

    def windows(self) -> Iterator[WindowPart]:
        """Give the windows, in parts that are small beside the whole."""
        prediction = self.prediction
        names, numbers, starts = (
            [entry.recording for entry in prediction.recordings],
            prediction.recording_numbers,
            prediction.starts,
        )
        step = max(1, _VALUES_AT_ONCE // max(1, len(prediction.classes)))
        for first in range(0, len(starts), step):
            rows = slice(first, first + step)
            recordings = [names[number] for number in numbers[rows].tolist()]
            start = starts[rows]
            end = start + prediction.window
            yield WindowPart(
                recordings,
                start,
                end,
                tell_times(self.origins, recordings, start.tolist()),
                tell_times(self.origins, recordings, end.tolist()),
                prediction.probabilities[rows],
            )

    def detections(self) -> Iterator[tuple[Sequence[EmbeddedRecording], pd.DataFrame]]:
        """Give recordings and what is detected in them, some recordings at a time.

        Yields
        ------
        recordings : sequence of EmbeddedRecording
        table : pandas.DataFrame
            As `list_detections` or `merge_detections` gives it, with the columns start_time and end_time, as
            `tell_times` gives them.
        """
        prediction, thresholds = self.prediction, self.thresholds
        if thresholds is None:
            raise ValueError("detections need thresholds")
        row = 0
        for recordings in self._some_recordings():
            windows = sum(entry.windows for entry in recordings)
            table = list_detections(
                recordings,
                prediction.probabilities[row : row + windows],
                thresholds,
                prediction.classes,
                window=prediction.window,
                hop=prediction.hop,
            )
            row += windows
            if self.gap is not None:
                table = merge_detections(table, self.gap)
            for column in ("start", "end"):
                told = tell_times(self.origins, table["recording"].tolist(), table[column].tolist())
                table[f"{column}_time"] = pd.Series(told, dtype=object)
            yield recordings, table

    def _some_recordings(self) -> Iterator[Sequence[EmbeddedRecording]]:
        most = max(1, _VALUES_AT_ONCE // max(1, len(self.prediction.classes)))
        recordings = self.prediction.recordings
        first, windows = 0, 0
        for number, entry in enumerate(recordings):
            if windows and windows + entry.windows > most:
                yield recordings[first:number]
                first, windows = number, 0
            windows += entry.windows
        if first < len(recordings):
            yield recordings[first:]


def clip_ends(recordings: Sequence[EmbeddedRecording], table: pd.DataFrame) -> pd.DataFrame:
    """End detections where their recording does: its last window may be longer than what is left of it.

    Programs that show a recording refuse or misplace what lies beyond its end.
    """
    seconds = {entry.recording: entry.seconds for entry in recordings}
    lasts = np.array([seconds[name] for name in table["recording"]], dtype=np.float64)
    return table.assign(end=np.minimum(table["end"].to_numpy(), lasts))
